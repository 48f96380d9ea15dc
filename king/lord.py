"""The king's handle on its serf: spawn, say, hear, interrupt, bury.

Owns: the child process, its pipes, the interrupt word, its last words.
Invariants: frames are whole in one buffer and written by one writer; the
    reader only reads, parses and hands on; nothing here waits for the log. A
    peer that breaks framing, grammar or protocol is killed: it is dead, with
    a cause. A `Lord` never raises out of its tasks: see `dead` and `death`.
Limits: frames as in proto.frame; `handshake_s` until Ripe.

Spawn is by exec, never fork (an open LMDB environment must not cross one).
The serf gets a session of its own (^C at the terminal is the king's), the
pier's lock (an orphan still holds it), no stdin, and a captured stderr.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import resource
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import trio

from king.errors import TreadleError
from proto.codec import PleaReader, pack_writs
from proto.errors import ProtoError
from proto.message import PROTOCOL, Exit, Flog, Plea, Ripe, Slog, Writ

__all__ = ["Death", "Lord", "SerfSpec", "StartFailed", "handshake_s"]

SERF_COMMAND: tuple[str, ...] = (sys.executable, "-P", "-m", "serf")
"""Tests put another here."""
PIPE_SIZE = 1 << 20
READ_SIZE = 1 << 16
"""Larger buffers would come fresh from the system, each time: 16 us a read."""
F_SETPIPE_SZ = 1031
HANDSHAKE_S = 60.0
VERIFY_BYTES_S = 16 << 20
"""A serf may have to read its whole image before it speaks (by --verify, or
because a superblock is torn): no disk is slower than this."""
FRAME_MESSAGES = 512
FRAME_BYTES = 8 << 20
"""A frame is cut here, so that the serf starts on it before we are done."""
STDERR_LINES = 40
LINE_MAX = 4096
IMAGE_UNUSABLE = 66
"""The serf's exit code then; see serf/errors.py."""


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


@dataclass(frozen=True, slots=True)
class Death:
    """Why a serf is gone, in words and numbers."""

    cause: str
    code: int | None
    signal: str | None
    pid: int
    event: int
    memory_peak_bytes: int
    oom_kills: int
    stderr: tuple[str, ...] = field(repr=False)

    @property
    def is_rot(self) -> bool:
        """A page of its image is bad: the next serf must verify them all."""
        return self.signal == "SIGBUS" or self.code == IMAGE_UNUSABLE

    def lines(self) -> list[str]:
        """For people."""
        out = [f"serf {self.pid} died: {self.cause}"]
        if self.memory_peak_bytes:
            out.append(f"  its memory peaked at {self.memory_peak_bytes >> 20} MiB")
        if self.oom_kills:
            out.append("  the kernel's out-of-memory killer was at work")
        out += [f"  serf: {line}" for line in self.stderr[-8:]]
        return out


class StartFailed(TreadleError):
    """A serf was gone before it said Ripe: nothing is known against the log
    or any event; trying again may help (with --verify, if it `is_rot`)."""

    is_rot = False


class Lord:
    """One serf, from birth to death. Make with `Lord.start`."""

    def __init__(self, spec: SerfSpec) -> None:
        self.spec = spec
        self.pid = 0
        self.ripe: Ripe | None = None
        self.receive: Callable[[Sequence[Plea]], None] = _ignore
        self.on_slog: Callable[[Slog], None] = _ignore
        self.on_line: Callable[[str], None] = _ignore
        self.on_dead: Callable[[], None] = _nothing
        self.dead = trio.Event()
        self.death: Death | None = None
        self.last_event = 0  # what people know of its progress, for the report
        self._ripe = trio.Event()
        self._why: str | None = None
        self._reader = PleaReader()
        self._out: deque[memoryview] = deque()
        self._can_write = trio.Event()
        self._errors_ended = trio.Event()
        self._blocked = False
        self._stderr: deque[str] = deque(maxlen=STDERR_LINES)
        self._process: trio.Process | None = None
        self._read_fd = self._write_fd = self._interrupt_fd = -1
        self._word: mmap.mmap | None = None
        self._ooms = 0

    @classmethod
    async def start(
        cls,
        nursery: trio.Nursery,
        spec: SerfSpec,
        *,
        on_slog: Callable[[Slog], None] | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> Lord:
        """Spawn, shake hands, return a lord that has heard Ripe.

        :raises TreadleError: serf-missing, serf-died, serf-spoke-nonsense,
            identity-mismatch. The process is gone then.
        """
        lord = cls(spec)
        lord.on_slog = on_slog or _ignore
        lord.on_line = on_line or _ignore
        try:
            await nursery.start(lord._run)
        except OSError as error:
            raise TreadleError(
                "serf-missing",
                f"cannot start {' '.join(spec.command)}: {error.strerror}",
                "is treadle installed whole? reinstall it",
            ) from error
        with trio.move_on_after(spec.handshake_s):
            await lord._ripe.wait()
        if lord.ripe is None and not lord.dead.is_set():
            lord.kill(f"said nothing for {spec.handshake_s:g} s after its start")
        if lord.ripe is None or lord._why is not None:
            with trio.CancelScope(shield=True):
                await lord.dead.wait()
            assert lord.death is not None
            code = "serf-died" if lord._why is None else "serf-spoke-nonsense"
            tail = "".join(f"; {line}" for line in lord.death.stderr[-3:])
            why = f"the serf did not start: {lord.death.cause}{tail}"
            failed = StartFailed(code, why)
            failed.is_rot = lord.death.is_rot
            raise failed
        return lord

    # --- what the king does to it ---------------------------------------------

    @property
    def is_alive(self) -> bool:
        return not self.dead.is_set() and self._why is None

    @property
    def backlog(self) -> int:
        """Frames that the pipe has not taken yet."""
        return len(self._out)

    def send(self, writs: Sequence[Writ]) -> None:
        """Say these, in order, in as few frames as sensible. Never waits."""
        if not self.is_alive or not writs:
            return
        for frame in _frames(writs):
            self._out.append(memoryview(frame))
        if not self._blocked:
            self._flush()

    def _flush(self) -> None:
        """Write what the pipe takes; the rest is the writer task's."""
        out = self._out
        try:
            while out:
                part = out[0]
                count = os.write(self._write_fd, part)
                if count == len(part):
                    out.popleft()
                else:
                    out[0] = part[count:]
        except BlockingIOError:
            self._blocked = True
            self._can_write.set()
        except OSError as error:
            # It is dying; the reader will see the end and say why.
            out.clear()
            if error.errno != errno.EPIPE:
                self.kill(f"its pipe failed: {error.strerror}")

    def interrupt(self, request: int) -> None:
        """Abort this request if it runs now (it bails %intr). Too late for it,
        the word is stale: it meets no other request."""
        if self._word is not None:
            word = request & 0xFFFFFFFF or 0xFFFFFFFF
            self._word[:4] = word.to_bytes(4, "little")

    def signal(self, number: int) -> None:
        if self._process is not None and not self.dead.is_set():
            self._process.send_signal(number)

    def kill(self, why: str) -> None:
        """SIGKILL; always safe. `why` is the cause of death, if it is the first."""
        if self._why is None:
            self._why = why
        self.signal(signal.SIGKILL)

    async def stop(
        self, code: int = 0, *, exit_s: float = 5, term_s: float = 2
    ) -> None:
        """Exit, then SIGTERM, then SIGKILL; returns when it is buried."""
        if self._why is None:
            self.send([Exit(code)])
            self._why = "was told to leave"
        with trio.CancelScope(shield=True):
            with trio.move_on_after(exit_s):
                await self.dead.wait()
            if not self.dead.is_set():
                self.signal(signal.SIGTERM)
                with trio.move_on_after(term_s):
                    await self.dead.wait()
            if not self.dead.is_set():
                self.signal(signal.SIGKILL)
                await self.dead.wait()

    # --- its tasks ------------------------------------------------------------

    async def _run(self, task_status: trio.TaskStatus[None]) -> None:
        errors_fd = await self._spawn()
        assert self._process is not None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write)
                nursery.start_soon(self._hear_errors, errors_fd)
                task_status.started()
                await self._read()
                # Its end of the pipe is closed: it is dead, or as good as dead.
                with trio.move_on_after(1):
                    await self._process.wait()
                if self._process.poll() is None:
                    self.kill(self._why or "closed its pipe and lived on")
                    await self._process.wait()
                with trio.move_on_after(0.5):
                    await self._errors_ended.wait()  # its last words
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                if self._process.poll() is None:
                    self.kill("the king left")
                await self._process.wait()
            self._bury()

    async def _spawn(self) -> int:
        """Start the process; returns our end of its stderr."""
        if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
            # With SIGCHLD ignored every exit status would read as 0.
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._ooms = _oom_kills()
        spec = self.spec
        theirs: list[int] = []
        ours: list[int] = []
        try:
            down, self._write_fd = os.pipe2(os.O_CLOEXEC)
            theirs.append(down)
            ours.append(self._write_fd)
            self._read_fd, up = os.pipe2(os.O_CLOEXEC)
            theirs.append(up)
            ours.append(self._read_fd)
            errors, errors_up = os.pipe2(os.O_CLOEXEC)
            theirs.append(errors_up)
            ours.append(errors)
            self._interrupt_fd = os.memfd_create("treadle-interrupt", os.MFD_CLOEXEC)
            ours.append(self._interrupt_fd)
            os.ftruncate(self._interrupt_fd, mmap.PAGESIZE)
            self._word = mmap.mmap(self._interrupt_fd, mmap.PAGESIZE)
            for fd in ours[:3]:
                os.set_blocking(fd, False)
            for fd in ours[:2]:
                _widen(fd)
            command = [
                *spec.command,
                *("--read", str(down), "--write", str(up)),
                *("--interrupt", str(self._interrupt_fd)),
                *("--image", str(spec.image)),
                *("--ship", spec.ship.hex(), "--log", spec.log.hex()),
                *("--event-max", str(spec.event_max)),
                *(("--verify",) if spec.verify else ()),
                *spec.options,
            ]
            inherited = [down, up, self._interrupt_fd]
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
            self._read_fd = self._write_fd = self._interrupt_fd = -1
            raise
        finally:
            for fd in theirs:
                os.close(fd)
        self.pid = self._process.pid
        return errors

    async def _read(self) -> None:
        fd = self._read_fd
        heard = 0  # since others had a turn
        while True:
            try:
                data = os.read(fd, READ_SIZE)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(fd)
                heard = 0
                continue
            except OSError as error:
                self.kill(f"its pipe failed: {error.strerror}")
                return
            if not data:
                return
            try:
                self._deliver(self._reader.feed(data))
            except ProtoError as error:
                self.kill(f"it spoke nonsense: {error}")
                return
            heard += len(data)
            if heard >= READ_SIZE:
                await trio.lowlevel.checkpoint()
                heard = 0

    def _deliver(self, pleas: list[Plea]) -> None:
        if not pleas:
            return
        if any(type(plea) is Slog or type(plea) is Flog for plea in pleas):
            rest: list[Plea] = []
            for plea in pleas:
                if type(plea) is Slog:
                    self.on_slog(plea)
                elif type(plea) is Flog:
                    self.on_line(plea.text)
                else:
                    rest.append(plea)
            pleas = rest
        if pleas and self.ripe is None:
            why = self._refuse(pleas[0])
            if why is not None:
                self.kill(why)
                return
            assert isinstance(pleas[0], Ripe)
            self.ripe = pleas[0]
            self._ripe.set()
            pleas = pleas[1:]
        if pleas and self._why is None:
            self.receive(pleas)

    def _refuse(self, plea: Plea) -> str | None:
        """Why these first words will not do."""
        spec = self.spec
        if not isinstance(plea, Ripe):
            return f"its first words were {type(plea).__name__}, not Ripe"
        if plea.protocol != PROTOCOL:
            return f"it speaks protocol {plea.protocol}, we speak {PROTOCOL}"
        if plea.ship != spec.ship:
            return f"it is ship {plea.ship.hex()}, we are {spec.ship.hex()}"
        if plea.log != spec.log:
            return f"its image belongs to log {plea.log.hex()}, not {spec.log.hex()}"
        if plea.event > spec.event_max:
            return f"its image is at event {plea.event}, the log at {spec.event_max}"
        if plea.mug >> 31:
            return f"its mug {plea.mug:#x} has more than 31 bits"
        return None

    async def _write(self) -> None:
        while True:
            await self._can_write.wait()
            await trio.lowlevel.wait_writable(self._write_fd)
            self._can_write = trio.Event()
            self._blocked = False
            self._flush()

    async def _hear_errors(self, fd: int) -> None:
        async with trio.lowlevel.FdStream(fd) as stream:
            rest = b""
            async for data in stream:
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    self._hear_line(line)
                if len(rest) > LINE_MAX:
                    self._hear_line(rest)
                    rest = b""
            if rest:
                self._hear_line(rest)
        self._errors_ended.set()

    def _hear_line(self, line: bytes) -> None:
        text = line[:LINE_MAX].decode("utf-8", "replace").rstrip("\r")
        self._stderr.append(text)
        self.on_line(text)

    def _bury(self) -> None:
        assert self._process is not None
        for fd in (self._read_fd, self._write_fd, self._interrupt_fd):
            os.close(fd)
        self._read_fd = self._write_fd = self._interrupt_fd = -1
        if self._word is not None:
            self._word.close()
            self._word = None
        status = self._process.returncode
        name = None
        if status is not None and status < 0:
            try:
                name = signal.Signals(-status).name
            except ValueError:
                name = f"signal {-status}"
        ooms = max(0, _oom_kills() - self._ooms)
        cause = self._why
        if cause is None:
            if name is not None:
                cause = f"killed by {name}"
                if name == "SIGKILL" and ooms:
                    cause += " (out of memory)"
            else:
                cause = f"exit code {status}"
        self.death = Death(
            cause,
            status if name is None else None,
            name,
            self.pid,
            self.last_event,
            # The largest of our children so far: the serf is the only one.
            resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,
            ooms,
            tuple(self._stderr),
        )
        self._out.clear()
        self.dead.set()
        self._ripe.set()
        self.on_dead()


def _ignore(_: object) -> None:
    pass


def _nothing() -> None:
    pass


def _frames(writs: Sequence[Writ]) -> Iterable[bytes]:
    if len(writs) == 1:
        yield pack_writs(writs)
        return
    some: list[Writ] = []
    size = 0
    for writ in writs:
        some.append(writ)
        size += len(getattr(writ, "job", b""))
        if size >= FRAME_BYTES or len(some) == FRAME_MESSAGES:
            yield pack_writs(some)
            some = []
            size = 0
    if some:
        yield pack_writs(some)


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
