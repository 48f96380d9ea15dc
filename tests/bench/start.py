"""How long a ship takes to start, and what it then holds of memory."""

from __future__ import annotations

from pathlib import Path

from tests.bench.figure import Aim, Figure, figure, pairs
from tests.bench.machine import python_start_s
from tests.bench.plan import Plan
from tests.bench.ship import Ship

__all__ = ["IMPORTS", "restart"]

IMPORTS = ("trio", "lmdb", "msgpack", "cffi", "h11", "argparse")
_MEMORY = ("king", "serf", "serf_anonymous")


def restart(plan: Plan, name: str, pier: Path, aim: Aim | None, about: str) -> Figure:
    """From exec to the first acknowledged event, after a SIGKILL."""
    memory: list[tuple[float, ...]] = []

    def measure() -> float:
        ship = Ship(pier)
        try:
            passed = ship.first_event() * 1e3
            memory.append(ship.resident_mb())
            return passed
        finally:
            ship.kill()

    measure()
    values, floors = pairs(
        max(plan.runs, 5), measure, lambda: python_start_s(*IMPORTS) * 1e3
    )
    return figure(
        name,
        "ms",
        values,
        floors,
        f"a bare Python with {' '.join(IMPORTS[:5])}",
        aim=aim,
        vere=180.0,
        note=f"exec of `treadle run` to the first event acknowledged, {about}, "
        "killed before",
        seen=tuple(
            (f"{process}_resident_mb", max(each))
            for process, each in zip(_MEMORY, zip(*memory, strict=True), strict=True)
        ),
    )
