"""The 31-bit noun hash. Twin: native/mug.c. Source: spec/noun.md 2.1."""

from __future__ import annotations

from proto.noun import Cell, Noun

__all__ = ["mug", "mug_both", "mug_bytes", "murmur3"]

_MASK = 0xFFFFFFFF


def murmur3(data: bytes, seed: int) -> int:
    """MurmurHash3_x86_32."""
    h = seed
    whole = len(data) & ~3
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little")
        k = k * 0xCC9E2D51 & _MASK
        k = (k << 15 | k >> 17) & _MASK
        h ^= k * 0x1B873593 & _MASK
        h = (h << 13 | h >> 19) & _MASK
        h = h * 5 + 0xE6546B64 & _MASK
    if len(data) > whole:
        k = int.from_bytes(data[whole:], "little")
        k = k * 0xCC9E2D51 & _MASK
        k = (k << 15 | k >> 17) & _MASK
        h ^= k * 0x1B873593 & _MASK
    h ^= len(data)
    h ^= h >> 16
    h = h * 0x85EBCA6B & _MASK
    h ^= h >> 13
    h = h * 0xC2B2AE35 & _MASK
    return h ^ h >> 16


def _try(data: bytes, seed: int, fallback: int) -> int:
    for i in range(8):
        h = murmur3(data, seed + i & _MASK)
        r = h >> 31 ^ h & 0x7FFFFFFF
        if r:
            return r
    return fallback


def mug_bytes(data: bytes) -> int:
    """Mug of the atom with these minimal little-endian bytes."""
    return _try(data, 0xCAFEBABE, 0x7FFF)


def mug_both(head: int, tail: int) -> int:
    """Mug of a cell, from the mugs of its head and tail."""
    data = head.to_bytes(4, "little")
    data += tail.to_bytes((tail.bit_length() + 7) // 8, "little")
    return _try(data, 0xDEADBEEF, 0xFFFE)


def mug(n: Noun) -> int:
    """Mug of a noun; memoised in its cells."""
    if not isinstance(n, Cell):
        return mug_bytes(n.to_bytes((n.bit_length() + 7) // 8, "little"))
    if n.mug_memo:
        return n.mug_memo
    stack: list[Cell] = [n]
    while stack:
        cell = stack[-1]
        if cell.mug_memo:
            stack.pop()
            continue
        head, tail = cell.head, cell.tail
        waiting = False
        if isinstance(head, Cell) and not head.mug_memo:
            stack.append(head)
            waiting = True
        if isinstance(tail, Cell) and not tail.mug_memo:
            stack.append(tail)
            waiting = True
        if waiting:
            continue
        cell.mug_memo = mug_both(_known(head), _known(tail))
        stack.pop()
    return n.mug_memo


def _known(n: Noun) -> int:
    if isinstance(n, Cell):
        return n.mug_memo
    return mug_bytes(n.to_bytes((n.bit_length() + 7) // 8, "little"))
