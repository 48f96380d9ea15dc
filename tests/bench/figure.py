"""One measured figure beside its floor, and how both are shown.

`ratio` is always the share of the floor's speed that we reach: higher is
better, 1 means as fast as the machine's own bare operation.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

__all__ = ["Aim", "Figure", "figure", "pairs", "percentile", "shown"]

T = TypeVar("T")
F = TypeVar("F")

RATES = frozenset({"events/s", "requests/s", "MB/s"})
"""Units in which more is better; in all others less is."""


@dataclass(frozen=True, slots=True)
class Aim:
    """A bar: of the value, or of the ratio to the floor."""

    bar: float
    of_ratio: bool = False


@dataclass(frozen=True, slots=True)
class Figure:
    """Medians of `runs` runs; `low` and `high` are the extremes seen."""

    name: str
    value: float
    unit: str
    floor: float
    floor_is: str
    low: float
    high: float
    floor_low: float
    floor_high: float
    runs: int
    aim: Aim | None = None
    vere: float | None = None
    """Vere's figure on a machine of the same class, for the scale only."""
    note: str = ""
    seen: tuple[tuple[str, float], ...] = ()
    """Other things measured on the way."""

    @property
    def more_is_better(self) -> bool:
        return self.unit in RATES

    @property
    def ratio(self) -> float:
        if self.more_is_better:
            return self.value / self.floor if self.floor else 0.0
        return self.floor / self.value if self.value else 0.0

    @property
    def met(self) -> bool | None:
        """Is the aim met? None where there is none."""
        if self.aim is None:
            return None
        if self.aim.of_ratio:
            return self.ratio >= self.aim.bar
        if self.more_is_better:
            return self.value >= self.aim.bar
        return self.value <= self.aim.bar

    @property
    def aim_text(self) -> str:
        if self.aim is None:
            return ""
        if self.aim.of_ratio:
            return f"ratio >= {self.aim.bar:g}"
        sign = ">=" if self.more_is_better else "<="
        return f"{sign} {_number(self.aim.bar)}"

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "value": _round(self.value),
            "unit": self.unit,
            "floor": _round(self.floor),
            "floor_is": self.floor_is,
            "ratio": _round(self.ratio),
            "better": "higher" if self.more_is_better else "lower",
            "low": _round(self.low),
            "high": _round(self.high),
            "floor_low": _round(self.floor_low),
            "floor_high": _round(self.floor_high),
            "runs": self.runs,
            "aim": self.aim_text or None,
            "met": self.met,
            "vere": self.vere,
            "note": self.note,
            "seen": {name: _round(value) for name, value in self.seen},
        }


def figure(
    name: str,
    unit: str,
    values: Sequence[float],
    floors: Sequence[float],
    floor_is: str,
    **more: Any,
) -> Figure:
    """A figure from the runs of it and the runs of its floor."""
    return Figure(
        name=name,
        value=statistics.median(values),
        unit=unit,
        floor=statistics.median(floors),
        floor_is=floor_is,
        low=min(values),
        high=max(values),
        floor_low=min(floors),
        floor_high=max(floors),
        runs=len(values),
        **more,
    )


def pairs(
    runs: int, measure: Callable[[], T], floor: Callable[[], F]
) -> tuple[list[T], list[F]]:
    """Take turns, so that a machine's mood falls on both."""
    values: list[T] = []
    floors: list[F] = []
    for _ in range(runs):
        floors.append(floor())
        values.append(measure())
    return values, floors


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


# --- for people ---------------------------------------------------------------


def _round(value: float) -> float:
    return float(f"{value:.5g}")


def _number(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


HEAD = ("name", "value", "low..high", "unit", "floor", "ratio", "aim", "")


def shown(item: Figure) -> tuple[str, ...]:
    """A row of the table."""
    verdict = {None: "", True: "met", False: "MISSED"}[item.met]
    return (
        item.name,
        _number(item.value),
        f"{_number(item.low)}..{_number(item.high)}",
        item.unit,
        _number(item.floor),
        f"{item.ratio:.2f}",
        item.aim_text,
        verdict,
    )
