"""The lab's own instruments: the witness, and the disk that forgets.

Small programs under the witness; what a power cut may leave of them is known
by thinking. Red here: king/lab/witness.py, states.py, native/witness.c.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from king.lab.states import Disk, Tree, crash_states
from king.lab.witness import NO_FAULT, SERF, Call, Do, Fault, Kind, Trace, environment


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[SimpleNamespace]:
    """A watched folder, and a way to run Python in it."""
    root = (tmp_path / "root").resolve()
    root.mkdir()
    (root / "old").write_bytes(b"old")

    def run(program: str, fault: Fault = NO_FAULT) -> subprocess.CompletedProcess[str]:
        trace.plan(fault)
        return subprocess.run(
            [sys.executable, "-I", "-c", f"import os, sys\n{program}"],
            cwd=root,
            env={**os.environ, **environment(trace)},
            capture_output=True,
            text=True,
            timeout=60,
        )

    with Trace(tmp_path / "trace", root) as trace:
        yield SimpleNamespace(root=root, trace=trace, run=run, disk=Disk(root))


def states(rig: SimpleNamespace, program: str) -> tuple[list[Call], list[Tree]]:
    ran = rig.run(program)
    assert ran.returncode == 0, ran.stderr
    calls = list(rig.trace.read())
    rig.disk.follow(calls)
    return calls, list(crash_states(rig.disk, 1, per_cut=200))


def last_states(rig: SimpleNamespace) -> list[Tree]:
    """What may be there if the power fails after the whole program."""
    return list(crash_states(rig.disk, 1, per_cut=200, start=max(rig.disk.cuts) - 1))


def contents(trees: list[Tree], name: str) -> set[bytes | None]:
    return {tree.read(name) if name in tree.names() else None for tree in trees}


WRITE = "fd = os.open('new', os.O_RDWR | os.O_CREAT)\nos.write(fd, b'a' * 1024)\n"
SYNC_NAMES = "os.fsync(os.open('.', os.O_RDONLY))\n"


def test_nothing_is_sure_before_a_sync(rig: SimpleNamespace) -> None:
    _, trees = states(rig, WRITE)
    found = contents(trees, "new")
    half = b"a" * 512
    assert {None, b"", b"a" * 1024} <= found
    assert found & {half, bytes(512) + half}, "no torn write"
    assert contents(trees, "old") == {b"old"}


def test_a_sync_of_the_file_keeps_its_bytes_but_not_its_name(
    rig: SimpleNamespace,
) -> None:
    states(rig, WRITE + "os.fsync(fd)\n")
    assert contents(last_states(rig), "new") == {None, b"a" * 1024}


def test_with_the_folder_synced_all_is_sure(rig: SimpleNamespace) -> None:
    states(rig, WRITE + "os.fdatasync(fd)\n" + SYNC_NAMES)
    assert contents(last_states(rig), "new") == {b"a" * 1024}


def test_a_durable_replacement_is_old_or_new(rig: SimpleNamespace) -> None:
    program = WRITE + "os.fsync(fd)\nos.rename('new', 'old')\n" + SYNC_NAMES
    _, trees = states(rig, program)
    assert contents(trees, "old") == {b"old", b"a" * 1024}
    assert contents(last_states(rig), "old") == {b"a" * 1024}


def test_a_replacement_without_a_sync_can_be_empty(rig: SimpleNamespace) -> None:
    _, trees = states(rig, WRITE + "os.rename('new', 'old')\n" + SYNC_NAMES)
    assert b"" in contents(trees, "old")


def test_a_synchronous_descriptor_settles_its_own_writes_only(
    rig: SimpleNamespace,
) -> None:
    states(
        rig,
        "one = os.open('old', os.O_RDWR)\n"
        "two = os.open('old', os.O_RDWR | os.O_DSYNC)\n"
        "os.pwrite(one, b'x', 0)\nos.pwrite(two, b'y', 2)\n",
    )
    assert contents(last_states(rig), "old") == {b"oly", b"xly"}


def test_a_later_write_may_be_there_without_an_earlier_one(
    rig: SimpleNamespace,
) -> None:
    program = "fd = os.open('old', os.O_RDWR)\nfor at in 0, 1, 2:\n"
    _, trees = states(rig, program + "    os.pwrite(fd, b'x', at)\n")
    found = contents(trees, "old")
    assert {b"old", b"olx", b"oxd", b"xld", b"xxx", b"xlx", b"oxx"} <= found


def test_every_way_to_change_a_file_is_seen(rig: SimpleNamespace) -> None:
    """What the calls add up to is what is on the disk."""
    states(
        rig,
        WRITE + "os.writev(fd, [b'b' * 10, b'c' * 20])\n"
        "os.pwritev(fd, [b'd' * 3, b'e' * 5], 100)\n"
        "os.lseek(fd, 7, 0)\nos.write(fd, b'f')\n"
        "os.ftruncate(fd, 900)\nos.posix_fallocate(fd, 1000, 500)\n"
        "os.mkdir('below')\nos.rename('old', 'below/older')\n"
        "os.link('new', 'again')\nos.unlink('new')\n"
        "app = os.open('below/older', os.O_WRONLY | os.O_APPEND)\n"
        "os.write(app, b' and more')\n"
        "open('text', 'w').write('hello')\n"
        "open('text', 'a').write(' world')\n"
        "os.mkdir('gone')\nos.rmdir('gone')\n",
    )
    whole = next(t for t in last_states(rig) if t.choice.kind == "prefix")
    there = {
        str(path.relative_to(rig.root)): path.read_bytes()
        for path in rig.root.rglob("*")
        if path.is_file()
    }
    assert {name: whole.read(name) for name in whole.names()} == there
    assert there["below/older"] == b"old and more"
    assert "gone/" not in whole.paths()


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EROFS, errno.EINTR])
def test_an_error_strikes_the_call_that_was_named(
    rig: SimpleNamespace, number: int
) -> None:
    program = "fd = os.open('old', os.O_RDWR)\nsaid = []\nimport ctypes\n"
    program += "libc = ctypes.CDLL(None, use_errno=True)\n"
    program += "for _ in range(3):\n    done = libc.pwrite(fd, b'x', 1, 0)\n"
    program += "    said.append(0 if done == 1 else ctypes.get_errno())\nprint(said)"
    ran = rig.run(program, Fault(Do.ERRNO, SERF, 2, number))
    assert json.loads(ran.stdout) == [0, number, 0]
    assert rig.trace.hits == 1
    ran = rig.run(program, Fault(Do.ERRNO, SERF, 2, number, every=True))
    assert json.loads(ran.stdout) == [0, number, number]


def test_a_short_write_is_half(rig: SimpleNamespace) -> None:
    ran = rig.run(WRITE + "print(os.fstat(fd).st_size)", Fault(Do.SHORT, SERF, 2))
    assert ran.stdout == "512\n"


@pytest.mark.parametrize(
    ("do", "left"),
    [(Do.KILL_BEFORE, b""), (Do.KILL_TORN, b"a" * 100), (Do.KILL_AFTER, b"a" * 1024)],
)
def test_a_kill_falls_where_it_was_planned(
    rig: SimpleNamespace, do: Do, left: bytes
) -> None:
    ran = rig.run(WRITE + "os.unlink('old')", Fault(do, SERF, 2, 100))
    assert ran.returncode == -signal.SIGKILL
    assert (rig.root / "new").read_bytes() == left
    assert (rig.root / "old").exists()


def test_other_folders_are_nobodys_business(rig: SimpleNamespace) -> None:
    outside = rig.root.parent / "outside"
    ran = rig.run(f"open({str(outside)!r}, 'w').write('x')", Fault(Do.SHORT, SERF, 1))
    assert ran.returncode == 0
    assert not [call for call in rig.trace.read() if call.kind is Kind.WRITE]
