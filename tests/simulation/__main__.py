"""Run the king's core on a simulated clock, disk, pipe and serf: many fates.

    scripts/simulate --seeds N [--from S]   N plans from their seeds
    scripts/simulate --minutes M [--from S] as many as fit
    scripts/simulate --minutes M --ledger FILE  go on where the last one stopped
    scripts/simulate --seed S               one, with what happened
    scripts/simulate --plan JSON            one that a failure printed

A failure is shrunk to the fewest events and misfortunes that still fail, and
printed as one line to run again; exit code 1.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections import Counter
from pathlib import Path

from king.lab.ledger import Finding, Ledger
from tests.simulation.plan import from_json, make_plan, shrink, to_json
from tests.simulation.ship import Report, simulate

_NAME = "simulation"  # in a ledger


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/simulate", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--seeds", type=int, help="how many")
    parser.add_argument("--from", dest="start", type=int, default=0, help="first seed")
    parser.add_argument("--minutes", type=float, help="how long, instead of how many")
    parser.add_argument(
        "--ledger",
        type=Path,
        help="the lab's: take the next seeds by it, and add the counts to it",
    )
    parser.add_argument("--seed", type=int, help="this one")
    parser.add_argument("--plan", help="this one, as JSON")
    parser.add_argument("--json", action="store_true", help="figures as one JSON line")
    parser.add_argument("--no-shrink", action="store_true")
    options = parser.parse_args()
    if options.plan is not None or options.seed is not None:
        plan = from_json(options.plan) if options.plan else make_plan(options.seed)
        report = simulate(plan)
        print(_words(report))
        return 1 if report.violations else 0
    return _many(options)


def _many(options: argparse.Namespace) -> int:
    total: Counter[str] = Counter()
    happened: Counter[str] = Counter()
    began = time.monotonic()
    end = began + 60 * options.minutes if options.minutes else None
    code = 0
    ledger = Ledger.load(options.ledger) if options.ledger else Ledger()
    if options.ledger:
        options.start = ledger.seeds.get(_NAME, 0)
    for seed in itertools.count(options.start):
        enough = seed - options.start >= (options.seeds or 1)
        if time.monotonic() > end if end else enough:
            break
        plan = make_plan(seed)
        report = simulate(plan)
        total["seeds"] += 1
        total["events"] += report.events
        total["kings"] += report.reigns
        total["serfs"] += report.serfs
        total["acknowledged"] += report.acknowledged
        total["effects"] += report.effects
        total["steps"] += report.steps
        total["simulated_s"] += round(report.simulated_s)
        happened += report.happened
        if report.violations:
            code = 1
            if not options.no_shrink:
                plan = shrink(plan, lambda smaller: bool(simulate(smaller).violations))
                report = simulate(plan)
            again = f"scripts/simulate --seed {seed}"
            faults = tuple(report.violations)
            ledger.findings.append(Finding(_NAME, f"seed {seed}", again, faults))
            print(f"seed {seed} fails: {report.violations[0]}")
            print(f"  again: {again}")
            print(f"  smallest: scripts/simulate --plan '{to_json(plan)}'")
            break
    seconds = time.monotonic() - began
    ledger.seeds[_NAME] = options.start + total["seeds"]
    for what in ("seeds", "kings", "serfs"):
        ledger.count(f"{_NAME}:{what}", total[what])
    ledger.seconds += seconds
    ledger.save()
    figures = {**total, "seconds": round(seconds, 1), "happened": dict(happened)}
    figures["failed"] = code
    if options.json:
        print(json.dumps(figures))
    else:
        print(", ".join(f"{count:,} {what}" for what, count in total.items()))
        print(
            ", ".join(f"{what} {count:,}" for what, count in sorted(happened.items()))
        )
        rate = 60 * total["seeds"] / max(seconds, 1e-9)
        print(f"{seconds:.1f} s, {rate:,.0f} seeds a minute")
    return code


def _words(report: Report) -> str:
    lines = [f"{name}: {getattr(report, name)}" for name in report.__slots__]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
