"""A ship is told to stop while its disk is slow: two batches are on their way."""

from __future__ import annotations

import select
import time
from pathlib import Path

from proto.cord import cord
from proto.jam import cue
from proto.message import Jam
from proto.noun import noun, slot
from tests.support.whole_ship import WholeShip, boot, wait_for

SLOW = 40  # the commit that takes long


def poke_until_slow(ship: WholeShip) -> int:
    """Events one by one until a commit hangs; how many were acknowledged. (How
    long an answer takes says nothing on a loaded machine: the ship is asked.)"""
    with ship.conn() as conn:
        for acknowledged in range(2 * SLOW):
            conn.send(1, "ovum", "x", ["test"], "hello", acknowledged)
            while not select.select([conn.socket], [], [], 0.2)[0]:
                status = ship.status()
                if status["commits"] == SLOW and status["uncommitted"]:
                    return acknowledged
            conn.hear()
    raise AssertionError("no commit was slow")


def hello(job: bytes) -> bool:
    """Whether it is one of ours: drivers have theirs, at their time."""
    event = cue(Jam(job))
    return slot(event, 6) == noun("x", ["test"]) and slot(event, 14) == cord("hello")


def test_what_was_computed_is_logged_before_the_ship_leaves(tmp_path: Path) -> None:
    points = f"commit.before=sleep:7@{SLOW},commit.after=sleep:2@{SLOW + 1}"
    with boot(tmp_path / "zod") as ship:
        ship.start(failpoints=points, limits={"shutdown_s": 2})
        acknowledged = poke_until_slow(ship)
        with ship.conn() as conn:
            conn.send(1, "ovum", "x", ["test"], "hello", 0)
            wait_for(lambda: ship.status()["uncommitted"] >= 2, "two batches")
            began = time.monotonic()
            code = ship.stop()
            assert code == 0, ship.words
            assert time.monotonic() - began < 30
        ship.wait_free()
        ship.check()
        assert [hello(row.job) for row in ship.log()].count(True) == acknowledged + 2
        ship.start()
        assert ship.recovery["effects_unsure"] is None, ship.recovery
