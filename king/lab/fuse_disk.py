"""A disk that remembers: one file, served by FUSE, whose writes and flushes are
logged in their order.

    python -m king.lab.fuse_disk IMAGE LOG MOUNT     until MOUNT is unmounted

MOUNT/disk has the size and the contents of IMAGE, which is written as told. A
loop device over it turns the barriers of a filesystem into flushes here.

Owns: IMAGE and LOG meanwhile.
Invariants: one thread; a write or flush is in the log before it is answered,
    so whoever was told that something is durable finds that in the log.
Limits: the log is in memory's reach of its reader; discards are refused.
"""

from __future__ import annotations

import os
import stat
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mfusepy

__all__ = ["DISK", "Access", "read_accesses"]

DISK = "disk"
_RECORD = struct.Struct("<QQ")  # offset, size; then the data
_FLUSH = (1 << 64) - 1  # as an offset


@dataclass(frozen=True, slots=True)
class Access:
    """A write; a flush, without data. `end`: where it ends in the log."""

    offset: int
    data: bytes | None
    end: int


def read_accesses(log: Path) -> Iterator[Access]:
    """All that was logged, in order."""
    data = log.read_bytes()
    at = 0
    while at < len(data):
        offset, size = _RECORD.unpack_from(data, at)
        at += _RECORD.size + size
        yield Access(offset, None if offset == _FLUSH else data[at - size : at], at)


class _Disk:
    """The one file, as `mfusepy.Operations` has it."""

    use_ns = True

    def __init__(self, image: int, log: int) -> None:
        self._image = image
        self._log = log
        self._size = os.fstat(image).st_size

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        if path == "/":
            return {"st_mode": stat.S_IFDIR | 0o700, "st_nlink": 2}
        if path != f"/{DISK}":
            raise mfusepy.FuseOSError(2)
        return {"st_mode": stat.S_IFREG | 0o600, "st_nlink": 1, "st_size": self._size}

    def open(self, path: str, flags: int) -> int:
        return 0

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return os.pread(self._image, size, offset)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        _write(self._log, _RECORD.pack(offset, len(data)) + data)
        return os.pwrite(self._image, data, offset)

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        _write(self._log, _RECORD.pack(_FLUSH, 0))
        return 0


def _write(descriptor: int, data: bytes) -> None:
    if os.write(descriptor, data) != len(data):
        raise mfusepy.FuseOSError(28)


def main(words: list[str]) -> int:
    """Serve until it is unmounted."""
    image, log, mount = words
    disk = _Disk(
        os.open(image, os.O_RDWR | os.O_CLOEXEC),
        os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600),
    )
    mfusepy.FUSE(disk, mount, foreground=True, nothreads=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
