"""`treadle pin`: keep the state as it now is, under a name.

A pinned generation stays in the image, whatever is saved after it, until it is
let go. Its pages are shared with the others: it costs what changes since. A fork
or a backup copies it out with `python -m serf image-copy`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from king.care.ground import Ground, Progress
from king.care.pins import PINS_MAX, pin_bad, read_pins

__all__ = ["pin"]


async def pin(
    ground: Ground, arguments: Mapping[str, Any], progress: Callable[[Progress], None]
) -> dict[str, Any]:
    """`name` and `event`.

    :raises TreadleError: pin-bad, snapshot-failed, serf-died
    """
    name, pins = str(arguments["name"]), await read_pins(ground.layout)
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,39}", name):
        allowed = "a name is 1 to 39 letters, digits and -._"
        raise pin_bad(f"{name!r} is no name for a pin", allowed)
    if name in pins:
        raise pin_bad(f"event {pins[name]} is pinned as {name} already")
    if len(pins) >= PINS_MAX:
        raise pin_bad(f"{len(pins)} generations are pinned already")
    progress(Progress(0, 0, "events", "saving"))
    return {"name": name, "event": await ground.change_pins(name, "")}
