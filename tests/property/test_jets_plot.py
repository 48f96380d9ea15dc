"""Lull's plot: the jets against Python, and against the Nock of lull where its
source is given."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto.noun import Cell, Noun, items, noun
from tests.support.jets import PUNT, Jets
from tests.support.oracle import library

FAX, MET = "hex/lull/plot/fax", "hex/lull/plot/met"
CUT, MEASURE, SUB = (noun(ord(letter), 0) for letter in "cms")


@pytest.fixture(scope="module")
def jets() -> Jets:
    return Jets()


def _blocks(bits: int, bloq: int) -> int:
    return -(-bits >> bloq)


def _low(value: int, bits: int) -> int:
    return value & ((1 << bits) - 1)


def _number(value: Noun) -> int:
    assert isinstance(value, int)
    return value


def _fax(plot: Noun) -> tuple[int, int, int]:
    """(atom, bloq, step)"""
    assert isinstance(plot, Cell)
    if isinstance(plot.head, Cell):
        (first, from_bloq, step), (then, bloq, more) = _fax(plot.head), _fax(plot.tail)
        step = _blocks(step << from_bloq, bloq)
        return first + (then << (step << bloq)), bloq, step + more
    bloq, whole, at = plot.head, 0, 0
    for item in items(plot.tail):
        if isinstance(item, int):
            piece, step = item, _blocks(item.bit_length(), bloq)
        elif isinstance(item.head, int):
            step = item.head
            piece = _low(_number(item.tail), step << bloq)
        elif item.head == SUB:
            piece, inner, step = _fax(item.tail)
            step = _blocks(step << inner, bloq)
        else:
            assert isinstance(item.tail, Cell)
            assert isinstance(item.tail.head, Cell)
            start, step = _number(item.tail.head.head), _number(item.tail.head.tail)
            piece = _number(item.tail.tail) >> (start << bloq)
            piece = _low(piece, step << bloq)
            if item.head == MEASURE:
                step = _blocks(piece.bit_length(), bloq)
        whole += piece << (at << bloq)
        at += step
    return whole, bloq, at


def _plot(rng: random.Random, depth: int = 3) -> Noun:
    if depth and rng.random() < 0.3:
        return Cell(_plot(rng, depth - 1), _plot(rng, depth - 1))
    several = [_item(rng, depth) for _ in range(rng.randrange(5))]
    return Cell(rng.randrange(8), noun(several) if several else 0)


def _item(rng: random.Random, depth: int) -> Noun:
    atom = rng.getrandbits(rng.choice([1, 8, 63, 64, 130])) << rng.choice([0, 0, 40])
    steps = noun(rng.randrange(5), rng.randrange(6))
    match rng.randrange(5 if depth else 4):
        case 0:
            return atom
        case 1:
            return Cell(rng.randrange(9), atom)
        case 4:
            return Cell(SUB, _plot(rng, depth - 1))
        case kind:
            return noun(CUT if kind == 2 else MEASURE, steps, atom)


@given(seed=st.integers(0, 1 << 32))
def test_a_plot_is_its_pieces(jets: Jets, seed: int) -> None:
    plot = _plot(random.Random(seed))
    atom, bloq, step = _fax(plot)
    assert jets(FAX, plot) == noun(atom, bloq, step)
    assert jets(MET, plot) == noun(bloq, step)


def test_long_and_deep_plots(jets: Jets) -> None:
    count = 20_000
    byte = noun(3, [noun(1, 7)])
    value = int.from_bytes(b"\7" * (count + 1), "little")
    left = right = inner = byte
    for _ in range(count):
        left, right = Cell(left, byte), Cell(byte, right)
        inner = noun(3, [noun(1, 7), Cell(SUB, inner)])
    for plot in (left, right, inner, noun(3, [noun(1, 7)] * (count + 1))):
        assert jets(FAX, plot) == noun(value, 3, count + 1)
        assert jets(MET, plot) == noun(3, count + 1)


def test_zeros_only_count(jets: Jets) -> None:
    assert jets(FAX, noun(0, [noun(1 << 39, 5), noun(3, 0)])) == noun(
        5, 0, (1 << 39) + 3
    )


ODD: list[Noun] = [
    *(0, 5, noun(3, 5), noun(33, 0), noun(1 << 70, 0), noun(noun(3, 0), 5)),
    noun(3, noun(1, 2)),  # a list that does not end in 0
    noun(3, [noun(1, noun(2, 3))]),
    noun(3, [noun(1 << 63, 3)]),
    noun(3, [noun(1 << 40, 3)]),
    *(noun(3, [noun(CUT, odd)]) for odd in (5, noun(1, 2), noun(noun(1, 2), 3, 4))),
    *(noun(3, [noun(CUT, (odd, 1), 5)]) for odd in (noun(1, 2), 1 << 64)),
    noun(3, [noun(noun(ord("c"), 1), (0, 1), 5)]),
    noun(3, [noun(noun(ord("x"), 0), (0, 1), 5)]),
    noun(3, [noun(noun(CUT, 0), (0, 1), 5)]),
    noun(3, [noun(SUB, 5)]),
]


@pytest.mark.parametrize("arm", [FAX, MET])
def test_other_shapes_are_left_to_nock(jets: Jets, arm: str) -> None:
    for plot in ODD:
        assert jets(arm, plot) == PUNT, plot
    endless = noun(0, 0)  # 2^40 plots of nothing
    for _ in range(40):
        endless = Cell(endless, endless)
    assert jets(arm, endless) == PUNT


@pytest.mark.timeout(900)  # compiles, with nothing kept yet
def test_plots_are_what_their_nock_says(jets: Jets) -> None:
    zuse = library("bytestream")
    rng = random.Random(7)
    samples = [_plot(rng) for _ in range(200)]
    assert [jets(FAX, plot) for plot in samples] == zuse.nock("fax:plot", samples)
    assert [jets(MET, plot) for plot in samples] == zuse.nock("met:plot", samples)
    assert zuse.jet("fax:plot", samples[0]) == (FAX, jets(FAX, samples[0]))
    assert zuse.jet("met:plot", samples[0]) == (MET, jets(MET, samples[0]))
