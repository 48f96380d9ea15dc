"""The bench: every figure beside its floor, in one run on one machine.

    scripts/bench [--json] [--only NAME ...] [--quick] [--runs N] [--dir DIR]
    scripts/bench --inputs FOLDER

Without --only, measures all but the large states (tests/bench/large.py), which
take minutes and gigabytes. Prints a table, or with --json a list of objects:
name, value, unit, floor, floor_is, ratio (share of the floor's speed: higher is
better), better, low, high, floor_low, floor_high, runs, aim, met, vere, note,
seen. With --inputs, measures nothing, but writes the computations (jams of
[subject formula]) and the data (jams) that Nock, jam and cue are measured with,
for another Nock.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import time
from pathlib import Path

from tests.bench.figure import HEAD, Figure, shown
from tests.bench.machine import Machine, filesystem, scratch
from tests.bench.plan import Plan
from tests.bench.rooms import BY_HAND, NAMES, ROOMS, write_inputs

WIDTHS = (16, 11, 21, 9, 11, 7, 13, 7)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description="Measure everything beside its floor."
    )
    parser.add_argument("--json", action="store_true", help="answer in JSON")
    parser.add_argument("--quick", action="store_true", help="short runs, small states")
    parser.add_argument("--runs", type=int, help="how often (default 5; quick: 1)")
    parser.add_argument("--dir", type=Path, help="where to work (a disk, not tmpfs)")
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", choices=NAMES, help=", ".join(NAMES)
    )
    parser.add_argument(
        "--inputs", type=Path, metavar="FOLDER", help="write what is measured with"
    )
    args = parser.parse_args(argv)
    folder = Path(os.path.realpath(args.dir)) if args.dir else None
    work = scratch(folder)
    began = time.monotonic()
    try:
        if args.inputs:
            for path in write_inputs(Machine(work), args.inputs):
                print(path)
            return 0
        if not args.json:
            print(_about(work), flush=True)
            print(_row(HEAD), flush=True)
        plan = Plan(
            machine=Machine(work),
            wanted=frozenset(args.only or set(NAMES) - BY_HAND),
            runs=args.runs or (1 if args.quick else 5),
            quick=args.quick,
        )
        figures: list[Figure] = []
        for room, names in ROOMS.items():
            if not plan.wants(*names):
                continue
            for item in room(plan):
                figures.append(item)
                if not args.json:
                    print(_row(shown(item)), flush=True)
        if args.json:
            print(json.dumps([item.as_json() for item in figures], indent=1))
        else:
            print(_closing(figures, time.monotonic() - began))
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return 0


def _about(work: Path) -> str:
    load = os.getloadavg()[0]
    return (
        f"{platform.machine()}, {os.cpu_count()} processors, load {load:.1f}, "
        f"Linux {platform.release()}, Python {platform.python_version()}; "
        f"working on {filesystem(work)} in {work.parent}\n"
    )


def _row(cells: tuple[str, ...]) -> str:
    out = [cells[0].ljust(WIDTHS[0])]
    for cell, width in zip(cells[1:], WIDTHS[1:], strict=True):
        out.append(cell.rjust(width))
    return " ".join(out).rstrip()


def _closing(figures: list[Figure], seconds: float) -> str:
    lines = [
        "",
        "ratio: share of the floor's speed, higher is better. Floors:",
    ]
    floors: dict[str, list[str]] = {}
    for item in figures:
        floors.setdefault(item.floor_is, []).append(item.name)
    lines += [f"  {text}: {' '.join(names)}" for text, names in floors.items()]
    lines += ["Notes:"]
    for item in figures:
        vere = f" (Vere, elsewhere: {item.vere:,.4g})" if item.vere else ""
        lines.append(f"  {item.name}: {item.note}{vere}")
    lines.append(f"{seconds:.0f} s; load now {os.getloadavg()[0]:.1f}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
