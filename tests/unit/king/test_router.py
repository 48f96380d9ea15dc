"""Channels, injectors and routes; and the watermark of effects."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing

from king.event import Effect, Outcome, Ovum, Refused
from king.pipeline import Limits, Pipeline
from king.released import ReleasedMark
from king.router import LAG_MAX, Channel, Injector, Router
from proto.message import Done, Jam, Work


def effect(head: str, tag: str = "t") -> Effect:
    return Effect((head.encode(),), tag.encode(), Jam(b"\0"))


def make(**limits: int) -> Pipeline:
    return Pipeline(
        ("one",),
        event=0,
        last_time=0,
        stamp=lambda _, ovum: ovum,
        limits=Limits(**limits),
    )


def test_routes_are_asked_in_the_fixed_order() -> None:
    lost: list[Effect] = []
    took: list[str] = []
    router = Router(lost.append)
    for name in ("hind", "behn", "term"):
        router.add(
            name,
            lambda e, name=name: name == "hind" or e.wire[0] == name.encode(),
            lambda _, e, name=name: took.append(name),
        )
    router.hand(1, (effect("term"), effect("behn"), effect("other")))
    assert took == ["term", "behn", "hind"]
    assert not lost


def test_an_effect_that_nobody_takes_is_lost_aloud() -> None:
    lost: list[Effect] = []
    router = Router(lost.append)
    router.add("behn", lambda _: False, lambda *_: None)
    router.hand(1, (effect("x"),))
    assert lost == [effect("x")]


async def test_the_watermark_waits_for_the_slowest_driver() -> None:
    router = Router(lambda _: None)
    fast, slow = Channel(), Channel()
    router.add("term", lambda e: e.wire[0] == b"a", fast.put, fast)
    router.add("behn", lambda e: e.wire[0] == b"b", slow.put, slow)
    router.hand(1, (effect("b"),))
    router.hand(2, (effect("a"),))
    assert router.watermark(2) == 0
    assert (await anext(slow))[0] == 1
    assert router.watermark(2) == 0, "it is being handled"
    drained: list[int] = []
    slow.on_drained = lambda: drained.append(router.watermark(2))
    fast.close()
    slow.close()
    assert (await anext(fast))[0] == 2
    with pytest.raises(StopAsyncIteration):
        await anext(slow)
    assert drained == [1]
    with pytest.raises(StopAsyncIteration):
        await anext(fast)
    assert router.watermark(2) == 2


async def test_a_lagging_channel_closes_its_lane_until_drained() -> None:
    pipeline = make()
    lane = pipeline.lanes[0]
    channel = Channel(lane)
    for number in range(LAG_MAX + 1):
        channel.put(number, effect("a"))
    assert lane.lagging
    room: list[bool] = []
    lane.on_room = lambda: room.append(True)
    for _ in range(LAG_MAX // 2 + 1):
        await anext(channel)
    assert not lane.lagging
    assert room == [True]


async def test_waiters_are_admitted_in_order() -> None:
    pipeline = make(lane_events=1)
    pipeline.resume(0)
    lane = pipeline.lanes[0]
    inject = Injector(pipeline, lane, lambda: None)
    order: list[str] = []
    async with trio.open_nursery() as nursery:
        for number in range(5):
            ovum = Ovum(("x",), str(number), Jam(b"x"))
            nursery.start_soon(inject.submit, ovum)
            await trio.testing.wait_all_tasks_blocked()
        for number in range(1, 6):
            assert lane.events == 1
            order.append(lane.queue[0].ovum.tag)
            (writ,) = pipeline.send(0)
            assert isinstance(writ, Work)
            pipeline.answer(Done(writ.request, number, 1, (), None))
            pipeline.take_batch()
            pipeline.batch_committed()
            pipeline.release(lambda *_: None)
    assert order == ["0", "1", "2", "3", "4"]
    assert lane.events == 0


async def test_waiters_are_refused_together() -> None:
    pipeline = make(lane_events=1)
    inject = Injector(pipeline, pipeline.lanes[0], lambda: None)
    told: list[Outcome] = []
    async with trio.open_nursery() as nursery:
        for number in range(5):

            async def one(ovum: Ovum) -> None:
                told.append(await inject(ovum))

            nursery.start_soon(one, Ovum(("x",), str(number), Jam(b"x")))
        await trio.testing.wait_all_tasks_blocked()
        pipeline.refuse("closed")
        pipeline.release(lambda *_: None)
    assert told == [Refused("closed")] * 5


async def test_inject_is_narrowed() -> None:
    pipeline = make()
    inject = Injector(pipeline, pipeline.lanes[0], lambda: None, frozenset("b"))
    with pytest.raises(ValueError, match="may not inject"):
        await inject.submit(Ovum(("c", "sync"), "t", Jam(b"x")))
    with pytest.raises(ValueError, match="may not inject"):
        await inject.submit(Ovum((), "t", Jam(b"x")))
    await inject.submit(Ovum(("b", "behn"), "t", Jam(b"x")))


async def test_a_refused_injection_returns() -> None:
    pipeline = make()
    pipeline.refuse("closed")
    inject = Injector(pipeline, pipeline.lanes[0], lambda: None)
    assert await inject(Ovum(("x",), "t", Jam(b"x"))) == Refused("closed")


async def test_a_cancelled_caller_leaves_its_event_behind() -> None:
    pipeline = make()
    inject = Injector(pipeline, pipeline.lanes[0], lambda: None)
    outcomes: list[Outcome] = []
    with trio.move_on_after(0.01):
        outcomes.append(await inject(Ovum(("x",), "t", Jam(b"x"))))
    assert not outcomes
    assert len(pipeline.lanes[0].queue) == 1
    pipeline.refuse("late")
    pipeline.release(lambda *_: None)


def test_the_mark_survives_its_process_and_knows_its_log(tmp_path: Path) -> None:
    path = tmp_path / "released"
    mark = ReleasedMark(path, b"A" * 16)
    assert (mark.before, mark.clean) == (None, False)
    mark.begin(5)
    mark.set(9)
    again = ReleasedMark(path, b"A" * 16)
    assert (again.before, again.clean) == (9, False)
    again.close(12, clean=True)
    third = ReleasedMark(path, b"A" * 16)
    assert (third.before, third.clean) == (12, True)
    other = ReleasedMark(path, b"B" * 16)
    assert other.before is None
    path.write_bytes(b"short")
    assert ReleasedMark(path, b"A" * 16).before is None
