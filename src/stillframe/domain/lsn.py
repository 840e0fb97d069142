"""Positions in PostgreSQL's write-ahead log."""

from typing import Self

from stillframe.errors import InvalidRequest


class Lsn(int):
    """A byte position in the write-ahead log, printed the way PostgreSQL prints it (`0/1A2B3C4D`)."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `X/Y` (both hexadecimal); raise InvalidRequest for anything else."""
        high, slash, low = text.partition("/")
        try:
            if not slash or not 0 < len(high) <= 8 or not 0 < len(low) <= 8:
                raise ValueError(text)
            return cls((int(high, 16) << 32) | int(low, 16))
        except ValueError:
            raise InvalidRequest(f"{text!r} is not a log sequence number of the form X/Y") from None

    def __str__(self) -> str:
        return f"{self >> 32:X}/{self & 0xFFFFFFFF:X}"

    def __repr__(self) -> str:
        return f"Lsn({str(self)!r})"

    def segment_name(self, *, timeline: int, segment_size: int) -> str:
        """Name of the WAL file that holds this byte (PostgreSQL: XLogFileName)."""
        number = self // segment_size
        per_xlog_id = 0x100000000 // segment_size
        return f"{timeline:08X}{number // per_xlog_id:08X}{number % per_xlog_id:08X}"
