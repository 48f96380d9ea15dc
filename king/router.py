"""Where effects go, and where ova come in: one channel and one lane a driver.

Owns: the drivers' effect channels, their injectors, the table of routes.
Invariants: `hand` never waits and never raises; routes are asked in the fixed
    order of specification 6.0, the first that takes an effect ends the search.
    An effect that nobody takes is logged and lost.
Limits: a channel with more than LAG_MAX effects or LAG_BYTES unhandled lags:
    its lane admits nothing until half of that is drained.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import trio

from king.event import Effect, Outcome, Ovum
from king.pipeline import Lane, Pipeline, effect_size

__all__ = ["ORDER", "Channel", "Injector", "Route", "Router"]

ORDER = (
    "fore",
    "term",
    "unix",
    "cttp",
    "http",
    "ames",
    "mesa",
    "lick",
    "conn",
    "behn",
    "hind",
)
"""Priority of events and of effects (specification 6.0)."""

LAG_MAX = 4_096
LAG_BYTES = 32 << 20


class Channel:
    """A driver's effects, in event order. One reader."""

    def __init__(self, lane: Lane | None = None) -> None:
        self._items: deque[tuple[int, Effect]] = deque()
        self._bytes = 0
        self._task: trio.lowlevel.Task | None = None
        self._closed = False
        self._lane = lane
        self._at = 0  # the event whose effect the driver handles now
        self.on_drained: Callable[[], None] | None = None

    def put(self, event: int, effect: Effect) -> None:
        """Never waits. After `close`, effects are lost."""
        if self._closed:
            return
        self._items.append((event, effect))
        self._bytes += effect_size(effect)
        if self._task is not None:
            trio.lowlevel.reschedule(self._task)
            self._task = None
        elif self._lane is not None and (
            len(self._items) > LAG_MAX or self._bytes > LAG_BYTES
        ):
            self._lane.lagging = True

    @property
    def unhandled(self) -> int:
        """The oldest event with an effect that is not handled, or 0."""
        if self._at:
            return self._at
        return self._items[0][0] if self._items else 0

    def __len__(self) -> int:
        return len(self._items)

    def close(self) -> None:
        """The iteration ends when what is in it is handled."""
        self._closed = True
        if self._task is not None:
            trio.lowlevel.reschedule(self._task)
            self._task = None

    def __aiter__(self) -> AsyncIterator[tuple[int, Effect]]:
        return self

    async def __anext__(self) -> tuple[int, Effect]:
        self._at = 0
        await trio.lowlevel.checkpoint_if_cancelled()
        while not self._items:
            if self.on_drained is not None:
                self.on_drained()
            if self._closed:
                raise StopAsyncIteration
            assert self._task is None, "a channel has one reader"
            self._task = trio.lowlevel.current_task()

            def abort(_: Any) -> trio.lowlevel.Abort:
                self._task = None
                return trio.lowlevel.Abort.SUCCEEDED

            await trio.lowlevel.wait_task_rescheduled(abort)
        item = self._items.popleft()
        self._at = item[0]
        self._bytes -= effect_size(item[1])
        lane = self._lane
        if (
            lane is not None
            and lane.lagging
            and len(self._items) <= LAG_MAX // 2
            and self._bytes <= LAG_BYTES // 2
        ):
            lane.lagging = False
            if lane.on_room is not None:
                lane.on_room()
        return item


class Injector:
    """What drivers know as `inject`: see king.drivers.base.Inject."""

    def __init__(
        self,
        pipeline: Pipeline,
        lane: Lane,
        pump: Callable[[], None],
        targets: frozenset[str] | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._lane = lane
        self._pump = pump
        self._targets = targets
        self._waiting: deque[
            tuple[Ovum, Callable[[Outcome], None] | None, trio.lowlevel.Task]
        ] = deque()
        lane.on_room = self._on_room

    async def __call__(self, ovum: Ovum) -> Outcome:
        ticket = _Ticket()
        await self.submit(ovum, ticket.settle)
        return await ticket.wait()

    async def submit(
        self, ovum: Ovum, done: Callable[[Outcome], None] | None = None
    ) -> None:
        targets = self._targets
        if targets is not None and (not ovum.wire or ovum.wire[0] not in targets):
            raise ValueError(f"{self._lane.name} may not inject on {ovum.wire}")
        pipeline, lane = self._pipeline, self._lane
        if self._waiting or not (
            pipeline.has_room(lane, len(ovum.jam)) or pipeline.refusing is not None
        ):
            await self._wait(ovum, done)
        else:
            pipeline.offer(lane, ovum, done)
        self._pump()

    async def _wait(self, ovum: Ovum, done: Callable[[Outcome], None] | None) -> None:
        """Queue for admission; `_on_room` makes the offer, in order."""
        entry = (ovum, done, trio.lowlevel.current_task())
        self._waiting.append(entry)

        def abort(_: Any) -> trio.lowlevel.Abort:
            self._waiting.remove(entry)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def _on_room(self) -> None:
        pipeline, lane = self._pipeline, self._lane
        while self._waiting:
            ovum, done, task = self._waiting[0]
            if pipeline.refusing is None and not pipeline.has_room(lane, len(ovum.jam)):
                return
            self._waiting.popleft()
            # First, so that it cannot be cancelled in between by `done`.
            trio.lowlevel.reschedule(task)
            pipeline.offer(lane, ovum, done)


class _Ticket:
    """One outcome for one task, which may have gone away meanwhile."""

    __slots__ = ("_outcome", "_task")

    def __init__(self) -> None:
        self._outcome: Outcome | None = None
        self._task: trio.lowlevel.Task | None = None

    def settle(self, outcome: Outcome) -> None:
        self._outcome = outcome
        if self._task is not None:
            trio.lowlevel.reschedule(self._task)
            self._task = None

    async def wait(self) -> Outcome:
        if self._outcome is None:
            self._task = trio.lowlevel.current_task()

            def abort(_: Any) -> trio.lowlevel.Abort:
                self._task = None
                return trio.lowlevel.Abort.SUCCEEDED

            await trio.lowlevel.wait_task_rescheduled(abort)
        else:
            await trio.lowlevel.checkpoint()
        assert self._outcome is not None
        return self._outcome


@dataclass(frozen=True, slots=True)
class Route:
    """`takes` says whether this driver wants an effect; it must not raise."""

    name: str
    takes: Callable[[Effect], bool]
    put: Callable[[int, Effect], None]


class Router:
    """The table of routes, and the watermark of what was handled."""

    def __init__(self, lost: Callable[[Effect], None]) -> None:
        self._routes: list[Route] = []
        self._channels: list[Channel] = []
        self._lost = lost

    def add(
        self,
        name: str,
        takes: Callable[[Effect], bool],
        put: Callable[[int, Effect], None],
        channel: Channel | None = None,
    ) -> None:
        """Put a route at its place in the fixed order."""
        self._routes.append(Route(name, takes, put))
        self._routes.sort(key=lambda route: ORDER.index(route.name))
        if channel is not None:
            self._channels.append(channel)

    def hand(self, event: int, effects: tuple[Effect, ...]) -> None:
        """Hand out the effects of a durable event."""
        for effect in effects:
            for route in self._routes:
                if route.takes(effect):
                    route.put(event, effect)
                    break
            else:
                self._lost(effect)

    def watermark(self, released: int) -> int:
        """The last event all of whose effects have left, given the last one
        that was handed out."""
        oldest = min((c.unhandled for c in self._channels if c.unhandled), default=0)
        return min(released, oldest - 1) if oldest else released
