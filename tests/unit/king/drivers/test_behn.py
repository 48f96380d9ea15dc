"""Timers against the golden trace, and against clocks that jump."""

import pytest
import trio

from king.drivers.behn import BACKSTOP_S, CHECK_S, behn
from king.event import Fact, Refused
from proto.cord import SECOND
from proto.jam import cue
from proto.noun import noun, slot


@pytest.fixture
def start(world):
    """Start behn in a nursery."""

    async def start(nursery, **more):
        async def run(*, task_status):
            await behn(
                inject=world.inject,
                effects=world.effects,
                clock=world.clock,
                instance=world.instance,
                log=world.log,
                task_status=task_status,
                **more,
            )

        await nursery.start(run)

    return start


def doze(kit, world, seconds):
    return kit.effect(
        "/behn", "doze", noun(0, world.clock.now() + int(seconds * SECOND))
    )


async def test_behn_is_born_and_then_live(world, kit, start, autojump_clock):
    async with trio.open_nursery() as nursery:
        await start(nursery)
        (ovum,) = world.take()
        assert ovum.wire == ("b", "behn", world.instance.knot)
        assert cue(ovum.jam) == noun(("b", "behn", world.instance.knot, 0), "born", 0)
        nursery.cancel_scope.cancel()


async def test_behn_follows_the_golden_trace(world, kit, start, autojump_clock):
    steps = kit.trace("behn")
    compared = 0
    async with trio.open_nursery() as nursery:
        await start(nursery)
        world.take()
        for step in steps:
            effects = cue(bytes.fromhex(step["effects"]))
            offset = step.get("offset_s")
            if "%doze 0 " in step["effects_text"]:
                due = slot(effects, 23)
                world.clock.set(due - int((offset or 0) * SECOND))
            pushed = trio.current_time()
            world.push_list(effects)
            if "log" not in step:
                await world.settled()
                continue
            if step["log"]:
                while not world.inject.ova:
                    await trio.sleep(0.001)
                took = trio.current_time() - pushed
                assert abs(took - max(0, offset or 0)) < 0.03, step["step"]
            await world.settled(step.get("waited_s", 0.5))
            got = [cue(ovum.jam) for ovum in world.take()]
            want = [cue(bytes.fromhex(row["ovum"])) for row in step["log"]]
            assert got == want, step["step"]
            compared += 1
        nursery.cancel_scope.cancel()
    assert compared >= 10


async def test_behn_forward_jump_fires_soon(world, kit, start, autojump_clock):
    async with trio.open_nursery() as nursery:
        await start(nursery)
        world.take()
        world.push(doze(kit, world, 3600))
        await world.settled(1)
        world.clock.jump(7200)
        await world.settled(CHECK_S + 0.1)
        assert world.tags == ["wake"]
        nursery.cancel_scope.cancel()


async def test_behn_backward_jump_does_not_put_it_off(
    world, kit, start, autojump_clock
):
    async with trio.open_nursery() as nursery:
        await start(nursery)
        world.take()
        world.push(doze(kit, world, 10))
        await world.settled(1)
        world.clock.jump(-1e9)
        await world.settled(8.5)
        assert world.tags == []
        await world.settled(1)
        assert world.tags == ["wake"]
        nursery.cancel_scope.cancel()


async def test_behn_backstop_wakes_a_kernel_that_forgot(
    world, kit, start, autojump_clock
):
    async with trio.open_nursery() as nursery:
        await start(nursery)
        world.take()
        world.push(doze(kit, world, 1))
        await world.settled(BACKSTOP_S)
        assert world.tags == ["wake"]
        await world.settled(5)
        assert world.tags == ["wake", "wake"]
        world.push(kit.effect("/behn", "doze", 0))
        await world.settled(2 * BACKSTOP_S)
        assert world.tags == ["wake", "wake"], "a %doze ~ cancels the backstop"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("mote", "tries"), [("meme", 3), ("intr", 3), ("exit", 1)])
async def test_behn_retries_for_want_of_memory_or_time(
    world, kit, start, autojump_clock, mote, tries
):
    blocked = []
    async with trio.open_nursery() as nursery:
        await start(nursery, on_blocked=blocked.append)
        world.take()
        world.inject.policy = lambda ovum: kit.failure(mote, "exit")
        world.push(doze(kit, world, 1))
        await world.settled(2)
        assert world.tags == ["wake"] * tries
        assert len(blocked) == 1
        assert mote in blocked[0]
        nursery.cancel_scope.cancel()


async def test_behn_second_try_may_succeed(world, kit, start, autojump_clock):
    blocked = []
    async with trio.open_nursery() as nursery:
        await start(nursery, on_blocked=blocked.append)
        world.take()
        answers = [kit.failure("meme"), Fact(7, 0, False)]
        world.inject.policy = lambda ovum: answers.pop(0)
        world.push(doze(kit, world, 0))
        await world.settled(1)
        assert world.tags == ["wake", "wake"]
        assert blocked == []
        nursery.cancel_scope.cancel()


async def test_behn_refusal_is_not_the_end(world, kit, start, autojump_clock):
    async with trio.open_nursery() as nursery:
        await start(nursery)
        world.take()
        world.inject.policy = lambda ovum: Refused("disk low")
        world.push(doze(kit, world, 0))
        await world.settled(1)
        assert any("disk low" in line for line in world.lines)
        world.inject.policy = lambda ovum: Fact(1, 0, False)
        await world.settled(BACKSTOP_S)
        assert world.tags == ["wake", "wake"]
        nursery.cancel_scope.cancel()


async def test_behn_absurd_times_do_no_harm(world, kit, start, autojump_clock):
    async with trio.open_nursery() as nursery:
        await start(nursery)
        world.take()
        for due in (1 << 128, (1 << 7000) + 1):
            world.push(kit.effect("/behn", "doze", noun(0, due)))
            await world.settled(100)
        assert world.tags == []
        world.push(kit.effect("/behn", "doze", noun(0, 0)))
        await world.settled(0.1)
        assert world.tags == ["wake"]
        nursery.cancel_scope.cancel()


async def test_behn_is_a_driver(world, kit, start):
    await kit.check_driver(world, start, b"behn", (b"doze",))


async def test_behn_waits_out_a_refusal_for_now(world, kit, start, autojump_clock):
    async with trio.open_nursery() as nursery:
        await start(nursery)
        world.take()
        world.inject.policy = lambda ovum: Refused("disk low", again=True)
        world.push(doze(kit, world, 0))
        await world.settled(3 * CHECK_S + 1)
        assert world.take()
        world.inject.policy = lambda ovum: Fact(2, 0, False)
        await world.settled(CHECK_S + 1)
        assert [ovum.tag for ovum in world.take()] == ["wake"]
        assert not any("blocked" in line for line in world.lines)
        nursery.cancel_scope.cancel()
