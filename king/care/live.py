"""Care for a ship that lives: the daemon's side of `[rid %care verb json]`.

Owns: which operation is under way (one at a time), and its cancel scope.
Invariants: an operation that fails, in whatever way, is an answer to whoever
    asked for it and never the end of the ship; but for a failed commit.

Whose authority. The socket is the pier's owner's (mode 0600, in a directory
of mode 0700): whoever can reach it may already do to the pier's files and to
the king's process all that an operation does. That is no longer so where
somebody has opened the socket to others (chmod, for their own pokes and
peeks), or handed it into a container, where paths mean other files. So care
is given only to processes of the king's own user and to root, by the kernel's
word (SO_PEERCRED); paths must be absolute, and nothing that exists is ever
replaced. Verbs run no commands that a client names.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeVar

import trio

from king.care.ground import PierGround, Progress
from king.care.verbs import read_arguments
from king.disk import explain_disk
from king.errors import LogFailed, TreadleError
from king.groups import causes
from king.log.epoch import Log
from king.log_thread import LogThread
from king.pier import Pier
from king.replay import not_saved
from king.spine import Spine
from proto.message import Plea, Saved

__all__ = ["Caretaker", "LiveGround"]

T = TypeVar("T")

STEP_S = 0.2
"""Between two words of progress, at least."""
SILENCE_S = 5.0
"""Without anything new, the last one is said again: somebody still works."""
CLOSE_S = 10.0
_POLL_S = 0.02
ROOT = 0
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid


class LiveGround(PierGround):
    """A `ground.Ground`, of a ship whose spine runs."""

    live = True

    def __init__(
        self,
        pier: Pier,
        spine: Spine,
        thread: LogThread,
        *,
        snapshot_event: Callable[[], int],
        saved: Callable[[Saved], None],
        tell: Callable[[str], None],
    ) -> None:
        super().__init__(pier)
        self._spine = spine
        self._thread = thread
        self._snapshot_event = snapshot_event
        self._saved = saved
        self._tell = tell

    async def save(self) -> int:
        """See Ground."""
        event = self._spine.pipeline.committed
        await self._wait_no_save()
        if self._snapshot_event() >= event:
            return self._snapshot_event()
        return self._take(await self._spine.begin_save()())

    async def change_pins(self, pin: str, unpin: str) -> int:
        """See Ground."""
        await self._wait_no_save()
        return self._take(await self._spine.begin_save(pin, unpin)())

    async def in_log(self, function: Callable[[Log], T], *, save: bool = False) -> T:
        """See Ground."""
        spine = self._spine
        async with self.hold_saves():
            async with spine.wall():
                try:
                    value = await self._thread.run(lambda: function(self._pier.log))
                except LogFailed as error:
                    spine.log_failed(error)
                    raise
                end = spine.begin_save() if save else None
            if end is not None:
                self._take(await end())
        return value

    @asynccontextmanager
    async def hold_saves(self) -> AsyncIterator[None]:
        """See Ground."""
        self._spine.saves_held += 1
        try:
            await self._wait_no_save()
            yield
        finally:
            self._spine.saves_held -= 1

    def room(self) -> AbstractAsyncContextManager[None]:
        """On a full disk: the reserve, as long as the operation lasts."""
        return self._spine.room()

    def note(self, text: str) -> None:
        self._tell(text)

    async def _wait_no_save(self) -> None:
        while self._spine.pipeline.is_saving:
            await trio.sleep(_POLL_S)

    def _take(self, plea: Plea) -> int:
        if not isinstance(plea, Saved):
            raise not_saved()
        self._saved(plea)
        return plea.event


class Caretaker:
    """Carries out one operation at a time."""

    def __init__(self, ground: LiveGround) -> None:
        self._ground = ground
        self._name: str | None = None
        self._progress = Progress(0, 0, "")
        self._scope = trio.CancelScope()
        self._closed = False

    def status(self) -> dict[str, Any] | None:
        """What is under way, for the status."""
        if self._name is None:
            return None
        return {"verb": self._name, **self._progress._asdict()}

    async def serve(
        self,
        peer: trio.socket.SocketType,
        name: str,
        text: str,
        step: Callable[[str], None],
    ) -> str:
        """`do`, for whoever is at the other end of a Unix socket.

        :raises TreadleError: care-forbidden, and as `do`
        """
        raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        _, user, _ = _CREDENTIALS.unpack(raw)
        if user not in (ROOT, os.geteuid()):
            raise TreadleError(
                "care-forbidden",
                f"{name[:40]} is for user {os.geteuid()}, whose ship this is, not for "
                f"user {user}",
                "ask as the account that the ship runs as",
            )
        return await self.do(name, text, step)

    async def do(self, name: str, text: str, step: Callable[[str], None]) -> str:
        """Carry out a verb whose arguments are the JSON `text`; its result as JSON.
        `step` gets JSON, too, as long as it goes on.

        :raises TreadleError: usage, care-busy, care-stopped, and the verb's own
        """
        verb, arguments = read_arguments(name, text)
        if self._name is not None:
            raise TreadleError(
                "care-busy",
                f"{self._name} is under way",
                "wait for its end, or interrupt it; `treadle status` shows it",
            )
        if self._closed:
            raise _stopped(name)
        self._name = name
        self._progress = Progress(0, 0, "", "beginning")
        found: dict[str, Any] = {}
        fault: TreadleError | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._tell_steps, step)
                try:
                    with trio.CancelScope() as self._scope:
                        async with self._ground.room():
                            found = await verb.load()(
                                self._ground, arguments, self._advance
                            )
                except BaseException as error:
                    fault = self._explain(name, error)
                    if fault is None:
                        raise
                nursery.cancel_scope.cancel()
        finally:
            self._name = None
        if fault is not None:
            raise fault
        if self._scope.cancelled_caught:
            raise _stopped(name)
        return json.dumps(found)

    def _advance(self, progress: Progress) -> None:
        self._progress = progress

    async def _tell_steps(self, step: Callable[[str], None]) -> None:
        told: Progress | None = None
        at = trio.current_time()
        while True:
            now = trio.current_time()
            if self._progress != told or now - at >= SILENCE_S:
                told, at = self._progress, now
                step(json.dumps(told._asdict()))
            await trio.sleep(STEP_S)

    def _explain(self, name: str, raised: BaseException) -> TreadleError | None:
        """An operation's end by an error; None if it was cancelled from outside."""
        found = causes(raised)
        for error in found:
            if isinstance(error, TreadleError):
                return error
        for error in found:
            if isinstance(error, OSError):
                return explain_disk(error, self._ground.layout.root, name)
        faults = [error for error in found if isinstance(error, Exception)]
        if not faults:
            return None
        for line in traceback.format_exception(raised):
            self._ground.note(line.rstrip())
        return TreadleError(
            "failed",
            f"{name} crashed: {faults[0]!r}",
            "this is a bug of treadle; the ship goes on",
        )

    async def close(self) -> None:
        """The ship stops: begin nothing new, end what is under way."""
        self._closed = True
        self._scope.cancel()
        with trio.move_on_after(CLOSE_S):
            while self._name is not None:
                await trio.sleep(_POLL_S)


def _stopped(name: str) -> TreadleError:
    return TreadleError(
        "care-stopped",
        f"{name} was given up: the ship is stopping",
        "do it again when the ship runs, or now that it rests",
    )
