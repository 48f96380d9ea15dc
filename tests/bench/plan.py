"""How much of everything is to be measured."""

from __future__ import annotations

from dataclasses import dataclass

from tests.bench.machine import Machine

__all__ = ["Plan"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What one run of the bench is to do."""

    machine: Machine
    wanted: frozenset[str]
    runs: int
    quick: bool

    @property
    def seconds(self) -> float:
        """Of one run of events."""
        return 0.4 if self.quick else 2.0

    def wants(self, *names: str) -> bool:
        return bool(self.wanted.intersection(names))
