"""`stillframe doctor`: what this machine can do for Stillframe, and what stands in the way."""

from stillframe.cli.doctor.command import doctor

__all__ = ["doctor"]
