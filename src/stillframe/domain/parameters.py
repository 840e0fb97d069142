"""Configuration parameters of a workgroup: which exist, what they may be, and what PostgreSQL makes of them.

Source: API reference, ConfigParameter (the keys) and CreateWorkgroup. Which ones take effect is listed, field by
field, in docs/reference/compatibility.md.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stillframe.errors import InvalidRequest

_BOOLEAN = re.compile(r"true|false")
_NUMBER = re.compile(r"[0-9]{1,9}")
_DATESTYLE = re.compile(r"(ISO|Postgres|SQL|German)( *, *(MDY|DMY|YMD))?|MDY|DMY|YMD", re.IGNORECASE)
_SEARCH_PATH = re.compile(r"[\w$\", .-]{1,512}")
_TEXT = re.compile(r"[\x20-\x7e]{1,320}")
_REFUSED = re.compile(r"false")


@dataclass(frozen=True, slots=True)
class _Parameter:
    """A key: its default (None: absent unless set), what it may be, and the sentence for a wrong value."""

    default: str | None
    accepts: re.Pattern[str]
    rule: str


_FLAG = "must be true or false"
_LIMIT = "must be a whole number"
_TLS = "can only be false, because the endpoint does not offer TLS yet"

PARAMETERS: Mapping[str, _Parameter] = {
    "auto_mv": _Parameter("true", _BOOLEAN, _FLAG),
    "datestyle": _Parameter("ISO, MDY", _DATESTYLE, "must be a date style such as ISO, MDY"),
    "enable_case_sensitive_identifier": _Parameter("false", _BOOLEAN, _FLAG),
    "enable_user_activity_logging": _Parameter("true", _BOOLEAN, _FLAG),
    "query_group": _Parameter("default", _TEXT, "must be printable text"),
    "require_ssl": _Parameter("false", _REFUSED, _TLS),
    "search_path": _Parameter("$user, public", _SEARCH_PATH, "must be a list of schema names"),
    "use_fips_ssl": _Parameter("false", _REFUSED, _TLS),
    "max_query_execution_time": _Parameter("14400", _NUMBER, "must be a number of seconds"),
    "max_query_queue_time": _Parameter(None, _NUMBER, _LIMIT),
    "max_query_cpu_time": _Parameter(None, _NUMBER, _LIMIT),
    "max_query_cpu_usage_percent": _Parameter(None, _NUMBER, _LIMIT),
    "max_query_blocks_read": _Parameter(None, _NUMBER, _LIMIT),
    "max_query_temp_blocks_to_disk": _Parameter(None, _NUMBER, _LIMIT),
    "max_scan_row_count": _Parameter(None, _NUMBER, _LIMIT),
    "max_join_row_count": _Parameter(None, _NUMBER, _LIMIT),
    "max_nested_loop_join_row_count": _Parameter(None, _NUMBER, _LIMIT),
    "max_return_row_count": _Parameter(None, _NUMBER, _LIMIT),
    "max_io_skew": _Parameter(None, _NUMBER, _LIMIT),
    "max_cpu_skew": _Parameter(None, _NUMBER, _LIMIT),
}


def complete_parameters(given: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """All parameters in force, by key: the given ones over the defaults.

    Raises InvalidRequest for an unknown key, a key given twice, or a value that the key does not take.
    """
    keys = [key for key, _ in given]
    if len(set(keys)) != len(keys):
        raise InvalidRequest("Each configuration parameter can be given once.")
    for key, value in given:
        parameter = PARAMETERS.get(key)
        if parameter is None:
            raise InvalidRequest(f"{key[:64]} is not a configuration parameter of a workgroup.")
        if not parameter.accepts.fullmatch(value):
            raise InvalidRequest(f"The value of configuration parameter {key} {parameter.rule}.")
    defaults = {
        key: parameter.default for key, parameter in PARAMETERS.items() if parameter.default is not None
    }
    return tuple(sorted((defaults | dict(given)).items()))


def server_settings(parameters: Sequence[tuple[str, str]]) -> dict[str, str]:
    """The PostgreSQL settings that these parameters stand for."""
    values = dict(parameters)
    settings = {
        "statement_timeout": f"{values['max_query_execution_time']}s",
        "datestyle": values["datestyle"],
        "search_path": _quoted_search_path(values["search_path"]),
    }
    if "max_query_temp_blocks_to_disk" in values:
        settings["temp_file_limit"] = f"{values['max_query_temp_blocks_to_disk']}MB"
    return settings


def _quoted_search_path(text: str) -> str:
    names = [name.strip().strip('"') for name in text.split(",")]
    return ", ".join(f'"{name}"' for name in names if name)
