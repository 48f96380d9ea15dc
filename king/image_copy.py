"""An independent, verified copy of one generation of an image.

What it is: the king's hand on `python -m serf image-copy` (serf/copy.py): a
    process of its own, which may meet a rotten disk.
Invariants: `target` is there whole and durable, or not at all; cancelled, the
    process is ended and nothing is left.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio

from king.check import module_command
from king.errors import TreadleError

__all__ = ["CopyStep", "copy_image"]

CopyStep = Callable[[str, int, int], None]
"""Hears `copy` or `verify`, bytes done, bytes in all; some times a second."""

_HINTS = {
    "image-overwritten": "try again; while it runs, the ship should not save",
    "image-damaged": "treadle check says what else is damaged",
}
_STOP_S = 5.0


async def copy_image(
    source: Path, event: int | None, target: Path, progress: CopyStep | None = None
) -> dict[str, Any]:
    """Copy the generation of `event` (None: the newest) into a new file; what
    was made: file, generation, event, mug, pages, bytes, seconds, ship, log.

    :raises TreadleError: image-event-missing, image-overwritten, image-damaged,
        file-bad, disk-full, disk-error, failed
    """
    which = "newest" if event is None else str(event)
    command, environment = module_command(
        "serf", "image-copy", str(source), which, str(target), "--json"
    )
    process = await trio.lowlevel.open_process(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    last: dict[str, Any] = {}
    said = bytearray()

    async def hear() -> None:
        nonlocal last
        rest = b""
        assert process.stdout is not None
        async for data in process.stdout:
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                last = json.loads(line)
                if progress is not None and "step" in last:
                    progress(last["step"], last["done"], last["total"])

    async def hear_errors() -> None:
        assert process.stderr is not None
        async for data in process.stderr:
            said.extend(data)

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hear)
            nursery.start_soon(hear_errors)
        code = await process.wait()
    finally:
        if process.returncode is None:
            await _end(process)
    if code == 0 and "file" in last:
        return last
    if "error" in last:
        hint = _HINTS.get(last["error"], "")
        raise TreadleError(last["error"], last["message"], hint)
    lines = said.decode(errors="replace").strip().splitlines()
    why = lines[-1] if lines else f"exit code {code}"
    raise TreadleError("failed", f"the copy of {source} was not made: {why}")


async def _end(process: trio.Process) -> None:
    """Ask it to clean up; it has a moment."""
    with trio.CancelScope(shield=True):
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        with trio.move_on_after(_STOP_S):
            await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()
