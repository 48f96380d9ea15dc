"""One suite for both logs, then what is LMDB's alone."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import lmdb
import pytest

from king.errors import LogFailed, TreadleError
from king.log import store
from king.log.store import (
    EventLog,
    LmdbStore,
    MemoryLog,
    Meta,
    create_store,
    decode_meta,
    encode_meta,
)
from proto.message import Jam, Row

META = Meta(who=256, fake=True, life=2)
MAP_SIZE = 1 << 30


def row(number: int, size: int = 8) -> Row:
    return Row(number * 7 % (1 << 31), Jam(number.to_bytes(size, "little")))


def make_memory(path: Path) -> EventLog:
    return MemoryLog(META)


def make_lmdb(path: Path) -> LmdbStore:
    create_store(path, META, map_size=MAP_SIZE)
    return LmdbStore(path, map_size=MAP_SIZE)


@pytest.fixture(params=[make_memory, make_lmdb], ids=["memory", "lmdb"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EventLog]:
    make: Callable[[Path], EventLog] = request.param
    made = make(tmp_path)
    yield made
    made.close()


# --- both -------------------------------------------------------------------


def test_empty_log_has_no_first_and_no_last(log: EventLog) -> None:
    assert (log.first, log.last) == (0, 0)
    assert log.read(1) == []
    assert log.meta == META


def test_append_then_read_gives_the_same_rows(log: EventLog) -> None:
    rows = [row(n) for n in range(1, 301)]
    log.append(1, rows[:100])
    log.append(101, rows[100:])
    assert (log.first, log.last) == (1, 300)
    assert log.read(1) == rows
    assert log.read(300) == rows[299:]
    assert log.read(301) == []


def test_read_stops_at_rows_max_and_bytes_max(log: EventLog) -> None:
    log.append(1, [row(n, 1000) for n in range(1, 11)])
    assert len(log.read(1, rows_max=3)) == 3
    assert len(log.read(1, bytes_max=2500)) == 2
    # One row at least, however big.
    assert len(log.read(1, bytes_max=1)) == 1


def test_append_takes_a_batch_of_any_size(log: EventLog) -> None:
    log.append(1, [row(n) for n in range(1, 5001)])
    assert log.last == 5000
    assert log.read(5000) == [row(5000)]


def test_append_refuses_a_number_that_is_not_next(log: EventLog) -> None:
    log.append(1, [row(1)])
    for wrong in (1, 3):
        with pytest.raises(AssertionError):
            log.append(wrong, [row(wrong)])
    assert log.last == 1


def test_settle_changes_nothing(log: EventLog) -> None:
    log.append(1, [row(1)])
    log.settle()
    assert (log.last, log.meta) == (1, META)


# --- failures: afterwards everything is refused ------------------------------


def test_memory_refuses_everything_after_a_failed_append() -> None:
    log = MemoryLog(META)
    log.append(1, [row(1)])
    log.fail_next = "the disk is gone"
    with pytest.raises(LogFailed):
        log.append(2, [row(2)])
    log.fail_next = None
    for use in (lambda: log.append(2, [row(2)]), lambda: log.read(1), log.settle):
        with pytest.raises(LogFailed):
            use()


class _Broken:
    """An environment whose writes fail as a disk would."""

    def __init__(self, real: lmdb.Environment, error: Exception) -> None:
        self.real = real
        self.error = error
        self.failures = 1

    def begin(self, *args: object, write: bool = False, **more: object) -> object:
        if write and self.failures:
            self.failures -= 1
            raise self.error
        return self.real.begin(*args, write=write, **more)

    def __getattr__(self, name: str) -> object:
        return getattr(self.real, name)


def test_lmdb_refuses_everything_after_a_failed_commit(tmp_path: Path) -> None:
    log = make_lmdb(tmp_path)
    log.append(1, [row(1)])
    log._env = _Broken(log._env, lmdb.DiskError("mdb_txn_commit: Input/output error"))
    with pytest.raises(LogFailed) as caught:
        log.append(2, [row(2)])
    assert caught.value.code == "disk-error"
    assert "events 2 to 2" in caught.value.message
    # The disk works again: the log must not be believed all the same.
    for use in (lambda: log.append(2, [row(2)]), lambda: log.read(1), log.settle):
        with pytest.raises(LogFailed):
            use()
    log.close()
    with_fresh_eyes = LmdbStore(tmp_path, map_size=MAP_SIZE)
    assert with_fresh_eyes.last == 1
    with_fresh_eyes.close()


def test_full_disk_is_named_though_lmdb_says_io_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("king.disk.free_bytes", lambda _: 0)
    log = make_lmdb(tmp_path)
    log._env = _Broken(log._env, lmdb.DiskError("mdb_txn_commit: Input/output error"))
    with pytest.raises(LogFailed) as caught:
        log.append(1, [row(1)])
    assert caught.value.code == "disk-full"
    log.close()


def test_failed_settle_poisons_too(tmp_path: Path) -> None:
    log = make_lmdb(tmp_path)
    log._env = _Broken(log._env, lmdb.DiskError("mdb_txn_commit: Input/output error"))
    with pytest.raises(LogFailed):
        log.settle()
    with pytest.raises(LogFailed):
        log.read(1)
    log.close()


def test_limits_full_map_grows_and_loses_nothing(tmp_path: Path) -> None:
    create_store(tmp_path, META, map_size=1 << 20)
    log = LmdbStore(tmp_path, map_size=1 << 20)
    rows = [Row(n, Jam(b"x" * 40_000)) for n in range(1, 101)]
    log.append(1, rows[:10])
    log.append(11, rows[10:])
    assert log.last == 100
    assert log.read(1) == rows
    log.close()


def test_existing_event_is_never_overwritten(tmp_path: Path) -> None:
    log = make_lmdb(tmp_path)
    log.append(1, [row(1), row(2)])
    log.last = 1  # as if we had lost count
    with pytest.raises(LogFailed):
        log.append(2, [Row(9, Jam(b"other"))])
    log.close()
    again = LmdbStore(tmp_path, map_size=MAP_SIZE)
    assert again.read(2) == [row(2)]
    again.close()


# --- bytes on disk ----------------------------------------------------------


def test_rows_are_in_the_byte_layout_of_the_specification(tmp_path: Path) -> None:
    log = make_lmdb(tmp_path)
    log.append(1, [Row(0x1F9C3AB4, Jam(b"\x01\x02\x03"))])
    log.close()
    with lmdb.open(str(tmp_path), readonly=True, lock=False, max_dbs=2) as env:
        with env.begin() as txn:
            assert [bytes(k) for k, _ in txn.cursor()] == [b"EVENTS", b"META"]
        events = env.open_db(b"EVENTS", integerkey=True, create=False)
        meta = env.open_db(b"META", create=False)
        with env.begin() as txn:
            assert list(txn.cursor(events)) == [
                (struct.pack("<Q", 1), b"\xb4\x3a\x9c\x1f\x01\x02\x03")
            ]
            assert txn.stat(events)["entries"] == 1
            assert dict(txn.cursor(meta)) == {
                b"version": b"\x03",
                b"who": b"\x00\x01",
                b"fake": b"",
                b"life": b"\x02",
            }


def test_meta_round_trips_and_strips_zeros(tmp_path: Path) -> None:
    for meta in (
        Meta(0, True, 1),
        Meta((1 << 128) - 1, False, (1 << 31) - 1),
        Meta(1 << 64, False, 256, version=1),
    ):
        rows = encode_meta(meta)
        assert all(not value.endswith(b"\0") for value in rows.values())
        assert decode_meta(rows, tmp_path) == meta


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({b"who": None}, "meta-bad"),
        ({b"version": None}, "meta-bad"),
        ({b"version": b""}, "meta-bad"),
        ({b"version": b"\x04"}, "log-newer"),
        ({b"who": b"x" * 17}, "meta-bad"),
        ({b"fake": b"\x02"}, "meta-bad"),
        ({b"life": b"\0\0\0\x80"}, "meta-bad"),
        ({b"life": b"\1\1\1\1\1"}, "meta-bad"),
    ],
)
def test_meta_faults_are_named(
    tmp_path: Path, change: dict[bytes, bytes | None], code: str
) -> None:
    rows = {**encode_meta(META), **change}
    kept = {key: value for key, value in rows.items() if value is not None}
    with pytest.raises(TreadleError) as caught:
        decode_meta(kept, tmp_path)
    assert caught.value.code == code


def put_raw(path: Path, number: int, value: bytes | None) -> None:
    with lmdb.open(str(path), max_dbs=2, map_size=MAP_SIZE) as env:
        events = env.open_db(b"EVENTS", integerkey=True)
        with env.begin(write=True, db=events) as txn:
            key = struct.pack("<Q", number)
            if value is None:
                txn.delete(key)
            else:
                txn.put(key, value)


def test_hole_names_what_was_expected_and_found(tmp_path: Path) -> None:
    log = make_lmdb(tmp_path)
    log.append(1, [row(n) for n in range(1, 11)])
    log.close()
    put_raw(tmp_path, 5, None)
    log = LmdbStore(tmp_path, map_size=MAP_SIZE)
    assert len(log.read(1, rows_max=4)) == 4
    with pytest.raises(TreadleError, match="expected event 5, found event 6") as caught:
        log.read(1)
    assert caught.value.code == "log-gap"
    log.close()


def test_hole_is_refused_without_reading_the_log(tmp_path: Path) -> None:
    log = make_lmdb(tmp_path)
    log.append(1, [row(n) for n in range(1, 11)])
    log.check_count()
    log.close()
    put_raw(tmp_path, 7, None)
    log = LmdbStore(tmp_path, map_size=MAP_SIZE)
    with pytest.raises(TreadleError, match="expected event 7, found event 8") as caught:
        log.check_count()
    assert caught.value.code == "log-gap"
    log.close()


@pytest.mark.parametrize("value", [b"", b"\1\2\3\4"])
def test_value_without_a_jam_is_refused(tmp_path: Path, value: bytes) -> None:
    log = make_lmdb(tmp_path)
    log.append(1, [row(1), row(2)])
    log.close()
    put_raw(tmp_path, 2, value)
    log = LmdbStore(tmp_path, map_size=MAP_SIZE)
    with pytest.raises(TreadleError) as caught:
        log.read(1)
    assert caught.value.code == "log-bad"
    log.close()


def test_read_only_touches_no_file(tmp_path: Path) -> None:
    log = make_lmdb(tmp_path)
    log.append(1, [row(1)])
    log.close()
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    log = LmdbStore(tmp_path, read_only=True)
    assert log.read(1) == [row(1)]
    log.settle()
    with pytest.raises(AssertionError):
        log.append(2, [row(2)])
    log.close()
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_garbage_instead_of_a_log_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(b"\x7fELF" + bytes(20_000))
    with pytest.raises(TreadleError) as caught:
        LmdbStore(tmp_path, read_only=True)
    assert caught.value.code == "log-bad"


def test_machine_that_refuses_the_map_gets_a_smaller_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_store(tmp_path, META, map_size=MAP_SIZE)
    asked: list[int] = []
    real = lmdb.open

    def small(path: str, **options: int) -> lmdb.Environment:
        asked.append(options["map_size"])
        if options["map_size"] > 128 << 30:
            raise lmdb.MemoryError("mmap: Cannot allocate memory")
        return real(path, **options)

    monkeypatch.setattr(store.lmdb, "open", small)
    LmdbStore(tmp_path).close()
    assert asked == [1 << 40, 512 << 30, 256 << 30, 128 << 30]


def test_foreign_lmdb_library_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store.lmdb, "version", lambda: (1, 0, 0))
    with pytest.raises(TreadleError) as caught:
        store.check_lmdb_version()
    assert caught.value.code == "lmdb-version"
