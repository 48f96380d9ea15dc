"""What events cost to compute: nanoseconds and pages, for `treadle log`.

Owns: `.urb/costs`, a ring of records for the last EVENTS_MAX events.
Invariants: a record names its event, so that one which was never written, or
    belongs to an older event, is not taken for another's; the log never waits
    for this file, and loses nothing with it.
Limits: not synced: after a power cut some are missing. Only what this runtime
    computed live is here: not replays, nor what Vere wrote. Where it cannot be
    written (a full disk), the run goes on without it.

A record is 16 bytes at (event mod EVENTS_MAX): u64 event, then 40 bits of
nanoseconds and 24 of pages, which stay at their greatest.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path

__all__ = ["EVENTS_MAX", "Cost", "Costs", "read_costs"]

EVENTS_MAX = 1 << 18
_RECORD = struct.Struct("<QQ")
_HEAD = struct.Struct("<8s16s")
_HEAD_SIZE = 4096
_MAGIC = b"costs\0\0\1"
_NANOSECONDS_MAX = (1 << 40) - 1
_PAGES_MAX = (1 << 24) - 1

Cost = tuple[int, int]
"""Nanoseconds of the event's thread; pages that it was the first to write since
the last save."""


class Costs:
    """The writer; `note` is called in the log's thread."""

    def __init__(self, path: Path, log: bytes) -> None:
        self._file: int | None = None
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._file = os.open(path, flags, 0o600)
            head = _HEAD.pack(_MAGIC, log)
            if os.pread(self._file, _HEAD.size, 0) != head:
                os.ftruncate(self._file, 0)
                os.pwrite(self._file, head, 0)
        except OSError:
            self.close()

    def note(self, first: int, costs: Sequence[Cost]) -> None:
        """What events first, first + 1, ... cost."""
        if self._file is None:
            return
        if len(costs) > EVENTS_MAX:
            first, costs = first + len(costs) - EVENTS_MAX, costs[-EVENTS_MAX:]
        data = b"".join(
            _RECORD.pack(
                event,
                min(nanoseconds, _NANOSECONDS_MAX) << 24 | min(pages, _PAGES_MAX),
            )
            for event, (nanoseconds, pages) in enumerate(costs, first)
        )
        place = first % EVENTS_MAX * _RECORD.size
        room = EVENTS_MAX * _RECORD.size - place
        try:
            os.pwrite(self._file, data[:room], _HEAD_SIZE + place)
            if len(data) > room:
                os.pwrite(self._file, data[room:], _HEAD_SIZE)
        except OSError:
            self.close()

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def read_costs(path: Path, log: bytes, first: int, count: int) -> list[Cost | None]:
    """Those of `count` events from `first` on; None where nothing is known."""
    found: list[Cost | None] = [None] * count
    try:
        with path.open("rb") as file:
            if file.read(_HEAD.size) != _HEAD.pack(_MAGIC, log):
                return found
            at = 0
            while at < count:
                place = (first + at) % EVENTS_MAX
                part = min(count - at, EVENTS_MAX - place)
                file.seek(_HEAD_SIZE + place * _RECORD.size)
                data = file.read(part * _RECORD.size)
                whole = len(data) // _RECORD.size * _RECORD.size
                records = _RECORD.iter_unpack(data[:whole])
                for index, (event, cost) in enumerate(records, at):
                    if event == first + index:
                        found[index] = cost >> 24, cost & _PAGES_MAX
                at += part
    except OSError:
        pass
    return found
