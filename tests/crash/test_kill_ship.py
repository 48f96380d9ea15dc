"""Kill king, serf or both under load, at random and at every failpoint.

Oracle: every PUT that was acknowledged is there after the restart; the log
has no hole (`treadle check`); every start recovers by itself. More rounds:
TREADLE_KILL_ROUNDS=200.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import threading
import time
from pathlib import Path

import pytest

from king.lab.recorder import read_recording
from proto.record import Action
from tests.support.recorded import check_recording, recording_of
from tests.support.ship import Ship, boot, request, treadle

ROUNDS = int(os.environ.get("TREADLE_KILL_ROUNDS", "9"))
POINTS = (
    "send.after",
    "commit.before",
    "commit.after",
    "release.before",
    "release.after",
)


class Putter(threading.Thread):
    """PUTs as fast as it can, and remembers what was acknowledged."""

    def __init__(self, port: int, name: str) -> None:
        super().__init__(daemon=True)
        self.port = port
        self.label = name
        self.acknowledged: list[str] = []
        self.halt = threading.Event()

    def run(self) -> None:
        number = 0
        while not self.halt.is_set():
            key = f"{self.label}-{number}"
            number += 1
            try:
                status, _ = request(self.port, "PUT", f"/kv/{key}", key.encode())
            except (OSError, http.client.HTTPException):
                return
            if status in (200, 201, 204):
                self.acknowledged.append(key)


def put_and_kill(
    ship: Ship, label: str, king: bool, serf: bool, after_s: float
) -> list[str]:
    port = ship.wait_http()
    putters = [Putter(port, f"{label}-{n}") for n in range(4)]
    for putter in putters:
        putter.start()
    time.sleep(after_s)
    with contextlib.suppress(ProcessLookupError):
        ship.kill(king=king, serf=serf)
    if not king:
        time.sleep(0.5)  # the king raises another serf, and goes on
    for putter in putters:
        putter.halt.set()
    for putter in putters:
        putter.join(30)
        assert not putter.is_alive()
    return [key for putter in putters for key in putter.acknowledged]


def check_all(ship: Ship, keys: list[str]) -> None:
    port = ship.wait_http()
    for key in keys:
        assert request(port, "GET", f"/kv/{key}") == (200, key.encode())


@pytest.mark.slow
def test_no_acknowledged_put_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = int(os.environ.get("TREADLE_SEED", str(random.randrange(1 << 32))))
    print(f"TREADLE_SEED={seed}")
    dice = random.Random(seed)
    pier = tmp_path / "zod"
    boot(pier)
    keys: list[str] = []
    for number in range(ROUNDS):
        with Ship(pier) as ship:
            check_all(ship, dice.sample(keys, min(30, len(keys))))
            king, serf = ((True, False), (False, True), (True, True))[number % 3]
            new = put_and_kill(ship, f"r{number}", king, serf, dice.uniform(0.05, 0.4))
            keys += new
            if not king:
                check_all(ship, new)
                code, errors = ship.stop()
                assert code == 0, errors
                assert "killed by SIGKILL" in errors
    with Ship(pier) as ship:
        check_all(ship, keys)
        assert ship.stop()[0] == 0
    assert keys, "nothing was acknowledged at all"
    check = treadle("check", str(pier), "--json")
    assert check.returncode == 0, check.stdout
    monkeypatch.setenv("TREADLE_RECORD", str(recording_of(pier)))
    again = treadle("replay", str(pier), "--from-scratch", "--json")
    assert again.returncode == 0, again.stderr
    check_recording(pier)
    serf = read_recording(recording_of(pier))[-1]
    assert serf.action is Action.DO_SAVE, "the replay noted nothing"


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_death_at_each_failpoint(tmp_path: Path, point: str) -> None:
    pier = tmp_path / "zod"
    boot(pier)
    with Ship(pier, TREADLE_FAILPOINTS=f"{point}=kill@40") as ship:
        port = ship.wait_http()
        putter = Putter(port, "a")
        putter.start()
        ship.process.wait(30)
        ship.end()
        putter.join(30)
    assert ship.process.returncode == -9
    with Ship(pier) as ship:
        assert not ship.recovery["clean"]
        check_all(ship, putter.acknowledged)
        assert ship.stop()[0] == 0
    with Ship(pier) as ship:
        assert ship.recovery["clean"]
        assert ship.recovery["effects_unsure"] is None
        assert ship.recovery["replayed"]["events"] == 0
        ship.stop()
