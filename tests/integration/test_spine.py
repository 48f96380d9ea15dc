"""The spine with a real child process (the fake serf) and a log in memory."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest
import trio

from king.errors import PeekFailed, TreadleError
from king.event import Fact, Failure, Outcome, Refused
from king.log.store import MemoryLog, Meta
from king.pipeline import Ask, Limits
from proto.jam import cue, jam
from proto.message import Gauge, Gauged, Row
from proto.record import Action
from tests.support.fake_serf import step
from tests.support.live_rig import Rig, open_rig, ovum


def check_log(rig: Rig) -> None:
    """Chain: every mug follows from the one before; stamps rise."""
    mug, time = 0, 0
    for row in rig.log.read(1, 1 << 30):
        mug = step(mug, row.job)
        assert row.mug == mug
        now = cue(row.job).head
        assert now >= time + (1 << 48)
        time = now


def check_released(rig: Rig) -> None:
    """At most once, in order, only what is in the log."""
    events = [event for event, _ in rig.effects]
    assert events == sorted(set(events))
    assert not events or events[-1] <= rig.log.last
    assert any(note.action is Action.RELEASE for note in rig.notes)


async def test_events_are_logged_then_released_in_order(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        outcomes = await rig.many(rig.inject, [ovum("hello", n) for n in range(3000)])
        assert [o.event for o in outcomes if isinstance(o, Fact)] == [*range(1, 3001)]
        await trio.testing.wait_all_tasks_blocked()
        assert [event for event, _ in rig.effects] == [*range(1, 3001)]
        assert rig.released == 3000
        assert rig.spine.pipeline.batches < 1500, "commits were not grouped"
        assert rig.spine.pipeline.is_idle
    check_log(rig)
    check_released(rig)


async def test_a_bail_takes_no_number(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        tags = ["a", "boom", "b", "boom", "boom", "c"]
        outcomes = await rig.many(rig.inject, [ovum(tag) for tag in tags])
        assert [type(o) for o in outcomes] == [
            Fact,
            Failure,
            Fact,
            Failure,
            Failure,
            Fact,
        ]
        assert rig.log.last == 3
    check_log(rig)


async def test_a_replaced_job_is_what_is_logged(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        outcome = await rig.inject(ovum("swap"))
        assert isinstance(outcome, Fact)
        assert outcome.replaced
    check_log(rig)
    assert cue(rig.log.read(1)[0].job).tail.tail.head == 1685418595


async def test_a_frame_wider_than_the_pipe_arrives_whole(tmp_path: Path) -> None:
    """What the pipe did not take at once follows; nothing comes before it."""
    wide = [ovum("wide", 1 << 8 * size) for size in (5 << 18, 1, 5 << 18)]
    async with open_rig(tmp_path) as rig:
        with trio.fail_after(60):
            outcomes = await rig.many(rig.inject, wide)
        assert [o.event for o in outcomes if isinstance(o, Fact)] == [1, 2, 3]
        for number, offered in enumerate(wide, 1):
            job = cue(rig.log.read(number)[0].job)
            assert jam(job.tail) == offered.jam
    check_log(rig)


async def test_lanes_share_the_serf(tmp_path: Path) -> None:
    limits = Limits(flight_events=4)
    async with open_rig(tmp_path, limits=limits) as rig:
        done: list[str] = []
        full = trio.Event()

        def note(name: str) -> None:
            done.append(name)
            if len(done) == 200:
                full.set()

        for _ in range(100):
            await rig.inject.submit(ovum("a"), lambda _: note("one"))
        for _ in range(100):
            await rig.inject_two.submit(ovum("b"), lambda _: note("two"))
        with trio.fail_after(20):
            await full.wait()
        # A full queue of the one does not put off the other.
        assert done[:60].count("two") >= 20


async def test_admission_waits_for_room_and_keeps_order(tmp_path: Path) -> None:
    limits = Limits(lane_events=8, lane_bytes=1 << 20)
    async with open_rig(tmp_path, limits=limits) as rig:
        seen: list[int] = []
        async with trio.open_nursery() as nursery:

            async def one(number: int) -> None:
                outcome = await rig.inject(ovum("n", number))
                assert isinstance(outcome, Fact)
                seen.append(number)
                assert rig.spine.pipeline.lanes[0].events <= 8

            for number in range(100):
                nursery.start_soon(one, number)
                await trio.lowlevel.checkpoint()
        assert sorted(seen) == [*range(100)]
        # An ovum beyond the whole budget goes alone.
        assert isinstance(await rig.inject(ovum("big", 1 << (16 << 20))), Fact)
    check_log(rig)


async def test_a_cancelled_waiter_is_never_offered(tmp_path: Path) -> None:
    limits = Limits(lane_events=1)
    async with open_rig(tmp_path, limits=limits) as rig:
        await rig.inject.submit(ovum("hang"))
        with trio.move_on_after(0.05) as scope:
            await rig.inject(ovum("never"))
        assert scope.cancelled_caught
        assert rig.spine.interrupt()
        assert isinstance(await rig.inject(ovum("after")), Fact)
        assert rig.log.last == 1


async def test_a_peek_sees_the_poke_before_it(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        for number in range(1, 20):
            await rig.inject.submit(ovum("a"))
            assert await rig.spine.peek(jam(5)) == jam(number)
            assert rig.log.last >= number, "what was peeked was not yet durable"
        with pytest.raises(PeekFailed):
            await rig.spine.peek(jam(0))


async def test_an_interrupt_ends_the_event_only(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        assert not rig.spine.interrupt()
        outcomes: list[object] = []
        await rig.inject.submit(ovum("hang"), outcomes.append)
        await trio.sleep(0.1)
        assert rig.spine.interrupt()
        assert isinstance(await rig.inject(ovum("after")), Fact)
        (failure,) = outcomes
        assert isinstance(failure, Failure)
        assert failure.goofs[0].mote == "intr"
        assert not rig.deaths


async def test_the_king_backs_up_the_deadline(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        with trio.fail_after(10):
            outcome = await rig.inject(ovum("hang", deadline_ms=100))
        assert isinstance(outcome, Failure)


async def test_kill_9_loses_and_doubles_nothing(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        outcomes: list[object] = []
        full = trio.Event()

        def done(outcome: object) -> None:
            outcomes.append(outcome)
            if len(outcomes) == 4000:
                full.set()

        async def killer() -> None:
            for wait in (0.01, 0.05, 0.1):
                await trio.sleep(wait)
                if rig.spine.lord is not None:
                    rig.spine.lord.signal(signal.SIGKILL)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(killer)
            for number in range(4000):
                await rig.inject.submit(ovum("a", number), done)
                if number % 50 == 0:
                    await trio.sleep(0.002)
            with trio.fail_after(60):
                await full.wait()
        assert rig.deaths
        assert all(isinstance(o, Fact) for o in outcomes)
        assert [o.event for o in outcomes if isinstance(o, Fact)] == [*range(1, 4001)]
        data = [cue(row.job).tail.tail.tail for row in rig.log.read(1, 1 << 30)]
        assert data == [*range(4000)]
    check_log(rig)
    check_released(rig)


async def test_a_snapshot_shortens_the_replay(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        await rig.many(rig.inject, [ovum("a", n) for n in range(50)])
        saved = await rig.spine.save()
        assert saved is not None
        assert saved.event == 50
        await rig.inject(ovum("b"))
        assert rig.spine.lord is not None
        rig.spine.lord.signal(signal.SIGKILL)
        assert isinstance(await rig.inject(ovum("c")), Fact)
        assert rig.spine.lord.ripe is not None
        assert rig.spine.lord.ripe.event == 50


async def test_a_save_planned_behind_an_answer_needs_no_further_push(
    tmp_path: Path,
) -> None:
    """The wall was seen before the last answer was released, and nobody
    looked again: the save, and all behind it, waited for the next request."""
    async with open_rig(tmp_path) as rig:
        saved = trio.Event()
        pipeline = rig.spine.pipeline
        pipeline.ask(Ask("gauge", Gauge, Gauged, lambda _: None))
        rig.spine.pump()
        assert pipeline.save(lambda _: saved.set())
        rig.spine.pump()
        with trio.fail_after(10):
            await saved.wait()


async def test_a_save_waits_for_the_wall_under_load(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        async with trio.open_nursery() as nursery:
            ova = [ovum("a", n) for n in range(2000)]
            nursery.start_soon(rig.many, rig.inject, ova)
            await trio.sleep(0.01)
            saved = await rig.spine.save()
            assert saved is not None
            assert saved.event <= rig.log.last
        assert rig.log.last == 2000


async def test_an_event_that_kills_is_quarantined_after_three(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        tags = ["a", "b", "die", "c", "d"]
        with trio.fail_after(30):
            outcomes = await rig.many(rig.inject, [ovum(tag) for tag in tags])
        assert [type(o) for o in outcomes] == [Fact, Fact, Refused, Fact, Fact]
        assert len(rig.deaths) == 3
        assert [poke.ovum.tag for poke in rig.quarantined] == ["die"]
        assert (tmp_path / "verified").exists(), "no verified state was tried"
        assert rig.log.last == 4
    check_log(rig)
    check_released(rig)


@pytest.mark.parametrize(("tag", "deaths"), [("die1", 1), ("die2", 2)])
async def test_an_innocent_event_gets_through(
    tmp_path: Path, tag: str, deaths: int
) -> None:
    async with open_rig(tmp_path) as rig:
        outcomes = await rig.many(rig.inject, [ovum("a"), ovum(tag), ovum("b")])
        assert all(isinstance(o, Fact) for o in outcomes)
        assert len(rig.deaths) == deaths
        assert (tmp_path / "verified").exists() == (deaths == 2)
    check_log(rig)


async def test_the_cause_of_death_is_told(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        await rig.inject(ovum("exit"))
    death, suspect = rig.deaths[0]
    assert death.code == 3
    assert "on command" in death.stderr[-1]
    assert suspect is not None
    async with open_rig(tmp_path) as rig:
        await rig.inject(ovum("die1"))
    assert rig.deaths[0][0].signal == "SIGKILL"
    assert rig.deaths[0][0].memory_peak_bytes > 1 << 20


async def test_a_peek_that_kills_is_dropped(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        with pytest.raises(TreadleError, match="killed the serf"):
            await rig.spine.peek(jam(0xDEAD))
        assert isinstance(await rig.inject(ovum("after")), Fact)


@pytest.mark.parametrize(
    "tag", ["lie-number", "lie-request", "lie-mug", "lie-kind", "garbage"]
)
async def test_a_lying_serf_is_a_dead_serf(tmp_path: Path, tag: str) -> None:
    async with open_rig(tmp_path) as rig:
        with trio.fail_after(30):
            outcomes = await rig.many(rig.inject, [ovum("a"), ovum(tag), ovum("b")])
        assert [type(o) for o in outcomes] == [Fact, Refused, Fact]
        word = "nonsense" if tag == "garbage" else "lied"
        assert word in rig.deaths[0][0].cause
    check_log(rig)


async def test_a_failed_commit_stops_the_ship(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        await rig.inject(ovum("a"))
        before = len(rig.effects)
        rig.log.fail_next = "the disk is on fire"
        outcome = await rig.inject(ovum("b"))
        assert isinstance(outcome, Refused)
        assert rig.spine.fault is not None
        assert rig.spine.fault.code == "log-failed"
        assert rig.spine.failed.is_set()
        assert len(rig.effects) == before
        assert isinstance(await rig.inject(ovum("c")), Refused)
        with pytest.raises(TreadleError):
            await rig.spine.peek(jam(1))


async def test_effects_that_wait_for_the_disk_are_bounded(tmp_path: Path) -> None:
    """A commit hangs, and events say a megabyte each: beyond the limit the serf
    is not listened to, and nothing is lost by it."""
    count, limit = 60, 8 << 20
    disk = threading.Event()
    async with open_rig(tmp_path, limits=Limits(effect_bytes=limit)) as rig:
        pipeline = rig.spine.pipeline
        append = rig.spine._log._append

        def slow(first: int, rows: list[Row]) -> None:
            disk.wait(60)
            append(first, rows)

        rig.spine._log._append = slow
        most, done = 0, 0

        def told(outcome: Outcome) -> None:
            nonlocal done
            assert isinstance(outcome, Fact)
            done += 1

        for _ in range(count):
            await rig.inject.submit(ovum("loud"), told)
        with trio.fail_after(60):
            while not pipeline.is_full:
                await trio.sleep(0.01)
        lord = rig.spine.lord
        assert lord is not None
        assert lord.is_unheard
        for _ in range(50):
            await trio.sleep(0.01)
            most = max(most, pipeline.effect_bytes)
        assert limit < most < limit + (3 << 20)
        assert not done
        disk.set()
        with trio.fail_after(60):
            while done < count:
                await trio.sleep(0.01)
        assert [event for event, _ in rig.effects] == [*range(1, count + 1)]
        assert pipeline.effect_bytes == 0
        assert pipeline.lanes[0].bytes == 0
    check_log(rig)


async def test_a_serf_that_is_not_listened_to_can_be_killed(tmp_path: Path) -> None:
    """The commit fails that it waits for."""
    disk = threading.Event()
    async with open_rig(tmp_path, limits=Limits(effect_bytes=1 << 20)) as rig:

        def fails(first: int, rows: list[Row]) -> None:
            disk.wait(60)
            raise TreadleError("log-failed", "the disk is on fire")

        rig.spine._log._append = fails
        for _ in range(20):
            await rig.inject.submit(ovum("loud"))
        while not rig.spine.pipeline.is_full:
            await trio.sleep(0.01)
        lord = rig.spine.lord
        assert lord is not None
        disk.set()
        with trio.fail_after(30):
            await rig.spine.failed.wait()
            await lord.dead.wait()
        assert not rig.effects


async def test_low_disk_refuses_and_resumes(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        assert isinstance(await rig.inject(ovum("a")), Fact)
        rig.free = 1 << 20
        assert isinstance(await rig.inject(ovum("b")), Fact)
        assert isinstance(await rig.inject(ovum("c")), Refused)
        assert await rig.spine.peek(jam(1)) == jam(2)
        rig.free = 1 << 40
        with trio.fail_after(20):
            await rig.spine.wait_admission()
        assert isinstance(await rig.inject(ovum("d")), Fact)
        assert sum("nearly full" in line for line in rig.told) == 1
    check_log(rig)


async def test_a_logged_event_that_kills_stops_the_ship(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        await rig.many(rig.inject, [ovum("a", n) for n in range(20)])
        rig.environment = (("FAKE_SERF_PLAY_DIE", "7"),)
        assert rig.spine.lord is not None
        rig.spine.lord.signal(signal.SIGKILL)
        with trio.fail_after(20):
            await rig.spine.failed.wait()
        assert rig.spine.fault is not None
        assert rig.spine.fault.code == "serf-died"
        assert rig.log.last == 20
        assert (tmp_path / "verified").exists()


async def test_a_serf_that_cannot_start_is_tried_again(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        await rig.inject(ovum("a"))
        good = rig.command
        rig.command = (*good[:1], "-c", "raise SystemExit(7)")
        assert rig.spine.lord is not None
        rig.spine.lord.signal(signal.SIGKILL)
        while sum("did not start" in line for line in rig.told) < 3:
            await trio.sleep(0.01)
        rig.command = good
        with trio.fail_after(20):
            assert isinstance(await rig.inject(ovum("b")), Fact)
        assert rig.spine.fault is None
    check_log(rig)


async def test_slogs_pass_the_queue(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        assert rig.spine.lord is not None
        slogs: list[object] = []
        rig.spine.lord.on_slog = slogs.append
        await rig.inject(ovum("flood"))
        assert len(slogs) == 10_000


async def test_the_serf_leaves_with_its_king(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        assert rig.spine.lord is not None
        pid = rig.spine.lord.pid
    assert not os.path.exists(f"/proc/{pid}")


@pytest.mark.parametrize(
    ("mode", "why"),
    [
        ("wrong-ship", "it is ship"),
        ("wrong-log", "its image belongs to log"),
        ("wrong-protocol", "speaks protocol"),
        ("future", "its image is at event 1, the log at 0"),
        ("wide-mug", "has more than 31 bits"),
    ],
)
async def test_a_serf_of_another_ship_is_refused(
    tmp_path: Path, mode: str, why: str
) -> None:
    rig = Rig(tmp_path, MemoryLog(Meta(5, True, 0)))
    rig.environment = (("FAKE_SERF_RIPE", mode),)
    from dataclasses import replace

    from king.lord import Lord

    async with trio.open_nursery() as nursery:
        with pytest.raises(TreadleError, match=why) as caught:
            await Lord.start(nursery, replace(rig.spec(), ship=b"\5" * 16))
        assert caught.value.code == "serf-spoke-nonsense"


async def test_a_silent_serf_is_given_up(tmp_path: Path) -> None:
    from dataclasses import replace

    from king.lord import Lord

    rig = Rig(tmp_path, MemoryLog(Meta(0, True, 0)))
    rig.environment = (("FAKE_SERF_RIPE", "silent"),)
    async with trio.open_nursery() as nursery:
        with pytest.raises(TreadleError, match="said nothing"):
            await Lord.start(nursery, replace(rig.spec(), handshake_s=0.5))


async def test_a_missing_serf_is_named(tmp_path: Path) -> None:
    from dataclasses import replace

    from king.lord import Lord

    rig = Rig(tmp_path, MemoryLog(Meta(0, True, 0)))
    async with trio.open_nursery() as nursery:
        with pytest.raises(TreadleError, match="cannot start"):
            await Lord.start(nursery, replace(rig.spec(), command=("/no/such",)))
