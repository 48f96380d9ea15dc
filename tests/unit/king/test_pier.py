"""Opening a pier: the locks between processes, and every refusal by name."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from king.disk import check_local_disk
from king.errors import TreadleError
from king.log.epoch import create_log
from king.log.store import Meta
from king.manifest import Manifest, read_manifest, write_manifest
from king.pier import (
    Layout,
    lock_holder_pid,
    lock_pier,
    make_directories,
    open_pier,
    wait_unlocked,
    who_locks,
)
from proto.message import Jam, Row
from tests.support.golden import unpack

MAP_SIZE = 1 << 30
_FLOCK = struct.Struct("hhqqi4x")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A pier as Vere would leave it: no manifest."""
    root = tmp_path / "bud"
    root.mkdir(mode=0o700)
    (root / ".urb").mkdir(mode=0o700)
    (root / ".urb" / "chk").mkdir()
    (root / ".urb" / "chk" / "image.bin").write_bytes(b"Vere's own")
    rows = [Row(0, Jam(b"job"))]
    create_log(root / ".urb" / "log", Meta(2, True, 1), rows, "vere", map_size=MAP_SIZE)
    return root


def snapshot(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def refused(root: Path) -> TreadleError:
    with pytest.raises(TreadleError) as caught:
        open_pier(root, map_size=MAP_SIZE)
    assert caught.value.hint
    return caught.value


class Other:
    """Another process that does something and waits."""

    def __init__(self, code: str, *arguments: object) -> None:
        words = [sys.executable, "-c", code, *map(str, arguments)]
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"

    @property
    def pid(self) -> int:
        return self.process.pid

    def __enter__(self) -> Other:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


_KING = """
import sys
from pathlib import Path
from king.pier import open_pier
pier = open_pier(Path(sys.argv[1]), map_size=1 << 30)
print("ready", flush=True)
sys.stdin.read()
pier.close()
"""
_VERE = """
import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o666)
fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 0)
os.write(fd, b"%d\\n" % os.getpid())
print("ready", flush=True)
sys.stdin.read()
"""


# --- locks ------------------------------------------------------------------


def test_second_king_is_refused_and_told_the_pid(root: Path) -> None:
    with Other(_KING, root) as other:
        error = refused(root)
        assert error.code == "pier-locked"
        assert f"pid {other.pid}" in error.message
        assert who_locks(Layout(root)) == f"treadle, pid {other.pid}"
        assert lock_holder_pid(Layout(root)) == other.pid
    # It was killed: the lock is free, whatever the file says.
    assert who_locks(Layout(root)) is None
    open_pier(root, map_size=MAP_SIZE).close()


def test_vere_keeps_us_out(root: Path) -> None:
    with Other(_VERE, root / ".vere.lock") as other:
        error = refused(root)
        assert error.code == "pier-locked"
        assert f"Vere, pid {other.pid}" in error.message
        assert who_locks(Layout(root)) == f"Vere, pid {other.pid}"
        # We let go of our own lock when theirs refused us.
        assert read_manifest(Layout(root).manifest) is None
    assert who_locks(Layout(root)) is None


def test_we_keep_vere_out(root: Path) -> None:
    with open_pier(root, map_size=MAP_SIZE):
        code = _VERE.replace('print("ready"', 'print("locked"')
        done = subprocess.run(
            [sys.executable, "-c", code, root / ".vere.lock"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        assert done.returncode != 0
        assert b"BlockingIOError" in done.stderr
        assert (root / ".vere.lock").read_text() == f"{os.getpid()}\n"


def test_orphaned_serf_still_holds_the_pier(root: Path) -> None:
    pier = open_pier(root, map_size=MAP_SIZE)
    serf = subprocess.Popen(["sleep", "60"], pass_fds=[pier.lock_descriptor])
    pier.close()
    try:
        note = {"pid": 1 << 22, "host": os.uname().nodename}
        pier.layout.lock.write_text(json.dumps(note))
        error = refused(root)
        assert "a serf left behind" in error.message
        assert not wait_unlocked(pier.layout, 0.1)
    finally:
        serf.kill()
        serf.wait()
    assert wait_unlocked(pier.layout, 5)
    open_pier(root, map_size=MAP_SIZE).close()


def test_stale_lock_files_do_no_harm(root: Path) -> None:
    (root / ".vere.lock").write_text("93491234567890\n")
    (root / ".urb" / "treadle.lock").write_text("{not json" * 100)
    with open_pier(root, map_size=MAP_SIZE):
        assert (root / ".vere.lock").read_text() == f"{os.getpid()}\n"
        assert (
            json.loads((root / ".urb/treadle.lock").read_text())["pid"] == os.getpid()
        )
    assert (root / ".vere.lock").read_bytes() == b""


def test_lock_file_that_vere_unlinked_meanwhile_is_not_trusted(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Vere unlinks its file as it leaves: a lock on that one locks nothing."""
    path = root / ".vere.lock"
    real = fcntl.fcntl
    unlinked = []

    def unlink_once(descriptor: int, command: int, argument: bytes) -> bytes:
        if command == fcntl.F_OFD_SETLK and not unlinked:
            unlinked.append(path.unlink())
        result: bytes = real(descriptor, command, argument)
        return result

    monkeypatch.setattr("king.pier.fcntl.fcntl", unlink_once)
    locks = lock_pier(Layout(root))
    assert path.exists()
    assert os.path.samestat(os.fstat(locks.vere), path.stat())
    locks.release()


def test_lock_that_is_a_symlink_is_refused(root: Path) -> None:
    (root / ".urb" / "treadle.lock").symlink_to("/dev/null")
    assert refused(root).code == "pier-bad"


def test_asking_does_not_keep_a_king_out(root: Path) -> None:
    asks = (
        "import sys, time\nfrom pathlib import Path\nfrom king.pier import *\n"
        "layout = Layout(Path(sys.argv[1]))\nprint('ready', flush=True)\n"
        "while True: who_locks(layout)\n"
    )
    lock_pier(Layout(root)).release()
    with Other(asks, root):
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            lock_pier(Layout(root)).release()


# --- refusals ---------------------------------------------------------------


def test_missing_pier_and_what_is_no_pier(tmp_path: Path) -> None:
    assert refused(tmp_path / "none").code == "pier-missing"
    file = tmp_path / "file"
    file.touch()
    assert refused(file).code == "pier-bad"
    empty = tmp_path / "empty"
    empty.mkdir()
    assert refused(empty).code == "pier-bad"
    assert os.listdir(empty) == []


def test_newer_formats_are_refused_before_anything_is_written(root: Path) -> None:
    manifest = Layout(root).manifest
    manifest.write_text('{"format": 2, "all else": "unknown to us"}')
    before = snapshot(root)
    assert refused(root).code == "pier-newer"
    assert snapshot(root) == before
    manifest.unlink()
    (root / ".urb/log/0i0/epoc.txt").write_text("9")
    before = snapshot(root)
    assert refused(root).code == "log-newer"
    assert snapshot(root) == before


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"format": "1"}',
        '{"format": true}',
        '{"format": 1, "ship": "2"}',
        "x" * 70_000,
        "\xff\xfe",
    ],
)
def test_damaged_manifest_is_named_and_left_alone(root: Path, text: str) -> None:
    Layout(root).manifest.write_bytes(text.encode("latin-1"))
    before = snapshot(root)
    assert refused(root).code == "manifest-bad"
    assert snapshot(root) == before


def test_files_of_two_ships_are_not_one_pier(root: Path) -> None:
    manifest = Manifest(3, bytes(16), "treadle-0.1.0", "0.9.36", False)
    write_manifest(Layout(root).manifest, manifest)
    assert refused(root).code == "identity-mismatch"
    assert read_manifest(Layout(root).manifest) == manifest
    assert who_locks(Layout(root)) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount")
def test_read_only_disk_is_named(root: Path, tmp_path: Path) -> None:
    mount = tmp_path / "mount"
    mount.mkdir()
    for words in (
        ["mount", "--bind", str(root), str(mount)],
        ["mount", "-o", "remount,ro,bind", str(mount)],
    ):
        if subprocess.run(words, capture_output=True, check=False).returncode:
            pytest.skip("this machine does not let us mount")
    try:
        error = refused(mount)
        assert error.code == "read-only"
        assert error.exit_code == 3
    finally:
        subprocess.run(["umount", str(mount)], check=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anything")
def test_pier_of_another_account_is_named(root: Path) -> None:
    (root / ".urb").chmod(0o500)
    try:
        assert refused(root).code == "no-permission"
    finally:
        (root / ".urb").chmod(0o700)


def test_network_disks_are_refused_by_name(tmp_path: Path) -> None:
    for magic, name in ((0x6969, "NFS"), (0xFF534D42, "CIFS"), (0x01021997, "9p")):
        with pytest.raises(TreadleError, match=name) as caught:
            check_local_disk(tmp_path, lambda _, magic=magic: magic)
        assert caught.value.code == "network-disk"
    check_local_disk(tmp_path)


# --- opening ----------------------------------------------------------------


def test_foreign_pier_is_adopted_beside_its_own_files(tmp_path: Path) -> None:
    root = unpack("epochs", tmp_path)
    before = snapshot(root)
    with open_pier(root) as pier:
        assert pier.manifest.adopted
        assert "adopted" in pier.notes[-1]
        assert pier.ship == (2).to_bytes(16, "little")
        identity = pier.identity
    after = snapshot(root)
    ours = {".urb/treadle.json", ".urb/treadle.lock", ".vere.lock"}
    locks = {name for name in before if name.endswith("lock.mdb")}
    for name, data in before.items():
        assert name in ours | locks or after[name] == data
    assert set(after) - set(before) <= ours
    with open_pier(root) as pier:
        assert pier.notes == []
        assert pier.identity == identity
        assert pier.manifest.generation == 2


def test_replaying_opens_the_log_for_reading_only(root: Path) -> None:
    before = (root / ".urb/log/0i0/data.mdb").read_bytes()
    with open_pier(root, run=False, map_size=MAP_SIZE) as pier:
        assert pier.manifest.generation == 0
        pier.log.settle()
        with pytest.raises(AssertionError):
            pier.log.append(2, [Row(0, Jam(b"x"))])
    assert (root / ".urb/log/0i0/data.mdb").read_bytes() == before


def test_close_may_be_called_twice(root: Path) -> None:
    pier = open_pier(root, map_size=MAP_SIZE)
    pier.close()
    pier.close()
    assert who_locks(pier.layout) is None


def test_missing_directories_are_made(root: Path) -> None:
    shutil.rmtree(root / ".urb" / "chk")
    open_pier(root, map_size=MAP_SIZE).close()
    assert (root / ".urb" / "chk").is_dir()
    make_directories(Layout(root), log=False)


def test_manifest_round_trips(tmp_path: Path) -> None:
    manifest = Manifest((1 << 128) - 1, bytes(range(16)), "t", "0.9.36", True, 77)
    write_manifest(tmp_path / "m.json", manifest)
    assert read_manifest(tmp_path / "m.json") == manifest
    assert os.listdir(tmp_path) == ["m.json"]
