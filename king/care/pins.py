"""`treadle pins`: what is pinned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import trio

from king.care.ground import Ground, Progress
from king.check import image_info
from king.errors import TreadleError
from king.pier import Layout

__all__ = ["PINS_MAX", "pin_bad", "pins", "read_pins"]

PINS_MAX = 16
"""NK_PINS_MAX of native/image.h."""


async def pins(
    ground: Ground, arguments: Mapping[str, Any], progress: Callable[[Progress], None]
) -> dict[str, Any]:
    """`pins`: name to event.

    :raises TreadleError: failed
    """
    return {"pins": await read_pins(ground.layout)}


async def read_pins(layout: Layout) -> dict[str, int]:
    """Names, and the event of each: as the file says, live or at rest.

    :raises TreadleError: failed
    """
    if not layout.image.exists():
        return {}
    found = await trio.to_thread.run_sync(image_info, layout.image)
    return {pin["name"]: int(pin["event"]) for pin in found["pins"]}


def pin_bad(why: str, hint: str = "treadle pins lists what is pinned") -> TreadleError:
    """What `treadle explain pin-bad` is about."""
    return TreadleError("pin-bad", why, hint)
