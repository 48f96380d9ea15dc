"""A start from a state that Vere left, where the log alone does not lead there.

What it is: the last resort of a start: the old epochs were chopped, and no image of
    ours is there. Vere's own snapshots hold the state: `image.bin` in an epoch (at
    its start) and in `.urb/chk` (later). The newest that fits is read, by a process
    of its own, and the rest of the log is replayed on it, every mug compared.
Invariants: nothing that Vere wrote is changed: what is read becomes an image of
    ours, beside it.
Limits: format 5, Vere 4.0 and later (serf/vere_image.py). Of an older Vere's pier
    without its old epochs, take a rock with that Vere (`cram`), and import it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from king.disk import explain_disk, sync_directory
from king.errors import TreadleError
from king.log.epoch import Epoch
from king.steps import run_steps

__all__ = ["images_of_vere", "take_from_vere"]

_HEAD_BYTES = 24


def images_of_vere(image: Path, epochs: Sequence[Epoch], last: int) -> list[Path]:
    """Vere's snapshots that this log goes on from, the newest first; by what they
    say of themselves."""
    found: list[tuple[int, Path]] = []
    folders = [image.parent, *(epoch.path for epoch in epochs)]
    for path in (folder / "image.bin" for folder in folders):
        try:
            with path.open("rb") as file:
                head = file.read(_HEAD_BYTES)
        except OSError:
            continue
        event = int.from_bytes(head[16:24], "little")
        if len(head) == _HEAD_BYTES and epochs[0].start <= event <= last:
            found.append((event, path))
    return [path for _, path in sorted(found, reverse=True)]


async def take_from_vere(
    image: Path,
    scratch: Path,
    ship: bytes,
    log: bytes,
    epochs: Sequence[Epoch],
    last: int,
    tell: Callable[[str], None],
) -> int | None:
    """Make an image of the newest of Vere's that can be read; its event, None if
    there is none.

    :raises TreadleError: disk-full, disk-error
    """
    for path in images_of_vere(image, epochs, last):
        try:
            event = await _take(path, image, scratch, ship, log)
        except OSError as error:
            raise explain_disk(error, image.parent, "taking Vere's state") from error
        except TreadleError as error:
            if error.code in ("disk-full", "disk-error"):
                raise
            tell(f"Vere's snapshot {path} is no help: {error.message}")
        else:
            tell(f"the ship starts from Vere's snapshot of event {event}, {path}")
            return event
    return None


async def _take(path: Path, image: Path, scratch: Path, ship: bytes, log: bytes) -> int:
    scratch.unlink(missing_ok=True)
    words = ("vere-in", str(path), str(scratch), ship.hex(), log.hex())
    ended = await run_steps("serf", *words, step=lambda row: None)
    if ended.code or "event" not in ended.last:
        raise ended.fault("its reader died")
    os.replace(scratch, image)
    sync_directory(image.parent)
    return int(ended.last["event"])
