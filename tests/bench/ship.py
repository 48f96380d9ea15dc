"""Ships for the bench: boot one, run one, wait until it answers.

All through the command line, as a person would; only the waiting is closer.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from king.client import connect_unix
from king.pier import Layout
from tests.bench.client import ask_one
from tests.bench.machine import ROOT

__all__ = ["Ship", "alone", "boot", "drive", "inside", "running", "treadle"]

LIGHT = ROOT / "tests/conformance/vere/pills/light.pill"
_START_S = 120.0


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", *words]


def treadle(*words: str) -> dict[str, Any]:
    """One command with --json; its last line."""
    done = subprocess.run(
        [*command("king"), *words, "--json"], cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"bench: treadle {' '.join(words)}: {done.stderr}")
    value: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return value


def boot(pier: Path, *, light: bool = False) -> float:
    """A fresh ~zod; seconds of the whole command."""
    pill = ["--pill", str(LIGHT)] if light else []
    begun = time.perf_counter()
    treadle("boot", str(pier), "--fake", "zod", "--no-run", *pill)
    return time.perf_counter() - begun


class Ship:
    """A king in a process of its own, and the way to its socket."""

    def __init__(self, pier: Path) -> None:
        self.pier = pier
        self.socket = Layout(pier).conn_socket
        self.socket.unlink(missing_ok=True)
        self.words = pier.parent / f"{pier.name}.log"
        out = os.open(self.words, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC)
        self.begun = time.perf_counter()
        self.process = subprocess.Popen(
            [*command("king"), "run", str(pier), "--headless", "--http-port", "0"],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        os.close(out)

    def first_event(self) -> float:
        """Seconds from the start to the first event acknowledged."""
        end = self.begun + _START_S
        while time.perf_counter() < end and self.process.poll() is None:
            try:
                with connect_unix(str(self.socket), _START_S) as stream:
                    ask_one(stream)
                    return time.perf_counter() - self.begun
            except (FileNotFoundError, ConnectionRefusedError):
                time.sleep(0.001)
        raise SystemExit(f"bench: {self.pier} did not start: {self.words.read_text()}")

    def connect(self) -> socket.socket:
        return connect_unix(str(self.socket), _START_S)

    def resident_mb(self) -> tuple[float, float, float]:
        """Memory of the king, of the serf, and what of the serf's is in no file."""
        king = self.process.pid
        serfs: list[int] = []
        for task in Path(f"/proc/{king}/task").iterdir():
            serfs += map(int, (task / "children").read_text().split())
        (serf,) = serfs
        return _status_mb(king, "VmRSS"), *(
            _status_mb(serf, key) for key in ("VmRSS", "RssAnon")
        )

    def kill(self) -> None:
        """SIGKILL; the serf then leaves by itself."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self._wait_unlocked()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(120)

    def _wait_unlocked(self) -> None:
        """The serf holds the lock until it is gone."""
        from king.pier import who_locks

        end = time.perf_counter() + 10
        while who_locks(Layout(self.pier)) and time.perf_counter() < end:
            time.sleep(0.002)


def _status_mb(pid: int, key: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return int(value.split()[0]) * 1_024 / 1e6
    raise SystemExit(f"bench: no {key} of process {pid}")


@contextmanager
def running(pier: Path) -> Iterator[Ship]:
    ship = Ship(pier)
    try:
        ship.first_event()
        yield ship
    finally:
        with contextlib.suppress(ProcessLookupError):
            ship.stop()


def drive(ship: Ship, window: int, seconds: float, kind: str) -> dict[str, Any]:
    """Load from a client process; what it saw."""
    words = [str(ship.socket), str(window), f"{seconds}", f"{seconds / 4}", kind]
    return _json_of(command("tests.bench.client", *words))


def inside(pier: Path, *words: str) -> dict[str, Any]:
    """Work inside a king without drivers: see tests/bench/inside.py."""
    return _json_of(command("tests.bench.inside", str(pier), *words))


def alone(*words: str) -> dict[str, Any]:
    """A core in a process of its own: see tests/bench/alone.py."""
    return _json_of(command("tests.bench.alone", *words))


def _json_of(words: list[str]) -> dict[str, Any]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        words, cwd=ROOT, capture_output=True, text=True, env=environment
    )
    if done.returncode:
        raise SystemExit(f"bench: {' '.join(words[2:])}: {done.stderr}")
    value: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return value
