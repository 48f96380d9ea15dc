"""`treadle save`: a snapshot of the state as it now is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from king.care.ground import Ground, Progress

__all__ = ["save"]


async def save(
    ground: Ground, arguments: Mapping[str, Any], progress: Callable[[Progress], None]
) -> dict[str, Any]:
    """`event`: the last one that the image now has.

    :raises TreadleError: snapshot-failed, serf-died, replay-*
    """
    progress(Progress(0, 0, "events", "saving"))
    return {"event": await ground.save()}
