"""`treadle roll`: let an epoch begin with the next event.

The log's thread gives the new epoch its name at a wall, which takes some
milliseconds. The state at that very wall is saved, and then copied into the
epoch beside the running ship, which takes as long as it takes; what was cut off
there is made up for by the next roll or start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import trio

from king.care.ground import Ground, Progress, log_of
from king.config import RUNTIME
from king.epochs import check_room, keep_start
from king.log.epoch import Log

__all__ = ["roll"]


async def roll(
    ground: Ground, arguments: Mapping[str, Any], progress: Callable[[Progress], None]
) -> dict[str, Any]:
    """`epoch` is the newest one; `rolled` whether this made it; `start` what it
    keeps of the state at its start (None for the first epoch, which needs none).

    :raises TreadleError: disk-full, disk-error, snapshot-failed, image-*
    """
    progress(Progress(0, 0, "bytes", "looking"))
    log = await log_of(ground)
    rolled = False
    async with ground.hold_saves():
        if log.last > log.epochs[-1].start and not arguments["finish"]:
            check_room(ground.layout)
            progress(Progress(0, 0, "bytes", "making an epoch"))
            await trio.to_thread.run_sync(log.prepare_roll, RUNTIME)
            progress(Progress(0, 0, "bytes", "saving the state"))
            rolled = await ground.in_log(Log.roll, save=True) is not None
        epoch = log.epochs[-1]
        start = None
        if epoch.start:
            start = await keep_start(
                ground.layout,
                epoch,
                ground.ship,
                ground.identity,
                lambda note, done, total: progress(
                    Progress(done, total, "bytes", note)
                ),
            )
    return {
        "rolled": rolled,
        "epoch": epoch.path.name,
        "event": epoch.start,
        "start": asdict(start) if start is not None else None,
    }
