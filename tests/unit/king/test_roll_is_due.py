"""When an epoch should end, and when there is no room for it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from king import epochs
from king.config import RUNTIME, RollLimits
from king.epochs import check_room, roll_is_due
from king.errors import TreadleError
from king.log.epoch import Epoch
from king.pier import Layout

LIMITS = RollLimits(events=100, bytes=5000, days=2)


@pytest.fixture
def epoch(tmp_path: Path) -> Epoch:
    (tmp_path / "epoc.txt").write_text("2")
    return Epoch(40, tmp_path, 2, RUNTIME)


def test_an_epoch_ends_by_what_came_first(epoch: Epoch) -> None:
    assert roll_is_due(epoch, 139, 4999, LIMITS) == ""
    assert "100 events" in roll_is_due(epoch, 140, 0, LIMITS)
    assert "5,000 bytes" in roll_is_due(epoch, 41, 5000, LIMITS)
    then = time.time() - 2.5 * 86_400
    os.utime(epoch.path / "epoc.txt", (then, then))
    assert "2 days old" in roll_is_due(epoch, 41, 0, LIMITS)


def test_an_epoch_without_events_never_ends(epoch: Epoch) -> None:
    other = Epoch(40, epoch.path, 2, "4.6")
    assert roll_is_due(other, 40, 1 << 40, LIMITS) == ""


def test_another_runtime_ends_an_epoch(epoch: Epoch) -> None:
    other = Epoch(40, epoch.path, 2, "4.6")
    assert roll_is_due(other, 41, 0, LIMITS).startswith("4.6 made")


def test_no_limit_no_end(epoch: Epoch) -> None:
    other = Epoch(40, epoch.path, 2, "4.6")
    never = RollLimits(events=0, bytes=0, days=0, runtime=False)
    assert roll_is_due(other, 1 << 40, 1 << 50, never) == ""


def test_a_roll_without_room_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout(tmp_path)
    layout.image.parent.mkdir(parents=True)
    layout.image.write_bytes(bytes(1 << 20))
    layout.log_dir.mkdir()
    monkeypatch.setattr(epochs, "free_bytes", lambda _: 65 << 20)
    check_room(layout)
    monkeypatch.setattr(epochs, "free_bytes", lambda _: (65 << 20) - 4096)
    with pytest.raises(TreadleError) as caught:
        check_room(layout)
    assert caught.value.code == "disk-full"
