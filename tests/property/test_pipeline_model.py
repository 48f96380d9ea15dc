"""The pipeline's decisions against a world that Hypothesis plays.

The world: drivers that offer, a serf that answers, bails, prints nothing and
dies; a disk that is slow and may fail. Checked after each step: the names of
verification.md 1 (Chain, PersistBeforeEffects, LogGrows, Injective, Conserved).
"""

from __future__ import annotations

import itertools
from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from king.event import Effect, Fact, Failure, Outcome, Ovum, Refused
from king.lab.protocol import Judge
from king.pipeline import Ask, Batch, Lie, Limits, Pipeline
from proto.message import (
    Bail,
    Done,
    Gauge,
    Gauged,
    Goof,
    Jam,
    Plea,
    Save,
    Saved,
    Work,
    Writ,
)
from proto.record import Action, Note

EFFECT = Effect((b"w",), b"t", Jam(b"\0"))
GOOF = Goof("exit", Jam(b"\0"))


class World(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.judge = Judge()
        self.note(Action.KING_START, 0, 0)
        self.pipeline = Pipeline(
            ("a", "b", "c"),
            event=0,
            last_time=0,
            stamp=lambda now, ovum: now.to_bytes(16, "little") + ovum,
            limits=Limits(
                lane_events=6,
                lane_bytes=200,
                flight_events=4,
                flight_bytes=120,
                batch_events=3,
                batch_bytes=100,
            ),
            record=self.note,
        )
        self.log: list[bytes] = []
        self.arena: list[bytes] = []  # what the serf has applied
        self.snapshot: list[bytes] = []
        self.saving: Save | None = None
        self.frozen: list[bytes] = []
        self.to: deque[Writ] = deque()
        self.back: deque[Plea] = deque()
        self.alive = True
        self.batch: Batch | None = None
        self.handed: list[int] = []
        self.offered: dict[int, bytes] = {}
        self.outcomes: dict[int, Outcome] = {}
        self.peeked: list[tuple[int, object]] = []
        self.saves = 0
        self.dead_disk = False
        self.stopped = False
        self.wall = 0
        self.order: dict[str, list[int]] = {"a": [], "b": [], "c": []}
        self.pipeline.resume(0)

    def note(self, action: Action, number: int, other: int) -> None:
        """The model goes along: it raises at a step that it does not allow."""
        self.judge.step(Note(0, action, number, other, 0))

    # --- drivers ---

    @rule(lane=st.integers(0, 2), size=st.integers(1, 90))
    def offer(self, lane: int, size: int) -> None:
        where = self.pipeline.lanes[lane]
        if not self.pipeline.has_room(where, size):
            return
        number = len(self.offered)
        data = number.to_bytes(4, "little").ljust(size, b"x")
        self.offered[number] = data

        def done(outcome: Outcome) -> None:
            assert number not in self.outcomes, "an outcome twice"
            self.outcomes[number] = outcome
            if isinstance(outcome, Fact):
                assert outcome.event <= len(self.log), "a Fact before its commit"
                self.order[where.name].append(number)

        self.pipeline.offer(where, Ovum(("x",), "t", Jam(data)), done)

    @rule()
    def ask(self) -> None:
        asked = len(self.peeked)
        self.peeked.append((-1, None))

        def done(reply: object) -> None:
            self.peeked[asked] = (len(self.log), reply)
            if isinstance(reply, Gauged):
                # The fake's gauge is the event it saw: never uncommitted.
                assert reply.values[0][1] <= len(self.log)

        self.pipeline.ask(Ask("gauge", Gauge, Gauged, done))

    @rule()
    def save(self) -> None:
        self.pipeline.save(lambda _: None)

    # --- the king's loop ---

    @rule(step=st.integers(0, 1 << 50))
    def send(self, step: int) -> None:
        self.wall += step
        writs = self.pipeline.send(self.wall)
        assert not (writs and not self.alive)
        self.to.extend(writs)
        for writ in writs:
            if isinstance(writ, Save):
                assert writ.event == len(self.log) == len(self.arena)

    @precondition(lambda self: self.back)
    @rule()
    def hear(self) -> None:
        self.pipeline.answer(self.back.popleft())

    @rule()
    def begin_commit(self) -> None:
        batch = self.pipeline.take_batch()
        if batch is not None:
            assert self.batch is None
            assert batch.first == len(self.log) + 1
            assert len(batch.pokes) <= 3
            self.batch = batch

    @precondition(lambda self: self.batch is not None and not self.dead_disk)
    @rule()
    def end_commit(self) -> None:
        assert self.batch is not None
        self.log += [poke.job for poke in self.batch.pokes]
        self.batch = None
        self.pipeline.batch_committed()

    @rule()
    def release(self) -> None:
        self.pipeline.release(self._hand)

    def _hand(self, event: int, effects: tuple[Effect, ...]) -> None:
        assert event <= len(self.log), "PersistBeforeEffects"
        assert not self.handed or event > self.handed[-1], "order, at most once"
        self.handed.append(event)

    # --- the serf ---

    @precondition(lambda self: self.alive and self.to)
    @rule(bail=st.booleans(), replace=st.booleans())
    def compute(self, bail: bool, replace: bool) -> None:
        writ = self.to.popleft()
        if isinstance(writ, Work):
            if bail:
                self.back.append(Bail(writ.request, (GOOF,)))
                return
            self.arena.append(writ.job)
            event = len(self.arena)
            self.back.append(Done(writ.request, event, event, (EFFECT,), None))
        elif isinstance(writ, Save):
            assert self.saving is None
            self.saving, self.frozen = writ, list(self.arena)
        else:
            assert isinstance(writ, Gauge)
            self.back.append(Gauged(writ.request, (("event", len(self.arena)),)))

    @precondition(lambda self: self.saving is not None)
    @rule(good=st.booleans())
    def end_save(self, good: bool) -> None:
        writ, self.saving = self.saving, None
        assert writ is not None
        if good:
            self.snapshot = self.frozen
            self.back.append(Saved(writ.request, writ.event, 1, 1, 1, 1, 1))
        else:
            self.back.append(Bail(writ.request, (GOOF,)))

    @precondition(lambda self: self.alive and not self.stopped)
    @rule(heard=st.integers(0, 5))
    def die(self, heard: int) -> None:
        """What was written to the pipe is heard (or cut short), then the end."""
        for _ in range(min(heard, len(self.back))):
            self.hear()
        self.alive = False
        self.saving = None
        self.to.clear()
        self.back.clear()
        suspect = self.pipeline.died()
        if suspect is not None and suspect.deaths >= 3:
            self.pipeline.drop(suspect, "quarantined")

    @precondition(
        lambda self: (
            not self.alive
            and not self.stopped
            and self.pipeline.computed == len(self.log)
        )
    )
    @rule()
    def revive(self) -> None:
        assert self.log[: len(self.snapshot)] == self.snapshot, "SnapInLog"
        self.arena = list(self.log)  # snapshot and replay
        self.alive = True
        self.pipeline.restart()
        with pytest.raises(Lie):
            self.pipeline.resume(len(self.log) + 1)
        self.pipeline.resume(len(self.log))

    # --- ends ---

    @precondition(lambda self: self.batch is not None and not self.stopped)
    @rule()
    def fail_commit(self) -> None:
        self.dead_disk = self.stopped = True
        self.alive = False
        self.saving = None
        self.to.clear()
        self.back.clear()
        before = list(self.handed)
        self.pipeline.fail("the disk failed")
        self.pipeline.release(self._hand)
        assert all(event <= len(self.log) for event in self.handed[len(before) :])
        self._all_told()

    @precondition(lambda self: not self.stopped)
    @rule()
    def low_disk(self) -> None:
        self.pipeline.refuse("low")
        self.pipeline.admit()

    def _all_told(self) -> None:
        assert set(self.outcomes) == set(self.offered), "Conserved"
        assert all(reply is not None for _, reply in self.peeked)

    def teardown(self) -> None:
        """Let the world go on in peace: everything offered gets an outcome."""
        if self.stopped:
            return
        for _ in range(200):
            if not self.alive:
                self.begin_commit()
                if self.batch is not None:
                    self.end_commit()
                if self.pipeline.computed == len(self.log):
                    self.revive()
            self.send(1)
            while self.to:
                self.compute(False, False)
            if self.saving is not None:
                self.end_save(True)
            while self.back:
                self.hear()
            self.begin_commit()
            if self.batch is not None:
                self.end_commit()
            self.release()
        self._all_told()
        assert self.pipeline.is_idle
        facts = [o for o in self.outcomes.values() if isinstance(o, Fact)]
        assert len(facts) == len(self.log) == len(self.handed)
        for numbers in self.order.values():
            assert numbers == sorted(numbers), "order within a lane"
        for lane in self.pipeline.lanes:
            assert (lane.events, lane.bytes) == (0, 0), "a budget leaks"

    @invariant()
    def chain(self) -> None:
        pipeline = self.pipeline
        if self.stopped:
            return
        assert pipeline.released <= pipeline.committed <= pipeline.computed
        assert pipeline.committed == len(self.log), "LogGrows"
        if self.alive:
            answered = sum(type(plea) is Done for plea in self.back)
            assert pipeline.computed + answered == len(self.arena), "Chain"
            assert self.arena[: len(self.log)] == self.log, "Chain"
        times = [int.from_bytes(job[:16], "little") for job in self.log]
        assert all(b - a >= 1 << 48 for a, b in itertools.pairwise(times))
        data = [job[16:20] for job in self.log]
        assert len(set(data)) == len(data), "an event twice"

    @invariant()
    def bounded(self) -> None:
        assert len(self.pipeline.flight) <= 4
        for lane in self.pipeline.lanes:
            assert lane.events <= 6


World.TestCase.settings = settings(
    max_examples=150, stateful_step_count=60, deadline=None
)
TestPipelineModel = World.TestCase


def test_the_checks_can_fail() -> None:
    """A mutant that releases before the commit is caught."""
    world = World()
    world.offer(0, 10)
    world.send(1)
    world.compute(False, False)
    world.hear()
    world.pipeline.committed = 1
    with pytest.raises(AssertionError, match="before its commit"):
        world.release()


def test_outcomes_are_typed() -> None:
    """A bail is a Failure, a refusal is told, both cost no number."""
    world = World()
    world.offer(0, 10)
    world.offer(1, 10)
    world.send(1)
    world.compute(True, False)
    world.hear()
    world.release()
    assert isinstance(world.outcomes[0], Failure)
    world.pipeline.abandon("gone")
    world.pipeline.release(world._hand)
    assert isinstance(world.outcomes[1], Refused)
    assert world.pipeline.computed == 0
