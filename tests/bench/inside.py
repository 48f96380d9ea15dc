"""A king without drivers: log, spine and a real serf; the load is made inside.

    python -m tests.bench.inside PIER inject WINDOW SECONDS WARM
    python -m tests.bench.inside PIER fill COUNT
    python -m tests.bench.inside PIER grow BYTES
    python -m tests.bench.inside PIER large BYTES PACE

`inject` keeps WINDOW events in flight as a driver would; `fill` takes the
log to COUNT events; `grow` lets the embedded kernel add cells until its home
is BYTES larger, then saves: once whole, once after a few events more. `large`
grows by BYTES and saves alone, by as much again and saves among events, by a
quarter and saves among events at PACE bytes a second. Each prints one line of
JSON.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import trio

from king.event import Fact, Outcome, Ovum
from king.log_thread import LogThread
from king.lord import Lord, SerfSpec
from king.pier import Pier, open_pier
from king.pipeline import Pipeline, head_time
from king.released import ReleasedMark
from king.replay import replay
from king.router import ORDER, Injector
from king.spine import LogWriter, Spine, World
from proto import fast
from proto.cord import cord, da_from_unix
from proto.jam import jam
from proto.message import Gauge, Gauged, Jam, Saved
from proto.noun import listed, noun
from tests.bench.client import summary

_OVA = 4_096
_CELL = 24
_CELLS_AT_ONCE = 4_000_000
_PAGE = 16_384
_IDLE_S = 3.0


def nothing_ovum(number: int) -> Ovum:
    """The event of client.py's `nothing`."""
    body = noun((0, [cord("bench")]), "nothing", number)
    return Ovum(("", "bench"), "nothing", Jam(jam(body)))


def line_ovum(text: str) -> Ovum:
    """A command line for the embedded kernel."""
    tape = listed([ord(letter) for letter in text])
    body = noun(("k", ["khan", "bench"]), "fyrd", "base", "line", "wain", "tape", tape)
    return Ovum(("k", "khan", "bench"), "fyrd", Jam(jam(body)))


class King:
    """What the loads below hold."""

    def __init__(self, pier: Pier, spine: Spine, inject: Injector) -> None:
        self.pier = pier
        self.spine = spine
        self.inject = inject

    async def one(self, ovum: Ovum) -> None:
        outcome = await self.inject(ovum)
        if not isinstance(outcome, Fact) or outcome.replaced:
            raise SystemExit(f"inside: event failed: {outcome}")

    async def gauges(self) -> dict[str, int]:
        plea = await self.spine.ask("gauge", Gauge, Gauged)
        assert isinstance(plea, Gauged)
        return dict(plea.values)


@asynccontextmanager
async def king_of(path: Path) -> AsyncIterator[King]:
    with open_pier(path) as pier:
        log = pier.log
        thread = LogThread()
        await thread.run(log.settle)
        mark = ReleasedMark(pier.layout.urb / "released", pier.identity)
        async with trio.open_nursery() as nursery:

            async def revive(verify: bool) -> tuple[Lord, int]:
                spec = SerfSpec(
                    pier.layout.image,
                    pier.ship,
                    pier.identity,
                    log.last,
                    verify,
                    lock_fd=pier.lock_descriptor,
                )
                lord = await Lord.start(nursery, spec, on_line=_say)
                life = pier.meta.life
                replayed = await replay(lord, log, thread, life=life, save_at_end=False)
                return lord, replayed.event

            lord, _ = await revive(False)
            rows = log.read(log.last, 1)
            pipeline = Pipeline(
                ORDER,
                event=log.last,
                last_time=head_time(rows[0].job) or 0,
                stamp=fast.stamp,
            )
            world = World(
                now=lambda: da_from_unix(time.time_ns()),
                hand=lambda event, effects: None,
                released=mark.set,
                revive=revive,
                buried=lambda death, suspect: _say("\n".join(death.lines())),
                quarantine=lambda poke, death: "nowhere",
                tell=_say,
            )
            writer = LogWriter(log.append, lambda: 1 << 40, 0)
            spine = Spine(pipeline, writer, thread, world)
            mark.begin(log.last)
            spine.adopt(lord, log.last)
            nursery.start_soon(spine.run)
            inject = Injector(pipeline, pipeline.lanes[ORDER.index("conn")], spine.pump)
            gc.collect()
            gc.freeze()
            gc.set_threshold(20_000, 20, 50)
            try:
                yield King(pier, spine, inject)
            finally:
                with trio.CancelScope(shield=True):
                    spine.stopping = True
                    if spine.lord is not None:
                        await spine.lord.stop()
                    await thread.close()
                mark.close(log.last, clean=True)
                nursery.cancel_scope.cancel()


class _Load:
    """A driver that keeps `window` events in flight."""

    def __init__(self, king: King, window: int) -> None:
        self.king = king
        self.window = window
        self.outstanding = 0
        self.answered = 0
        self.laps: list[int] = []
        self._sent: deque[int] = deque()
        self._bell = trio.Event()
        self._ova = [nothing_ovum(number) for number in range(_OVA)]
        self._at = 0

    def _done(self, outcome: Outcome) -> None:
        if type(outcome) is not Fact:
            raise SystemExit(f"inside: event failed: {outcome}")
        self.laps.append(time.perf_counter_ns() - self._sent.popleft())
        self.answered += 1
        self.outstanding -= 1
        self._bell.set()

    async def run(self, *, seconds: float = 1e9, count: int = 1 << 60) -> None:
        """Until time or count is over (the last ones may be in flight)."""
        end = time.perf_counter() + seconds
        submit, done = self.king.inject.submit, self._done
        while time.perf_counter() < end and count > 0:
            while self.outstanding < self.window and count > 0:
                self._at = (self._at + 1) % _OVA
                self.outstanding += 1
                count -= 1
                self._sent.append(time.perf_counter_ns())
                await submit(self._ova[self._at], done)
            self._bell = trio.Event()
            await self._bell.wait()

    async def drain(self) -> None:
        while self.outstanding:
            self._bell = trio.Event()
            await self._bell.wait()


async def inject(
    path: Path, window: int, seconds: float, warm: float
) -> dict[str, Any]:
    async with king_of(path) as king:
        load = _Load(king, window)
        await load.run(seconds=warm)
        load.laps.clear()
        before = load.answered
        batches = king.spine.pipeline.batches
        begun = time.perf_counter()
        await load.run(seconds=seconds)
        passed = time.perf_counter() - begun
        count = load.answered - before
        batches = king.spine.pipeline.batches - batches
        await load.drain()
        return {**summary(count, passed, load.laps), "batch": count / max(batches, 1)}


async def fill(path: Path, count: int) -> dict[str, Any]:
    async with king_of(path) as king:
        load = _Load(king, 1_024)
        begun = time.perf_counter()
        await load.run(count=max(0, count - king.pier.log.last))
        await load.drain()
        return {"events": king.pier.log.last, "seconds": time.perf_counter() - begun}


async def grow(path: Path, size: int) -> dict[str, Any]:
    async with king_of(path) as king:
        before = await king.gauges()
        begun = time.perf_counter()
        added = await _grow(king, size)
        grown = time.perf_counter() - begun
        after = await king.gauges()
        whole, whole_stall = await _save(king)
        for number in range(256):
            await king.one(nothing_ovum(number))
        small, small_stall = await _save(king)
        return {
            "cells": added,
            "grow_s": grown,
            "before": before,
            "after": after,
            "save": whole,
            "save_stall_s": whole_stall,
            "save_small": small,
            "save_small_stall_s": small_stall,
        }


async def _grow(king: King, size: int) -> int:
    """How many cells came to it."""
    cells = size // _CELL
    for begin in range(0, cells, _CELLS_AT_ONCE):
        each = min(_CELLS_AT_ONCE, cells - begin)
        await king.one(line_ovum(f"grow {each}"))
    return cells


async def large(path: Path, size: int, pace: int) -> dict[str, Any]:
    async with king_of(path) as king:
        await _grow(king, size)
        dirty = (await king.gauges())["home_dirty_pages"] * _PAGE
        begun = time.perf_counter()
        saved = await king.spine.save()
        whole = _facts(saved, time.perf_counter() - begun)
        among = await _save_among_events(king, size, 0)
        paced = await _save_among_events(king, size // 4, pace)
        return {"alone": {**whole, "dirty": dirty}, "among": among, "paced": paced}


async def _save_among_events(king: King, size: int, pace: int) -> dict[str, Any]:
    """Grow, see what events cost, and again while it is saved."""
    await _grow(king, size)
    load = _Load(king, 1)
    await load.run(seconds=_IDLE_S)
    await load.drain()
    idle = summary(load.answered, _IDLE_S, load.laps)
    load = _Load(king, 1)
    done = trio.Event()

    async def events() -> None:
        while not done.is_set():
            await load.run(count=1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(events)
        begun = time.perf_counter()
        saved = await king.spine.save(pace=pace)
        passed = time.perf_counter() - begun
        done.set()
    return {
        **_facts(saved, passed),
        "idle": idle,
        "during": summary(load.answered, passed, load.laps),
    }


async def _save(king: King) -> tuple[dict[str, Any], float]:
    """Save, and how long an event that comes just then takes."""
    stalls: list[float] = []

    async def bystander() -> None:
        await trio.sleep(0.002)
        begun = time.perf_counter()
        await king.one(nothing_ovum(0))
        stalls.append(time.perf_counter() - begun)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(bystander)
        begun = time.perf_counter()
        saved = await king.spine.save()
        passed = time.perf_counter() - begun
    return _facts(saved, passed), stalls[0]


def _facts(saved: Saved | None, passed: float) -> dict[str, Any]:
    if saved is None:
        raise SystemExit("inside: the serf declined to save")
    return {
        "seconds": passed,
        "serf_s": saved.elapsed_us / 1e6,
        "pages": saved.pages,
        "bytes": saved.bytes_written,
    }


def _say(text: str) -> None:
    print(f"inside: {text}", file=sys.stderr)


def main(words: list[str]) -> int:
    pier, verb, *rest = words
    path = Path(pier)
    run: Callable[[], Awaitable[dict[str, Any]]]
    match verb, rest:
        case "inject", [window, seconds, warm]:
            run = partial(inject, path, int(window), float(seconds), float(warm))
        case "fill", [count]:
            run = partial(fill, path, int(count))
        case "grow", [size]:
            run = partial(grow, path, int(size))
        case "large", [size, pace]:
            run = partial(large, path, int(size), int(pace))
        case _:
            raise SystemExit(__doc__)
    print(json.dumps(trio.run(run)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
