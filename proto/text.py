"""Nouns as text for people: `[1 2 %foo 'a cord' 0]`, both ways.

`render` is for reading: it shows an atom as a term or cord where that is
likely to be meant, and may cut. `parse` is for typing: what `render` gives
(uncut) parses to the same noun.
"""

from __future__ import annotations

from proto.cord import is_term, path_from_text, ship_from_text
from proto.errors import TextError
from proto.noun import Cell, Noun, listed

__all__ = ["parse", "render"]

_DEPTH_MAX = 10_000
_SPECIAL = frozenset("[]'\"/ \t\n\r")


def render(n: Noun, limit: int | None = None) -> str:
    """Text of a noun; cut with `...` at about `limit` characters."""
    out: list[str] = []
    size = 0
    # Work items: a noun, or text to write out. A noun marked True stands in
    # tail position, where the brackets are left out.
    stack: list[tuple[Noun | str, bool]] = [(n, False)]
    while stack:
        item, in_tail = stack.pop()
        if isinstance(item, str):
            text = item
        elif isinstance(item, Cell):
            if not in_tail:
                stack.append(("]", False))
            stack.append((item.tail, True))
            stack.append((" ", False))
            stack.append((item.head, False))
            text = "" if in_tail else "["
        else:
            text = _atom(item)
        out.append(text)
        size += len(text)
        if limit is not None and size > limit:
            out.append("...")
            break
    return "".join(out)


def _atom(value: int) -> str:
    if value < 1 << 8:
        return str(value)
    data = value.to_bytes((value.bit_length() + 7) // 8, "little")
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError:
        return _number(value)
    if is_term(text):
        return "%" + text
    if len(text) > 2 and all(" " <= c <= "~" and c not in "'\\" for c in text):
        return f"'{text}'"
    return _number(value)


def _number(value: int) -> str:
    return str(value) if value < 1 << 64 else hex(value)


def parse(text: str) -> Noun:
    """A noun from text: `[a b c]`, decimal (dots allowed), 0x hex, %term,
    'cord', "tape", ~ (0), ~ship, & (0), | (1), /path.

    :raises TextError: saying where.
    """
    # Each open bracket is a list of the nouns read so far.
    open_brackets: list[list[Noun]] = []
    result: Noun | None = None
    at = 0
    while at < len(text):
        c = text[at]
        if c in " \t\r\n":
            at += 1
            continue
        if result is not None:
            raise TextError(f"more text after the noun, at {at}")
        if c == "[":
            open_brackets.append([])
            if len(open_brackets) > _DEPTH_MAX:
                raise TextError("nested too deeply")
            at += 1
            continue
        value: Noun
        if c == "]":
            if not open_brackets:
                raise TextError(f"unexpected ] at {at}")
            parts = open_brackets.pop()
            if not parts:
                raise TextError(f"empty brackets at {at}")
            value = parts[-1]
            for part in reversed(parts[:-1]):
                value = Cell(part, value)
            at += 1
        elif c in "'\"":
            end = text.find(c, at + 1)
            if end < 0:
                raise TextError(f"quote at {at} is not closed")
            body = text[at + 1 : end].encode()
            value = int.from_bytes(body, "little") if c == "'" else listed(body)
            at = end + 1
        else:
            end = at + 1
            stop = _SPECIAL - {"/"} if c == "/" else _SPECIAL
            while end < len(text) and text[end] not in stop:
                end += 1
            value = _word(text[at:end], at)
            at = end
        if open_brackets:
            open_brackets[-1].append(value)
        else:
            result = value
    if open_brackets:
        raise TextError("a bracket is not closed")
    if result is None:
        raise TextError("no noun in the text")
    return result


def _word(word: str, at: int) -> Noun:
    if word in ("~", "&"):
        return 0
    if word == "|":
        return 1
    if word.startswith("%"):
        return int.from_bytes(word[1:].encode(), "little")
    if word.startswith("~"):
        return ship_from_text(word)
    if word.startswith("/"):
        return path_from_text(word)
    digits = word.replace(".", "")
    try:
        value = int(digits, 16) if digits.startswith("0x") else int(digits, 10)
    except ValueError:
        value = -1
    if value < 0 or not digits.isascii():
        raise TextError(f"{word[:40]!r} at {at} is not an atom")
    return value
