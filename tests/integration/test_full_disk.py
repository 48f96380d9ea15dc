"""A disk that fills up, a small tmpfs: named, nothing lost, well afterwards."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from king.boot import boot
from king.config import BootOptions
from king.disk import free_bytes
from king.errors import LogFailed, TreadleError
from king.log.epoch import open_log
from king.pier import Layout, Pier, open_pier
from proto.message import Jam, Row
from tests.support.golden import pill, unpack
from tests.support.small_disk import mounted


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 2 MiB; skipped where we may not mount one."""
    with mounted(tmp_path / "small", "2m") as disk:
        yield disk


def fill(disk: Path, leave: int = 0) -> Path:
    path = disk / "filler"
    with path.open("wb", buffering=0) as file:
        size = free_bytes(disk) - leave
        try:
            while size > 0:
                size -= file.write(bytes(min(size, 4096)))
        except OSError:
            pass
    return path


def test_full_disk_stops_the_log_and_loses_nothing(small_disk: Path) -> None:
    root = unpack("plain", small_disk)
    pier = open_pier(root)
    pier.log.settle()
    last = pier.log.last
    filler = fill(small_disk, leave=64 << 10)
    durable = last
    rows = [Row(1, Jam(b"x" * 3000))] * 4

    def append() -> None:
        nonlocal durable
        pier.log.append(durable + 1, rows)
        durable += len(rows)

    def append_for_ever() -> None:
        while durable < last + 1000:
            append()

    with pytest.raises(LogFailed) as caught:
        append_for_ever()
    assert caught.value.code == "disk-full"
    assert caught.value.exit_code == 7
    with pytest.raises(LogFailed):
        append()
    pier.close()
    # Space returns: the log is whole up to the last acknowledged event.
    filler.unlink()
    with open_pier(root) as pier:
        pier.log.settle()
        assert pier.log.last == durable
        assert pier.log.read(durable)
        pier.log.append(durable + 1, rows)
    log = open_log(Layout(root).log_dir, read_only=True)
    count = 1
    while found := log.read(count):
        count += len(found)
    assert count == durable + len(rows) + 1
    log.close()


def test_full_disk_refuses_to_open_a_pier_and_harms_nothing(small_disk: Path) -> None:
    root = unpack("plain", small_disk)
    filler = fill(small_disk)
    with pytest.raises(TreadleError) as caught:
        open_pier(root)
    assert caught.value.code == "disk-full"
    filler.unlink()
    with open_pier(root) as pier:
        assert pier.log.last == 66


def test_a_log_without_lock_files_is_not_called_damaged(small_disk: Path) -> None:
    """As a copy of a pier has none: to map new ones would be a SIGBUS."""
    root = unpack("plain", small_disk)
    for path in root.rglob("lock.mdb"):
        path.unlink()
    filler = fill(small_disk)
    with pytest.raises(TreadleError) as caught:
        open_log(Layout(root).log_dir)
    assert caught.value.code == "disk-full"
    filler.unlink()
    open_log(Layout(root).log_dir).close()


@pytest.mark.parametrize("leave_kib", [0, 16, 64, 128])
def test_boot_on_a_full_disk_leaves_nothing(small_disk: Path, leave_kib: int) -> None:
    filler = fill(small_disk, leave=leave_kib << 10)

    def no_serf(pier: Pier) -> tuple[int, int]:
        pier.layout.image.write_bytes(bytes(1 << 20))
        return pier.log.last, 1

    with pytest.raises(TreadleError) as caught:
        boot(
            BootOptions(pier=small_disk / "zod", ship=0, pill=pill("counter")), no_serf
        )
    assert caught.value.code == "disk-full"
    assert os.listdir(small_disk) == [filler.name]
