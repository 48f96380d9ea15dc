"""murn, skid and sort, which call gates: against Python, and real Hoon."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto.noun import Noun, noun
from tests.support.jets import CRASH, Jets, real_kernel

ITEMS = st.lists(st.integers(0, 6), max_size=12)

# Gates, as [formula sample context]; their samples are items, or two of them.
IS_TWO = noun((5, (1, 2), 0, 6), 0, 0)
SAME = noun((5, (0, 12), 0, 13), 0, 0)
HEADS = noun((5, (0, 24), 0, 26), 0, 0)  # are the heads the same?
NOT_SAME = noun((6, (5, (0, 12), 0, 13), (1, 1), 1, 0), 0, 0)
# A unit of the item's successor; none of what is 2; a crash on a cell.
NEXT = noun((6, (5, (1, 2), 0, 6), (1, 0), (1, 0), 4, 0, 6), 0, 0)
FIVE = noun((1, 5), 0, 0)


def _below(limit: int) -> Noun:
    """Is the first of two numbers less? By comparing with 0, 1, 2 ..."""
    formula: Noun = noun(1, 1)
    for number in range(limit, -1, -1):
        here = noun(6, (5, (1, number), 0, 13), (1, 1), formula)
        formula = noun(6, (5, (1, number), 0, 12), (5, (1, 1), 5, (0, 12), 0, 13), here)
    return noun(formula, 0, 0)


LESS = _below(8)


@pytest.fixture(scope="module")
def jets() -> Jets:
    return Jets()


def _quick(values: list[Noun], before: object) -> list[Noun]:
    """Hoon's own way: the pivot is the first."""
    if not values:
        return []
    pivot, rest = values[0], values[1:]
    assert callable(before)
    low = [each for each in rest if before(each, pivot)]
    high = [each for each in rest if not before(each, pivot)]
    return [*_quick(low, before), pivot, *_quick(high, before)]


@given(ITEMS)
def test_murn_and_skid(jets: Jets, values: list[Noun]) -> None:
    want = noun([each + 1 for each in values if isinstance(each, int) and each != 2])
    assert jets("two/murn", noun(values, NEXT)) == want
    twos = [each for each in values if each == 2]
    others = [each for each in values if each != 2]
    assert jets("two/skid", noun(values, IS_TWO)) == noun(twos, others)


@given(ITEMS)
def test_sort(jets: Jets, values: list[Noun]) -> None:
    assert jets("two/sort", noun(values, LESS)) == noun(sorted(values))
    # No order at all: still call for call what Hoon's quicksort makes of it.
    for gate, before in (
        (SAME, lambda a, b: a == b),
        (NOT_SAME, lambda a, b: a != b),
    ):
        want = noun(_quick(values, before))
        assert jets("two/sort", noun(values, gate)) == want


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), max_size=12))
def test_sort_of_equals(jets: Jets, pairs: list[tuple[int, int]]) -> None:
    values: list[Noun] = [noun(*pair) for pair in pairs]
    want = noun(_quick(values, lambda a, b: a.head == b.head))
    assert jets("two/sort", noun(values, HEADS)) == want


def test_crashes(jets: Jets) -> None:
    for name in ("murn", "skid", "sort"):
        assert jets(f"two/{name}", noun((1, 2), IS_TWO)) == CRASH
        assert jets(f"two/{name}", noun(7, IS_TWO)) == CRASH
        assert jets(f"two/{name}", noun([1, 1], FIVE)) == CRASH
    assert jets("two/murn", noun([(1, 1)], NEXT)) == CRASH
    assert jets("two/sort", noun([4], FIVE)) == noun([4])
    assert jets("two/sort", noun(0, 0)) == 0
    assert jets("two/skid", noun(0, 0)) == noun(0, 0)


def test_long_lists(jets: Jets) -> None:
    dice = random.Random(6)
    values: list[Noun] = [dice.randrange(8) for _ in range(3000)]
    assert jets("two/sort", noun(values, LESS)) == noun(sorted(values))
    ordered: list[Noun] = list(range(500))
    assert jets("two/sort", noun(ordered, SAME)) == noun(ordered)


@pytest.mark.timeout(600)
def test_real_hoon_agrees(jets: Jets) -> None:
    kernel, dice = real_kernel(), random.Random(7)
    gates = {"murn": [NEXT], "skid": [IS_TWO, FIVE], "sort": [LESS, SAME, NOT_SAME]}
    for name, choices in gates.items():
        samples: list[Noun] = [
            noun([dice.randrange(7) for _ in range(dice.randrange(9))], gate)
            for gate in choices
            for _ in range(15)
        ]
        samples += [noun((1, 2), IS_TWO)]
        for sample, want in zip(samples, kernel(f"two/{name}", samples), strict=True):
            assert jets(f"two/{name}", sample) == want, (name, sample)
