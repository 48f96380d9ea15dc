"""Jet state in Vere's form and in ours."""

from __future__ import annotations

import contextlib
import hashlib
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proto.jam import jam
from proto.mug import mug
from proto.noun import Cell, Noun, items, listed, noun
from serf.cold import BadCold, from_vere, make_map, to_vere

HOOKS = noun([noun("vast", 9, 22, 0, 1), noun("ream", 0, 5)])


def battery(name: str) -> Noun:
    return noun(1, name)


def ours() -> Noun:
    """A root, a layer, two arms in it, a dynamic one, and the first arm compiled
    another time."""
    rows = [
        noun(battery("k"), "k139", 0, 0, 139, 0),
        noun(battery("one"), "one", 3, 1, 0, HOOKS),
        noun(battery("add"), "add", 7, 2, 0, 0),
        noun(battery("dec"), noun("dec", 2), 7, 2, 0, 0),
        noun(battery("two"), "two", 3, 2, 0, 0),
        noun(battery("add2"), "add", 7, 2, 0, 0),
    ]
    return listed(reversed(rows))


def meaning(cold: Noun) -> set[tuple[Noun, ...]]:
    """What an entry says, with its parent's instead of a number."""
    entries = list(items(cold))[::-1]
    said: list[Noun] = []
    for entry in entries:
        assert isinstance(entry, Cell)
        name, axis, parent, payload, hooks = parts(entry.tail)
        above = said[parent - 1] if parent else 0
        named = tuple(sorted(jam(hook) for hook in items(hooks)))
        pairs = listed([int.from_bytes(one, "little") for one in named])
        said.append(noun(entry.head, name, axis, above, payload, pairs))
    return {(one,) for one in said}


def parts(tail: Any) -> tuple[Any, ...]:
    return tail.head, tail.tail.head, tail.tail.tail.head, *pair(tail.tail.tail.tail)


def pair(cell: Any) -> tuple[Any, Any]:
    return cell.head, cell.tail


def test_there_and_back() -> None:
    cold = ours()
    again = from_vere(to_vere(cold))
    assert meaning(again) == meaning(cold)
    assert len(list(items(again))) == 6
    assert from_vere(0) == to_vere(0) == 0


def test_veres_form_is_that_of_the_specification() -> None:
    entries: dict[Noun, Any] = {}
    for entry in items(to_vere(ours())):
        assert isinstance(entry, Cell)
        entries[entry.head] = entry.tail
    digest, (roots, parents) = (
        pair(entries[battery("k")])[0],
        pair(entries[battery("k")].tail),
    )
    data = jam(battery("k"))
    assert digest == int.from_bytes(hashlib.sha256(data).digest(), "little")
    root = noun((0, 0, 139), "k139", 0)
    assert roots == noun((139, root), 0, 0)
    assert parents == 0
    one = noun((0, 1, root), "one", make_map(pair(hook) for hook in items(HOOKS)))
    assert entries[battery("one")].tail == noun(0, [noun(3, noun((root, one), 0, 0))])
    add = noun((1, 7, one), "add", 0)
    assert entries[battery("add")].tail == noun(0, [noun(7, noun((one, add), 0, 0))])


def test_a_parent_of_two_batteries_has_children_twice() -> None:
    """Where a layer was compiled again, an arm may be found in either."""
    vere = to_vere(ours())
    entries = list(items(vere))
    found = next(e for e in entries if isinstance(e, Cell) and e.head == battery("one"))
    assert isinstance(found, Cell)
    twin = Cell(battery("one-again"), found.tail)
    cold = from_vere(listed([*entries, twin]))
    names = [parts(row.tail)[0] for row in items(cold) if isinstance(row, Cell)]
    add = int.from_bytes(b"add", "little")
    assert names.count(add) == 4


def test_maps_are_hoons() -> None:
    pairs = [(number, number * number) for number in range(300)]
    random.Random(1).shuffle(pairs)
    tree = make_map(pairs)
    waiting, seen = [(tree, None, None, None)], 0
    while waiting:
        node, low, high, above = waiting.pop()
        if node == 0:
            continue
        assert isinstance(node, Cell)
        assert isinstance(node.head, Cell)
        key = node.head.head
        assert node.head.tail == key * key
        order = mug(key)
        assert low is None or low < order
        assert high is None or order < high
        assert above is None or above < mug(order)
        left, right = pair(node.tail)
        waiting += [(left, low, order, mug(order)), (right, order, high, mug(order))]
        seen += 1
    assert seen == 300


_atoms = st.integers(0, 300)
_nouns = st.recursive(_atoms, lambda part: st.builds(Cell, part, part), max_leaves=30)


@settings(max_examples=300, deadline=None)
@given(_nouns, st.integers(0, 5))
def test_strange_nouns_are_refused_in_words(strange: Noun, where: int) -> None:
    """Alone, and in the place of a part of a good one."""
    good = to_vere(ours())
    for tree in (strange, listed([strange]), _put(good, where, strange)):
        with contextlib.suppress(BadCold):
            meaning(from_vere(tree))
    for tree in (strange, listed([strange]), _put(ours(), where, strange)):
        with contextlib.suppress(BadCold):
            from_vere(to_vere(tree))


def _put(tree: Noun, where: int, part: Noun) -> Noun:
    path, node = [], tree
    for _ in range(3 + where):
        if not isinstance(node, Cell):
            break
        path.append(node)
        node = node.head if len(path) % 2 else node.tail
    while path:
        above = path.pop()
        part = Cell(part, above.tail) if len(path) % 2 == 0 else Cell(above.head, part)
    return part


def test_depth_is_nobodys_end() -> None:
    deep: Noun = 0
    for _ in range(100_000):
        deep = noun((1, 2), deep, 0)
    with pytest.raises(BadCold):
        from_vere(listed([noun(1, 2, deep, 0)]))
