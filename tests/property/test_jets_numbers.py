"""Arithmetic, bits, blocks, the order of nouns and jam: each jet against Python's
integers. Real Hoon is asked in test_jets_bits.py."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from math import isqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto.jam import cue, jam
from proto.mug import mug
from proto.noun import Cell, Noun, noun
from tests.property.test_jets_maps import dor, gor, mor
from tests.support.jets import CRASH, PUNT, Jets

NUMBERS = (
    st.integers(0, 9)
    | st.integers((1 << 63) - 2, (1 << 64) + 2)
    | st.integers(0, 1 << 200)
)
BLOQS = st.integers(0, 7)
STEPS = st.integers(0, 12)
CELL = noun(1, 2)


@pytest.fixture(scope="module")
def jets() -> Jets:
    return Jets()


# --- arithmetic ----------------------------------------------------------------


def _yes(answer: bool) -> int:
    return 0 if answer else 1


def _peg(a: int, b: int) -> Noun:
    steps = b.bit_length() - 1
    return a << steps | b - (1 << steps) if a and b else CRASH


TWO: dict[str, Callable[[int, int], Noun]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b if a >= b else CRASH,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a // b if b else CRASH,
    "mod": lambda a, b: a % b if b else CRASH,
    "dvr": lambda a, b: noun(a // b, a % b) if b else CRASH,
    "gte": lambda a, b: _yes(a >= b),
    "gth": lambda a, b: _yes(a > b),
    "lte": lambda a, b: _yes(a <= b),
    "lth": lambda a, b: _yes(a < b),
    "max": max,
    "min": min,
    "peg": _peg,
}
ONE: dict[str, Callable[[int], Noun]] = {
    "dec": lambda a: a - 1 if a else CRASH,
    "cap": lambda a: (a >> (a.bit_length() - 2)) if a > 1 else CRASH,
    "mas": lambda a: (
        a - (1 << (a.bit_length() - 2)) * (_cap(a) - 1) if a > 1 else CRASH
    ),
}


def _cap(a: int) -> int:
    return a >> (a.bit_length() - 2)


@pytest.mark.parametrize("name", TWO)
@given(a=NUMBERS, b=NUMBERS)
def test_arithmetic(jets: Jets, name: str, a: int, b: int) -> None:
    for one, other in ((a, b), (b, a), (a, a), (a, 0), (0, b)):
        assert jets(f"one/{name}", noun(one, other)) == TWO[name](one, other)


@pytest.mark.parametrize("name", ONE)
@given(a=NUMBERS)
def test_arithmetic_of_one(jets: Jets, name: str, a: int) -> None:
    for one in (a, 0, 1):
        assert jets(f"one/{name}", one) == ONE[name](one)


def test_arithmetic_of_cells(jets: Jets) -> None:
    for name in TWO:
        for sample in (5, noun(CELL, 5), noun(5, CELL)):
            assert jets(f"one/{name}", sample) == PUNT
    assert jets("one/dec", CELL) == CRASH  # Nock would count for ever
    for name in ("cap", "mas"):
        assert jets(f"one/{name}", CELL) == PUNT


# --- blocks --------------------------------------------------------------------


def _low(value: int, bits: int) -> int:
    return value & ((1 << bits) - 1)


def _blocks(value: int, size: int) -> list[int]:
    blocks = []
    while value:
        blocks.append(_low(value, size))
        value >>= size
    return blocks


def _laid(parts: list[tuple[int, int]]) -> int:
    """Values one after the other, each cut to its size."""
    made = at = 0
    for size, value in parts:
        made |= _low(value, size) << at
        at += size
    return made


def _met(bloq: int, value: int) -> int:
    return len(_blocks(value, 1 << bloq))


@given(a=BLOQS, b=STEPS, c=STEPS, d=NUMBERS)
def test_parts_of_an_atom(jets: Jets, a: int, b: int, c: int, d: int) -> None:
    size = b << a
    assert jets("two/bex", size) == 1 << size
    assert jets("two/cut", noun(a, (b, c), d)) == _low(d >> size, c << a)
    assert jets("two/end", noun((a, b), d)) == _low(d, size)
    assert jets("two/end", noun(a, d)) == _low(d, 1 << a)
    assert jets("two/lsh", noun((a, b), d)) == d << size
    assert jets("two/lsh", noun(a, d)) == d << (1 << a)
    assert jets("two/rsh", noun((a, b), d)) == d >> size
    assert jets("two/rsh", noun(a, d)) == d >> (1 << a)
    assert jets("two/met", noun(a, d)) == _met(a, d)
    assert jets("two/xeb", d) == d.bit_length()
    assert jets("two/sqt", d) == noun(isqrt(d), d - isqrt(d) ** 2)
    assert jets("two/rip", noun(a, d)) == noun(_blocks(d, 1 << a))
    if b:
        assert jets("two/rip", noun((a, b), d)) == noun(_blocks(d, size))
    blocks = _blocks(d, 1 << a)
    assert jets("two/swp", noun(a, d)) == _laid([(1 << a, x) for x in blocks[::-1]])
    some = [_low(d >> (at << a), 1 << a) for at in range(b)]
    assert jets("two/rev", noun(a, b, d)) == _laid([(1 << a, x) for x in some[::-1]])


@given(a=BLOQS, b=STEPS, parts=st.lists(st.tuples(STEPS, NUMBERS), max_size=6))
def test_atoms_of_parts(
    jets: Jets, a: int, b: int, parts: list[tuple[int, int]]
) -> None:
    values = [value for _, value in parts]
    sized = noun([noun(size, value) for size, value in parts])
    assert jets("two/can", noun(a, sized)) == _laid([(n << a, x) for n, x in parts])
    want = _laid([(_met(a, x) << a, x) for x in values])
    assert jets("two/rap", noun(a, [*values])) == want
    assert jets("two/rep", noun(a, [*values])) == _laid([(1 << a, x) for x in values])
    want = _laid([(b << a, x) for x in values])
    assert jets("two/rep", noun((a, b), [*values])) == want
    for one, other in pairwise(values):
        want = one | other << (_met(a, one) << a)
        assert jets("two/cat", noun(a, one, other)) == want


@given(a=NUMBERS, b=NUMBERS)
def test_logic(jets: Jets, a: int, b: int) -> None:
    assert jets("two/con", noun(a, b)) == a | b
    assert jets("two/dis", noun(a, b)) == a & b
    assert jets("two/mix", noun(a, b)) == a ^ b


def test_blocks_of_cells(jets: Jets) -> None:
    for name in ("con", "dis", "mix", "end", "lsh", "rsh", "met", "rip", "swp"):
        for sample in (5, noun(1, CELL)):
            assert jets(f"two/{name}", sample) == PUNT, name
    for name in ("can", "rap", "rep"):
        for sample in (5, noun(1, 7), noun(1, (1, 2))):
            assert jets(f"two/{name}", sample) == PUNT, name
    for name in ("cat", "cut", "rev"):
        assert jets(f"two/{name}", noun(1, 2)) == PUNT
        assert jets(f"two/{name}", noun(1, CELL, CELL)) == PUNT
    for name in ("bex", "xeb", "sqt"):
        assert jets(f"two/{name}", CELL) == PUNT
    assert jets("two/rip", noun((3, 0), 0)) == 0
    assert jets("two/rip", noun((3, 0), 5)) == PUNT  # endless


# --- the order of nouns, and jam -----------------------------------------------

NOUNS = st.recursive(NUMBERS, lambda inner: st.builds(Cell, inner, inner), max_leaves=8)


@given(a=NOUNS, b=NOUNS)
def test_orders(jets: Jets, a: Noun, b: Noun) -> None:
    for one, other in ((a, b), (b, a), (a, a)):
        assert jets("two/dor", Cell(one, other)) == _yes(dor(one, other))
        assert jets("two/gor", Cell(one, other)) == _yes(gor(one, other))
        assert jets("two/mor", Cell(one, other)) == _yes(mor(one, other))
    assert jets("two/mug", a) == mug(a)


@given(NOUNS)
def test_jam(jets: Jets, a: Noun) -> None:
    made = int.from_bytes(jam(a), "little")
    assert jets("two/jam", a) == made
    assert jets("two/cue", made) == a


@given(st.integers(0, 127))
def test_cue_of_any_atom(jets: Jets, a: int) -> None:
    try:
        want = cue(a.to_bytes((a.bit_length() + 7) // 8, "little"))
    except ValueError:
        want = CRASH
    assert jets("two/cue", a) == want
    assert jets("two/cue", Cell(a, a)) == PUNT


@given(a=NUMBERS, before=st.integers(0, 90))
def test_lengths(jets: Jets, a: int, before: int) -> None:
    size = a.bit_length()
    width = size.bit_length()
    bits = 1 << width | _low(size, max(width - 1, 0)) << (width + 1)
    if a:
        bits |= a << 2 * width
    total = 2 * width + size if a else 1
    assert jets("two/mat", a) == noun(total, bits)
    assert jets("two/rub", noun(before, bits << before)) == noun(total, a)
    assert jets("two/rub", noun(before + total + 400, bits)) == CRASH
    assert jets("two/rub", noun(CELL, 1)) == PUNT
    assert jets("two/mat", CELL) == PUNT
