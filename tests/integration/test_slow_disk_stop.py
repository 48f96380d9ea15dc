"""A ship is told to stop while its disk is slow: two batches are on their way."""

from __future__ import annotations

import time
from pathlib import Path

from tests.support.whole_ship import WholeShip, boot, wait_for

SLOW = 40  # the commit that takes long


def poke_until_slow(ship: WholeShip) -> int:
    """Events one by one until a commit hangs; how many were acknowledged."""
    acknowledged = 0
    with ship.conn(timeout=1) as conn:
        while acknowledged < 2 * SLOW:
            try:
                conn.ask("ovum", "x", ["test"], "hello", acknowledged)
            except TimeoutError:
                return acknowledged
            acknowledged += 1
    raise AssertionError("no commit was slow")


def test_what_was_computed_is_logged_before_the_ship_leaves(tmp_path: Path) -> None:
    points = f"commit.before=sleep:7@{SLOW},commit.after=sleep:2@{SLOW + 1}"
    with boot(tmp_path / "zod") as ship:
        ship.start(failpoints=points, limits={"shutdown_s": 2})
        before = ship.status()["event"]
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
        assert len(ship.log()) == before + acknowledged + 2
        ship.start()
        assert ship.recovery["effects_unsure"] is None, ship.recovery
