"""A start from the snapshot that Vere left, struck by the lab.

The kernel is one that gets by without jets: what was registered when our own was
booted is not in Vere's snapshot.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from king.lab.ledger import Ledger
from king.lab.scenario import find_scenario
from king.lab.session import Session
from king.lab.trial import Lab
from tests.support import golden

SCENARIO = Path(__file__).with_name("scenarios") / "vere.py"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(pill=golden.pill("counter")) as made:
        yield made


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_start_from_veres_snapshot(lab: Lab, tmp_path: Path) -> None:
    scenario = find_scenario(str(SCENARIO))
    with Session(lab, scenario, 1, Ledger(), keep=tmp_path / "found") as session:
        states = session.judge_states(200)
        session.start_pairs(2)
        struck = session.strike_points(24)
        assert not session.found, [f.faults for f in session.found]
        assert states >= 150
        assert struck >= 12
