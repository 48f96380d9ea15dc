"""Care for a ship at rest: the pier opened with its locks, without a daemon.

Owns: the pier's locks and log while an operation lasts; a serf only where the
    operation asks for a state that the image has not.
Invariants: no event is added; a log that the verb does not write is opened for
    reading only, so that another runtime's is not touched.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import trio

from king.care.ground import PierGround, Progress
from king.care.verbs import Verb
from king.check import inspect_image
from king.errors import TreadleError
from king.lab.recorder import asked_for
from king.log.epoch import Log
from king.log_thread import LogThread
from king.lord import Lord
from king.pier import Pier, open_pier
from king.replay import Progress as Replaying
from king.replay import not_saved, play_through, save_again

__all__ = ["RestGround", "cancel_on_signal", "carry_out"]

T = TypeVar("T")


class RestGround(PierGround):
    """A `ground.Ground`, of a pier whose locks we hold."""

    live = False

    def __init__(
        self, pier: Pier, thread: LogThread, progress: Callable[[Progress], None]
    ) -> None:
        super().__init__(pier)
        self._thread = thread
        self._progress = progress

    async def save(self) -> int:
        """See Ground. A serf replays what the image has not, or has lost."""
        last = self._pier.log.last
        event, fault = await trio.to_thread.run_sync(self._look_at_image)
        if fault:
            self.note(f"{self.layout.image}: {fault}; computing the state again")
        elif event == last:
            return last
        if await self._play(verify=bool(fault)) != last:
            raise not_saved()
        return last

    async def change_pins(self, pin: str, unpin: str) -> int:
        """See Ground."""
        last = self._pier.log.last

        async def save(lord: Lord) -> None:
            await save_again(lord, last, pin, unpin)

        await self._play(save)
        return last

    async def _play(
        self,
        then: Callable[[Lord], Awaitable[None]] | None = None,
        *,
        verify: bool = False,
    ) -> int:
        """Replay what the image has not, and save; the event of the image."""
        done, ended = await play_through(
            self._pier,
            self.layout.image,
            self._pier.log.last,
            self._replaying,
            then=then,
            verify=verify,
            record=asked_for(),
        )
        if not ended:
            raise KeyboardInterrupt
        return done.snapshot

    async def in_log(self, function: Callable[[Log], T], *, save: bool = False) -> T:
        """See Ground."""
        value = await self._thread.run(lambda: function(self._pier.log))
        if save:
            await self.save()
        return value

    @asynccontextmanager
    async def hold_saves(self) -> AsyncIterator[None]:
        """Nobody else saves here."""
        yield

    def note(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def _look_at_image(self) -> tuple[int | None, str]:
        """The event of the newest generation, every page of which was read, and
        what is wrong with it."""
        if not self.layout.image.exists():
            return None, ""
        try:
            image = inspect_image(self.layout.image)
        except TreadleError as error:
            return None, error.message
        return (int(image["event"]) if image["good"] else None), str(image["fault"])

    def _replaying(self, now: Replaying) -> None:
        note = now.note or "replaying"
        self._progress(Progress(now.event, now.last, "events", note))


async def carry_out(
    root: Path,
    verb: Verb,
    arguments: Mapping[str, Any],
    progress: Callable[[Progress], None],
) -> dict[str, Any]:
    """One verb on a ship at rest.

    :raises TreadleError: whatever stands in the way
    :raises KeyboardInterrupt: it was interrupted
    """
    found: dict[str, Any] = {}
    # A state that was saved can be taken out, whatever has become of the log.
    behind = bool(arguments.get("saved"))
    with open_pier(root, run=False, write=verb.writes, behind=behind) as pier:
        thread = LogThread()
        try:
            await thread.run(pier.log.settle)
            async with trio.open_nursery() as nursery:
                scope = await nursery.start(cancel_on_signal)
                with scope:
                    ground = RestGround(pier, thread, progress)
                    found = await verb.load()(ground, arguments, progress)
                nursery.cancel_scope.cancel()
        finally:
            await thread.close()
    if scope.cancelled_caught:
        raise KeyboardInterrupt
    return found


async def cancel_on_signal(
    task_status: trio.TaskStatus[trio.CancelScope],
) -> None:
    """A scope, `started`, that SIGINT and SIGTERM cancel."""
    scope = trio.CancelScope()
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started(scope)
        async for _ in signals:
            scope.cancel()
