"""Nouns as Python values: an `int` (atom, never negative) or a `Cell`.

Twin of native/noun.c, for the king, for tools and as an oracle in tests.
Invariants: nothing here recurses over a noun; equality is linear in distinct
cells, however much is shared.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

__all__ = ["Cell", "Noun", "atom_bytes", "items", "listed", "noun", "slot"]


class Cell:
    """An ordered pair of nouns. Immutable by convention."""

    __slots__ = ("hash_memo", "head", "mug_memo", "tail")

    def __init__(self, head: Noun, tail: Noun) -> None:
        self.head = head
        self.tail = tail
        self.mug_memo = 0
        self.hash_memo = 0

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Cell):
            return NotImplemented if not isinstance(other, int) else False
        return _equal(self, other)

    def __hash__(self) -> int:
        return self.hash_memo or _hash(self)

    def __iter__(self) -> Iterator[Noun]:
        yield self.head
        yield self.tail

    def __repr__(self) -> str:
        from proto.text import render

        return f"Cell({render(self, 200)})"


Noun = int | Cell


def _hash(n: Cell) -> int:
    """A 64-bit hash of structure, memoised in every cell.

    Not the mug: that has 31 bits, and along a list of equal items it runs into
    a cycle after some ten thousands, where every cell collides with another.
    """
    stack = [n]
    while stack:
        cell = stack[-1]
        head, tail = cell.head, cell.tail
        waiting = False
        if isinstance(head, Cell) and not head.hash_memo:
            stack.append(head)
            waiting = True
        if isinstance(tail, Cell) and not tail.hash_memo:
            stack.append(tail)
            waiting = True
        if waiting:
            continue
        # Cells are hashed by their memos here, so this does not recurse.
        cell.hash_memo = hash((head, tail)) or 1
        stack.pop()
    return n.hash_memo


def _equal(left: Cell, right: Cell) -> bool:
    """Compare with an explicit stack and a set of pairs already met."""
    stack: list[tuple[Noun, Noun]] = [(left, right)]
    met: set[tuple[int, int]] = set()
    while stack:
        a, b = stack.pop()
        if a is b:
            continue
        if not isinstance(a, Cell) or not isinstance(b, Cell):
            if isinstance(a, Cell) or isinstance(b, Cell) or a != b:
                return False
            continue
        if a.hash_memo and b.hash_memo and a.hash_memo != b.hash_memo:
            return False
        pair = (id(a), id(b))
        if pair in met:
            continue
        met.add(pair)
        stack.append((a.tail, b.tail))
        stack.append((a.head, b.head))
    return True


def noun(*parts: object) -> Noun:
    """Build `[a b c ...]` from Python values.

    int -> atom; str, bytes -> cord (little-endian bytes); None -> 0; Cell as
    is; tuple -> `[...]`; list -> null-terminated list.

    :raises TypeError: for bool (say 0 or 1: Hoon's yes is 0) and the rest.
    """
    values = [_one(part) for part in parts]
    if not values:
        raise TypeError("a noun has at least one part")
    result = values[-1]
    for value in reversed(values[:-1]):
        result = Cell(value, result)
    return result


def _one(part: object) -> Noun:
    if isinstance(part, bool):
        raise TypeError("bool is ambiguous: yes is 0 and no is 1")
    if isinstance(part, int):
        if part < 0:
            raise TypeError("atoms are not negative")
        return part
    if isinstance(part, Cell):
        return part
    if part is None:
        return 0
    if isinstance(part, str):
        return int.from_bytes(part.encode(), "little")
    if isinstance(part, bytes | bytearray | memoryview):
        return int.from_bytes(part, "little")
    if isinstance(part, tuple):
        return noun(*part)
    if isinstance(part, list):
        return listed(_one(item) for item in part)
    raise TypeError(f"no noun for {type(part).__name__}")


def listed(values: Iterable[Noun]) -> Noun:
    """Make a null-terminated list."""
    result: Noun = 0
    for value in reversed(list(values)):
        result = Cell(value, result)
    return result


def items(n: Noun) -> list[Noun]:
    """Take a null-terminated list apart.

    :raises ValueError: if it ends in anything but 0.
    """
    result: list[Noun] = []
    while isinstance(n, Cell):
        result.append(n.head)
        n = n.tail
    if n != 0:
        raise ValueError("list does not end in ~")
    return result


def slot(n: Noun, axis: int) -> Noun:
    """*[axis n].

    :raises ValueError: where the axis is 0 or leaves the noun.
    """
    if axis < 1:
        raise ValueError("axis 0")
    for bit in bin(axis)[3:]:
        if not isinstance(n, Cell):
            raise ValueError(f"no axis {axis}")
        n = n.tail if bit == "1" else n.head
    return n


def atom_bytes(n: Noun) -> bytes:
    """The minimal little-endian bytes of an atom: b"" for 0.

    :raises ValueError: for a cell.
    """
    if isinstance(n, Cell):
        raise ValueError("a cell where an atom should be")
    return n.to_bytes((n.bit_length() + 7) // 8, "little")
