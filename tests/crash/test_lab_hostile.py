"""Hostile piers and a hostile serf, as the lab makes them.

Damage to any file of a pier is refused by name, repaired, or harmless; a serf
that lies is buried, and nothing is lost by it.
TREADLE_LAB_DAMAGE (150), TREADLE_LAB_LIES (10), TREADLE_LAB_SEED.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from king.lab.ledger import Ledger
from king.lab.scenario import find_scenario
from king.lab.session import Session
from king.lab.trial import Lab

DAMAGE = int(os.environ.get("TREADLE_LAB_DAMAGE", "150"))
LIES = int(os.environ.get("TREADLE_LAB_LIES", "10"))
SEED = int(os.environ.get("TREADLE_LAB_SEED", "1"))


@pytest.fixture
def session(lab: Lab, tmp_path: Path) -> Iterator[Session]:
    ledger = Ledger()
    with Session(
        lab, find_scenario("save"), SEED, ledger, keep=tmp_path / "found"
    ) as made:
        yield made
        print(ledger.counts)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_damage_is_never_believed(session: Session) -> None:
    assert session.damage(DAMAGE) == DAMAGE
    assert not session.found, [f.faults for f in session.found]
    assert session.ledger.counts["damage:refused"] > DAMAGE / 20
    assert session.ledger.counts["damage:repaired"] > DAMAGE / 20


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_lying_serf_costs_nothing(session: Session) -> None:
    assert session.lie(LIES) > LIES / 2
    assert not session.found, [f.faults for f in session.found]
