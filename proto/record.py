"""What king and serf can note of themselves: the model's actions, as records.

For tests and the lab: a recorded run is judged by `king.lab.protocol`. Off by
default, and free then: who is not asked to keep notes has no `Notes`.

Invariants: the names are the actions of proto/model/Treadle.tla (a test
    compares them); a note is whole or absent, also if its writer is killed;
    it is taken before the step can be seen by the other side, so that the
    notes of king and serf, sorted by their time, are one run.
Limits: no I/O: the owner gives the room; when it is full, the rest is lost,
    and the last record says FULL.

A record is 32 bytes: time (ns, CLOCK_MONOTONIC) u64, action u8, three zero
bytes, process u32, two numbers u64; little-endian. Action 0 ends a recording.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import NamedTuple, Protocol

__all__ = ["FULL", "RECORD_SIZE", "Action", "Note", "Notes", "Room", "read_notes"]


class Action(IntEnum):
    """Each with its two numbers. Tickets count what one king admitted,
    requests what it sent; both begin at 1."""

    # the king's
    KING_START = 1  # last event of its log
    OFFER = 2  # ticket, lane
    SEND = 3  # ticket, request
    GIVE_UP = 4  # ticket
    RECEIVE = 5  # request, event (0: it failed; a save: event, or 0)
    COMMIT = 6  # first, last event
    RELEASE = 7  # event
    ASK_SAVE = 8  # request, event
    RESTART = 9
    LIVE = 10  # event
    # the serf's
    LOAD = 16  # event of the snapshot, or 0
    REPLAY = 17  # event, after some rows
    SAVE_IN_REPLAY = 18  # never noted: the serf says DO_SAVE
    APPLY = 19  # request, event (0: it failed)
    DO_SAVE = 20  # request, event (0: it failed)
    FREEZE = 21  # request, event (0: declined)
    # misfortune
    SERF_DIE = 24
    KING_DIE = 25  # never noted: the next KING_START tells
    DISK_ERROR = 26

    @property
    def title(self) -> str:
        """As the model calls it: `KingStart`."""
        return "".join(word.capitalize() for word in self.name.split("_"))


class Note(NamedTuple):
    """One step as noted."""

    time: int
    action: Action
    number: int
    other: int
    process: int

    def __str__(self) -> str:
        return f"{self.action.title}({self.number}, {self.other})"


FULL = 255
_RECORD = struct.Struct("<QxxxxIQQ")
_ACTION_AT = 8
RECORD_SIZE = _RECORD.size


class Room(Protocol):
    """A writable buffer: a mapped file, a bytearray."""

    def __len__(self) -> int: ...
    def __setitem__(self, index: int, value: int, /) -> None: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...


class Notes:
    """Call it to note a step."""

    def __init__(
        self, room: Room, process: int, now: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._room = room
        self._process = process
        self._now = now
        self._at = 0
        self._end = len(room) // RECORD_SIZE * RECORD_SIZE

    def __call__(self, action: Action, number: int = 0, other: int = 0) -> None:
        at = self._at
        if at == self._end:
            if at:
                self._room[at - RECORD_SIZE + _ACTION_AT] = FULL
            return
        _RECORD.pack_into(self._room, at, self._now(), self._process, number, other)
        # The action last: it makes the record one.
        self._room[at + _ACTION_AT] = action
        self._at = at + RECORD_SIZE


def read_notes(data: bytes) -> Iterator[Note]:
    """The notes of one recording.

    :raises ValueError: if it ran full, or is none.
    """
    for at in range(0, len(data) - RECORD_SIZE + 1, RECORD_SIZE):
        action = data[at + _ACTION_AT]
        if action == 0:
            return
        if action == FULL:
            raise ValueError("the recording is full: its end is missing")
        when, process, number, other = _RECORD.unpack_from(data, at)
        yield Note(when, Action(action), number, other, process)
