"""`treadle snapshot PIER DEST`: a whole, verified copy, while the ship runs.

The state is saved and copied first, then the log, which only grows meanwhile: so
the copy's snapshot is of an event that its log has. All is made beside DEST, read
again and checked as `treadle check` does, and gets its name when it is whole and
durable. It says of itself that it is a copy: it runs only after `treadle adopt`.

Interrupted, it leaves nothing; after a kill -9 or a power cut a folder is left
whose name nobody uses, and the next snapshot to DEST removes it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from king.care.ground import Ground, Progress
from king.copy_pier import pier_bytes
from king.disk import free_bytes
from king.errors import TreadleError
from king.image_copy import copy_image
from king.manifest import read_manifest, write_manifest
from king.part import name_it, new_part
from king.pier import Layout
from king.steps import run_steps
from proto.cord import ship_text

__all__ = ["part_of", "snapshot"]

ROOM_BYTES = 256 << 20
"""What must stay free: the ship takes no events where there is little room."""


async def snapshot(
    ground: Ground, arguments: Mapping[str, Any], progress: Callable[[Progress], None]
) -> dict[str, Any]:
    """`event` is the last one of the copy's log, `snapshot_event` that of its
    image.

    :raises TreadleError: usage, pier-exists, pier-missing, disk-full, disk-error,
        snapshot-failed, image-*, log-*, failed
    """
    began = time.monotonic()
    target = Path(arguments["dest"])
    part = part_of(target)
    with new_part(target, part, outside=ground.layout.root) as lock:
        _check_room(ground.layout, part)
        made = await _make(ground, Layout(part), lock, progress)
        # From here on it is not given up any more: it takes no time.
        name_it(part, target)
    return {
        "dest": str(target),
        **made,
        "seconds": round(time.monotonic() - began, 3),
    }


async def _make(
    ground: Ground, copy: Layout, lock: int, progress: Callable[[Progress], None]
) -> dict[str, Any]:
    def step(row: Mapping[str, Any]) -> None:
        if "step" in row:
            progress(Progress(row["done"], row["total"], "bytes", row["step"]))

    progress(Progress(0, 0, "bytes", "saving"))
    async with ground.hold_saves():
        event = await ground.save()
        copy.image.parent.mkdir(parents=True, mode=0o700)
        image = await copy_image(
            ground.layout.image,
            event,
            copy.image,
            lambda name, done, total: step(
                {"step": f"{name} image", "done": done, "total": total}
            ),
            hold=lock,
        )
    live = ["--live"] if ground.live else []
    words = (str(ground.layout.root), str(copy.root), *live)
    copied = await run_steps("king.copy_pier", *words, step=step, hold=lock)
    if copied.code or "bytes" not in copied.last:
        raise copied.fault("the pier's files were not copied")
    manifest = read_manifest(ground.layout.manifest)
    assert manifest is not None
    ship = ship_text(manifest.ship)
    when = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
    what = f"it is a snapshot of {ship}, taken at {when} UTC on {os.uname().nodename}"
    write_manifest(copy.manifest, replace(manifest, place=None, copy=what))
    progress(Progress(0, 0, "bytes", "checking"))
    _, report, why = await run_steps(
        "king", "check", str(copy.root), "--json", step=lambda row: None
    )
    if not report.get("ok"):
        bad = [
            row["text"] for row in report.get("findings", ()) if row["state"] == "bad"
        ]
        raise TreadleError(
            "snapshot-failed",
            f"the copy was made, and is not whole: {'; '.join(bad) or why}",
            f"is the ship itself? treadle check {ground.layout.root}",
        )
    return {
        "ship": ship,
        "event": report["last"],
        "snapshot_event": event,
        "bytes": copied.last["bytes"] + image["bytes"],
        "log_sha256": report["log_sha256"],
    }


def part_of(target: Path) -> Path:
    """Where a copy is made before it has its name."""
    return target.with_name(f".{target.name}.snapshot")


def _check_room(source: Layout, part: Path) -> None:
    need = pier_bytes(source) + ROOM_BYTES
    if source.image.exists():
        need += source.image.stat().st_blocks * 512
    free = free_bytes(part)
    if free < need:
        raise TreadleError(
            "disk-full",
            f"the copy may need {need:,} bytes with what must stay free, and {free:,} "
            f"are free in {part.parent}",
            "free some space there, or name a directory on another disk",
        )
