"""Reader of loom, our little language: text to forms with positions.

Owns: the surface syntax. Five kinds of form: a literal (number, 'cord',
    "tape", %term, ~), a symbol, a list in parentheses, a tuple in brackets.
Invariants: every form knows its file, line and column; the same text always
    gives the same forms; errors are `LoomError` with a place.
Limits: source files are ours and small; nesting is bounded by Python's stack.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from proto.noun import Noun, listed, noun

__all__ = ["Form", "Group", "Literal", "LoomError", "Place", "Symbol", "Tuple", "read"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a form begins."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class LoomError(Exception):
    """The source is wrong; the message names the place."""

    def __init__(self, place: Place, message: str) -> None:
        super().__init__(f"{place}: {message}")
        self.place = place
        self.message = message


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant noun."""

    value: Noun
    place: Place


@dataclass(frozen=True, slots=True)
class Symbol:
    """A name, perhaps with a record type (`s:state`) or a path (`s.line`)."""

    name: str
    place: Place


@dataclass(frozen=True, slots=True)
class Group:
    """`(a b c)`: a special form or a call."""

    items: tuple[Form, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class Tuple:
    """`[a b c]`: a right-nested cell, or a pattern for one."""

    items: tuple[Form, ...]
    place: Place


Form = Literal | Symbol | Group | Tuple

_TOKEN = re.compile(
    r"""(?P<space>\s+|;[^\n]*)
      | (?P<raw>'{3}.*?'{3})
      | (?P<cord>'(?:[^'\\\n]|\\.)*')
      | (?P<tape>"(?:[^"\\\n]|\\.)*")
      | (?P<open>[(\[])
      | (?P<close>[)\]])
      | (?P<word>[^\s()\[\]'";]+)""",
    re.VERBOSE | re.DOTALL,
)
_NUMBER = re.compile(r"0x[0-9a-f]+(?:_[0-9a-f]+)*|[0-9]+(?:_[0-9]+)*")
_NUMBER_MAX = 4000  # digits: what Python reads as decimal
_ESCAPE = re.compile(r"\\(x[0-9a-f]{2}|.)", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", "'": "'", '"': '"'}
_CLOSERS = {"(": ")", "[": "]"}


def read(text: str, file: str) -> list[Form]:
    """Read all forms of `text`.

    :raises LoomError: on bad syntax.
    """
    stack: list[tuple[str, Place, list[Form]]] = []
    forms: list[Form] = []
    offset, line, line_start = 0, 1, 0
    while offset < len(text):
        place = Place(file, line, offset - line_start + 1)
        match = _TOKEN.match(text, offset)
        if match is None:
            raise LoomError(place, "unterminated string")
        token, kind = match.group(), match.lastgroup
        if kind == "open":
            stack.append((token, place, forms))
            forms = []
        elif kind == "close":
            if not stack or _CLOSERS[stack[-1][0]] != token:
                raise LoomError(place, f"unexpected '{token}'")
            opener, began, outer = stack.pop()
            outer.append(_close(opener, began, forms))
            forms = outer
        elif kind != "space":
            forms.append(_leaf(str(kind), token, place))
        newlines = token.count("\n")
        if newlines:
            line += newlines
            line_start = offset + token.rindex("\n") + 1
        offset = match.end()
    if stack:
        opener, began, _ = stack[-1]
        raise LoomError(began, f"'{opener}' is never closed")
    return forms


def _close(opener: str, place: Place, forms: list[Form]) -> Form:
    if opener == "(":
        return Group(tuple(forms), place)
    if len(forms) < 2:
        raise LoomError(place, "a cell has at least two parts")
    return Tuple(tuple(forms), place)


def _leaf(kind: str, token: str, place: Place) -> Form:
    if kind == "raw":
        return Literal(noun(token[3:-3]), place)
    if kind == "cord":
        return Literal(noun(_unescape(token[1:-1], place)), place)
    if kind == "tape":
        try:
            characters = _unescape(token[1:-1], place).decode()
        except UnicodeDecodeError as error:
            raise LoomError(place, "a tape is UTF-8") from error
        return Literal(listed([ord(c) for c in characters]), place)
    if token == "~":
        return Literal(0, place)
    if token.startswith("%"):
        return Literal(noun(token[1:]), place)
    if token[0].isdigit():
        if _NUMBER.fullmatch(token) is None:
            raise LoomError(place, f"bad number '{token[:40]}'")
        if len(token) > _NUMBER_MAX:
            raise LoomError(place, f"a number of {len(token)} digits")
        return Literal(int(token, 0 if token.startswith("0x") else 10), place)
    return Symbol(token, place)


def _unescape(body: str, place: Place) -> bytes:
    def one(match: re.Match[str]) -> bytes:
        code = match.group(1)
        if code.startswith("x") and len(code) == 3:
            return bytes([int(code[1:], 16)])
        if code not in _ESCAPES:
            raise LoomError(place, f"unknown escape '\\{code}'")
        return _ESCAPES[code].encode()

    parts: list[bytes] = []
    end = 0
    for match in _ESCAPE.finditer(body):
        parts += [body[end : match.start()].encode(), one(match)]
        end = match.end()
    return b"".join([*parts, body[end:].encode()])
