"""The hash chain: what changed is found and named; what tears is made up for."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import lmdb
import pytest

from king.errors import LogFailed, TreadleError
from king.log import chain
from king.log import epoch as epochs
from king.log.chain import (
    NO_LINK,
    Chain,
    ChainFile,
    Checked,
    check_rows,
    create_chain,
    head_is_damaged,
    read_chain,
)
from king.log.epoch import Log, create_log, open_log
from king.log.start import Start, image_of, write_start
from king.log.store import LmdbStore, MemoryLog, Meta
from king.log.verify import verify_log
from proto.message import Jam, Row
from tests.support.golden import unpack

META = Meta(who=2, fake=True, life=1)
MAP_SIZE = 1 << 26


@pytest.fixture(autouse=True)
def short_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain, "STRETCH_ROWS", 10)
    monkeypatch.setattr(epochs, "STRETCH_ROWS", 10)


def rows(first: int, last: int) -> list[Row]:
    return [
        Row(n * 77 % (1 << 31), Jam(b"job %d." % n)) for n in range(first, last + 1)
    ]


def values(some: list[Row]) -> list[bytes]:
    return [row.mug.to_bytes(4, "little") + row.job for row in some]


def found_in(path: Path) -> ChainFile:
    found = read_chain(path)
    assert found is not None
    return found


def chained(path: Path, last: int, batch: int = 3) -> ChainFile:
    create_chain(path, 0, NO_LINK)
    writer = Chain(path, found_in(path))
    for first in range(1, last + 1, batch):
        writer.add(values(rows(first, min(first + batch - 1, last))))
    writer.seal()
    writer.close()
    return found_in(path)


def check(found: ChainFile, some: list[Row]) -> Checked:
    log = MemoryLog(META, some)
    return check_rows(found, log.last, log.read)


@pytest.mark.parametrize("batch", [1, 3, 10, 11, 64])
def test_the_chain_depends_on_the_rows_alone(tmp_path: Path, batch: int) -> None:
    found = chained(tmp_path / "chain", 64, batch)
    assert found == chained(tmp_path / "other", 64, 7)
    assert found.last == 64
    assert [anchor.last for anchor in found.anchors] == [10, 20, 30, 40, 50, 60, 64]
    assert not check(found, rows(1, 64)).faults


CHANGES: dict[str, Callable[[list[Row]], object]] = {
    "a byte of a job": lambda r: r.__setitem__(24, Row(r[24].mug, Jam(b"job 25,"))),
    "a mug": lambda r: r.__setitem__(24, Row(r[24].mug ^ 1, r[24].job)),
    "a byte less": lambda r: r.__setitem__(24, Row(r[24].mug, Jam(r[24].job[:-1]))),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changed_is_named(tmp_path: Path, change: str) -> None:
    found = chained(tmp_path / "chain", 64)
    some = rows(1, 64)
    CHANGES[change](some)
    checked = check(found, some)
    assert checked.bad_events == [25]
    assert "event 25:" in checked.faults[0]


def test_rows_that_changed_places_are_named(tmp_path: Path) -> None:
    found = chained(tmp_path / "chain", 64)
    some = rows(1, 64)
    some[24], some[31] = some[31], some[24]
    assert check(found, some).bad_events == [25, 32]


def test_bytes_that_moved_to_the_next_row_are_found(tmp_path: Path) -> None:
    """The same stream of bytes, cut elsewhere."""
    found = chained(tmp_path / "chain", 20)
    some = rows(1, 20)
    mug = some[4].mug.to_bytes(4, "little")
    moved = some[3].job + mug + some[4].job
    some[3] = Row(some[3].mug, Jam(moved[:-8]))
    some[4] = Row(int.from_bytes(moved[-8:-4], "little"), Jam(moved[-4:]))
    assert b"".join(values(some)) == b"".join(values(rows(1, 20)))
    assert check(found, some).bad_events == [4, 5]


def test_a_missing_row_is_named(tmp_path: Path) -> None:
    found = chained(tmp_path / "chain", 64)
    log = MemoryLog(META, rows(1, 44))
    checked = check_rows(found, 64, log.read)
    assert checked.bad_events[0] == 45


def test_a_change_with_care_is_found_by_the_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the adler32 agree, the stretch is named."""
    monkeypatch.setattr(chain.zlib, "adler32", lambda _: 7)
    found = chained(tmp_path / "chain", 64)
    some = rows(1, 64)
    CHANGES["a byte of a job"](some)
    (fault,) = check(found, some).faults
    assert "events 21 to 30" in fault


def test_a_changed_link_breaks_the_next_stretch(tmp_path: Path) -> None:
    path = tmp_path / "chain"
    found = chained(path, 30)
    forged = ChainFile(0, bytes(31) + b"\1", found.anchors, found.size)
    (fault,) = check(forged, rows(1, 30)).faults
    assert "events 1 to 10" in fault


def test_a_torn_file_is_made_up_for_from_the_rows(tmp_path: Path) -> None:
    path = tmp_path / "chain"
    whole = chained(path, 35)
    data = path.read_bytes()
    log = MemoryLog(META, rows(1, 35))
    for size in range(0, len(data), 5):
        for tail in (b"", bytes(60), b"\xff" * 9):
            path.write_bytes(data[:size] + tail)
            found = read_chain(path)
            if found is None:
                assert size < 52
                continue
            assert found.anchors == whole.anchors[: len(found.anchors)]
            writer = Chain(path, found)
            writer.catch_up(35, log.read)
            writer.close()
            assert found_in(path) == whole


def test_a_flipped_bit_of_the_file_is_no_anchor(tmp_path: Path) -> None:
    path = tmp_path / "chain"
    whole = chained(path, 35)
    data = path.read_bytes()
    for at in range(0, len(data), 7):
        path.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        found = read_chain(path)
        assert found is None or found.anchors == whole.anchors[: len(found.anchors)]
        assert found is None or len(found.anchors) < len(whole.anchors)
        # No power cut leaves it so.
        assert found.damaged if found is not None else head_is_damaged(path)


def test_what_a_power_cut_leaves_is_no_damage(tmp_path: Path) -> None:
    """Sectors of what was appended are there, or zeros, or beyond the end."""
    path = tmp_path / "chain"
    chained(path, 200)
    data = path.read_bytes()
    for size in range(0, len(data), 512):
        for tail in (b"", bytes(512), bytes(512) + data[size + 512 :]):
            path.write_bytes(data[:size] + tail)
            found = read_chain(path)
            assert not (found.damaged if found is not None else head_is_damaged(path))


# --- of a log ----------------------------------------------------------------


def new_log(path: Path, last: int = 5) -> Log:
    create_log(path, META, rows(1, last), "treadle-test", map_size=MAP_SIZE)
    log = open_log(path, map_size=MAP_SIZE)
    log.settle()
    return log


def roll(log: Log) -> int | None:
    log.prepare_roll("treadle-test")
    return log.roll()


def test_the_chain_goes_on_over_starts_and_rolls(tmp_path: Path) -> None:
    log = new_log(tmp_path / "log")
    log.append(6, rows(6, 18))
    log.close()
    log = open_log(tmp_path / "log", map_size=MAP_SIZE)
    log.settle()
    log.append(19, rows(19, 40))
    assert roll(log) == 40
    log.append(41, rows(41, 55))
    log.close()
    first, second = (found_in(epoch.chain_path) for epoch in log.epochs)
    assert (first.last, second.last) == (40, 55)
    assert second.base == first.link
    everything = MemoryLog(META, rows(1, 55))
    assert not check_rows(first, 40, everything.read).faults
    assert not check_rows(second, 55, everything.read).faults


def test_a_kill_costs_the_chain_nothing(tmp_path: Path) -> None:
    log = new_log(tmp_path / "log")
    log.append(6, rows(6, 27))
    shutil.copytree(tmp_path / "log", tmp_path / "killed")
    log.close()
    killed = open_log(tmp_path / "killed", map_size=MAP_SIZE)
    assert found_in(killed.epochs[0].chain_path).last == 20
    killed.settle()
    killed.close()
    assert found_in(killed.epochs[0].chain_path).last == 27


@pytest.mark.parametrize("how", ["gone", "empty", "zeros"])
def test_a_chain_that_a_power_cut_took_is_made_again(tmp_path: Path, how: str) -> None:
    log = new_log(tmp_path / "log")
    roll(log)
    log.append(6, rows(6, 27))
    log.close()
    path = log.epochs[1].chain_path
    before = found_in(path)
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(bytes(80) if how == "zeros" else b"")
    log = open_log(tmp_path / "log", map_size=MAP_SIZE)
    log.settle()
    log.close()
    assert found_in(path).base == before.base
    assert found_in(path).link == before.link


def test_a_chain_that_lost_much_is_told(tmp_path: Path) -> None:
    log = new_log(tmp_path / "log", 60)
    log.close()
    path = log.epochs[0].chain_path
    before = found_in(path)
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(data)
    log = open_log(tmp_path / "log", map_size=MAP_SIZE)
    log.settle()
    assert "was damaged after event 10: it is made again" in log.notes[0]
    log.close()
    assert found_in(path) == before


@pytest.mark.parametrize("at", [9, 60, 200, -3])
def test_a_changed_chain_is_told_as_damage(tmp_path: Path, at: int) -> None:
    """And not as one that is not anchored yet, however little of it is gone."""
    log = new_log(tmp_path / "log", 25)
    log.close()
    path = log.epochs[0].chain_path
    data = bytearray(path.read_bytes())
    data[at] ^= 16
    path.write_bytes(data)
    log = open_log(tmp_path / "log", read_only=True)
    found = verify_log(log)
    log.close()
    assert not found["ok"]
    assert "its chain is damaged" in found["epochs"][0]["faults"][0]
    log = open_log(tmp_path / "log", map_size=MAP_SIZE)
    log.settle()
    assert "was damaged" in log.notes[0]
    log.close()


def test_the_record_of_an_epoch_knows_how_its_chain_began(tmp_path: Path) -> None:
    """The epochs before are gone, and the chain is lost."""
    log = new_log(tmp_path / "log")
    for first in (6, 11):
        roll(log)
        log.append(first, rows(first, first + 4))
    log.take_oldest()
    log.close()
    epoch = log.epochs[0]
    before = found_in(epoch.chain_path)
    for other in log.epochs:
        link = found_in(other.chain_path).base.hex()
        image_of(other).write_bytes(b"")
        write_start(
            other,
            Start(other.start, other.start, "0", 0, "", "", "", link, "test", 0.0),
        )
        other.chain_path.unlink()
    log = open_log(tmp_path / "log", map_size=MAP_SIZE)
    log.settle()
    log.close()
    assert found_in(epoch.chain_path) == before


def test_the_epochs_of_vere_are_chained_when_they_are_continued(
    tmp_path: Path,
) -> None:
    log_dir = unpack("epochs", tmp_path) / ".urb/log"
    open_log(log_dir, read_only=True).settle()
    assert not list(log_dir.rglob("treadle.chain"))
    log = open_log(log_dir)
    log.settle()
    log.close()
    first, second = (found_in(epoch.chain_path) for epoch in log.epochs)
    assert (first.start, first.base) == (0, NO_LINK)
    assert (second.base, second.last) == (first.link, log.last)


def test_a_log_that_is_shorter_than_its_chain_is_told(tmp_path: Path) -> None:
    new_log(tmp_path / "log", 30).close()
    data = tmp_path / "log/0i0/data.mdb"
    old = Path(shutil.copyfile(data, tmp_path / "old.mdb"))
    log = open_log(tmp_path / "log", map_size=MAP_SIZE)
    log.settle()
    log.append(31, rows(31, 60))
    log.close()
    shutil.copyfile(old, data)
    log = open_log(tmp_path / "log", map_size=MAP_SIZE)
    log.settle()
    assert "events were lost" in log.notes[0]
    log.append(31, rows(31, 33))
    log.close()
    found = found_in(log.epochs[0].chain_path)
    assert found.last == 33
    assert not check(found, rows(1, 33)).faults


def test_a_chain_that_cannot_be_written_stops_no_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = new_log(tmp_path / "log")

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(chain.os, "write", full)
        log.append(6, rows(6, 40))
        assert log.last == 40
        assert "No space" in log.chain_fault
    assert roll(log) == 40  # there is room again: the chain was made up for
    assert not log.chain_fault
    log.close()
    first, second = (found_in(epoch.chain_path) for epoch in log.epochs)
    assert (first.last, second.base) == (40, first.link)
    assert not check(first, rows(1, 40)).faults


def test_the_chain_goes_on_by_itself_when_the_disk_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = new_log(tmp_path / "log")
    path = log.epochs[0].chain_path
    now = [1000.0]
    monkeypatch.setattr(epochs, "monotonic", lambda: now[0])
    real_write = os.write

    def half(descriptor: int, data: memoryview) -> int:
        if len(data) < 60:
            raise OSError(5, "Input/output error")
        return real_write(descriptor, data[:50])

    with monkeypatch.context() as patch:
        patch.setattr(chain.os, "write", half)
        log.append(6, rows(6, 40))
        assert "Input/output" in log.chain_fault
        assert not found_in(path).damaged, "half an anchor was taken back"
        now[0] += 60
        log.append(41, rows(41, 60))
        assert "Input/output" in log.chain_fault
    log.append(61, rows(61, 62))
    assert log.chain_fault, "not at each commit"
    now[0] += 60
    log.append(63, rows(63, 75))
    assert not log.chain_fault
    log.append(76, rows(76, 80))
    log.close()
    assert found_in(path).last == 80
    assert not check(found_in(path), rows(1, 80)).faults


def test_after_a_failed_sync_all_of_the_chain_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = new_log(tmp_path / "log", 35)
    path = log.epochs[0].chain_path

    def fails(_: int) -> None:
        raise OSError(5, "Input/output error")

    log.prepare_roll("treadle-test")
    with monkeypatch.context() as patch:
        patch.setattr(chain.os, "fsync", fails)
        with pytest.raises(TreadleError):
            log.roll()
    data = path.read_bytes()
    path.write_bytes(data[:52] + bytes(len(data) - 52))  # it never got there
    log.append(36, rows(36, 36))
    assert "Input/output" in log.chain_fault
    assert roll(log) == 36
    log.close()
    assert found_in(path).last == 36
    assert not check(found_in(path), rows(1, 36)).faults


def test_what_was_not_committed_is_not_chained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = new_log(tmp_path / "log")

    def fail(*_: object) -> None:
        raise lmdb.DiskError("Input/output error")

    monkeypatch.setattr(LmdbStore, "_put", fail)
    with pytest.raises(LogFailed):
        log.append(6, rows(6, 40))
    log.close()
    assert found_in(log.epochs[0].chain_path).last == 5
