"""The protocol's model, small configuration, with every mutant (TLC)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_model_holds_and_every_mutant_falls() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "proto.model.check", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if done.returncode == 3:
        pytest.skip(done.stderr.strip())
    verdicts = json.loads(done.stdout)
    assert [v["name"] for v in verdicts if not v["ok"]] == []
    protocol = next(v for v in verdicts if v["name"] == "protocol")
    assert protocol["states"] > 1000
    assert sum(1 for v in verdicts if v["violated"]) >= 20
