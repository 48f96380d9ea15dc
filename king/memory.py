"""What this account remembers of the ships that it ran.

Owns: `$XDG_STATE_HOME/treadle/ships/<identity>.json` (~/.local/state), one small
    file a ship: how often it was started, its last event, where it lay.
Invariants: it only ever makes a start more careful. A memory that is lost,
    unreadable or not writable is no memory, and nobody is refused for it.
Limits: of this account on this machine. It tells the staler of two copies, and a
    pier that was rolled back in place (an old backup copied over it, a volume
    set back), which nothing within the pier can tell.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from king.disk import write_durably

__all__ = ["Memory", "recall", "remember", "why_stale"]

_SIZE_MAX = 1 << 14


@dataclass(frozen=True, slots=True)
class Memory:
    """`generation` as in the manifest; `event`: one that was durable."""

    generation: int
    event: int
    path: str


def _file(identity: bytes) -> Path | None:
    base = os.environ.get("XDG_STATE_HOME")
    if not base:
        home = os.path.expanduser("~")
        if not os.path.isabs(home):
            return None
        base = f"{home}/.local/state"
    return Path(base) / "treadle" / "ships" / f"{identity.hex()}.json"


def recall(identity: bytes) -> Memory | None:
    """What is known of the ship with this log."""
    path = _file(identity)
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            value = json.loads(file.read(_SIZE_MAX))
        memory = Memory(
            int(value["generation"]), int(value["event"]), str(value["path"])
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return memory if memory.generation >= 0 and memory.event >= 0 else None


def remember(identity: bytes, memory: Memory) -> None:
    """Keep it, if that can be done."""
    path = _file(identity)
    if path is None:
        return
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_durably(path, json.dumps(asdict(memory)).encode() + b"\n", 0o600)
    except OSError:
        pass  # a sandbox, a container, a full home: no memory, then


def why_stale(memory: Memory | None, generation: int, last: int) -> str | None:
    """Why a pier of this generation and last event is older than one that we
    know of; None if it is not."""
    if memory is None:
        return None
    if memory.generation > generation:
        return (
            f"its starts are {generation}, and the ship's {memory.generation}; the "
            f"last one was in {memory.path}"
        )
    if memory.generation == generation and memory.event > last:
        return f"it ends with event {last}, and the ship was at event {memory.event}"
    return None
