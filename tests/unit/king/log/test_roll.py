"""Epochs come and go: a roll, a chop, and who reads meanwhile."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import lmdb
import pytest

from king.errors import LogFailed, TreadleError
from king.log import epoch as epochs
from king.log.epoch import Log, create_log, find_epochs, open_log, prepare_epoch, sweep
from king.log.store import LmdbStore, Meta, create_store
from proto.message import Jam, Row
from tests.support.golden import PIERS, expected, log_digest, unpack

META = Meta(who=2, fake=True, life=1)
MAP_SIZE = 1 << 26


def rows(first: int, last: int, size: int = 0) -> list[Row]:
    return [
        Row(n, Jam((b"job %d." % n).ljust(size, b"."))) for n in range(first, last + 1)
    ]


def new_log(path: Path, last: int = 5) -> Log:
    create_log(path, META, rows(1, last), "treadle-test", map_size=MAP_SIZE)
    log = open_log(path, map_size=MAP_SIZE)
    log.settle()
    return log


def roll(log: Log, runtime: str = "treadle-test") -> int | None:
    log.prepare_roll(runtime)
    return log.roll()


def test_a_rolled_epoch_is_laid_out_as_vere_lays_it_out(tmp_path: Path) -> None:
    log = new_log(tmp_path / "log")
    assert roll(log, "treadle-9") == 5
    log.close()
    path = tmp_path / "log/0i5"
    assert (path / "epoc.txt").read_bytes() == b"2"
    assert (path / "vere.txt").read_bytes() == b"treadle-9"
    with lmdb.open(str(path), readonly=True, lock=False, max_dbs=2) as env:
        meta = env.open_db(b"META", create=False)
        events = env.open_db(b"EVENTS", integerkey=True, create=False)
        with env.begin() as txn:
            assert dict(txn.cursor(meta)) == {
                b"version": b"\3",
                b"who": b"\2",
                b"fake": b"",
                b"life": b"\1",
            }
            assert txn.stat(events)["entries"] == 0


def test_events_go_on_in_the_new_epoch(tmp_path: Path) -> None:
    log = new_log(tmp_path / "log")
    before = (tmp_path / "log/0i0/data.mdb").read_bytes()
    assert roll(log) == 5
    log.append(6, rows(6, 9))
    assert (log.first, log.last) == (1, 9)
    assert log.read(4) == rows(4, 5)
    assert log.read(6) == rows(6, 9)
    log.close()
    assert (tmp_path / "log/0i0/data.mdb").read_bytes() == before
    log = open_log(tmp_path / "log", map_size=MAP_SIZE)
    assert [epoch.start for epoch in log.epochs] == [0, 5]
    assert log.last == 9
    log.close()


def test_an_empty_epoch_is_not_rolled(tmp_path: Path) -> None:
    log = new_log(tmp_path / "log")
    assert roll(log) == 5
    assert roll(log) is None
    log.append(6, rows(6, 6))
    assert roll(log) == 6
    log.close()


@pytest.mark.parametrize("case", PIERS)
def test_an_epoch_of_vere_stays_as_it_was(case: str, tmp_path: Path) -> None:
    log_dir = unpack(case, tmp_path) / ".urb/log"
    log = open_log(log_dir)
    log.settle()
    path = log.epochs[-1].path
    names = ("data.mdb", "epoc.txt", "vere.txt", "image.bin")
    before = {n: (path / n).read_bytes() for n in names if (path / n).exists()}
    assert roll(log) == expected(case)["events"]
    log.append(log.last + 1, rows(1, 3))
    assert log_digest(log) != expected(case)["log_sha256"]
    log.close()
    assert {name: (path / name).read_bytes() for name in before} == before
    store = LmdbStore(path, read_only=True)
    assert store.last == expected(case)["events"]
    store.close()


def test_what_an_interrupted_roll_left_is_no_epoch(tmp_path: Path) -> None:
    log = new_log(tmp_path / "log")
    log.prepare_roll("treadle-test")
    log.close()
    assert [e.start for e in find_epochs(tmp_path / "log")[0]] == [0]
    log = open_log(tmp_path / "log", map_size=MAP_SIZE)
    assert roll(log) == 5
    log.close()


def test_an_unfinished_roll_of_another_runtime_makes_way(tmp_path: Path) -> None:
    log = new_log(tmp_path / "log")
    log.close()
    other = tmp_path / "log/0i5"
    other.mkdir()
    create_store(other, META, map_size=MAP_SIZE)
    log = open_log(tmp_path / "log", map_size=MAP_SIZE)
    assert roll(log) == 5
    log.append(6, rows(6, 6))
    log.close()


def test_a_roll_that_cannot_be_prepared_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = new_log(tmp_path / "log")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(epochs, "write_durably", full)
    with pytest.raises(TreadleError) as caught:
        log.prepare_roll("treadle-test")
    assert caught.value.code == "disk-full"
    assert not isinstance(caught.value, LogFailed)
    assert sorted(path.name for path in (tmp_path / "log").iterdir()) == [
        "0i0",
        "data.mdb",
        "lock.mdb",
    ]
    log.append(6, rows(6, 6))
    log.close()


def test_a_name_that_may_not_be_durable_stops_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events in the old epoch and in the new one would be two histories."""
    log = new_log(tmp_path / "log")
    log.prepare_roll("treadle-test")

    def fail(_: Path) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(epochs, "sync_directory", fail)
        with pytest.raises(LogFailed):
            log.roll()
    with pytest.raises(LogFailed):
        log.append(6, rows(6, 6))
    log.close()
    log = open_log(tmp_path / "log", map_size=MAP_SIZE)
    log.settle()
    assert log.epochs[-1].start == 5
    log.append(6, rows(6, 6))
    log.close()


def test_a_roll_that_cannot_have_its_name_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = new_log(tmp_path / "log")
    log.prepare_roll("treadle-test")

    def fail(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(epochs.os, "rename", fail)
        with pytest.raises(TreadleError) as caught:
            log.roll()
    assert not isinstance(caught.value, LogFailed)
    log.append(6, rows(6, 6))
    assert roll(log) == 6
    log.close()


def test_old_epochs_give_their_address_space_back(tmp_path: Path) -> None:
    """A map of 1 TiB each would end after a hundred rolls."""
    log = new_log(tmp_path / "log")
    for number in range(6, 9):
        roll(log)
        log.append(number, rows(number, number))
    sizes = [store.map_size for store in log.stores]
    assert max(sizes[:-1]) < 1 << 20
    assert sizes[-1] == MAP_SIZE
    assert log.read(5) == rows(5, 5)
    log.close()


# --- chop ---------------------------------------------------------------------


def with_epochs(path: Path) -> Log:
    log = new_log(path)
    for first in (6, 11, 16):
        roll(log)
        log.append(first, rows(first, first + 4))
    return log


def test_the_oldest_epoch_goes_by_one_rename(tmp_path: Path) -> None:
    log = with_epochs(tmp_path / "log")
    log.take_oldest()
    assert (log.first, log.last) == (6, 20)
    with pytest.raises(TreadleError, match="begins with event 6"):
        log.read(1)
    assert log.read(6) == rows(6, 10)
    log.close()
    # A crash here leaves files that are no epoch; the next sweep deletes them.
    assert (tmp_path / "log/chopped-0i0/data.mdb").exists()
    log = open_log(tmp_path / "log", map_size=MAP_SIZE)
    assert log.first == 6
    assert not log.notes
    assert sweep(tmp_path / "log") == ["0i0"]
    assert not (tmp_path / "log/chopped-0i0").exists()
    log.take_oldest()
    with pytest.raises(AssertionError):
        log.take_oldest()
    log.close()


def test_what_was_taken_can_be_put_back(tmp_path: Path) -> None:
    log = with_epochs(tmp_path / "log")
    shutil.copytree(tmp_path / "log/0i0", tmp_path / "kept")
    log.take_oldest()
    sweep(tmp_path / "log")
    log.close()
    shutil.copytree(tmp_path / "kept", tmp_path / "log/0i0")
    log = open_log(tmp_path / "log", map_size=MAP_SIZE)
    log.settle()
    assert log.read(1) == rows(1, 5)
    log.close()


# --- reading beside ------------------------------------------------------------


def reading(log: Log, over: threading.Event) -> Callable[[], list[str]]:
    """Read all of it, again and again, in a thread, once more after the end; what
    went wrong."""
    faults: list[str] = []

    def work() -> None:
        last = False
        while not last:
            last = over.is_set()
            event = log.first
            while True:
                try:
                    some = log.read(event, 50)
                except TreadleError as error:
                    if error.code != "log-gap" or log.first <= event:
                        faults.append(str(error))
                    break
                if not some:
                    break
                if [row.mug for row in some] != list(range(event, event + len(some))):
                    faults.append(f"other rows at {event}")
                event += len(some)
        if event != log.last + 1:
            faults.append(f"the last pass ends before event {event}")

    thread = threading.Thread(target=work)
    thread.start()

    def end() -> list[str]:
        over.set()
        thread.join()
        return faults

    return end


def test_a_reader_sees_all_while_the_log_appends_rolls_and_chops(
    tmp_path: Path,
) -> None:
    log = new_log(tmp_path / "log")
    end = reading(log, threading.Event())
    for number in range(6, 800, 5):
        log.append(number, rows(number, number + 4))
        if number % 100 == 1:
            roll(log)
            if len(log.epochs) > 4:
                log.take_oldest()
                sweep(tmp_path / "log")
    assert end() == []
    log.close()


def test_a_full_map_grows_beside_readers(tmp_path: Path) -> None:
    """64 KiB of map, megabytes of events."""
    path = tmp_path / "log"
    create_log(path, META, rows(1, 1), "treadle-test", map_size=1 << 16)
    log = open_log(path, map_size=1 << 16)
    log.settle()
    before = log.stores[-1].map_size
    end = reading(log, threading.Event())
    for number in range(2, 400, 3):
        log.append(number, rows(number, number + 2, 3000 + number))
    assert end() == []
    assert log.stores[-1].map_size > before
    assert log.stores[-1].map_size >= log.size_bytes() > 1 << 20
    log.close()
    log = open_log(path, map_size=1 << 16)
    assert log.last == 400
    log.append(401, rows(401, 401, 1 << 18))
    assert roll(log) == 401
    log.append(402, rows(402, 402, 1 << 22))
    log.close()


def test_a_prepared_epoch_is_durable_but_for_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its version files are the last to be made, and nothing comes after them."""
    log = new_log(tmp_path / "log")
    made: list[str] = []
    real = epochs.write_durably

    def watched(path: Path, data: bytes) -> None:
        assert (path.parent / "data.mdb").exists()
        made.append(path.name)
        real(path, data)

    monkeypatch.setattr(epochs, "write_durably", watched)
    prepare_epoch(tmp_path / "log", META, "treadle-test", map_size=MAP_SIZE)
    assert made == ["vere.txt", "epoc.txt"]
    log.close()
