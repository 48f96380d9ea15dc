"""Byte streams and random bits: the jets against Python, and against the Nock
of the libraries where their sources are given."""

from __future__ import annotations

import hashlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto.noun import Cell, Noun, noun
from tests.support.jets import CRASH, PUNT, Jets
from tests.support.oracle import Library, library

STREAM = "hex/bytestream-v0/"
ARMS = (
    *("rip-octs", "cat-octs", "can-octs", "skip-line", "find-byte", "seek-byte"),
    *("read-byte", "read-octs", "chunk", "need-bits", "drop-bits", "peek-bits"),
    *("read-bits", "byte-bits"),
)
GATED = ("extract", "fuse-extract")
COMPILES = pytest.mark.timeout(900)  # with nothing kept yet


@pytest.fixture(scope="module")
def jets() -> Jets:
    return Jets()


@pytest.fixture(scope="module")
def streams() -> Library:
    return library("bytestream")


def _atom(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _octs(data: bytes) -> Noun:
    return noun(len(data), _atom(data))


def _stream(at: int, data: bytes) -> Noun:
    return Cell(at, _octs(data))


BYTES = st.binary(max_size=12)


@given(data=BYTES, more=BYTES, size=st.integers(0, 14))
def test_octets_are_bytes(jets: Jets, data: bytes, more: bytes, size: int) -> None:
    assert jets(STREAM + "rip-octs", _octs(data)) == (noun([*data]) if data else 0)
    both = Cell(_octs(data), _octs(more))
    assert jets(STREAM + "cat-octs", both) == _octs(data + more)
    several = noun([_octs(data), _octs(b""), _octs(more), _octs(data)])
    assert jets(STREAM + "can-octs", several) == _octs(data + more + data)
    cut = Cell(size, _atom(data))
    fitted = data[:size].ljust(size, b"\0")
    assert jets(STREAM + "can-octs", noun([cut, _octs(b"x")])) == _octs(fitted + b"x")


@given(data=st.binary(max_size=12), at=st.integers(0, 14), n=st.integers(0, 13))
def test_streams_are_read_as_bytes_are(
    jets: Jets, data: bytes, at: int, n: int
) -> None:
    sea = _stream(at, data)
    line = data.find(b"\n", at) + 1 or len(data)
    assert jets(STREAM + "skip-line", sea) == _stream(line, data)
    found = data.find(n, at)
    assert jets(STREAM + "find-byte", Cell(n, sea)) == (
        0 if found < 0 else noun(0, found)
    )
    sought = noun(0, sea) if found < 0 else noun((0, found), _stream(found, data))
    assert jets(STREAM + "seek-byte", Cell(n, sea)) == sought
    got = jets(STREAM + "read-byte", sea)
    assert got == (Cell(data[at], _stream(at + 1, data)) if at < len(data) else CRASH)
    got = jets(STREAM + "read-octs", Cell(n, sea))
    fits = at + n <= len(data)
    want = Cell(_octs(data[at : at + n]), _stream(at + n, data)) if fits else CRASH
    assert got == want
    pieces = [_octs(data[i : i + n]) for i in range(at, len(data), n)] if n else []
    want = CRASH if n and at > len(data) else noun(pieces) if pieces else 0
    assert jets(STREAM + "chunk", Cell(n, sea)) == want


@given(
    data=st.binary(max_size=6),
    at=st.integers(0, 3),
    held=st.integers(0, 20),
    seed=st.integers(0, 1 << 20),
    n=st.integers(0, 40),
)
def test_bits_are_taken_from_below(
    jets: Jets, data: bytes, at: int, held: int, seed: int, n: int
) -> None:
    low = seed & ((1 << held) - 1)
    rest = _stream(at, data)
    pea = noun(held, low, rest)
    count = max(0, -(-(n - held) // 8))
    read = data[at : at + count]
    got = jets(STREAM + "need-bits", Cell(n, pea))
    if len(read) < count:
        assert got == CRASH
    elif count:
        filled = low | _atom(read) << held
        assert got == noun(held + 8 * count, filled, _stream(at + count, data))
    else:
        assert got == pea
    fewer = noun(max(0, held - n), low >> n, rest)
    assert jets(STREAM + "drop-bits", Cell(n, pea)) == fewer
    mask = (1 << n) - 1
    peeked = low & mask if n <= held else CRASH
    assert jets(STREAM + "peek-bits", Cell(n, pea)) == peeked
    taken = Cell(low & mask, fewer) if n <= held else CRASH
    assert jets(STREAM + "read-bits", Cell(n, pea)) == taken
    rounded = noun(held - held % 8, low >> held % 8, rest)
    assert jets(STREAM + "byte-bits", pea) == rounded


def _gate(places: dict[int, tuple[int, int]]) -> Noun:
    """What is to be skipped and taken, by the stream's position."""
    formula = noun(1, 0, 0)
    for at, (skip, size) in places.items():
        formula = noun(6, (5, (1, at), 0, 12), (1, skip, size), formula)
    return noun(formula, 0, 0)


PLACES = st.dictionaries(
    st.integers(0, 12), st.tuples(st.integers(0, 3), st.integers(0, 4)), max_size=8
)


@given(data=BYTES, at=st.integers(0, 14), places=PLACES, last=st.integers(0, 14))
def test_a_gate_says_what_to_extract(
    jets: Jets, data: bytes, at: int, places: dict[int, tuple[int, int]], last: int
) -> None:
    places = {**dict.fromkeys(range(last), (1, 2)), **places}
    sample = noun(_stream(at, data), _gate(places))
    pieces: list[bytes] = []
    crashed = False
    while at < len(data) and places.get(at, (0, 0)) != (0, 0):
        skip, size = places[at]
        pieces += [data[at + skip : at + skip + size]] if size else []
        at += skip + size
        crashed = at > len(data)
    rest = _stream(at, data)
    listed = noun([_octs(each) for each in pieces]) if pieces else 0
    assert jets(STREAM + "extract", sample) == (
        CRASH if crashed else Cell(listed, rest)
    )
    fused = Cell(_octs(b"".join(pieces)), rest)
    assert jets(STREAM + "fuse-extract", sample) == (CRASH if crashed else fused)


@pytest.mark.parametrize("arm", GATED)
def test_what_extracts_leaves_odd_shapes_to_nock(jets: Jets, arm: str) -> None:
    sea, cell = _stream(0, b"abc"), noun(1, 2)
    gates = [noun((1, cell, 0), 0, 0), noun((1, 0, cell), 0, 0)]
    samples = [Cell(sea, gate) for gate in gates]
    samples += [Cell(odd, _gate({})) for odd in (5, noun(cell, 3), noun(0, cell, 1))]
    for sample in samples:
        assert jets(STREAM + arm, sample) == PUNT, sample
    for odd in (5, Cell(sea, 5), Cell(sea, noun((1, 5), 0, 0))):
        assert jets(STREAM + arm, odd) == CRASH
    far = noun((1, 1 << 70, 0), 0, 0)
    assert jets(STREAM + arm, Cell(sea, far)) == CRASH


def _samples(arm: str, rng: random.Random) -> Noun:
    """One that the arm may well get, or nearly."""

    def octs() -> Noun:
        data = bytes(rng.choices(b"\0\nab\xff", k=rng.randrange(6)))
        return noun(max(0, len(data) + rng.choice([0, 0, 0, 1, -1])), _atom(data))

    def sea() -> Noun:
        return Cell(rng.randrange(8), octs())

    def pea() -> Noun:
        return noun(rng.randrange(20), rng.getrandbits(rng.randrange(1, 24)), sea())

    count = rng.randrange(12)
    match arm:
        case "rip-octs":
            return octs()
        case "cat-octs":
            return Cell(octs(), octs())
        case "can-octs":
            return noun([octs() for _ in range(rng.randrange(4))])
        case "skip-line" | "read-byte":
            return sea()
        case "find-byte" | "seek-byte":
            return Cell(rng.choice([0, 10, 97, 255, 256, 1 << 70]), sea())
        case "read-octs" | "chunk":
            return Cell(count, sea())
        case "byte-bits":
            return pea()
        case "extract" | "fuse-extract":
            places = {at: (rng.randrange(3), rng.randrange(3)) for at in range(8)}
            return Cell(sea(), _gate(places))
        case _:
            return Cell(2 * count, pea())


@COMPILES
@pytest.mark.parametrize("arm", [*ARMS, *GATED])
def test_an_arm_is_what_its_nock_says(jets: Jets, streams: Library, arm: str) -> None:
    rng = random.Random(arm)
    samples = [_samples(arm, rng) for _ in range(60)]
    cases = [(each, jets(STREAM + arm, each)) for each in samples]
    good = [case for case in cases if case[1] != CRASH]
    # Each crash is a run of its own.
    bad = [case for case in cases if case[1] == CRASH][:2]
    for some in (good, bad):
        wants = streams.nock(arm, [sample for sample, _ in some]) if some else []
        assert wants == [got for _, got in some]
    path, _ = streams.jet(arm, good[0][0])
    assert path == STREAM + arm


@pytest.mark.parametrize("arm", ARMS)
def test_other_shapes_are_left_to_nock(jets: Jets, arm: str) -> None:
    for sample in (5, noun((1, 2), 3), noun(1 << 70, 5)):
        assert jets(STREAM + arm, sample) == PUNT, sample


# --- og ------------------------------------------------------------------------


def _shas(salt: bytes, value: int) -> int:
    data = value.to_bytes((value.bit_length() + 7) // 8, "little")
    mixed = _atom(salt) ^ _atom(hashlib.sha256(data).digest())
    return _atom(hashlib.sha256(mixed.to_bytes(32, "little")).digest())


def _raw(seed: int, count: int) -> int:
    last, made, at = _shas(b"og-a", seed ^ count), 0, 0
    while at < count:
        last = _shas(b"og-b", (count - at) ^ seed ^ last)
        made |= last << at
        at += 256
    return made & ((1 << count) - 1)


SEEDS = st.one_of(st.integers(0, 3), st.integers(0, 1 << 300))


@given(seed=SEEDS, count=st.integers(0, 1200))
def test_raw_bits(jets: Jets, seed: int, count: int) -> None:
    assert jets("tri/og/raw", count, seed) == _raw(seed, count)


def test_raw_bits_of_no_number_are_left_to_nock(jets: Jets) -> None:
    assert jets("tri/og/raw", noun(1, 2), 5) == PUNT
    assert jets("tri/og/raw", 5, noun(1, 2)) == PUNT
    assert jets("tri/og/raw", 1 << 60, 5) == PUNT


@COMPILES
def test_raw_is_what_its_nock_says(streams: Library) -> None:
    counts: list[Noun] = [0, 1, 7, 8, 255, 256, 257, 512, 1000]
    gate = "~(raw og 0x1.2345.6789.abcd.ef01.2345)"
    seed = 0x123456789ABCDEF012345
    wants = streams.nock(gate, counts)
    assert wants == [_raw(seed, count) for count in counts if isinstance(count, int)]
    assert streams.jet(gate, 300) == ("tri/og/raw", _raw(seed, 300))
