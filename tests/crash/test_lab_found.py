"""What the lab found in treadle, each as small as it could be made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import trio

from king.daemon import _Ship
from king.errors import TreadleError
from tests.support.whole_ship import WholeShip, boot


@pytest.fixture
def ship(tmp_path: Path) -> Iterator[WholeShip]:
    with boot(tmp_path / "zod") as made:
        yield made


def test_a_socket_that_cannot_be_removed_does_not_spoil_the_end(
    ship: WholeShip,
) -> None:
    """EROFS at the unlink of conn.sock: the king ended with a traceback."""
    ship.start()
    socket = ship.layout.conn_socket
    socket.unlink()
    socket.mkdir()
    assert ship.stop() == 0, ship.words
    assert "Traceback" not in ship.words
    socket.rmdir()
    ship.start()
    assert ship.recovery["clean"]
    assert ship.stop() == 0


async def test_a_driver_that_ends_before_it_is_live_is_no_crash_of_a_failed_ship() -> (
    None
):
    """EIO at a commit of a born event: the driver ended before it was live,
    and the king told that with a traceback beside the fault."""
    told: list[str] = []

    class Failed(_Ship):
        def __init__(self) -> None:
            self._running, self.live_drivers = set(), set()
            self._stop = trio.Event()
            self.spine = SimpleNamespace(fault=TreadleError("log-failed", "EIO"))
            self.fault = self.terminal = self._startup = None

        def log(self, text: str, *, priority: int = 0) -> None:
            told.append(text)

    async def ends_at_once(*, task_status: object) -> None:
        pass

    ship = Failed()
    await ship._run_driver("behn", ends_at_once, trio.Event())
    assert told == []
    assert ship.fault is None
    ship.spine.fault = None
    await ship._run_driver("behn", ends_at_once, trio.Event())
    assert "Traceback" in "".join(told), "a real crash is told as before"


async def test_a_driver_that_comes_after_the_end_is_not_started() -> None:
    """ENOSPC at a commit while the drivers came up: those that were started
    after it never heard of the end, and the king waited five seconds for them."""

    class Ending(_Ship):
        def __init__(self) -> None:
            self._stop = trio.Event()
            self._running = set()
            self.lanes = {"behn": SimpleNamespace(offered=0)}

    async def never_ends(*, task_status: object) -> None:
        raise AssertionError("it was started")

    ship = Ending()
    ship._stop.set()
    async with trio.open_nursery() as nursery:
        ship._drivers = nursery
        await ship._launch("behn", never_ends)
    assert not ship._running
