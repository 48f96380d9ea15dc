"""When to save a snapshot.

Owns: the cadence: `interval_s` after the first event that the last snapshot
    has not, or after `events_max` events or `bytes_max` of log, whichever is
    first. The saves at exit and after a replay are the daemon's and replay's.
Invariants: idle costs nothing: no event, no timer, no wake-up.
Limits: events wait at the wall for the commits before it, not for the save.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from king.errors import TreadleError
from king.spine import Spine
from proto.message import Saved

__all__ = ["keep_saving"]

EVENTS_MAX = 1_000_000
BYTES_MAX = 1 << 30
CHECK_S = 5.0
RETRY_S = 60.0
HELD_S = 1.0


async def keep_saving(
    spine: Spine,
    *,
    interval_s: float,
    saved: Callable[[Saved], None],
    tell: Callable[[str], None],
    events_max: int = EVENTS_MAX,
    bytes_max: int = BYTES_MAX,
) -> None:
    """Save by the cadence, until cancelled."""
    saved_event = spine.pipeline.committed
    while True:
        if spine.pipeline.committed == saved_event:
            # The bell is rung by the first commit from here on.
            spine.active = trio.Event()
            await spine.active.wait()
        event, size = spine.pipeline.committed, spine.bytes_logged
        left = interval_s
        while left > 0 and (
            spine.pipeline.committed - event < events_max
            and spine.bytes_logged - size < bytes_max
        ):
            step = min(left, CHECK_S)
            await trio.sleep(step)
            left -= step
        while spine.saves_held:
            await trio.sleep(HELD_S)
        try:
            plea = await spine.save()
        except TreadleError as error:
            tell(f"snapshot put off: {error.message}")
            await trio.sleep(min(RETRY_S, interval_s))
            continue
        if plea is None:
            tell("the serf declined to save a snapshot")
            await trio.sleep(min(RETRY_S, interval_s))
        else:
            saved_event = plea.event
            saved(plea)
