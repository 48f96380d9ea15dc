"""Pins: a state that stays in the image until it is let go, live and at rest."""

from __future__ import annotations

import json
from pathlib import Path

import trio

from king.image_copy import copy_image
from tests.support.ship import Ship, boot, treadle


def poke(pier: Path) -> None:
    treadle("poke", str(pier), "/d/term/1", "belt", "[%txt 104 105 0]")


def test_a_pin_lasts_over_saves_and_restarts(tmp_path: Path) -> None:
    pier = tmp_path / "zod"
    image = pier / ".urb/chk/treadle.image"
    boot(pier)
    with Ship(pier) as ship:
        poke(pier)
        done = treadle("pin", str(pier), "before", "--json")
        pinned = json.loads(done.stdout)["event"]
        assert pinned == ship.status()["event"]
        for _ in range(6):  # more than the ring of superblocks has
            poke(pier)
            assert treadle("save", str(pier)).returncode == 0
        ship.status()  # which has the gauges asked for anew
        poke(pier)
        assert ship.status()["pins"] == {"before": pinned}
        assert treadle("save", str(pier)).returncode == 0
        ship.kill(serf=True)
    found = json.loads(treadle("pins", str(pier), "--json").stdout)
    assert found == {"pins": {"before": pinned}}
    rest = json.loads(treadle("status", str(pier), "--json").stdout)
    assert rest["pins"] == {"before": pinned}
    made = trio.run(copy_image, image, pinned, tmp_path / "copy")
    assert made["event"] == pinned < rest["event"]
    done = treadle("check", str(pier), "--deep")
    assert done.returncode == 0, done.stdout
    # At rest: a serf catches up, saves, and lets it go.
    assert treadle("unpin", str(pier), "before").returncode == 0
    assert treadle("pins", str(pier)).stdout == "nothing is pinned\n"
    done = treadle("pin", str(pier), "after", "--json")
    assert json.loads(done.stdout) == {"name": "after", "event": rest["event"]}
    with Ship(pier):
        poke(pier)
    found = json.loads(treadle("pins", str(pier), "--json").stdout)
    assert found == {"pins": {"after": rest["event"]}}
    assert treadle("check", str(pier)).returncode == 0


def test_pins_are_refused_by_name(tmp_path: Path) -> None:
    pier = tmp_path / "zod"
    boot(pier)
    assert treadle("pin", str(pier), "a").returncode == 0
    for words, why in (
        (("pin", "a"), "is pinned as a already"),
        (("pin", "a b"), "is no name for a pin"),
        (("pin", ""), "is no name for a pin"),
        (("pin", "x" * 40), "is no name for a pin"),
        (("unpin", "b"), "nothing is pinned as 'b'"),
    ):
        done = treadle(words[0], str(pier), words[1])
        assert done.returncode == 5
        assert done.stderr.startswith("treadle: pin-bad: ")
        assert why in done.stderr
