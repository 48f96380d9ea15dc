"""`treadle snapshot`: whole, consistent, while the ship runs; or nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from king.care.snapshot import part_of
from king.log.epoch import open_log
from king.pier import Layout
from proto.noun import noun
from tests.support import golden
from tests.support.small_disk import mounted
from tests.support.whole_ship import ROOT, WholeShip, boot, treadle


@pytest.fixture
def ship(tmp_path: Path) -> WholeShip:
    return boot(tmp_path / "zod")


def rows(root: Path) -> list[tuple[int, bytes]]:
    log = open_log(Layout(root).log_dir, read_only=True)
    try:
        found: list[tuple[int, bytes]] = []
        while batch := log.read(len(found) + 1):
            found += [(row.mug, bytes(row.job)) for row in batch]
        return found
    finally:
        log.close()


def test_a_snapshot_of_a_busy_ship_is_one_moment_of_it(
    ship: WholeShip, tmp_path: Path
) -> None:
    over = threading.Event()

    def load() -> None:
        number = 0
        with ship.conn() as conn:
            while not over.is_set():
                number += 1
                belt = noun("belt", "txt", [ord("a") + number % 26])
                conn.ask("ovum", "d", ["term", "1"], belt)

    with ship:
        ship.start("--snapshot-every", "0.1")
        (ship.pier / ".urb/put/kept.txt").write_text("a file of the guest's")
        loads = [threading.Thread(target=load) for _ in range(3)]
        for thread in loads:
            thread.start()
        try:
            copies = []
            for number in range(3):
                copy = tmp_path / f"copy-{number}"
                done = treadle("snapshot", ship.pier, copy, "--json")
                assert done.code == 0, done.err
                assert done.err == ""
                copies.append((copy, done.json))
                assert ship.status()["care"] is None
        finally:
            over.set()
            for thread in loads:
                thread.join()
        assert ship.stop() == 0
    whole = rows(ship.pier)
    last = 0
    for copy, found in copies:
        assert last < found["event"] < len(whole)
        last = found["event"]
        assert found["snapshot_event"] <= found["event"]
        assert rows(copy) == whole[:last]
        assert (copy / ".urb/put/kept.txt").read_text() == "a file of the guest's"
        report = treadle("check", copy, "--json").json
        assert report["ok"], report
        assert report["snapshot_event"] == found["snapshot_event"]
    copy, found = copies[-1]
    assert treadle("run", copy, "--headless").fault == "pier-copied"
    assert "snapshot" in treadle("status", copy, "--json").json["copy"]
    assert treadle("adopt", copy).code == 0
    assert treadle("status", copy, "--json").json["copy"] is None
    with WholeShip(copy) as again:
        again.start()
        assert (
            again.status()["recovery"]["snapshot"]["event"] == found["snapshot_event"]
        )
        assert again.stop() == 0


def test_a_snapshot_never_replaces_anything(ship: WholeShip, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    assert treadle("snapshot", ship.pier, there).fault == "pier-exists"
    assert treadle("snapshot", ship.pier, tmp_path / "no/way").fault == "pier-missing"
    for inside in ("x", ".urb/x"):
        refused = treadle("snapshot", ship.pier, ship.pier / inside)
        assert refused.fault == "usage"
        assert "within the ship's own directory" in refused.err
    assert sorted(tmp_path.iterdir()) == [there, ship.pier]
    with ship:
        ship.start()
        with ship.conn() as conn:
            for path in ("there", "../x", ""):
                text = json.dumps({"dest": path})
                reply = conn.ask("care", "snapshot", text)
                assert b"absolute path" in bytes.fromhex(f"{reply.tail.tail:x}")[::-1]
        assert treadle("snapshot", ship.pier, there).fault == "pier-exists"
        assert ship.stop() == 0


def interrupted(words: list[str], number: int, part: Path) -> int:
    with subprocess.Popen(
        [sys.executable, "-m", "king", *words], cwd=ROOT, stderr=subprocess.DEVNULL
    ) as process:
        deadline = time.monotonic() + 60
        while not part.exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(number)
        return process.wait(60)


@pytest.mark.parametrize("live", [False, True], ids=["at rest", "live"])
def test_an_interrupted_snapshot_leaves_nothing(
    ship: WholeShip, tmp_path: Path, live: bool
) -> None:
    copy = tmp_path / "copy"
    words = ["snapshot", str(ship.pier), str(copy)]
    with ship:
        if live:
            ship.start()
        assert interrupted(words, signal.SIGINT, part_of(copy)) == 130
        deadline = time.monotonic() + 30
        while part_of(copy).exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert not copy.exists()
        # What a kill leaves has no name, and the next one removes it.
        if not live:
            interrupted(words, signal.SIGKILL, part_of(copy))
            assert not copy.exists()
            ship.wait_free()
        (part_of(copy) / "dirt").mkdir(parents=True, exist_ok=True)
        assert treadle(*words).code == 0
        assert not part_of(copy).exists()
        assert not (copy / "dirt").exists()
        if live:
            assert ship.stop() == 0
    assert treadle("check", copy).code == 0


def test_a_rotten_log_makes_no_snapshot(ship: WholeShip, tmp_path: Path) -> None:
    """Bytes of a job that its jam does not survive."""
    data = ship.pier / ".urb/log/0i0/data.mdb"
    raw = bytearray(data.read_bytes())
    job = rows(ship.pier)[4][1]
    at = raw.rindex(job[:40])
    raw[at : at + 8] = b"\xff" * 8
    data.write_bytes(raw)
    done = treadle("snapshot", ship.pier, tmp_path / "copy")
    assert done.fault == "snapshot-failed", done.err
    assert "is not whole" in done.err
    assert list(tmp_path.iterdir()) == [ship.pier]


def test_a_snapshot_of_veres_pier(tmp_path: Path) -> None:
    pier = golden.unpack("epochs", tmp_path)
    stays = ["chk/image.bin", "log/data.mdb", "log/0i0/data.mdb", "log/0i47/data.mdb"]
    stays += ["log/0i47/image.bin", "log/0i47/vere.txt"]
    before = {name: (pier / ".urb" / name).read_bytes() for name in stays}
    copy = tmp_path / "copy"
    done = treadle("snapshot", pier, copy, "--json")
    assert done.code == 0, done.err
    assert done.json["event"] == golden.expected("epochs")["events"]
    for name, data in before.items():
        assert (pier / ".urb" / name).read_bytes() == data
    assert (copy / ".urb/chk/image.bin").read_bytes() == before["chk/image.bin"]
    assert done.json["log_sha256"] == golden.expected("epochs")["log_sha256"]


def test_a_full_disk_is_told_before_it_is_filled(
    ship: WholeShip, tmp_path: Path
) -> None:
    with mounted(tmp_path / "small", "64m") as small:
        done = treadle("snapshot", ship.pier, small / "copy")
        assert done.fault == "disk-full"
        assert "are free" in done.err
        assert os.listdir(small) == []
    shutil.rmtree(ship.pier)
