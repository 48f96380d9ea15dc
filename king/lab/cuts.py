"""Real power cuts: a filesystem of our own is shut down under a running ship.

What it is: an independent check of `states`. A file is a disk (by a loop
    device) with ext4 or XFS on it; FS_IOC_SHUTDOWN drops what that filesystem
    has not written, journal included; it is mounted again, and replays its
    journal as after a power cut.
Owns: the file, the mount, the ship on it.
Limits: Linux, root, loop devices, mkfs; `why_not` says which is missing. A cut
    at a random instant is a weak test (see verification): it is here to find
    out whether our own model of a disk is too kind.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import random
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from king.lab.judge import Promise
from king.lab.pair import Hand, Hang, Over, Told
from king.lab.trial import Lab

__all__ = ["FILESYSTEMS", "cut_power", "run", "unmount", "why_not"]

FILESYSTEMS = {
    "ext4": ("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0"),
    "xfs": ("mkfs.xfs", "-q", "-f"),
}
_SIZE = 384 << 20  # XFS takes no less than 300 MiB
_SHUTDOWN = 0x8004587D
_NO_LOG_FLUSH = (2).to_bytes(4, "little")
_LOAD_S = 0.8


@functools.cache
def why_not(kind: str) -> str:
    """What this machine lacks for it; "" if nothing. The last thing to find out
    is whether a disk can be mounted: so a mount that fails later is a fault."""
    if os.geteuid() != 0:
        return "takes root"
    if not os.path.exists("/dev/loop-control"):
        return "there are no loop devices"
    if shutil.which(FILESYSTEMS[kind][0]) is None:
        return f"there is no {FILESYSTEMS[kind][0]}"
    with open("/proc/filesystems", encoding="ascii") as file:
        if kind not in file.read().split():
            return f"this kernel has no {kind}"
    with tempfile.TemporaryDirectory(prefix="treadle-lab-") as folder:
        try:
            with _disk(Path(folder), kind):
                return ""
        except subprocess.CalledProcessError as error:
            return f"a disk cannot be mounted: {error.stderr.decode().strip()}"


def run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


@contextlib.contextmanager
def _disk(folder: Path, kind: str) -> Iterator[Path]:
    """A mounted filesystem of its own."""
    file, mount = folder / "disk", folder / "mount"
    mount.mkdir()
    with file.open("wb") as disk:
        disk.truncate(_SIZE)
    run(*FILESYSTEMS[kind], str(file))
    run("mount", "-o", "loop", str(file), str(mount))
    try:
        yield mount
    finally:
        unmount(mount)


def unmount(mount: Path) -> None:
    """Not lazily: the next mount must not meet the one before. The dead may
    take a moment to let go.

    :raises subprocess.CalledProcessError: somebody keeps it.
    """
    for _ in range(200):
        try:
            run("umount", str(mount))
            return
        except subprocess.CalledProcessError:
            time.sleep(0.05)
    run("umount", str(mount))


def _shut_down(mount: Path) -> None:
    descriptor = os.open(mount, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(descriptor, _SHUTDOWN, _NO_LOG_FLUSH)
    finally:
        os.close(descriptor)


def cut_power(
    lab: Lab, kind: str, seed: int, count: int = 1, *, deadline: float = 1e18
) -> tuple[int, list[str]]:
    """Cut after cut under load, of one disk: each start recovers from the cut
    before. How many there were, and what broke. `why_not(kind)` is empty.
    """
    dice = random.Random(f"{kind}/{seed}")
    with lab.room() as folder, _disk(folder, kind) as mount:
        pier = mount / "pier"
        shutil.copytree(lab.base(), pier)
        os.sync()
        told = Told(snapshot_event=1, booted=True)
        rows: tuple[bytes, ...] = ()
        done = 0
        while done < count and time.monotonic() < deadline:
            hand = Hand(lab.stable, pier, folder, pill=lab.pill, told=told)
            promise, faults = _cut(hand, mount, dice.random() * _LOAD_S)
            done += 1
            if faults:
                return done, faults
            unmount(mount)
            run("mount", "-o", "loop", str(folder / "disk"), str(mount))
            copy = folder / "copy"
            shutil.copytree(pier, copy, ignore=shutil.ignore_patterns("*.sock"))
            verdict = lab.judge.judge(copy, replace(promise, rows=rows))
            shutil.rmtree(copy)
            if verdict.faults:
                return done, verdict.faults
            rows = verdict.rows
        hand = Hand(lab.stable, pier, folder, told=told)
        return done, _recover(hand)


def _cut(hand: Hand, mount: Path, seconds: float) -> tuple[Promise, list[str]]:
    """A ship at work, and so long after its start no power."""
    faults: list[str] = []
    load = threading.Thread(target=_load, args=(hand, faults), daemon=True)
    promise = Promise()
    try:
        hand.start("--snapshot-every", "0.05")
        load.start()
        time.sleep(seconds)
        _shut_down(mount)
        acknowledged = frozenset(hand.told.acknowledged)
        promise = Promise(acknowledged, snapshot_event=1)
    except (Over, Hang) as error:
        faults.append(f"it does not recover: {error}: {hand.words[-800:]}")
    finally:
        hand.close()  # king and serf; the load sees them gone
        if load.ident is not None:
            load.join()
    # (What was offered at the last moment is an offer, too.)
    return replace(promise, offered=frozenset(hand.told.offered)), faults


def _recover(hand: Hand) -> list[str]:
    """A calm start, and all of it whole."""
    try:
        hand.start()
        hand.poke()
        hand.stop()
        hand.check()
    except (Over, Hang) as error:
        return [f"it does not recover: {error}: {hand.words[-800:]}"]
    finally:
        hand.close()
    return []


def _load(hand: Hand, faults: list[str]) -> None:
    """Events until the ship is gone."""
    try:
        while True:
            hand.poke(4)
            hand.get() if hand.has_page else hand.poke()
    except Over:
        pass
    except Hang as error:
        faults.append(f"it hangs: {error}")
