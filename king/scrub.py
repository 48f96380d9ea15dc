"""What an idle ship reads again, beside its newest snapshot (serf/scrub.py reads that):
the generation before it, pins, and the states that epochs keep.

Owns: what was found rotten, by name, until it is whole again.
Invariants: each of them is read once in the period, spread over it by size; nothing
    is begun while the ship computes. An epoch's state is compared with the hash in its
    record; where the newest epoch's is rotten, the record goes, and so the next roll or
    its finish makes another. The image is nobody's but the serf's: a child of low
    priority looks at it, and what a save changed meanwhile is not counted.
Limits: the child reads the whole image in one go. Each start begins anew. An older
    epoch's state cannot be made again; a newer epoch's takes its place.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import trio

from king.check import image_info
from king.disk import sync_directory
from king.errors import TreadleError
from king.log.epoch import Epoch
from king.log.start import image_of, read_start, record_of
from king.steps import run_steps

__all__ = ["Scrub"]

PIECE = 1 << 20
BUSY_S = 1.0
"""Until it is asked again whether the ship is idle."""
EMPTY_S = 60.0
NICENESS = 19


class Scrub:
    """`busy`: the ship has something to do. `lost`: told after the record of a rotten
    state is gone."""

    def __init__(
        self,
        image: Path,
        epochs: Callable[[], Sequence[Epoch]],
        period_s: float,
        *,
        busy: Callable[[], bool],
        lost: Callable[[], None],
        tell: Callable[[str], None],
    ) -> None:
        self._image = image
        self._epochs = epochs
        self._period_s = period_s
        self._busy = busy
        self._lost = lost
        self._tell = tell
        self._passes = 0
        self._faults: dict[str, str] = {}

    def status(self) -> dict[str, Any]:
        return {"passes": self._passes, "faults": list(self._faults.values())}

    async def keep(self) -> None:
        """Pass after pass."""
        while True:
            epochs = [epoch for epoch in self._epochs() if read_start(epoch)]
            sizes = [_size(image_of(epoch)) for epoch in epochs]
            image_size = _size(self._image)
            total = image_size + sum(sizes)
            if not total:
                await trio.sleep(min(EMPTY_S, self._period_s))
                continue
            pace = self._period_s / total
            await self._rest(image_size * pace)
            await self._look_at_image()
            for epoch in epochs:
                await self._look_at_epoch(epoch, pace)
            names = {epoch.path.name for epoch in self._epochs()}
            for gone in self._faults.keys() - names - {""}:
                del self._faults[gone]  # chopped
            self._passes += 1

    async def _rest(self, seconds: float) -> None:
        await trio.sleep(seconds)
        while self._busy():
            await trio.sleep(BUSY_S)

    def _found(self, name: str, fault: str) -> None:
        """`fault`: "" where all is well."""
        if not fault:
            self._faults.pop(name, None)
        elif self._faults.get(name) != fault:
            self._faults[name] = fault
            self._tell(f"scrub: {fault}")

    # --- the image ------------------------------------------------------------

    async def _look_at_image(self) -> None:
        try:
            before = await trio.to_thread.run_sync(image_info, self._image)
            words = ("check-image", str(self._image), "--json")
            ended = await run_steps(
                "serf", *words, step=lambda _: None, niceness=NICENESS
            )
            after = await trio.to_thread.run_sync(image_info, self._image)
        except TreadleError:
            return  # the serf whose image it is will say more
        if before["generation"] != after["generation"] or "fault" not in ended.last:
            return
        why = str(ended.last["fault"])
        if why:
            why = (
                f"something kept in the image is rotten: {why}; an older snapshot is "
                "replaced by the next saves, a pin is let go by `treadle unpin`"
            )
        self._found("", why)

    # --- epochs -----------------------------------------------------------------

    async def _look_at_epoch(self, epoch: Epoch, pace: float) -> None:
        known = read_start(epoch)
        if known is None:
            return
        path, name = image_of(epoch), epoch.path.name
        digest = hashlib.sha256()
        why = ""
        try:
            with path.open("rb", buffering=0) as file:
                while piece := await trio.to_thread.run_sync(_read, file.fileno()):
                    digest.update(piece)
                    await self._rest(len(piece) * pace)
            if digest.hexdigest() != known.sha256:
                why = "its bytes are not those that were written"
        except FileNotFoundError:
            return  # chopped
        except OSError as error:
            why = error.strerror or str(error)
        if read_start(epoch) != known:
            return  # it was made again, or chopped, meanwhile
        if why and epoch == self._epochs()[-1]:
            await self._give_up(epoch, why)
        elif why:
            self._found(
                name,
                f"the state that epoch {name} keeps is rotten ({why}): no start will "
                "use it; `treadle roll` begins an epoch with a good one",
            )
        else:
            self._found(name, "")

    async def _give_up(self, epoch: Epoch, why: str) -> None:
        """Let the newest epoch's state be made again."""
        name = epoch.path.name
        try:
            record_of(epoch).unlink()
            await trio.to_thread.run_sync(sync_directory, epoch.path)
        except OSError as error:
            why = f"{why}; {error.strerror}"
        self._found(
            name, f"the state that epoch {name} keeps was rotten ({why}): made again"
        )
        self._lost()


def _read(descriptor: int) -> bytes:
    """The next piece, of what the disk has and not the system's copy of it."""
    at = os.lseek(descriptor, 0, os.SEEK_CUR)
    os.posix_fadvise(descriptor, at, PIECE, os.POSIX_FADV_DONTNEED)
    piece = os.read(descriptor, PIECE)
    os.posix_fadvise(descriptor, at, PIECE, os.POSIX_FADV_DONTNEED)
    return piece


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
