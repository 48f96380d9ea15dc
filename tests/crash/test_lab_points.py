"""Kills and errors at recorded calls of king and serf, on whole pairs.

Eight blows at one pier, each start recovering from the blow before; then a
calm start, `treadle check`, and a start that has nothing to recover.
TREADLE_LAB_POINTS: how many of each scenario (24). TREADLE_LAB_SEED.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from king.lab.ledger import Ledger
from king.lab.scenario import all_scenarios, find_scenario
from king.lab.session import Session
from king.lab.trial import Lab

POINTS = int(os.environ.get("TREADLE_LAB_POINTS", "24"))
SEED = int(os.environ.get("TREADLE_LAB_SEED", "1"))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", [scenario.name for scenario in all_scenarios()])
def test_blows(lab: Lab, name: str, tmp_path: Path) -> None:
    ledger = Ledger()
    with Session(
        lab, find_scenario(name), SEED, ledger, keep=tmp_path / "found"
    ) as session:
        struck = session.strike_points(POINTS)
        print(f"{name}: {struck} blows; {ledger.counts}")
        assert not session.found, [f.faults for f in session.found]
        assert struck >= POINTS / 2, "too few calls were struck"
