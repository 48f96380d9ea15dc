"""A serf's process and its pipes: what the lord speaks through.

Owns: the child process, our ends of its pipes, the interrupt word.
Invariants: nothing here waits but what says so; what a closed child is asked
    is an OSError. `Child` is all that a lord knows: the simulation has
    another (tests/simulation).
Limits: pipes of PIPE_SIZE bytes, where the user's quota allows it.

Spawn is by exec, never fork (an open LMDB environment must not cross one).
The serf gets a session of its own (^C at the terminal is the king's), the
pier's lock (an orphan still holds it), no stdin, and a captured stderr.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import trio

__all__ = [
    "HANDSHAKE_S",
    "SERF_COMMAND",
    "Child",
    "SerfSpec",
    "Spawn",
    "handshake_s",
    "spawn_process",
]

SERF_COMMAND: tuple[str, ...] = (sys.executable, "-P", "-m", "serf")
"""Tests put another here."""
PIPE_SIZE = 1 << 20
F_SETPIPE_SZ = 1031
HANDSHAKE_S = 60.0
VERIFY_BYTES_S = 16 << 20
"""A serf may have to read its whole image before it speaks (by --verify, or
because a superblock is torn): no disk is slower than this."""


@dataclass(frozen=True, slots=True)
class SerfSpec:
    """How to start a serf, and who it must be."""

    image: Path
    ship: bytes
    log: bytes
    event_max: int
    verify: bool = False
    lock_fd: int | None = None
    command: tuple[str, ...] = field(default_factory=lambda: SERF_COMMAND)
    options: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    handshake_s: float = HANDSHAKE_S


def handshake_s(image: Path) -> float:
    """How long a serf of this image may take until its first words."""
    try:
        return HANDSHAKE_S + image.stat().st_size / VERIFY_BYTES_S
    except OSError:
        return HANDSHAKE_S


class Child(Protocol):
    """A serf that was started."""

    pid: int

    def read(self, size: int) -> bytes:
        """What it has said, at most so much; b"" after its end.

        :raises BlockingIOError: nothing yet
        :raises OSError: the pipe failed
        """
        ...

    def write(self, data: memoryview) -> int:
        """How much of it the pipe took.

        :raises BlockingIOError: nothing
        :raises OSError: the pipe failed
        """
        ...

    async def wait_readable(self) -> None: ...
    async def wait_writable(self) -> None: ...

    def errors(self) -> AsyncIterator[bytes]:
        """What it writes on stderr, to its end."""
        ...

    def interrupt(self, request: int) -> None:
        """Put this request into the interrupt word."""
        ...

    def signal(self, number: int) -> None: ...

    def poll(self) -> int | None:
        """Its exit status, if it has ended: negative, a signal's number."""
        ...

    async def wait(self) -> int:
        """Wait for its end."""
        ...

    def usage(self) -> tuple[int, int]:
        """Peak of memory in bytes, kills by the out-of-memory killer."""
        ...

    def close(self) -> None:
        """Give the pipes back. It has ended."""
        ...


Spawn = Callable[[SerfSpec], Awaitable[Child]]
"""Start a serf. :raises OSError:"""


class _Process:
    """A real one."""

    def __init__(self) -> None:
        self.pid = 0
        self._process: trio.Process | None = None
        self._read_fd = self._write_fd = self._errors_fd = -1
        self._word: mmap.mmap | None = None
        self._ooms = _oom_kills()

    async def start(self, spec: SerfSpec) -> None:
        if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
            # With SIGCHLD ignored every exit status would read as 0.
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        theirs: list[int] = []
        ours: list[int] = []
        try:
            down, self._write_fd = os.pipe2(os.O_CLOEXEC)
            theirs.append(down)
            ours.append(self._write_fd)
            self._read_fd, up = os.pipe2(os.O_CLOEXEC)
            theirs.append(up)
            ours.append(self._read_fd)
            self._errors_fd, errors_up = os.pipe2(os.O_CLOEXEC)
            theirs.append(errors_up)
            ours.append(self._errors_fd)
            interrupt = os.memfd_create("treadle-interrupt", os.MFD_CLOEXEC)
            theirs.append(interrupt)
            os.ftruncate(interrupt, mmap.PAGESIZE)
            self._word = mmap.mmap(interrupt, mmap.PAGESIZE)
            for fd in ours:
                os.set_blocking(fd, False)
            for fd in ours[:2]:
                _widen(fd)
            command = [
                *spec.command,
                *("--read", str(down), "--write", str(up)),
                *("--interrupt", str(interrupt)),
                *("--image", str(spec.image)),
                *("--ship", spec.ship.hex(), "--log", spec.log.hex()),
                *("--event-max", str(spec.event_max)),
                *(("--verify",) if spec.verify else ()),
                *spec.options,
            ]
            inherited = [down, up, interrupt]
            if spec.lock_fd is not None:
                command += ["--lock", str(spec.lock_fd)]
                inherited.append(spec.lock_fd)
            self._process = await trio.lowlevel.open_process(
                command,
                stdin=subprocess.DEVNULL,
                stdout=errors_up,
                stderr=errors_up,
                pass_fds=inherited,
                start_new_session=True,
                env=_environment(spec),
            )
        except BaseException:
            for fd in ours:
                os.close(fd)
            self._read_fd = self._write_fd = self._errors_fd = -1
            raise
        finally:
            for fd in theirs:
                os.close(fd)
        self.pid = self._process.pid

    def read(self, size: int) -> bytes:
        return os.read(self._read_fd, size)

    def write(self, data: memoryview) -> int:
        return os.write(self._write_fd, data)

    async def wait_readable(self) -> None:
        await trio.lowlevel.wait_readable(self._read_fd)

    async def wait_writable(self) -> None:
        await trio.lowlevel.wait_writable(self._write_fd)

    async def errors(self) -> AsyncIterator[bytes]:
        fd, self._errors_fd = self._errors_fd, -1
        async with trio.lowlevel.FdStream(fd) as stream:
            async for data in stream:
                yield bytes(data)

    def interrupt(self, request: int) -> None:
        if self._word is not None:
            word = request & 0xFFFFFFFF or 0xFFFFFFFF
            self._word[:4] = word.to_bytes(4, "little")

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def poll(self) -> int | None:
        assert self._process is not None
        return self._process.poll()

    async def wait(self) -> int:
        assert self._process is not None
        return await self._process.wait()

    def usage(self) -> tuple[int, int]:
        # The largest of our children so far: the serf is the only one.
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        return peak, max(0, _oom_kills() - self._ooms)

    def close(self) -> None:
        for fd in (self._read_fd, self._write_fd, self._errors_fd):
            if fd >= 0:
                os.close(fd)
        self._read_fd = self._write_fd = self._errors_fd = -1
        if self._word is not None:
            self._word.close()
            self._word = None


async def spawn_process(spec: SerfSpec) -> Child:
    """Start a serf in a process of its own.

    :raises OSError: if it cannot be started.
    """
    process = _Process()
    await process.start(spec)
    return process


def _widen(fd: int) -> None:
    try:
        fcntl.fcntl(fd, F_SETPIPE_SZ, PIPE_SIZE)
    except OSError:
        return  # the user's pipe quota is used up; 64 KiB will do


def _environment(spec: SerfSpec) -> dict[str, str]:
    """Ours, with the place that `king` was imported from on the path."""
    root = str(Path(__file__).resolve().parent.parent)
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    added = {"PYTHONPATH": os.pathsep.join(paths), **dict(spec.environment)}
    return {**os.environ, **added}


def _oom_kills() -> int:
    """How often the kernel's out-of-memory killer struck in our cgroup."""
    try:
        with open("/proc/self/cgroup", encoding="ascii") as file:
            group = next(line for line in file if line.startswith("0::"))[3:].strip()
        for folder in (group, ""):
            path = f"/sys/fs/cgroup{folder}/memory.events"
            if os.path.exists(path):
                with open(path, encoding="ascii") as file:
                    return sum(int(x[9:]) for x in file if x.startswith("oom_kill "))
    except (OSError, StopIteration, ValueError):
        pass
    return 0
