"""A page of the snapshot rots on the disk: the ship heals itself.

The tables stay good, so that the page is only found once the serf reads all of
it, beside a replay or a running ship.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from king.child import HANDSHAKE_S, handshake_s
from tests.support.whole_ship import WholeShip, boot, treadle, wait_for

SLOT = 16384
RING = 4
TABLES = (b"nktb", b"nkdi")


def rot(image: Path) -> int:
    """Flip a bit in every data page of every generation; how many there are."""
    data = bytearray(image.read_bytes())
    count = 0
    for at in range(RING * SLOT, len(data), SLOT):
        slot = data[at : at + SLOT]
        if slot[:4] not in TABLES and any(slot):
            data[at + SLOT - 1] ^= 1
            count += 1
    image.write_bytes(bytes(data))
    return count


def rot_alive(image: Path) -> None:
    """The same under a living ship: nothing is cut off."""
    before = image.read_bytes()
    rotten = image.with_name("rotten")
    rotten.write_bytes(before)
    assert rot(rotten) > 3
    after = rotten.read_bytes()
    rotten.unlink()
    descriptor = os.open(image, os.O_WRONLY)
    for at in range(0, len(after), SLOT):
        if after[at : at + SLOT] != before[at : at + SLOT]:
            last = at + SLOT - 1
            os.pwrite(descriptor, after[last : last + 1], last)
    os.close(descriptor)


def rotten_ship(pier: Path, *, tail: int) -> WholeShip:
    """Its snapshot is bad, and `tail` events older than its log."""
    ship = boot(pier)
    ship.start()
    assert ship.http("PUT", "/kv/old", b"x" * 100_000)[0] == 201
    assert ship.stop() == 0
    if tail:
        ship.start()
        for number in range(tail):
            assert ship.http("PUT", f"/kv/k{number}", b"v")[0] == 201
        ship.kill()
        ship.wait_free()
    assert rot(ship.layout.image) > 3
    return ship


@pytest.mark.parametrize("tail", [0, 5])
def test_a_rotten_page_is_found_and_healed_at_a_start(
    tmp_path: Path, tail: int
) -> None:
    with rotten_ship(tmp_path / "zod", tail=tail) as ship:
        ship.start()
        assert ship.http("GET", "/kv/old") == (200, b"x" * 100_000)
        if tail:
            assert ship.http("GET", f"/kv/k{tail - 1}") == (200, b"v")
        assert "is damaged" in ship.words
        assert len(re.findall(r"serf \d+ died", ship.words)) <= 1, ship.words
        assert ship.stop() == 0
        ship.check()


@pytest.mark.parametrize("tail", [0, 5])
def test_a_rotten_page_does_not_stop_a_replay(tmp_path: Path, tail: int) -> None:
    with rotten_ship(tmp_path / "zod", tail=tail) as ship:
        ran = treadle("replay", ship.pier)
        assert ran.code == 0, ran
        ship.check()


def test_a_living_ship_that_is_idle_finds_its_rot(tmp_path: Path) -> None:
    with boot(tmp_path / "zod") as ship:
        # As fast as the pauses between requests allow.
        ship.start("--scrub-days", "0.00001")
        assert ship.http("PUT", "/kv/old", b"x" * 100_000)[0] == 201
        assert treadle("save", ship.pier).code == 0
        wait_for(lambda: (ship.status()["scrub"]["passes"] or 0) > 1, "two passes")
        scrub = ship.status()["scrub"]
        assert 0 <= scrub["percent"] < 100
        assert 0 <= scrub["last_seconds_ago"] < 60
        assert "damaged" not in ship.words
        rot_alive(ship.layout.image)
        wait_for(lambda: "is damaged" in ship.words, "the rot is found")
        assert ship.http("GET", "/kv/old") == (200, b"x" * 100_000)
        assert len(re.findall(r"serf \d+ died", ship.words)) == 1, ship.words
        assert ship.stop() == 0
        ship.check()


def test_a_large_image_has_the_time_to_be_verified(tmp_path: Path) -> None:
    """A torn superblock makes every start verify all of it: 16 GiB from a slow
    disk take minutes, and no restart would be shorter."""
    image = tmp_path / "image"
    assert handshake_s(image) == HANDSHAKE_S
    with image.open("wb") as file:
        file.truncate(16 << 30)
    slow_disk = 50 << 20
    assert handshake_s(image) > (16 << 30) / slow_disk


@pytest.mark.parametrize("words", [("save",), ("snapshot", "COPY"), ("pin", "now")])
def test_what_is_saved_at_rest_is_not_rotten(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    """The image has the last event already: that is no reason to believe it."""
    with rotten_ship(tmp_path / "zod", tail=0) as ship:
        verb, *more = words
        more = [str(tmp_path / "copy") if word == "COPY" else word for word in more]
        ran = treadle(verb, ship.pier, *more)
        assert ran.code == 0, ran.err
        assert "is damaged" in ran.err
        assert treadle("check", ship.pier).code == 0
        ship.start()
        assert ship.http("GET", "/kv/old") == (200, b"x" * 100_000)
        assert ship.stop() == 0
