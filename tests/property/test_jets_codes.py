"""Checksums, base16, lines and loss against Python's own."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto.noun import Noun, items, noun
from tests.support.jets import CRASH, PUNT, Jets

CELL = noun(1, 2)
OCTETS = st.tuples(st.integers(0, 40), st.binary(max_size=30))


@pytest.fixture(scope="module")
def jets() -> Jets:
    return Jets()


def _atom(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _size(value: int) -> int:
    return (value.bit_length() + 7) // 8


@pytest.mark.parametrize("path", ["hex/crc/crc32", "hex/checksum/crc/crc32"])
@given(octets=OCTETS)
def test_crc32(jets: Jets, path: str, octets: tuple[int, bytes]) -> None:
    size, value = octets[0], _atom(octets[1])
    got = jets(path, noun(size, value))
    if size and _size(value) > size:
        assert got == CRASH
    else:
        assert got == (zlib.crc32(value.to_bytes(size, "little")) if size else 0)


@given(octets=OCTETS)
def test_adler32(jets: Jets, octets: tuple[int, bytes]) -> None:
    size, value = octets[0], _atom(octets[1])
    data = value.to_bytes(99, "little")[:size]
    assert jets("hex/checksum/adler/adler32", noun(size, value)) == zlib.adler32(data)


def test_checksums_of_much(jets: Jets) -> None:
    data = bytes(range(256)) * 300 + b"\xff" * 20_000
    sample = noun(len(data), _atom(data))
    assert jets("hex/crc/crc32", sample) == zlib.crc32(data)
    assert jets("hex/checksum/adler/adler32", sample) == zlib.adler32(data)


@given(octets=OCTETS)
def test_base16(jets: Jets, octets: tuple[int, bytes]) -> None:
    size, value = octets[0], _atom(octets[1])
    value &= (1 << (8 * size)) - 1
    text = f"{value:0{2 * size}x}".encode() if size else b""
    made = jets("hex/mimes/base16/en", noun(size, _atom(octets[1])))
    assert made == _atom(text)
    assert jets("hex/mimes/base16/de", made) == noun(0, size, value)
    assert jets("hex/mimes/base16/de", _atom(text.upper())) == noun(0, size, value)
    assert jets("hex/mimes/base16/de", _atom(text[1:])) == (
        noun(0, size, int(text[1:], 16)) if size else noun(0, 0, 0)
    )


@given(st.text("09afAF/:@G`g \0", max_size=6))
def test_base16_of_what_is_none(jets: Jets, text: str) -> None:
    digits = text.rstrip("\0")
    good = all(each in "0123456789abcdefABCDEF" for each in digits)
    want = noun(0, (len(digits) + 1) // 2, int(digits or "0", 16)) if good else 0
    assert jets("hex/mimes/base16/de", _atom(text.encode())) == want


@given(st.text("ab\n\0", max_size=12))
def test_lines(jets: Jets, text: str) -> None:
    data = text.encode().rstrip(b"\0")
    lines = [_atom(line) for line in data.split(b"\n")]
    assert jets("hex/leer", _atom(data)) == (noun(lines) if data else 0)
    got = jets("hex/lune", _atom(data))
    if not data:
        assert got == 0
    else:
        assert got == (noun(lines[:-1]) if data.endswith(b"\n") else PUNT)


def test_long_lines(jets: Jets) -> None:
    data = b"".join(b"x" * (at % 90) + b"\n" for at in range(3000))
    lines = noun([_atom(line) for line in data.split(b"\n")[:-1]])
    assert jets("hex/lune", _atom(data)) == lines
    assert jets("hex/leer", _atom(data[:-1])) == lines


def _loss(left: list[Noun], right: list[Noun]) -> list[Noun]:
    """As the Hoon does it: for each length the subsequence that ends first."""
    places: dict[Noun, list[int]] = {}
    for at, item in enumerate(right):
        places.setdefault(item, []).append(at)
    best: list[tuple[int, list[Noun]]] = []
    for item in left:
        found = []
        index = 0
        wanted = places.get(item, [])
        while wanted and index <= len(best):
            if index > 0 and wanted[0] <= best[index - 1][0]:
                wanted = wanted[1:]
            elif index < len(best) and wanted[0] >= best[index][0]:
                index += 1
            else:
                found.append((index, wanted[0]))
                index, wanted = index + 1, wanted[1:]
        for index, at in reversed(found):
            made = (at, [*(best[index - 1][1] if index else []), right[at]])
            best[index : index + 1] = [made]
    return best[-1][1] if best else []


def _longest(left: list[Noun], right: list[Noun]) -> int:
    row = [0] * (len(right) + 1)
    for a in left:
        before = row
        row = [0]
        for at, b in enumerate(right):
            row.append(before[at] + 1 if a == b else max(row[at], before[at + 1]))
    return row[-1]


def _is_within(part: list[Noun], whole: list[Noun]) -> bool:
    rest = iter(whole)
    return all(any(a == b for b in rest) for a in part)


ITEMS = st.sampled_from([1, 2, 3, 4, CELL, noun(1, 3), 1 << 70])


@given(left=st.lists(ITEMS, max_size=14), right=st.lists(ITEMS, max_size=14))
def test_loss(jets: Jets, left: list[Noun], right: list[Noun]) -> None:
    got = jets("hex/loss", noun(left, right))
    assert got == noun(_loss(left, right))
    common = items(got)
    assert len(common) == _longest(left, right)
    assert _is_within(common, left)
    assert _is_within(common, right)


def test_loss_of_much(jets: Jets) -> None:
    left: list[Noun] = [at * 7 % 1009 for at in range(2000)]
    right: list[Noun] = [at * 11 % 1013 for at in range(2000)]
    assert jets("hex/loss", noun(left, right)) == noun(_loss(left, right))


def test_what_declines(jets: Jets) -> None:
    for path in (
        "hex/crc/crc32",
        "hex/checksum/adler/adler32",
        "hex/mimes/base16/en",
    ):
        assert jets(path, 5) == PUNT
        assert jets(path, noun(5, CELL)) == PUNT
        assert jets(path, noun(1 << 40, 1)) == PUNT
    for path in ("hex/leer", "hex/lune", "hex/mimes/base16/de"):
        assert jets(path, CELL) == PUNT
    for sample in (5, noun((1, 2), 0), noun(0, (1, 2))):
        assert jets("hex/loss", sample) == PUNT
