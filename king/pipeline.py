"""The spine: ovum -> writ -> plea -> log -> effects. Decisions only, no I/O.

What it is: a state machine that says what to send, what to commit and what
to release. `spine` moves the bytes; a test can play the world instead.
It owns: every request from offer to release, and the numbers: `computed` >=
`committed` >= `released`.
Invariants:
  an event is released only if committed >= event, and in event order;
  outcomes leave in the order of the answers: nothing that was computed on
  top of an uncommitted event (a bail, a peek) leaves before that event;
  a lane's budget covers its events from offer to release, so every queue
  here is bounded and release never waits;
  stamps rise: now = max(wall, last + 2^48), and a resent job keeps its own.
Limits: see `Limits`; an ovum above a lane's byte budget goes alone.

Model: proto/model/Treadle.tla; what is recorded are its actions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from king.event import Effect, Fact, Failure, Jam, Outcome, Ovum, Refused
from proto import fast
from proto.errors import CueError
from proto.message import Bail, Done, Plea, Save, Saved, Work, Writ
from proto.record import Action

__all__ = [
    "TICK",
    "Ask",
    "Batch",
    "Lane",
    "Lie",
    "Limits",
    "Pipeline",
    "Poke",
    "Recorder",
    "effect_size",
    "head_time",
]

TICK = 1 << 48
"""The least step between two stamps: 2^-16 second."""

EFFECT_SIZE = 256
"""Of an effect without its data: some objects, wire and tag."""

Recorder = Callable[[Action, int, int], None]
"""Is told each step of the protocol; see proto.record."""


class Lie(Exception):
    """The serf said what it cannot mean: it is broken, treat it as dead."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds, each with its reason.

    lane: what one driver may have outstanding from offer to release;
    flight: what the serf may hold unanswered (hides the pipe's latency, and
    bounds what is sent again when it dies); batch: what one commit may hold;
    effects: how many one event may have; effect_bytes: what all unreleased
    ones may weigh before the serf is not listened to for a while.
    """

    lane_events: int = 2_048
    lane_bytes: int = 32 << 20
    flight_events: int = 1_024
    flight_bytes: int = 16 << 20
    batch_events: int = 4_096
    batch_bytes: int = 32 << 20
    effects: int = 100_000
    effect_bytes: int = 64 << 20
    deadline_ms: int = 600_000


class Lane:
    """One driver's queue and budget. `on_room` is told when room appears."""

    __slots__ = (
        "bytes",
        "events",
        "index",
        "lagging",
        "name",
        "offered",
        "on_room",
        "queue",
    )

    def __init__(self, name: str, index: int = 0) -> None:
        self.name = name
        self.index = index
        self.queue: deque[Poke] = deque()
        self.events = 0
        self.bytes = 0
        self.offered = 0  # ever
        self.lagging = False  # does not drain its effects: no admission
        self.on_room: Callable[[], None] | None = None


class Poke:
    """One ovum, from offer to release."""

    __slots__ = (
        "deaths",
        "done",
        "effects",
        "event",
        "job",
        "lane",
        "mug",
        "nanoseconds",
        "outcome",
        "ovum",
        "pages",
        "request",
        "size",
        "ticket",
        "time",
        "weight",
    )

    def __init__(
        self,
        ticket: int,
        lane: Lane,
        ovum: Ovum,
        done: Callable[[Outcome], None] | None,
    ) -> None:
        self.ticket = ticket
        self.lane = lane
        self.ovum = ovum
        self.done = done
        self.size = len(ovum.jam)
        self.weight = 0  # of its effects, from answer to release
        self.deaths = 0
        self.request = 0
        self.time = 0
        self.job = Jam(b"")
        self.event = 0  # its own, or the last before it if it has none
        self.mug = 0
        self.nanoseconds = 0  # what it cost the serf
        self.pages = 0
        self.effects: tuple[Effect, ...] = ()
        self.outcome: Outcome | None = None


class Ask:
    """Any other request. `make` builds the writ from its request number.

    `done` gets the answer, or words that say why there is none.
    """

    __slots__ = ("deaths", "done", "event", "make", "name", "reply", "request", "wants")

    def __init__(
        self,
        name: str,
        make: Callable[[int], Writ],
        wants: type,
        done: Callable[[Plea | str], None],
    ) -> None:
        self.name = name
        self.make = make
        self.wants = wants
        self.done = done
        self.deaths = 0
        self.request = 0
        self.event = 0
        self.reply: Plea | str = ""


@dataclass(frozen=True, slots=True)
class Batch:
    """Neighbouring events that are to become durable together."""

    first: int
    pokes: list[Poke]

    @property
    def last(self) -> int:
        return self.first + len(self.pokes) - 1


class Pipeline:
    """See the module's words. All methods return at once."""

    def __init__(
        self,
        lanes: Sequence[str],
        *,
        event: int,
        last_time: int,
        stamp: Callable[[int, bytes], bytes],
        mug: int = 0,
        limits: Limits | None = None,
        record: Recorder | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.lanes = [Lane(name, index) for index, name in enumerate(lanes)]
        self.computed = event
        self.planned = event
        self.committed = event
        self.mug = mug  # of the kernel after `committed`
        self.released = event
        self.last_time = last_time
        self.refusing: str | None = None  # why nothing is admitted, if so
        self.again = False  # it is refused for now, not for good
        self.code = ""  # the same in a word
        self.up = False  # a caught-up serf listens
        self.careful = False  # after a death: one at a time
        self.held = 0  # by those who need a wall: nothing new is sent
        self.flight: deque[Poke | Ask] = deque()
        self.flight_bytes = 0
        self.effect_bytes = 0  # of all that is not released
        self.saving: Ask | None = None  # answered when it is done, out of turn
        self.answers: deque[Poke | Ask] = deque()
        self._stamp = stamp
        self._record = record
        self._again: deque[Poke | Ask] = deque()  # was in flight at a death
        self.asks: deque[Ask] = deque()
        self._save: Ask | None = None
        self._fresh: deque[Poke] = deque()  # answered, in no batch yet
        self._batch: Batch | None = None
        self._turn = 0
        self._ticket = 0
        self._request = 0
        # counters for people
        self.failures = 0
        self.refused = 0
        self.queued = 0
        self.batches = 0

    # --- admission ------------------------------------------------------------

    def has_room(self, lane: Lane, size: int) -> bool:
        """Whether an ovum of `size` bytes may be offered now."""
        if lane.events == 0:
            return not lane.lagging
        return (
            lane.events < self.limits.lane_events
            and lane.bytes + size <= self.limits.lane_bytes
            and not lane.lagging
        )

    def offer(
        self, lane: Lane, ovum: Ovum, done: Callable[[Outcome], None] | None
    ) -> None:
        """Admit an ovum; the caller has asked `has_room`, or may be refused."""
        if self.refusing is not None:
            self.refused += 1
            if done is not None:
                done(Refused(self.refusing, self.again, self.code))
            return
        self._ticket += 1
        poke = Poke(self._ticket, lane, ovum, done)
        lane.events += 1
        lane.offered += 1
        lane.bytes += poke.size
        lane.queue.append(poke)
        self.queued += 1
        if self._record is not None:
            self._record(Action.OFFER, poke.ticket, lane.index)

    def ask(self, ask: Ask) -> None:
        """Queue a peek, a gauge, ...: answered in order with the events."""
        self.asks.append(ask)

    def save(
        self,
        done: Callable[[Plea | str], None],
        pin: str = "",
        unpin: str = "",
        pace: int = 0,
    ) -> bool:
        """Plan a wall: nothing new is sent until all is durable, then Save, and
        then the rest, for the serf saves beside what it does. As to pins and pace
        see Save.

        False if one is planned or under way; then `done` will not be called.
        """
        if self.is_saving:
            return False
        self._save = Ask(
            "save", lambda n: Save(n, self.committed, pin, unpin, pace), Saved, done
        )
        return True

    # --- to the serf ----------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        """Nothing is offered, computed or unreleased."""
        return not (
            self.queued or self.flight or self._again or self.answers or self.asks
        )

    @property
    def is_full(self) -> bool:
        """Enough effects wait for the disk: hear no more of the serf until some
        are released. That needs nothing of the serf, so nobody waits in a ring."""
        return self.effect_bytes > self.limits.effect_bytes

    @property
    def at_wall(self) -> bool:
        """Serf, log and world agree: nothing is between them."""
        return not (self.flight or self._again or self.answers)

    @property
    def is_saving(self) -> bool:
        """A save is planned or under way."""
        return self._save is not None or self.saving is not None

    @property
    def save_is_due(self) -> bool:
        """A save was planned, and its wall is reached."""
        return self._save is not None and self.at_wall

    def send(self, wall: int) -> list[Writ]:
        """What to say to the serf now; `wall` is the time as @da."""
        if not self.up:
            return []
        out: list[Writ] = []
        if self.careful:
            self._send_again(out)
            if self.careful:
                return out
        if self._save is not None:
            if not self.save_is_due:
                return out
            self.saving, self._save = self._save, None
            self._launch_save(self.saving, out)
        if (self.queued or self.asks) and not self.held:
            self._send_new(out, wall)
        return out

    def _send_new(self, out: list[Writ], wall: int) -> None:
        """Round robin over those who ask and the lanes, from where the last round
        stopped: a flood of either leaves the others their turns."""
        lanes, flight, limits = self.lanes, self.flight, self.limits
        asks_turn, turn = len(lanes), self._turn
        while (self.queued or self.asks) and len(flight) < limits.flight_events:
            if turn == asks_turn:
                turn = 0
                if self.asks:
                    self._launch_ask(self.asks.popleft(), out)
                continue
            lane = lanes[turn]
            if not lane.queue:
                turn += 1
                continue
            poke = lane.queue[0]
            if flight and self.flight_bytes + poke.size > limits.flight_bytes:
                break
            lane.queue.popleft()
            self.queued -= 1
            turn += 1
            now = self.last_time + TICK
            if wall > now:
                now = wall
            self.last_time = poke.time = now
            poke.job = Jam(self._stamp(now, poke.ovum.jam))
            out.append(self._launch(poke))
        self._turn = turn

    def _send_again(self, out: list[Writ]) -> None:
        """After a death: singly, in the old order, until all have answered."""
        if self.flight:
            return
        if not self._again:
            self.careful = False
            return
        entry = self._again.popleft()
        if type(entry) is Poke:
            out.append(self._launch(entry))
        else:
            assert isinstance(entry, Ask)
            self._launch_ask(entry, out)

    def _launch(self, poke: Poke) -> Work:
        self._request += 1
        poke.request = self._request
        self.flight.append(poke)
        self.flight_bytes += poke.size
        if self._record is not None:
            self._record(Action.SEND, poke.ticket, poke.request)
        deadline = poke.ovum.deadline_ms
        return Work(
            poke.request,
            self.limits.deadline_ms if deadline is None else deadline,
            poke.job,
        )

    def _launch_ask(self, ask: Ask, out: list[Writ]) -> None:
        self._request += 1
        ask.request = self._request
        self.flight.append(ask)
        out.append(ask.make(ask.request))

    def _launch_save(self, ask: Ask, out: list[Writ]) -> None:
        self._request += 1
        ask.request = self._request
        ask.event = self.committed
        out.append(ask.make(ask.request))
        if self._record is not None:
            self._record(Action.ASK_SAVE, ask.request, ask.event)

    # --- from the serf --------------------------------------------------------

    def answer(self, plea: Plea) -> None:
        """Take one answer, as if from an enemy.

        :raises Lie: if it is not what the oldest request can be answered with,
            nor the save.
        """
        if type(plea) is Saved or type(plea) is Bail:
            saving = self.saving
            if saving is not None and plea.request == saving.request:
                self._answer_save(saving, plea)
                return
        flight = self.flight
        if not flight:
            raise Lie(f"{type(plea).__name__} without a request")
        entry = flight[0]
        if type(plea) is Done and type(entry) is Poke:
            self._answer_done(entry, plea)
        elif type(plea) is Bail:
            self._answer_bail(entry, plea)
        elif type(entry) is Ask and type(plea) is entry.wants:
            self._answer_ask(entry, plea)
        else:
            raise Lie(f"{type(plea).__name__} does not answer {_words(entry)}")

    def _answer_done(self, poke: Poke, plea: Done) -> None:
        if plea.request != poke.request:
            raise Lie(f"Done names request {plea.request}, not {poke.request}")
        event = self.computed + 1
        if plea.event != event:
            raise Lie(f"Done says event {plea.event}, not {event}")
        if plea.mug >> 31:
            raise Lie(f"event {event}: mug {plea.mug:#x} has more than 31 bits")
        if len(plea.effects) > self.limits.effects:
            raise Lie(f"event {event}: {len(plea.effects)} effects")
        job = plea.job
        if job is not None:
            if head_time(job) != poke.time:
                raise Lie(f"event {event}: the replacing job has another time")
            if not is_canonical(job):
                raise Lie(f"event {event}: the replacing job is no jam")
            poke.job = job
        self.flight.popleft()
        self.flight_bytes -= poke.size
        self.computed = poke.event = event
        poke.mug = plea.mug
        poke.nanoseconds = plea.nanoseconds
        poke.pages = plea.pages
        poke.effects = plea.effects
        if plea.effects:
            poke.weight = sum(effect_size(effect) for effect in plea.effects)
            poke.lane.bytes += poke.weight
            self.effect_bytes += poke.weight
        poke.outcome = Fact(event, plea.mug, job is not None)
        self._fresh.append(poke)
        self.answers.append(poke)
        if self._record is not None:
            self._record(Action.RECEIVE, poke.request, event)

    def _answer_bail(self, entry: Poke | Ask, plea: Bail) -> None:
        if plea.request != entry.request:
            raise Lie(f"Bail names request {plea.request}, not {entry.request}")
        self.flight.popleft()
        entry.event = self.computed
        if type(entry) is Poke:
            self.flight_bytes -= entry.size
            self.failures += 1
            entry.outcome = Failure(plea.goofs)
        else:
            assert isinstance(entry, Ask)
            entry.reply = plea
        self.answers.append(entry)
        if self._record is not None and type(entry) is Poke:
            self._record(Action.RECEIVE, entry.request, 0)

    def _answer_ask(self, ask: Ask, plea: Plea) -> None:
        request = getattr(plea, "request", 0)
        if request != ask.request:
            raise Lie(f"{ask.name}: request {request}, not {ask.request}")
        self.flight.popleft()
        ask.event = self.computed
        ask.reply = plea
        self.answers.append(ask)

    def _answer_save(self, ask: Ask, plea: Saved | Bail) -> None:
        event = plea.event if type(plea) is Saved else 0
        if event not in (0, ask.event):
            raise Lie(f"saved event {event}, not {ask.event}")
        self.saving = None
        ask.reply = plea
        self.answers.append(ask)
        if self._record is not None:
            self._record(Action.RECEIVE, ask.request, event)

    # --- to the log -----------------------------------------------------------

    def take_batch(self) -> Batch | None:
        """All that has piled up, bounded; None while a batch is at the disk."""
        fresh = self._fresh
        if self._batch is not None or not fresh:
            return None
        room = self.limits.batch_bytes
        pokes: list[Poke] = []
        while fresh and len(pokes) < self.limits.batch_events:
            room -= len(fresh[0].job)
            if room < 0 and pokes:
                break
            pokes.append(fresh.popleft())
        self._batch = Batch(self.planned + 1, pokes)
        self.planned += len(pokes)
        self.batches += 1
        return self._batch

    def batch_committed(self) -> None:
        """The batch that was taken last is durable."""
        assert self._batch is not None
        if self._record is not None:
            self._record(Action.COMMIT, self._batch.first, self._batch.last)
        self.committed = self._batch.last
        self.mug = self._batch.pokes[-1].mug
        self._batch = None

    # --- to the world ---------------------------------------------------------

    def release(self, hand: Callable[[int, tuple[Effect, ...]], None]) -> int:
        """Tell outcomes and hand out effects, as far as the log allows.

        Returns how many requests were released.
        """
        answers, committed, record = self.answers, self.committed, self._record
        count = 0
        while answers and answers[0].event <= committed:
            entry = answers.popleft()
            count += 1
            if type(entry) is not Poke:
                assert isinstance(entry, Ask)
                entry.done(entry.reply)
                continue
            if entry.done is not None:
                assert entry.outcome is not None
                entry.done(entry.outcome)
            if type(entry.outcome) is Fact:
                if entry.effects:
                    hand(entry.event, entry.effects)
                self.released = entry.event
                if record is not None:
                    record(Action.RELEASE, entry.event, 0)
            self._repay(entry)
        return count

    def _repay(self, poke: Poke) -> None:
        lane = poke.lane
        lane.events -= 1
        lane.bytes -= poke.size + poke.weight
        self.effect_bytes -= poke.weight
        if lane.on_room is not None:
            lane.on_room()

    # --- misfortune -----------------------------------------------------------

    def died(self) -> Poke | Ask | None:
        """The serf is gone: what it had not answered goes back, in order.

        Returns the suspect: the oldest unanswered request, its deaths counted.
        A save is not tried again.
        """
        self._note_death()
        suspect = self.flight[0] if self.flight else None
        if suspect is not None:
            suspect.deaths += 1
            self.careful = True
        while self.flight:
            self._again.appendleft(self.flight.pop())
        self.flight_bytes = 0
        if self.saving is not None:
            saving, self.saving = self.saving, None
            self._settle_ask(saving, "the serf died")
        return suspect

    def _note_death(self) -> None:
        if self.up and self._record is not None:
            self._record(Action.SERF_DIE, 0, 0)
        self.up = False

    def restart(self) -> None:
        """Another serf is about to be raised from the log, which must hold
        all that the dead one answered."""
        assert not self.up
        assert self.committed == self.computed
        if self._record is not None:
            self._record(Action.RESTART, 0, 0)

    def resume(self, event: int) -> None:
        """A serf listens again, its state as after `event`.

        :raises Lie: if that is not the last event.
        """
        if event != self.computed:
            raise Lie(f"the serf is at event {event}, the log at {self.computed}")
        self.up = True
        if self._record is not None:
            self._record(Action.LIVE, event, 0)

    def drop(self, entry: Poke | Ask, why: str) -> None:
        """Give up on a request that was in flight at a death (quarantine)."""
        self._again.remove(entry)
        if type(entry) is Poke:
            self._give_up(entry, Refused(why))
        else:
            assert isinstance(entry, Ask)
            self._settle_ask(entry, why)

    def _give_up(self, poke: Poke, why: Refused) -> None:
        """It was never computed, and never will be."""
        poke.outcome = why
        poke.event = self.computed
        self.answers.append(poke)
        if self._record is not None:
            self._record(Action.GIVE_UP, poke.ticket, 0)

    def _settle_ask(self, ask: Ask, why: str) -> None:
        ask.reply = why
        ask.event = self.computed
        self.answers.append(ask)

    def refuse(
        self, why: str, *, again: bool = False, code: str = "event-dropped"
    ) -> None:
        """Admit nothing from now on, and give up what was not sent yet.

        What is in flight goes its way. `again`: `admit` may take it back.
        """
        self.refusing = why
        self.again = again
        self.code = code
        for lane in self.lanes:
            for poke in lane.queue:
                self._give_up(poke, Refused(why, again, code))
            lane.queue.clear()
        self.queued = 0
        self._tell_room()

    def close(self, why: str) -> None:
        """Admit nothing from now on; what was admitted goes its way."""
        self.refusing = why
        self.again = False
        self.code = "event-dropped"
        self._tell_room()

    def admit(self) -> None:
        """Admit again."""
        self.refusing = None
        self.again = False
        self._tell_room()

    def _tell_room(self) -> None:
        for lane in self.lanes:
            if lane.on_room is not None:
                lane.on_room()

    def abandon(self, why: str) -> None:
        """Refuse all that was never answered; nothing more will be sent.

        What was answered keeps waiting for its commit. Called when the ship
        stops; release once more afterwards.
        """
        self._note_death()
        left: list[Poke | Ask] = [*self.flight, *self._again, *self.asks]
        self.flight.clear()
        self.flight_bytes = 0
        self._again.clear()
        self.asks.clear()
        left += [save for save in (self._save, self.saving) if save is not None]
        self._save = self.saving = None
        for entry in left:
            if type(entry) is Poke:
                self._give_up(entry, Refused(why))
            else:
                assert isinstance(entry, Ask)
                self._settle_ask(entry, why)
        self.refuse(why)

    def fail(self, why: str) -> None:
        """The disk failed: no outcome of an uncommitted event is known.

        Everyone who waits is refused; no effect is released any more.
        """
        if self._record is not None:
            self._record(Action.DISK_ERROR, 0, 0)
            self._record = None  # the protocol ends here
        self.abandon(why)
        for entry in self.answers:
            if type(entry) is Poke:
                entry.outcome = Refused(why)
                entry.effects = ()
            else:
                assert isinstance(entry, Ask)
                entry.reply = why
            entry.event = self.committed
        self._fresh.clear()


def effect_size(effect: Effect) -> int:
    """Bytes that it holds here, about."""
    return EFFECT_SIZE + len(effect.data)


def _words(entry: Poke | Ask) -> str:
    if type(entry) is Poke:
        return f"event request {entry.request} (%{entry.ovum.tag})"
    assert isinstance(entry, Ask)
    return f"{entry.name} request {entry.request}"


def is_canonical(job: Jam) -> bool:
    """Whether these bytes are what we would have logged ourselves."""
    try:
        return fast.rejam(job) == job
    except CueError:
        return False


def head_time(job: bytes) -> int | None:
    """The atom at the head of a jammed cell, without cueing the rest.

    None if the noun is an atom or its head is a cell.
    """
    bits = int.from_bytes(job[:64], "little")  # a time needs 22 bytes
    if bits & 7 != 1:  # cell, then an atom: 1 0, 0
        return None
    bits >>= 3
    if not bits:
        return None
    zeros = (bits & -bits).bit_length() - 1
    bits >>= zeros + 1
    if zeros == 0:
        return 0
    if zeros > 9:
        return None
    size = (bits & ((1 << (zeros - 1)) - 1)) | (1 << (zeros - 1))
    bits >>= zeros - 1
    return bits & ((1 << size) - 1)
