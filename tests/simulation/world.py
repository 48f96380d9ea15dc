"""A simulated machine: disk, log thread, pipes, serf; what outlives a king.

All of it on trio's clock, none of it real: time passes only when everybody
waits. `Machine` is the pier and the world outside; `Log`, `Thread` and
`Child` are what production code is given for its log, its thread and a serf's
process. Whatever a king does after its death is void: `Machine.alive` is
asked at every touch, and a touch is where a death can strike.
"""

from __future__ import annotations

import itertools
import random
import signal
import zlib
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import trio

from king.child import Child, SerfSpec
from king.errors import LogFailed
from king.event import Effect, Ovum
from king.log.store import MemoryLog, Meta
from king.log_thread import LogThread
from proto.codec import WritReader, pack_pleas
from proto.cord import cord, cord_text, path_noun
from proto.jam import cue, jam
from proto.message import (
    PROTOCOL,
    Bail,
    Done,
    Exit,
    Goof,
    Jam,
    Packed,
    Peek,
    Peeked,
    Play,
    Played,
    Plea,
    Ripe,
    Row,
    Save,
    Saved,
    Slog,
    Stuck,
    Work,
    Writ,
)
from proto.noun import Cell
from proto.record import Action, Note
from tests.simulation.plan import LANES, Plan

__all__ = ["DRIVERS", "Machine", "SimChild", "SimThread", "effects_of", "ovum_of"]

DRIVERS = ("term", "http", "behn")
SHIP, LOG_NAME = bytes(16), b"L" * 16
NULL = jam(0)
ROOM = 1 << 40
EFFECTS_MAX = 100
WORK_MAX = 20_000


def ovum_of(name: int, lane: int, kind: str) -> Ovum:
    """The event of a plan's offer."""
    card = Cell(cord(kind), Cell(lane, name))
    wire = Cell(cord("x"), path_noun("test"))
    deadline = 200 if kind in ("hang", "deaf") else None
    return Ovum(("x", "test"), kind, jam(Cell(wire, card)), deadline)


def step(mug: int, job: bytes) -> int:
    """The simulated kernel."""
    return zlib.crc32(job, mug) & 0x7FFFFFFF


def crud(job: bytes) -> Jam:
    """What is logged in place of a job that crashed: it keeps time and name."""
    noun = cue(job)
    assert isinstance(noun, Cell)
    _, lane, name = parse(job)
    card = Cell(cord("crud"), Cell(lane, name))
    return jam(Cell(noun.head, Cell(Cell(0, 0), card)))


_parsed: dict[bytes, tuple[str, int, int]] = {}


def parse(job: bytes) -> tuple[str, int, int]:
    """Kind, lane, name of a job `[now wire kind lane name]`."""
    found = _parsed.get(job)
    if found is None:
        noun = cue(job)
        assert isinstance(noun, Cell)
        assert isinstance(noun.tail, Cell)
        card = noun.tail.tail
        assert isinstance(card, Cell)
        kind, rest = card.head, card.tail
        assert isinstance(kind, int)
        assert isinstance(rest, Cell)
        assert isinstance(rest.head, int)
        assert isinstance(rest.tail, int)
        if len(_parsed) > 10_000:
            _parsed.clear()
        found = _parsed[job] = cord_text(kind), rest.head, rest.tail
    return found


def effects_of(job: bytes) -> list[tuple[int, int]]:
    """Drivers, and what each is told: the event's name and a count."""
    kind, lane, name = parse(job)
    if kind == "silent":
        return []
    if kind == "wide":
        return [(driver, 100 * name + at) for at, driver in enumerate((0, 1, 2, lane))]
    return [(lane, 100 * name)]


class Machine:
    """The pier, the world outside, and its misfortunes."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.dice = random.Random(plan.seed ^ 0x5EED)
        # durable
        self.rows: list[Row] = []
        self.images: list[tuple[int, int]] = [(0, 0)]  # event, mug; newest last
        # seen from outside
        self.notes: list[Note] = []
        self.violations: list[str] = []
        self.handled: dict[tuple[int, int], int] = {}  # (event, what) -> reign
        self.happened: Counter[str] = Counter()
        # this reign
        self.reign = 0
        self.king_lives = False
        self.kill: Callable[[], None] = _nothing
        self.kill_in = 0  # touches until a king's death; 0: none
        self.serf: SimChild | None = None
        # misfortunes armed; each counts down as it strikes
        self.armed: Counter[str] = Counter()
        self.deaths_of: Counter[int] = Counter()  # of die1, die2
        self.commit_slow_s = 0.0
        self.free = ROOM

    def violate(self, text: str) -> None:
        if len(self.violations) < 10:
            self.violations.append(text)

    def strikes(self, kind: str) -> bool:
        """Whether an armed misfortune strikes now."""
        if not self.armed[kind]:
            return False
        self.armed[kind] -= 1
        self.happened[kind] += 1
        return True

    def touch(self) -> bool:
        """The king is about to touch the world; whether it still can."""
        if self.kill_in:
            self.kill_in -= 1
            if not self.kill_in and self.king_lives:
                self.end_king()
        return self.king_lives

    def end_king(self) -> None:
        self.happened["king-kill"] += 1
        self.king_lives = False
        self.kill()

    def note(self, action: Action, number: int = 0, other: int = 0) -> None:
        """The king's notes."""
        if self.king_lives:
            self.note_serf(action, number, other)

    def note_serf(self, action: Action, number: int = 0, other: int = 0) -> None:
        self.notes.append(Note(len(self.notes), action, number, other, self.reign))


# --- disk -------------------------------------------------------------------


class SimLog(MemoryLog):
    """A log whose rows outlive the king that appended them.

    Its `append` is the moment in which a commit becomes durable, or fails;
    the time that it takes is `SimThread`'s.
    """

    def __init__(self, machine: Machine) -> None:
        super().__init__(Meta(0, True, 0), machine.rows)
        self._machine = machine

    def append(self, first: int, rows: Sequence[Row]) -> None:
        machine = self._machine
        self._check()
        last = len(machine.rows)
        if first != last + 1:
            machine.violate(f"event {first} is appended to a log of {last}")
        for kind in ("commit-fails", "disk-full", "commit-fails-durably"):
            if machine.strikes(kind):
                if kind == "commit-fails-durably":
                    machine.rows += rows
                code = "disk-full" if kind == "disk-full" else "log-failed"
                self._failure = LogFailed(code, f"simulated: {kind}")
                raise self._failure
        super().append(first, rows)
        machine.rows += rows


class SimThread(LogThread):
    """The log's thread, as a task: one piece at a time, each takes its time."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._work: deque[tuple[Callable[[], Any], Callable[[Any, Any], None]]]
        self._work = deque()
        self._bell = trio.Event()
        self._count = 0

    def submit(self, work: Callable[[], Any], done: Callable[[Any, Any], None]) -> None:
        self._work.append((work, done))
        self._bell.set()

    async def serve(self) -> None:
        machine = self._machine
        while True:
            while not self._work:
                self._bell = trio.Event()
                await self._bell.wait()
            work, done = self._work.popleft()
            self._count += 1
            if self._count == WORK_MAX:
                machine.violate("the king asks its log without end")
                machine.end_king()
            value: Any = None
            error: BaseException | None = None
            await self._pass(machine.plan.disk_s)
            if machine.touch():
                try:
                    value = work()
                except Exception as raised:
                    error = raised
            await self._pass(machine.plan.disk_s)
            if not machine.touch():
                error = LogFailed("log-failed", "the king is dead")
            done(value, error)

    async def _pass(self, seconds: float) -> None:
        machine = self._machine
        if machine.strikes("commit-slow"):
            seconds += machine.commit_slow_s
        if seconds and machine.king_lives:
            await trio.sleep(seconds * machine.dice.random())
        else:
            await trio.lowlevel.checkpoint()

    async def close(self) -> None:
        await self.run(_nothing)


# --- pipes ------------------------------------------------------------------


class Pipe:
    """Bytes one way; bounded."""

    def __init__(self, size: int) -> None:
        self.data = bytearray()
        self.closed = False
        self._size = size
        self._lot = trio.lowlevel.ParkingLot()

    @property
    def room(self) -> int:
        return self._size - len(self.data)

    def put(self, data: bytes | memoryview) -> int:
        count = min(len(data), self.room)
        self.data += data[:count]
        if count:
            self._lot.unpark_all()
        return count

    def take(self, count: int) -> bytes:
        taken = bytes(self.data[:count])
        del self.data[:count]
        if taken:
            self._lot.unpark_all()
        return taken

    def close(self) -> None:
        self.closed = True
        self._lot.unpark_all()

    async def wait(self, true: Callable[[], bool]) -> None:
        """Until it is so, or the pipe is closed."""
        while not (true() or self.closed):
            await self._lot.park()
        await trio.lowlevel.checkpoint()


# --- serf -------------------------------------------------------------------


class _Dead(Exception):
    """The serf ends."""

    def __init__(self, status: int) -> None:
        self.status = status


class SimChild:
    """A serf's process as its lord sees it, and the serf within."""

    def __init__(self, machine: Machine, spec: SerfSpec, pid: int) -> None:
        self.pid = pid
        self._machine = machine
        self._spec = spec
        self._to = Pipe(machine.plan.pipe)
        self._from = Pipe(machine.plan.pipe)
        self._status: int | None = None
        self._ended = trio.Event()
        self._word = 0
        self._word_bell = trio.Event()
        self._reign = machine.reign
        self._scope = trio.CancelScope()
        self._nursery: trio.Nursery
        self._busy = trio.Lock()
        self._event, self._mug = machine.images[-1]
        if spec.verify or machine.strikes("image-lost"):
            self._event, self._mug = machine.images[max(0, len(machine.images) - 2)]
        self._generation = len(machine.images)
        self._deaf = False
        self._liar = False
        machine.serf = self

    # what the lord does

    def _is_mine(self) -> bool:
        return self._machine.touch() and self._machine.reign == self._reign

    def read(self, size: int) -> bytes:
        if not self._is_mine():
            raise BlockingIOError
        pipe = self._from
        if not pipe.data:
            if pipe.closed:
                return b""
            raise BlockingIOError
        most = self._machine.dice.choice((1, 7, 100, size, size, size))
        return pipe.take(min(size, most))

    def write(self, data: memoryview) -> int:
        if not self._is_mine():
            return len(data)
        if self._to.closed:
            raise BrokenPipeError(32, "Broken pipe")
        count = self._to.put(data)
        if not count:
            raise BlockingIOError
        return count

    async def wait_readable(self) -> None:
        await self._from.wait(lambda: bool(self._from.data))

    async def wait_writable(self) -> None:
        await self._to.wait(lambda: self._to.room > 0)

    async def errors(self) -> AsyncIterator[bytes]:
        await self._ended.wait()
        yield b"last words\n"

    def interrupt(self, request: int) -> None:
        self._word = request
        self._word_bell.set()

    def signal(self, number: int) -> None:
        if number == signal.SIGKILL or not self._deaf:
            self.end(-number)

    def poll(self) -> int | None:
        return self._status

    async def wait(self) -> int:
        await self._ended.wait()
        assert self._status is not None
        return self._status

    def usage(self) -> tuple[int, int]:
        return 0, 0

    def close(self) -> None:
        assert self._status is not None

    # the serf's end

    def end(self, status: int) -> None:
        """What it had not read is lost; of what it wrote, the end may be."""
        if self._status is not None:
            return
        self._status = status
        self._to.close()
        if self._machine.dice.random() < 0.5:
            said = self._from.data
            del said[self._machine.dice.randrange(len(said) + 1) :]
        self._from.close()
        self._ended.set()
        self._scope.cancel()

    async def run(self) -> None:
        with self._scope:
            async with trio.open_nursery() as self._nursery:
                try:
                    await self._serve()
                except _Dead as dead:
                    self.end(dead.status)
        self.end(-9)

    # the serf's life

    def _note(self, action: Action, number: int, other: int = 0) -> None:
        if not self._liar:  # who lies to its king does not tell us
            self._machine.note_serf(action, number, other)

    async def _say(self, *pleas: Plea) -> None:
        data = pack_pleas(list(pleas))
        while data:
            await self._from.wait(lambda: self._from.room > 0)
            most = self._machine.dice.choice((5, 1 << 16, 1 << 16))
            data = data[self._from.put(data[:most]) :]

    async def _spend(self, seconds: float) -> None:
        if seconds:
            await trio.sleep(seconds * self._machine.dice.random())
        else:
            await trio.lowlevel.checkpoint()

    async def _serve(self) -> None:
        machine, spec = self._machine, self._spec
        if machine.strikes("start-fails"):
            raise _Dead(machine.dice.choice((1, 66, -11)))
        if machine.strikes("start-silent"):
            await trio.sleep_forever()
        await self._spend(machine.plan.serf_s)
        event, mug = self._event, self._mug
        self._note(Action.LOAD, event)
        name, ship, log = "simulated", spec.ship, spec.log
        newer = self._generation
        await self._say(Ripe(PROTOCOL, name, ship, log, event, mug, newer, 0, ""))
        reader = WritReader()
        while True:
            await self._to.wait(lambda: bool(self._to.data))
            if self._to.closed:
                raise _Dead(0)
            most = machine.dice.choice((3, 1 << 16, 1 << 16))
            writs = reader.feed(self._to.take(most))
            for writ, said in zip(_mixed_up(writs), writs, strict=True):
                self._liar = self._liar or writ is not said
                await self._do(writ)

    async def _do(self, writ: Writ) -> None:
        async with self._busy:
            await self._do_now(writ)

    async def _do_now(self, writ: Writ) -> None:
        if self._machine.strikes("serf-stalls"):
            await trio.sleep(5)
        if isinstance(writ, Work):
            await self._work(writ)
        elif isinstance(writ, Play):
            await self._play(writ)
        elif isinstance(writ, Save):
            await self._save(writ)
        elif isinstance(writ, Peek):
            await self._peek(writ)
        elif isinstance(writ, Exit):
            raise _Dead(writ.code)
        else:
            raise AssertionError(writ)

    async def _bail(self, request: int, mote: str = "exit") -> None:
        await self._say(Bail(request, (Goof(mote, NULL),)))

    async def _work(self, writ: Work) -> None:
        machine = self._machine
        kind, _, name = parse(writ.job)
        await self._spend(machine.plan.serf_s)
        request = writ.request
        if kind == "slow":
            await trio.sleep(0.3)
        elif kind in ("hang", "deaf"):
            await self._hang(request, deaf=kind == "deaf")
            self._note(Action.APPLY, request, 0)
            return await self._bail(request, "intr")
        elif kind == "exit" or (kind == "die"):
            raise _Dead(3 if kind == "exit" else -9)
        elif kind in ("die1", "die2") and machine.deaths_of[name] < int(kind[3:]):
            machine.deaths_of[name] += 1
            raise _Dead(-11)
        elif kind == "bail":
            self._note(Action.APPLY, request, 0)
            return await self._bail(request)
        if kind == "early":
            # It answers before it was asked the next.
            await self._say(Done(request + 1, self._event + 2, 1, (), None))
        job, replaced = writ.job, None
        if kind == "crud":
            job = replaced = crud(job)
        self._event += 1
        self._mug = step(self._mug, job)
        self._note(Action.APPLY, request, self._event)
        effects = tuple(
            Effect((DRIVERS[driver].encode(),), b"told", jam(what))
            for driver, what in effects_of(job)
        )
        done = Done(request, self._event, self._mug, effects, replaced)
        await self._answer(kind, done, writ.job)
        return None

    async def _answer(self, kind: str, done: Done, job: Jam) -> None:
        """Say it; the wicked lie."""
        match kind:
            case "lie-number":
                done = done._replace(event=done.event + 1)
            case "skip":
                done = done._replace(event=done.event - 1)
            case "lie-request":
                done = done._replace(request=done.request + 7)
            case "lie-mug":
                done = done._replace(mug=1 << 31)
            case "lie-job":
                done = done._replace(job=Jam(job + b"\0"))
            case "lie-effects":
                many = done.effects * (EFFECTS_MAX + 1)
                done = done._replace(effects=many)
            case "lie-kind":
                return await self._say(Packed(done.request, 0, 0))
            case "garbage":
                self._from.put(b"\0\5\0\0\0hello")
            case "slog":
                await self._say(*(Slog(0, done.event, NULL) for _ in range(20)))
        await self._say(done)
        if kind == "twice":
            await self._say(done)
        return None

    async def _hang(self, request: int, *, deaf: bool) -> None:
        self._deaf = deaf
        while deaf or self._word != request:
            self._word_bell = trio.Event()
            await self._word_bell.wait()

    async def _play(self, writ: Play) -> None:
        machine = self._machine
        assert writ.first == self._event + 1
        for number, row in enumerate(writ.rows, writ.first):
            await trio.lowlevel.checkpoint()
            if machine.strikes("replay-dies"):
                raise _Dead(-7)
            mug = step(self._mug, row.job)
            if machine.strikes("replay-lies"):
                mug ^= 1
            if row.mug != mug:
                return await self._say(Stuck(writ.request, number, row.mug, mug, None))
            self._event, self._mug = number, mug
        self._note(Action.REPLAY, self._event)
        await self._say(Played(writ.request, self._event, self._mug))
        return None

    async def _save(self, writ: Save) -> None:
        machine = self._machine
        if writ.event != self._event:
            machine.violate(f"a save of {writ.event} at event {self._event}")
        if writ.event > len(machine.rows):
            machine.violate(f"a save of event {writ.event}, which is not durable")
        if machine.strikes("save-declined") or writ.event == 0:
            self._note(Action.FREEZE, writ.request, 0)
            return await self._bail(writ.request, "fail")
        self._note(Action.FREEZE, writ.request, self._event)
        # Beside all that comes: the state of this moment.
        self._nursery.start_soon(self._end_save, writ, self._mug, self._liar)
        return None

    async def _end_save(self, writ: Save, mug: int, lied: bool) -> None:
        """`lied`: when it froze; what it says later does not spoil that."""
        machine = self._machine
        await self._spend(machine.plan.disk_s)
        if machine.strikes("save-dies-before"):
            self.end(-9)
            return
        machine.images.append((writ.event, mug))
        if machine.strikes("save-dies-after"):
            self.end(-9)
            return
        async with self._busy:
            if not lied:
                machine.note_serf(Action.DO_SAVE, writ.request, writ.event)
            number = len(machine.images)
            await self._say(Saved(writ.request, writ.event, mug, number, 1, 1, 1))

    async def _peek(self, writ: Peek) -> None:
        await self._spend(self._machine.plan.serf_s)
        word = cue(writ.sample)
        if word == cord("peek-die"):
            raise _Dead(-11)
        if word == cord("peek-bad"):
            return await self._bail(writ.request)
        request = writ.request + (word == cord("peek-lie"))
        await self._say(Peeked(request, jam(self._event)))
        return None


def _mixed_up(writs: list[Writ]) -> list[Writ]:
    """The order in which a serf takes them: a lie, if an event commands it."""
    for at, (one, two) in enumerate(itertools.pairwise(writs)):
        works = isinstance(one, Work) and isinstance(two, Work)
        if works and parse(one.job)[0] == "lie-order":
            return [*writs[:at], two, one, *writs[at + 2 :]]
    return writs


def _nothing() -> None:
    pass


def _is_child(child: SimChild) -> Child:
    """SimChild keeps to the interface."""
    return child


assert len(DRIVERS) == LANES
