"""Kills and errors at recorded calls of king and serf, on whole pairs.

Eight blows at one pier, each start recovering from the blow before; then a
calm start, `treadle check`, and a start that has nothing to recover. As many
piers at once as there are cores.
TREADLE_LAB_POINTS: how many of each scenario (48). TREADLE_LAB_SEED.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from king.lab.ledger import Ledger
from king.lab.scenario import all_scenarios, find_scenario
from king.lab.session import Session
from king.lab.trial import Lab

POINTS = int(os.environ.get("TREADLE_LAB_POINTS", "48"))
SEED = int(os.environ.get("TREADLE_LAB_SEED", "1"))
NAMES = [scenario.name for scenario in all_scenarios()]


@pytest.fixture(scope="module")
def struck() -> dict[str, int]:
    """By scenario."""
    return {}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", NAMES)
def test_blows(lab: Lab, name: str, tmp_path: Path, struck: dict[str, int]) -> None:
    ledger = Ledger()
    with Session(
        lab, find_scenario(name), SEED, ledger, keep=tmp_path / "found"
    ) as session:
        struck[name] = session.strike_points(POINTS)
        print(f"{name}: {struck[name]} blows; {ledger.counts}")
        assert not session.found, [f.faults for f in session.found]
        assert struck[name] >= POINTS / 2, "too few calls were struck"


@pytest.mark.slow
def test_blows_were_many(
    request: pytest.FixtureRequest,
    struck: dict[str, int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """500 of them in the suite, and never fewer by and by."""
    asked = {
        item.callspec.params["name"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.originalname == "test_blows"
    }
    if asked != set(NAMES):
        pytest.skip("only some of the scenarios were asked for")
    assert set(struck) == asked
    total = sum(struck.values())
    with capsys.disabled():
        parts = ", ".join(f"{name} {count}" for name, count in struck.items())
        print(f"\n{total} blows at whole ships: {parts}")
    assert total >= (500 if POINTS >= 48 else POINTS * len(NAMES) / 2)
