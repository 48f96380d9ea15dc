"""Vere's snapshot, `image.bin`: the state in it, as a jam.

What it is: a reader of the raw loom of Vere 4.0 and later (format 5, 32-bit
    references, spec/king.md 8.5). It looks at nothing but the kernel.
Invariants: the file is nobody's friend: every reference and length is checked,
    cycles are refused, work and memory are bounded by the file's size. Nothing is
    ever written to it. Equal references come out as one, so that what was shared
    in the loom is shared in the jam.
Limits: Python, some 600,000 cells a second, 240 bytes of memory a cell. Not the
    pairs of older Veres (north.bin, south.bin): their size of the loom is not in
    the files.

    0   u64 format, 5      16  u64 event        28  u32 wish cache
    8   u64 parameters     24  u32 kernel

A reference with bit 31 clear is an atom below 2^31; else bits 31 and 30 are 10 for
an atom, 11 for a cell, and the rest times 16 is the byte at which it lies: an atom
as {uses, mug, words, data...}, a cell as {uses, mug, head, tail}, all u32 LE.
"""

from __future__ import annotations

import os
import struct
from typing import NamedTuple

from proto.jam import JamWriter

__all__ = ["BadImage", "VereState", "read_image"]

FORMAT = 5
PAGE = 1 << 14
_HEAD = struct.Struct("<QQQII")
_PARAMETERS_MASK = 0b111111  # what is above them is not known to matter
_PARAMETERS = 0b010100  # 32 bits a word, references shifted by 2 words, 16 KiB pages
_CELL = 0b11
_PLACE_MASK = 0x3FFFFFFF
_GROWTH = 4
"""A jam is never so many times as large as an honest loom."""


class BadImage(Exception):
    """The file is not what it should be; in words."""


class VereState(NamedTuple):
    """`kernel` is the jam of the Arvo core after `event`."""

    event: int
    kernel: bytes


def read_image(path: str) -> VereState:
    """The state in an image.bin.

    :raises BadImage: saying what is wrong with it
    :raises OSError: it cannot be read
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size < PAGE or size % PAGE or size > 1 << 34:
            raise BadImage(f"{size} bytes are no number of its pages")
        data = file.read(size)
    if len(data) != size:
        raise BadImage("it was cut short while it was read")
    form, parameters, event, kernel, _ = _HEAD.unpack_from(data)
    if form != FORMAT:
        raise BadImage(f"its format is {form}; we know {FORMAT}, of Vere 4")
    if parameters & _PARAMETERS_MASK != _PARAMETERS:
        raise BadImage(f"its parameters are {parameters:#x}: another kind of loom")
    if not 0 < event < 1 << 63:
        raise BadImage(f"its event is {event}")
    if kernel >> 30 != _CELL:
        raise BadImage("it has no kernel")
    return VereState(event, _Jammer(data).jam(kernel))


class _Jammer:
    """From references to a jam, without a noun in between."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._words = memoryview(data).cast("I")
        self._bits = JamWriter()

    def jam(self, root: int) -> bytes:
        """:raises BadImage: whatever does not fit"""
        bits, words = self._bits, self._words
        limit = _GROWTH * 8 * len(self._data)
        seen: dict[int, int] = {}
        within: set[int] = set()  # cells whose tails are not done: a path from the root
        waiting: list[int] = [root]
        while waiting:
            reference = waiting.pop()
            if reference < 0:
                within.discard(~reference)
                continue
            if bits.position > limit:
                raise BadImage("its nouns overlap")
            if not reference >> 31:
                bits.write(0, 1)
                bits.mat(reference)
                continue
            known = seen.get(reference)
            if known is not None:
                if reference in within:
                    raise BadImage("a cell in it is part of itself")
                bits.write(0b11, 2)
                bits.mat(known)
                continue
            seen[reference] = bits.position
            place = (reference & _PLACE_MASK) << 2  # in words
            if place < 4 or place + 4 > len(words):
                raise BadImage(f"a reference {reference:#x} beyond its end")
            if reference >> 30 == _CELL:
                bits.write(0b01, 2)
                within.add(reference)
                waiting += (~reference, words[place + 3], words[place + 2])
            else:
                bits.write(0, 1)
                bits.mat(self._atom(place))
        return bits.finish()

    def _atom(self, place: int) -> int:
        count = self._words[place + 2]
        start = 4 * (place + 3)
        end = start + 4 * count
        if count == 0 or end > len(self._data):
            raise BadImage(f"an atom of {count} words at byte {4 * place}")
        value = int.from_bytes(self._data[start:end], "little")
        if not value >> (32 * (count - 1)) or value < 1 << 31:
            raise BadImage(f"an atom at byte {4 * place} is longer than its number")
        return value
