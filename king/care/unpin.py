"""`treadle unpin`: let a pinned generation go.

Its room is used again by later saves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from king.care.ground import Ground, Progress
from king.care.pins import pin_bad, read_pins

__all__ = ["unpin"]


async def unpin(
    ground: Ground, arguments: Mapping[str, Any], progress: Callable[[Progress], None]
) -> dict[str, Any]:
    """`name` and `event`.

    :raises TreadleError: pin-bad, snapshot-failed, serf-died
    """
    name, pins = str(arguments["name"]), await read_pins(ground.layout)
    if name not in pins:
        raise pin_bad(f"nothing is pinned as {name!r}")
    progress(Progress(0, 0, "events", "saving"))
    await ground.change_pins("", name)
    return {"name": name, "event": pins[name]}
