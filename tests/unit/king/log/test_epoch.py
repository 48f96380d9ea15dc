"""Epochs as one log; the golden logs, byte for byte."""

from __future__ import annotations

import shutil
from pathlib import Path

import lmdb
import pytest

from king.disk import write_durably
from king.errors import TreadleError
from king.log.epoch import create_log, find_epochs, open_log
from king.log.store import LmdbStore, Meta, create_store
from proto.message import Jam, Row
from tests.support.golden import PIERS, expected, log_digest, unpack

META = Meta(who=2, fake=True, life=1)
MAP_SIZE = 1 << 30


def rows(first: int, last: int) -> list[Row]:
    return [Row(n, Jam(b"job %d" % n)) for n in range(first, last + 1)]


def new_log(path: Path, last: int = 5) -> Path:
    create_log(path, META, rows(1, last), "treadle-test", map_size=MAP_SIZE)
    return path


def add_epoch(log_dir: Path, start: int, last: int, meta: Meta = META) -> None:
    """An epoch as a roll would leave it."""
    path = log_dir / f"0i{start}"
    path.mkdir()
    create_store(path, meta, map_size=MAP_SIZE)
    store = LmdbStore(path, start=start, map_size=MAP_SIZE)
    if last > start:
        store.append(start + 1, rows(start + 1, last))
    store.close()
    write_durably(path / "vere.txt", b"treadle-test")
    write_durably(path / "epoc.txt", b"2")


@pytest.mark.parametrize("case", PIERS)
def test_golden_log_reads_as_vere_wrote_it(case: str, tmp_path: Path) -> None:
    known = expected(case)
    log = open_log(unpack(case, tmp_path) / ".urb" / "log", read_only=True)
    assert log_digest(log) == known["log_sha256"]
    assert log.last == known["events"]
    assert log.meta.life == known["life"]
    assert [epoch.path.name for epoch in log.epochs] == [
        epoch["name"] for epoch in known["epochs"]
    ]
    assert log.epochs[0].runtime == known["epochs"][0]["vere"]
    log.close()


def test_new_log_is_laid_out_as_vere_lays_it_out(tmp_path: Path) -> None:
    log_dir = new_log(tmp_path / "log")
    epoch = log_dir / "0i0"
    assert (epoch / "epoc.txt").read_bytes() == b"2"
    assert (epoch / "vere.txt").read_bytes() == b"treadle-test"
    assert sorted(path.name for path in epoch.iterdir()) == [
        "data.mdb",
        "epoc.txt",
        "lock.mdb",
        "vere.txt",
    ]
    env = lmdb.open(str(log_dir), readonly=True, lock=False, max_dbs=2)
    with env, env.begin() as txn:
        assert [bytes(key) for key, _ in txn.cursor()] == [b"META"]
    assert (log_dir.stat().st_mode & 0o777, epoch.stat().st_mode & 0o777) == (
        0o700,
        0o700,
    )


def test_log_reads_across_epochs_and_appends_to_the_newest(tmp_path: Path) -> None:
    log_dir = new_log(tmp_path / "log")
    add_epoch(log_dir, 5, 9)
    add_epoch(log_dir, 9, 9)
    log = open_log(log_dir, map_size=MAP_SIZE)
    assert (log.first, log.last) == (1, 9)
    assert log.read(3) == rows(3, 5)
    assert log.read(6) == rows(6, 9)
    log.settle()
    log.append(10, rows(10, 12))
    assert log.read(10) == rows(10, 12)
    log.close()
    log = open_log(log_dir, map_size=MAP_SIZE)
    assert log.last == 12
    assert log.epochs[-1].start == 9
    log.close()


@pytest.mark.parametrize("start", [4, 6])
def test_hole_or_overlap_between_epochs_is_refused(tmp_path: Path, start: int) -> None:
    log_dir = new_log(tmp_path / "log")
    add_epoch(log_dir, start, 9)
    with pytest.raises(TreadleError) as caught:
        open_log(log_dir, read_only=True)
    assert caught.value.code == "log-gap"


def test_chopped_log_says_where_it_begins(tmp_path: Path) -> None:
    log_dir = new_log(tmp_path / "log")
    add_epoch(log_dir, 5, 9)
    shutil.rmtree(log_dir / "0i0")
    log = open_log(log_dir, read_only=True)
    assert (log.first, log.last) == (6, 9)
    with pytest.raises(TreadleError, match="begins with event 6"):
        log.read(1)
    log.close()


def test_unfinished_roll_does_not_exist(tmp_path: Path) -> None:
    log_dir = new_log(tmp_path / "log")
    add_epoch(log_dir, 5, 5)
    (log_dir / "0i5" / "epoc.txt").unlink()
    log = open_log(log_dir, map_size=MAP_SIZE)
    assert len(log.epochs) == 1
    assert "0i5" in log.notes[0]
    log.append(6, rows(6, 6))
    log.close()


@pytest.mark.parametrize("name", ["0i05", "0i", "0ix", "i0", "0i5.old"])
def test_other_directories_are_no_epochs(tmp_path: Path, name: str) -> None:
    log_dir = new_log(tmp_path / "log")
    (log_dir / name).mkdir()
    epochs, notes = find_epochs(log_dir)
    assert [epoch.start for epoch in epochs] == [0]
    assert not notes


def test_newer_epoch_layout_is_refused(tmp_path: Path) -> None:
    log_dir = new_log(tmp_path / "log")
    (log_dir / "0i0" / "epoc.txt").write_bytes(b"3")
    with pytest.raises(TreadleError) as caught:
        open_log(log_dir)
    assert caught.value.code == "log-newer"


def make_old(log_dir: Path) -> None:
    """A log of format 1: events in the top directory."""
    log_dir.mkdir()
    create_store(log_dir, Meta(2, True, 1, version=1), map_size=MAP_SIZE)
    store = LmdbStore(log_dir, map_size=MAP_SIZE)
    store.append(1, rows(1, 4))
    store.close()


def test_log_of_format_1_can_be_read_but_not_continued(tmp_path: Path) -> None:
    make_old(tmp_path / "log")
    log = open_log(tmp_path / "log", read_only=True)
    assert log.read(1) == rows(1, 4)
    log.close()
    with pytest.raises(TreadleError) as caught:
        open_log(tmp_path / "log")
    assert caught.value.code == "log-old"


@pytest.mark.parametrize("keep", [0.4, 0.7, 0.95])
def test_torn_log_file_is_refused_and_does_not_kill_us(
    tmp_path: Path, keep: float
) -> None:
    log_dir = new_log(tmp_path / "log", last=4000)
    data = log_dir / "0i0" / "data.mdb"
    size = int(data.stat().st_size * keep) // 4096 * 4096
    with data.open("r+b") as file:
        file.truncate(size)
    with pytest.raises(TreadleError) as caught:
        open_log(log_dir, map_size=MAP_SIZE)
    assert caught.value.code == "log-bad"
    assert "torn" in caught.value.message


def test_short_file_that_reads_well_is_accepted(tmp_path: Path) -> None:
    """The last pages in use may never have been written: a note of LMDB's."""
    log_dir = new_log(tmp_path / "log", last=100)
    data = log_dir / "0i0" / "data.mdb"
    raw = bytearray(data.read_bytes())
    # Say in both meta pages that one more page is in use than there is.
    for offset in (0, 4096):
        at = offset + 16 + 4 + 4 + 8 + 8 + 48 + 48
        last = int.from_bytes(raw[at : at + 8], "little")
        raw[at : at + 8] = (last + 1).to_bytes(8, "little")
    data.write_bytes(raw)
    log = open_log(log_dir, read_only=True)
    assert log.last == 100
    log.close()


def test_missing_log_is_named(tmp_path: Path) -> None:
    with pytest.raises(TreadleError) as caught:
        open_log(tmp_path)
    assert caught.value.code == "log-missing"
