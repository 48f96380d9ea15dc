"""What every driver says and hears, between nouns and Python values.

Ova are built here, and the guest's words are taken apart here: each function
that reads takes a bound, and raises ValueError (CueError is one) for anything
that is not what it should be. A driver catches that in one place, logs a line
and goes on.

Limits: SMALL bytes of jam for nouns that are cued in Python; large atoms
(octs) never become Python nouns with structure, only bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

import trio

from king.event import Effect, Failure, Goof, Jam, Outcome, Ovum, Refused
from proto import fast
from proto.cord import cord, path_noun
from proto.errors import CueError
from proto.jam import cue, jam
from proto.noun import Cell, Noun, atom_bytes, listed, noun

__all__ = [
    "DONE_NOTHING",
    "NO",
    "NULL",
    "SMALL",
    "YES",
    "effect_wire",
    "goof_jams",
    "knot_text",
    "motes",
    "octs_bytes",
    "octs_jam",
    "off_thread",
    "ovum",
    "ovum_of_jam",
    "read_small",
    "refusal",
    "wire_jam",
]

YES: Final = 0
NO: Final = 1
SMALL: Final = 1 << 18
NULL: Final = jam(0)
_THREAD_SIZE: Final = 1 << 20
T = TypeVar("T")


def DONE_NOTHING(outcome: Outcome) -> None:
    """For `submit`, where the outcome changes nothing."""


def wire_jam(wire: tuple[str, ...]) -> Jam:
    """Jam of `[target path]`."""
    return jam(Cell(cord(wire[0]), path_noun(*wire[1:])))


def ovum(wire: tuple[str, ...], tag: str, data: Noun = 0) -> Ovum:
    """Build `[[target path] [tag data]]`; `wire` begins with the target."""
    head = Cell(cord(wire[0]), path_noun(*wire[1:]))
    return Ovum(wire, tag, jam(Cell(head, Cell(cord(tag), data))))


def ovum_of_jam(wire: tuple[str, ...], tag: str, *data: bytes) -> Ovum:
    """The same where the data is `[d0 d1 ...]`, each a jam already."""
    parts = [wire_jam(wire), jam(cord(tag)), *data]
    return Ovum(wire, tag, Jam(fast.tuple_(parts)))


def knot_text(knot: bytes) -> str:
    """A knot for people, logs and comparisons; different bytes, different text."""
    return knot.decode("utf-8", "backslashreplace")


def effect_wire(effect: Effect) -> tuple[bytes, ...]:
    """The wire without the empty knot that may lead it."""
    wire = effect.wire
    return wire[1:] if wire and not wire[0] else wire


def read_small(data: bytes, size_max: int = SMALL) -> Noun:
    """Cue a noun that has no reason to be large.

    :raises ValueError: if it is, or is no jam.
    """
    if len(data) > size_max:
        raise ValueError(f"{len(data)} bytes of jam where {size_max} are enough")
    return cue(data)


def octs_bytes(length: bytes, atom: bytes, size_max: int) -> bytes:
    """`[length atom]`, jams both, as that many bytes: cut, or filled with zeros.

    :raises ValueError: if either is a cell or it is longer than `size_max`.
    """
    size = read_small(length, 64)
    if isinstance(size, Cell) or size > size_max:
        raise ValueError(f"octs longer than {size_max} bytes")
    data = atom_bytes(cue(atom))
    return data if len(data) == size else data[:size].ljust(size, b"\0")


def octs_jam(data: bytes) -> Jam:
    """Jam of `[length atom]`."""
    number = int.from_bytes(data, "little")
    return Jam(fast.tuple_([jam(len(data)), jam(number)]))


def goof_jams(failure: Failure) -> list[bytes]:
    """The parts of the list of goofs, for `fast.tuple_`, the final ~ included.
    A tang that is no jam (the serf is not believed) is left empty."""
    parts: list[bytes] = []
    for goof in failure.goofs:
        mote = jam(cord(goof.mote))
        try:
            parts.append(fast.tuple_([mote, goof.tang]))
        except CueError:
            parts.append(fast.tuple_([mote, NULL]))
    parts.append(NULL)
    return parts


def refusal(outcome: Refused) -> Failure:
    """A refusal in the words of a failure: our code as the mote, one %leaf."""
    tape = listed(outcome.why.encode())
    return Failure((Goof(outcome.code, jam(listed([noun("leaf", tape)]))),))


def motes(failure: Failure) -> str:
    """Why, in one line."""
    return ", ".join(f"%{goof.mote}" for goof in failure.goofs) or "no reason given"


async def off_thread(work: Callable[[], T], size: int) -> T:
    """Do it here, or in a thread if `size` bytes take so long that all others
    would notice (the codec releases the interpreter's lock)."""
    if size < _THREAD_SIZE:
        return work()
    return await trio.to_thread.run_sync(work)
