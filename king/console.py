"""The terminal device: raw mode, reading, writing, size, and giving it back.

Owns: the termios of the terminal, from `Console.opened` to its end. The
terminal is opened anew by its name, so that O_NONBLOCK is set on a
description of our own and never on the one shared with the shell.
Invariants: the settings found are restored on every way out: normal end, an
exception, SystemExit, a stop by ^Z (and raw again when continued). SIGKILL
alone cannot be helped: `stty sane` does.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import termios
from collections.abc import Iterator

import trio

__all__ = ["Console", "has_terminal"]

READ_SIZE = 4096


def has_terminal() -> bool:
    """Are both standard input and output a terminal?"""
    try:
        return os.isatty(0) and os.isatty(1)
    except OSError:
        return False


class Console:
    """One terminal, in raw mode."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._found = termios.tcgetattr(fd)
        self._raw = False
        self._resized = trio.Event()

    @classmethod
    @contextlib.contextmanager
    def opened(cls) -> Iterator[Console]:
        """The terminal of this process, raw until the end of the block.

        :raises OSError: if there is none.
        """
        sys.stdout.flush()
        fd = os.open(
            os.ttyname(1), os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        )
        try:
            console = cls(fd)
            atexit.register(console.restore)
            try:
                console.raw()
                yield console
            finally:
                console.restore()
                atexit.unregister(console.restore)
        finally:
            os.close(fd)

    def raw(self) -> None:
        """Keys as they come. ISIG and IXON stay on: ^C, ^Z, ^\\ are signals."""
        mode = termios.tcgetattr(self._fd)
        mode[0] &= ~(termios.ICRNL | termios.INPCK | termios.ISTRIP)
        mode[1] &= ~termios.OPOST
        mode[2] = mode[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
        mode[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.IEXTEN)
        mode[6][termios.VMIN] = 1
        mode[6][termios.VTIME] = 0
        termios.tcsetattr(self._fd, termios.TCSADRAIN, mode)
        self._raw = True

    def restore(self) -> None:
        """The settings as they were found. Safe to call twice."""
        if not self._raw:
            return
        self._raw = False
        with contextlib.suppress(OSError, termios.error):
            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._found)

    def size(self) -> tuple[int, int]:
        """Rows and columns; 24 x 80 where the terminal does not know."""
        try:
            size = os.get_terminal_size(self._fd)
        except OSError:
            return 24, 80
        return size.lines or 24, size.columns or 80

    async def read(self) -> bytes:
        """Keys; b"" when the terminal is gone."""
        while True:
            await trio.lowlevel.wait_readable(self._fd)
            try:
                return os.read(self._fd, READ_SIZE)
            except BlockingIOError:
                continue
            except OSError:
                return b""

    async def write(self, data: bytes) -> None:
        """All of it; a terminal that is gone swallows it."""
        view = memoryview(data)
        while view:
            await trio.lowlevel.wait_writable(self._fd)
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:
                continue
            except OSError:
                return

    async def wait_resized(self) -> None:
        """Return at the next change of size."""
        self._resized = trio.Event()
        await self._resized.wait()

    async def watch(self) -> None:
        """Follow SIGWINCH and ^Z; runs until cancelled."""
        wanted = (signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT)
        with trio.open_signal_receiver(*wanted) as signals:
            async for number in signals:
                if number == signal.SIGTSTP:
                    self.restore()
                    os.kill(os.getpid(), signal.SIGSTOP)
                    continue
                if number == signal.SIGCONT:
                    self.raw()
                self._resized.set()
