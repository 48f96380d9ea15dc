"""An image.bin as Vere writes it, made by us: for tests and the lab.

The format is that of serf/vere_image.py, which reads what comes out here.
"""

from __future__ import annotations

import struct
from pathlib import Path

from proto.mug import mug
from proto.noun import Cell, Noun

__all__ = ["PAGE", "Loom"]

PAGE = 1 << 14


class Loom:
    """Nouns, laid out one after the other."""

    def __init__(self) -> None:
        self.data = bytearray(PAGE)
        self._known: dict[int, int] = {}
        self._kept: list[Noun] = []  # so that an id means one noun

    def put(self, n: Noun) -> int:
        """The reference of a noun; what is the same object is there once."""
        waiting: list[Noun] = [n]
        while waiting:
            part = waiting[-1]
            below = [part.head, part.tail] if isinstance(part, Cell) else []
            missing = [one for one in below if id(one) not in self._known]
            if missing:
                waiting += missing
                continue
            waiting.pop()
            if id(part) not in self._known:
                self._known[id(part)] = self._one(part)
                self._kept.append(part)
        return self._known[id(n)]

    def _one(self, n: Noun) -> int:
        if isinstance(n, int):
            if n < 1 << 31:
                return n
            count = (n.bit_length() + 31) // 32
            body = struct.pack("<3I", 1, 0, count) + n.to_bytes(4 * count, "little")
            return 0x80000000 | self.box(body)
        head, tail = self._known[id(n.head)], self._known[id(n.tail)]
        return 0xC0000000 | self.box(struct.pack("<4I", 1, mug(n), head, tail))

    def box(self, body: bytes) -> int:
        place = len(self.data)
        self.data += body + bytes(-len(body) % 16)
        return place >> 4

    def write(self, path: Path, root: int, event: int = 7, form: int = 5) -> Path:
        struct.pack_into("<QQQII", self.data, 0, form, 0x54, event, root, 0)
        path.write_bytes(self.data + bytes(-len(self.data) % PAGE))
        return path
