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
import os
import random
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from king.lab.judge import Promise
from king.lab.pair import Hand, Hang, Over
from king.lab.trial import Lab

__all__ = ["FILESYSTEMS", "cut_power", "why_not"]

FILESYSTEMS = {
    "ext4": ("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0"),
    "xfs": ("mkfs.xfs", "-q", "-f"),
}
_SIZE = 384 << 20  # XFS takes no less than 300 MiB
_SHUTDOWN = 0x8004587D
_NO_LOG_FLUSH = (2).to_bytes(4, "little")
_LOAD_S = 1.2


def why_not(kind: str) -> str:
    """What this machine lacks for it; "" if nothing."""
    if os.geteuid() != 0:
        return "takes root"
    if not os.path.exists("/dev/loop-control"):
        return "there are no loop devices"
    if shutil.which(FILESYSTEMS[kind][0]) is None:
        return f"there is no {FILESYSTEMS[kind][0]}"
    with open("/proc/filesystems", encoding="ascii") as file:
        if kind not in file.read().split():
            return f"this kernel has no {kind}"
    return ""


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


@contextlib.contextmanager
def _disk(folder: Path, kind: str) -> Iterator[Path]:
    """A mounted filesystem of its own."""
    file, mount = folder / "disk", folder / "mount"
    mount.mkdir()
    with file.open("wb") as disk:
        disk.truncate(_SIZE)
    _run(*FILESYSTEMS[kind], str(file))
    _run("mount", "-o", "loop", str(file), str(mount))
    try:
        yield mount
    finally:
        _unmount(mount)


def _unmount(mount: Path) -> None:
    """Not lazily: the next mount must not meet the one before. The dead may
    take a moment to let go.

    :raises subprocess.CalledProcessError: somebody keeps it.
    """
    for _ in range(200):
        try:
            _run("umount", str(mount))
            return
        except subprocess.CalledProcessError:
            time.sleep(0.05)
    _run("umount", str(mount))


def _shut_down(mount: Path) -> None:
    descriptor = os.open(mount, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(descriptor, _SHUTDOWN, _NO_LOG_FLUSH)
    finally:
        os.close(descriptor)


def cut_power(lab: Lab, kind: str, seed: int) -> list[str]:
    """One cut under load; what broke. `why_not(kind)` is empty."""
    dice = random.Random(f"{kind}/{seed}")
    with lab.room() as folder, _disk(folder, kind) as mount:
        pier = mount / "pier"
        shutil.copytree(lab.base(), pier)
        os.sync()
        hand = Hand(lab.stable, pier, folder, pill=lab.pill)
        faults: list[str] = []
        load = threading.Thread(target=_load, args=(hand, faults), daemon=True)
        try:
            hand.start("--snapshot-every", "0.05")
            load.start()
            time.sleep(dice.random() * _LOAD_S)
            _shut_down(mount)
            told = frozenset(hand.told.acknowledged)
        finally:
            hand.close()  # king and serf; the load sees them gone
            if load.ident is not None:
                load.join()
        if faults:
            return faults
        _unmount(mount)
        _run("mount", "-o", "loop", str(folder / "disk"), str(mount))
        shutil.copytree(pier, folder / "copy", ignore=shutil.ignore_patterns("*.sock"))
        promise = Promise(told, frozenset(hand.told.offered), snapshot_event=1)
        faults += lab.judge.judge(folder / "copy", promise).faults
        again = Hand(lab.stable, pier, folder, told=hand.told)
        try:
            again.start()
            again.poke()
            again.stop()
            again.check()
        except (Over, Hang) as error:
            faults.append(f"it does not recover: {error}: {again.words[-800:]}")
        finally:
            again.close()
        return faults


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
