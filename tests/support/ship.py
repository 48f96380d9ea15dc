"""A ship in a process of its own, as people run it; for tests that kill it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.support.recorded import check_recording, recording_of

ROOT = Path(__file__).resolve().parents[2]


def treadle(*words: str, timeout_s: float = 60, **env: str) -> Any:
    """Run one command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "king", *words],
        cwd=ROOT,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def boot(pier: Path, *, pill: str | None = None) -> None:
    words = ["boot", str(pier), "--fake", "~zod", "--no-run"]
    if pill is not None:
        words += ["--pill", str(ROOT / "tests/conformance/vere/pills" / pill)]
    result = treadle(*words)
    assert result.returncode == 0, result.stderr


class Ship:
    """`treadle run --headless`, live when the constructor returns."""

    def __init__(self, pier: Path, *words: str, wait: bool = True, **env: str) -> None:
        self.pier = pier
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "king", "run", str(pier)),
                *("--headless", "--json", "--http-port", "0", *words),
            ],
            cwd=ROOT,
            env={**os.environ, "TREADLE_RECORD": str(recording_of(pier)), **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.recovery: dict[str, Any] = {}
        self.live: dict[str, Any] = {}
        if wait:
            self.wait_live()

    def wait_live(self) -> None:
        """Read the lines of --json up to `live`."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            value = json.loads(line)
            self.recovery = value.get("recovery", self.recovery)
            if "live" in value:
                self.live = value["live"]
                return
        _, errors = self.process.communicate(timeout=10)
        raise AssertionError(f"it did not start: {errors}")

    def status(self) -> dict[str, Any]:
        result = treadle("status", str(self.pier), "--json")
        value: dict[str, Any] = json.loads(result.stdout)
        return value

    def wait_http(self) -> int:
        """The port, once the kernel has opened the web interface."""
        for _ in range(100):
            address = self.status()["http"]
            if address:
                return int(address.rpartition(":")[2])
            time.sleep(0.05)
        state = self.status()
        said = "still running"
        if self.process.poll() is not None:
            said = str(self.end())
        raise AssertionError(f"no web interface: {state}, {said}")

    def kill(self, *, king: bool = True, serf: bool = False) -> None:
        if serf:
            pid = self.live["pid_serf"]
            assert pid
            os.kill(pid, signal.SIGKILL)
        if king:
            self.process.kill()
            self.end()

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Signal it; its exit code, and what it said on stderr."""
        self.process.send_signal(number)
        return self.end()

    def end(self) -> tuple[int, str]:
        _, errors = self.process.communicate(timeout=60)
        return self.process.returncode, errors

    def __enter__(self) -> Ship:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate(timeout=10)
        if sys.exc_info()[0] is None:
            check_recording(self.pier)


def request(port: int, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, body or None)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
