"""Piers that Vere wrote, in the hands of the whole pair, as copies.

Each replays from its first event to the logged mugs, is started, continued,
stopped and checked; what Vere wrote is still there, byte for byte.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from king.log.epoch import open_log
from proto.noun import noun
from tests.support.golden import PIERS, expected, log_digest, unpack
from tests.support.whole_ship import WholeShip, treadle

DONE = noun("news", "done")


def digest_of_log(pier: Path) -> str:
    log = open_log(pier / ".urb/log", read_only=True)
    try:
        return log_digest(log)
    finally:
        log.close()


def first_events_digest(ship: WholeShip, count: int) -> str:
    """SHA-256 over the first events, as the golden data defines it."""
    digest = hashlib.sha256()
    for row in ship.log()[:count]:
        digest.update(row.mug.to_bytes(4, "little") + row.job)
    return digest.hexdigest()


def vere_files(pier: Path) -> dict[str, str]:
    """Vere's own files that nobody but Vere may write: digests."""
    newest = max((pier / ".urb/log").glob("0i*"), key=lambda path: int(path.name[2:]))
    kept = [
        path
        for path in pier.rglob("*")
        if path.is_file()
        and (
            path.name in ("image.bin", "epoc.txt", "vere.txt")
            or (
                (path.name == "data.mdb" and path.parent.name.startswith("0i"))
                and path.parent != newest
            )
        )
    ]
    assert any(path.name == "image.bin" for path in kept)
    return {
        str(path.relative_to(pier)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in kept
    }


@pytest.mark.parametrize("case", PIERS)
def test_a_pier_of_vere_replays_runs_on_and_stays_whole(
    case: str, tmp_path: Path
) -> None:
    expect = expected(case)
    count = expect["events"]
    pier = unpack(case, tmp_path)
    before = vere_files(pier)
    assert digest_of_log(pier) == expect["log_sha256"]

    ran = treadle("replay", pier, "--from-scratch", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["event"] == count
    assert ran.json["mug"] == expect["final_mug"]
    assert digest_of_log(pier) == expect["log_sha256"]

    with WholeShip(pier) as ship:
        ship.start()
        assert ship.live["ship"] == f"~{expect['ship'].lstrip('~')}"
        assert ship.recovery["log"]["last"] == count
        assert ship.poke("x", ["t"], "hello", 1) == DONE
        at = ship.status()["event"]
        assert at > count
        # Killed, it comes back with all of it.
        ship.kill()
        ship.start()
        assert ship.recovery["log"]["last"] >= at
        assert ship.poke("x", ["t"], "hello", 2) == DONE
        assert ship.stop() == 0
        assert ship.check()["last"] > count
        assert first_events_digest(ship, count) == expect["log_sha256"]
        last = ship.log()[-1]

    again = treadle("replay", pier, "--from-scratch", "--json")
    assert again.code == 0, again.err
    assert (again.json["event"], int(again.json["mug"], 16)) == (last.number, last.mug)
    after = vere_files(pier)
    assert {path: after[path] for path in before} == before


def test_replay_until_stops_where_it_is_told(tmp_path: Path) -> None:
    pier = unpack("crud", tmp_path)
    rows = WholeShip(pier).log()
    for until in (40, 41, 57):
        ran = treadle(
            "replay", pier, "--from-scratch", "--until", until, "--json", timeout=60
        )
        assert ran.code == 0, ran.err
        assert ran.json["event"] == until
        assert int(ran.json["mug"], 16) == rows[until - 1].mug


def test_a_logged_mug_that_is_wrong_stops_the_replay(tmp_path: Path) -> None:
    """A divergence names the event and both mugs, and harms nothing."""
    import lmdb

    pier = unpack("plain", tmp_path)
    with lmdb.open(str(pier / ".urb/log/0i0"), max_dbs=2) as environment:
        events = environment.open_db(b"EVENTS", integerkey=True, create=False)
        with environment.begin(db=events, write=True) as transaction:
            key = (50).to_bytes(8, "little")
            value = transaction.get(key)
            actual = int.from_bytes(value[:4], "little")
            wrong = actual ^ 1
            transaction.put(key, wrong.to_bytes(4, "little") + value[4:])
    ran = treadle("replay", pier, "--from-scratch")
    assert ran.code == 5
    assert ran.fault == "replay-diverged"
    for word in ("50", f"{actual:08x}", f"{wrong:08x}"):
        assert word in ran.err, ran.err
