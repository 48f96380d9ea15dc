"""What a driver is given, and what it owes.

A driver is `async def driver(*, inject, effects, ..., task_status)`. It calls
`task_status.started(...)` when it is live, and then runs until cancelled. It
holds nothing but its keyword arguments: no log, no serf, no other driver, no
clock of its own.

Duties. Handling an effect never awaits `inject` for the answer (spawn a task
or pass `done`): the release of effects must not wait for admission. Drain
`effects` promptly; a driver that lags is refused admission. Whatever comes
from outside is checked for size, depth and shape before it becomes an ovum.
Effects are the guest's words: a malformed one is logged and dropped, never
raised.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Protocol

from king.event import Effect, Outcome, Ovum

__all__ = ["Clock", "Effects", "Inject", "Instance", "Log", "Peek", "Tally"]

Tally = Callable[[str], None]
"""Count a client that was refused, by a word that says why; for the status."""


class Inject(Protocol):
    """Offer an ovum. Already narrowed to one driver's budget."""

    async def __call__(self, ovum: Ovum) -> Outcome:
        """Wait for admission, then for the outcome. A Fact means that the
        event is durable and its effects have been handed to the drivers."""
        ...

    async def submit(
        self, ovum: Ovum, done: Callable[[Outcome], None] | None = None
    ) -> None:
        """Wait for admission only; order of calls is order of events. `done`
        is called (synchronously, must not block or raise) just before that
        event's effects are handed out."""
        ...


class Effects(Protocol):
    """The effects routed to one driver, in event order."""

    def __aiter__(self) -> AsyncIterator[tuple[int, Effect]]:
        """Yield (event number, effect); ends when the ship closes."""
        ...


class Peek(Protocol):
    """Read the kernel's namespace."""

    async def __call__(self, sample: bytes, *, deadline_ms: int = 10_000) -> bytes:
        """Slam the peek arm with jam `sample`; the product's jam (a unit).

        :raises king.errors.PeekFailed: with the goofs, if it bails.
        """
        ...


class Clock(Protocol):
    """Wall time. Timers use trio's own clock (testable with MockClock)."""

    def now(self) -> int:
        """The time as a 128-bit @da."""
        ...


class Log(Protocol):
    """Tell people something: goes to the terminal above the prompt, or stderr."""

    def __call__(self, text: str, *, priority: int = 0) -> None: ...


class Instance(Protocol):
    """This run of the king: `number` (mug of the start time) and `knot`,
    its @uv text, as it stands in wires ("sev" of the specification)."""

    @property
    def number(self) -> int: ...

    @property
    def knot(self) -> str: ...
