"""Named crash points: inert unless the environment arms them.

TREADLE_FAILPOINTS="commit.before=kill@3,release.before=exit:9" arms the third
pass of `commit.before` with SIGKILL on ourselves, and the first pass of
`release.before` with exit code 9. Actions: kill, exit[:code], raise,
sleep[:seconds].
Invariants: unarmed, a pass costs one truth test; names are those in NAMES.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass

__all__ = ["NAMES", "FailpointError", "arm", "armed", "disarm", "hit"]

NAMES = frozenset(
    {
        "commit.before",
        "commit.after",
        "release.before",
        "release.after",
        "send.after",
        "save.before",
        "save.after",
        "replay.frame",
        "stop.before",
    }
)


class FailpointError(RuntimeError):
    """Raised by an armed failpoint with the action `raise`."""


@dataclass(slots=True)
class _Point:
    action: str
    argument: str
    left: int  # passes until it fires


armed: dict[str, _Point] = {}


def arm(text: str) -> None:
    """Arm from `name=action[:argument][@pass],...`.

    :raises ValueError: on a name or an action that does not exist.
    """
    for part in filter(None, text.split(",")):
        name, _, rest = part.partition("=")
        rest, _, count = rest.partition("@")
        action, _, argument = rest.partition(":")
        if name not in NAMES:
            raise ValueError(f"no failpoint is called {name!r}")
        if action not in ("kill", "exit", "raise", "sleep"):
            raise ValueError(f"failpoint {name}: no action is called {action!r}")
        armed[name] = _Point(action, argument, int(count or "1"))


def disarm() -> None:
    armed.clear()


def hit(name: str) -> None:
    """Pass a crash point. May be called in any thread."""
    if not armed:
        return
    point = armed.get(name)
    if point is None:
        return
    point.left -= 1
    if point.left:
        return
    if point.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)
    elif point.action == "exit":
        os._exit(int(point.argument or "9"))
    elif point.action == "sleep":
        time.sleep(float(point.argument or "1"))
    else:
        raise FailpointError(name)


arm(os.environ.get("TREADLE_FAILPOINTS", ""))
