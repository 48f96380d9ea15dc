"""What the lab found in treadle, each as small as it could be made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

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
