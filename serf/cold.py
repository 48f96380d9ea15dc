"""Jet state between Vere's form and ours: what a rock carries beside the kernel.

What it is: two functions on nouns, each other's inverse up to what neither runtime
    minds (order, and entries that nothing can be matched with).
Invariants: no recursion; what does not fit raises BadCold, whoever made it.
Limits: ENTRIES_MAX entries, as native/jet.c has it.

Ours (native/jet.h): a list, newest first, of
    [battery name axis parent payload hooks]
where parent is 1 + the place of the parent's entry, counted from the oldest, or 0
for a root; hooks are the %fast hint's, a list of [term formula].

Vere's (spec/noun.md 6.1): a list of [battery hash roots parents], with
    hash      SHA-256 of the battery's jam
    roots     map of payload to location
    parents   list, by axis, of [axis map of parent's location to location]
    location  [pattern name hooks], the hooks a map of term to formula
    pattern   [& & payload], [& | location] (static: the parent is at axis 3, and
              static), or [| axis location]
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cmp_to_key

from proto.errors import ProtoError
from proto.jam import jam
from proto.mug import mug
from proto.noun import Cell, Noun, items, listed, noun

__all__ = ["BadCold", "from_vere", "to_vere"]

ENTRIES_MAX = 1 << 20
_YES, _NO = 0, 1
_CONTEXT = 3
"""The axis at which a static core has its parent."""
_MAP_DEPTH_MAX = 1 << 16


class BadCold(Exception):
    """It is no jet state; in words."""


# --- maps ---------------------------------------------------------------------


def _dor(a: Noun, b: Noun) -> bool:
    """Order by depth: is `a` before `b`?"""
    while True:
        if isinstance(a, int):
            return isinstance(b, Cell) or a < b
        if isinstance(b, int):
            return False
        if a.head == b.head:
            a, b = a.tail, b.tail
        else:
            a, b = a.head, b.head


def _before(a: Noun, b: Noun, first: int, second: int) -> bool:
    return first < second if first != second else _dor(a, b)


def make_map(pairs: Iterable[tuple[Noun, Noun]]) -> Noun:
    """The treap of +by: sorted by +gor, heaped by +mor."""
    rows = [(key, value, mug(key), mug(mug(key))) for key, value in dict(pairs).items()]

    def gor(a: tuple[Noun, Noun, int, int], b: tuple[Noun, Noun, int, int]) -> int:
        return -1 if _before(a[0], b[0], a[2], b[2]) else 1

    rows.sort(key=cmp_to_key(gor))
    # Left to right; the right spine of what is built so far, from the top.
    spine: list[tuple[tuple[Noun, Noun, int, int], Noun]] = []
    for row in rows:
        left: Noun = 0
        while spine and _before(row[0], spine[-1][0][0], row[3], spine[-1][0][3]):
            (key, value, _, _), under = spine.pop()
            left = noun((key, value), under, left)
        spine.append((row, left))
    right: Noun = 0
    while spine:
        (key, value, _, _), left = spine.pop()
        right = noun((key, value), left, right)
    return right


def _pairs(tree: Noun) -> Iterator[tuple[Noun, Noun]]:
    """Of a map, in whatever order.

    :raises BadCold: it is none
    """
    waiting = [tree]
    while waiting:
        if len(waiting) > _MAP_DEPTH_MAX:
            raise BadCold("a map in it is too deep")
        node = waiting.pop()
        match node:
            case 0:
                pass
            case Cell(head=Cell() as pair, tail=Cell() as sides):
                yield pair.head, pair.tail
                waiting += (sides.head, sides.tail)
            case _:
                raise BadCold("a map in it is none")


def _rows(tree: Noun) -> Iterator[Noun]:
    try:
        yield from items(tree)
    except (ProtoError, ValueError) as error:
        raise BadCold("a list in it is none") from error


# --- out ----------------------------------------------------------------------


def to_vere(cold: Noun) -> Noun:
    """Our jet state as Vere's.

    :raises BadCold: it is not ours
    """
    entries = [_entry(row) for row in _rows(cold)][::-1]
    locations: list[Noun] = []
    static: list[bool] = []
    roots: dict[Noun, list[tuple[Noun, Noun]]] = defaultdict(list)
    parents: dict[Noun, dict[int, list[tuple[Noun, Noun]]]] = defaultdict(dict)
    for place, (battery, name, axis, parent, payload, hooks) in enumerate(entries):
        if not axis:
            still, pattern = True, noun(_YES, _YES, payload)
        elif parent > place:
            raise BadCold("an entry stands before its parent")
        else:
            above = locations[parent - 1]
            still = axis == _CONTEXT and static[parent - 1]
            pattern = noun(_YES, _NO, above) if still else noun(_NO, axis, above)
        location = noun(pattern, name, make_map(_hooks(hooks)))
        locations.append(location)
        static.append(still)
        if not axis:
            roots[battery].append((payload, location))
        else:
            parents[battery].setdefault(axis, []).append(
                (locations[parent - 1], location)
            )
    made = []
    for battery in dict.fromkeys(entry[0] for entry in entries):
        by_axis = [
            noun(axis, make_map(pairs))
            for axis, pairs in sorted(parents[battery].items())
        ]
        registry = noun(make_map(roots[battery]), listed(by_axis))
        digest = hashlib.sha256(jam(battery)).digest()
        made.append(noun(battery, int.from_bytes(digest, "little"), registry))
    return listed(made)


def _entry(row: Noun) -> tuple[Noun, Noun, int, int, Noun, Noun]:
    match row:
        case Cell(
            head=battery,
            tail=Cell(
                head=name,
                tail=Cell(
                    head=int(axis),
                    tail=Cell(head=int(parent), tail=Cell(head=payload, tail=hooks)),
                ),
            ),
        ) if bool(axis) == bool(parent):
            return battery, name, axis, parent, payload, hooks
    raise BadCold("an entry of ours has another shape")


def _hooks(hooks: Noun) -> list[tuple[Noun, Noun]]:
    """Of a %fast hint: names and formulas; what is none is left out, as the
    machine does."""
    found: dict[Noun, Noun] = {}
    while isinstance(hooks, Cell):
        if isinstance(hooks.head, Cell):
            found.setdefault(hooks.head.head, hooks.head.tail)
        hooks = hooks.tail
    return list(found.items())


# --- in -----------------------------------------------------------------------


def from_vere(cold: Noun) -> Noun:
    """Vere's jet state as ours.

    :raises BadCold: it is not Vere's
    """
    made: list[Noun] = []
    by_location: dict[Noun, list[int]] = defaultdict(list)
    waiting: dict[Noun, list[tuple[Noun, int, Noun]]] = defaultdict(list)
    fresh: list[Noun] = []

    def add(
        battery: Noun, axis: int, parent: int, payload: Noun, location: Noun
    ) -> None:
        if len(made) == ENTRIES_MAX:
            raise BadCold("it has too many entries")
        name, hooks = _named(location)
        made.append(noun(battery, name, axis, parent, payload, hooks))
        by_location[location].append(len(made))
        fresh.append(location)

    for row in _rows(cold):
        match row:
            case Cell(
                head=battery,
                tail=Cell(head=int(), tail=Cell(head=roots, tail=parents)),
            ):
                pass
            case _:
                raise BadCold("an entry of it has another shape")
        for payload, location in _pairs(roots):
            add(battery, 0, 0, payload, location)
        for pair in _rows(parents):
            if not isinstance(pair, Cell) or not isinstance(pair.head, int):
                raise BadCold("a parent in it has no axis")
            if not _CONTEXT <= pair.head < 1 << 30:
                raise BadCold(f"a parent in it is at axis {pair.head}")
            for above, location in _pairs(pair.tail):
                waiting[above].append((battery, pair.head, location))
    # A child is an entry under each of its parent's; parents come first.
    done: dict[Noun, int] = defaultdict(int)
    while fresh:
        above = fresh.pop()
        places = by_location[above]
        for place in places[done[above] :]:
            for battery, axis, location in waiting.get(above, ()):
                add(battery, axis, place, 0, location)
        done[above] = len(places)
    return listed(reversed(made))


def _named(location: Noun) -> tuple[Noun, Noun]:
    match location:
        case Cell(head=Cell(), tail=Cell(head=name, tail=hooks)):
            return name, listed([Cell(*pair) for pair in _pairs(hooks)])
    raise BadCold("a location in it has another shape")
