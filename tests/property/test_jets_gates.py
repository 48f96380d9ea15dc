"""Arms on lists, sets and maps that call gates: against Python, and real Hoon."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto.noun import Cell, Noun, noun
from tests.property.test_jets_maps import map_of, set_of
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


# --- sets and maps -----------------------------------------------------------

PAIRS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3)), max_size=20)
# Gates of [item state]: [item state] itself; of a value: a loobean of it, no
# loobean, its successor (a crash on a cell).
KEEP = noun((0, 6), (0, 9), 0)
LOOBEAN = noun((6, (5, (1, 2), 0, 6), (1, 1), 1, 0), 0, 0)
ODD = noun((6, (5, (1, 2), 0, 6), (1, 7), 1, 0), 0, 0)
MORE = noun((4, 0, 6), 0, 0)
SAMPLE = noun((0, 6), 0, 0)


def _preorder(tree: Noun) -> list[Noun]:
    found, waiting = [], [tree]
    while waiting:
        match waiting.pop():
            case Cell(head=item, tail=Cell(head=left, tail=right)):
                found.append(item)
                waiting += [right, left]
    return found


@given(PAIRS)
def test_maps(jets: Jets, pairs: list[tuple[int, int]]) -> None:
    held = dict(pairs)
    door = map_of([(key, value) for key, value in pairs])
    values = list(held.values())
    assert jets("two/by/all", LOOBEAN, door) == int(2 in values)
    assert jets("two/by/any", LOOBEAN, door) == int(all(v == 2 for v in values))
    made = map_of([(key, value + 1) for key, value in held.items()])
    assert jets("two/by/run", MORE, door) == made
    made = map_of([(key, Cell(key, value)) for key, value in held.items()])
    assert jets("two/by/urn", SAMPLE, door) == made
    state: Noun = 9
    for item in _preorder(door):
        state = Cell(item, state)
    assert jets("two/by/rep", KEEP, door) == state
    for key in (*held, 41):
        want: Noun = CRASH
        if key in held:
            want = map_of([*pairs, (key, held[key] + 1)])
        assert jets("two/by/jab", noun(key, MORE), door) == want


@given(st.lists(st.integers(0, 3), max_size=9), st.lists(st.integers(4, 60)))
def test_sets(jets: Jets, few: list[int], many: list[int]) -> None:
    some = set(few) | set(many)
    door = set_of(list(some))
    assert jets("two/in/all", LOOBEAN, door) == int(2 in some)
    assert jets("two/in/any", LOOBEAN, door) == int(not some - {2})
    assert jets("two/in/run", MORE, door) == set_of([each + 1 for each in some])
    assert jets("two/in/run", FIVE, door) == (set_of([5]) if some else 0)
    state: Noun = 9
    for item in _preorder(door):
        state = Cell(item, state)
    assert jets("two/in/rep", KEEP, door) == state


def test_trees_that_are_none(jets: Jets) -> None:
    for name in ("by/all", "by/any", "by/run", "by/urn", "in/all", "in/any", "in/run"):
        assert jets(f"two/{name}", LOOBEAN, 7) == CRASH
        for gate in (7, noun((9, 9), 0, 0), noun(1, 1)):
            door = noun((1, 2), 0, 0)
            assert jets(f"two/{name}", gate, door) == CRASH
            assert jets(f"two/{name}", gate, 0) in (0, 1)
    for name in ("by/run", "by/urn", "in/run"):
        for door in (noun(1, 2), noun((1, 2), 3), noun((1, 2), 0, 7)):
            assert jets(f"two/{name}", SAMPLE, door) == CRASH
    # What was decided before a broken place is the answer.
    broken = noun((1, 2), (3, 4), 5)
    assert jets("two/by/all", LOOBEAN, broken) == 1
    assert jets("two/by/any", LOOBEAN, broken) == CRASH
    assert jets("two/by/any", SAMPLE, noun((1, 0), 7, 7)) == 0
    assert jets("two/by/all", ODD, noun((1, 2), 0, 0)) == CRASH
    assert jets("two/by/jab", noun(1, MORE), 0) == CRASH
    assert jets("two/by/jab", noun(1, MORE), noun((1, 2), 7)) == noun((1, 3), 7)
    assert jets("two/in/rep", noun((0, 6), 0, 0), 0) == CRASH


def test_little_memory() -> None:
    small = Jets(nursery_size=1 << 20)
    pairs: list[tuple[Noun, Noun]] = [(n, n) for n in range(1000)]
    want = map_of([(n, n + 1) for n in range(1000)])
    assert small("two/by/run", MORE, map_of(pairs)) == want
    assert len(_preorder(small("two/in/run", MORE, set_of(list(range(1000)))))) == 1000


@pytest.mark.timeout(600)
def test_real_trees_agree(jets: Jets) -> None:
    kernel = real_kernel()
    pairs: list[tuple[Noun, Noun]] = [(n * 7, n % 4) for n in range(14)]
    cases: dict[str, tuple[Noun, list[Noun]]] = {
        "by/all": (map_of(pairs), [LOOBEAN, FIVE, noun((1, 0), 0, 0)]),
        "by/any": (map_of(pairs), [LOOBEAN, FIVE, noun((1, 1), 0, 0)]),
        "by/rep": (map_of(pairs), [KEEP, FIVE, 7]),
        "by/run": (map_of(pairs), [MORE, FIVE, 7]),
        "by/urn": (map_of(pairs), [SAMPLE, FIVE, MORE]),
        "by/jab": (
            map_of(pairs),
            [noun(7, MORE), noun(91, FIVE), noun(0, MORE), noun(1, MORE)],
        ),
        "in/all": (set_of([n for n, _ in pairs]), [LOOBEAN, FIVE]),
        "in/any": (set_of([n for n, _ in pairs]), [LOOBEAN, FIVE]),
        "in/rep": (set_of([n for n, _ in pairs]), [KEEP, FIVE]),
        "in/run": (set_of([n for n, _ in pairs]), [MORE, FIVE]),
    }
    for path, (door, samples) in cases.items():
        for tree in (door, 0):
            got = [jets(f"two/{path}", sample, tree) for sample in samples]
            assert got == kernel(f"two/{path}", samples, tree), path
