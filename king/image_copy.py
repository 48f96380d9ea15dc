"""An independent, verified copy of one generation of an image.

What it is: the king's hand on `python -m serf image-copy` (serf/copy.py): a
    process of its own, which may meet a rotten disk.
Invariants: `target` is there whole and durable, or not at all. Cancelled, the
    process is ended, and nothing is left of what was not finished.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from king.steps import run_steps

__all__ = ["CopyStep", "copy_image"]

CopyStep = Callable[[str, int, int], None]
"""Hears `copy` or `verify`, bytes done, bytes in all; some times a second."""

_HINTS = {
    "image-overwritten": "try again; while it runs, the ship should not save",
    "image-damaged": "treadle check says what else is damaged",
}


async def copy_image(
    source: Path,
    event: int | None,
    target: Path,
    progress: CopyStep | None = None,
    *,
    hold: int = -1,
) -> dict[str, Any]:
    """Copy the generation of `event` (None: the newest) into a new file; what
    was made: file, generation, event, mug, pages, bytes, seconds, ship, log.

    :raises TreadleError: image-event-missing, image-overwritten, image-damaged,
        file-bad, disk-full, disk-error, failed
    """
    which = "newest" if event is None else str(event)

    def hear(row: dict[str, Any]) -> None:
        if progress is not None and "step" in row:
            progress(row["step"], row["done"], row["total"])

    words = ("image-copy", str(source), which, str(target), "--json")
    ended = await run_steps("serf", *words, step=hear, hold=hold)
    if ended.code == 0 and "file" in ended.last:
        return ended.last
    hint = _HINTS.get(ended.last.get("error", ""), "")
    raise ended.fault(f"the copy of {source} was not made", hint)
