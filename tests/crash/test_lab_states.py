"""What power cuts leave of every scenario, opened in one process.

King and serf are recorded together; log and image of each state are opened as
a start opens them, caught up, and held against what people had been told.
TREADLE_LAB_STATES: how many of each scenario (440). TREADLE_LAB_SEED.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from king.lab.ledger import Ledger
from king.lab.scenario import all_scenarios, find_scenario
from king.lab.session import Session
from king.lab.trial import Lab

STATES = int(os.environ.get("TREADLE_LAB_STATES", "440"))
SEED = int(os.environ.get("TREADLE_LAB_SEED", "1"))
PAIRS = 2


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", [scenario.name for scenario in all_scenarios()])
def test_power_cuts(lab: Lab, name: str, tmp_path: Path) -> None:
    ledger = Ledger()
    with Session(
        lab, find_scenario(name), SEED, ledger, keep=tmp_path / "found"
    ) as session:
        whole = session.trees()
        before = lab.judge.opened_logs + lab.judge.opened_images
        states = session.judge_states(STATES)
        opened = lab.judge.opened_logs + lab.judge.opened_images - before
        session.start_pairs(PAIRS)
        session.judge_kills(1, STATES // 15)
        print(f"{name}: {states} of {len(whole)} states, {opened} opened")
        assert states == min(STATES, len(whole))
        assert states >= 300, "the record is too poor to prove anything"
        assert opened >= states / 4
        assert not session.found, [f.faults for f in session.found]
