"""Timers. The kernel says %doze with a time, behn says %wake when it comes.

Wires: out /b/behn/<sev> %born, /b/behn %wake; in /behn %doze (unit @da). One
timer at most is armed: each %doze replaces the one before.

A timer is due when the wall clock has reached its time, or when as much time
has passed as there was to wait when it was set, whichever is first. So a
clock that jumps ahead (a suspended laptop, a first NTP step) fires it within
CHECK_S, and one that jumps back cannot put it off; a kernel that finds it is
too early just dozes again. The check costs one clock read every CHECK_S
seconds, only while a timer is armed.

After a %wake, a backstop is armed: if the kernel does not doze again, it is
woken after BACKSTOP_S, as Vere does. A %wake (or %born) that fails for want
of memory or time is tried again, RETRIES times; one that is refused for now (the
disk is nearly full) every CHECK_S. If it fails for good the kernel's queue is
blocked: `on_blocked` decides whether the ship goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from king.drivers.base import Clock, Effects, Inject, Instance, Log
from king.drivers.wire import effect_wire, motes, ovum, read_small
from king.event import Effect, Fact, Failure, Ovum, Refused
from proto.cord import SECOND
from proto.noun import Cell

__all__ = ["BACKSTOP_S", "CHECK_S", "RETRIES", "behn"]

BACKSTOP_S: Final = 600.0
CHECK_S: Final = 4.0
RETRIES: Final = 2
_FAR: Final = SECOND << 40
"""Beyond any clock; keeps a guest's absurd number within a float."""


class _Timer:
    """The armed time, if any, and a bell for changes."""

    __slots__ = ("_bell", "_clock", "_deadline", "_due")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due: int | None = None
        self._deadline: float | None = None
        self._bell = trio.Event()

    def arm(self, due: int) -> None:
        """Fire at the @da `due`."""
        now = self._clock.now()
        self._due = min(due, now + _FAR)
        self._deadline = trio.current_time() + max(0, self._due - now) / SECOND
        self._bell.set()

    def arm_backstop(self) -> None:
        self._due = None
        self._deadline = trio.current_time() + BACKSTOP_S

    def cancel(self) -> None:
        self._due = self._deadline = None
        self._bell.set()

    def _left(self) -> float | None:
        if self._deadline is None:
            return None
        if self._due is not None and self._clock.now() >= self._due:
            return 0.0
        return max(0.0, self._deadline - trio.current_time())

    async def wait(self) -> None:
        """Return when the timer is due."""
        while (left := self._left()) != 0.0:
            self._bell = trio.Event()
            if left is None:
                await self._bell.wait()
                continue
            if self._due is not None:
                wall = (self._due - self._clock.now()) / SECOND
                left = min(left, CHECK_S, max(wall, 0.0))
            with trio.move_on_after(left):
                await self._bell.wait()


async def behn(
    *,
    inject: Inject,
    effects: Effects,
    clock: Clock,
    instance: Instance,
    log: Log,
    on_blocked: Callable[[str], None] | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run until the effects end. Live once the kernel has taken %born.

    `on_blocked` is called (once a time, with a line for people) when %born or
    %wake failed for good; without it, the backstop tries again later.
    """
    timer = _Timer(clock)

    async def say(event: Ovum) -> None:
        failure = await _insist(inject, event)
        if failure is None:
            return
        line = f"behn: timer failed (%{event.tag}: {failure}); queue blocked"
        log(line, priority=1)
        if on_blocked is not None:
            on_blocked(line)

    async def fire() -> None:
        wake = ovum(("b", "behn"), "wake")
        while True:
            await timer.wait()
            timer.arm_backstop()
            await say(wake)

    async def start() -> None:
        await say(ovum(("b", "behn", instance.knot), "born"))
        task_status.started()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(start)
        nursery.start_soon(fire)
        async for event, effect in effects:
            why = _handle(timer, effect)
            if why:
                log(f"behn: event {event}: {why}")
        nursery.cancel_scope.cancel()


async def _insist(inject: Inject, event: Ovum) -> str | None:
    """Offer an event, again where another try may help; say why it failed."""
    for last in (False,) * RETRIES + (True,):
        outcome = await inject(event)
        while isinstance(outcome, Refused) and outcome.again:
            await trio.sleep(CHECK_S)
            outcome = await inject(event)
        if isinstance(outcome, Fact):
            return None
        if not isinstance(outcome, Failure):
            return outcome.why
        first = outcome.goofs[0].mote if outcome.goofs else ""
        if last or first not in ("meme", "intr"):
            return motes(outcome)
    raise AssertionError("the last try returns")


def _handle(timer: _Timer, effect: Effect) -> str:
    """Do what the kernel says; say why not."""
    if effect_wire(effect)[:1] != (b"behn",) or effect.tag != b"doze":
        return f"lost %{effect.tag.decode('utf-8', 'backslashreplace')[:40]}"
    try:
        unit = read_small(effect.data, 1024)
    except ValueError as error:
        return f"strange %doze: {error}"
    if unit == 0:
        timer.cancel()
    elif isinstance(unit, Cell) and unit.head == 0 and isinstance(unit.tail, int):
        timer.arm(unit.tail)
    else:
        return "strange %doze"
    return ""
