"""Who hears that a ship is live knows where its page is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.whole_ship import ROOT, STRETCH, WholeShip, boot, treadle

SLOW = """
import sys, trio
from king import cli
soon = trio.open_tcp_listeners
async def late(*words, **more):
    await trio.sleep(0.6)
    return await soon(*words, **more)
trio.open_tcp_listeners = late
sys.exit(cli.main(sys.argv[1:]))
"""
"""A treadle on a machine that takes its time to open ports."""


@pytest.fixture
def ship(tmp_path: Path) -> WholeShip:
    return boot(tmp_path / "zod")


def test_live_names_the_page(ship: WholeShip) -> None:
    with ship:
        address = ship.start().live["http"]
        assert address, "live, and nowhere to be found"
        assert f"live on {address}" in ship.words
        assert ship.http("GET", "/kv/nothing")[0] == 404
        assert ship.stop() == 0


def test_live_waits_for_a_page_that_opens_late(ship: WholeShip) -> None:
    command = [
        sys.executable,
        "-P",
        "-c",
        f"import sys; sys.path[0:0] = [{str(ROOT)!r}]",
    ]
    command[-1] += SLOW
    words = ["run", str(ship.pier), "--headless", "--http-port", "0"]
    king = subprocess.Popen(
        [*command, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        assert king.stderr is not None
        said = ""
        for said in king.stderr:
            if "): live" in said:
                break
        assert "live on http://localhost:" in said, said
        assert treadle("stop", ship.pier).code == 0
        assert king.wait(30 * STRETCH) == 0
    finally:
        king.kill()
        king.communicate()
