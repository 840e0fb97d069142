"""The command: chapters in order, then the results."""

import time
from typing import Annotated

from cyclopts import Parameter, validators

from stillframe import Local
from stillframe.cli.demo import results
from stillframe.cli.demo.chapters import CHAPTERS
from stillframe.cli.demo.narrator import Narrator
from stillframe.cli.demo.stage import Stage
from stillframe.cli.demo.tpch import find_generator
from stillframe.cli.options import OutputOption
from stillframe.cli.output import OutputFormat, Terminal
from stillframe.errors import StillframeError


def demo(
    *,
    scale: Annotated[
        float,
        Parameter(
            help="Scale factor of the TPC-H data; 1 is about 1 GB.",
            validator=validators.Number(gte=0.01, lte=100),
        ),
    ] = 0.1,
    output: OutputOption = OutputFormat.TEXT,
) -> int:
    """Load real data, take a snapshot, destroy the data, bring it back, and check that every row is there.

    Everything happens in a service of its own on a temporary directory; nothing is left behind. Exit status 0
    only if all was verified.
    """
    terminal = Terminal(output)
    narrator = Narrator(terminal)
    generator = find_generator()
    narrator.open()
    began = time.perf_counter()
    with Local(log_level="warning") as local:
        stage = Stage(local=local, terminal=terminal, narrator=narrator, generator=generator, scale=scale)
        stage.facts.start_seconds = time.perf_counter() - began
        _play(stage)
    stage.facts.total_seconds = time.perf_counter() - began
    terminal.result(results.to_document(stage.facts), lambda: results.render(stage.facts))
    return 0 if stage.facts.is_verified else 1


def _play(stage: Stage) -> None:
    try:
        for chapter in CHAPTERS:
            chapter(stage)
    except StillframeError:
        # The log goes with the temporary directory, so this is the last moment to see it.
        stage.terminal.remark(f"The end of the service's log:\n{stage.local.log_tail(20)}\n")
        raise
