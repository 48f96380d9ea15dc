"""Rooms of large states: a save of 1 GiB, events beside it, a start from 2 GiB.

By hand only (`--only`): they take some minutes, 8 GB of disk and 5 GB of memory.
One ship serves all: it grows by 1 GiB and is saved with its log idle; by another,
and is saved among events; by a quarter, and is saved slowly among events, as with a
write budget; then it is killed and started. The pauses of the serf's event thread
are taken in a machine without a pipe.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from king.maintain import PACE
from king.pier import Layout
from tests.bench.figure import Aim, Figure, figure
from tests.bench.machine import direct_write_s
from tests.bench.plan import Plan
from tests.bench.ship import alone, boot, inside
from tests.bench.start import restart

__all__ = ["LARGE", "large"]

GIB = 1 << 30
MB = 1e6
_SAVES = (
    "save_1gb",
    "save_1gb_bytes",
    "save_latency_1gb",
    "save_latency_paced",
)
_ALONE = ("save_stall_1gb", "save_compute_1gb")
LARGE = (*_SAVES, *_ALONE, "restart_2gb")


def large(plan: Plan) -> Iterator[Figure]:
    size = GIB >> 6 if plan.quick else GIB
    if plan.wants(*_ALONE):
        yield from _pauses(plan, size)
    if plan.wants(*_SAVES, "restart_2gb"):
        place = plan.machine.place("large")
        pier = place / "zod"
        boot(pier)
        seen = inside(pier, "large", str(size), str(PACE))
        yield from _saves(plan, seen, place)
        if plan.wants("restart_2gb"):
            image = Layout(pier).image.stat().st_size
            about = f"an image of {image / MB:,.0f} MB"
            yield restart(plan, "restart_2gb", pier, Aim(300.0), about)
        plan.machine.drop(place)


def _saves(plan: Plan, seen: dict[str, Any], place: Path) -> Iterator[Figure]:
    whole = seen["alone"]
    about = f"{whole['dirty'] / MB:.0f} MB are dirty"
    if plan.wants("save_1gb"):
        yield figure(
            "save_1gb",
            "ms",
            [whole["seconds"] * 1e3],
            [direct_write_s(place, whole["bytes"]) * 1e3 for _ in range(3)],
            "one sequential O_DIRECT write and fdatasync of as many bytes",
            aim=Aim(0.5, of_ratio=True),
            note=f"{about}, the log idle",
            seen=(("serf_ms", whole["serf_s"] * 1e3),),
        )
    if plan.wants("save_1gb_bytes"):
        yield figure(
            "save_1gb_bytes",
            "bytes",
            [float(whole["bytes"])],
            [float(whole["dirty"])],
            "the dirty pages",
            aim=Aim(1 / 1.05, of_ratio=True),
            note=f"written by that save, tables and superblock too; {about}",
        )
    for name, key, aim, how in (
        ("save_latency_1gb", "among", None, "as fast as it can"),
        ("save_latency_paced", "paced", Aim(0.2, of_ratio=True), "at 32 MiB/s"),
    ):
        if not plan.wants(name):
            continue
        save = seen[key]
        yield figure(
            name,
            "us",
            [save["during"]["p99"] / 1e3],
            [save["idle"]["p99"] / 1e3],
            "the same of as many seconds before it",
            aim=aim,
            note="p99 of events, one by one, to their commit, while "
            f"{save['bytes'] / MB:.0f} MB are saved {how}",
            seen=(
                ("save_s", save["seconds"]),
                ("events", save["during"]["events"]),
                ("p50_us", save["during"]["p50"] / 1e3),
                ("max_us", save["during"]["max"] / 1e3),
                ("idle_max_us", save["idle"]["max"] / 1e3),
            ),
        )


def _pauses(plan: Plan, size: int) -> Iterator[Figure]:
    runs: list[dict[str, Any]] = []
    for _ in range(min(plan.runs, 3)):
        place = plan.machine.place("pauses")
        boot(place / "zod")
        image = Layout(place / "zod").image
        runs.append(alone("save", str(image), str(size)))
        plan.machine.drop(place)
    dirty = f"{runs[0]['dirty'] / MB:.0f} MB are saved"
    if plan.wants("save_stall_1gb"):
        yield figure(
            "save_stall_1gb",
            "ms",
            [max(run["begin_s"], run["end_s"]) * 1e3 for run in runs],
            [run["idle"]["p99"] / 1e6 for run in runs],
            "a small event while nothing is saved, p99",
            aim=Aim(1.0),
            note=f"the event thread's longest pause for a save, {dirty}",
            seen=(
                ("begin_ms", max(run["begin_s"] for run in runs) * 1e3),
                ("end_ms", max(run["end_s"] for run in runs) * 1e3),
            ),
        )
    if plan.wants("save_compute_1gb"):
        yield figure(
            "save_compute_1gb",
            "us",
            [run["during"]["p99"] / 1e3 for run in runs],
            [run["idle"]["p99"] / 1e3 for run in runs],
            "the same while nothing is saved",
            aim=Aim(0.5, of_ratio=True),
            note=f"p99 of small events, computed only, while {dirty}",
            seen=(
                ("events", runs[0]["during"]["events"]),
                ("p50_us", runs[0]["during"]["p50"] / 1e3),
                ("max_us", max(run["during"]["max"] for run in runs) / 1e3),
                ("idle_max_us", max(run["idle"]["max"] for run in runs) / 1e3),
            ),
        )
