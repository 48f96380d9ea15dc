"""What people lose ships of other runtimes by, one test for each such row: the
same thing is done to a ship of ours, and what it does instead is shown. What
people should do about it is in king/MANUAL.md, under the same numbers.

(Row 2, the disk without a free byte, has a file of its own beside this test of
its maintenance: test_disk_at_zero.py.)
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import lmdb
import pytest

from king.disk import free_bytes
from king.log.epoch import open_log
from proto.noun import noun
from tests.support.golden import expected, log_digest, unpack
from tests.support.small_disk import filled, mounted
from tests.support.whole_ship import ROOT, WholeShip, boot, treadle, wait_for

DONE = noun("news", "done")


@pytest.fixture
def ship(tmp_path: Path) -> WholeShip:
    return boot(tmp_path / "zod")


def result(*words: object) -> dict[str, Any]:
    ran = treadle(*words, "--json")
    assert ran.code == 0, ran.err
    found: dict[str, Any] = ran.json
    return found


def put_get(ship: WholeShip, value: bytes) -> None:
    assert ship.http("PUT", "/kv/k", value)[0] in (201, 204)
    assert ship.http("GET", "/kv/k") == (200, value)


# --- 1: the state outgrows its memory -----------------------------------------


def test_row_1_an_oversized_event_fails_and_the_ship_lives(ship: WholeShip) -> None:
    with ship:
        ship.start("--home-size", "64M", "--nursery-size", "96M")
        serf = ship.serf_pid()
        put_get(ship, b"before")
        for _ in range(2):
            assert ship.type("grow 1000000") == DONE
        # Said once, with the next step, while there is still room.
        for number in range(200):
            ship.type(f"put a {number}")
            if "home is 7" in ship.words:
                break
        assert ship.words.count("home is 7") == 1
        assert "--home-size" in ship.words
        ship.type("grow 2000000")  # more than there is
        assert ship.http("GET", "/kv/k") == (200, b"before")
        assert ship.serf_pid() == serf, "an event took the serf with it"
        ship.status()
        percent = wait_for(lambda: ship.status()["memory"].get("home_percent"), "%")
        assert 70 <= percent <= 100
        # Room comes back when the ship forgets; and a start with more has more.
        assert ship.type("drop") == DONE
        put_get(ship, b"after")
        assert ship.stop() == 0
        ship.start("--home-size", "256M", "--nursery-size", "256M")
        assert ship.type("grow 4000000") == DONE
        put_get(ship, b"more")
        assert ship.stop() == 0
        ship.check()


# --- 2: the disk is full --------------------------------------------------------


def test_row_2_maintenance_works_without_a_free_byte(
    ship: WholeShip, tmp_path: Path
) -> None:
    with mounted(tmp_path / "small", "200m") as disk:
        shutil.move(ship.pier, disk / "zod")
        ship = WholeShip(disk / "zod")
        assert treadle("adopt", ship.pier).code == 0
        with ship:
            ship.start("--reserve", "32M")
            wait_for(lambda: ship.status()["disk"]["reserve_bytes"], "a reserve")
            for number in range(3):
                put_get(ship, b"%d" % number)
                if number < 2:
                    assert result("roll", ship.pier)["rolled"]
            filler = filled(disk)
            wait_for(lambda: ship.http("PUT", "/kv/a", b"1")[0] == 503, "a refusal")
            assert free_bytes(disk) < 8 << 20
            assert treadle("save", ship.pier).code == 0
            assert len(result("chop", ship.pier)["removed"]) == 1
            assert treadle("check", ship.pier).code == 0
            assert treadle("log", ship.pier, "top").code == 0
            assert ship.stop() == 0
            assert treadle("check", ship.pier).code == 0
            filler.unlink()
            ship.start()
            assert ship.http("GET", "/kv/k") == (200, b"2")
            put_get(ship, b"on")
            assert ship.stop() == 0
            ship.check()


# --- 3: the log grows, and nobody knows why -------------------------------------


def test_row_3_what_fills_the_log_is_told_and_old_epochs_go(
    ship: WholeShip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with ship:
        ship.start("--roll-events", "20", "--snapshot-every", "0.2")
        for number in range(60):
            ship.poke("x", ["flood"], "noise", "x" * 400, number)
        ran = treadle("log", ship.pier, "top", "--json", "--first", "9")
        rows = [json.loads(line) for line in ran.out.splitlines()]
        by_tag = [row for row in rows if row["by"] == "tag"]
        assert by_tag[0]["tag"] == "%noise"
        assert by_tag[0]["bytes"] > 60 * 400
        assert ship.status()["log_growth"]["bytes_per_day"] > 0

        # Epochs began by themselves; old ones go while the ship runs.
        def rolled() -> bool:
            ship.poke("x", ["flood"], "noise", "x" * 400, 0)
            return len(ship.status()["epochs"]) >= 3

        def chopped() -> list[str]:
            ran = treadle("chop", ship.pier, "--json")
            # Busy: the copy of the newest epoch's state is still being made.
            return list(ran.json["removed"]) if ran.code == 0 else []

        wait_for(rolled, "epochs")
        removed = wait_for(chopped, "chopping")
        assert removed[0] == "0i0"
        put_get(ship, b"on")
        assert ship.stop() == 0
        ship.check()
        # What recovery needs is not removed by any word of ours; by hand it can
        # be, and is named before anything is changed.
        assert treadle("chop", ship.pier, "--keep", "1").fault == "usage"
        epochs = result("status", ship.pier)["epochs"]
        shutil.move(ship.layout.log_dir / epochs[-1], ship.pier.parent / "away")
        ran = treadle("run", ship.pier, "--headless", "--http-port", "0")
        assert (ran.code, ran.fault) == (4, "log-behind")
        shutil.move(ship.pier.parent / "away", ship.layout.log_dir / epochs[-1])
        ship.start()
        assert ship.http("GET", "/kv/k") == (200, b"on")
        assert ship.stop() == 0


# --- 4: damage after a crash ----------------------------------------------------


def tear_generation(image: Path, event: int) -> None:
    """Write over a part of the superblock of that event (native/image_inside.h)."""
    with image.open("r+b") as file:
        for slot in range(4):
            file.seek(slot << 14)
            if int.from_bytes(file.read(48)[40:], "little") == event:
                file.seek((slot << 14) + 100)
                file.write(b"\xff" * 64)
                return
    raise AssertionError(f"no generation of event {event}")


def test_row_4_after_any_crash_the_ship_comes_back_by_itself(ship: WholeShip) -> None:
    with ship:
        ship.start()
        put_get(ship, b"first")
        assert treadle("save", ship.pier).code == 0
        put_get(ship, b"second")
        assert treadle("save", ship.pier).code == 0
        put_get(ship, b"third")
        ship.kill()
        ship.wait_free()
        # The newest generation of the snapshot is torn, as a bad disk may leave
        # it: the older one is used, and the log makes up for the rest.
        newest = result("status", ship.pier)["snapshot_event"]
        tear_generation(ship.layout.image, newest)
        ship.start()
        assert ship.recovery["snapshot"]["event"] < newest
        assert "damaged" in ship.recovery["snapshot"]["note"]
        assert ship.recovery["replayed"]["events"] > 0
        assert ship.http("GET", "/kv/k") == (200, b"third")
        assert ship.stop() == 0
        ship.check()
        # Without any snapshot, the log alone.
        ship.layout.image.unlink()
        ship.start()
        assert ship.http("GET", "/kv/k") == (200, b"third")
        assert ship.stop() == 0
        # A version file that was emptied, as hosted ships had it: said by name.
        version = ship.layout.log_dir / "0i0" / "epoc.txt"
        text = version.read_bytes()
        version.write_bytes(b"")
        ran = treadle("run", ship.pier, "--headless", "--http-port", "0")
        assert ran.fault == "log-bad"
        assert str(version.parent) in ran.err
        version.write_bytes(text)
        ship.start()
        assert ship.http("GET", "/kv/k") == (200, b"third")
        assert ship.stop() == 0


# --- 5: upgrades ----------------------------------------------------------------


def contents(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name not in ("lock.mdb", "treadle.lock")
    }


def test_row_5_formats_are_checked_before_anything_is_written(ship: WholeShip) -> None:
    with ship:
        ship.start()
        put_get(ship, b"old")
        assert ship.stop() == 0
    manifest = json.loads(ship.layout.manifest.read_text())
    for name, code in (("manifest", "pier-newer"), ("epoch", "log-newer")):
        version = ship.layout.log_dir / "0i0" / "epoc.txt"
        if name == "manifest":
            newer = {**manifest, "format": manifest["format"] + 1}
            ship.layout.manifest.write_text(json.dumps(newer))
        else:
            version.write_text("9")
        before = contents(ship.pier)
        for words in (("run", "--headless"), ("replay",), ("chop",), ("roll",)):
            ran = treadle(words[0], ship.pier, *words[1:])
            assert ran.fault == code, (words, ran)
        assert contents(ship.pier) == before
        ship.layout.manifest.write_text(json.dumps(manifest))
        version.write_text("2")
    with ship:
        ship.start()
        assert ship.http("GET", "/kv/k") == (200, b"old")
        # A rehearsal: a copy of the live ship, all of it computed anew elsewhere.
        copy = ship.pier.parent / "rehearsal"
        assert treadle("snapshot", ship.pier, copy).code == 0
        again = result("replay", copy, "--from-scratch")
        assert again["replayed"] == len(WholeShip(copy).log())
        assert ship.stop() == 0


def test_row_5_what_another_runtime_wrote_stays_as_it_was(tmp_path: Path) -> None:
    """The way back: Vere's own log and snapshot are untouched after a run."""
    root = unpack("plain", tmp_path)
    before = contents(root)
    with WholeShip(root) as ship:
        ship.start()
        assert ship.poke("x", ["t"], "hello", 1) == DONE
        assert len(ship.status()["epochs"]) == 2, "our events go to an epoch of ours"
        assert ship.stop() == 0
    after = contents(root)
    changed = {name for name, data in before.items() if after.get(name) != data}
    # Its log is settled at a start; events of ours never go there.
    assert changed <= {".urb/log/0i0/data.mdb", ".vere.lock"}
    log = open_log(root / ".urb/log", read_only=True)
    assert log.epochs[1].start == 66
    log.close()
    shutil.rmtree(root / ".urb/log/0i66")
    log = open_log(root / ".urb/log", read_only=True)
    assert log_digest(log) == expected("plain")["log_sha256"]
    log.close()


# --- 6: replay ------------------------------------------------------------------


def test_row_6_replay_goes_on_where_it_stopped_and_checks_each_event(
    tmp_path: Path,
) -> None:
    root = unpack("long", tmp_path)
    last = result("status", root)["event"]
    half = last // 2
    first = result("replay", root, "--until", half)
    assert first["event"] == half
    second = result("replay", root)
    assert (second["event"], second["replayed"]) == (last, last - half)
    # One mug in the log is another's: the event is named, with both mugs.
    (epoch,) = (root / ".urb/log").glob("0i*")
    with lmdb.open(str(epoch), max_dbs=2, map_size=1 << 30) as environment:
        events = environment.open_db(b"EVENTS", integerkey=True)
        with environment.begin(write=True, db=events) as txn:
            key = (last - 5).to_bytes(8, "little")
            value = txn.get(key)
            assert value is not None
            txn.put(key, bytes([value[0] ^ 1]) + value[1:])
    ran = treadle("replay", root, "--from-scratch")
    assert (ran.code, ran.fault) == (5, "replay-diverged")
    assert re.search(rf"event {last - 5:,}|event {last - 5}", ran.err)
    assert f"{int.from_bytes(value[:4], 'little'):08x}" in ran.err
    assert treadle("explain", "replay-diverged").code == 0


# --- 8: a death without a reason --------------------------------------------------


def test_row_8_a_death_is_told_with_its_cause_and_is_mended(ship: WholeShip) -> None:
    with ship:
        ship.start()
        put_get(ship, b"before")
        serf = ship.serf_pid()
        with ship.conn() as conn:
            ship.poke("d", ["term", "1"], "belt", "txt", [*b"spin"])
            conn.send(1, "ovum", "d", ["term", "1"], "belt", "ret", 0)
            wait_for(lambda: ship.status()["in_flight"] == 1, "the event runs")
            event = ship.status()["event"]
            os.kill(serf, signal.SIGKILL)
            wait_for(lambda: "took over" in ship.words, "another serf")
            assert "SIGKILL" in ship.words
            assert re.search(rf"%belt on /d/term/1, after event {event:,}", ship.words)
            wait_for(lambda: ship.status()["in_flight"] == 1, "it is tried again")
            time.sleep(0.5)
            ship.signal(signal.SIGINT)
            assert conn.hear() is not None
        assert ship.serf_pid() != serf
        put_get(ship, b"after")
        assert any("serf died" in note for note in ship.status()["recovery"]["notes"])
        # Faults have codes, families of exit codes, and words to each.
        second = treadle("run", ship.pier, "--headless")
        assert (second.code, second.fault) == (3, "pier-locked")
        assert treadle("explain", second.fault).out.count("next") == 1
        assert ship.stop() == 0
        ship.check()


# --- 9: pauses, and more written than changed -------------------------------------


def written(pid: int) -> int:
    """Bytes that a process has written, to whatever."""
    text = Path(f"/proc/{pid}/io").read_text()
    return int(re.search(r"wchar: (\d+)", text)[1]) if text else 0


def test_row_9_a_save_writes_what_changed_and_events_go_on(ship: WholeShip) -> None:
    with ship:
        ship.start("--snapshot-every", "100000")
        assert ship.type("grow 2000000") == DONE  # some 48 MB
        latencies: list[float] = []
        over = threading.Event()

        def load() -> None:
            number = 0
            while not over.is_set():
                number += 1
                began = time.monotonic()
                assert ship.http("PUT", "/kv/k", b"%d" % number)[0] in (201, 204)
                latencies.append(time.monotonic() - began)

        serf = ship.serf_pid()
        before = written(serf)
        thread = threading.Thread(target=load, daemon=True)
        thread.start()
        began = time.monotonic()
        assert treadle("save", ship.pier).code == 0
        over.set()
        thread.join()
        full = written(serf) - before
        assert full > 40 << 20
        assert latencies, f"no event in {time.monotonic() - began:.1f} s of a save"
        # Little changed since: little is written.
        put_get(ship, b"one more")
        before = written(serf)
        assert treadle("save", ship.pier).code == 0
        assert written(serf) - before < full / 20
        # And in idle time nothing, by neither process.
        before = written(ship.pid) + written(serf)
        time.sleep(2)
        assert written(ship.pid) + written(serf) - before < 4096
        assert ship.stop() == 0


# --- 11: two at once, stale locks, old backups --------------------------------------


def test_row_11_locks_are_the_kernels_and_copies_are_known(
    ship: WholeShip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    # What a dead runtime left in lock files is no lock.
    ship.layout.lock.write_text("12345 garbage")
    ship.layout.vere_lock.write_text("1\n")
    with ship:
        ship.start()
        put_get(ship, b"original")
        second = treadle("run", ship.pier, "--headless")
        assert (second.code, second.fault) == (3, "pier-locked")
        assert str(ship.pid) in second.err
        assert ship.stop() == 0
        backup = tmp_path / "backup"
        shutil.copytree(ship.pier, backup)
        ship.start()
        put_get(ship, b"newer")
        # The backup would write another history beside the first: it stays cold.
        ran = treadle("run", backup, "--headless", "--http-port", "0")
        assert (ran.code, ran.fault) == (3, "pier-copied")
        assert "adopt" in ran.err
        assert ship.stop() == 0
    # The original is gone: the backup is adopted, and is the ship from then on.
    shutil.move(ship.pier, tmp_path / "broken")
    assert treadle("adopt", backup).code == 0
    with WholeShip(backup) as heir:
        heir.start()
        assert heir.http("GET", "/kv/k") == (200, b"original")
        assert heir.stop() == 0
    ran = treadle("run", tmp_path / "broken", "--headless", "--http-port", "0")
    assert (ran.code, ran.fault) == (3, "pier-stale")


# --- the manual ---------------------------------------------------------------------


def test_every_row_has_its_paragraph_in_the_manual() -> None:
    text = (ROOT / "king/MANUAL.md").read_text()
    here = Path(__file__).read_text()
    rows = {int(row) for row in re.findall(r"def test_row_(\d+)_", here)}
    assert rows == {1, 2, 3, 4, 5, 6, 8, 9, 11}
    for row in rows:
        (section,) = re.findall(rf"^## {row}\..*?(?=^## |\Z)", text, re.S | re.M)
        for part in ("*You see*", "*treadle does*", "*You do*"):
            assert part in section, f"row {row}: {part}"
