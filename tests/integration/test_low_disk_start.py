"""A start on a disk that is nearly full: the ship waits, and comes to life by
itself when there is room. A timer that was due meanwhile is not put off."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from king.disk import free_bytes
from king.event import Fact, Refused
from king.spine import Spine
from tests.support.live_rig import open_rig, ovum
from tests.support.small_disk import mounted
from tests.support.whole_ship import boot, wait_for

LOW_MIB = 64


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "small", "120m") as disk:
        yield disk


def test_a_start_waits_for_room_and_is_whole_then(small_disk: Path) -> None:
    with boot(small_disk / "zod") as ship:
        filler = small_disk / "filler"
        size = free_bytes(small_disk) - (LOW_MIB // 2 << 20)
        filler.write_bytes(bytes(size))
        ship.launch()
        wait_for(lambda: "nearly full" in ship.words, "a word about the disk")
        assert ship.king is not None
        assert ship.king.poll() is None
        before = len(ship.log())
        filler.unlink()
        wait_for(lambda: "live" in ship.words, "life", 60)
        ship.live = dict(ship.status())
        assert ship.http("PUT", "/kv/a", b"b")[0] == 201
        assert len(ship.log()) > before
        assert {"behn", "conn", "http", "term"} == set(ship.status()["drivers"])
        assert ship.stop() == 0
        ship.check()


def test_a_start_on_a_full_disk_can_be_stopped(small_disk: Path) -> None:
    with boot(small_disk / "zod") as ship:
        filler = small_disk / "filler"
        filler.write_bytes(bytes(free_bytes(small_disk) - (LOW_MIB // 2 << 20)))
        ship.launch()
        wait_for(lambda: "nearly full" in ship.words, "a word about the disk")
        assert ship.stop(20) == 0, ship.words
        ship.check()


async def test_a_refusal_for_now_says_so_and_one_for_good_is_for_good(
    tmp_path: Path,
) -> None:
    async with open_rig(tmp_path) as rig:
        spine: Spine = rig.spine
        rig.free = 1 << 20
        spine.look_at_disk()
        refusal = await rig.inject(ovum("a"))
        assert isinstance(refusal, Refused)
        assert refusal.again
        spine.stop_admission("the ship is stopping")
        rig.free = 1 << 40
        spine.look_at_disk()
        refusal = await rig.inject(ovum("b"))
        assert isinstance(refusal, Refused), "room on the disk undid the stop"
        assert not refusal.again
        rig.free = 1 << 20
        spine.look_at_disk()
        assert spine.pipeline.refusing == "the ship is stopping"


async def test_admission_comes_back_with_the_room(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        rig.free = 1 << 20
        rig.spine.look_at_disk()
        assert isinstance(await rig.inject(ovum("a")), Refused)
        rig.free = 1 << 40
        with trio.fail_after(5):
            await rig.spine.wait_admission()
        assert isinstance(await rig.inject(ovum("b")), Fact)
