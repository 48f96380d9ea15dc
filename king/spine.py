"""The pipeline's hands: it joins drivers, serf, log and world.

Owns: the lord that lives now, and the moment at which each thing happens.
    Decisions are `pipeline`'s.
Invariants: handing an effect to a driver never waits; a commit once begun is
    always awaited; one batch is at the disk at a time, while the next is
    computed. A failed commit stops the ship: `fault` is set, no effect of
    that batch leaves, the serf is killed. A dead serf is restarted, replayed
    and given its work again; a logged event is never skipped.
Limits: DEATHS_MAX deaths without an event in between stop the ship.

No task is made for an event, and nothing is awaited for one: an ovum is sent
from the task that injects it, answers are taken in the reader's task, commits
end in a callback from the log's thread.
"""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from king import failpoint
from king.costs import Cost
from king.errors import LogFailed, PeekFailed, TreadleError
from king.event import Effect
from king.log_thread import LogThread
from king.lord import Death, Lord, StartFailed
from king.pipeline import Ask, Batch, Lie, Pipeline, Poke
from king.replay import may_be_rot
from king.reserve import Reserve
from proto.message import Bail, Jam, Peek, Peeked, Plea, Row, Saved, Writ

__all__ = ["BACKSTOP_S", "LogWriter", "Spine", "World"]

BACKSTOP_S = 1.0
"""How long past its deadline an event may run before we interrupt it."""
TERM_S = 10.0
KILL_S = 5.0
DRAIN_S = 10.0
DEATHS_MAX = 8
BACKOFF_MAX_S = 30.0
HELD_S = 1.0
COMMIT_ROOM = 1 << 20
"""What a commit may need beside its jobs: pages of the tree, copied."""


class LogWriter:
    """What the spine needs of the log and its disk. `append`, `note` (what events
    cost), `make_room` and `take_reserve` run in the log's thread."""

    def __init__(
        self,
        append: Callable[[int, list[Row]], None],
        free: Callable[[], int],
        low_water: int,
        reserve: Reserve | None = None,
        note: Callable[[int, list[Cost]], None] | None = None,
    ) -> None:
        self.note = note or _nothing_of_it
        self._append = append
        self._free = free
        self.low_water = low_water
        self.reserve = reserve

    def append(self, first: int, rows: list[Row]) -> int:
        """What is free afterwards, or less than that: where it does not matter, the
        disk is not asked twice."""
        need = COMMIT_ROOM + 2 * sum(len(row.job) for row in rows)
        left = self._free() - need
        if self.reserve is not None:
            self.reserve.make_room(need, left + need)
            left -= self.reserve.missing
        self._append(first, rows)
        return left if left >= self.low_water else self.free()

    def free(self) -> int:
        """Bytes on the disk that nobody needs: what the reserve lacks is not
        among them, so events are taken again only when it can be whole."""
        return self._free() - (self.reserve.missing if self.reserve else 0)

    def take_reserve(self) -> None:
        if self.reserve is not None:
            self.reserve.take(self._free())

    def make_room(self, need: int) -> None:
        """Give the reserve back if there are fewer than `need` bytes without it."""
        if self.reserve is not None:
            self.reserve.make_room(need, self._free())


@dataclass(frozen=True, slots=True)
class World:
    """What the spine is given. All but `revive` return at once."""

    now: Callable[[], int]
    """Wall time as @da."""
    hand: Callable[[int, tuple[Effect, ...]], None]
    """Hand out the effects of a durable event."""
    released: Callable[[int], None]
    """All up to this event was handed out."""
    revive: Callable[[bool], Awaitable[tuple[Lord, int]]]
    """Start a serf (with --verify?) and replay it to the end of the log, also
    while the ship stops (what was admitted goes its way); its event then."""
    buried: Callable[[Death, Poke | Ask | None], None]
    """A serf died, and what it was at."""
    quarantine: Callable[[Poke, Death], str]
    """Keep a repro bundle of an event that kills serfs; where it is."""
    tell: Callable[[str], None]
    """Say something to people."""


class _Question:
    """Whoever asked the serf, and waits."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._reply: Plea | str = ""
        self._bell = trio.Event()

    def done(self, reply: Plea | str) -> None:
        self._reply = reply
        self._bell.set()

    async def answer(self) -> Plea:
        await self._bell.wait()
        if isinstance(self._reply, str):
            raise TreadleError("serf-died", f"{self._name}: {self._reply}")
        return self._reply


class Spine:
    """See the module's words."""

    def __init__(
        self, pipeline: Pipeline, log: LogWriter, thread: LogThread, world: World
    ) -> None:
        self.pipeline = pipeline
        self.lord: Lord | None = None
        self.fault: TreadleError | None = None
        self.failed = trio.Event()
        self.deaths = 0
        self.stopping = False
        self.bytes_logged = 0
        self.active = trio.Event()  # set by the first event after `calm`
        self.saves_held = 0  # by those who need the image as it is
        self._log = log
        self._thread = thread
        self._world = world
        self._low = False
        self._reserve_seen = 0
        self._spenders = 0
        self._disk_bell = trio.Event()
        self._pump_task: trio.lowlevel.Task | None = None  # while it sleeps
        self._busy = trio.Event()
        self._progress = trio.Event()  # set at each commit
        self._head: Poke | Ask | None = None
        self._head_since = 0.0
        self._head_stage = 0
        self._overdue = False

    # --- what others call -----------------------------------------------------

    def pump(self) -> None:
        """Something may be sendable. At once if the serf idles, else gathered."""
        if not self.pipeline.flight:
            self._send()
        elif self._pump_task is not None:
            trio.lowlevel.reschedule(self._pump_task)
            self._pump_task = None

    async def ask(self, name: str, make: Callable[[int], Writ], wants: type) -> Plea:
        """One request, answered in order with the events and after the commit
        of all that was computed before it.

        :raises TreadleError: serf-died, if there is no answer.
        """
        question = self._question(name)
        self.pipeline.ask(Ask(name, make, wants, question.done))
        self.pump()
        return await question.answer()

    def _question(self, name: str) -> _Question:
        if self.fault is not None or self.stopping:
            raise TreadleError("serf-died", f"{name}: the ship is stopping")
        return _Question(name)

    async def peek(self, sample: bytes, *, deadline_ms: int = 10_000) -> bytes:
        """See king.drivers.base.Peek."""
        reply = await self.ask(
            "peek", lambda n: Peek(n, deadline_ms, Jam(bytes(sample))), Peeked
        )
        if isinstance(reply, Bail):
            raise PeekFailed(reply.goofs)
        assert isinstance(reply, Peeked)
        return reply.result

    async def save(self, *, pace: int = 0, patient: bool = False) -> Saved | None:
        """Wait for a wall, save a snapshot beside what comes after it; None if
        the serf declined. `patient`: not while saves are held.

        :raises TreadleError: if the serf died, or one is being saved already.
        """
        async with self.room():
            while patient and self.saves_held:
                await trio.sleep(HELD_S)
            reply = await self.begin_save(pace=pace)()
        return reply if isinstance(reply, Saved) else None

    def begin_save(
        self, pin: str = "", unpin: str = "", pace: int = 0
    ) -> Callable[[], Awaitable[Plea]]:
        """Plan a save (of this very moment, if we are at a wall); what waits for
        its end, and gives Saved or Bail. Pins: see Save in proto.message.

        :raises TreadleError: as `save`, both of them
        """
        failpoint.hit("save.before")
        question = self._question("save")
        if not self.pipeline.save(question.done, pin, unpin, pace):
            raise TreadleError("failed", "a snapshot is being saved already")
        self.pump()

        async def end() -> Plea:
            reply = await question.answer()
            failpoint.hit("save.after")
            return reply

        return end

    @asynccontextmanager
    async def wall(self) -> AsyncIterator[None]:
        """Within it nothing is computed, and all that was is durable and
        released; events wait. A save that is begun here is of this moment.

        :raises TreadleError: serf-died, if the ship stops
        """
        self._question("wall")
        self.pipeline.held += 1
        try:
            while not self.pipeline.at_wall:
                await self._progressed()
                self._question("wall")
            yield
        finally:
            self.pipeline.held -= 1
            self._send()

    def interrupt(self, after_s: float = 0.0) -> bool:
        """Abort the event that runs now; False if none does, or if it has not
        run for `after_s` yet."""
        if self.lord is None or not self.pipeline.flight:
            return False
        self._note_head()
        if trio.current_time() - self._head_since < after_s:
            return False
        self.lord.interrupt(self.pipeline.flight[0].request)
        return True

    def stop_admission(self, why: str) -> None:
        """Admit nothing new; what was admitted goes its way."""
        self.pipeline.close(why)
        self._release()

    async def drain(self) -> None:
        """Wait until all that was admitted is released (or the ship failed)."""
        while not self.pipeline.is_idle and not self.failed.is_set():
            await self._progressed()

    async def _progressed(self) -> None:
        """Wait for the next commit, release or end; several may."""
        if self._progress.is_set():
            self._progress = trio.Event()
        await self._progress.wait()

    async def wind_down(
        self,
        budget_s: float,
        *,
        snapshot_event: Callable[[], int],
        saved: Callable[[Saved], None],
    ) -> bool:
        """From here to a ship at rest, its serf gone; True if all was drained.
        Every step may be late, none may hang."""
        pipeline, tell = self.pipeline, self._world.tell
        began = trio.current_time()
        # 1. Take nothing new; finish what was taken.
        self.stop_admission("the ship is stopping")
        with trio.move_on_after(min(DRAIN_S, budget_s / 2)) as scope:
            await self.drain()
        if scope.cancelled_caught:
            tell("an event is still running: interrupting it")
            self.interrupt()
            with trio.move_on_after(2):
                await self.drain()
        # 2. A snapshot, if there is something to save.
        drained = pipeline.is_idle and self.fault is None
        if drained and pipeline.committed > snapshot_event():
            left = budget_s - (trio.current_time() - began)
            with trio.move_on_after(max(1.0, left)) as scope:
                while pipeline.is_saving:  # an older one: its end is near
                    await trio.sleep(0.01)
                try:
                    plea = await self.save()
                except TreadleError as error:
                    tell(f"no snapshot at the end: {error.message}")
                else:
                    if plea is not None:
                        saved(plea)
            if scope.cancelled_caught:
                tell("no snapshot at the end: the serf does not answer in time")
        # What of the reserve was not needed is for the next start.
        if self._log.reserve is not None:
            await self._thread.run(self._log.take_reserve)
        # 3. The serf.
        self.stopping = True
        if self.lord is not None:
            left = budget_s - (trio.current_time() - began)
            await self.lord.stop(exit_s=max(1.0, min(5.0, left)))
        # 4. Whoever still waits is told; what was computed is committed, each
        # batch in its turn, while there is somebody to release it to.
        pipeline.abandon("the ship is stopping")
        with trio.CancelScope(shield=True):
            while pipeline.committed < pipeline.computed and self.fault is None:
                await self._thread.run(_nothing)
        self._release()
        return drained

    # --- starting and staying alive -------------------------------------------

    def adopt(self, lord: Lord, event: int) -> None:
        """Work with this serf, whose state is as after `event`.

        :raises Lie: if that is not the end of the log.
        """
        self.pipeline.resume(event)
        self.lord = lord
        lord.last_event = event
        lord.receive = self._on_pleas
        lord.on_dead = _nothing
        lord.is_full = lambda: self.pipeline.is_full
        self._send()

    async def run(self) -> None:
        """Keep a serf alive until cancelled, or until `failed`."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._pump_loop)
            nursery.start_soon(self._watch_deadlines)
            nursery.start_soon(self._watch_disk)
            while self.lord is not None:
                await self.lord.dead.wait()
                if self.stopping or self.fault is not None:
                    break
                await self._revive(self.lord)
            await trio.sleep_forever()

    async def _revive(self, lord: Lord) -> None:
        """Bury a serf, raise another. Sets `fault` if that is no use."""
        assert lord.death is not None
        suspect = self._bury(lord.death)
        verify = lord.death.is_rot or (suspect is not None and suspect.deaths >= 2)
        attempt = 0
        while True:
            self.deaths += 1
            if self.deaths > DEATHS_MAX:
                self._stop_for(_give_up(lord.death))
                return
            if attempt or self.deaths > 1:
                await trio.sleep(min(BACKOFF_MAX_S, 0.25 * 2 ** (self.deaths - 1)))
            # Events that were answered go to the log first: the new serf
            # must find them there.
            while self.pipeline.committed < self.pipeline.computed:
                if self.fault is not None:
                    return
                await self._progressed()
            attempt += 1
            self.pipeline.restart()
            try:
                heir, event = await self._world.revive(verify)
                self.adopt(heir, event)
            except StartFailed as error:
                # Out of memory, perhaps: again, later, up to DEATHS_MAX.
                verify = verify or error.is_rot
                self._world.tell(str(error))
            except TreadleError as error:
                self._world.tell(str(error))
                if verify or not may_be_rot(error):
                    self._stop_for(error)
                    return
                verify = True  # a page may be rotten: from a verified state
            except Lie as error:
                self._stop_for(TreadleError("serf-spoke-nonsense", str(error)))
                return
            else:
                break
        self._world.tell(
            f"serf {heir.pid} took over at event {self.pipeline.committed}"
        )

    def _bury(self, death: Death) -> Poke | Ask | None:
        """Report a death, take its work back, drop what kills serfs."""
        pipeline = self.pipeline
        self.lord = None
        suspect = pipeline.died()
        self._note_head()  # sent again, an event has its time again
        if suspect is not None and self._overdue:
            suspect.deaths += 1  # it was given every chance to end by itself
        self._overdue = False
        self._world.buried(death, suspect)
        if type(suspect) is Poke and suspect.deaths >= 3:
            where = self._world.quarantine(suspect, death)
            pipeline.drop(suspect, f"quarantined: it killed the serf ({where})")
            self.deaths = 0
            suspect = None
        elif type(suspect) is Ask and suspect.deaths >= 2:
            pipeline.drop(suspect, f"it killed the serf: {death.cause}")
            suspect = None
        self._release()
        return suspect

    def _stop_for(self, error: TreadleError) -> None:
        """The ship cannot go on: refuse all, say why, wake who waits for it."""
        if self.fault is not None:
            return
        self.fault = error
        if self.lord is not None:
            self.lord.kill("the ship stops")
        self.pipeline.abandon(f"the ship stopped: {error}")
        self._release()
        self._progress.set()
        self.failed.set()

    # --- the path of an event -------------------------------------------------

    def _send(self) -> None:
        lord = self.lord
        if lord is None:
            return
        pipeline = self.pipeline
        writs = pipeline.send(self._world.now())
        if writs:
            lord.send(writs)
            failpoint.hit("send.after")
            if self._head is None:
                self._note_head()
                self._busy.set()

    async def _pump_loop(self) -> None:
        """Send whenever `pump` has woken us: awake, we have yet to send."""
        while True:
            self._send()
            self._pump_task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abort_pump)

    def _abort_pump(self, _: object) -> trio.lowlevel.Abort:
        self._pump_task = None
        return trio.lowlevel.Abort.SUCCEEDED

    def _on_pleas(self, pleas: Sequence[Plea]) -> None:
        pipeline = self.pipeline
        answer = pipeline.answer
        try:
            for plea in pleas:
                answer(plea)
        except Lie as error:
            assert self.lord is not None
            self.lord.kill(f"it lied: {error}")
        lord = self.lord
        if lord is not None:
            lord.last_event = pipeline.computed
        self._note_head()
        self._commit()
        self._send()
        self._release()

    def _commit(self) -> None:
        batch = self.pipeline.take_batch()
        if batch is not None:
            self._thread.submit(lambda: self._write(batch), self._on_committed)

    def _write(self, batch: Batch) -> tuple[int, int]:
        """In the log's thread: make it durable, see how much room is left."""
        failpoint.hit("commit.before")
        rows = [Row(poke.mug, poke.job) for poke in batch.pokes]
        free = self._log.append(batch.first, rows)
        failpoint.hit("commit.after")
        costs = [(poke.nanoseconds, poke.pages) for poke in batch.pokes]
        self._log.note(batch.first, costs)
        return free, sum(len(row.job) for row in rows)

    def _on_committed(
        self, value: tuple[int, int], error: BaseException | None
    ) -> None:
        if error is not None:
            self._on_commit_failed(error)
            return
        free, size = value
        self.bytes_logged += size
        self.pipeline.batch_committed()
        self.deaths = 0
        self._commit()
        failpoint.hit("release.before")
        self._release()
        failpoint.hit("release.after")
        self._send()
        if not self.active.is_set():
            self.active.set()
        if free < self._log.low_water:
            self._disk_low(free)

    def log_failed(self, error: LogFailed) -> None:
        """A write to the log other than ours failed, at a wall: nothing may
        follow it."""
        self._stop_for(error)

    def _on_commit_failed(self, error: BaseException) -> None:
        """What is in the batch may or may not be durable: nobody may know."""
        if not isinstance(error, TreadleError):
            error = TreadleError("log-failed", f"the log failed: {error!r}")
        if self.fault is None:
            self.fault = error
        if self.lord is not None:
            self.lord.kill("the log failed")
        self.pipeline.fail(f"the ship stopped: {error}")
        self._release()
        self._progress.set()
        self.failed.set()

    def _release(self) -> None:
        if self.pipeline.release(self._world.hand):
            self._world.released(self.pipeline.released)
            if self.lord is not None:
                self.lord.read_on()
        if self.pipeline.save_is_due:
            self._send()  # what was released last was all that stood before it
        self._progress.set()

    # --- deadlines ------------------------------------------------------------

    def _note_head(self) -> None:
        """The oldest request is what the serf is at; time it from now."""
        flight = self.pipeline.flight
        head = flight[0] if flight else None
        if head is not self._head:
            self._head = head
            self._head_since = trio.current_time()
            self._head_stage = 0

    async def _watch_deadlines(self) -> None:
        while True:
            await self._busy.wait()
            while self.pipeline.flight:
                self._note_head()
                self._check_deadline()
                await trio.sleep(0.5)
            self._note_head()
            self._busy = trio.Event()

    def _check_deadline(self) -> None:
        """The serf keeps deadlines by itself; we are its backstop."""
        head, lord = self._head, self.lord
        if head is None or lord is None:
            return
        if lord.is_unheard:  # perhaps it has answered long since
            self._head_since = trio.current_time()
            return
        default = self.pipeline.limits.deadline_ms
        limit = head.ovum.deadline_ms if type(head) is Poke else None
        # Twice: a %crud of the event gets a fresh deadline.
        deadline = 2 * (default if limit is None else limit) / 1000
        late = trio.current_time() - self._head_since - deadline
        if deadline == 0 or late < BACKSTOP_S:
            return
        if self._head_stage == 0:
            self._world.tell("an event is past its deadline: interrupting it")
            lord.interrupt(head.request)
            self._head_stage = 1
        elif self._head_stage == 1 and late > BACKSTOP_S + TERM_S:
            lord.signal(signal.SIGTERM)
            self._head_stage = 2
        elif self._head_stage == 2 and late > BACKSTOP_S + TERM_S + KILL_S:
            self._overdue = True
            lord.kill("an event ran past its deadline and would not stop")
            self._head_stage = 3

    # --- room on the disk -----------------------------------------------------

    async def wait_admission(self) -> None:
        """Wait while events are refused for now."""
        while self.pipeline.again:
            await trio.sleep(0.2)

    @property
    def disk_is_low(self) -> bool:
        """Events are refused until there is more room."""
        return self._low

    @asynccontextmanager
    async def room(self) -> AsyncIterator[None]:
        """For what may write much: meanwhile there is room, at the reserve's
        expense if need be."""
        reserve = self._log.reserve
        self._spenders += 1
        try:
            if reserve is not None:
                await self._thread.run(lambda: self._log.make_room(reserve.size))
            yield
        finally:
            self._spenders -= 1

    def look_at_disk(self) -> None:
        """Refuse events while there is little room, and no longer."""
        reserve = self._log.reserve
        if reserve is not None:
            self._tell_of_reserve(reserve)
            if reserve.missing and not self._spenders:
                self._thread.submit(self._log.take_reserve, self._on_reserve)
        free = self._log.free()
        if free < self._log.low_water:
            self._disk_low(free)
        elif self._low:
            self._low = False
            if self.pipeline.again:
                self._world.tell("there is room on the disk again: taking events")
                self.pipeline.admit()

    def _tell_of_reserve(self, reserve: Reserve) -> None:
        if reserve.held < self._reserve_seen:
            self._world.tell(
                f"the disk is full: gave back the reserve ({self._reserve_seen >> 20} "
                "MiB), to finish what is under way"
            )
        self._reserve_seen = reserve.held

    def _on_reserve(self, _: object, error: BaseException | None) -> None:
        reserve = self._log.reserve
        assert reserve is not None
        assert error is None, error
        if reserve.fault:
            self._world.tell(
                f"no room can be kept for a full disk ({reserve.fault}): should "
                "it ever be quite full, free some before you stop the ship"
            )
        self._reserve_seen = reserve.held

    async def _watch_disk(self) -> None:
        while True:
            self.look_at_disk()
            self._disk_bell = trio.Event()
            with trio.move_on_after(1.0 if self._low else 10.0):
                await self._disk_bell.wait()

    def _disk_low(self, free: int) -> None:
        if self._low or self.pipeline.refusing is not None:
            return
        self._low = True
        self._disk_bell.set()
        self._world.tell(
            f"the disk is nearly full ({max(free, 0) >> 20} MiB left): no new events "
            "are taken until there is room; reading goes on"
        )
        self.pipeline.refuse("the disk is nearly full", again=True, code="disk-low")
        self._release()


def _nothing() -> None:
    pass


def _nothing_of_it(_: int, __: list[Cost]) -> None:
    pass


def _give_up(death: Death) -> TreadleError:
    return TreadleError(
        "serf-died",
        f"the serf died {DEATHS_MAX} times without an event in between; "
        f"last cause: {death.cause}",
        "the log is whole; look at the lines above, then start the ship again",
    )
