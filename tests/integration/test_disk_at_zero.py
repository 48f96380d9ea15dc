"""A disk without a free byte, under load: nothing is lost, the ship can be asked,
saved, stopped and started on it, and goes on by itself when there is room."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from king.disk import free_bytes
from king.errors import TreadleError
from tests.support.small_disk import filled, mounted
from tests.support.whole_ship import WholeShip, boot, treadle, wait_for


@pytest.fixture(params=["tmpfs", "ext4"])
def small_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "small", "200m", request.param) as disk:
        yield disk


class Load:
    """PUTs as fast as they are answered; what was acknowledged, what refused."""

    def __init__(self, ship: WholeShip) -> None:
        self.port = ship.port
        self.acknowledged: dict[str, bytes] = {}
        self.refused: list[str | None] = []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        number = 0
        while not self.over.is_set():
            number += 1
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
            body = b"%d " % number * 2000
            connection.request("PUT", f"/kv/n{number % 40}", body)
            answer = connection.getresponse()
            answer.read()
            connection.close()
            if answer.status in (201, 204):
                self.acknowledged[f"n{number % 40}"] = body
            else:
                assert answer.status == 503
                self.refused.append(answer.headers["retry-after"])
                self.over.wait(0.01)

    def end(self) -> None:
        self.over.set()
        self.thread.join(30)
        assert not self.thread.is_alive()


def answers(ship: WholeShip) -> bool:
    assert ship.king is not None
    assert ship.king.poll() is None, ship.words
    try:
        return bool(ship.status())
    except TreadleError:
        return False


def test_zero_bytes_free_under_load(small_disk: Path) -> None:
    with boot(small_disk / "zod") as ship:
        ship.start("--reserve", "32M")
        held = wait_for(lambda: ship.status()["disk"]["reserve_bytes"], "a reserve")
        reserve = ship.layout.reserve
        assert reserve.stat().st_blocks * 512 >= held > 1 << 20
        load = Load(ship)
        wait_for(lambda: len(load.acknowledged) > 20, "some are taken")
        filler = filled(small_disk)
        wait_for(lambda: len(load.refused) > 5, "refusals")
        load.end()
        assert all(load.refused), "503 without Retry-After"
        # It is up, and says how it is.
        status = ship.status()
        assert status["refusing"] == "the disk is nearly full"
        assert status["disk"]["low"]
        assert "nearly full" in ship.words
        poke = treadle("poke", ship.pier, "/x/t", "hello")
        assert (poke.code, poke.fault) == (7, "disk-low")
        name, body = next(iter(load.acknowledged.items()))
        peek = treadle("peek", ship.pier, f"/x//kv/{name}", "--json")
        assert peek.code == 0
        assert treadle("check", ship.pier).code == 0
        # It can be stopped, with its snapshot; and started, and stopped again.
        assert ship.stop() == 0, ship.words
        assert "no snapshot" not in ship.words
        rest = treadle("status", ship.pier, "--json").json
        assert rest["snapshot_event"] == rest["event"]
        filled(small_disk)
        assert free_bytes(small_disk) < 1 << 16
        ship.launch("--reserve", "32M")
        wait_for(lambda: answers(ship), "an answer")
        assert ship.status()["disk"]["low"]
        assert treadle("peek", ship.pier, f"/x//kv/{name}").code == 0
        assert ship.stop() == 0, ship.words
        # Killed at zero bytes, it is as before, too.
        ship.launch("--reserve", "32M")
        wait_for(lambda: answers(ship), "an answer")
        ship.kill()
        ship.wait_free()
        ship.launch("--reserve", "32M")
        wait_for(lambda: answers(ship), "an answer")
        # Room: it comes to life by itself, and has its reserve again.
        (small_disk / "filler").unlink()
        wait_for(lambda: ship.status()["state"] == "live", "life")
        wait_for(lambda: ship.status()["disk"]["reserve_bytes"] == held, "a reserve")
        assert reserve.stat().st_blocks * 512 >= held
        ship.live = dict(ship.status())
        for name, body in load.acknowledged.items():
            assert ship.http("GET", f"/kv/{name}") == (200, body)
        assert ship.http("PUT", "/kv/new", b"x")[0] == 201
        assert ship.stop() == 0
        ship.check()
        filler.unlink(missing_ok=True)


def test_a_running_ship_goes_on_when_there_is_room(small_disk: Path) -> None:
    with boot(small_disk / "zod") as ship:
        ship.start("--reserve", "32M")
        wait_for(lambda: ship.status()["disk"]["reserve_bytes"], "a reserve")
        filler = filled(small_disk)
        wait_for(lambda: ship.http("PUT", "/kv/a", b"1")[0] == 503, "a refusal")
        filler.unlink()
        wait_for(lambda: ship.http("PUT", "/kv/a", b"1")[0] in (201, 204), "room")
        assert ship.stop() == 0
        assert ship.words.count("taking events") == 1  # all is heard once it has left
        ship.check()
