"""The image is read again in idle times, so that rot is found while an older state
and the log can still heal it.

What it is: steps on the event thread, between requests, spread evenly over a period
    in which every page of the newest generation is to be read once.
Invariants: a step is taken only when the king has nothing to ask, and reads 256 KiB
    at most: so long an event that comes just then may wait. While something is
    saved or first verified there is none.
Limits: each start begins anew (and reads all of it once, of its own). A ship that
    never waits for a request is not scrubbed. Pages in use are compared as the system
    has them in memory. Tables are not read again.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from serf.engine import Engine, Scrubbed

__all__ = ["Scrub"]

RETRY_S = 5.0
LONGEST_S = 3_600.0
"""Between two steps, however few there are."""


class Scrub:
    """When the next step is due, and what came of the steps."""

    def __init__(
        self,
        engine: Engine,
        period_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._period_s = period_s
        self._clock = clock
        self._due = clock() + min(RETRY_S, period_s)
        self._seen = Scrubbed(0, 0, 0, 0)
        self._completed: float | None = None

    @property
    def patience_s(self) -> float:
        """How long to wait for a request, before a step is taken."""
        return max(self._due - self._clock(), 0.0)

    def step(self) -> None:
        """:raises ImageUnusable: where a page turns out to be rotten."""
        done = self._engine.scrub()
        now = self._clock()
        if not done.stepped:
            self._due = now + min(RETRY_S, self._period_s)
            return
        if done.passes > self._seen.passes:
            self._completed = now
        self._seen = done
        wait = self._period_s * done.stepped / done.pages
        self._due = now + min(wait, LONGEST_S)

    def gauges(self) -> tuple[tuple[str, int], ...]:
        """For status; `scrub_last_s`: since when the last pass is complete."""
        seen = self._seen
        gauges = [
            ("scrub_passes", seen.passes),
            ("scrub_percent", 100 * seen.page // max(seen.pages, 1)),
        ]
        if self._completed is not None:
            gauges.append(("scrub_last_s", int(self._clock() - self._completed)))
        return tuple(gauges)
