"""A logged job as text for people, and text to look for in it.

As `proto.text.render`, but for reading alone: a list of characters is written as
the tape that it is likely to be ("hello"), and an atom that is UTF-8 text of several
lines as a cord ('one\\0atwo'), since that is what bodies of requests are.
"""

from __future__ import annotations

from proto.cord import is_term
from proto.noun import Cell, Noun
from proto.text import render

__all__ = ["render_job"]

_BREAKS = {"\t": "\\09", "\n": "\\0a", "\r": "\\0d"}
_TAPE_MAX = 4096
_TAPE_MIN = 2


def render_job(n: Noun, limit: int) -> str:
    """Text of a noun; cut with `...` at about `limit` characters."""
    out: list[str] = []
    size = 0
    stack: list[tuple[Noun | str, bool]] = [(n, False)]
    dull = 0  # so many of the next cells are known to be no tape's
    while stack:
        item, in_tail = stack.pop()
        if isinstance(item, str):
            text = item
        elif isinstance(item, Cell):
            text = ""
            if dull and in_tail:
                dull -= 1
            else:
                text, dull = _tape(item)
            if not text:
                if not in_tail:
                    stack.append(("]", False))
                stack += [(item.tail, True), (" ", False), (item.head, False)]
                text = "" if in_tail else "["
        else:
            text = _cord(item) or render(item)
        size += len(text)
        if size > limit:
            out += [text[: limit - size], "..."]
            break
        out.append(text)
    return "".join(out)


def _cord(atom: int) -> str:
    """`'text'`, if an atom of three bytes or more is one of printable text."""
    if atom < 1 << 16:
        return ""
    try:
        text = atom.to_bytes((atom.bit_length() + 7) // 8, "little").decode()
    except UnicodeDecodeError:
        return ""
    if is_term(text) or not all(c.isprintable() or c in _BREAKS for c in text):
        return ""
    for byte, escape in _BREAKS.items():
        text = text.replace(byte, escape)
    return f"'{text}'"


def _tape(n: Noun) -> tuple[str, int]:
    """`"text"` if this is a tape; else "", and in how many cells after this one
    a tape would run into the same end."""
    letters: list[str] = []
    while isinstance(n, Cell) and isinstance(n.head, int) and len(letters) < _TAPE_MAX:
        if not (32 <= n.head < 127 and n.head != 34):
            break
        letters.append(chr(n.head))
        n = n.tail
    if n == 0 and len(letters) >= _TAPE_MIN:
        return f'"{"".join(letters)}"', 0
    return "", max(0, len(letters) - 1)
