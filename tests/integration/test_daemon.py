"""A ship from start to end, with the real serf and a toy kernel."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.ship import ROOT, Ship, boot, treadle
from tests.support.whole_ship import alive, wait_for


@pytest.fixture
def pier(tmp_path: Path) -> Path:
    path = tmp_path / "zod"
    boot(path, pill="counter.pill")
    return path


def test_a_ship_lives_and_stops(pier: Path) -> None:
    with Ship(pier) as ship:
        assert ship.recovery["log"]["last"] == 9
        assert ship.recovery["effects_unsure"] is None
        status = ship.status()
        assert status["state"] == "live"
        assert status["ship"] == "~zod"
        assert status["pid_king"] == ship.process.pid
        assert os.path.exists(f"/proc/{status['pid_serf']}")
        assert {"behn", "conn", "http", "term"} == set(status["drivers"])
        before = status["event"]
        poke = treadle("poke", str(pier), "/x/test", "hello", "5")
        assert poke.returncode == 0, poke.stderr
        assert ship.status()["event"] == before + 1
        assert ship.status()["mug"] != status["mug"]
        code, errors = ship.stop()
        assert code == 0
        assert "SIGTERM: stopping" in errors
    assert not (pier / ".urb" / "conn.sock").exists()
    assert not (pier / ".http.ports").exists()
    rest = json.loads(treadle("status", str(pier), "--json").stdout)
    assert rest["state"] == "stopped"
    assert rest["event"] == before + 1
    assert rest["snapshot_event"] == rest["event"], "no snapshot at the end"
    assert treadle("check", str(pier)).returncode == 0


def test_crashes_of_the_kernel_are_events_or_nothing(pier: Path) -> None:
    with Ship(pier) as ship:
        before = ship.status()["event"]
        treadle("poke", str(pier), "/x/test", "boom", "0")
        assert ship.status()["event"] == before + 1, "a %crud takes its place"
        bust = treadle("poke", str(pier), "/x/test", "bust", "0")
        assert bust.returncode != 0
        status = ship.status()
        assert status["event"] == before + 1
        assert status["failed_events"] == 1


def test_a_killed_serf_is_replaced(pier: Path) -> None:
    with Ship(pier) as ship:
        first = ship.status()
        os.kill(first["pid_serf"], signal.SIGKILL)
        poke = treadle("poke", str(pier), "/x/test", "hello", "0")
        assert poke.returncode == 0, poke.stderr
        status = ship.status()
        assert status["pid_serf"] != first["pid_serf"]
        assert status["event"] == first["event"] + 1
        code, errors = ship.stop()
        assert code == 0
        assert "killed by SIGKILL" in errors


def test_the_serf_of_a_killed_king_leaves(pier: Path) -> None:
    with Ship(pier) as ship:
        serf = ship.status()["pid_serf"]
        ship.kill()
        wait_for(lambda: not alive(serf), "the orphan leaves")
    with Ship(pier) as ship:
        assert not ship.recovery["clean"]
        assert ship.recovery["effects_unsure"] is None


def test_effects_lost_with_the_king_are_named(pier: Path) -> None:
    with Ship(pier, wait=False, TREADLE_FAILPOINTS="release.before=kill@3") as ship:
        assert ship.end()[0] == -9
    with Ship(pier) as ship:
        first, last = ship.recovery["effects_unsure"]
        assert 9 < first <= last == ship.recovery["log"]["last"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGTERM])
def test_signals_end_it_gracefully(pier: Path, number: int) -> None:
    with Ship(pier) as ship:
        began = time.monotonic()
        assert ship.stop(number)[0] == 0
        assert time.monotonic() - began < 10
    with Ship(pier) as ship:
        assert ship.recovery["clean"]
        assert ship.recovery["replayed"]["events"] == 0


def test_stop_over_the_socket(pier: Path) -> None:
    with Ship(pier) as ship:
        assert treadle("stop", str(pier)).returncode == 0
        assert ship.end()[0] == 0


def test_a_second_king_is_refused(pier: Path) -> None:
    with Ship(pier) as ship:
        second = treadle("run", str(pier), "--headless")
        assert second.returncode == 3
        assert "pier-locked" in second.stderr
        assert ship.status()["state"] == "live"


def test_a_failed_commit_ends_with_the_codes_of_the_log(pier: Path) -> None:
    with Ship(pier, wait=False, TREADLE_FAILPOINTS="commit.before=raise@3") as ship:
        code, errors = ship.end()
    assert code == 4
    assert "log-failed" in errors
    with Ship(pier) as ship:
        assert ship.status()["state"] == "live"


def test_replay_from_scratch_reaches_the_same_mug(pier: Path) -> None:
    with Ship(pier) as ship:
        for _ in range(3):
            treadle("poke", str(pier), "/x/test", "hello", "0")
        status = ship.status()
        ship.stop()
    result = treadle("replay", str(pier), "--from-scratch", "--json")
    value = json.loads(result.stdout.splitlines()[-1])
    assert (value["event"], value["mug"]) == (status["event"], status["mug"])
    until = treadle("replay", str(pier), "--from-scratch", "--until", "10", "--json")
    assert json.loads(until.stdout)["event"] == 10
    with Ship(pier) as ship:
        assert ship.recovery["snapshot"]["event"] == status["event"]


def test_a_run_without_a_terminal_is_headless(pier: Path) -> None:
    words = [sys.executable, "-m", "king", "run", str(pier), "--http-port", "0"]
    process = subprocess.Popen(
        words, cwd=ROOT, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        assert any("): live" in line for line in process.stderr)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()
