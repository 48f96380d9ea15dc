"""Pills that others made, on the whole pair, and what their sources say.

TREADLE_REAL_PILLS names a folder with baby.pill, toddler.pill and oom.pill of
nockchain (crates/nockvm/resources/pills); without it these tests are skipped,
for the pills are not ours to give.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from proto.cord import cord_text
from proto.noun import noun, slot
from tests.support.whole_ship import Logged, WholeShip, boot, treadle

DONE = noun("news", "done")
FOLDER = os.environ.get("TREADLE_REAL_PILLS")


def real(name: str) -> Path:
    if not FOLDER:
        pytest.skip("TREADLE_REAL_PILLS names no folder with real pills")
    path = Path(FOLDER) / f"{name}.pill"
    if not path.is_file():
        pytest.skip(f"there is no {path}")
    return path


def key(ship: WholeShip, letter: str) -> object:
    return ship.poke("d", ["term", "1"], "belt", "txt", [ord(letter)])


def replays(ship: WholeShip) -> None:
    rows = ship.log()
    ran = treadle("replay", ship.pier, "--from-scratch", "--json", timeout=300)
    assert ran.code == 0, ran.err
    assert ran.json["event"] == len(rows)
    if rows[-1].mug:
        assert int(ran.json["mug"], 16) == rows[-1].mug


def motes(rows: list[Logged]) -> list[str]:
    """Why the %crud events among these were made."""
    cruds = [row for row in rows if row.mug and row.tag == noun("crud")]
    return [cord_text(slot(row.ovum, 28)) for row in cruds]


def test_baby_says_effect_for_every_key(tmp_path: Path) -> None:
    """Its poke answers anything with one %blit on //term/1: a %put that is not
    a tape, and a %nel; its state never changes."""
    with boot(tmp_path / "baby", pill=real("baby")) as ship:
        ship.start()
        before = ship.status()
        for letter in "hello":
            assert key(ship, letter) == DONE
        after = ship.status()
        assert after["event"] == before["event"] + 5
        assert after["mug"] == before["mug"]
        assert after["effects_lost"] == before["effects_lost"], "the wire is ours"
        ship.kill()
        ship.start()
        assert key(ship, "x") == DONE
        assert ship.stop() == 0
        ship.check()
        replays(ship)


def test_toddler_lives_with_slow_arithmetic(tmp_path: Path) -> None:
    """A key is slow(bex(23)), eight million steps, printed as a slog; %wack is
    ack(2, 1) = 5; %crud prints its tang. None changes the state."""
    with boot(tmp_path / "toddler", pill=real("toddler")) as ship:
        ship.start(limits={"event_deadline_ms": 20_000}, seconds=120)
        before = ship.status()
        assert key(ship, "a") == DONE
        assert ship.poke("", ["arvo"], "wack", 5) == DONE
        assert ship.poke("", ["arvo"], "crud", ("oops", [("leaf", [104, 105])]), 0, 1)
        after = ship.status()
        assert after["event"] >= before["event"] + 2
        assert ship.stop() == 0
        assert "\n5\n" in ship.words, ship.words
        slow = "8.388.608" in ship.words
        assert slow or "intr" in motes(ship.log()), ship.words
        ship.check()
        replays(ship)


def test_toddler_survives_its_deadline(tmp_path: Path) -> None:
    """The same key (20 ms) with a deadline that it cannot keep; its %crud is quick."""
    with boot(tmp_path / "toddler", pill=real("toddler")) as ship:
        ship.start(limits={"event_deadline_ms": 5}, seconds=120)
        serf = ship.serf_pid()
        key(ship, "a")
        assert ship.serf_pid() == serf
        assert ship.poke("", ["arvo"], "wack", 5) == DONE
        assert ship.stop() == 0
        assert set(motes(ship.log())) == {"intr"}
        ship.check()


def test_oom_bails_meme_and_lives_on(tmp_path: Path) -> None:
    """It counts its events, and from the twentieth on makes a list of 2^32."""
    with boot(tmp_path / "oom", pill=real("oom")) as ship:
        ship.start(serf=["--nursery-size", str(64 << 20)], seconds=120)
        serf = ship.serf_pid()
        for _ in range(22):
            assert key(ship, "a") == DONE
        assert ship.serf_pid() == serf, "the serf must outlive an event"
        assert ship.poke("", ["arvo"], "wack", 5) == DONE
        assert ship.stop() == 0
        found = motes(ship.log())
        assert len(found) > 2
        assert set(found) == {"meme"}
        ship.check()
        replays(ship)
