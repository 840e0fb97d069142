"""Runs all checks and prints what they found."""

from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from stillframe.cli.connection import find_address
from stillframe.cli.doctor import machine, network, repository, server, storage
from stillframe.cli.doctor.finding import Finding, Verdict
from stillframe.cli.options import DEFAULTS, Common
from stillframe.config import Settings, load_settings
from stillframe.errors import StillframeError

_MARKS = {Verdict.OK: ("✓", "green"), Verdict.WARN: ("!", "yellow"), Verdict.FAIL: ("✗", "red bold")}


def doctor(*, common: Common = DEFAULTS) -> int:
    """Check this machine: PostgreSQL, permissions, disk, kernel, ports, clock. Status 1 when one fails."""
    findings = examine(load_settings(overrides={"data": common.data}))
    counts = Counter(finding.verdict for finding in findings)
    common.terminal.result(to_document(findings), lambda: render(findings))
    if not common.terminal.is_json:
        common.terminal.remark(summary(counts))
    return 1 if counts[Verdict.FAIL] else 0


def examine(settings: Settings) -> list[Finding]:
    """Everything worth knowing before the first start, the most basic first."""
    identity, place = server.known_identity(settings.server_user), storage.existing_part(settings.data)
    blocked_by = identity.obstacle if identity is not None else _nothing_in_the_way
    name = identity.name if identity is not None else settings.server_user
    return [
        machine.check_python(),
        server.check_server_user(settings.server_user),
        server.check_postgres(settings.postgres_bin, identity),
        storage.check_directory(settings.data, blocked_by, name),
        storage.check_file_system(settings.data),
        storage.check_space(settings.data),
        storage.check_reflink(settings.data),
        storage.check_restores(settings.data, settings.restore_strategy),
        repository.check_repository(settings),
        machine.check_memory(),
        machine.check_shared_memory(),
        machine.check_open_files(),
        machine.check_clock(place),
        network.check_service_port(settings.host, settings.port, _running_at(settings.data)),
        network.check_database_ports(),
    ]


def to_document(findings: list[Finding]) -> dict[str, Any]:
    """The JSON form."""
    counts = Counter(finding.verdict for finding in findings)
    return {
        "checks": [
            {"name": item.name, "verdict": item.verdict, "fact": item.fact, "advice": item.advice}
            for item in findings
        ],
        "summary": {verdict.value: counts[verdict] for verdict in Verdict},
    }


def render(findings: list[Finding]) -> RenderableType:
    """One line a check, and what to do below those that are not well."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for finding in findings:
        mark, style = _MARKS[finding.verdict]
        text = Text(finding.fact)
        if finding.advice:
            text.append(f"\n→ {finding.advice}", style=style)
        grid.add_row(Text(mark, style=style), finding.name, text)
    return grid


def summary(counts: Counter[Verdict]) -> str:
    """The last sentence."""
    if counts[Verdict.FAIL]:
        return (
            f"{counts[Verdict.FAIL]} of {counts.total()} checks failed: the service will not run like this."
        )
    if counts[Verdict.WARN]:
        return f"The service can run. {counts[Verdict.WARN]} of {counts.total()} checks found a limit."
    return f"All {counts.total()} checks are well."


def _nothing_in_the_way(path: Path) -> Path | None:
    del path
    return None


def _running_at(data: Path) -> str | None:
    try:
        return find_address(data).endpoint_url
    except StillframeError:
        return None
