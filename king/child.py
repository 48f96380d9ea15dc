"""A serf's process and its pipes: what the lord speaks through.

Owns: the child process, our ends of its pipes, the interrupt word.
Invariants: nothing here waits but what says so; what a closed child is asked
    is an OSError. `Child` is all that a lord knows: the simulation has
    another (tests/simulation).
Limits: pipes of PIPE_SIZE bytes, where the user's quota allows it.

Spawn is by exec, never fork (an open LMDB environment must not cross one).
The serf gets a session of its own, the pier's lock (an orphan still holds it),
no stdin, and a captured stderr. The first one may have been started before us:
see king/early.py.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import resource
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

import trio

from king.early import SERF, EarlySerf, start_serf
from king.modules import module_environment

__all__ = [
    "HANDSHAKE_S",
    "SERF_COMMAND",
    "Child",
    "SerfSpec",
    "Spawn",
    "handshake_s",
    "spawn_process",
]

SERF_COMMAND = SERF
"""Tests put another here."""
PIPE_SIZE = 1 << 20
F_SETPIPE_SZ = 1031
HANDSHAKE_S = 60.0
VERIFY_BYTES_S = 16 << 20
"""A serf may have to read its whole image before it speaks (by --verify, or
because a superblock is torn): no disk is slower than this."""
WAIT_S = 0.01
"""Between looks at a process that the system cannot tell of."""


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

    @property
    def is_plain(self) -> bool:
        """Is it the program that is started early?"""
        return self.command == SERF and not self.environment


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
        self._process: subprocess.Popen[bytes] | None = None
        self._pidfd = -1
        self._read_fd = self._write_fd = self._errors_fd = -1
        self._word: mmap.mmap | None = None
        self._ooms = _oom_kills()

    async def start(self, spec: SerfSpec, early: EarlySerf | None) -> None:
        theirs: dict[str, int] = {}
        try:
            theirs["--read"], self._write_fd = os.pipe2(os.O_CLOEXEC)
            self._read_fd, theirs["--write"] = os.pipe2(os.O_CLOEXEC)
            interrupt = os.memfd_create("treadle-interrupt", os.MFD_CLOEXEC)
            theirs["--interrupt"] = interrupt
            os.ftruncate(interrupt, mmap.PAGESIZE)
            self._word = mmap.mmap(interrupt, mmap.PAGESIZE)
            for fd in (self._read_fd, self._write_fd):
                os.set_blocking(fd, False)
                _widen(fd)
            taken = None
            if early is not None and spec.is_plain:
                taken = early.take(_words(spec), _descriptors(spec, theirs))
            if taken is not None:
                self._process, self._errors_fd = taken
            else:
                await self._execute(spec, theirs)
            assert self._process is not None
            self.pid = self._process.pid
            with contextlib.suppress(OSError):  # an old kernel, or a strict sandbox
                self._pidfd = os.pidfd_open(self.pid)
        except BaseException:
            self.close()
            raise
        finally:
            for fd in theirs.values():
                os.close(fd)

    async def _execute(self, spec: SerfSpec, theirs: dict[str, int]) -> None:
        descriptors = _descriptors(spec, theirs)
        command = [*spec.command, *_words(spec)]
        for name, fd in descriptors.items():
            command += [name, str(fd)]
        self._errors_fd, errors = os.pipe2(os.O_CLOEXEC)
        try:
            environment = {**module_environment(), **dict(spec.environment)}
            # In a thread: it returns only when the new program has been found.
            self._process = await trio.to_thread.run_sync(
                partial(start_serf, command, environment, errors, descriptors.values())
            )
        finally:
            os.close(errors)

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
        while (status := self._process.poll()) is None:
            if self._pidfd >= 0:
                await trio.lowlevel.wait_readable(self._pidfd)
            else:
                await trio.sleep(WAIT_S)
        return status

    def usage(self) -> tuple[int, int]:
        # The largest of our children so far: the serf is the only one.
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        return peak, max(0, _oom_kills() - self._ooms)

    def close(self) -> None:
        for fd in (self._read_fd, self._write_fd, self._errors_fd, self._pidfd):
            if fd >= 0:
                os.close(fd)
        self._read_fd = self._write_fd = self._errors_fd = self._pidfd = -1
        if self._word is not None:
            self._word.close()
            self._word = None


async def spawn_process(spec: SerfSpec, early: EarlySerf | None = None) -> Child:
    """Start a serf in a process of its own, or take the one that is there early.

    :raises OSError: if it cannot be started.
    """
    process = _Process()
    await process.start(spec, early)
    return process


def _words(spec: SerfSpec) -> list[str]:
    """Its command line, but for what names descriptors."""
    return [
        *("--image", str(spec.image)),
        *("--ship", spec.ship.hex(), "--log", spec.log.hex()),
        *("--event-max", str(spec.event_max)),
        *(("--verify",) if spec.verify else ()),
        *spec.options,
    ]


def _descriptors(spec: SerfSpec, theirs: dict[str, int]) -> dict[str, int]:
    return theirs if spec.lock_fd is None else {**theirs, "--lock": spec.lock_fd}


def _widen(fd: int) -> None:
    try:
        fcntl.fcntl(fd, F_SETPIPE_SZ, PIPE_SIZE)
    except OSError:
        return  # the user's pipe quota is used up; 64 KiB will do


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
