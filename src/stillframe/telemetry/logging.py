"""Log lines: events are fixed snake_case phrases, facts are fields; JSON unless a person is watching.

Lines of libraries that use the standard library's logging take the same way and look the same. Secrets are of
types that print as stars, so a line can not show one; what is no JSON is written as it prints.
"""

import logging
import sys
from typing import TextIO

import structlog
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import Processor

# Libraries that tell every connection and every job at INFO, and warn in their own words.
_QUIET_BELOW_WARNING = ("alembic", "asyncio", "botocore", "procrastinate", "psycopg", "uvicorn", "urllib3")


def configure_logging(level: str, *, json: bool | None = None, stream: TextIO | None = None) -> None:
    """Set up all logging of this process; called once, by its entry point.

    `level` is a name such as `info`. `json` None means JSON unless `stream` (stderr) is a terminal.
    """
    target = stream if stream is not None else sys.stderr
    as_json = not target.isatty() if json is None else json
    threshold = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*_shared(), structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    _configure_standard_library(target, threshold=threshold, renderer=_renderer(as_json=as_json))


def _shared() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]


def _renderer(*, as_json: bool) -> list[Processor]:
    # Neither form shows local variables: passwords are among them.
    if as_json:
        tracebacks = ExceptionDictTransformer(show_locals=False)
        return [
            structlog.processors.ExceptionRenderer(tracebacks),
            structlog.processors.JSONRenderer(default=str),
        ]
    return [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]


def _configure_standard_library(target: TextIO, *, threshold: int, renderer: list[Processor]) -> None:
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*_shared(), structlog.stdlib.ExtraAdder()],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(threshold)
    for name in _QUIET_BELOW_WARNING:
        logging.getLogger(name).setLevel(max(threshold, logging.WARNING))
    logging.captureWarnings(capture=True)
