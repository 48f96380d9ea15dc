"""A serf that says what it may not, in every way that we could think of.

The king names the lie, kills it, starts another and gives it the event again;
after the third time the event is set aside. What was acknowledged before stays
acknowledged, nothing is released that is not in the log, and the king stays
small. (`king/lab/enemy.py` tells fewer lies, at any moment of a scenario.)
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import trio

from king.event import Fact, Refused
from proto.cord import cord
from proto.noun import noun
from tests.integration.test_spine import check_log, check_released
from tests.support import lies
from tests.support.live_rig import open_rig, ovum
from tests.support.whole_ship import boot, memory_kib, wait_for

DONE = noun("news", "done")
LIAR = (sys.executable, lies.__file__)


SMALL_KIB = 100 << 10
"""By how much a king may grow over all that it hears."""


async def test_a_lie_is_named_and_costs_nothing(tmp_path: Path) -> None:
    """Each of them once, to one king: the serf that comes next is honest."""
    async with open_rig(tmp_path, command=LIAR) as rig:
        assert isinstance(await rig.inject(ovum("a")), Fact)
        before = memory_kib(os.getpid())
        for count, (lie, (words, _)) in enumerate(lies.LIES.items(), 1):
            said = [ovum("a", 1), ovum("a", cord(lie)), ovum("a", 2)]
            with trio.fail_after(60):
                outcomes = await rig.many(rig.inject, said)
            assert [type(outcome) for outcome in outcomes] == [Fact] * 3, lie
            assert len(rig.deaths) == count, lie
            cause = rig.deaths[-1][0].cause
            assert words in cause, lie
            assert len(cause) < 1000, lie
        assert memory_kib(os.getpid()) < before + SMALL_KIB
        assert rig.log.last == 1 + 3 * len(lies.LIES)
        assert rig.spine.fault is None
    check_log(rig)
    check_released(rig)
    assert [event for event, _ in rig.effects] == [*range(1, rig.log.last + 1)]


@pytest.mark.parametrize("lie", ["frame-noise", "event-next"])
async def test_an_event_that_is_lied_about_for_good_is_set_aside(
    tmp_path: Path, lie: str
) -> None:
    insists = (("FAKE_SERF_INSISTS", "1"),)
    async with open_rig(tmp_path, command=LIAR, environment=insists) as rig:
        said = [ovum("a", data) for data in (0, 1, cord(lie), 3, 4)]
        with trio.fail_after(60):
            outcomes = await rig.many(rig.inject, said)
        assert [type(o) for o in outcomes] == [Fact, Fact, Refused, Fact, Fact]
        assert [poke.ovum for poke in rig.quarantined] == [said[2]]
        assert rig.log.last == 4
    check_log(rig)
    check_released(rig)


async def test_what_is_said_twice_counts_once(tmp_path: Path) -> None:
    async with open_rig(tmp_path, command=LIAR) as rig:
        said = [ovum("a", data) for data in (0, cord(lies.TWICE), 2, 3)]
        with trio.fail_after(60):
            outcomes = await rig.many(rig.inject, said)
            assert [o.event for o in outcomes if isinstance(o, Fact)] == [1, 2, 3, 4]
            assert isinstance(await rig.inject(ovum("a")), Fact)
        assert [death.cause.split(":")[0] for death, _ in rig.deaths] == ["it lied"]
    check_log(rig)
    check_released(rig)
    assert [event for event, _ in rig.effects] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("name", lies.STRANGE)
async def test_what_is_only_strange_is_borne(tmp_path: Path, name: str) -> None:
    async with open_rig(tmp_path, command=LIAR) as rig:
        with trio.fail_after(60):
            assert isinstance(await rig.inject(ovum("a", cord(name))), Fact)
            assert isinstance(await rig.inject(ovum("a")), Fact)
        assert not rig.deaths
        if name == "effects":
            assert len(rig.effects) == 100_001
    check_log(rig)
    assert {event for event, _ in rig.effects} <= {1, 2}


def test_a_whole_ship_bears_what_its_serf_says(tmp_path: Path) -> None:
    """To its drivers, its terminal's printer, its status and its log."""
    with boot(tmp_path / "zod") as ship:
        ship.start(serf_module=lies.__name__)
        king, serf = ship.pid, ship.serf_pid()
        ship.type("first")
        before = memory_kib(king)
        for name in lies.STRANGE:
            assert ship.poke("x", ["t"], "hello", name) == DONE, name
            assert ship.http("PUT", "/kv/k", name.encode())[0] in (201, 204), name
            assert ship.http("GET", "/kv/k") == (200, name.encode())
        assert (ship.pid, ship.serf_pid()) == (king, serf)
        memory = wait_for(lambda: ship.status()["memory"], "counters")
        assert memory["many 0"] == 0
        assert len(memory) <= 20_000
        assert memory_kib(king) < before + SMALL_KIB
        # Lies that this serf never takes back.
        for lie in ("deep", "request-next"):
            assert ship.poke("x", ["t"], "hello", lie) == noun("news", "drop")
            assert ship.http("GET", "/kv/k")[0] == 200
        assert ship.pid == king
        assert ship.stop() == 0
        assert "\x1b" not in ship.words
        assert max(map(len, ship.words.split("\n"))) < 2000
        inside = {path.name for path in ship.layout.urb.rglob("*")}
        assert "escaped" not in {path.name for path in tmp_path.rglob("*")} | inside
        ship.check()
