"""The king's core through many fates, on a simulated world.

TREADLE_SIMULATION_SEEDS: how many (2,000, as CI runs them); a soak is
`scripts/simulate --minutes M`. A failure prints the line that runs it again.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest

from tests.simulation.plan import from_json, make_plan, shrink, to_json
from tests.simulation.ship import simulate

SEEDS = int(os.environ.get("TREADLE_SIMULATION_SEEDS", "2000"))
QUICK = 100

# Found by the simulation, shrunk, and mended since.
_SMALL = '"disk_s":0.0005,"serf_s":0.005,"pipe":65536,"batch_events":3,'
REGRESSIONS = {
    "a replay that was told to halt gave its serf for one that had caught up": (
        '{"seed":28,' + _SMALL + '"lane_events":4,"flight_events":1,"save_s":0.05,'
        '"offers":[{"name":31,"at":0.0,"lane":2,"kind":"crud"}],'
        '"faults":[{"at":0.0122,"kind":"serf-kill","amount":9},'
        '{"at":0.0152,"kind":"stop","amount":2}]}'
    ),
    "a save waited for ever: the last answer before the wall was a peek's": (
        '{"seed":3,' + _SMALL + '"lane_events":4,"flight_events":1,"save_s":0.05,'
        '"offers":[{"name":1,"at":0.0,"lane":0,"kind":"ok"},'
        '{"name":2,"at":0.049,"lane":1,"kind":"peek"},'
        '{"name":3,"at":0.0495,"lane":1,"kind":"peek"},'
        '{"name":4,"at":0.0495,"lane":1,"kind":"save"}],"faults":[]}'
    ),
    "an event that was sent again had no deadline": (
        '{"seed":42,' + _SMALL + '"lane_events":1,"flight_events":1,"save_s":0.5,'
        '"offers":[{"name":2,"at":0.0,"lane":0,"kind":"deaf"}],"faults":[]}'
    ),
}


@pytest.mark.parametrize("what", REGRESSIONS)
def test_what_was_mended_stays_mended(what: str) -> None:
    assert simulate(from_json(REGRESSIONS[what])).violations == ()


def run(seeds: range) -> Counter[str]:
    happened: Counter[str] = Counter()
    for seed in seeds:
        plan = make_plan(seed)
        report = simulate(plan)
        if report.violations:
            small = shrink(plan, lambda smaller: bool(simulate(smaller).violations))
            pytest.fail(
                f"seed {seed}: {report.violations[0]}\nshrunk: "
                f"{simulate(small).violations[0]}\n"
                f"again: scripts/simulate --plan '{to_json(small)}'"
            )
        happened += report.happened
        happened["acknowledged"] += report.acknowledged
    return happened


def test_a_hundred_fates() -> None:
    assert run(range(QUICK))["acknowledged"] > 5 * QUICK


@pytest.mark.slow
@pytest.mark.timeout(60 + SEEDS)
def test_many_fates() -> None:
    happened = run(range(QUICK, SEEDS))
    rare = {what for what, count in happened.items() if count < SEEDS / 200}
    assert len(happened) - len(rare) >= 18, f"too rare: {rare}"


def test_a_fate_is_the_same_each_time() -> None:
    for seed in range(40, 60):
        first, second = simulate(make_plan(seed)), simulate(make_plan(seed))
        assert first == second


def test_a_plan_survives_being_printed() -> None:
    for seed in range(20):
        plan = make_plan(seed)
        assert from_json(to_json(plan)) == plan


def test_a_failure_is_shrunk() -> None:
    """To what matters, here: one bail and one kill."""
    plan = next(
        plan
        for plan in map(make_plan, range(1000))
        if any(offer.kind == "bail" for offer in plan.offers)
        and any(fault.kind == "king-kill" for fault in plan.faults)
        and plan.size > 8
    )

    def fails(plan: object) -> bool:
        kinds = [o.kind for o in plan.offers] + [f.kind for f in plan.faults]
        return "bail" in kinds and "king-kill" in kinds

    small = shrink(plan, fails)
    assert [offer.kind for offer in small.offers] == ["bail"]
    assert [fault.kind for fault in small.faults] == ["king-kill"]
