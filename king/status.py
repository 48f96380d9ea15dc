"""Status is a value: one structure for the CLI, the socket and the page.

Owns: counters of this run that nobody else keeps.
Limits: the rate is over the last WINDOW_S seconds, the growth of the log over a
    day at most, both sampled at releases.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from king.pipeline import Pipeline

__all__ = ["Growth", "Rate", "pipeline_status", "scrub_status", "split_gauges"]

WINDOW_S = 10.0
DAY_S = 86_400.0
GROWTH_STEP_S = 600.0
GAUGES_MAX = 20_000
GAUGE_NAME_MAX = 400


class Rate:
    """Events per second, lately. Costs one clock read a call."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])
        self._count = 0

    def add(self, event: int, began: int) -> None:
        """Events up to `event` were released; the run began at `began`."""
        now = time.monotonic()
        self._count = event - began
        if now - self._samples[-1][0] >= 0.25:
            self._samples.append((now, self._count))
            while now - self._samples[0][0] > WINDOW_S:
                self._samples.popleft()

    @property
    def total(self) -> int:
        return self._count

    def per_second(self) -> float:
        now = time.monotonic()
        recent = [at for at in self._samples if now - at[0] <= WINDOW_S]
        if not recent:
            return 0.0
        began, count = recent[0]
        return (self._count - count) / max(now - began, 0.25)


class Growth:
    """How the log has grown lately: bytes of jobs, over a day at most."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])

    def add(self, size: int) -> None:
        """So many bytes were logged in this run by now."""
        now = time.monotonic()
        if now - self._samples[-1][0] >= GROWTH_STEP_S:
            self._samples.append((now, size))
            while now - self._samples[1][0] > DAY_S:
                self._samples.popleft()

    def status(self, size: int) -> dict[str, Any]:
        """`bytes_per_day`: at this pace; `seconds`: over which it was seen."""
        began, before = self._samples[0]
        seconds = max(time.monotonic() - began, 1.0)
        per_day = round((size - before) * DAY_S / seconds)
        return {"bytes_per_day": per_day, "seconds": round(seconds)}


def split_gauges(
    values: Iterable[tuple[str, int]],
) -> tuple[dict[str, int], dict[str, dict[str, int]], dict[str, int]]:
    """A serf's counters: those of the machine; those of each arm that was called
    (`jet:PATH:WHAT`); and the events that are pinned (`pin:NAME`). What is named
    in no such way is left out."""
    machine: dict[str, int] = {}
    jets: dict[str, dict[str, int]] = {}
    pins: dict[str, int] = {}
    for name, value in islice(values, GAUGES_MAX):
        if len(name) > GAUGE_NAME_MAX:
            continue
        match name.split(":", 2):
            case ["jet", path, what]:
                jets.setdefault(path, {})[what] = value
            case ["pin", pin]:
                pins[pin] = value
            case ["jet" | "pin", *_]:
                pass
            case _:
                machine[name] = value
    return machine, jets, pins


def scrub_status(machine: Mapping[str, int], days: float) -> dict[str, Any]:
    """How often since the serf's start all of the image was read again in idle
    times, how far that is now, and how long ago it was last complete."""
    return {
        "every_days": days or None,
        "passes": machine.get("scrub_passes"),
        "percent": machine.get("scrub_percent"),
        "last_seconds_ago": machine.get("scrub_last_s"),
    }


def pipeline_status(pipeline: Pipeline, rate: Rate) -> dict[str, Any]:
    """What goes on between the drivers and the log."""
    return {
        "queues": {
            lane.name: {
                "events": lane.events,
                "bytes": lane.bytes,
                "waiting": len(lane.queue),
                "lagging": lane.lagging,
            }
            for lane in pipeline.lanes
            if lane.events or lane.lagging
        },
        "in_flight": len(pipeline.flight),
        "uncommitted": pipeline.computed - pipeline.committed,
        "asked": len(pipeline.asks),
        "refusing": pipeline.refusing,
        "refused_events": pipeline.refused,
        "failed_events": pipeline.failures,
        "commits": pipeline.batches,
        "events_this_run": rate.total,
        "events_per_second": round(rate.per_second(), 1),
        "pid_king": os.getpid(),
    }
