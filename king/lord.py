"""The king's handle on its serf: spawn, say, hear, interrupt, bury.

Owns: the child (king/child.py), its last words.
Invariants: frames are whole in one buffer and written by one writer; the
    reader only reads, parses and hands on; nothing here waits for the log. A
    peer that breaks framing, grammar or protocol is killed: it is dead, with
    a cause. A `Lord` never raises out of its tasks: see `dead` and `death`.
Limits: frames as in proto.frame; `handshake_s` until Ripe.
"""

from __future__ import annotations

import errno
import signal
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import trio

from king.child import Child, SerfSpec, Spawn, handshake_s, spawn_process
from king.errors import TreadleError
from proto.codec import PleaReader, pack_writs
from proto.errors import ProtoError
from proto.message import PROTOCOL, Exit, Flog, Plea, Ripe, Slog, Writ

__all__ = ["Death", "Lord", "SerfSpec", "StartFailed", "handshake_s"]

READ_SIZE = 1 << 16
"""Larger buffers would come fresh from the system, each time: 16 us a read."""
FRAME_MESSAGES = 512
FRAME_BYTES = 8 << 20
"""A frame is cut here, so that the serf starts on it before we are done."""
STDERR_LINES = 40
LINE_MAX = 4096
IMAGE_UNUSABLE = 66
"""The serf's exit code then; see serf/errors.py."""


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
        self.is_full: Callable[[], bool] = _never
        self.dead = trio.Event()
        self.death: Death | None = None
        self.last_event = 0  # what people know of its progress, for the report
        self._ripe = trio.Event()
        self._why: str | None = None
        self._reader = PleaReader()
        self._out: deque[memoryview] = deque()
        self._can_write = trio.Event()
        self._read_on: trio.Event | None = None  # while nobody listens to it
        self._errors_ended = trio.Event()
        self._blocked = False
        self._stderr: deque[str] = deque(maxlen=STDERR_LINES)
        self._child: Child | None = None

    @classmethod
    async def start(
        cls,
        nursery: trio.Nursery,
        spec: SerfSpec,
        *,
        spawn: Spawn = spawn_process,
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
            await nursery.start(lord._run, spawn)
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
        child = self._child
        assert child is not None
        try:
            while out:
                part = out[0]
                count = child.write(part)
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
        if self._child is not None:
            self._child.interrupt(request)

    def signal(self, number: int) -> None:
        if self._child is not None and not self.dead.is_set():
            self._child.signal(number)

    def kill(self, why: str) -> None:
        """SIGKILL; always safe. `why` is the cause of death, if it is the first."""
        if self._why is None:
            self._why = why
        self.read_on()
        self.signal(signal.SIGKILL)

    async def stop(
        self, code: int = 0, *, exit_s: float = 5, term_s: float = 2
    ) -> None:
        """Exit, then SIGTERM, then SIGKILL; returns when it is buried."""
        if self._why is None:
            self.send([Exit(code)])
            self._why = "was told to leave"
            self.read_on()
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

    def read_on(self) -> None:
        """Whoever said `is_full` may have room again."""
        if self._read_on is not None and not (self.is_full() and self._why is None):
            self._read_on.set()
            self._read_on = None

    @property
    def is_unheard(self) -> bool:
        """What it says stays in the pipe for now, for want of room here."""
        return self._read_on is not None

    # --- its tasks ------------------------------------------------------------

    async def _run(self, spawn: Spawn, task_status: trio.TaskStatus[None]) -> None:
        child = self._child = await spawn(self.spec)
        self.pid = child.pid
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, child)
                nursery.start_soon(self._hear_errors, child)
                task_status.started()
                await self._read(child)
                # Its end of the pipe is closed: it is dead, or as good as dead.
                with trio.move_on_after(1):
                    await child.wait()
                if child.poll() is None:
                    self.kill(self._why or "closed its pipe and lived on")
                    await child.wait()
                with trio.move_on_after(0.5):
                    await self._errors_ended.wait()  # its last words
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                if child.poll() is None:
                    self.kill("the king left")
                status = await child.wait()
            self._bury(child, status)

    async def _read(self, child: Child) -> None:
        heard = 0  # since others had a turn
        while True:
            try:
                data = child.read(READ_SIZE)
            except BlockingIOError:
                await child.wait_readable()
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
            if self.is_full() and self._why is None:
                self._read_on = trio.Event()
                await self._read_on.wait()
            heard += len(data)
            if len(data) < READ_SIZE:
                await child.wait_readable()
                heard = 0
            elif heard >= READ_SIZE:
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

    async def _write(self, child: Child) -> None:
        while True:
            await self._can_write.wait()
            await child.wait_writable()
            self._can_write = trio.Event()
            self._blocked = False
            self._flush()

    async def _hear_errors(self, child: Child) -> None:
        rest = b""
        async for data in child.errors():
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

    def _bury(self, child: Child, status: int) -> None:
        peak, ooms = child.usage()
        child.close()
        name = None
        if status < 0:
            try:
                name = signal.Signals(-status).name
            except ValueError:
                name = f"signal {-status}"
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
            peak,
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


def _never() -> bool:
    return False


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
