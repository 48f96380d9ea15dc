"""Out of a tree of errors, the one that matters.

What it is: trio raises groups of groups; people hear one line.
Limits: no trio at import, for commands that have no event loop.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from king.errors import TreadleError

__all__ = ["causes", "first_fault", "run_trio"]

T = TypeVar("T")


def causes(raised: BaseException) -> list[BaseException]:
    """All that a group is made of, or the one error."""
    found: list[BaseException] = []
    waiting = [raised]
    while waiting:
        error = waiting.pop()
        if isinstance(error, BaseExceptionGroup):
            waiting.extend(error.exceptions)
        else:
            found.append(error)
    return found


def first_fault(raised: BaseException) -> BaseException | None:
    """The TreadleError among them, or else the KeyboardInterrupt."""
    found: BaseException | None = None
    for error in causes(raised):
        if isinstance(error, TreadleError):
            return error
        if isinstance(error, KeyboardInterrupt):
            found = error
    return found


def run_trio(function: Callable[..., Awaitable[T]], *args: object) -> T:
    """Run under trio; out of a group of errors, raise the one that matters."""
    import trio

    try:
        return trio.run(function, *args)
    except BaseExceptionGroup as group:
        error = first_fault(group)
        if error is None:
            raise
        raise error from group
