"""CRC-32C (Castagnoli), the check on PostgreSQL's control file and WAL summaries."""

import google_crc32c


def crc32c(data: bytes) -> int:
    """The CRC of `data` as an unsigned 32-bit number (PostgreSQL: INIT_CRC32C, COMP_CRC32C, FIN_CRC32C)."""
    return int(google_crc32c.value(data))
