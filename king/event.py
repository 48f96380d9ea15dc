"""The names in an event's life: Ovum -> Fact or Failure -> Effect.

bytes -> Ovum -> (Work) -> Fact -> *durable* -> Effect -> bytes
"""

from __future__ import annotations

from dataclasses import dataclass, field

from proto.message import Effect, Goof, Jam

__all__ = ["Effect", "Fact", "Failure", "Goof", "Jam", "Outcome", "Ovum", "Refused"]


@dataclass(frozen=True, slots=True)
class Ovum:
    """`[[target wire] [tag data]]`, jammed, with what people read beside it.

    `jam` is the truth; `wire` (target first: `("b", "behn", "0v1.abc")`)
    and `tag` are for routing, logs and limits and must say the same.
    `deadline_ms`: None is the ship's default.
    """

    wire: tuple[str, ...]
    tag: str
    jam: Jam = field(repr=False)
    deadline_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Fact:
    """The event is in the log, durably. `replaced`: as a %crud event."""

    event: int
    mug: int
    replaced: bool


@dataclass(frozen=True, slots=True)
class Failure:
    """The event failed, and so did its %crud; it is in no log."""

    goofs: tuple[Goof, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """Never computed: the ship is stopping, read-only, or quarantined it.
    `again`: only for now, it may be offered again later. `code`: one of ours."""

    why: str
    again: bool = False
    code: str = "event-dropped"


Outcome = Fact | Failure | Refused
