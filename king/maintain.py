"""When to save a snapshot.

What it is: the cadence, by goals. A restart costs a start and a replay of what the
    last snapshot has not: as much computing as that took. When the estimate comes
    near the goal (`recovery_s`) the state is saved, as far as the write budget
    allows: a bucket of bytes that fills evenly over the day. With a timer
    (`interval_s`) also so long after the first event that is not saved.
Owns: the estimate, the bucket. Saves of others (at exit, after a replay, by a verb
    of care) are told to `Cadence.saved` as well.
Invariants: idle costs nothing: no event, no timer, no wake-up. After `events_max`
    events or `bytes_max` of log a save is due however little they computed.
Limits: events wait at the wall for the commits before it, not for the save. What
    is measured is the processor time of the serf's event thread, peeks included.
    A restart of the king begins with a full bucket.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio

from king.config import SaveGoals
from king.errors import TreadleError
from king.spine import HELD_S, Spine
from proto.message import Saved

__all__ = ["Cadence", "keep_saving", "thread_seconds"]

EVENTS_MAX = 1_000_000
BYTES_MAX = 1 << 30
CHECK_S = 5.0
RETRY_S = 60.0
DAY_S = 86_400.0
BUCKET_S = DAY_S / 4
"""So much of the day's budget may be spent at once."""
EARLIEST = 0.8
"""Of the goal: ships that began together do not save together."""
TAIL_LEAST = 0.2
"""Of the goal: below that a save would gain nothing, even if the start alone takes
longer than the goal."""
PACE = 32 << 20
"""Bytes a second of a save that has a budget: the log's commits come first."""


class Cadence:
    """Decides when a save is due. It has no clock: `now` is given, in seconds."""

    def __init__(
        self,
        goals: SaveGoals,
        *,
        event: int = 0,
        start_s: float = 0.0,
        now: float = 0.0,
        jitter: Callable[[], float] = random.random,
        wall: Callable[[], float] = time.time,
        events_max: int = EVENTS_MAX,
        bytes_max: int = BYTES_MAX,
    ) -> None:
        self.goals = goals
        self.event = event
        """The last that is saved."""
        self.held_back = False
        """A save is due, and the budget does not allow it."""
        self._start_s = start_s
        self._jitter = jitter
        self._wall = wall
        self._events_max = events_max
        self._bytes_max = bytes_max
        self._generation = 0
        self._frozen = (0, 0.0, 0)  # serf, its clock, bytes logged: as it was saved
        self._marked: tuple[int, float, int] | None = None
        self._seen = self._frozen
        self._since: float | None = None
        self._estimate = start_s
        self._last_bytes = 0
        self._day = -1.0
        self._today = 0
        self._tokens = self._capacity
        self._filled = now
        self._draw()

    def _draw(self) -> None:
        share = EARLIEST + (1 - EARLIEST) * self._jitter()
        self._threshold = self.goals.recovery_s * share

    @property
    def _capacity(self) -> float:
        return self._rate * BUCKET_S

    @property
    def pace(self) -> int:
        """Bytes a second that a save may write; 0: as fast as it can."""
        return PACE if self.goals.write_bytes_per_day else 0

    @property
    def retry_s(self) -> float:
        """From a save that failed to the next."""
        return min(RETRY_S, self.goals.interval_s or RETRY_S)

    # --- what happens -----------------------------------------------------------

    def saved(self, saved: Saved, now: float) -> None:
        """A snapshot is durable, whoever wanted it. Each is heard once."""
        if saved.generation == self._generation:
            return
        self._generation = saved.generation
        self._fill(now)
        self._tokens -= saved.bytes_written
        self._last_bytes = saved.bytes_written
        self._today = saved.bytes_written + self._written_today()
        self._day = self._wall() // DAY_S
        self.event = saved.event
        self._frozen, self._marked = self._marked or self._seen, None
        self.held_back = False
        self._since = None
        self._estimate = self._start_s
        self._draw()

    def mark(self, source: int, computed: float, logged: int) -> None:
        """A save is about to begin: what is computed from here on is not in it.
        `source` names the serf whose clock says `computed`."""
        self._marked = source, computed, logged

    def look(
        self, now: float, event: int, source: int, computed: float, logged: int
    ) -> bool:
        """Is a save due, and affordable? `logged`: bytes, as for `mark`. Another
        serf has computed no more than the tail, and its start."""
        self._fill(now)
        tail = event - self.event
        if tail <= 0:
            self._since = None
            self.held_back = False
            return False
        if self._since is None:
            self._since = now
        self._seen = source, computed, logged
        last_source, last_computed, last_logged = self._frozen
        tail_s = computed - (last_computed if source == last_source else 0.0)
        self._estimate = self._start_s + max(tail_s, 0.0)
        goals = self.goals
        due = (
            (
                self._estimate >= self._threshold
                and tail_s >= TAIL_LEAST * goals.recovery_s
            )
            or now >= self._timer
            or tail >= self._events_max
            or logged - last_logged >= self._bytes_max
        )
        self.held_back = due and not self._affordable
        return due and not self.held_back

    def patience(self, now: float) -> float:
        """Seconds until time alone may make a save due; infinite: it never does."""
        if self.held_back:
            return max(self._lacking / self._rate, CHECK_S)
        return max(self._timer - now, 0.0)

    @property
    def _timer(self) -> float:
        """When time alone makes a save due; infinite: it never does."""
        if self._since is None or self.goals.interval_s <= 0:
            return math.inf
        return self._since + self.goals.interval_s

    # --- the budget ---------------------------------------------------------------

    @property
    def _rate(self) -> float:
        """Bytes a second."""
        return self.goals.write_bytes_per_day / DAY_S

    def _fill(self, now: float) -> None:
        gained = max(now - self._filled, 0.0) * self._rate
        self._tokens = min(self._capacity, self._tokens + gained)
        self._filled = now

    @property
    def _lacking(self) -> float:
        """Bytes: the next save will write about as much as the last one did."""
        return min(self._last_bytes, self._capacity) - self._tokens

    @property
    def _affordable(self) -> bool:
        return not self.goals.write_bytes_per_day or self._lacking <= 0

    def _written_today(self) -> int:
        """By this king, since midnight, UTC."""
        return self._today if self._wall() // DAY_S == self._day else 0

    def status(self, now: float) -> dict[str, Any]:
        """For people and programs."""
        self._fill(now)
        budget = self.goals.write_bytes_per_day
        return {
            "recovery_goal_seconds": self.goals.recovery_s,
            "recovery_estimate_seconds": round(self._estimate, 3),
            "every_seconds": self.goals.interval_s or None,
            "bytes_written_today": self._written_today(),
            "write_budget_per_day": budget or None,
            "write_budget_left": int(self._tokens) if budget else None,
            "held_back": self.held_back,
        }


def thread_seconds(pid: int) -> float:
    """Processor time of a process's first thread, in which a serf computes; 0.0
    where the system does not say."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/stat").read_text()
        fields = text.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100.0
    except (OSError, ValueError, IndexError):
        return 0.0


async def keep_saving(
    spine: Spine,
    cadence: Cadence,
    *,
    saved: Callable[[Saved], None],
    tell: Callable[[str], None],
    computed: Callable[[int], float] = thread_seconds,
) -> None:
    """Save by the cadence, until cancelled."""
    looked = cadence.event
    told = False
    while True:
        if spine.pipeline.committed == looked:
            # The bell is rung by the first commit from here on.
            spine.active = trio.Event()
            with trio.move_on_after(cadence.patience(trio.current_time())):
                await spine.active.wait()
        looked, now = spine.pipeline.committed, trio.current_time()
        source = spine.lord.pid if spine.lord is not None else 0
        due = cadence.look(now, looked, source, computed(source), spine.bytes_logged)
        if cadence.held_back and not told:
            cost = cadence.status(now)["recovery_estimate_seconds"]
            tell(f"the write budget holds a snapshot back: a start would take {cost} s")
        told = cadence.held_back
        if not due:
            await trio.sleep(min(CHECK_S, cadence.patience(now)))
            continue
        while spine.saves_held:  # before the mark, for that may be long
            await trio.sleep(HELD_S)
        cadence.mark(source, computed(source), spine.bytes_logged)
        try:
            plea = await spine.save(pace=cadence.pace, patient=True)
        except TreadleError as error:
            plea = None
            tell(f"snapshot put off: {error.message}")
        else:
            if plea is None:
                tell("the serf declined to save a snapshot")
        if plea is not None:
            looked = plea.event
            cadence.saved(plea, trio.current_time())
            saved(plea)
        else:
            looked = -1  # without waiting for another event
            await trio.sleep(cadence.retry_s)
