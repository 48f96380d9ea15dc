"""When a save is due: the estimate, the budget, and the loop on a simulated clock."""

from __future__ import annotations

import itertools
import math
import types
from argparse import ArgumentTypeError
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from king import values
from king.config import SaveGoals
from king.errors import TreadleError
from king.maintain import DAY_S, Cadence, keep_saving, thread_seconds
from proto.message import Saved

MB = 1 << 20


def made(**more: Any) -> Cadence:
    goals = SaveGoals(
        recovery_s=more.pop("recovery_s", 20.0),
        write_bytes_per_day=more.pop("budget", 0),
        interval_s=more.pop("interval_s", 0.0),
    )
    given = {"jitter": lambda: 1.0, "wall": lambda: 0.0, "start_s": 2.0}
    return Cadence(goals, **{**given, **more})


def saved(event: int, size: int = MB, generation: int = 0) -> Saved:
    return Saved(1, event, 0, generation or event, 1, size, 1)


def look(cadence: Cadence, computed: float, now: float = 0.0, event: int = 10) -> bool:
    return cadence.look(now, event, 1, computed, 0)


# --- decisions -----------------------------------------------------------------


def test_a_save_is_due_where_a_start_would_take_too_long() -> None:
    cadence = made()
    assert not look(cadence, 17.9)
    assert cadence.status(0)["recovery_estimate_seconds"] == 19.9
    assert look(cadence, 18.0)
    cadence.mark(1, 18.0, 0)
    cadence.saved(saved(10), 30)
    assert cadence.status(30)["recovery_estimate_seconds"] == 2.0
    assert not look(cadence, 30.0, 40, event=20)
    assert look(cadence, 36.0, 40, event=20)


def test_what_another_serf_computed_is_the_tail_alone() -> None:
    cadence = made()
    cadence.mark(1, 500.0, 0)
    cadence.saved(saved(10), 0)
    assert not cadence.look(0, 20, 2, 10.0, 0)
    assert cadence.status(0)["recovery_estimate_seconds"] == 12.0
    assert cadence.look(0, 20, 2, 19.0, 0)


def test_nothing_unsaved_is_never_due() -> None:
    cadence = made(event=10, interval_s=1.0)
    assert not look(cadence, 1000.0, 1000.0)
    assert cadence.patience(1000.0) == math.inf


def test_a_goal_shorter_than_the_start_does_not_save_without_end() -> None:
    cadence = made(recovery_s=1.0)
    assert not look(cadence, 0.1)
    assert look(cadence, 0.2)


def test_ships_that_began_together_do_not_save_together() -> None:
    early, late = made(jitter=lambda: 0.0), made(jitter=lambda: 1.0)
    assert look(early, 14.1)
    assert not look(late, 14.1)


def test_many_events_and_many_bytes_are_due_by_themselves() -> None:
    cadence = made(events_max=100, bytes_max=1000)
    assert not cadence.look(0, 99, 1, 0.0, 999)
    assert cadence.look(0, 100, 1, 0.0, 0)
    assert cadence.look(0, 1, 1, 0.0, 1000)


def test_a_timer_counts_from_the_first_event_that_is_not_saved() -> None:
    cadence = made(interval_s=60.0)
    assert not look(cadence, 0.0, 100.0)
    assert cadence.patience(130.0) == 30.0
    assert look(cadence, 0.0, 160.0)
    cadence.saved(saved(10), 160.0)
    assert cadence.patience(160.0) == math.inf


def test_the_budget_comes_before_the_goal() -> None:
    """864 MB a day are 10 kB a second; a bucket holds a quarter of that."""
    budget = 86_400 * 10_000
    cadence = made(budget=budget)
    generation = 0
    while look(cadence, 50.0 * (generation + 1), event=1000):
        generation += 1
        cadence.mark(1, 50.0 * generation, 0)
        cadence.saved(saved(10, 40_000_000, generation), 0.0)
        assert generation < 100
    assert generation == 5  # of 40 MB, out of 216
    assert cadence.held_back
    status = cadence.status(0.0)
    assert status["held_back"]
    assert status["bytes_written_today"] == 200_000_000
    assert status["write_budget_left"] == 16_000_000
    assert cadence.patience(0.0) == 2400.0  # for the 24 MB that lack
    assert not look(cadence, 400.0, 2399.0, event=1000)
    assert look(cadence, 400.0, 2400.0, event=1000)
    assert not cadence.held_back


def test_a_day_never_writes_much_more_than_its_budget() -> None:
    budget = 1_000 * MB
    cadence = made(budget=budget)
    written, computed, now, generation = 0, 0.0, 0.0, 0
    for _ in range(int(4 * DAY_S / 60)):
        now += 60.0
        computed += 60.0
        if cadence.look(now, 10_000_000, 1, computed, 0):
            generation += 1
            cadence.mark(1, computed, 0)
            cadence.saved(saved(generation, 37 * MB, generation), now)
            written += 37 * MB
    assert 3.9 * budget < written <= 4.3 * budget


def test_a_save_is_heard_once_and_the_day_begins_at_midnight() -> None:
    wall = [DAY_S - 1]
    cadence = made(wall=lambda: wall[0])
    cadence.saved(saved(5, MB, 7), 0)
    cadence.saved(saved(5, MB, 7), 0)
    assert cadence.status(0)["bytes_written_today"] == MB
    wall[0] = DAY_S
    assert cadence.status(0)["bytes_written_today"] == 0
    cadence.saved(saved(6, MB, 8), 0)
    assert cadence.status(0)["bytes_written_today"] == MB


def test_only_a_budget_has_a_pace() -> None:
    assert made().pace == 0
    assert made(budget=MB).pace > MB


def test_the_clock_of_a_thread() -> None:
    import os

    before = thread_seconds(os.getpid())
    total = 0
    while thread_seconds(os.getpid()) < before + 0.05:
        total += sum(range(1000))
    assert total > 0
    assert thread_seconds(0) == 0.0


# --- the loop ------------------------------------------------------------------


class World:
    """A spine as keep_saving sees it; its events take `cost` seconds each."""

    def __init__(self, cost: float) -> None:
        self.cost = cost
        self.pipeline = types.SimpleNamespace(committed=0)
        self.lord = types.SimpleNamespace(pid=1)
        self.active = trio.Event()
        self.bytes_logged = 0
        self.saves_held = 0
        self.saves: list[tuple[float, int]] = []
        self.refusals = 0
        self.looks = 0

    async def save(self, *, pace: int = 0, patient: bool = False) -> Saved:
        assert patient
        await trio.sleep(0.5)
        if self.refusals:
            self.refusals -= 1
            raise TreadleError("serf-died", "no room")
        event = self.pipeline.committed
        self.saves.append((trio.current_time(), event))
        return saved(event, 10 * MB, len(self.saves))

    def computed(self, _: int) -> float:
        self.looks += 1
        return float(self.pipeline.committed * self.cost)

    async def events(self, count: int, every: float) -> None:
        for _ in range(count):
            await trio.sleep(every)
            self.pipeline.committed += 1
            self.active.set()


async def keep(world: World, cadence: Cadence, told: list[str]) -> None:
    spine: Any = world
    await keep_saving(
        spine,
        cadence,
        saved=lambda _: None,
        tell=told.append,
        computed=world.computed,
    )


async def test_a_start_never_takes_much_longer_than_the_goal(
    autojump_clock: MockClock,
) -> None:
    world, told = World(1.0), list[str]()
    cadence = made()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep, world, cadence, told)
        await world.events(1_000, 2.0)  # half of the time is computing
        nursery.cancel_scope.cancel()
    assert len(world.saves) > 40
    events = [event for _, event in world.saves]
    worst = max(b - a for a, b in itertools.pairwise(events)) * world.cost
    assert 15 < worst + 2.0 < 20 + 5.0 * 0.5 + 1  # a look each five seconds
    assert not told


async def test_a_quiet_ship_is_left_alone(autojump_clock: MockClock) -> None:
    world, told = World(0.001), list[str]()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep, world, made(), told)
        await world.events(3, 1.0)
        await trio.sleep(10 * DAY_S)
        assert world.saves == []
        assert world.looks < 20
        nursery.cancel_scope.cancel()


async def test_what_fails_is_tried_again_and_held_saves_wait(
    autojump_clock: MockClock,
) -> None:
    world, told = World(100.0), list[str]()
    world.refusals = 2
    world.saves_held = 1
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep, world, made(), told)
        await world.events(1, 1.0)
        await trio.sleep(50)
        assert world.saves == []
        assert told == []
        world.saves_held = 0
        await trio.sleep(200)
        nursery.cancel_scope.cancel()
    assert told == ["snapshot put off: no room"] * 2
    assert len(world.saves) == 1


async def test_a_save_that_the_budget_holds_back_is_told_once(
    autojump_clock: MockClock,
) -> None:
    world, told = World(1.0), list[str]()
    cadence = made(budget=40 * MB)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep, world, cadence, told)
        await world.events(400, 100.0)
        nursery.cancel_scope.cancel()
    assert len(told) == len(world.saves) > 1
    assert all("the write budget holds a snapshot back" in line for line in told)


# --- what people type ------------------------------------------------------------


def test_goals_as_words() -> None:
    assert values.duration("20s") == values.duration("20") == 20
    assert values.duration("5m") == 300
    assert values.duration("1.5h") == 5400
    assert values.daily_size("5G/day") == values.daily_size("5G") == 5 << 30
    assert values.daily_size("0") == 0
    for word in ("", "s", "0", "-3s", "soon", "nan", "inf", "5d"):
        with pytest.raises(ArgumentTypeError, match="is no time such as 20s"):
            values.duration(word)
    for word in ("", "5G/week", "/day", "5X/day", "-1", "5G/day/day"):
        with pytest.raises(ArgumentTypeError, match="is no size a day"):
            values.daily_size(word)
