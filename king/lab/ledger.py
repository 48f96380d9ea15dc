"""What the lab has tried so far: counts, seeds, times, and what it found.

Owns: one JSON file, replaced whole; several runs add to it in turn.
Invariants: counts only grow; what was found stays until a person removes it.
Limits: one writer at a time.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from king.disk import write_durably
from king.errors import TreadleError

__all__ = ["Finding", "Ledger", "live_bin", "live_bins"]

_BINS_MS = (100, 150, 200, 300, 400, 500, 700, 1000, 1500, 2000, 3000, 5000, 10_000)


@dataclass(frozen=True, slots=True)
class Finding:
    """A broken promise, and the line that shows it again."""

    scenario: str
    what: str
    again: str
    faults: tuple[str, ...]


def live_bin(seconds: float) -> str:
    """The histogram's bin: at most so many milliseconds."""
    for limit in _BINS_MS:
        if seconds * 1000 <= limit:
            return str(limit)
    return "more"


def live_bins() -> list[tuple[str, str]]:
    """All bins in order: key and label."""
    bins = [(str(limit), f"{limit / 1000:g}") for limit in _BINS_MS]
    return [*bins, ("more", "more")]


@dataclass(slots=True)
class Ledger:
    """Counts by name, such as `states:torn`; see `king.lab.command`."""

    path: Path | None = None
    counts: dict[str, int] = field(default_factory=dict)
    live: dict[str, int] = field(default_factory=dict)
    seeds: dict[str, int] = field(default_factory=dict)
    """By scenario: the next seed that a soak takes."""
    findings: list[Finding] = field(default_factory=list)
    seconds: float = 0.0

    @classmethod
    def load(cls, path: Path) -> Ledger:
        """The file's, or an empty one.

        :raises TreadleError: failed: it is no ledger.
        """
        try:
            value: dict[str, Any] = json.loads(path.read_bytes())
            return cls(
                path,
                dict(value["counts"]),
                dict(value["live"]),
                dict(value["seeds"]),
                [
                    Finding(f["scenario"], f["what"], f["again"], tuple(f["faults"]))
                    for f in value["findings"]
                ],
                float(value["seconds"]),
            )
        except FileNotFoundError:
            return cls(path)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TreadleError("failed", f"{path} is no ledger: {error}") from error

    def count(self, name: str, number: int = 1) -> None:
        self.counts[name] = self.counts.get(name, 0) + number

    def add_live(self, times_s: Iterable[float]) -> None:
        for time_s in times_s:
            key = live_bin(time_s)
            self.live[key] = self.live.get(key, 0) + 1

    def total(self, prefix: str) -> int:
        """Of all counts whose names begin so."""
        return sum(n for name, n in self.counts.items() if name.startswith(prefix))

    def take_seed(self, scenario: str) -> int:
        """The next one of a soak."""
        seed = self.seeds.get(scenario, 1)
        self.seeds[scenario] = seed + 1
        return seed

    def save(self) -> None:
        if self.path is None:
            return
        value = {
            "counts": self.counts,
            "live": self.live,
            "seeds": self.seeds,
            "findings": [
                {"scenario": f.scenario, "what": f.what, "again": f.again}
                | {"faults": list(f.faults)}
                for f in self.findings
            ],
            "seconds": round(self.seconds, 1),
        }
        write_durably(self.path, json.dumps(value, indent=1).encode() + b"\n")
