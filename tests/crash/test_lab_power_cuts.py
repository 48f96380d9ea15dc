"""Real power cuts of a loop-mounted filesystem, under load.

TREADLE_LAB_CUTS: how many of each kind (4). TREADLE_LAB_SEED.
"""

from __future__ import annotations

import os

import pytest

from king.lab.cuts import FILESYSTEMS, cut_power, why_not
from king.lab.trial import Lab

CUTS = int(os.environ.get("TREADLE_LAB_CUTS", "4"))
SEED = int(os.environ.get("TREADLE_LAB_SEED", "1"))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", FILESYSTEMS)
def test_power_cuts_lose_nothing_acknowledged(kind: str) -> None:
    missing = why_not(kind)
    if missing:
        pytest.skip(f"a power cut of {kind}: {missing}")
    with Lab() as lab:
        done, faults = cut_power(lab, kind, SEED, CUTS)
    assert not faults, (kind, done, faults)
    assert done == CUTS
