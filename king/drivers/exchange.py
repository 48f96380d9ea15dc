"""One request that the kernel has: what it says, in order, within bounds. Pure
but for the bell that wakes the one task that waits for it.

The driver puts parts in as effects come (never waiting); the connection's own
task takes them out and parses them.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final, Literal

import trio

from king.event import Fact, Jam, Outcome

__all__ = ["DEFAULT", "Exchange", "Limits", "http_date"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds, each with what happens at it."""

    connections: int = 512
    """At once; then idle ones are closed, and new ones wait in the backlog."""
    header: int = 1 << 16
    """Bytes of a request's head; 431."""
    body: int = 512 << 20
    """Bytes of a request's body; 413."""
    bodies: int = 1 << 30
    """The same, of all bodies being received; 503."""
    idle_s: float = 75.0
    """Between requests; then the connection closes."""
    header_s: float = 30.0
    """From a head's first byte to its last; 408."""
    body_s: float = 30.0
    """Without a byte of the body; 408."""
    start_s: float = 600.0
    """Until %start; 504."""
    continue_s: float = 45.0
    """Between parts of a response; cut off."""
    write_s: float = 60.0
    """Without the client taking WRITE_SIZE; cut off."""
    response: int = 64 << 20
    """Bytes of a response's parts in the queue; cut off (one may be larger)."""
    response_part: int = 512 << 20
    """Bytes of one part; it is not believed."""
    ahead: int = 1 << 16
    """Bytes of pipelined requests read while one is answered."""


DEFAULT: Final = Limits()
_CRUD_GRACE_S: Final = 1.0
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = "JanFebMarAprMayJunJulAugSepOctNovDec"

Word = Literal["gone", "late", "flood"]
"""Why a response ends without the kernel's word."""


def http_date(seconds: int) -> str:
    """Unix time as the `date` header has it."""
    days, rest = divmod(seconds, 86_400)
    # Days to a date, counted from 1 March of year 0 so that leap days are last.
    era, day = divmod(days + 719_468, 146_097)
    year = (day - day // 1460 + day // 36_524 - day // 146_096) // 365
    day -= 365 * year + year // 4 - year // 100
    month = (5 * day + 2) // 153
    day += 1 - (153 * month + 2) // 5
    year += 400 * era + (month >= 10)
    at = (month + 2) % 12 * 3
    name = _MONTHS[at : at + 3]
    clock = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{_DAYS[(days + 3) % 7]}, {day:02} {name} {year:04} {clock} GMT"


class Exchange:
    """One request that the kernel has, from submission to its last word."""

    __slots__ = ("_bell", "_limit", "_parts", "gone", "outcome", "queued", "word")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: deque[Jam] = deque()
        self.queued = 0
        self._bell = trio.Event()
        self.outcome: Outcome | None = None
        self.gone = False
        self.word: Word | None = None

    def put(self, part: Jam) -> None:
        """From the driver's task: a %response."""
        if self._parts and self.queued + len(part) > self._limit:
            self.word = "flood"
            self._parts.clear()
        elif self.word is None:
            self._parts.append(part)
            self.queued += len(part)
        self._bell.set()

    def done(self, outcome: Outcome) -> None:
        """From the pipeline: what became of the event."""
        self.outcome = outcome
        self._bell.set()

    @property
    def crashed(self) -> bool:
        """No answer will come: the event failed, or only its %crud stands."""
        outcome = self.outcome
        if outcome is None:
            return False
        return outcome.replaced if isinstance(outcome, Fact) else True

    async def next(self, deadline: float, *, started: bool) -> Jam | None:
        """The next part; None when there will be none (see `word`, `crashed`)."""
        while True:
            if self.word is not None:
                return None
            if self._parts:
                part = self._parts.popleft()
                self.queued -= len(part)
                return part
            if self.crashed and not started:
                if not isinstance(self.outcome, Fact):
                    return None
                # The %crud's own effects, if any, are a moment behind.
                deadline = min(deadline, trio.current_time() + _CRUD_GRACE_S)
            self._bell = trio.Event()
            with trio.move_on_at(deadline) as scope:
                await self._bell.wait()
            if scope.cancelled_caught:
                if not self.crashed:
                    self.word = "late"
                return None
