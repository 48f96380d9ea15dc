"""Starts kings quickly: a process that has imported everything, and forks.

    python -m king.lab.zygote        JSON lines on stdin and stdout

Each line asks for one run of the command line in a child:

    {"words": [...], "out": FILE, "err": FILE, "trace": FILE, "root": DIR,
     "serf": [...], "environment": {...}}
    -> {"pid": N}, and later {"pid": N, "status": S} as waitpid has it

What it is: importing trio and the rest takes half of a start's processor
    time, and a lab starts thousands. The serf is started as ever, by exec.
Invariants: nothing is opened and no thread started before a fork; a child
    is its own session, and watched from its first step of its own.
Limits: Linux. The library of `witness` must be preloaded.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import traceback
from typing import Any, NoReturn

import trio

import king.boot
import king.cli
import king.daemon
import king.replay
from king import child, failpoint
from king.lab.witness import KING, attach

__all__ = ["main"]


def _say(value: dict[str, int]) -> None:
    os.write(1, json.dumps(value).encode() + b"\n")


def _redirect(path: str, to: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    os.dup2(descriptor, to)
    os.close(descriptor)


def _be(job: dict[str, Any]) -> NoReturn:
    """In the child: be the command line."""
    code = 1
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        os.dup2(null, 0)
        os.close(null)
        _redirect(job["out"], 1)
        _redirect(job["err"], 2)
        os.environ.update(job["environment"])
        if job["trace"]:
            os.environ["TREADLE_WITNESS"] = job["trace"]
            os.environ["TREADLE_WITNESS_ROOT"] = job["root"]
            attach(job["trace"], job["root"], KING)
        if job["serf"]:
            child.SERF_COMMAND = tuple(job["serf"])
        failpoint.arm(os.environ.get("TREADLE_FAILPOINTS", ""))
        code = king.cli.main(job["words"])
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _reap() -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        _say({"pid": pid, "status": status})


def main() -> int:
    """Fork on demand until stdin ends; then take the children along."""
    assert trio.__version__  # imported for the children
    wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    rest = b""
    while True:
        ready, _, _ = select.select([0, wake_read], [], [])
        if wake_read in ready:
            os.read(wake_read, 4096)
            _reap()
        if 0 not in ready:
            continue
        data = os.read(0, 1 << 16)
        if not data:
            return 0
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            job = json.loads(line)
            pid = os.fork()
            if not pid:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for descriptor in (wake_read, wake_write):
                    os.close(descriptor)
                _be(job)
            _say({"pid": pid})


if __name__ == "__main__":
    sys.exit(main())
