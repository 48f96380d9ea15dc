"""Jam and cue, side by side. Twin: native/jam.c. Source: spec/noun.md 3.

A jam is a bit string, bit 0 first. An atom is `0` and mat(atom); a cell is
`1 0`, head, tail; a back-reference is `1 1` and mat(position). mat(0) is `1`;
else, with m bits in the atom and k bits in m: k zeros, a one, the low k-1
bits of m, the m bits.

Limits: cue refuses lengths of lengths of 64 bits and more, and atoms larger
than the jam could hold by more than the zeros past its end (ATOM_SIZE_MAX).
"""

from __future__ import annotations

from proto.errors import CueError
from proto.message import Jam
from proto.noun import Cell, Noun

__all__ = ["ATOM_SIZE_MAX", "JamWriter", "cue", "jam", "jam_bytes"]

ATOM_SIZE_MAX = (1 << 32) - 1
_FLUSH_BITS = 8192


class JamWriter:
    """Bits, and +mat. For who knows a noun without having it."""

    __slots__ = ("bits", "done", "out", "pending")

    def __init__(self) -> None:
        self.out = bytearray()
        self.pending = 0
        self.bits = 0
        self.done = 0

    @property
    def position(self) -> int:
        return self.done + self.bits

    def write(self, value: int, width: int) -> None:
        self.pending |= value << self.bits
        self.bits += width
        if self.bits >= _FLUSH_BITS:
            self._flush()

    def _flush(self) -> None:
        whole = self.bits >> 3
        self.out += (self.pending & (1 << whole * 8) - 1).to_bytes(whole, "little")
        self.pending >>= whole * 8
        self.bits -= whole * 8
        self.done += whole * 8

    def mat(self, value: int) -> None:
        if value == 0:
            self.write(1, 1)
            return
        m = value.bit_length()
        k = m.bit_length()
        self.write(1 << k, k + 1)
        self.write(m & (1 << k - 1) - 1, k - 1)
        self.write(value, m)

    def finish(self) -> bytes:
        self._flush()
        return bytes(self.out + self.pending.to_bytes((self.bits + 7) // 8, "little"))


def jam(n: Noun) -> Jam:
    """Serialize a noun; canonical."""
    writer = JamWriter()
    atoms: dict[int, int] = {}
    cells: dict[Cell, int] = {}
    stack: list[Noun] = [n]
    while stack:
        n = stack.pop()
        if isinstance(n, Cell):
            back = cells.get(n)
            if back is not None:
                writer.write(3, 2)
                writer.mat(back)
                continue
            cells[n] = writer.position
            writer.write(1, 2)
            stack.append(n.tail)
            stack.append(n.head)
            continue
        back = atoms.get(n)
        if back is None:
            atoms[n] = writer.position
        elif n.bit_length() > back.bit_length():
            writer.write(3, 2)
            writer.mat(back)
            continue
        writer.write(0, 1)
        writer.mat(n)
    return Jam(writer.finish())


def jam_bytes(data: bytes) -> Jam:
    """Jam of the atom with these little-endian bytes."""
    return jam(int.from_bytes(data, "little"))


class _Reader:
    __slots__ = ("data", "position", "size")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data) * 8
        self.position = 0

    def bit(self) -> int:
        at = self.position
        if at >= self.size:
            raise CueError("gone", at)
        self.position = at + 1
        return self.data[at >> 3] >> (at & 7) & 1

    def take(self, width: int) -> int:
        """Bits past the end read as zero."""
        at = self.position
        self.position = at + width
        chunk = self.data[at >> 3 : (at + width + 7) >> 3]
        return int.from_bytes(chunk, "little") >> (at & 7) & (1 << width) - 1

    def mat(self, width_max: int) -> int:
        start = self.position
        k = 0
        while self.bit() == 0:
            k += 1
            if k > 255:
                raise CueError("meme", start)
        if k == 0:
            return 0
        if k > 63:
            raise CueError("meme", start)
        m = self.take(k - 1) | 1 << k - 1
        if m > width_max:
            raise CueError("meme" if k < 62 else "size", start)
        return self.take(m)


def cue(data: bytes) -> Noun:
    """Parse a jam.

    :raises CueError: with the bit position, if it is not one.
    """
    reader = _Reader(data)
    known: dict[int, Noun] = {}
    # Frames of cells being read: position, and the head once it is there.
    frames: list[tuple[int, Noun | None]] = []
    while True:
        start = reader.position
        value: Noun
        if reader.bit() == 0:
            value = reader.mat(ATOM_SIZE_MAX * 8)
            known[start] = value
        elif reader.bit() == 0:
            frames.append((start, None))
            continue
        else:
            back = known.get(reader.mat(62))
            if back is None:
                raise CueError("back", start)
            value = back
        while frames:
            at, head = frames.pop()
            if head is None:
                frames.append((at, value))
                break
            value = Cell(head, value)
            known[at] = value
        else:
            return value
