"""`treadle chop`: let the log begin with a later epoch; delete the older ones.

What recovery needs is never taken: the newest two epochs stay, each with the
state at its start, which is read through, every page of it, right before. An
epoch goes by one rename, the oldest first: it is there, or it is not; what is
left of its files after a crash is deleted by the next chop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import trio

from king.care.ground import Ground, Progress, log_of
from king.disk import explain_disk
from king.epochs import check_start
from king.errors import TreadleError
from king.log.epoch import KEEP_MIN, Epoch, Log, sweep
from king.log.start import read_start

__all__ = ["chop"]


async def chop(
    ground: Ground, arguments: Mapping[str, Any], progress: Callable[[Progress], None]
) -> dict[str, Any]:
    """`removed`: the epochs that are gone; `epochs`: those that are left.

    :raises TreadleError: usage, chop-refused, disk-error
    """
    keep = arguments["keep"]
    if keep < KEEP_MIN:
        raise TreadleError(
            "usage", f"chop keeps {KEEP_MIN} epochs at least, not {keep}"
        )
    log = await log_of(ground)
    doomed = _doomed(log.epochs, keep, arguments["through"])
    removed = await _sweep(ground)
    if doomed:
        progress(Progress(0, len(doomed), "epochs", "verifying what stays"))
        await _check_rest(ground, log)
    for number, epoch in enumerate(doomed):
        progress(Progress(number, len(doomed), "epochs", f"removing {epoch.path.name}"))
        await ground.in_log(partial(_take, epoch=epoch))
        removed += await _sweep(ground)
    return {"removed": removed, "epochs": [epoch.path.name for epoch in log.epochs]}


def _doomed(
    epochs: tuple[Epoch, ...], keep: int, through: str | None
) -> tuple[Epoch, ...]:
    """The older ones; with `through`, up to that one at most."""
    doomed = epochs[:-keep]
    if through is None:
        return doomed
    names = [epoch.path.name for epoch in doomed]
    if through in names:
        return doomed[: names.index(through) + 1]
    raise TreadleError(
        "chop-refused",
        f"{through} is not among the epochs that may go: {' '.join(names) or 'none'}",
        f"the newest {keep} stay; treadle status lists them all",
    )


async def _check_rest(ground: Ground, log: Log) -> None:
    """What a ship without its snapshot would start from must be whole."""
    for epoch in log.epochs[-KEEP_MIN:]:
        fault = await trio.to_thread.run_sync(
            check_start, epoch, ground.ship, ground.identity
        )
        if fault:
            raise _refused(fault)


def _take(log: Log, epoch: Epoch) -> None:
    """In the log's thread: look once more, and take it."""
    assert log.epochs[0] is epoch, "one operation at a time"
    for other in log.epochs[-KEEP_MIN:]:
        kept = read_start(other)
        if kept is None or kept.event > log.last:
            raise _refused(f"epoch {other.path.name} has no state of its own any more")
    log.take_oldest()


def _refused(why: str) -> TreadleError:
    return TreadleError(
        "chop-refused",
        f"recovery would need what is to go: {why}",
        "roll, and again after some events (treadle roll); then chop",
    )


async def _sweep(ground: Ground) -> list[str]:
    log_dir = ground.layout.log_dir
    try:
        return await trio.to_thread.run_sync(sweep, log_dir)
    except OSError as error:
        raise explain_disk(error, log_dir, "deleting old epochs") from error
