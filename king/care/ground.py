"""What an operation on a ship's state may do, and how it says where it stands.

What it is: the contract between an operation and whoever carries it out: the
    daemon of a live ship (live.py), or the command line, for one at rest
    (rest.py).
Invariants: one operation at a time on a pier. Cancelled (the client is gone,
    ^C, the ship stops), it leaves nothing behind, or what the next call takes
    up again. What fails in it fails it alone; but for a failed commit, which
    stops the ship.
Limits: progress may be told as often as one likes; what people see of it is
    thinned out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple, Protocol, TypeVar

from king.log.epoch import Log
from king.pier import Layout, Pier

__all__ = ["Ground", "Operation", "PierGround", "Progress", "log_of"]

T = TypeVar("T")


class Progress(NamedTuple):
    """Where an operation stands. `total` 0: nobody knows."""

    done: int
    total: int
    unit: str
    """bytes, events, pages."""
    note: str = ""
    """What it is at, in a word or two."""


class Ground(Protocol):
    """The ship that an operation works on."""

    @property
    def layout(self) -> Layout: ...

    @property
    def ship(self) -> bytes:
        """16 bytes, as images carry it."""
        ...

    @property
    def identity(self) -> bytes:
        """Of the log: 16 bytes, as images carry it."""
        ...

    @property
    def live(self) -> bool:
        """Events may come meanwhile. Read its log with `live=True` then, in a
        process of its own (an LMDB environment is opened once a process)."""
        ...

    async def save(self) -> int:
        """The state at some event that was the log's last when this was called,
        or a later one, is durable in the image; which event that is.

        :raises TreadleError: snapshot-failed, serf-died, replay-*
        """
        ...

    async def change_pins(self, pin: str, unpin: str) -> int:
        """Save, and keep what is saved under the name `pin`; let the generation
        that is kept as `unpin` go; "" for neither. The event that was saved.

        :raises TreadleError: as `save`
        """
        ...

    async def in_log(self, function: Callable[[Log], T], *, save: bool = False) -> T:
        """Run `function(log)` in the log's thread, at a wall: all that was
        computed is durable, nothing is being computed. New events wait until it
        returns, so let it be short. `save`: then make the state at this very
        wall durable in the image, before this returns; events go on meanwhile.

        :raises LogFailed: the ship stops, too
        """
        ...

    def hold_saves(self) -> AbstractAsyncContextManager[None]:
        """Within it the ship saves nothing by itself, so that what the image
        holds at its entry stays there. (Saves of the operation's own, of a
        serf's restart, and of the ship's end come all the same.)"""
        ...

    def note(self, text: str) -> None:
        """Tell people, at the ship's terminal or on stderr."""
        ...


class PierGround:
    """Of a `Ground`, what its pier knows."""

    def __init__(self, pier: Pier) -> None:
        self._pier = pier

    @property
    def layout(self) -> Layout:
        return self._pier.layout

    @property
    def ship(self) -> bytes:
        return self._pier.ship

    @property
    def identity(self) -> bytes:
        return self._pier.identity


async def log_of(ground: Ground) -> Log:
    """The log, at a moment when all that was computed is in it."""
    return await ground.in_log(lambda log: log)


Operation = Callable[
    [Ground, Mapping[str, Any], Callable[[Progress], None]], Awaitable[dict[str, Any]]
]
