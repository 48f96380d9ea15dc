"""A ship with a terminal, for tests: a pty, what was written to it, its mode."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import subprocess
import sys
import termios

from tests.support.whole_ship import ROOT, WholeShip, wait_for

__all__ = ["Terminal"]


class Terminal:
    """A ship with a terminal: a pty of 24 by 80."""

    def __init__(self, ship: WholeShip, **environment: str) -> None:
        self.seen = b""
        self.master, slave = os.openpty()
        self.resize(24, 80)
        self.found = termios.tcgetattr(self.master)
        command = [sys.executable, "-P", "-m", "king", "run", str(ship.pier)]
        self.king = subprocess.Popen(
            [*command, "--http-port", "0"],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", **environment},
            preexec_fn=lambda: os.login_tty(slave),
        )
        os.close(slave)

    def resize(self, rows: int, columns: int) -> None:
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, size)

    def read(self) -> bytes:
        """What was written since; does not wait."""
        while select.select([self.master], [], [], 0)[0]:
            try:
                data = os.read(self.master, 65536)
            except OSError:  # nobody holds the other end any more
                break
            self.seen += data
        return self.seen

    def expect(self, text: bytes, name: str) -> None:
        """Wait for this text; forget all up to its end."""
        wait_for(lambda: text in self.read(), f"{name}: {text!r}; {self.seen!r}", 60)
        self.seen = self.seen.split(text, 1)[1]

    def is_raw(self) -> bool:
        """Is the device in raw mode now?"""
        return not termios.tcgetattr(self.master)[3] & termios.ICANON

    def wait_exit(self, seconds: float = 30) -> int:
        """Read until the king has left; its exit code."""
        wait_for(lambda: self.read() and self.king.poll() is not None, "exit", seconds)
        return self.king.returncode

    def close(self) -> None:
        self.king.kill()
        self.king.wait()
        os.close(self.master)
