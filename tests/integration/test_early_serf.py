"""A serf that is started before anything else is there early, knows nothing before
it is told, is the one that runs the ship, and is never left behind."""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from king.early import EarlySerf
from king.pier import Layout, lock_pier
from proto.codec import PleaReader
from proto.message import Ripe
from tests.support.ship import ROOT, Ship, boot, treadle

MARK = "TREADLE_TEST_MARK"


def marked(mark: str) -> list[int]:
    """Processes that have our mark in their environment."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except (OSError, ValueError):
            continue
    return found


def wait_gone(pid: int) -> None:
    """Until it has ended: at most a zombie of a parent that is not ours."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return
        if state in "ZX":
            return
        time.sleep(0.01)
    raise AssertionError(f"process {pid} is still there")


def test_it_is_started_before_the_king_is_loaded(tmp_path: Path) -> None:
    program = (
        "import subprocess, sys\n"
        "def popen(command, **more):\n"
        "    loaded = {'king.cli', 'argparse', 'trio', 'lmdb'} & set(sys.modules)\n"
        "    if '--early' in command:\n"
        "        print(command[3:5], sorted(loaded))\n"
        "    raise OSError\n"
        "subprocess.Popen = popen\n"
        "from king.__main__ import main\n"
        "sys.exit(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "run", str(tmp_path / "zod")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "['serf', '--early'] []\n"
    assert "pier-missing" in done.stderr  # and nobody minds that it could not be


def test_other_commands_start_none(tmp_path: Path) -> None:
    program = (
        "import subprocess, sys\n"
        "subprocess.Popen = None\n"
        "from king.__main__ import main\n"
        "sys.exit(main())\n"
    )
    for words in (["--version"], ["status", str(tmp_path)], ["explain", "usage"]):
        done = subprocess.run(
            [sys.executable, "-c", program, *words],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Traceback" not in done.stderr


def test_it_runs_the_ship_and_keeps_no_socket(tmp_path: Path) -> None:
    boot(tmp_path / "zod")
    with Ship(tmp_path / "zod") as ship:
        pid = ship.live["pid_serf"]
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        assert b"--early" in words
        opened = [os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()]
        assert not [name for name in opened if name.startswith("socket:")]
        assert str(Layout(ship.pier).lock) in opened  # an orphan would still hold it
        # The next one is an ordinary serf.
        os.kill(pid, signal.SIGKILL)
        wait_gone(pid)
        end = time.monotonic() + 60
        while (after := ship.status())["pid_serf"] in (None, pid):
            assert time.monotonic() < end
            time.sleep(0.02)
        words = Path(f"/proc/{after['pid_serf']}/cmdline").read_bytes().split(b"\0")
        assert b"--early" not in words
        assert b"--image" in words
        assert ship.stop()[0] == 0


@pytest.mark.parametrize("words", [[], ["--no-such-flag"], ["--help"]])
def test_a_king_that_may_not_run_leaves_none(tmp_path: Path, words: list[str]) -> None:
    boot(tmp_path / "zod")
    locks = lock_pier(Layout(tmp_path / "zod"))
    mark = f"{os.getpid()}-{tmp_path}"
    try:
        environment: dict[str, Any] = {MARK: mark}
        done = treadle("run", str(tmp_path / "zod"), *words, **environment)
    finally:
        locks.release()
    assert done.returncode == (0 if words == ["--help"] else 2 if words else 3)
    assert ("pier-locked" in done.stderr) == (not words)
    assert marked(mark) == []


def test_a_king_that_is_killed_before_it_has_words_leaves_none() -> None:
    program = (
        "import os, signal\n"
        "from king.early import EarlySerf\n"
        "with EarlySerf() as early:\n"
        "    print(early._process.pid, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    wait_gone(int(done.stdout))


def test_it_waits_for_its_words_and_then_is_a_serf(tmp_path: Path) -> None:
    theirs: dict[str, int] = {}
    theirs["--read"], write_fd = os.pipe2(os.O_CLOEXEC)
    read_fd, theirs["--write"] = os.pipe2(os.O_CLOEXEC)
    theirs["--interrupt"] = os.memfd_create("interrupt")
    os.ftruncate(theirs["--interrupt"], mmap.PAGESIZE)
    name = "\udcff and a space"  # as a path of bytes that are no text comes
    words = ["--image", str(tmp_path / name), "--ship", bytes(16).hex()]
    words += ["--log", bytes(16).hex(), "--event-max", "0"]
    with EarlySerf() as early:
        taken = early.take(words, theirs)
        assert taken is not None
        process, errors = taken
        assert early.take(words, theirs) is None  # there is one only
    for fd in theirs.values():
        os.close(fd)
    said = os.read(read_fd, 1 << 16)
    if not said:
        process.wait(60)
        raise AssertionError(os.read(errors, 1 << 16).decode())
    (ripe,) = PleaReader().feed(said)
    assert isinstance(ripe, Ripe)
    os.close(write_fd)
    assert process.wait(60) == 0
    assert os.read(errors, 1 << 16) == b""
    for fd in (read_fd, errors):
        os.close(fd)


def test_one_that_died_is_not_taken() -> None:
    with EarlySerf() as early:
        assert early._process is not None
        early._process.kill()
        early._process.wait()
        assert early.take([], {}) is None
