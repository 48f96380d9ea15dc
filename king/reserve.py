"""Room on the pier's disk that is kept for bad times: the file `.urb/reserve`.

What it is: blocks that are really allocated and never used. When the disk is
    full they are given back, so that the last commits, the snapshot at the end,
    `chop` and the next start have room all the same; when there is room again
    they are taken again.
Owns: that file.
Invariants: what it holds is what the filesystem says that it gave (st_blocks),
    not what was asked for; nothing of value is ever in it.
Limits: room that was given back is anybody's. A filesystem that compresses, or
    that cannot allocate ahead, gives none: then there is no reserve, and the ship
    says so. On btrfs the blocks are kept as anywhere, but what a commit changes in
    the filesystem's own trees comes from btrfs's reserve, not from ours. Quotas
    are not seen: there `free_bytes` knows of the disk alone.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

__all__ = ["SHARE", "START_ROOM", "Reserve", "give_back", "open_reserve"]

SHARE = 32
"""At most this part of a disk, however small it is, is kept."""

_BLOCK = 1 << 16

START_ROOM = 1 << 20
"""What opening a pier may write: lock notes, manifest, META, a report."""


class Reserve:
    """The reserve of one pier, of `size` bytes when it is whole."""

    def __init__(self, path: Path, size: int) -> None:
        """Look at what an earlier run left. Takes nothing yet."""
        stat = os.statvfs(path.parent)
        whole = stat.f_blocks * stat.f_frsize
        self.path = path
        self.size = min(size, whole // SHARE) & -_BLOCK
        self.held = min(_allocated(path), self.size)
        self.fault = ""
        """Why there can be no reserve here."""

    @property
    def missing(self) -> int:
        """Bytes to take until it is whole; 0 where it never will be."""
        return 0 if self.fault else self.size - self.held

    def take(self, free: int) -> None:
        """Make it whole; with less than that free, take what there is, but for
        START_ROOM: better ours than nobody's. Where nothing is given, know why."""
        want = min(self.size, self.held + free - START_ROOM) & -_BLOCK
        if not self.missing or want <= self.held:
            return
        try:
            self.held = _allocate(self.path, want)
        except OSError as error:
            give_back(self.path)
            self.held = 0
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EINTR):
                self.fault = f"{self.path}: {error.strerror}"
            return
        if self.held < want:
            give_back(self.path)
            self.held = 0
            self.fault = f"the filesystem of {self.path} does not set blocks aside"

    def make_room(self, need: int, free: int) -> bool:
        """Give all of it back if there is less than `need` without it."""
        if free >= need or not self.held:
            return False
        give_back(self.path)
        self.held = 0
        return True


def open_reserve(path: Path, free: int) -> None:
    """For who opens a pier: give its reserve back if there is less than as much
    without it. A ship that runs takes it again."""
    if free < max(START_ROOM, _allocated(path)):
        give_back(path)


def give_back(path: Path) -> None:
    """Free the blocks of a reserve; they are there for others on return."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            os.ftruncate(descriptor, 0)
            # A journal has freed them only when it was written.
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _allocated(path: Path) -> int:
    try:
        stat = os.lstat(path)
    except OSError:
        return 0
    return min(stat.st_blocks * 512, stat.st_size)


def _allocate(path: Path, size: int) -> int:
    """Bytes that the file has in the end, of `size`.

    :raises OSError: the disk is full, say
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, size)
        os.ftruncate(descriptor, size)  # a larger one of an earlier run
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return min(_allocated(path), size)
