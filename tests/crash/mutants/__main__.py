"""Seeded bugs: is each of them found, and how fast?

    scripts/mutants [NAME...] [--sample N] [--seed S] [--table] [--limit SECONDS]

Each patch in this folder says in its first line what it breaks, in its second
who is to find it: `find: lab WORDS` (a round of `treadle lab run`), `find:
simulate WORDS` (as scripts/simulate) or `find: pytest WORDS`. It is applied to
a copy of this tree, the C core built there if it touches that, and the finder
run. A mutant that lives is a hole in the tests: exit code 1.

--table prints rows for tests/README.md.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PATCHES = Path(__file__).resolve().parent
FINDERS = {
    "lab": ("king", "lab", "run", "--first", "--keep", "lab-found"),
    "pytest": ("pytest", "-q", "-x", "-p", "no:cacheprovider"),
    "simulate": ("tests.simulation", "--no-shrink"),
}
"""The module to run, and its first words."""
SIGNS = {
    "lab": re.compile(r"^FOUND | fails in peace: ", re.M),
    "pytest": re.compile(r"^FAILED ", re.M),
    "simulate": re.compile(r"^seed \d+ fails: ", re.M),
}
"""What each prints that found something; a crash of the finder is no find."""


@dataclass(frozen=True)
class Mutant:
    path: Path
    text: str
    """What it breaks."""
    finder: tuple[str, ...]
    is_native: bool

    @property
    def name(self) -> str:
        return self.path.stem


@dataclass(frozen=True)
class Hunt:
    found: bool
    seconds: float
    """Without the build."""
    words: str
    """The first that the finder said."""


def read(path: Path) -> Mutant:
    text, finder, rest = path.read_text().split("\n", 2)
    assert finder.startswith("find: "), f"{path}: the second line says who finds it"
    words = tuple(finder.removeprefix("find: ").split())
    assert words[0] in FINDERS, f"{path}: who is {words[0]}?"
    return Mutant(path, text, words, "+++ b/native/" in rest)


def copy_tree(to: Path) -> None:
    """This tree as it is now, with what was built from it."""
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy2(path, to)
    for room in ("king", "serf", "native", "proto", "tests", "scripts"):
        ignored = shutil.ignore_patterns("__pycache__", "states")
        shutil.copytree(ROOT / room, to / room, ignore=ignored)


def hunt(mutant: Mutant, limit_s: float) -> Hunt:
    finder, *words = mutant.finder
    with tempfile.TemporaryDirectory(prefix="treadle-mutant-") as folder:
        tree = Path(folder)
        copy_tree(tree)
        command = ["patch", "-p1", "--quiet", "-i", str(mutant.path)]
        subprocess.run(command, cwd=tree, check=True)
        if mutant.is_native:
            run(tree, "setup.py", "-q", "build_ext", "--inplace").check_returncode()
        began = time.monotonic()
        try:
            ran = run(tree, "-m", *FINDERS[finder], *words, limit_s=limit_s)
        except subprocess.TimeoutExpired:
            return Hunt(False, limit_s, "out of time")
        seconds = time.monotonic() - began
    found = SIGNS[finder].search(ran.stdout + ran.stderr) is not None
    assert ran.returncode == int(found), ran.stdout[-3000:] + ran.stderr[-3000:]
    said = [line for line in ran.stdout.splitlines() if line.strip()][:4]
    said += [line for line in ran.stderr.splitlines() if line.strip()][:2]
    return Hunt(found, seconds, "\n".join(said))


def run(
    tree: Path, *words: str, limit_s: float | None = None
) -> subprocess.CompletedProcess[str]:
    """Run this Python there, on what is there."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("TREADLE_")}
    return subprocess.run(
        [sys.executable, *words],
        cwd=tree,
        env={**kept, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=limit_s,
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/mutants", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--sample", type=int, metavar="N", help="only N, by the seed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--limit", type=float, default=600, metavar="SECONDS")
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    mutants = [read(path) for path in sorted(PATCHES.glob("*.patch"))]
    if args.names:
        unknown = set(args.names) - {mutant.name for mutant in mutants}
        if unknown:
            parser.error(f"no such mutant: {', '.join(sorted(unknown))}")
        mutants = [mutant for mutant in mutants if mutant.name in args.names]
    if args.sample is not None:
        mutants = random.Random(args.seed).sample(mutants, args.sample)
    alive = 0
    for mutant in mutants:
        done = hunt(mutant, args.limit)
        alive += not done.found
        if args.table:
            finder = " ".join(mutant.finder[:2])
            when = f"{done.seconds:.0f} s" if done.found else "**not found**"
            print(f"| `{mutant.name}` | {mutant.text} | `{finder}` | {when} |")
        else:
            word = "found" if done.found else "LIVES"
            print(f"{word} {mutant.name} {done.seconds:.1f} s")
            if not done.found:
                print(done.words)
        sys.stdout.flush()
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main())
