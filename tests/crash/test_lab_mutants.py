"""Seeded bugs: every patch still fits this tree, and a sample of them is found.

All of them: scripts/mutants. The table of times is in tests/README.md.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PATCHES = sorted((ROOT / "tests/crash/mutants").glob("*.patch"))
SAMPLE = ("log-no-sync", "lord-from-the-future")


@pytest.mark.parametrize("path", PATCHES, ids=lambda path: path.stem)
def test_the_patch_fits(path: Path) -> None:
    words = ["patch", "-p1", "--dry-run", "--force", "--fuzz=2", "-i", str(path)]
    ran = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", SAMPLE)
def test_a_seeded_bug_is_found(name: str) -> None:
    words = [sys.executable, str(ROOT / "scripts/mutants"), name]
    ran = subprocess.run(words, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.startswith(f"found {name}")
