"""What happens to a simulated ship: a plan, made from a seed, and smaller ones.

A plan is data: events that clients offer, misfortunes, and how slow and how
narrow the world is. All other chance in a run comes from `Plan.seed`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace

__all__ = ["Fault", "Offer", "Plan", "from_json", "make_plan", "shrink", "to_json"]

LANES = 3

KINDS = (
    *("ok",) * 30,
    *("wide",) * 6,  # effects for every driver
    *("silent",) * 3,  # none
    *("bail",) * 4,
    *("crud",) * 3,  # replaced by another job
    *("slow",) * 3,
    *("peek",) * 4,
    *("peek-bad", "save"),
)
EVIL = (
    *("hang", "hang", "deaf"),  # until interrupted; until killed
    *("die", "die1", "die1", "die2", "exit"),
    *("lie-number", "lie-request", "lie-mug", "lie-kind", "lie-job", "lie-effects"),
    *("lie-order",) * 4,
    *("garbage", "twice", "early", "skip", "slog"),
    *("peek-die", "peek-lie"),
)
"""What a serf does when it meets such an event; see `world.Serf`."""

FAULTS = (
    *("serf-kill",) * 6,
    *("king-kill",) * 6,
    *("stop",) * 2,
    *("commit-slow",) * 3,
    *("commit-fails", "commit-fails-durably", "disk-full"),
    *("disk-low",) * 2,
    *("start-fails", "start-silent", "replay-dies", "replay-lies"),
    *("save-dies-before", "save-dies-after", "save-declined", "image-lost"),
    *("serf-stalls", "interrupt", "drivers-stall"),
)


@dataclass(frozen=True, slots=True)
class Offer:
    """A client's doing, at a time. Its place in the plan is its identity."""

    name: int
    at: float
    lane: int
    kind: str


@dataclass(frozen=True, slots=True)
class Fault:
    """`amount`: steps from then until it strikes, or seconds, or times."""

    at: float
    kind: str
    amount: int


@dataclass(frozen=True, slots=True)
class Plan:
    """One ship's fate."""

    seed: int
    disk_s: float  # a commit takes about so long
    serf_s: float  # an event takes about so long
    pipe: int  # bytes that each pipe holds
    lane_events: int
    flight_events: int
    batch_events: int
    save_s: float  # a snapshot so long after the first event
    offers: tuple[Offer, ...]
    faults: tuple[Fault, ...]

    @property
    def size(self) -> int:
        return len(self.offers) + len(self.faults)


def make_plan(seed: int) -> Plan:
    dice = random.Random(seed)
    span = dice.choice((0.0, 0.02, 0.2, 2.0))
    offers = []
    at = 0.0
    evil = dice.random() < 0.3
    for name in range(1, dice.choice((4, 8, 12, 20, 40)) + 1):
        if dice.random() < 0.5:
            at = dice.random() * span
        wicked = evil and dice.random() < 0.12
        kind = dice.choice(EVIL if wicked else KINDS)
        offers.append(Offer(name, round(at, 4), dice.randrange(LANES), kind))
    faults = []
    for _ in range(dice.choice((0, 1, 1, 2, 2, 3, 5))):
        when = round(dice.random() * (span + 0.05), 4)
        faults.append(Fault(when, dice.choice(FAULTS), dice.randrange(1, 40)))
    return Plan(
        seed,
        disk_s=dice.choice((0.0, 0.0005, 0.005, 0.05)),
        serf_s=dice.choice((0.0, 0.0002, 0.005)),
        pipe=dice.choice((64, 1000, 1 << 16)),
        lane_events=dice.choice((1, 4, 2_048)),
        flight_events=dice.choice((1, 3, 1_024)),
        batch_events=dice.choice((1, 3, 4_096)),
        save_s=dice.choice((0.05, 0.5, 120.0)),
        offers=tuple(sorted(offers, key=lambda offer: offer.at)),
        faults=tuple(sorted(faults, key=lambda fault: fault.at)),
    )


# --- smaller ones -----------------------------------------------------------


def _smaller(plan: Plan) -> Iterator[Plan]:
    """Plans with less in them: halves first, then single things."""
    for size in (8, 4, 2, 1):
        for start in range(0, len(plan.offers), size):
            kept = plan.offers[:start] + plan.offers[start + size :]
            yield replace(plan, offers=kept)
        for start in range(0, len(plan.faults), size):
            kept = plan.faults[:start] + plan.faults[start + size :]
            yield replace(plan, faults=kept)


def shrink(plan: Plan, fails: Callable[[Plan], bool], tries: int = 400) -> Plan:
    """The smallest plan found that still fails."""
    while True:
        for smaller in _smaller(plan):
            if smaller.size == plan.size:
                continue
            tries -= 1
            if tries < 0:
                return plan
            if fails(smaller):
                plan = smaller
                break
        else:
            return plan


def to_json(plan: Plan) -> str:
    return json.dumps(asdict(plan), separators=(",", ":"))


def from_json(text: str) -> Plan:
    value = json.loads(text)
    offers = tuple(Offer(**offer) for offer in value.pop("offers"))
    faults = tuple(Fault(**fault) for fault in value.pop("faults"))
    return Plan(offers=offers, faults=faults, **value)
