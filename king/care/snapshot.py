"""`treadle snapshot PIER DEST`: a whole, verified copy, while the ship runs.

The state is saved and copied first, then the log, which only grows meanwhile: so
the copy's snapshot is of an event that its log has. All is made beside DEST, read
again and checked as `treadle check` does, and gets its name when it is whole and
durable. It says of itself that it is a copy: it runs only after `treadle adopt`.

Interrupted, it leaves nothing; after a kill -9 or a power cut a folder is left
whose name nobody uses, and the next snapshot to DEST removes it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from king.care.ground import Ground, Progress
from king.copy_pier import pier_bytes
from king.disk import explain_disk, free_bytes, publish
from king.errors import TreadleError
from king.image_copy import copy_image
from king.manifest import read_manifest, write_manifest
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
    with _part(target, ground.layout.root) as part:
        _check_room(ground.layout, part)
        made = await _make(ground, Layout(part), progress)
        # From here on it is not given up any more: it takes no time.
        _publish(part, target)
    return {
        "dest": str(target),
        **made,
        "seconds": round(time.monotonic() - began, 3),
    }


async def _make(
    ground: Ground, copy: Layout, progress: Callable[[Progress], None]
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
        )
    live = ["--live"] if ground.live else []
    words = (str(ground.layout.root), str(copy.root), *live)
    code, last, why = await run_steps("king.copy_pier", *words, step=step)
    if code or "bytes" not in last:
        raise _failure(last, why)
    manifest = read_manifest(ground.layout.manifest)
    assert manifest is not None
    ship = ship_text(manifest.ship)
    when = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
    what = f"it is a snapshot of {ship}, taken at {when} UTC on {os.uname().nodename}"
    write_manifest(copy.manifest, replace(manifest, place=None, copy=what))
    progress(Progress(0, 0, "bytes", "checking"))
    code, report, why = await run_steps(
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
        "bytes": last["bytes"] + image["bytes"],
        "log_sha256": report["log_sha256"],
    }


def _failure(last: Mapping[str, Any], why: str) -> TreadleError:
    if "error" in last:
        return TreadleError(last["error"], last["message"], last["hint"])
    return TreadleError("failed", f"the pier's files were not copied: {why}")


def part_of(target: Path) -> Path:
    """Where a copy is made before it has its name."""
    return target.with_name(f".{target.name}.snapshot")


@contextmanager
def _part(target: Path, pier: Path) -> Iterator[Path]:
    """An empty folder of ours alone beside `target`, gone at the end unless it got
    that name."""
    if os.path.lexists(target):
        raise TreadleError(
            "pier-exists", f"{target} exists already", "name a new directory"
        )
    if target.resolve().is_relative_to(pier.resolve()):
        raise TreadleError(
            "usage",
            f"{target} lies within the ship's own directory",
            "name a directory beside it, or on another disk",
        )
    if not target.parent.is_dir():
        raise TreadleError(
            "pier-missing",
            f"the directory {target.parent}, where the copy would go, does not exist",
            f"make it first: mkdir -p {target.parent}",
        )
    part = part_of(target)
    try:
        with _claimed(part):
            try:
                yield part
            finally:
                shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        raise explain_disk(error, target.parent, "making the copy") from error


@contextmanager
def _claimed(part: Path) -> Iterator[None]:
    """The folder, made anew and locked; what a killed copy left goes."""
    while True:
        part.mkdir(mode=0o700, exist_ok=True)
        folder = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ours = os.path.samestat(os.fstat(folder), part.lstat())
        except BlockingIOError:
            os.close(folder)
            raise TreadleError(
                "care-busy",
                f"another snapshot is being made in {part}",
                "wait for its end, or name another directory",
            ) from None
        except FileNotFoundError:
            ours = False
        if ours:
            break
        os.close(folder)
    try:
        for entry in os.scandir(part):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)
        yield
    finally:
        os.close(folder)


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


def _publish(part: Path, target: Path) -> None:
    try:
        publish(part, target)
    except FileExistsError as error:
        raise TreadleError(
            "pier-exists",
            f"{target} appeared meanwhile; nothing of it was changed",
            "name a new directory",
        ) from error
