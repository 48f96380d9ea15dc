"""The states that epochs keep (king/log/start.py): making them, and the way back
to them; and when an epoch should end.

Invariants: a record is written last: where it is, the copy was whole, durable,
    and read again; Vere's files are never touched. A ship whose own snapshot is
    lost or rotten starts from the newest epoch that keeps a good state.
Limits: where a copy could not be made at the epoch's very start (a crash, a full
    disk), a later state of the same epoch takes its place, and is said to be.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import trio

from king.check import inspect_image
from king.config import RUNTIME, RollLimits
from king.disk import explain_disk, free_bytes, sync_directory, sync_file
from king.errors import TreadleError
from king.foreign import take_from_vere
from king.image_copy import CopyStep, copy_image
from king.log.chain import read_chain
from king.log.epoch import Epoch
from king.log.start import Start, image_of, read_start, write_start
from king.lord import Lord
from king.pier import Layout

__all__ = [
    "check_room",
    "check_start",
    "keep_start",
    "roll_is_due",
    "start_from_epochs",
    "take_start",
]

_ROOM_BYTES = 64 << 20
"""What must be free beside the copy of a state."""


def check_start(epoch: Epoch, ship: bytes, identity: bytes) -> str:
    """Read the whole copy; what is wrong with it, "" if nothing. Blocks."""
    known = read_start(epoch)
    if known is None:
        return f"epoch {epoch.path.name} has no state of its own"
    try:
        found = inspect_image(image_of(epoch))
    except TreadleError as error:
        return f"the state of epoch {epoch.path.name}: {error.message}"
    fault = str(found["fault"] or ("" if found["good"] else "nothing is usable"))
    for name, value in (
        ("event", known.event),
        ("mug", known.mug),
        ("ship", ship.hex()),
        ("log", identity.hex()),
    ):
        if not fault and found[name] != value:
            fault = f"its {name} is {found[name]}, not {value}"
    return f"the state of epoch {epoch.path.name}: {fault}" if fault else ""


# --- keeping it ---------------------------------------------------------------


def check_room(layout: Layout) -> None:
    """Refuse to begin a copy of the state that the disk has no room for.

    :raises TreadleError: disk-full
    """
    try:
        need = _ROOM_BYTES
        if layout.image.exists():
            need += layout.image.stat().st_blocks * 512
        free = free_bytes(layout.log_dir)
    except OSError as error:
        raise explain_disk(error, layout.log_dir, "looking for room") from error
    if free < need:
        raise TreadleError(
            "disk-full",
            f"a copy of the state may need {need:,} bytes, and {free:,} are free",
            "free some space, or archive older epochs: treadle archive",
        )


async def keep_start(
    layout: Layout,
    epoch: Epoch,
    ship: bytes,
    identity: bytes,
    progress: CopyStep | None = None,
) -> Start:
    """Keep the state at this epoch's start beside its events; at once, if it is
    there. It must be the newest epoch, and the image hold a state of it.

    :raises TreadleError: image-*, disk-full, disk-error
    """
    known = read_start(epoch)
    if known is not None:
        return known
    path = image_of(epoch)
    try:
        path.unlink(missing_ok=True)  # nobody vouches for it
    except OSError as error:
        raise explain_disk(error, epoch.path, "keeping a state") from error
    try:
        made = await copy_image(layout.image, epoch.start, path, progress)
    except TreadleError as error:
        if error.code != "image-event-missing":
            raise
        made = await copy_image(layout.image, None, path, progress)
    if made["event"] < epoch.start or (made["ship"], made["log"]) != (
        ship.hex(),
        identity.hex(),
    ):
        path.unlink(missing_ok=True)
        raise TreadleError(
            "image-event-missing",
            f"the image has no state of epoch {epoch.path.name} yet",
            "save one (treadle save), then roll again",
        )
    return await trio.to_thread.run_sync(_record, epoch, made)


def _record(epoch: Epoch, made: dict[str, Any]) -> Start:
    try:
        with image_of(epoch).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        chain = read_chain(epoch.chain_path)
        if chain is not None:
            sync_file(epoch.chain_path)  # its head is the last word on chopped epochs
        start = Start(
            start=epoch.start,
            event=made["event"],
            mug=made["mug"],
            bytes=made["bytes"],
            sha256=digest,
            ship=made["ship"],
            identity=made["log"],
            chain=chain.base.hex() if chain is not None else "",
            runtime=RUNTIME,
            made=round(time.time(), 3),
        )
        write_start(epoch, start)
    except OSError as error:
        raise explain_disk(error, epoch.path, "keeping a state") from error
    return start


# --- the way back ---------------------------------------------------------------


async def take_start(epoch: Epoch, image: Path, scratch: Path) -> dict[str, Any]:
    """Let a copy of an epoch's state be the image, in place of what is there.

    :raises TreadleError: image-*, disk-full, disk-error
    """
    try:
        scratch.unlink(missing_ok=True)
        made = await copy_image(image_of(epoch), None, scratch)
        os.replace(scratch, image)
        sync_directory(image.parent)
    except OSError as error:
        raise explain_disk(error, image.parent, "restoring a state") from error
    return made


async def start_from_epochs(
    start: Callable[[bool], Awaitable[Lord]],
    verify: bool,
    *,
    image: Path,
    scratch: Path,
    identity: bytes,
    epochs: Sequence[Epoch],
    last: int,
    tell: Callable[[str], None],
) -> Lord:
    """Start a serf (with --verify?). If its snapshot is older than a state that
    an epoch keeps, or there is none, it starts from that: the newest good one.
    Where even that is not enough, what Vere left may be.

    :raises TreadleError: as `start`
    """
    lord = await start(verify)
    assert lord.ripe is not None
    for epoch in reversed(epochs):
        kept = read_start(epoch)
        if kept is None or kept.event > last or kept.identity != identity.hex():
            continue
        if kept.event <= lord.ripe.event:
            break
        had = f"a snapshot of event {lord.ripe.event}" if lord.ripe.event else "none"
        await _end(lord)
        try:
            await take_start(epoch, image, scratch)
        except TreadleError as error:
            tell(f"the state of epoch {epoch.path.name} is no help: {error.message}")
        else:
            tell(
                f"the ship had {had} that is usable: it starts from the state of "
                f"event {kept.event} that epoch {epoch.path.name} keeps"
            )
        lord = await start(verify)
        assert lord.ripe is not None
    assert lord.ripe is not None
    if lord.ripe.event < _log_start(epochs):
        # Nothing of ours: the log begins later than any state that we have.
        spec = lord.spec
        await _end(lord)
        await take_from_vere(image, scratch, spec.ship, spec.log, epochs, last, tell)
        lord = await start(verify)
    return lord


def _log_start(epochs: Sequence[Epoch]) -> int:
    """The event after which the log begins."""
    return epochs[0].start if epochs else 0


async def _end(lord: Lord) -> None:
    lord.kill("there is a better state to start from")
    with trio.CancelScope(shield=True):
        await lord.dead.wait()


# --- when to roll -----------------------------------------------------------------


def roll_is_due(epoch: Epoch, last: int, size: int, limits: RollLimits) -> str:
    """Why the newest epoch, of events up to `last` and `size` bytes, should end;
    "" if it should not."""
    count = last - epoch.start
    name = epoch.path.name
    if not count:
        return ""
    if limits.runtime and epoch.runtime != RUNTIME:
        return f"{epoch.runtime} made {name}, and this is {RUNTIME}"
    if limits.events and count >= limits.events:
        return f"{name} has {count:,} events"
    if limits.bytes and size >= limits.bytes:
        return f"{name} has {size:,} bytes"
    if limits.days:
        with contextlib.suppress(OSError):
            made = (epoch.path / "epoc.txt").stat().st_mtime
            days = (time.time() - made) / 86_400
            if days >= limits.days:
                return f"{name} is {int(days)} days old"
    return ""
