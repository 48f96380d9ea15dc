"""Tanks: the pretty-printing trees in which a kernel says things. Pure.

A tank is a cord, `[%leaf tape]`, `[%palm [mid open close..] tanks]` or `[%rose
[mid open close] tanks]`. What does not fit the width is set one part a line,
indented. No recursion; a noun that is no tank is shown as a noun.

Limits: _LINES_MAX lines; and _LOOKS_MAX looks, since a tank that shares its
parts has 2^60 of them in a hundred bytes. What is beyond is `...`.
"""

from __future__ import annotations

import re

from proto.cord import cord, cord_text
from proto.noun import Cell, Noun, items
from proto.text import render

__all__ = ["clean", "tank_lines"]

_STEERS = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_LEAF = cord("leaf")
_PALM = cord("palm")
_ROSE = cord("rose")
_LINES_MAX = 2000
_LOOKS_MAX = 1 << 20
_TANK_LOOKS = 10  # a part takes the time of so many letters


class _Tired(Exception):
    """There is too much to look at."""


class _Looks:
    """How many more letters and parts may be looked at."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = _LOOKS_MAX

    def take(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise _Tired


def clean(text: str) -> str:
    """Text that cannot steer a terminal, and can be encoded: control characters
    and surrogates become `?`."""
    if text.isprintable():
        return text
    return _STEERS.sub("?", text.replace("\t", " "))


def _cord(atom: int, looks: _Looks) -> str:
    looks.take(atom.bit_length() >> 3)
    return cord_text(atom)


def _tape(n: Noun, looks: _Looks) -> str:
    """A tape: list of UTF-8 bytes, or of code points, or a cord."""
    if not isinstance(n, Cell):
        return _cord(n, looks)
    values = items(n)
    looks.take(len(values))
    parts = [value for value in values if not isinstance(value, Cell)]
    if len(parts) != len(values) or any(part > 0x10FFFF for part in parts):
        raise ValueError("not a tape")
    if all(part < 256 for part in parts):
        return bytes(parts).decode("utf-8", "replace")
    return "".join(map(chr, parts))


def _take(tank: Noun, looks: _Looks) -> tuple[str, str, str, list[Noun]] | str:
    """A leaf's text, or (open, middle, close, parts)."""
    looks.take(_TANK_LOOKS)
    try:
        if not isinstance(tank, Cell):
            return _cord(tank, looks)
        if tank.head == _LEAF:
            return _tape(tank.tail, looks)
        if isinstance(tank.tail, Cell) and tank.head in (_PALM, _ROSE):
            frame, parts = tank.tail.head, items(tank.tail.tail)
            looks.take(len(parts))
            texts = []
            for _ in range(3 if tank.head == _PALM else 2):
                assert isinstance(frame, Cell)
                texts.append(_tape(frame.head, looks))
                frame = frame.tail
            texts.append(_tape(frame, looks))
            if tank.head == _PALM:
                return texts[1] + texts[2], texts[0], texts[3], parts
            return texts[1], texts[0], texts[2], parts
    except (ValueError, AssertionError):
        pass
    return render(tank, 400)


def _flat(tank: Noun, width: int, looks: _Looks) -> str | None:
    """The tank on one line, or None where that is wider than `width`."""
    out: list[str] = []
    size = 0
    stack: list[Noun | str] = [tank]
    while stack:
        item = stack.pop()
        shape = item if isinstance(item, str) else _take(item, looks)
        if isinstance(shape, str):
            out.append(shape)
            size += len(shape)
            if size > width:
                return None
            continue
        opening, middle, closing, parts = shape
        if len(parts) > width:
            return None
        stack.append(closing)
        for index in range(len(parts) - 1, -1, -1):
            stack.append(parts[index])
            if index:
                stack.append(middle)
        stack.append(opening)
    return "".join(out)


def tank_lines(tank: Noun, width: int = 80) -> list[str]:
    """Lay a tank out in lines of `width` (a long word may be cut over lines)."""
    lines: list[str] = []
    try:
        _lay_out(tank, max(width, 20), lines)
    except _Tired:
        lines.append("...")
    return lines


def _lay_out(tank: Noun, width: int, lines: list[str]) -> None:
    looks = _Looks()
    # Text that is ready, or a tank, and how far it is indented.
    stack: list[tuple[Noun | str, int]] = [(tank, 0)]
    while stack and len(lines) < _LINES_MAX:
        item, indent = stack.pop()
        room = max(width - indent, 20)
        text = item if isinstance(item, str) else _flat(item, room, looks)
        if text is None:
            assert not isinstance(item, str)
            shape = _take(item, looks)
            if not isinstance(shape, str):
                opening, _, closing, parts = shape
                deeper = min(indent + 2, 40)
                if closing:
                    stack.append((closing, indent))
                stack.extend((part, deeper) for part in reversed(parts))
                if opening:
                    stack.append((opening, indent))
                continue
            text = shape
        for line in text.split("\n"):
            line = clean(line)
            for at in range(0, max(len(line), 1), room):
                lines.append(" " * indent + line[at : at + room])
