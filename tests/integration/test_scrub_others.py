"""What rots beside the newest snapshot: states that epochs keep, older generations,
pins. An idle ship finds it, names it, and makes again what it can."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from king import scrub as scrubs
from king.scrub import Scrub
from king.steps import Ended
from tests.support.whole_ship import WholeShip, boot, treadle
from tests.support.whole_ship import wait_for as wait


def wait_for(true: Callable[[], Any], what: str) -> Any:
    """A pass starts three processes, which takes long beside other work."""
    return wait(true, what, 90)


def flip(path: Path) -> None:
    """A bit in the middle, under whoever has it open."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        at = os.fstat(descriptor).st_size // 2
        (byte,) = os.pread(descriptor, 1, at)
        os.pwrite(descriptor, bytes([byte ^ 1]), at)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def faults(ship: WholeShip) -> list[str]:
    return list(ship.status()["scrub"]["others"]["faults"])


@pytest.mark.timeout(600)
def test_rotten_states_of_epochs_are_named_and_made_again(tmp_path: Path) -> None:
    with boot(tmp_path / "zod") as ship:
        ship.start("--scrub-days", "0.00003")
        for number in range(2):
            ship.type(f"set key{number} value")
            assert treadle("roll", ship.pier).code == 0
        older, newest = sorted(
            ship.layout.log_dir.glob("0i*/treadle.image"),
            key=lambda path: int(path.parent.name[2:]),
        )
        wait_for(lambda: ship.status()["scrub"]["others"]["passes"], "a pass")
        assert faults(ship) == []
        flip(older)
        (fault,) = wait_for(lambda: faults(ship), "the older one is found")
        assert f"epoch {older.parent.name} keeps is rotten" in fault
        assert "treadle roll" in fault
        assert fault in ship.words
        flip(older)
        wait_for(lambda: not faults(ship), "it is whole again")

        record = newest.with_name("treadle.json")
        before = record.read_bytes()  # says when it was made
        flip(newest)
        wait_for(lambda: "was rotten" in ship.words, "the newest one is found")
        wait_for(
            lambda: record.exists() and record.read_bytes() != before, "another one"
        )
        wait_for(lambda: not faults(ship), "it is whole")
        assert ship.stop() == 0
        assert treadle("check", ship.pier, "--deep").code == 0


def test_what_is_kept_in_the_image_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the serf that looks at it says; not what a save changed meanwhile."""
    fault = ["pin old: page 3 does not match its checksum"]
    generations = [7, 7, 7, 8, 8, 8]
    told: list[str] = []
    found: list[list[str]] = []

    async def look(*_: object, **__: object) -> Ended:
        return Ended(0, {"fault": fault[0]}, "")

    def info(_: Path) -> dict[str, Any]:
        return {"generation": generations.pop(0)}

    monkeypatch.setattr(scrubs, "run_steps", look)
    monkeypatch.setattr(scrubs, "image_info", info)

    async def passes() -> None:
        scrub = Scrub(
            tmp_path / "image",
            list,
            1.0,
            busy=lambda: False,
            lost=lambda: None,
            tell=told.append,
        )
        for text in (fault[0], "another, of a save", ""):
            fault[0] = text
            await scrub._look_at_image()
            found.append(scrub.status()["faults"])

    trio.run(passes)
    assert ["pin old: page 3" in "".join(each) for each in found] == [True, True, False]
    assert found[2] == []
    assert len(told) == 1
    assert "treadle unpin" in told[0]
