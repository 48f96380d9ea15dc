"""One simulated ship, from its first king to its last, and the oracle.

What runs is production code: pipeline, spine, lord, replay, router, maintain,
codec; what it runs on is `world`. A plan's kings follow one another on one
pier; the last one meets no misfortune and must come to rest by itself.

The oracle looks from outside: what clients were told, what drivers got, what
is in the log; a twin folds the log again; and the notes of king and serf must
be a run of the model (king/lab/protocol.py).
"""

from __future__ import annotations

import gc
import traceback
import zlib
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio
import trio.testing
from trio._core import _run as trio_core

from king.child import Child, SerfSpec
from king.config import SaveGoals
from king.errors import PeekFailed, TreadleError
from king.event import Effect, Fact, Failure, Outcome, Refused
from king.lab.protocol import judge
from king.lord import Death, Lord
from king.maintain import Cadence, keep_saving
from king.pipeline import TICK, Ask, Limits, Pipeline, Poke, head_time
from king.replay import Replayed, raise_serf, raise_serf_once, replay
from king.router import ORDER, Channel, Injector, Router
from king.spine import LogWriter, Spine, World
from proto import fast
from proto.cord import cord
from proto.jam import cue, jam
from proto.message import Saved
from proto.record import Action
from tests.simulation.plan import Offer, Plan
from tests.simulation.world import (
    DRIVERS,
    EFFECTS_MAX,
    LOG_NAME,
    ROOM,
    SHIP,
    Machine,
    SimChild,
    SimLog,
    SimThread,
    effects_of,
    ovum_of,
    parse,
    step,
)

__all__ = ["Report", "simulate"]

LOW_WATER = 1 << 20
EPOCH = 1 << 100
SECOND = 1 << 64
REST_S = 1200.0
"""A ship in peace that takes longer than this to come to rest is stuck. (Garbage that
looks like a long frame costs a serf its whole deadline, three times an event.)"""
END_S = 10_000.0
"""If all wait for one another, time jumps here."""
REIGNS_MAX = 12
NEVER_LOGGED = {"bail", "hang", "deaf", "die", "exit"}


@dataclass(frozen=True, slots=True)
class Report:
    """How it went. `violations` is empty where all is well."""

    violations: tuple[str, ...]
    events: int
    reigns: int
    serfs: int
    acknowledged: int
    effects: int
    steps: int
    simulated_s: float
    happened: Counter[str]
    digest: int


class _Reign:
    """One king on the pier."""

    def __init__(self, ship: _Ship, *, peaceful: bool) -> None:
        self.ship = ship
        self.machine = ship.machine
        self.peaceful = peaceful
        self.log = SimLog(self.machine)
        self.thread = SimThread(self.machine)
        self.stop = trio.Event()
        self.channels: list[Channel] = []
        self.mark = len(self.machine.rows)
        self.handed: dict[int, int] = {}  # event -> effects not yet handled
        self.offered: dict[int, Offer] = {}
        self.told: set[int] = set()
        self.driving = 0  # drivers that have not seen the end of their effects
        self.waiting = 0  # offers without an outcome
        self.snapshot = 0
        self.began = len(self.machine.rows)
        self.injectors: list[Injector] = []
        self.nursery: trio.Nursery
        self.outer: trio.Nursery
        self.spine: Spine
        self.router: Router

    # --- from start to end ----------------------------------------------------

    async def run(self) -> None:
        machine = self.machine
        machine.reign += 1
        machine.king_lives = True
        async with trio.open_nursery() as self.outer:
            with trio.CancelScope() as scope:
                killed = trio.Event()
                machine.kill = killed.set
                self.outer.start_soon(self._die, killed, scope)
                self.outer.start_soon(self.thread.serve)
                async with trio.open_nursery() as self.nursery:
                    await self._live()
                    self.nursery.cancel_scope.cancel()
            machine.king_lives = False
            if machine.serf is not None:
                machine.serf.end(-9)
            self.outer.cancel_scope.cancel()

    async def _die(self, killed: trio.Event, scope: trio.CancelScope) -> None:
        """From a task of its own: a death may strike in any callback."""
        await killed.wait()
        scope.cancel()

    async def _live(self) -> None:
        machine, nursery = self.machine, self.nursery
        await self.thread.run(self.log.settle)
        machine.note(Action.KING_START, self.log.last)
        began = self.began
        if not self.peaceful:
            nursery.start_soon(self._misfortunes)
        try:
            lord, replayed = await raise_serf(
                self._spawn,
                partial(self._catch_up, halt=self.stop.is_set),
                tell=self._tell,
                halt=self.stop.is_set,
            )
        except TreadleError as error:
            if self.peaceful:
                machine.violate(f"a start in peace failed: {error.message}")
            return
        if self.stop.is_set():
            return
        rows = self.log.read(began, 1) if began else []
        last_time = (head_time(rows[0].job) or 0) if rows else 0
        self._wire(began, last_time, replayed.mug)
        self.snapshot = replayed.snapshot
        self.spine.adopt(lord, began)
        nursery.start_soon(self.spine.run)
        for index, channel in enumerate(self.channels):
            nursery.start_soon(self._driver, index, channel)
        nursery.start_soon(self._save_now_and_then)
        late = trio.current_time() + REST_S
        async with trio.open_nursery() as clients:
            clients.start_soon(self._clients)
            while not (self.stop.is_set() or self.spine.failed.is_set()):
                if self.ship.is_over:
                    break
                if trio.current_time() > late:
                    machine.violate("the ship is stuck: offers are not admitted")
                    break
                await trio.sleep(0.05)
            drained = await self._end()
            clients.cancel_scope.cancel()
        self._look_at_the_end(drained)

    async def _end(self) -> bool:
        spine = self.spine
        if self.peaceful and not await self._rests():
            pipeline = spine.pipeline
            self.machine.violate(
                f"a ship in peace does not come to rest: {pipeline.queued} queued, "
                f"{len(pipeline.flight)} in flight, {len(pipeline.answers)} answers"
            )
        drained = await spine.wind_down(
            30.0, snapshot_event=lambda: self.snapshot, saved=self._saved
        )
        for channel in self.channels:
            channel.close()
        with trio.move_on_after(60):
            while self.driving:
                await trio.sleep(0.01)
        return drained

    async def _rests(self) -> bool:
        with trio.move_on_after(REST_S):
            await self.spine.drain()
            while any(self.channels) or self.waiting:
                await trio.sleep(0.05)
            return True
        return False

    def _wire(self, event: int, last_time: int, mug: int) -> None:
        plan = self.machine.plan
        pipeline = Pipeline(
            ORDER,
            event=event,
            last_time=last_time,
            stamp=fast.stamp,
            mug=mug,
            limits=Limits(
                lane_events=plan.lane_events,
                flight_events=plan.flight_events,
                batch_events=plan.batch_events,
                effects=EFFECTS_MAX,
                deadline_ms=20_000,
            ),
            record=self.machine.note,
        )
        self.router = Router(lambda effect: self.machine.violate(f"lost {effect}"))
        world = World(
            now=lambda: EPOCH + int(trio.current_time() * SECOND),
            hand=self._hand,
            released=self._released,
            revive=self._revive,
            buried=self._buried,
            quarantine=lambda poke, death: "nowhere",
            tell=self._tell,
        )
        writer = LogWriter(self.log.append, lambda: self.machine.free, LOW_WATER)
        self.spine = Spine(pipeline, writer, self.thread, world)
        lanes = {lane.name: lane for lane in pipeline.lanes}
        for name in DRIVERS:
            channel = Channel(lanes[name])
            channel.on_drained = self._drained
            self.channels.append(channel)
            head = name.encode()
            self.router.add(
                name, lambda e, head=head: e.wire[:1] == (head,), channel.put, channel
            )
            self.injectors.append(Injector(pipeline, lanes[name], self.spine.pump))

    # --- serfs ----------------------------------------------------------------

    async def _spawn(self, verify: bool) -> Lord:
        spec = SerfSpec(Path("image"), SHIP, LOG_NAME, self.log.last, verify)
        return await Lord.start(self.nursery, spec, spawn=self._start_child)

    async def _start_child(self, spec: SerfSpec) -> Child:
        self.ship.serfs += 1
        child = SimChild(self.machine, spec, self.ship.serfs)
        self.outer.start_soon(child.run)
        await trio.lowlevel.checkpoint()
        return child

    async def _catch_up(
        self, lord: Lord, halt: Callable[[], bool] | None = None
    ) -> Replayed:
        return await replay(
            lord,
            self.log,
            self.thread,
            life=0,
            save_at_end=self.machine.dice.random() < 0.2,
            halt=halt,
        )

    async def _revive(self, verify: bool) -> tuple[Lord, int]:
        lord, replayed = await raise_serf_once(self._spawn, self._catch_up, verify)
        self.snapshot = replayed.snapshot
        return lord, replayed.event

    def _buried(self, death: Death, suspect: Poke | Ask | None) -> None:
        self.machine.happened["serf's death"] += 1

    def _tell(self, text: str) -> None:
        pass

    # --- drivers and clients --------------------------------------------------

    def _hand(self, event: int, effects: tuple[Effect, ...]) -> None:
        machine = self.machine
        if not machine.touch():
            return
        if event > len(machine.rows):
            machine.violate(f"effects of event {event} before it is durable")
            return
        told = [(e.wire[0].decode(), cue(e.data)) for e in effects]
        twin = effects_of(machine.rows[event - 1].job)
        due = [(DRIVERS[driver], what) for driver, what in twin]
        if told != due:
            machine.violate(f"event {event} tells {told}, its twin {due}")
        self.handed[event] = len(effects)
        self.router.hand(event, effects)

    async def _driver(self, index: int, channel: Channel) -> None:
        machine = self.machine
        self.driving += 1
        async for event, effect in channel:
            if machine.strikes("drivers-stall"):
                await trio.sleep(0.5)
            if not machine.touch():
                return
            what = cue(effect.data)
            assert isinstance(what, int)
            if (event, what) in machine.handled:
                machine.violate(f"driver {index} hears {what} of event {event} again")
            machine.handled[event, what] = machine.reign
            self.handed[event] -= 1
        self.driving -= 1

    def _released(self, event: int) -> None:
        self._move_mark(self.router.watermark(event))

    def _drained(self) -> None:
        self._move_mark(self.router.watermark(self.spine.pipeline.released))

    def _move_mark(self, mark: int) -> None:
        """As the daemon does with .urb/released: never ahead of the drivers."""
        machine = self.machine
        if not machine.king_lives:
            return
        for event in range(self.mark + 1, mark + 1):
            if event > len(machine.rows):
                machine.violate(f"event {event} counts as released; it is not durable")
            elif effects_of(machine.rows[event - 1].job) and self.handed.get(event, 1):
                machine.violate(f"event {event} counts as released; it is not handled")
        self.mark = max(self.mark, mark)

    async def _clients(self) -> None:
        """Offers in the plan's order, each at its time; one client a lane."""
        async with trio.open_nursery() as nursery:
            for lane in range(len(DRIVERS)):
                nursery.start_soon(self._client, lane, nursery)

    async def _client(self, lane: int, nursery: trio.Nursery) -> None:
        ship = self.ship
        offers = ship.offers[lane]
        while offers:
            offer = offers[0]
            await trio.sleep_until(ship.began + offer.at)
            if not self.machine.touch():
                return
            offers.popleft()
            match offer.kind:
                case "save":
                    nursery.start_soon(self._save)
                case "peek" | "peek-bad" | "peek-die" | "peek-lie":
                    nursery.start_soon(self._peek, offer)
                case _:
                    await self._offer(offer)

    async def _offer(self, offer: Offer) -> None:
        def done(outcome: Outcome) -> None:
            self._on_outcome(offer, outcome)

        self.offered[offer.name] = offer
        self.waiting += 1
        ovum = ovum_of(offer.name, offer.lane, offer.kind)
        await self.injectors[offer.lane].submit(ovum, done)
        self.nursery.start_soon(self._look_at_rest)

    async def _look_at_rest(self) -> None:
        """Nobody has anything to do now; then nothing may lie about that the
        serf could have: it computes while others wait for the disk."""
        await trio.testing.wait_all_tasks_blocked()
        pipeline = self.spine.pipeline
        plans_save = pipeline.is_saving and pipeline.saving is None
        if not pipeline.up or pipeline.careful or plans_save:
            return
        room = len(pipeline.flight) < pipeline.limits.flight_events
        if room and pipeline.queued and self.machine.king_lives:
            self.machine.violate(f"{pipeline.queued} events wait for no reason")

    def _on_outcome(self, offer: Offer, outcome: Outcome) -> None:
        machine, ship = self.machine, self.ship
        if not machine.touch():
            return
        self.waiting -= 1
        if offer.name in self.told:
            machine.violate(f"offer {offer.name} has two outcomes")
        self.told.add(offer.name)
        if isinstance(outcome, Fact):
            if outcome.event > len(machine.rows):
                machine.violate(f"event {outcome.event} is told before it is durable")
                return
            row = machine.rows[outcome.event - 1]
            if parse(row.job)[2] != offer.name or row.mug != outcome.mug:
                machine.violate(f"event {outcome.event} is not offer {offer.name}")
            if outcome.replaced != (offer.kind == "crud"):
                machine.violate(f"offer {offer.name}: replaced is {outcome.replaced}")
            ship.acknowledged[offer.name] = outcome.event
        elif isinstance(outcome, Failure):
            ship.failed.add(offer.name)
        elif self.spine.fault is None:
            # After a failed commit nobody knows; else it was never computed.
            assert isinstance(outcome, Refused)
            ship.refused.add(offer.name)

    async def _peek(self, offer: Offer) -> None:
        machine = self.machine
        floor = max(self.ship.acknowledged.values(), default=0)
        try:
            seen = cue(await self.spine.peek(jam(cord(offer.kind))))
        except (PeekFailed, TreadleError):
            return
        assert isinstance(seen, int)
        if machine.touch() and not floor <= seen <= len(machine.rows):
            machine.violate(
                f"a peek shows event {seen}: {floor} was acknowledged, "
                f"{len(machine.rows)} is durable"
            )

    async def _save(self) -> None:
        try:
            saved = await self.spine.save()
        except TreadleError:
            return
        if saved is not None:
            self._saved(saved)

    async def _save_now_and_then(self) -> None:
        await keep_saving(
            self.spine,
            Cadence(SaveGoals(interval_s=self.machine.plan.save_s)),
            computed=lambda _: 0.0,
            saved=self._saved,
            tell=self._tell,
        )

    def _saved(self, saved: Saved) -> None:
        if saved.event > len(self.machine.rows):
            self.machine.violate(f"event {saved.event} is saved; it is not durable")
        self.snapshot = saved.event

    # --- misfortunes ----------------------------------------------------------

    async def _misfortunes(self) -> None:
        ship, machine = self.ship, self.machine
        while ship.faults:
            fault = ship.faults[0]
            await trio.sleep_until(ship.began + fault.at)
            ship.faults.pop(0)
            match fault.kind:
                case "serf-kill":
                    if machine.serf is not None:
                        machine.happened["serf-kill"] += 1
                        machine.serf.end(-9)
                case "king-kill":
                    machine.kill_in = fault.amount
                case "stop":
                    machine.happened["stop"] += 1
                    self.stop.set()
                case "interrupt":
                    if hasattr(self, "spine"):
                        machine.happened["interrupt"] += self.spine.interrupt()
                case "disk-low":
                    machine.happened["disk-low"] += 1
                    machine.free = LOW_WATER // 2
                    self.outer.start_soon(self._free_the_disk, fault.amount)
                case "commit-slow":
                    machine.commit_slow_s = fault.amount / 20
                    machine.armed["commit-slow"] += 1
                case kind:
                    machine.armed[kind] += 1 + fault.amount // 16

    async def _free_the_disk(self, seconds: float) -> None:
        try:
            await trio.sleep(seconds)
        finally:
            self.machine.free = ROOM

    # --- the oracle -----------------------------------------------------------

    def _look_at_the_end(self, drained: bool) -> None:
        """This king came to its end by itself."""
        machine, spine, pipeline = self.machine, self.spine, self.spine.pipeline
        if not machine.king_lives:
            return
        if self.peaceful and not drained:
            machine.violate("a ship in peace could not be drained")
        untold = set(self.offered) - self.told
        if untold:
            machine.violate(f"offers {sorted(untold)} have no outcome")
        for lane in pipeline.lanes:
            if lane.events or lane.bytes:
                machine.violate(f"lane {lane.name}: a budget leaks")
        if spine.fault is not None:
            return
        if pipeline.committed != len(machine.rows):
            machine.violate("the king and its log disagree")
        for event in range(self.began + 1, len(machine.rows) + 1):
            due = len(effects_of(machine.rows[event - 1].job))
            if due and self.handed.get(event, due):
                machine.violate(f"effects of event {event} did not all get out")


class _Ship:
    """All kings of a pier, one after the other."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.machine = Machine(plan)
        self.offers = [
            deque(offer for offer in plan.offers if offer.lane == lane)
            for lane in range(len(DRIVERS))
        ]
        self.faults = list(plan.faults)
        self.began = 0.0
        self.serfs = 0
        self.acknowledged: dict[int, int] = {}
        self.failed: set[int] = set()
        self.refused: set[int] = set()

    @property
    def is_over(self) -> bool:
        """All that was planned has happened."""
        return not (any(self.offers) or self.faults)

    async def run(self) -> None:
        machine = self.machine
        self.began = trio.current_time()
        with trio.move_on_after(END_S) as scope:
            await self._reigns()
        if scope.cancelled_caught:
            machine.violate(f"reign {machine.reign} hangs")

    async def _reigns(self) -> None:
        machine = self.machine
        while not self.is_over and machine.reign < REIGNS_MAX:
            await _Reign(self, peaceful=False).run()
            machine.kill_in = 0
            machine.free = ROOM
        machine.armed.clear()
        await _Reign(self, peaceful=True).run()

    def look(self) -> None:
        """The oracle's last look: log, twin, what was told, the model."""
        machine = self.machine
        violate = machine.violate
        rank = {offer.name: at for at, offer in enumerate(self.plan.offers)}
        kinds = {offer.name: offer.kind for offer in self.plan.offers}
        places: dict[int, int] = {}
        newest = [-1] * len(DRIVERS)
        mug, time = 0, 0
        for event, row in enumerate(machine.rows, 1):
            mug = step(mug, row.job)
            if row.mug != mug:
                violate(f"event {event} has mug {row.mug:x}, its twin {mug:x}")
            now = head_time(row.job) or 0
            if now < time + TICK:
                violate(f"event {event} turns the clock back")
            time = now
            kind, lane, name = parse(row.job)
            if name in places:
                violate(f"offer {name} is event {places[name]} and event {event}")
            places[name] = event
            if kind in NEVER_LOGGED or (kind == "crud") != (kinds[name] == "crud"):
                violate(f"event {event} is %{kind}, offered as %{kinds[name]}")
            if rank[name] < newest[lane]:
                violate(f"event {event} overtakes one of its lane")
            newest[lane] = rank[name]
        for name, event in self.acknowledged.items():
            if places.get(name) != event:
                violate(f"offer {name}, told event {event}, is {places.get(name)}")
        for name in self.failed | self.refused:
            if name in places:
                violate(f"offer {name} was told it failed: it is event {places[name]}")
        why = judge(machine.notes)
        if why is not None:
            violate(f"no run of the model: {why}")


def simulate(plan: Plan) -> Report:
    """Run a plan to its end. The same plan always runs the same way."""
    trio_core._ALLOW_DETERMINISTIC_SCHEDULING = True
    trio_core._r.seed(plan.seed)
    ship = _Ship(plan)
    machine = ship.machine
    clock = trio.testing.MockClock(autojump_threshold=0)
    collecting = gc.isenabled()
    gc.disable()
    try:
        trio.run(ship.run, clock=clock)
        ship.look()
    except Exception as error:
        machine.violate(f"crashed: {_first(error)}")
    finally:
        if collecting:
            gc.enable()
    told = repr((machine.notes, machine.rows, machine.handled, ship.acknowledged))
    return Report(
        tuple(machine.violations),
        len(machine.rows),
        machine.reign,
        ship.serfs,
        len(ship.acknowledged),
        len(machine.handled),
        len(machine.notes),
        clock.current_time(),
        machine.happened,
        zlib.crc32(told.encode()),
    )


def _first(error: BaseException) -> str:
    """The first cause in a tree of groups, and where it was raised."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
    return f"{error!r} at {where}"
