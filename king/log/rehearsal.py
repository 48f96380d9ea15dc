"""Read a log in a child first, which may die of it.

What it is: LMDB trusts its pages. One that is not what it was (rot, a write
    that went astray) can make it abort the process that comes by it, with a
    line of its own and no word about what to do. So what a start will touch is
    touched by a child before: every database opened, the newest rows read, a
    row and META written into a transaction that is given up.
Owns: the child, while it lives.
Invariants: nothing of the log is changed; whatever the child finds wrong
    without dying of it, its parent will find, too, and say better.
Limits: of older rows nothing is known but what `check_readable` was asked for.
    Where no child is to be had (a limit on processes), there is no rehearsal.
    A page that only a commit comes by (of LMDB's list of free pages) is not
    seen here.

    python -m king.log.rehearsal LOG_DIR start|view     what a start does, or a reader
    python -m king.log.rehearsal LOG_DIR FIRST          read all rows from FIRST on
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from king.errors import TreadleError
from king.modules import run_module

__all__ = ["NEWEST_ROWS", "check_lived", "check_readable", "rehearse"]

NEWEST_ROWS = 1024
"""What a start reads of the rows."""

_DEADLY = (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE)


def rehearse(
    log_dir: Path, work: Callable[[], object], *, read_only: bool = False
) -> None:
    """Do `work` in a fork; it touches the log and changes nothing.

    A process with other threads does not fork: there, a process of its own does
    the same, with a map of the usual size.

    :raises TreadleError: log-bad: the child died of it.
    """
    if threading.active_count() > 1:
        _in_process(log_dir, "view" if read_only else "start")
        return
    try:
        pid = os.fork()
    except OSError:
        return  # no process is to be had
    if not pid:
        _die_quietly(work)
    _, status = os.waitpid(pid, 0)
    check_lived(log_dir, os.waitstatus_to_exitcode(status))


def check_readable(log_dir: Path, first: int) -> None:
    """Read all rows from `first` on, in a process of its own: for many rows.

    :raises TreadleError: log-bad: it died of it.
    """
    _in_process(log_dir, str(first))


def _in_process(log_dir: Path, what: str) -> None:
    with contextlib.suppress(OSError):  # no process is to be had
        done = run_module(__name__, str(log_dir), what)
        check_lived(log_dir, done.returncode)


def check_lived(log: Path, code: int) -> None:
    """Of a child that read this log, and ended with `code`.

    :raises TreadleError: log-bad: it died of it.
    """
    if -code in _DEADLY:
        name = signal.Signals(-code).name
        # Of a mapped file, what a disk fails to read is a SIGBUS.
        disk = "look at the disk (dmesg); " * (name == "SIGBUS")
        raise TreadleError(
            "log-bad",
            f"the log in {log} is damaged: LMDB dies of reading it ({name})",
            f"{disk}restore the pier from a copy; `treadle check` says how far this "
            "one can be read; nothing was changed",
        )


def _die_quietly(work: Callable[[], object]) -> NoReturn:
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        faulthandler.disable()
        null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        os.dup2(null, 2)  # LMDB's last words
        work()
    finally:
        os._exit(0)


def _main(log_dir: Path, what: str) -> None:
    from king.log.epoch import open_log_at_risk

    log = open_log_at_risk(log_dir, read_only=what != "start")
    if what in ("start", "view"):
        log.rehearse()
    else:
        log.touch(int(what))


if __name__ == "__main__":
    with contextlib.suppress(TreadleError):
        _main(Path(sys.argv[1]), sys.argv[2])
