"""Page checks agree with PostgreSQL's definition, page by page, however many are checked at once."""

import random
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from stillframe.domain.lsn import Lsn
from stillframe.postgres.pages import (
    PAGE_SIZE,
    block_numbers,
    judge_pages,
    new_pages,
    page_checksums,
    page_lsns,
)

pytestmark = pytest.mark.unit

_PRIME, _MASK = 16777619, 0xFFFFFFFF


def reference_checksum(page: bytes, block: int, base: list[int]) -> int:
    """The checksum by its definition, without any of the tricks."""
    words = list(struct.unpack("<2048I", page[:8] + b"\0\0" + page[10:]))
    sums = list(base)
    for row in [words[at : at + 32] for at in range(0, 2048, 32)] + [[0] * 32] * 2:
        for lane in range(32):
            mixed = sums[lane] ^ row[lane]
            sums[lane] = ((mixed * _PRIME) & _MASK) ^ (mixed >> 17)
    folded = 0
    for value in sums:
        folded ^= value
    return ((folded ^ block) % 65535) + 1


def suspicious(pages: bytes | bytearray, *, blocks: NDArray[np.uint32], start_lsn: Lsn) -> list[int]:
    """The pages of a batch that may not be taken as they are."""
    return list(judge_pages(pages, blocks=blocks, start_lsn=start_lsn).suspicious)


def page(*, seed: int, block: int, lsn: int = 0x1_0000_0010) -> bytes:
    """A filled page with a right checksum."""
    body = bytearray(random.Random(seed).randbytes(PAGE_SIZE))
    body[:8] = struct.pack("<II", lsn >> 32, lsn & _MASK)
    body[14:16] = (8000).to_bytes(2, "little")
    body[8:10] = int(page_checksums(body, blocks=block_numbers(block, 1))[0]).to_bytes(2, "little")
    return bytes(body)


@given(seed=st.integers(0, 2**32), block=st.integers(0, 2**32 - 2), count=st.integers(1, 3))
@settings(max_examples=15, deadline=None)
def test_checksums_are_what_the_definition_says(seed: int, block: int, count: int) -> None:
    from stillframe.postgres.pages import _BASE

    data = random.Random(seed).randbytes(PAGE_SIZE * count)
    found = page_checksums(data, blocks=block_numbers(block, count))
    for index in range(count):
        one = data[index * PAGE_SIZE : (index + 1) * PAGE_SIZE]
        assert int(found[index]) == reference_checksum(one, (block + index) % 2**32, [int(x) for x in _BASE])


def test_the_stored_checksum_takes_no_part_in_itself() -> None:
    first, second = bytearray(page(seed=1, block=5)), bytearray(page(seed=1, block=5))
    second[8:10] = b"\xab\xcd"
    numbers = block_numbers(5, 1)
    assert page_checksums(first, blocks=numbers) == page_checksums(second, blocks=numbers)


def test_a_page_at_another_place_fails() -> None:
    moved = page(seed=2, block=10)
    assert suspicious(moved, blocks=block_numbers(10, 1), start_lsn=Lsn(2**60)) == []
    assert suspicious(moved, blocks=block_numbers(11, 1), start_lsn=Lsn(2**60)) == [0]


@given(position=st.integers(0, PAGE_SIZE - 1), bit=st.integers(0, 7))
@settings(max_examples=60, deadline=None)
def test_a_flipped_bit_anywhere_is_found_unless_it_makes_the_page_look_newer(position: int, bit: int) -> None:
    damaged = bytearray(page(seed=3, block=0))
    damaged[position] ^= 1 << bit
    assert suspicious(damaged, blocks=block_numbers(0, 1), start_lsn=Lsn(2**63)) == (
        [] if int(page_lsns(damaged)[0]) >= 2**63 else [0]
    )


def test_only_the_wrong_pages_of_a_batch_are_named() -> None:
    pages = [bytearray(page(seed=number, block=100 + number)) for number in range(6)]
    pages[1][4000] ^= 1
    pages[4] = bytearray(PAGE_SIZE)
    pages[5][4000] ^= 1
    batch = b"".join(pages)
    assert suspicious(batch, blocks=block_numbers(100, 6), start_lsn=Lsn(2**60)) == [1, 5]


def test_a_page_changed_since_the_start_is_left_to_wal() -> None:
    torn = bytearray(page(seed=9, block=0, lsn=0x2000))
    torn[5000] ^= 1
    assert suspicious(torn, blocks=block_numbers(0, 1), start_lsn=Lsn(0x2000)) == []
    assert suspicious(torn, blocks=block_numbers(0, 1), start_lsn=Lsn(0x2001)) == [0]
    verdict = judge_pages(torn, blocks=block_numbers(0, 1), start_lsn=Lsn(0x1000))
    assert verdict.newer == ((0, Lsn(0x2000)),)


def test_a_page_that_looks_new_but_is_not_empty_is_suspicious() -> None:
    half = bytearray(PAGE_SIZE)
    half[6000] = 1
    assert bool(new_pages(half)[0])
    assert suspicious(half, blocks=block_numbers(0, 1), start_lsn=Lsn(1)) == [0]
    assert suspicious(bytes(PAGE_SIZE), blocks=block_numbers(0, 1), start_lsn=Lsn(1)) == []


def test_pages_of_different_relations_are_checked_together() -> None:
    batch = page(seed=1, block=7) + page(seed=2, block=131072)
    numbers = np.concatenate([block_numbers(7, 1), block_numbers(131072, 1)])
    assert suspicious(batch, blocks=numbers, start_lsn=Lsn(2**60)) == []
