"""Room that is kept for a full disk: really allocated, given back, taken again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from king.disk import free_bytes
from king.reserve import SHARE, START_ROOM, Reserve, give_back
from tests.support.small_disk import filled, mounted

SIZE = 1 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "small", "64m") as disk:
        yield disk


def allocated(path: Path) -> int:
    return path.stat().st_blocks * 512


def test_what_is_taken_is_allocated(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path / "reserve", SIZE)
    assert (reserve.held, reserve.missing) == (0, SIZE)
    reserve.take(1 << 40)
    assert not reserve.fault
    assert (reserve.held, reserve.missing) == (SIZE, 0)
    assert allocated(reserve.path) >= SIZE
    # The next run finds it; one that wants less or more takes that.
    assert Reserve(reserve.path, SIZE).missing == 0
    assert Reserve(reserve.path, SIZE // 2).missing == 0
    more = Reserve(reserve.path, 2 * SIZE)
    assert more.missing == SIZE
    more.take(1 << 40)
    assert allocated(reserve.path) >= 2 * SIZE


def test_it_is_given_back_only_where_it_is_needed(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path / "reserve", SIZE)
    assert not reserve.make_room(SIZE, 0), "there was none to give"
    reserve.take(1 << 40)
    assert not reserve.make_room(SIZE, SIZE)
    assert reserve.held == SIZE
    assert reserve.make_room(SIZE, SIZE - 1)
    assert reserve.held == 0
    assert allocated(reserve.path) == 0
    reserve.take(1 << 40)
    assert reserve.held == SIZE


def test_a_full_disk_has_room_when_it_is_given_back(small_disk: Path) -> None:
    reserve = Reserve(small_disk / "reserve", 2 * SIZE)
    reserve.take(free_bytes(small_disk))
    assert reserve.held == reserve.size == 2 * SIZE == (64 << 20) // SHARE
    filler = filled(small_disk)
    assert free_bytes(small_disk) == 0
    assert reserve.make_room(1, free_bytes(small_disk))
    assert free_bytes(small_disk) >= 2 * SIZE
    (small_disk / "work").write_bytes(bytes(SIZE // 2))
    # Now it cannot be whole: it holds what there is, but for the next start's.
    reserve.take(free_bytes(small_disk))
    assert reserve.fault == ""
    assert reserve.held == allocated(reserve.path) == SIZE // 2
    assert free_bytes(small_disk) == START_ROOM
    filler.unlink()
    reserve.take(free_bytes(small_disk))
    assert reserve.held == 2 * SIZE


def test_room_that_somebody_else_took_first(small_disk: Path) -> None:
    reserve = Reserve(small_disk / "reserve", SIZE)
    filled(small_disk)
    reserve.take(1 << 40)
    assert (reserve.held, reserve.fault, reserve.missing) == (0, "", SIZE)
    assert free_bytes(small_disk) == 0


def test_a_small_disk_is_not_eaten_up(small_disk: Path) -> None:
    assert Reserve(small_disk / "reserve", 1 << 30).size == (64 << 20) // SHARE


def test_a_filesystem_that_allocates_nothing_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What glibc does where a filesystem cannot: it writes, and the blocks are
    compressed away."""
    monkeypatch.setattr(
        os, "posix_fallocate", lambda fd, at, size: os.ftruncate(fd, size)
    )
    reserve = Reserve(tmp_path / "reserve", SIZE)
    reserve.take(1 << 40)
    assert "does not set blocks aside" in reserve.fault
    assert (reserve.held, reserve.missing) == (0, 0)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious" * 1000)
    (tmp_path / "reserve").symlink_to(victim)
    reserve = Reserve(tmp_path / "reserve", SIZE)
    reserve.take(1 << 40)
    assert reserve.fault
    give_back(tmp_path / "reserve")
    assert victim.read_bytes() == b"precious" * 1000
