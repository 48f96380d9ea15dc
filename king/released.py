"""The watermark of effects: how far they got, for the next start's report.

Owns: `.urb/released`.
Invariants: it never runs ahead of what was handed to the world and handled.
    It is written to memory that outlives this process but not a power cut,
    after which it may lag: the report then names too many events, never too
    few.
Limits: losing it loses words, nothing else. So where it cannot be opened or made
    the run goes on without it.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
from pathlib import Path

__all__ = ["ReleasedMark"]

_MARK = struct.Struct("<8s16sQQ")
_MAGIC = b"released"
_MARK_SIZE = 4096


class ReleasedMark:
    """The last event all of whose effects have left, in 4 KiB of a file."""

    def __init__(self, path: Path, log: bytes) -> None:
        """Open or make it. `before` and `clean` are what the last run left;
        `before` is None where nothing is known of this log."""
        self.before: int | None = None
        self.clean = False
        try:
            self._map = _open(path)
        except OSError:
            self._map = mmap.mmap(-1, _MARK_SIZE)
        magic, owner, event, clean = _MARK.unpack_from(self._map)
        if magic == _MAGIC and owner == log:
            self.before = event
            self.clean = clean == 1
        self._log = log

    def begin(self, event: int) -> None:
        """This run starts at `event`; nothing before it will be released."""
        _MARK.pack_into(self._map, 0, _MAGIC, self._log, event, 0)

    def set(self, event: int) -> None:
        struct.pack_into("<Q", self._map, 24, event)

    def close(self, event: int, *, clean: bool) -> None:
        _MARK.pack_into(self._map, 0, _MAGIC, self._log, event, int(clean))
        self._map.close()


def _open(path: Path) -> mmap.mmap:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if os.fstat(descriptor).st_size != _MARK_SIZE:
            os.ftruncate(descriptor, _MARK_SIZE)
            # A hole could not be filled on a full disk: that is a SIGBUS.
            with contextlib.suppress(OSError):
                os.posix_fallocate(descriptor, 0, _MARK_SIZE)
        return mmap.mmap(descriptor, _MARK_SIZE)
    finally:
        os.close(descriptor)
