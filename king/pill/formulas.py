"""Nock formulas, built: what the compiler says to the machine.

Owns: the small optimisations that are always right: constants joined into one
    literal, chains of slots into one slot, no branch on a constant.
Invariants: pure; formulas in, formulas out.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from proto.noun import Cell, Noun, noun

__all__ = [
    "CRASH",
    "Tree",
    "any_of",
    "branch",
    "cons",
    "constant",
    "fast",
    "peg",
    "slot_of",
    "then",
    "tuple_of",
]

CRASH = noun(0, 0)
"""The formula that crashes: axis 0 does not exist."""


def peg(outer: int, inner: int) -> int:
    """The axis, from the root, of axis `inner` of what is at axis `outer`."""
    width = inner.bit_length() - 1
    return (outer << width) | (inner ^ (1 << width))


def slot_of(axis: int) -> Noun:
    return Cell(0, axis)


def constant(value: Noun) -> Noun:
    return Cell(1, value)


def _is_constant(formula: Noun) -> bool:
    return isinstance(formula, Cell) and formula.head == 1


def _is_slot(formula: Noun) -> bool:
    return isinstance(formula, Cell) and formula.head == 0 and formula != CRASH


def cons(head: Noun, tail: Noun) -> Noun:
    if _is_constant(head) and _is_constant(tail):
        assert isinstance(head, Cell)
        assert isinstance(tail, Cell)
        return constant(Cell(head.tail, tail.tail))
    return Cell(head, tail)


def tuple_of(formulas: Sequence[Noun]) -> Noun:
    """The formula of `[a b c ...]`; of nothing, 0."""
    if not formulas:
        return constant(0)
    result = formulas[-1]
    for formula in reversed(formulas[:-1]):
        result = cons(formula, result)
    return result


def then(first: Noun, second: Noun) -> Noun:
    """Nock 7, with chains of slots joined."""
    if _is_slot(first) and _is_slot(second):
        assert isinstance(first, Cell)
        assert isinstance(second, Cell)
        assert isinstance(first.tail, int)
        assert isinstance(second.tail, int)
        return slot_of(peg(first.tail, second.tail))
    return noun(7, first, second)


def fast(name: Noun, parent: Noun, body: Noun) -> Noun:
    """Nock 11 %fast: register the core that `body` makes."""
    return noun(11, ("fast", constant(noun(name, parent, 0))), body)


@dataclass(frozen=True, slots=True)
class Tree:
    """Named nouns in a tree: the often used near the root (Huffman's way)."""

    shape: object
    axes: Mapping[str, int]

    @staticmethod
    def plant(weights: Mapping[str, int]) -> Tree:
        heap: list[tuple[int, int, object]] = [
            (weight, order, name)
            for order, (name, weight) in enumerate(weights.items())
        ]
        if not heap:
            return Tree(None, {})
        heapq.heapify(heap)
        order = len(heap)
        while len(heap) > 1:
            one, two = heapq.heappop(heap), heapq.heappop(heap)
            heapq.heappush(heap, (one[0] + two[0], order, (two[2], one[2])))
            order += 1
        axes: dict[str, int] = {}
        walk: list[tuple[object, int]] = [(heap[0][2], 1)]
        while walk:
            node, axis = walk.pop()
            if isinstance(node, tuple):
                walk += [(node[0], axis * 2), (node[1], axis * 2 + 1)]
            else:
                axes[str(node)] = axis
        return Tree(heap[0][2], axes)

    def grow(
        self, leaf: Callable[[str], Noun], join: Callable[[Noun, Noun], Noun]
    ) -> Noun:
        """Make the noun, given each name's leaf. Depth is the tree's own."""

        def at(node: object) -> Noun:
            if isinstance(node, tuple):
                return join(at(node[0]), at(node[1]))
            return leaf(str(node))

        return 0 if self.shape is None else at(self.shape)


def branch(test: Noun, yes: Noun, no: Noun) -> Noun:
    """Nock 6, without the detours that a constant test or a `not` would make."""
    match test:
        case Cell(head=1, tail=0):
            return yes
        case Cell(head=1, tail=1):
            return no
        case Cell(head=6, tail=Cell(head=inner, tail=Cell(head=left, tail=right))) if (
            left == constant(1) and right == constant(0)
        ):
            return branch(inner, no, yes)
        case _:
            if yes == constant(0) and no == constant(1):
                return test
            return noun(6, test, yes, no)


def any_of(tests: Sequence[Noun]) -> Noun:
    result = tests[-1]
    for test in reversed(tests[:-1]):
        result = branch(test, constant(0), result)
    return result
