"""A king's middle without a daemon: spine, log, a serf, one or two lanes.

`open_rig` gives a `Rig` around the fake serf (or any command that speaks the
protocol) and a log (in memory unless given).
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from king.event import Effect, Outcome, Ovum
from king.lab.protocol import judge
from king.log.store import MemoryLog, Meta
from king.log_thread import LogThread
from king.lord import Death, Lord, SerfSpec
from king.pipeline import Ask, Limits, Pipeline, Poke
from king.replay import replay
from king.router import Injector
from king.spine import LogWriter, Spine, World
from proto.cord import cord, da_from_unix, path_noun
from proto.jam import cue, jam
from proto.message import Jam
from proto.noun import Cell
from proto.record import Action, Note

FAKE = str(Path(__file__).with_name("fake_serf.py"))
SHIP = bytes(16)
LOG = b"L" * 16
LANES = ("one", "two")


def ovum(tag: str, data: Any = 0, *, deadline_ms: int | None = None) -> Ovum:
    """An ovum that the fake serf understands."""
    noun = Cell(Cell(cord("x"), path_noun("test")), Cell(cord(tag), data))
    return Ovum(("x", "test"), tag, jam(noun), deadline_ms)


def slow_stamp(now: int, ovum_jam: bytes) -> bytes:
    """proto.fast.stamp without the C extension."""
    return jam(Cell(now, cue(ovum_jam)))


class Clock:
    """Wall time that only moves when told."""

    def __init__(self) -> None:
        self.time = da_from_unix(1_700_000_000 * 10**9)

    def now(self) -> int:
        return self.time


class Rig:
    """What a test looks at."""

    def __init__(self, folder: Path, log: Any, *, limits: Limits | None = None) -> None:
        self.log = log
        self.folder = folder
        self.image = folder / "image.json"
        self.clock = Clock()
        self.notes: list[Note] = []
        self.effects: list[tuple[int, Effect]] = []
        self.told: list[str] = []
        self.deaths: list[tuple[Death, Poke | Ask | None]] = []
        self.quarantined: list[Poke] = []
        self.released = 0
        self.free = 1 << 40
        self.command: tuple[str, ...] = (sys.executable, FAKE)
        self.options: tuple[str, ...] = ()
        self.environment: tuple[tuple[str, str], ...] = ()
        self.limits = limits
        self.record: Any = self._note
        self.stamp: Any = slow_stamp
        self.lord: Lord
        self.spine: Spine
        self.nursery: trio.Nursery
        self.thread: LogThread
        self.inject: Injector
        self.inject_two: Injector

    def spec(self, verify: bool = False) -> SerfSpec:
        return SerfSpec(
            self.image,
            SHIP,
            LOG,
            self.log.last,
            verify,
            command=self.command,
            options=self.options,
            environment=self.environment,
            handshake_s=60,
        )

    async def revive(self, verify: bool) -> tuple[Lord, int]:
        lord = await Lord.start(
            self.nursery, self.spec(verify), on_line=self.told.append
        )
        replayed = await replay(
            lord, self.log, self.thread, life=self.log.meta.life, save_at_end=False
        )
        return lord, replayed.event

    def _note(self, action: Action, number: int = 0, other: int = 0) -> None:
        self.notes.append(Note(len(self.notes), action, number, other, 0))

    def _hand(self, event: int, effects: tuple[Effect, ...]) -> None:
        assert event <= self.log.last, "released before it was durable"
        self.effects += [(event, effect) for effect in effects]

    def _released(self, event: int) -> None:
        self.released = event

    def _buried(self, death: Death, suspect: Poke | Ask | None) -> None:
        self.deaths.append((death, suspect))

    def _quarantine(self, poke: Poke, death: Death) -> str:
        self.quarantined.append(poke)
        return "nowhere"

    def _append(self, first: int, rows: Any) -> None:
        self.log.append(first, rows)

    async def start(self) -> None:
        self.thread = LogThread()
        if self.record is not None:
            self.record(Action.KING_START, self.log.last)
        pipeline = Pipeline(
            LANES,
            event=self.log.last,
            last_time=0,
            stamp=self.stamp,
            limits=self.limits,
            record=self.record,
        )
        world = World(
            now=self.clock.now,
            hand=self._hand,
            released=self._released,
            revive=self.revive,
            buried=self._buried,
            quarantine=self._quarantine,
            tell=self.told.append,
        )
        writer = LogWriter(self._append, lambda: self.free, 64 << 20)
        self.spine = Spine(pipeline, writer, self.thread, world)
        self.inject = Injector(pipeline, pipeline.lanes[0], self.spine.pump)
        self.inject_two = Injector(pipeline, pipeline.lanes[1], self.spine.pump)
        self.spine.adopt(*await self.revive(False))
        self.nursery.start_soon(self.spine.run)

    async def close(self) -> None:
        self.spine.stopping = True
        if self.spine.lord is not None:
            await self.spine.lord.stop()
        await self.thread.close()
        assert judge(self.notes) is None

    async def many(self, inject: Injector, ova: list[Ovum]) -> list[Outcome]:
        """Submit all, as fast as admission allows; outcomes in order."""
        outcomes: list[Outcome] = []
        full = trio.Event()

        def done(outcome: Outcome) -> None:
            outcomes.append(outcome)
            if len(outcomes) == len(ova):
                full.set()

        for each in ova:
            await inject.submit(each, done)
        with trio.fail_after(60):
            await full.wait()
        return outcomes


@asynccontextmanager
async def open_rig(
    folder: Path,
    log: Any = None,
    *,
    limits: Limits | None = None,
    kind: type[Rig] = Rig,
    **settings: Any,
) -> AsyncIterator[Rig]:
    """A running rig; `settings` are attributes set before the start."""
    rig = kind(folder, log or MemoryLog(Meta(0, True, 0)), limits=limits)
    for name, value in settings.items():
        setattr(rig, name, value)
    async with trio.open_nursery() as nursery:
        rig.nursery = nursery
        await rig.start()
        try:
            yield rig
        finally:
            with trio.CancelScope(shield=True):
                await rig.close()
            nursery.cancel_scope.cancel()


__all__ = ["FAKE", "Jam", "Rig", "open_rig", "ovum", "slow_stamp"]
