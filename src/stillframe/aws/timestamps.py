"""Moments on the wire, to the millisecond."""

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def iso_text(moment: datetime) -> str:
    """`2026-01-02T03:04:05.678Z`; what is below a millisecond is cut off, not rounded into the future."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def epoch_number(moment: datetime) -> int | float:
    """Seconds since 1970 with at most three decimals; a whole number when there are none."""
    milliseconds = (moment - _EPOCH) // timedelta(milliseconds=1)
    seconds, rest = divmod(milliseconds, 1000)
    return milliseconds / 1000 if rest else seconds
