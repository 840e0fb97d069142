"""`stillframe demo`: the whole story on real data, told while it happens."""

from stillframe.cli.demo.command import demo

__all__ = ["demo"]
