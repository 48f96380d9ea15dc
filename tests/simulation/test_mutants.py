"""Who watches the simulation: seeded bugs of pipeline and spine are found.

Each patch in tests/crash/mutants says in its first line what it breaks. It is
applied to a scratch copy, where the simulation must fail. A sample by
default; TREADLE_ALL_MUTANTS=1 takes all.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MUTANTS = ROOT / "tests" / "crash" / "mutants"
OURS = sorted([*MUTANTS.glob("pipeline-*.patch"), *MUTANTS.glob("spine-*.patch")])
SAMPLE = {"pipeline-release-early", "spine-commit-error-ignored", "spine-save-unwoken"}
CHOSEN = [
    path
    for path in OURS
    if os.environ.get("TREADLE_ALL_MUTANTS") or path.stem in SAMPLE
]
SEEDS = 400


def test_the_sample_is_there() -> None:
    assert {path.stem for path in OURS} >= SAMPLE
    assert len(OURS) >= 20


@pytest.mark.slow
@pytest.mark.parametrize("patch", CHOSEN, ids=lambda path: path.stem)
def test_a_seeded_bug_is_found(patch: Path, tmp_path: Path) -> None:
    for room in ("king", "proto", "tests/simulation"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / room, tmp_path / room, ignore=ignored)
    (tmp_path / "scripts").mkdir()
    script = shutil.copy(ROOT / "scripts" / "simulate", tmp_path / "scripts")
    subprocess.run(["git", "apply", patch], cwd=tmp_path, check=True)
    done = subprocess.run(
        [sys.executable, script, "--seeds", str(SEEDS), "--no-shrink"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    words = patch.read_text().splitlines()[0]
    assert done.returncode == 1, f"not found: {words}\n{done.stdout}{done.stderr}"
    assert " fails: " in done.stdout, done.stderr
