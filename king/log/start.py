"""What an epoch keeps of its start: a state, and what is known of it.

What it is: `treadle.image` in the directory of an epoch, an independent copy of
    the state at its start; `treadle.json` there, which says what the copy is
    of, and holds what a chopped log forgets.
Owns: the names and the format of these two. king/epochs.py makes them.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from king.disk import write_durably

if TYPE_CHECKING:
    from king.log.epoch import Epoch

__all__ = ["Start", "image_of", "read_start", "record_of", "write_start"]

FORMAT = 1
_TEXT_MAX = 1 << 16


@dataclass(frozen=True, slots=True)
class Start:
    """What treadle.json says of an epoch."""

    start: int
    """The epoch holds the events after this one."""
    event: int
    """Of the state that was kept: `start`, or a later one of the same epoch."""
    mug: str
    bytes: int
    sha256: str
    """Of treadle.image."""
    ship: str
    identity: str
    """Of the log."""
    chain: str
    """The chain's link at `start`, so that it outlives the epochs before."""
    runtime: str
    made: float
    format: int = FORMAT


def image_of(epoch: Epoch) -> Path:
    return epoch.path / "treadle.image"


def record_of(epoch: Epoch) -> Path:
    return epoch.path / "treadle.json"


def read_start(epoch: Epoch) -> Start | None:
    """What is known of an epoch's start; None where nothing is, or where the
    copy is not there."""
    try:
        text = record_of(epoch).read_bytes()[:_TEXT_MAX]
        found = Start(**json.loads(text))
        size = image_of(epoch).stat().st_size
    except (OSError, ValueError, TypeError):
        return None
    whole = (found.format, found.start, found.bytes) == (FORMAT, epoch.start, size)
    return found if whole and _is_link(found.chain) else None


def _is_link(text: object) -> bool:
    """64 hex digits, or "" where nothing was chained."""
    return isinstance(text, str) and re.fullmatch("([0-9a-f]{64})?", text) is not None


def write_start(epoch: Epoch, start: Start) -> None:
    """:raises OSError:"""
    text = json.dumps(asdict(start), indent=1) + "\n"
    write_durably(record_of(epoch), text.encode())
