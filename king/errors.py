"""Operating faults, each handled by name.

What people and scripts see of a fault is one line, `treadle: CODE: message`,
one hint, and an exit code. Codes are stable: scripts may depend on them.

Owns: the catalogue of codes.
Invariants: a message names what and where; a hint says what to do next, and
    never asks anyone to delete part of a pier.
Limits: bails of the guest are values (`proto.message.Goof`), not errors; our
    own bugs are failed assertions, not errors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from proto.message import Goof

__all__ = [
    "EXIT_CODES",
    "EXIT_FAULT",
    "EXIT_USAGE",
    "LogFailed",
    "PeekFailed",
    "TreadleError",
]

EXIT_FAULT = 1
EXIT_USAGE = 2

# Exit codes by family, so that a supervisor can tell "try again" from "a
# person must look": 2 usage, 3 the pier, 4 the log, 5 the serf or its image,
# 6 pill and boot, 7 disk, 8 talking to a live ship, 1 all else.
EXIT_CODES: dict[str, int] = {
    "usage": EXIT_USAGE,
    "failed": EXIT_FAULT,
    # noun, nock and hoon (serf/); a crashed computation exits 2
    "jam-bad": EXIT_FAULT,
    "file-bad": EXIT_FAULT,
    "nock-crashed": 2,
    "hoon-bad": EXIT_FAULT,
    "hoon-crashed": 2,
    # the pier
    "pier-missing": 3,
    "pier-exists": 3,
    "pier-bad": 3,
    "pier-locked": 3,
    "pier-newer": 3,
    "pier-copied": 3,
    "pier-stale": 3,
    "manifest-bad": 3,
    "identity-mismatch": 3,
    "no-permission": 3,
    "read-only": 3,
    "network-disk": 3,
    # the log
    "log-missing": 4,
    "log-gap": 4,
    "log-bad": 4,
    "log-behind": 4,
    "log-newer": 4,
    "log-old": 4,
    "log-failed": 4,
    "log-open": 4,
    "chop-refused": 4,
    "archive-exists": 4,
    "archive-failed": 4,
    "lmdb-version": 4,
    "meta-bad": 4,
    # the serf and its image
    "serf-missing": 5,
    "serf-died": 5,
    "serf-spoke-nonsense": 5,
    "image-damaged": 5,
    "image-overwritten": 5,
    "image-event-missing": 5,
    "pin-bad": 5,
    "replay-diverged": 5,
    "replay-crashed": 5,
    "snapshot-failed": 5,
    "image-newer": 5,
    # pill and boot
    "pill-missing": 6,
    "pill-bad": 6,
    "pill-ivory": 6,
    "ship-bad": 6,
    "boot-failed": 6,
    "rock-bad": 6,
    "log-file-bad": 6,
    # disk
    "disk-full": 7,
    "disk-low": 7,
    "disk-error": 7,
    # a live ship
    "not-running": 8,
    "still-running": 8,
    "conn-failed": 8,
    "conn-timeout": 8,
    "peek-failed": 8,
    "event-failed": 8,
    "event-dropped": 8,
    "port-busy": 8,
    "care-busy": 8,
    "care-stopped": 8,
    "care-forbidden": 8,
    "noun-bad": 8,
}


class TreadleError(Exception):
    """A fault that people must hear of: `code`, `message`, `hint`.

    Raised anywhere in the king; caught once, by the CLI (or by the daemon,
    which first closes in order).
    """

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint

    @property
    def exit_code(self) -> int:
        return EXIT_CODES.get(self.code, EXIT_FAULT)

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"

    def as_json(self) -> dict[str, Any]:
        """The same as a value, for --json."""
        return {
            "error": self.code,
            "message": self.message,
            "hint": self.hint,
            "exit_code": self.exit_code,
        }


class LogFailed(TreadleError):
    """A commit or sync of the log failed. The ship must stop.

    What a later read shows may be cache that never reached the disk, so the
    store that raised this refuses everything afterwards; only a fresh start
    may trust the log again.
    """


class PeekFailed(TreadleError):
    """The peek arm bailed; `goofs` says why."""

    def __init__(self, goofs: tuple[Goof, ...]) -> None:
        motes = ", ".join(f"%{goof.mote}" for goof in goofs) or "no reason given"
        super().__init__("peek-failed", f"the kernel refused the peek: {motes}")
        self.goofs = goofs
