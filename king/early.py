"""A serf that is started before anything else.

What it is: most of a start is the loading of modules, the king's and the serf's.
    So the first that `treadle run` does is to start its serf, which loads its own
    beside the king's, and then waits for its words.
Owns: that process, until a lord has it; the socket that its words go over.
Invariants: before it has its words it knows no pier: it opens, locks and writes
    nothing. One that is not wanted, or whose king is gone, leaves at once.
Limits: nothing is imported here that takes time, and no trio.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self

from king.modules import module_environment

__all__ = ["SERF", "EarlySerf", "start_serf"]

SERF: tuple[str, ...] = (sys.executable, "-P", "-m", "serf")


def start_serf(
    command: Sequence[str],
    environment: Mapping[str, str],
    errors: int,
    inherited: Iterable[int],
) -> subprocess.Popen[bytes]:
    """In a session of its own: ^C at the terminal is the king's.

    :raises OSError: if it cannot be started.
    """
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        # With SIGCHLD ignored every exit status would read as 0.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=errors,
        stderr=errors,
        pass_fds=tuple(inherited),
        start_new_session=True,
        env=environment,
    )


class EarlySerf:
    """A context manager: at its end a serf that nobody took is killed."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._door, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._errors, errors = os.pipe2(os.O_CLOEXEC)
        try:
            self._process = start_serf(
                [*SERF, "--early", str(theirs.fileno())],
                module_environment(),
                errors,
                [theirs.fileno()],
            )
        except OSError:
            pass  # the next one that is started will say why
        finally:
            theirs.close()
            os.close(errors)

    def take(
        self, words: Sequence[str], descriptors: Mapping[str, int]
    ) -> tuple[subprocess.Popen[bytes], int] | None:
        """Tell it its words, and the descriptors that some are to name; the process
        and the pipe of its stderr are the caller's then. None: there is none, or no
        more."""
        process = self._process
        if process is None or process.poll() is not None:
            return None
        message = os.fsencode("\0".join([*words, *descriptors]))
        try:
            socket.send_fds(self._door, [message], list(descriptors.values()))
        except OSError:
            return None
        self._process = None
        return process, self._errors

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._door.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            os.close(self._errors)
