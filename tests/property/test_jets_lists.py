"""Arms on lists, trees as lists, and types, names and formulas of the compiler:
each jet against Python. Real Hoon is asked in test_jets_bits.py, test_jets_gates.py
and test_jets_maps.py."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto.cord import cord
from proto.jam import cue, jam
from proto.noun import Cell, Noun, noun
from serf.engine import Crashed
from tests.property.test_jets_gates import FIVE, IS_TWO, KEEP, MORE
from tests.property.test_jets_maps import map_of, set_of
from tests.support.jets import CRASH, PUNT, Jets

SMALL = st.integers(0, 4)
ITEMS = st.lists(SMALL, max_size=8)
COUNTS = st.integers(0, 9) | st.just(1 << 70)
CELL = noun(1, 2)


@pytest.fixture(scope="module")
def jets() -> Jets:
    return Jets()


# --- lists ---------------------------------------------------------------------


@given(a=ITEMS, b=ITEMS, at=COUNTS)
def test_lists(jets: Jets, a: list[Noun], b: list[Noun], at: int) -> None:
    assert jets("two/flop", noun(a)) == noun(a[::-1])
    assert jets("two/lent", noun(a)) == len(a)
    assert jets("two/weld", noun(a, b)) == noun([*a, *b])
    assert jets("two/snag", noun(at, a)) == (a[at] if at < len(a) else CRASH)
    assert jets("two/scag", noun(at, a)) == noun(a[:at])
    assert jets("two/slag", noun(at, a)) == noun(a[at:])
    assert jets("two/reap", noun(len(a), CELL)) == noun([CELL] * len(a))
    assert jets("two/zing", noun([noun(a), noun(b), noun(a)])) == noun([*a, *b, *a])


def test_what_is_no_list(jets: Jets) -> None:
    for bad in (7, CELL):
        for name in ("flop", "lent", "zing"):
            assert jets(f"two/{name}", bad) == PUNT
        for name in ("scag", "slag", "snag"):
            assert jets(f"two/{name}", noun(9, bad)) == PUNT
        assert jets("two/weld", noun(bad, 0)) == PUNT
        assert jets("two/zing", noun([bad])) == PUNT
    for name in ("scag", "slag", "snag", "reap"):
        assert jets(f"two/{name}", noun(CELL, 0)) == PUNT


@given(ITEMS)
def test_lists_and_gates(jets: Jets, values: list[Noun]) -> None:
    twos: list[Noun] = [each for each in values if each == 2]
    others: list[Noun] = [each for each in values if each != 2]
    more: list[Noun] = [each + 1 for each in values if isinstance(each, int)]
    assert jets("two/turn", noun(values, MORE)) == noun(more)
    assert jets("two/skim", noun(values, IS_TWO)) == noun(twos)
    assert jets("two/skip", noun(values, IS_TWO)) == noun(others)
    assert jets("two/levy", noun(values, IS_TWO)) == (1 if others else 0)
    assert jets("two/lien", noun(values, IS_TWO)) == (0 if twos else 1)
    for path, order in (("two/roll", values), ("two/reel", values[::-1])):
        state: Noun = 9
        for each in order:
            state = Cell(each, state)
        assert jets(path, noun(values, KEEP)) == state


def test_gates_that_crash(jets: Jets) -> None:
    for name in ("turn", "skim", "skip", "levy", "lien", "roll", "reel"):
        for bad in (7, noun((1, 1), 3)):
            gate = KEEP if name in ("roll", "reel") else IS_TWO
            got = jets(f"two/{name}", noun(bad, gate))
            assert got in (CRASH, PUNT) or name in ("levy", "lien")
        assert jets(f"two/{name}", noun([1, 2], 7)) == CRASH
    for name in ("skim", "skip", "levy", "lien"):
        assert jets(f"two/{name}", noun([1], FIVE)) == CRASH  # 5 is no loobean


# --- trees as lists ------------------------------------------------------------


def _tap(tree: Noun) -> list[Noun]:
    """What is right comes first."""
    if not isinstance(tree, Cell):
        return []
    assert isinstance(tree.tail, Cell)
    return [*_tap(tree.tail.tail), tree.head, *_tap(tree.tail.head)]


def _wyt(jets: Jets, door: str, tree: Noun) -> Noun:
    """A trap right in the door."""
    root, two = noun("k", 138), noun((1, 0, 9), 0, 1)
    formula = noun(11, ("fast", 1, root, (1, 0), 0), (1, 0, 0), 1, 138)
    for name, parent, core in (
        ("two", 3, two),
        (door, 7, noun((1, 9, 9), (1, tree), 0, 1)),
        ("wyt", 3, noun((1, 11, noun("wyt"), 1, PUNT), 0, 1)),
    ):
        hint = noun("fast", 1, noun(name), (0, parent), 0)
        formula = noun(7, formula, 11, hint, core)
    answer = jets.engine.nock(jam(Cell(0, noun(7, formula, 9, 2, 0, 1))), True)
    assert not isinstance(answer, Crashed)
    return cue(answer.jam)


@given(st.lists(st.tuples(st.integers(0, 60), SMALL), max_size=20))
def test_trees(jets: Jets, pairs: list[tuple[int, int]]) -> None:
    held = dict(pairs)
    tree, keys = map_of([(k, v) for k, v in pairs]), set_of(list(held))
    assert jets("two/by/tap", 0, tree) == noun(_tap(tree))
    assert jets("two/by/key", 0, tree) == keys
    assert jets("two/in/tap", 0, keys) == noun(_tap(keys))
    assert _wyt(jets, "by", tree) == len(held)
    assert _wyt(jets, "in", keys) == len(held)


def test_what_is_no_tree(jets: Jets) -> None:
    for bad in (7, CELL, noun((1, 2), 0, 7)):
        for path in ("two/by/tap", "two/by/key"):
            assert jets(path, 0, bad) == PUNT
        assert jets("two/in/tap", 0, bad) == PUNT
        assert _wyt(jets, "by", bad) == PUNT


# --- types, names, formulas ----------------------------------------------------

TYPES = st.sampled_from([cord("void"), cord("noun"), noun("atom", "ud", 0), CELL])


@given(a=TYPES, b=TYPES)
def test_types(jets: Jets, a: Noun, b: Noun) -> None:
    void = cord("void")
    empty = void in (a, b)
    assert jets("pen/cell", Cell(a, b)) == (void if empty else noun("cell", a, b))
    assert jets("pen/core", Cell(a, b)) == (void if a == void else noun("core", a, b))
    assert jets("pen/face", Cell(7, b)) == (void if b == void else noun("face", 7, b))


@given(st.lists(TYPES, max_size=5), st.lists(st.integers(0, 9), max_size=5))
def test_fork(jets: Jets, types: list[Noun], more: list[Noun]) -> None:
    listed = [*types, noun("fork", set_of(more))] if more else types
    held = {each for each in types if each != cord("void")} | set(more)
    want: Noun = cord("void")
    if len(held) > 1:
        want = noun("fork", set_of(list(held)))
    elif held:
        want = held.pop()
    assert jets("pen/fork", noun(listed)) == want


# What +ut remembers. A gate of it: [formula sample ut], where ut is
# [battery subject [fan rib vet] pen].
REMEMBERED = ("crop", "fish", "fuse", "mint", "mull", "redo", "rest")
SUBJECT, FAN, VET = 30, 7 << 4 | 28 - 16, 7 << 5 | 59 - 32


def _asks(name: str, vet: int, fan: int, subject: Noun, sample: Noun) -> Noun:
    """A formula. The gate's Nock answers with all that its answer may depend on."""
    body = noun((0, 6), (0, SUBJECT), (0, VET), (0, FAN) if name == "mull" else (1, 0))
    ut = noun((1, 9, 9), (1, subject), (1, fan, 0, vet), 0, 1)
    gate = noun((1, 11, cord(name), body), (1, sample), 0, 1)
    made = noun(11, ("fast", 1, noun("k", 138), (1, 0), 0), (1, 0, 0), 1, 138)
    for layer, parent, core in (
        ("pen", 3, noun((1, 0, 9), 0, 1)),
        ("ut", 15, ut),
        (name, 7, gate),
    ):
        hint = noun("fast", 1, noun(layer), (0, parent), 0)
        made = noun(7, made, 11, hint, core)
    return noun(7, made, 9, 2, 0, 1)


@given(
    st.sampled_from(REMEMBERED),
    st.lists(st.tuples(*[st.integers(0, 1)] * 4), min_size=2, max_size=8),
)
def test_what_is_remembered(
    jets: Jets, name: str, calls: list[tuple[int, int, int, int]]
) -> None:
    # Twice, in one event: what one leaves, the next one finds.
    formula: Noun = noun(1, 0)
    wants: list[Noun] = []
    for vet, fan, subject, sample in (*calls, *calls):
        formula = Cell(_asks(name, vet, fan, subject, sample), formula)
        wants.append(noun(sample, subject, vet, fan if name == "mull" else 0))
    answer = jets.engine.nock(jam(Cell(0, formula)), True)
    assert not isinstance(answer, Crashed)
    assert cue(answer.jam) == noun(wants[::-1])
    arms = {arm.path: arm for arm in jets.engine.arms()}
    assert arms[f"pen/ut/{name}"].hits


def _peg(a: int, b: int) -> int:
    steps = b.bit_length() - 1
    return a << steps | b - (1 << steps)


@given(a=st.integers(1, 40), b=st.integers(1, 40), c=st.integers(1, 40))
def test_comb(jets: Jets, a: int, b: int, c: int) -> None:
    slot, other = noun(0, a), noun(4, 0, b)
    assert jets("pen/comb", Cell(slot, noun(0, b))) == noun(0, _peg(a, b))
    call = noun(2, (0, b), 0, c)
    want = noun(2, (0, _peg(a, b)), 0, _peg(a, c))
    assert jets("pen/comb", Cell(slot, call)) == want
    for formula in (other, noun(0, 0), noun(2, other, 0, c)):
        assert jets("pen/comb", Cell(slot, formula)) == noun(7, slot, formula)
    pushed = noun(other, 0, 1)
    assert jets("pen/comb", Cell(pushed, other)) == noun(8, other, other)
    assert jets("pen/comb", Cell(other, noun(0, 1))) == other
    assert jets("pen/comb", Cell(other, slot)) == (
        other if a == 1 else noun(7, other, slot)
    )
    assert jets("pen/comb", 5) == PUNT


def test_cons_and_cond(jets: Jets) -> None:
    assert jets("pen/cons", noun((1, 5), 1, CELL)) == noun(1, 5, CELL)
    for sample in (noun((0, 5), 1, 6), noun((1, 5), 0, 6), noun(((1, 5), 1, 6), 1, 7)):
        assert jets("pen/cons", sample) == sample
    yes, no = noun(0, 2), noun(0, 3)
    assert jets("pen/cond", noun((1, 0), yes, no)) == yes
    assert jets("pen/cond", noun((1, 1), yes, no)) == no
    assert jets("pen/cond", noun((0, 0), yes, no)) == noun(0, 0)
    assert jets("pen/cond", noun((1, 2), yes, no)) == noun(6, (1, 2), yes, no)
    assert jets("pen/cons", 5) == PUNT
    assert jets("pen/cond", 5) == PUNT


def _aura(name: str) -> tuple[int, str]:
    size = ord(name[-1]) - 64 if name[-1:].isupper() else 0
    return size, name[:-1] if size else name


AURAS = st.text("tasud", max_size=3) | st.sampled_from(["D", "uxD", "uxE", "uE", "tD"])


@given(AURAS, AURAS)
def test_fitz(jets: Jets, a: str, b: str) -> None:
    (size, name), (other_size, other) = _aura(a), _aura(b)
    common = min(len(name), len(other))
    fits = name[:common] == other[:common]
    fits &= size == 0 or other_size == 0 or other_size <= size
    assert jets("pen/fitz", noun(cord(a), cord(b))) == (0 if fits else 1)


def _arms(tree: Noun, axis: int = 1) -> dict[Noun, int]:
    """Where a battery of a map's arms has each."""
    if not isinstance(tree, Cell):
        return {}
    assert isinstance(tree.head, Cell)
    assert isinstance(tree.tail, Cell)
    left, right = tree.tail.head, tree.tail.tail
    alone = left == 0 and right == 0
    below = (6, 7) if left != 0 and right != 0 else (3, 3)
    here = {tree.head.head: axis if alone else _peg(axis, 2)}
    here |= _arms(left, _peg(axis, below[0]))
    return here | _arms(right, _peg(axis, below[1]))


@given(st.lists(st.integers(0, 30), max_size=20), st.integers(0, 31))
def test_look(jets: Jets, names: list[int], name: int) -> None:
    tree = map_of([(each, noun(each, 7)) for each in names])
    axis = _arms(tree).get(name)
    want = 0 if axis is None else noun(0, axis, name, 7)
    assert jets("pen/look", Cell(name, tree)) == want
