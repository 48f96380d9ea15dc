"""Decisions of the pipeline, one at a time. The random world is in
tests/property/test_pipeline_model.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from king.event import Effect, Fact, Outcome, Ovum, Refused
from king.pipeline import TICK, Ask, Lie, Limits, Pipeline, Poke, head_time
from proto.jam import jam
from proto.message import (
    Bail,
    Done,
    Gauge,
    Gauged,
    Goof,
    Jam,
    Packed,
    Save,
    Saved,
    Work,
)
from proto.noun import Cell

NULL = jam(0)


def make(**settings: Any) -> Pipeline:
    pipeline = Pipeline(
        ("one", "two"),
        event=10,
        last_time=5 * TICK,
        stamp=lambda now, ovum: jam(Cell(now, 0)) + ovum,
        **settings,
    )
    pipeline.resume(10)
    return pipeline


def offer(
    pipeline: Pipeline,
    lane: int = 0,
    size: int = 1,
    done: Callable[[Outcome], None] | None = None,
) -> None:
    ovum = Ovum(("x",), "t", Jam(b"x" * size))
    pipeline.offer(pipeline.lanes[lane], ovum, done)


def done(request: int, event: int, **fields: Any) -> Done:
    values: dict[str, Any] = {"mug": 1, "effects": (), "job": None} | fields
    return Done(request, event, **values)


def test_stamps_rise_even_when_the_clock_falls() -> None:
    pipeline = make()
    for _ in range(3):
        offer(pipeline)
    jobs = [w.job for w in pipeline.send(0) if isinstance(w, Work)]
    assert [head_time(job) for job in jobs] == [6 * TICK, 7 * TICK, 8 * TICK]
    offer(pipeline)
    (writ,) = pipeline.send(100 * TICK)
    assert isinstance(writ, Work)
    assert head_time(writ.job) == 100 * TICK


def test_the_window_bounds_events_and_bytes() -> None:
    pipeline = make(limits=Limits(flight_events=3, flight_bytes=100))
    for _ in range(5):
        offer(pipeline)
    assert len(pipeline.send(0)) == 3
    assert pipeline.send(0) == []
    pipeline.answer(done(1, 11))
    assert len(pipeline.send(0)) == 1
    pipeline = make(limits=Limits(flight_bytes=100))
    offer(pipeline, size=80)
    offer(pipeline, size=80)
    assert len(pipeline.send(0)) == 1
    pipeline = make(limits=Limits(flight_bytes=100))
    offer(pipeline, size=500)
    assert len(pipeline.send(0)) == 1, "an ovum above the window goes alone"


def test_round_robin_goes_on_where_it_stopped() -> None:
    pipeline = make(limits=Limits(flight_events=1))
    for lane in (0, 0, 0, 1, 1, 1):
        offer(pipeline, lane)
    lanes = []
    for request in range(1, 7):
        pipeline.send(0)
        entry = pipeline.flight[0]
        assert isinstance(entry, Poke)
        lanes.append(entry.lane.name)
        pipeline.answer(done(request, 10 + request))
    assert lanes == ["one", "two"] * 3


@pytest.mark.parametrize(
    "plea",
    [
        done(2, 11),
        done(1, 12),
        done(1, 10),
        done(1, 11, mug=1 << 31),
        done(1, 11, effects=(Effect((), b"", NULL),) * 4),
        done(1, 11, job=jam(Cell(1, 0))),
        done(1, 11, job=jam(5)),
        Bail(2, (Goof("exit", NULL),)),
        Packed(1, 0, 0),
        Saved(1, 10, 0, 0, 0, 0, 0),
    ],
)
def test_lies_are_seen(plea: Any) -> None:
    pipeline = make(limits=Limits(effects=3))
    offer(pipeline)
    pipeline.send(0)
    with pytest.raises(Lie):
        pipeline.answer(plea)
    assert pipeline.computed == 10
    assert len(pipeline.flight) == 1


def test_an_answer_to_nothing_is_a_lie() -> None:
    with pytest.raises(Lie, match="without a request"):
        make().answer(done(1, 11))


def test_effects_wait_for_the_commit() -> None:
    pipeline = make()
    told: list[Outcome] = []
    handed: list[int] = []
    offer(pipeline, done=told.append)
    pipeline.send(0)
    pipeline.answer(done(1, 11, effects=(Effect((b"w",), b"t", NULL),)))

    def hand(event: int, _: object) -> None:
        assert told, "the outcome comes before the effects"
        handed.append(event)

    assert pipeline.release(hand) == 0
    batch = pipeline.take_batch()
    assert batch is not None
    assert (batch.first, batch.last) == (11, 11)
    assert pipeline.release(hand) == 0
    pipeline.batch_committed()
    assert pipeline.release(hand) == 1
    assert handed == [11]
    assert told == [Fact(11, 1, False)]


def test_one_batch_at_a_time_of_bounded_size() -> None:
    pipeline = make(limits=Limits(batch_events=2))
    for request in range(1, 6):
        offer(pipeline)
        pipeline.send(0)
        pipeline.answer(done(request, 10 + request))
    sizes = []
    while (batch := pipeline.take_batch()) is not None:
        assert pipeline.take_batch() is None
        sizes.append(len(batch.pokes))
        pipeline.batch_committed()
    assert sizes == [2, 2, 1]


def test_a_save_is_a_wall() -> None:
    pipeline = make()
    offer(pipeline)
    pipeline.send(0)
    assert pipeline.save(lambda _: None)
    assert not pipeline.save(lambda _: None)
    offer(pipeline)
    assert pipeline.send(0) == []
    pipeline.answer(done(1, 11))
    assert pipeline.send(0) == [], "event 11 is not durable"
    pipeline.take_batch()
    pipeline.batch_committed()
    assert pipeline.send(0) == [], "event 11 is not released"
    pipeline.release(lambda *_: None)
    assert pipeline.send(0)[0] == Save(2, 11)
    assert not pipeline.save(lambda _: None), "one is under way"
    with pytest.raises(Lie, match="saved event 12"):
        pipeline.answer(Saved(2, 12, 0, 0, 0, 0, 0))
    pipeline.answer(Saved(2, 11, 0, 0, 0, 0, 0))


def test_events_go_on_beside_a_save() -> None:
    pipeline = make()
    told: list[object] = []
    assert pipeline.save(told.append)
    offer(pipeline)
    save, work = pipeline.send(0)
    assert save == Save(1, 10)
    assert isinstance(work, Work)
    pipeline.answer(done(2, 11))
    pipeline.take_batch()
    pipeline.batch_committed()
    pipeline.release(lambda *_: None)
    assert pipeline.is_idle
    assert pipeline.is_saving
    with pytest.raises(Lie, match="without a request"):
        pipeline.answer(Saved(2, 10, 0, 0, 0, 0, 0))
    pipeline.answer(Saved(1, 10, 0, 0, 0, 0, 0))
    assert not pipeline.is_saving
    pipeline.release(lambda *_: None)
    assert told == [Saved(1, 10, 0, 0, 0, 0, 0)]
    with pytest.raises(Lie, match="without a request"):
        pipeline.answer(Saved(1, 10, 0, 0, 0, 0, 0))


def test_a_serf_that_dies_in_a_save_has_not_saved() -> None:
    pipeline = make()
    told: list[object] = []
    assert pipeline.save(told.append)
    pipeline.send(0)
    assert pipeline.died() is None, "nobody suspects a save"
    pipeline.release(lambda *_: None)
    assert told == ["the serf died"]
    assert not pipeline.is_saving


def test_answers_leave_in_order() -> None:
    pipeline = make()
    told: list[str] = []
    offer(pipeline, done=lambda _: told.append("event"))
    pipeline.send(0)
    pipeline.ask(Ask("gauge", Gauge, Gauged, lambda _: told.append("gauge")))
    pipeline.send(0)
    pipeline.answer(done(1, 11))
    pipeline.answer(Gauged(2, ()))
    pipeline.release(lambda *_: None)
    assert told == [], "the gauge saw an event that is not durable"
    pipeline.take_batch()
    pipeline.batch_committed()
    pipeline.release(lambda *_: None)
    assert told == ["event", "gauge"]


def test_after_a_death_one_at_a_time_with_the_old_stamps() -> None:
    pipeline = make()
    for _ in range(3):
        offer(pipeline)
    first = pipeline.send(0)
    suspect = pipeline.died()
    assert isinstance(suspect, Poke)
    assert suspect.deaths == 1
    assert pipeline.send(0) == []
    offer(pipeline)
    pipeline.resume(10)
    jobs = []
    for request in range(4, 7):
        (writ,) = pipeline.send(0)
        assert isinstance(writ, Work)
        jobs.append(writ.job)
        assert pipeline.send(0) == []
        pipeline.answer(done(request, 7 + request))
    assert jobs == [w.job for w in first if isinstance(w, Work)]
    assert len(pipeline.send(0)) == 1, "the new one follows when all are through"


def test_refusal_is_told_and_repaid() -> None:
    pipeline = make(limits=Limits(lane_events=2))
    told: list[Outcome] = []
    offer(pipeline, done=told.append)
    offer(pipeline, done=told.append)
    assert not pipeline.has_room(pipeline.lanes[0], 1)
    pipeline.refuse("no room")
    pipeline.release(lambda *_: None)
    assert told == [Refused("no room")] * 2
    assert pipeline.has_room(pipeline.lanes[0], 1)
    offer(pipeline, done=told.append)
    assert len(told) == 3
    pipeline.admit()
    offer(pipeline, done=told.append)
    assert len(told) == 3


def test_a_lagging_driver_is_not_admitted() -> None:
    pipeline = make()
    pipeline.lanes[0].lagging = True
    assert not pipeline.has_room(pipeline.lanes[0], 1)
    assert pipeline.has_room(pipeline.lanes[1], 1)


@pytest.mark.parametrize("time", [0, 1, 5, 1 << 63, (1 << 127) + 12345, (1 << 128) - 1])
def test_head_time_reads_the_head(time: int) -> None:
    assert head_time(jam(Cell(time, Cell(1, 2)))) == time


@pytest.mark.parametrize(
    "job", [b"", b"\0", jam(7), jam(Cell(Cell(1, 2), 3)), b"\x01", b"\xff" * 40]
)
def test_head_time_of_nothing(job: bytes) -> None:
    assert head_time(job) is None


def test_a_flood_of_questions_leaves_events_their_turns() -> None:
    pipeline = make(limits=Limits(flight_events=9))
    for _ in range(1000):
        pipeline.ask(Ask("gauge", Gauge, Gauged, lambda _: None))
    for lane in (0, 1):
        for _ in range(10):
            offer(pipeline, lane)
    writs = pipeline.send(0)
    assert sum(isinstance(writ, Work) for writ in writs) == 6
    assert sum(isinstance(writ, Gauge) for writ in writs) == 3
