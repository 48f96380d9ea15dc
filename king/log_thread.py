"""The one thread that touches the log.

Owns: a thread and its queue of work. LMDB's write transactions are bound to
    their thread, and one writer is what makes a log.
Invariants: work is done in the order of the calls, each piece whole; what was
    begun is always awaited (`run` is shielded). Results come back in trio's
    thread. A piece that raises hands its error back; the thread goes on.
Limits: unbounded queue; the callers bound what they ask.

A thread of our own with a callback costs a third of trio.to_thread (which
makes a task, a limiter and a context for each call): see tests/bench.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

import trio

__all__ = ["LogThread"]

T = TypeVar("T")

_Work = tuple[Callable[[], Any], Callable[[Any, BaseException | None], None]]


class LogThread:
    """Make it inside trio, `close` it inside trio."""

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._queue: SimpleQueue[_Work | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._loop, name="log", daemon=True)
        self._thread.start()

    def submit(
        self,
        work: Callable[[], T],
        done: Callable[[T, BaseException | None], None],
    ) -> None:
        """Do `work` there; then call `done(value, error)` in trio's thread."""
        self._queue.put((work, done))

    async def run(self, work: Callable[[], T]) -> T:
        """Do `work` there and wait for its end, also when cancelled meanwhile."""
        task = trio.lowlevel.current_task()
        result: list[tuple[T, BaseException | None]] = []

        def done(value: T, error: BaseException | None) -> None:
            result.append((value, error))
            trio.lowlevel.reschedule(task)

        self.submit(work, done)
        await trio.lowlevel.wait_task_rescheduled(_not_now)
        value, error = result[0]
        if error is not None:
            raise error
        await trio.lowlevel.checkpoint_if_cancelled()
        return value

    def _loop(self) -> None:
        token = self._token
        while True:
            item = self._queue.get()
            if item is None:
                return
            work, done = item
            value: Any = None
            error: BaseException | None = None
            try:
                value = work()
            except BaseException as raised:
                error = raised
            try:
                token.run_sync_soon(done, value, error)
            except trio.RunFinishedError:
                return

    async def close(self) -> None:
        """Finish all work, end the thread."""
        with trio.CancelScope(shield=True):
            await self.run(_nothing)
        self._queue.put(None)
        self._thread.join()


def _nothing() -> None:
    pass


def _not_now(_: Any) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.FAILED
