"""Fakes that drivers are tested with: a pipeline that only takes notes.

`World` plays everything a driver is given. The golden traces are driven
through it: effects in, ova out, with what differs between runs masked.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from king.drivers import wire as wires
from king.event import Effect, Fact, Failure, Outcome, Ovum, Refused
from proto.cord import SECOND, da_from_unix, uv_text
from proto.jam import cue, jam
from proto.message import Goof, Jam
from proto.noun import Cell, Noun, atom_bytes, items
from tests.support.golden import edit

TRACES = Path(__file__).parents[3] / "conformance" / "vere" / "traces"


class Instance:
    number = 0x30BD2B55
    knot = uv_text(number)


class Clock:
    """Wall time that runs with trio's clock, plus what a test adds."""

    def __init__(self) -> None:
        self.base = da_from_unix(1_700_000_000 * 10**9)
        self.zero = trio.current_time()

    def now(self) -> int:
        return self.base + int((trio.current_time() - self.zero) * SECOND)

    def jump(self, seconds: float) -> None:
        self.base += int(seconds * SECOND)

    def set(self, now: int) -> None:
        self.base += now - self.now()


class Inject:
    """Takes ova, decides outcomes by `policy`; `gate` can hold admission."""

    def __init__(self) -> None:
        self.ova: list[Ovum] = []
        self.policy: Callable[[Ovum], Outcome | None] = lambda ovum: Fact(
            len(self.ova), 0, False
        )
        self.open = trio.Event()
        self.open.set()
        self.waiting: list[tuple[Ovum, Callable[[Outcome], None]]] = []

    def hold(self) -> None:
        self.open = trio.Event()

    async def submit(
        self, ovum: Ovum, done: Callable[[Outcome], None] | None = None
    ) -> None:
        await self.open.wait()
        self.ova.append(ovum)
        outcome = self.policy(ovum)
        if outcome is None:
            self.waiting.append((ovum, done or (lambda _: None)))
        elif done is not None:
            # Later, and from elsewhere, as the pipeline does it.
            trio.lowlevel.current_trio_token().run_sync_soon(done, outcome)

    async def __call__(self, ovum: Ovum) -> Outcome:
        got: list[Outcome] = []
        bell = trio.Event()

        def done(outcome: Outcome) -> None:
            got.append(outcome)
            bell.set()

        await self.submit(ovum, done)
        await bell.wait()
        return got[0]

    def settle(self, outcome: Outcome) -> None:
        waiting, self.waiting = self.waiting, []
        for _, done in waiting:
            done(outcome)


class World:
    def __init__(self) -> None:
        self.inject = Inject()
        self.clock = Clock()
        self.instance = Instance()
        self.lines: list[str] = []
        self.event = 1000
        self.send, self.effects = trio.open_memory_channel[tuple[int, Effect]](10_000)

    def log(self, text: str, *, priority: int = 0) -> None:
        self.lines.append(text)

    def push(self, effect: Effect) -> None:
        self.event += 1
        self.send.send_nowait((self.event, effect))

    def push_list(self, effects: Noun) -> None:
        for effect in items(effects):
            self.push(as_effect(effect))

    @property
    def tags(self) -> list[str]:
        return [ovum.tag for ovum in self.inject.ova]

    def take(self) -> list[Ovum]:
        """The ova since the last call."""
        ova = self.inject.ova[:]
        self.inject.ova.clear()
        for ovum in ova:
            check_ovum(ovum)
        return ova

    async def settled(self, seconds: float = 0.0) -> None:
        """Let everything run that can."""
        if seconds:
            await trio.sleep(seconds)
        for _ in range(3):
            await trio.testing.wait_all_tasks_blocked(0.005)


def as_effect(n: Noun) -> Effect:
    """As the serf lists effects."""
    try:
        assert isinstance(n, Cell)
        assert isinstance(n.tail, Cell)
        wire = tuple(atom_bytes(knot) for knot in items(n.head))
        return Effect(wire, atom_bytes(n.tail.head), jam(n.tail.tail))
    except (AssertionError, ValueError):
        return Effect((), b"", jam(n))


def check_ovum(ovum: Ovum) -> None:
    """The jam says what wire and tag say, and is canonical."""
    n = cue(ovum.jam)
    assert jam(n) == ovum.jam
    assert isinstance(n, Cell)
    assert isinstance(n.head, Cell)
    assert isinstance(n.tail, Cell)
    knots = (n.head.head, *items(n.head.tail))
    assert ovum.wire == tuple(wires.knot_text(atom_bytes(knot)) for knot in knots)
    assert ovum.tag == wires.knot_text(atom_bytes(n.tail.head))


def masked(data: bytes, vary: list[dict[str, str]]) -> Noun:
    n = cue(data)
    for row in vary:
        n = edit(n, int(row["axis"]), 0)
    return n


def trace(name: str) -> list[dict[str, Any]]:
    steps = json.loads((TRACES / f"{name}.json").read_text())["steps"]
    assert steps
    return list(steps)


def goof(mote: str, tang: Noun = 0) -> Goof:
    return Goof(mote, jam(tang))


class Kit:
    """The helpers above, for tests (which import nothing from each other)."""

    as_effect = staticmethod(as_effect)
    check_ovum = staticmethod(check_ovum)
    edit = staticmethod(edit)
    masked = staticmethod(masked)
    trace = staticmethod(trace)
    goof = staticmethod(goof)
    World = World

    @staticmethod
    def effect(wire: str, tag: str, data: Noun = 0) -> Effect:
        knots = tuple(k.encode() for k in wire.split("/")[1:])
        return Effect(knots, tag.encode(), jam(data))

    @staticmethod
    def failure(*names: str) -> Failure:
        return Failure(tuple(goof(name) for name in names))

    @staticmethod
    async def check_driver(
        world: World,
        start: Callable[[trio.Nursery], Awaitable[None]],
        wire: bytes,
        tags: tuple[bytes, ...],
    ) -> None:
        """What any driver must do: drain its effects while admission is shut,
        survive every malformed effect, and leave when the effects end."""
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                await start(nursery)
                await world.settled()
                world.inject.hold()
                count = 0
                for effect in _malformed(wire, tags):
                    world.push(effect)
                    count += 1
                await world.settled()
                assert world.send.statistics().current_buffer_used == 0, (
                    "effects are not drained while admission is shut"
                )
                assert len(world.lines) > count // 20, "malformed effects go unsaid"
                world.inject.open.set()
                await world.settled()
                world.send.close()


def _malformed(wire: bytes, tags: tuple[bytes, ...]) -> list[Effect]:
    big = jam(1 << 80_000)
    datas = [jam(0), jam(1), jam(Cell(0, 0)), jam(Cell(1, 2)), big]
    datas += [jam(Cell(0, Cell(1, 1))), jam(Cell(Cell(0, 0), 0)), Jam(b"\x07")]
    datas += [Jam(b""), Jam(b"\x01"), Jam(b"\0" * 40)]
    datas += [jam(Cell(0, 1 << 4000)), jam(Cell(0, Cell(1 << 200, 5)))]
    long = (b"x" * 1000,) * 50
    heads = [(), (wire,), (b"", wire), (wire, b""), (wire, b"\xff\xfe", b"1", b"1")]
    heads += [(wire, Instance.knot.encode()), (b"nobody",), (wire, *long)]
    heads += [(wire, Instance.knot.encode(), b"1", b"1")]
    heads += [(wire, Instance.knot.encode(), b"1", b"1", b"1")]
    return [
        Effect(head, tag, data)
        for head in heads
        for tag in (*tags, b"", b"frob", b"\xff\x00\xfe", b"z" * 5000)
        for data in datas
    ]


@pytest.fixture
def kit() -> type[Kit]:
    return Kit


@pytest.fixture
async def world() -> World:
    return World()


__all__ = ["Refused"]
