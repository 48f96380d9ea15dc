"""+loot, an arm by name in a core's chapters: against Python, and real Hoon."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto.noun import Cell, Noun, noun
from tests.property.test_jets_maps import map_of
from tests.support.jets import PUNT, Jets, real_kernel
from tests.support.oracle import library

LOOT = "pen/loot"
NAMES = range(24)
NEWEST, OLDEST = Jets(kelvin=135), Jets(kelvin=138)


def _under(axis: int, step: int) -> int:
    """The axis below [axis] of 2, 3, 6 or 7."""
    bits = step.bit_length() - 1
    return axis << bits | step - (1 << bits)


def _places(tree: Noun, axis: int = 1) -> Iterator[tuple[Noun, int, Noun]]:
    """(key, axis, value) of a map's items, as a battery is laid out."""
    if not isinstance(tree, Cell):
        return
    assert isinstance(tree.head, Cell)
    assert isinstance(tree.tail, Cell)
    left, right = tree.tail.head, tree.tail.tail
    here = axis if left == 0 and right == 0 else _under(axis, 2)
    yield tree.head.head, here, tree.head.tail
    yield from _places(left, _under(axis, 6 if right else 3))
    yield from _places(right, _under(axis, 7 if left else 3))


def _loot(name: int, chapters: Noun) -> Noun:
    for _, axis, chapter in _places(chapters):
        for key, place, arm in _places(chapter, axis):
            if key == name:
                return noun(0, place, arm)
    return 0


def _chapters(rng: random.Random) -> Noun:
    """A map of maps of arms: 135's."""
    made: dict[Noun, Noun] = {}
    for _ in range(rng.randrange(6)):
        some = rng.sample(NAMES, rng.randrange(7))
        made[rng.choice(NAMES)] = map_of([(each, noun(each, "arm")) for each in some])
    return map_of(list(made.items()))


def _called(chapters: Noun) -> Noun:
    """The same with what each chapter is called, as it was until 136."""
    if not isinstance(chapters, Cell):
        return chapters
    assert isinstance(chapters.head, Cell)
    assert isinstance(chapters.tail, Cell)
    item = noun(chapters.head.head, 5, chapters.head.tail)
    left, right = _called(chapters.tail.head), _called(chapters.tail.tail)
    return noun(item, left, right)


@given(seed=st.integers(0, 1 << 32))
def test_arms_are_where_the_battery_has_them(seed: int) -> None:
    chapters = _chapters(random.Random(seed))
    for name in NAMES:
        want = _loot(name, chapters)
        assert NEWEST(LOOT, noun(name, chapters)) == want
        assert OLDEST(LOOT, noun(name, _called(chapters))) == want


def test_other_shapes_are_left_to_nock() -> None:
    odd: list[Noun] = [5, noun(1, 5), noun(1, 2, 3), noun(1, (2, 3), 4)]
    for sample in odd:
        assert NEWEST(LOOT, sample) == PUNT, sample
        assert OLDEST(LOOT, sample) == PUNT, sample
    # An atom for a chapter; another one that the search comes to.
    assert OLDEST(LOOT, noun(1, (2, 0), 0, 0)) == PUNT
    assert NEWEST(LOOT, noun(1, (2, 3), 0, 0)) == PUNT
    assert Jets(kelvin=139)(LOOT, noun(1, 0)) == PUNT


def test_loot_of_138_is_what_its_nock_says() -> None:
    kernel, rng = real_kernel(), random.Random(5)
    cases: list[Noun] = [
        Cell(name, _called(chapters))
        for chapters in [_chapters(rng) for _ in range(20)]
        for name in NAMES
    ]
    assert [OLDEST(LOOT, case) for case in cases] == kernel(LOOT, cases)


@pytest.mark.timeout(900)  # compiles, with nothing kept yet
def test_loot_of_135_is_what_its_nock_says() -> None:
    hoon, rng = library("bytestream"), random.Random(6)
    cases: list[Noun] = [
        Cell(name, chapters)
        for chapters in [_chapters(rng) for _ in range(20)]
        for name in NAMES
    ]
    assert [NEWEST(LOOT, case) for case in cases] == hoon.nock("loot", cases)
    assert hoon.jet("loot", cases[0]) == (LOOT, NEWEST(LOOT, cases[0]))
