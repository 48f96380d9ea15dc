"""Where a pier lies, told in a way that a copy cannot tell.

What it is: inode numbers and birth times of three of a pier's own files, and
    which volume they are on. Pure observation; manifest.py says what it is for.
Invariants: what cannot be known is None, and nobody is refused for a None.
Limits: Linux. Only filesystems whose inodes keep number and birth for good are
    believed (_TRUSTED).

Which signals, and why not others.

* *Inode and birth time* of `.urb`, of the log's top file and of its newest
  epoch's. A rename, a remount, a reboot, a restarted container and a disk that
  is moved to another machine keep them all; `cp -a`, rsync, tar and a restore
  from a backup cannot set either of them. The number alone would not do: a tree
  unpacked into two new filesystems has the same numbers in both. The newest
  epoch's file tells a backup that was restored *into* the pier's directory.
* *The volume* (`f_fsid`), only where it belongs to the data: the filesystem's
  UUID on ext4, the subvolume on btrfs, the dataset on ZFS. It tells snapshots
  and clones of those, which keep inodes. XFS makes it of the device's number.
* *Not* the device's number (it changes with the order of mounts), the host's
  name or machine-id (containers have new ones every time, a disk is moved), the
  boot's id, the path (people rename piers). Host and path are kept for the words
  of a message, never compared.

What this cannot tell: a volume cloned block by block, or rolled back as a whole
with all that is on it. See king/memory.py for some of that.
"""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from king.disk import disk_type

if TYPE_CHECKING:
    from king.pier import Layout

__all__ = ["Place", "observe", "place_of", "why_copied"]

_TRUSTED = {
    0xEF53: "ext4",
    0x58465342: "xfs",
    0x9123683E: "btrfs",
    0xF2F52010: "f2fs",
    0x2FC12FC1: "zfs",
    0xCA451A4E: "bcachefs",
    0x01021994: "tmpfs",
}
"""Not FUSE, overlayfs, FAT and others: their numbers may be new at each mount."""

_VOLUMES = {"ext4", "btrfs", "zfs"}

_NAME_MAX = 4096

Mark = tuple[int, int | None]
"""Inode number; birth time in ns, where the filesystem keeps one."""


@dataclass(frozen=True, slots=True)
class Place:
    """`marks`: by path within the pier. `disk` None: not one that we trust."""

    marks: dict[str, Mark]
    disk: str | None
    volume: int | None
    path: str
    host: str

    def as_json(self) -> dict[str, Any]:
        return {
            "marks": {name: list(mark) for name, mark in self.marks.items()},
            "disk": self.disk,
            "volume": None if self.volume is None else f"0x{self.volume:x}",
            "path": self.path,
            "host": self.host,
        }


def place_of(value: object) -> Place:
    """A Place from its JSON.

    :raises ValueError: that is none
    """
    if not isinstance(value, dict) or not isinstance(value.get("marks"), dict):
        raise ValueError("the place is not an object with marks")
    marks: dict[str, Mark] = {}
    for name, mark in value["marks"].items():
        match mark:
            case [int(number), int(birth) | (None as birth)]:
                marks[str(name)[:_NAME_MAX]] = (number, birth)
            case _:
                raise ValueError("a mark of the place is no inode and birth")
    disk, volume = value.get("disk"), value.get("volume")
    if not isinstance(disk, str | None) or not isinstance(volume, str | None):
        raise ValueError("the place's disk or volume is not a text")
    return Place(
        marks,
        disk,
        None if volume is None else int(volume, 16),
        str(value.get("path", ""))[:_NAME_MAX],
        str(value.get("host", ""))[:_NAME_MAX],
    )


def observe(layout: Layout) -> Place:
    """Where the pier lies now.

    :raises OSError: as stat
    """
    from king.log.epoch import find_epochs

    root, log = layout.root, layout.log_dir
    paths = [layout.urb, log / "data.mdb"]
    epochs, _ = find_epochs(log)
    if epochs:
        paths.append(epochs[-1].path / "data.mdb")
    marks: dict[str, Mark] = {}
    for path in paths:
        marks[str(path.relative_to(root))] = (path.stat().st_ino, _birth(path))
    disk = _TRUSTED.get(disk_type(log))
    volume = os.statvfs(log).f_fsid if disk in _VOLUMES else None
    return Place(marks, disk, volume, str(root.absolute()), os.uname().nodename)


def why_copied(known: Place, seen: Place) -> str | None:
    """Why what we see is a copy of what was known; None where it is not, or
    where nobody can say."""
    if known.disk is None or seen.disk is None:
        return None
    if known.disk != seen.disk:
        return f"it was on {known.disk}, and is on {seen.disk}"
    for name, (number, birth) in known.marks.items():
        if name not in seen.marks:
            continue  # an epoch that is gone, or no longer the newest
        now, born = seen.marks[name]
        if now != number:
            return f"{name} is another file than it was (inode {now}, not {number})"
        if birth is not None and born is not None and birth != born:
            return f"{name} is another file than it was (made at another time)"
    if None not in (known.volume, seen.volume) and known.volume != seen.volume:
        return f"it is on another {seen.disk} volume"
    return None


# --- birth times --------------------------------------------------------------

_AT_FDCWD = -100
_AT_SYMLINK_NOFOLLOW = 0x100
_STATX_BTIME = 0x800
_STATX_BYTES = 256
_BTIME_AT = 80


def _birth(path: Path) -> int | None:
    """In nanoseconds; None where nobody keeps it. (Python has no statx.)"""
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(_STATX_BYTES)
    try:
        result = libc.statx(
            _AT_FDCWD, os.fsencode(path), _AT_SYMLINK_NOFOLLOW, _STATX_BTIME, buffer
        )
    except AttributeError:  # an old C library
        return None
    raw = buffer.raw
    if result != 0 or not int.from_bytes(raw[:4], "little") & _STATX_BTIME:
        return None
    seconds = int.from_bytes(raw[_BTIME_AT : _BTIME_AT + 8], "little", signed=True)
    return seconds * 10**9 + int.from_bytes(
        raw[_BTIME_AT + 8 : _BTIME_AT + 12], "little"
    )
