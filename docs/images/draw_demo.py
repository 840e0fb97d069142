"""Draws docs/images/demo.svg from a real run of `stillframe demo`.

What is drawn is what was printed. Progress is left out, for it moves; the picture loads no fonts from anywhere.
"""

import io
import re
import sys
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme

from stillframe.cli.demo.command import demo
from stillframe.cli.output import Terminal

_WIDTH = 100
_THEME = TerminalTheme(
    (24, 27, 33),
    (215, 219, 226),
    [(24, 27, 33), (240, 113, 120), (126, 200, 130), (230, 192, 104), (105, 166, 240), (190, 140, 230), (96, 196, 204),
     (215, 219, 226)],
    [(110, 118, 130), (240, 113, 120), (126, 200, 130), (230, 192, 104), (105, 166, 240), (190, 140, 230),
     (96, 196, 204), (255, 255, 255)],
)  # fmt: skip


def main() -> int:
    """Play the demo, draw it beside this file, and return the demo's exit status; a failed one is not drawn."""
    console = Console(
        record=True,
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
        width=_WIDTH,
        highlight=False,
        legacy_windows=False,
    )
    Terminal.out = property(lambda _self: console)  # type: ignore[assignment]
    status = demo()
    if status == 0:
        picture = console.export_svg(title="stillframe demo", theme=_THEME)
        Path(__file__).with_name("demo.svg").write_text(_self_contained(picture))
    return status


def _self_contained(picture: str) -> str:
    picture = re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL)
    picture = re.sub(r"<!--.*?-->\s*", "", picture, flags=re.DOTALL)
    return picture.replace("Fira Code", "ui-monospace, Menlo, Consolas")


if __name__ == "__main__":
    sys.exit(main())
