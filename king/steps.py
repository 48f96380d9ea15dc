"""A process of our own that works long, and tells its steps.

What it is: the king's hand on a child that prints JSON lines, each a step or the
    last word: it may meet a rotten disk, be slow, or be killed, and the king
    goes on.
Invariants: cancelled, the child is told to stop (SIGTERM), and then killed; it
    is never left behind. Its standard input is a pipe that ends with us, and it
    holds the lock of what it works on (`hold`), so that nobody takes that for a dead
    one's while it still is about to end.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Callable
from typing import Any, NamedTuple

import trio

from king.errors import EXIT_CODES, TreadleError
from king.modules import module_command

__all__ = ["Ended", "run_steps"]

_STOP_S = 5.0


class Ended(NamedTuple):
    """How it ended. `last`: its last line, {} if it said nothing; `why`: the last
    of its words on stderr."""

    code: int
    last: dict[str, Any]
    why: str

    def fault(self, doing: str, hint: str = "") -> TreadleError:
        """What it said went wrong, or that it is gone: while `doing`."""
        said = self.last
        if said.get("error") in EXIT_CODES:
            hint = str(said.get("hint") or hint)
            return TreadleError(said["error"], str(said.get("message", "")), hint)
        return TreadleError("failed", f"{doing}: {self.why}", hint)


async def run_steps(
    module: str,
    *words: str,
    step: Callable[[dict[str, Any]], None],
    hold: int = -1,
    niceness: int = 0,
) -> Ended:
    """Run `python -m module words...`; `step` hears each line, the last one, too."""
    command, environment = module_command(module, *words)
    process = await trio.lowlevel.open_process(
        command,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=() if hold < 0 else (hold,),
    )
    if niceness:
        with contextlib.suppress(OSError):  # it may be over already
            os.setpriority(os.PRIO_PROCESS, process.pid, niceness)
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
                step(last)

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
        assert process.stdin is not None
        with trio.CancelScope(shield=True):
            await process.stdin.aclose()
    lines = said.decode(errors="replace").strip().splitlines()
    return Ended(code, last, lines[-1] if lines else f"exit code {code}")


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
