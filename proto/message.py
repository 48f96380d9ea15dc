"""Everything that king and serf can say, on one screen.

A *writ* goes from king to serf, a *plea* from serf to king. A frame carries
a list of messages (see `frame`); a message is a msgpack array: its tag, then
its fields in the order given here (see `codec`).

Types on the wire: `int` is an unsigned integer (64 bits at most), `Jam` is
msgpack ext type 1 holding jam bytes, other `bytes` are bin, `str` is UTF-8
str, a tuple is an array, `None` is nil, a record is an array of its fields.

Rules of the conversation.
  The serf speaks first: one Ripe. It answers every writ but Exit with exactly
  one plea, in order; Slog and Flog may come at any time between.
  Requests are numbered by the king, per connection, rising; the answer names
  its request.
  Work: the serf numbers what succeeds: Done.event is the last event + 1. A
  Bail consumes no event number, and the state is as before.
  Play: rows first.. in order; the first `life` rows of the log, which must
  all be in the Play with first = 1, go through the lifecycle formula, the
  rest are poked. A row's mug, if not 0, must be the mug of the kernel after
  it; the serf stops before it builds on a divergence: Stuck names the event.
  Save: `event` is durable in the log; the serf saves only if it is exactly
  its own event (else Bail with mote `fail`).

Model: proto/model/Treadle.tla. Source of the grammar: spec/king.md 4.3
(protocol 1), with our own request ids and batches.
"""

from __future__ import annotations

from typing import NamedTuple, NewType

__all__ = [
    "PLEAS",
    "PROTOCOL",
    "WRITS",
    "Bail",
    "Done",
    "Effect",
    "Exit",
    "Flog",
    "Gauge",
    "Gauged",
    "Goof",
    "Hash",
    "Hashed",
    "Jam",
    "Pack",
    "Packed",
    "Peek",
    "Peeked",
    "Play",
    "Played",
    "Plea",
    "Ripe",
    "Row",
    "Save",
    "Saved",
    "Slog",
    "Stuck",
    "Work",
    "Writ",
]

PROTOCOL = 2

Jam = NewType("Jam", bytes)
"""Bytes that claim to be the jam of a noun. Opaque to the king."""

# --- shared parts -----------------------------------------------------------


class Effect(NamedTuple):
    """`[wire [tag data]]`. A malformed effect comes as wire=(), tag=b"",
    data=jam of all of it. Knots and tag are the atoms' bytes."""

    wire: tuple[bytes, ...]
    tag: bytes
    data: Jam


class Goof(NamedTuple):
    """Why an event failed: a mote ("exit", "meme", ...) and a (list tank)."""

    mote: str
    tang: Jam


class Row(NamedTuple):
    """One event as logged: kernel mug after it (0: unknown), and its job."""

    mug: int
    job: Jam


# --- writs: king to serf ----------------------------------------------------


class Work(NamedTuple):
    """Poke `job` = [now ovum]. `deadline_ms` 0 means none."""

    request: int
    deadline_ms: int
    job: Jam


class Peek(NamedTuple):
    """Slam the peek arm with `sample`; answered by Peeked or Bail."""

    request: int
    deadline_ms: int
    sample: Jam


class Play(NamedTuple):
    """Replay `rows`, the first of which is event number `first`."""

    request: int
    first: int
    life: int
    rows: tuple[Row, ...]


class Save(NamedTuple):
    """Write a snapshot of the state after `event`, which is durable; answered
    by Saved or Bail when that is done, whatever was answered meanwhile. `pin`:
    keep what is written, under that name, until it is let go by `unpin` (which
    may name nothing that is there); "" for neither. `pace`: write no more bytes a
    second than that; 0: as fast as the disk takes them."""

    request: int
    event: int
    pin: str = ""
    unpin: str = ""
    pace: int = 0


class Pack(NamedTuple):
    """Collect home now and drop caches."""

    request: int


class Hash(NamedTuple):
    """SHA-256 of the canonical jam of the kernel (slow; proofs and tests)."""

    request: int


class Gauge(NamedTuple):
    """Ask for memory and machine counters."""

    request: int


class Exit(NamedTuple):
    """Leave at once with this exit code. No answer."""

    code: int


# --- pleas: serf to king ----------------------------------------------------


class Ripe(NamedTuple):
    """First words. `event` 0 and `mug` 0 where no snapshot was usable.
    `ship` and `log` identify what the image belongs to, else are what the
    king gave. `fell_back` counts newer generations that were refused;
    `note` says why, in words."""

    protocol: int
    runtime: str
    ship: bytes
    log: bytes
    event: int
    mug: int
    generation: int
    fell_back: int
    note: str


class Done(NamedTuple):
    """The event succeeded. `job` is given only where a %crud event replaced
    the one offered: then *this* is what must be logged. What it cost:
    nanoseconds of the event's thread, and pages of home that it was the first
    to write since the last save."""

    request: int
    event: int
    mug: int
    effects: tuple[Effect, ...]
    job: Jam | None
    nanoseconds: int = 0
    pages: int = 0


class Bail(NamedTuple):
    """The request failed and changed nothing."""

    request: int
    goofs: tuple[Goof, ...]


class Peeked(NamedTuple):
    """The product of the peek arm, a unit."""

    request: int
    result: Jam


class Played(NamedTuple):
    """All rows applied; `event` is the last, `mug` the kernel's after it."""

    request: int
    event: int
    mug: int


class Stuck(NamedTuple):
    """Replay stopped at `event`; the state is as after event - 1. A
    divergence has `actual` != `expected` and no goof; a crash has a goof."""

    request: int
    event: int
    expected: int
    actual: int
    goof: Goof | None


class Saved(NamedTuple):
    """The snapshot of `event` is durable."""

    request: int
    event: int
    mug: int
    generation: int
    pages: int
    bytes_written: int
    elapsed_us: int


class Packed(NamedTuple):
    request: int
    bytes_before: int
    bytes_after: int


class Hashed(NamedTuple):
    request: int
    event: int
    sha256: bytes


class Gauged(NamedTuple):
    """Counters by name, such as home_bytes, nursery_peak_bytes, events."""

    request: int
    values: tuple[tuple[str, int], ...]


class Slog(NamedTuple):
    """The guest printed a tank, while working on `event` (or 0)."""

    priority: int
    event: int
    tank: Jam


class Flog(NamedTuple):
    """The serf itself has something to tell people."""

    text: str


Writ = Work | Peek | Play | Save | Pack | Hash | Gauge | Exit
Plea = (
    Ripe
    | Done
    | Bail
    | Peeked
    | Played
    | Stuck
    | Saved
    | Packed
    | Hashed
    | Gauged
    | Slog
    | Flog
)

WRITS: dict[str, type] = {
    "work": Work,
    "peek": Peek,
    "play": Play,
    "save": Save,
    "pack": Pack,
    "hash": Hash,
    "gauge": Gauge,
    "exit": Exit,
}
PLEAS: dict[str, type] = {
    "ripe": Ripe,
    "done": Done,
    "bail": Bail,
    "peeked": Peeked,
    "played": Played,
    "stuck": Stuck,
    "saved": Saved,
    "packed": Packed,
    "hashed": Hashed,
    "gauged": Gauged,
    "slog": Slog,
    "flog": Flog,
}
