"""Seeded bugs: every patch still fits this tree, and a sample of them is found.

All of them: TREADLE_ALL_MUTANTS=1, or scripts/mutants. tests/README.md has the
table of times.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.crash.mutants.__main__ import ROOT, hunt, read

PATCHES = sorted((ROOT / "tests/crash/mutants").glob("*.patch"))
SAMPLE = {
    "log-no-sync",
    "lord-from-the-future",
    "pipeline-release-early",
    "spine-commit-error-ignored",
    "spine-successor-too-early",
}
CHOSEN = [
    path
    for path in PATCHES
    if path.stem in SAMPLE or os.environ.get("TREADLE_ALL_MUTANTS")
]
LIMIT_S = 600


def test_the_sample_is_there() -> None:
    assert {path.stem for path in PATCHES} >= SAMPLE
    assert len(PATCHES) >= 40


@pytest.mark.parametrize("path", PATCHES, ids=lambda path: path.stem)
def test_the_patch_fits(path: Path) -> None:
    words = ["patch", "-p1", "--dry-run", "--force", "--fuzz=2", "-i", str(path)]
    ran = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.slow
@pytest.mark.timeout(2 * LIMIT_S)
@pytest.mark.parametrize("path", CHOSEN, ids=lambda path: path.stem)
def test_a_seeded_bug_is_found(path: Path) -> None:
    done = hunt(read(path), LIMIT_S)
    assert done.found, done.words
