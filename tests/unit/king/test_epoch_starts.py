"""When an epoch should end, when there is no room for it, and from which epoch's
state a ship starts."""

from __future__ import annotations

import os
import time
import types
from pathlib import Path
from typing import Any

import pytest
import trio

from king import epochs
from king.config import RUNTIME, RollLimits
from king.epochs import check_room, roll_is_due, start_from_epochs
from king.errors import TreadleError
from king.log.epoch import Epoch
from king.log.start import Start, image_of, write_start
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


# --- from which state a ship starts ---------------------------------------------


class FakeLord:
    """A serf with a snapshot of this event."""

    def __init__(self, event: int) -> None:
        self.ripe = types.SimpleNamespace(event=event)
        self.dead = trio.Event()

    def kill(self, _: str) -> None:
        self.dead.set()


def keeping(folder: Path, start: int, identity: bytes = b"L" * 16) -> Epoch:
    path = folder / f"0i{start}"
    path.mkdir()
    epoch = Epoch(start, path, 2, RUNTIME)
    image_of(epoch).write_bytes(b"")
    write_start(
        epoch,
        Start(start, start, "0", 0, "", "", identity.hex(), "", RUNTIME, 0.0),
    )
    return epoch


@pytest.mark.parametrize(
    ("has", "bad", "taken"),
    [
        (95, (), []),  # the usual: its own snapshot is the newest
        (0, (), [60]),
        (59, (), [60]),
        (60, (), []),
        (0, (60,), [60, 30]),
        (30, (60,), [60]),
        (0, (60, 30), [60, 30]),
    ],
)
async def test_a_ship_starts_from_the_newest_good_state(
    has: int,
    bad: tuple[int, ...],
    taken: list[int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of its own log, and not from beyond its end."""
    now = [has]
    asked: list[int] = []
    told: list[str] = []

    async def start(_: bool) -> Any:
        return FakeLord(now[0])

    async def take(epoch: Epoch, image: Path, scratch: Path) -> None:
        asked.append(epoch.start)
        if epoch.start in bad:
            raise TreadleError("image-damaged", "a page is rotten")
        now[0] = epoch.start

    monkeypatch.setattr(epochs, "take_start", take)
    first = Epoch(0, tmp_path, 2, RUNTIME)  # nothing was chopped
    kept = [first, *(keeping(tmp_path, event) for event in (30, 60))]
    other = keeping(tmp_path, 70, b"M" * 16)
    beyond = keeping(tmp_path, 101)
    lord = await start_from_epochs(
        start,
        False,
        image=tmp_path / "image",
        scratch=tmp_path / "scratch",
        identity=b"L" * 16,
        epochs=[*kept, other, beyond],
        last=100,
        tell=told.append,
    )
    assert asked == taken
    assert lord.ripe is not None
    assert lord.ripe.event == max(has, *(e for e in (*taken, 0) if e not in bad))
    assert len(told) == len(taken)
