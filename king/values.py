"""Values as people type them on the command line.

What it is: for each kind a function from a word to its value, as argparse
    takes them; what is wrong with a word is said in words.
Limits: `address` asks the machine, and so may wait for a name server.
"""

from __future__ import annotations

import functools
import socket
from argparse import ArgumentTypeError
from collections.abc import Callable
from typing import TypeVar

__all__ = [
    "address",
    "count",
    "daily_size",
    "days",
    "duration",
    "port",
    "positive",
    "seconds",
    "size",
]

T = TypeVar("T")
N = TypeVar("N", int, float)
_COUNT_MAX = 1 << 60
_SECONDS_MIN = 1e-3
_SECONDS_MAX = 1e9
_DAYS_MAX = 1e6


def _or_else(what: str) -> Callable[[Callable[[str], T]], Callable[[str], T]]:
    """What to say that a word is not, where the function raises ValueError."""

    def decorate(read: Callable[[str], T]) -> Callable[[str], T]:
        @functools.wraps(read)
        def value(text: str) -> T:
            try:
                return read(text)
            except ValueError as error:
                raise ArgumentTypeError(f"{text!r} is no {what}") from error

        return value

    return decorate


def _within(value: float, least: float, end: float) -> None:
    if not least <= value < end:
        raise ValueError(value)


def _number(
    read: Callable[[str], N], what: str, least: float, end: float
) -> Callable[[str], N]:
    """From `least` on, below `end`."""

    @_or_else(what)
    def value(text: str) -> N:
        number = read(text)
        _within(number, least, end)
        return number

    return value


port = _number(int, "number from 0 to 65535", 0, 1 << 16)
count = _number(int, "number from 0 on", 0, _COUNT_MAX)
positive = _number(int, "number from 1 on", 1, _COUNT_MAX)
days = _number(float, "number of days", 0, _DAYS_MAX)
seconds = _number(float, "number of seconds", _SECONDS_MIN, _SECONDS_MAX)


@_or_else("size such as 4096, 100k, 32M or 5G")
def size(text: str) -> int:
    """In bytes."""
    return _bytes_in(text)


def _bytes_in(text: str) -> int:
    unit = "kMGT".find(text[-1:]) + 1 if text else 0
    value = int(text[:-1] if unit else text) << 10 * unit
    _within(value, 0, _COUNT_MAX)
    return value


@_or_else("size a day such as 500M/day or 5G/day")
def daily_size(text: str) -> int:
    """In bytes; 0: none."""
    head, slash, unit = text.partition("/")
    if slash and unit not in ("d", "day"):
        raise ValueError(unit)
    return _bytes_in(head)


@_or_else("time such as 20s, 5m or 1h")
def duration(text: str) -> float:
    """In seconds, which is also what a bare number means. Not 0."""
    unit = {"s": 1, "m": 60, "h": 3600}.get(text[-1:], 0)
    value = float(text[:-1] if unit else text) * (unit or 1)
    _within(value, _SECONDS_MIN, _SECONDS_MAX)
    return value


def address(text: str) -> str:
    """Of this machine, so that one can listen on it: better to know now than
    after the ship has woken up."""
    try:
        family, kind, _, _, place = socket.getaddrinfo(
            text, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise ArgumentTypeError(f"{text!r} is no address") from error
    try:
        with socket.socket(family, kind) as probe:
            probe.bind(place)
    except OSError as error:
        why = error.strerror
        raise ArgumentTypeError(f"cannot listen on {text!r}: {why}") from error
    return text
