"""What events cost: a ring of records that are never taken for another's."""

from __future__ import annotations

import os
from pathlib import Path

from king.costs import EVENTS_MAX, Costs, read_costs
from tests.support.small_disk import filled, mounted

LOG = b"L" * 16


def test_what_was_noted_is_read(tmp_path: Path) -> None:
    path = tmp_path / "costs"
    costs = Costs(path, LOG)
    costs.note(5, [(100, 1), (200, 2), (1 << 60, 1 << 60)])
    costs.close()
    most = (1 << 40) - 1, (1 << 24) - 1
    assert read_costs(path, LOG, 4, 5) == [None, (100, 1), (200, 2), most, None]
    # Another run of the same log goes on; another log's begins anew.
    again = Costs(path, LOG)
    again.note(8, [(7, 7)])
    assert read_costs(path, LOG, 6, 3) == [(200, 2), most, (7, 7)]
    again.close()
    assert read_costs(path, b"M" * 16, 6, 3) == [None] * 3
    Costs(path, b"M" * 16).close()
    assert read_costs(path, LOG, 6, 3) == [None] * 3


def test_the_ring_goes_round(tmp_path: Path) -> None:
    path = tmp_path / "costs"
    costs = Costs(path, LOG)
    first = 3 * EVENTS_MAX - 2
    costs.note(first, [(n, n) for n in range(4)])
    assert read_costs(path, LOG, first, 4) == [(n, n) for n in range(4)]
    assert read_costs(path, LOG, first - EVENTS_MAX, 4) == [None] * 4
    assert path.stat().st_size <= 4096 + 16 * EVENTS_MAX
    costs.note(1, [(1, 1)] * (EVENTS_MAX + 1))
    assert read_costs(path, LOG, 1, 2) == [None, (1, 1)]
    costs.close()


def test_a_file_that_cannot_be_written_costs_nothing(tmp_path: Path) -> None:
    (tmp_path / "costs").mkdir()
    costs = Costs(tmp_path / "costs", LOG)
    costs.note(1, [(1, 1)])
    costs.close()
    assert read_costs(tmp_path / "none", LOG, 1, 1) == [None]
    (tmp_path / "short").write_bytes(os.urandom(30))
    assert read_costs(tmp_path / "short", LOG, 1, 2) == [None, None]


def test_a_full_disk_ends_the_notes_and_nothing_else(tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "1m") as disk:
        costs = Costs(disk / "costs", LOG)
        filled(disk)
        costs.note(100_000, [(1, 1)])
        costs.note(100_001, [(1, 1)])
        costs.close()
        assert read_costs(disk / "costs", LOG, 100_000, 2) == [None, None]
