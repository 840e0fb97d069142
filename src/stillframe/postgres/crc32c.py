"""CRC-32C (Castagnoli), the check on PostgreSQL's control file. A byte at a time: for small inputs only."""

_POLYNOMIAL = 0x82F63B78


def _entry(value: int) -> int:
    for _ in range(8):
        value = (value >> 1) ^ (_POLYNOMIAL if value & 1 else 0)
    return value


_TABLE = tuple(_entry(value) for value in range(256))


def crc32c(data: bytes) -> int:
    """The CRC of `data` as an unsigned 32-bit number (PostgreSQL: INIT_CRC32C, COMP_CRC32C, FIN_CRC32C)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF
