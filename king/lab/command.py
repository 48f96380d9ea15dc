"""`treadle lab`: list, run, report.

What it is: words to calls. Exit codes: 0; 1 where something was found; 2 and
    more as every command's.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from king import values
from king.errors import EXIT_FAULT, TreadleError
from king.lab.blocks import BlockRecord, is_block_record
from king.lab.ledger import Ledger
from king.lab.report import write_report
from king.lab.scenario import all_scenarios, find_scenario
from king.lab.session import FOUND_MAX, Session
from king.lab.trial import Lab
from king.pier import check_is_pier, who_locks

__all__ = ["add_commands", "run"]

_STATES, _PAIRS, _POINTS, _KILLS, _DAMAGE, _LIES = 400, 4, 40, 1, 40, 4
_CUTS, _BLOCKS = 10, 200
_ROUNDS = (
    ("states", _STATES, "states that power cuts leave, judged in one process"),
    ("pairs", _PAIRS, "of these states: start a whole ship on so many"),
    ("points", _POINTS, "kills and errors at calls of a whole ship"),
    (
        "kills",
        _KILLS,
        "kill the king so often, start it again, and cut the power then: a tenth of "
        "the states each",
    ),
    ("damage", _DAMAGE, "damage the files of so many copies"),
    ("lies", _LIES, "let the serf lie so often"),
    ("cuts", 0, "shut real filesystems down so often, as root, with loop devices"),
    (
        "blocks",
        0,
        "judge so many disks that a power cut leaves of ext4 and of XFS, as root, with "
        "FUSE and loop devices",
    ),
)
"""What a round has, how much of it, and in words."""


def add_commands(parser: argparse.ArgumentParser) -> None:
    """The words after `treadle lab`."""
    parts = parser.add_subparsers(dest="part", required=True, metavar="PART")

    def add(name: str, text: str) -> argparse.ArgumentParser:
        part: argparse.ArgumentParser = parts.add_parser(
            name, help=text, description=text
        )
        part.add_argument("--json", action="store_true", help="answer in JSON")
        return part

    add("list", "name the scenarios")
    _add_run(add("run", "interfere with scenarios, and see whether the ship recovers"))
    part = add(
        "soak", "go on and on, where the last soak stopped: each scenario's next seed"
    )
    part.add_argument("scenario", nargs="*", metavar="SCENARIO")
    part.add_argument("--minutes", type=float, required=True, metavar="N")
    part.add_argument("--ledger", type=Path, default=Path("lab.json"), metavar="FILE")
    part.add_argument("--keep", type=Path, default=Path("lab-found"), metavar="DIR")
    part.add_argument(
        "--report", type=Path, metavar="OUT.html", help="keep this page up to date"
    )
    part = add("report", "make a page of a ledger")
    part.add_argument("out", type=Path, metavar="OUT.html")
    part.add_argument("--ledger", type=Path, required=True, metavar="FILE")


def _add_run(part: argparse.ArgumentParser) -> None:
    part.add_argument(
        "scenario", nargs="*", metavar="SCENARIO", help="a name, or a .py file (all)"
    )
    part.add_argument("--seed", type=int, default=1, metavar="S")
    ship = part.add_mutually_exclusive_group()
    ship.add_argument(
        "--pill", type=Path, metavar="FILE", help="the ship's kernel (our own)"
    )
    ship.add_argument(
        "--pier", type=Path, metavar="DIR", help="work on copies of this ship, at rest"
    )
    for name, default, text in _ROUNDS:
        part.add_argument(
            f"--{name}",
            type=values.count,
            default=default,
            metavar="N",
            help=f"{text} (default {default})",
        )
    part.add_argument(
        "--first", action="store_true", help="stop at the first thing found"
    )
    part.add_argument(
        "--state", type=values.count, metavar="K", help="this state alone"
    )
    part.add_argument(
        "--pair", action="store_true", help="with --state: start a whole ship on it"
    )
    part.add_argument(
        "--point", type=values.count, metavar="K", help="this point alone"
    )
    part.add_argument(
        "--record", type=Path, metavar="DIR", help="take states of a kept record"
    )
    part.add_argument(
        "--ledger", type=Path, metavar="FILE", help="add the counts to this file"
    )
    part.add_argument(
        "--keep",
        type=Path,
        default=Path("lab-found"),
        metavar="DIR",
        help="where records of what was found go (default lab-found)",
    )


def run(args: argparse.Namespace) -> int:
    """What `treadle lab` was asked for; the exit code."""
    if args.part == "list":
        return _list(args)
    if args.part == "report":
        return _report(args)
    if args.part == "soak":
        return _soak(args)
    return _run(args)


def _list(args: argparse.Namespace) -> int:
    found = {scenario.name: scenario.text for scenario in all_scenarios()}
    if args.json:
        print(json.dumps(found))
        return 0
    for name, text in found.items():
        print(f"{name:<14} {text}")
    return 0


def _report(args: argparse.Namespace) -> int:
    ledger = Ledger.load(args.ledger)
    try:
        write_report(ledger, args.out)
    except OSError as error:
        why = f"cannot write {args.out}: {error.strerror}"
        raise TreadleError("failed", why) from error
    if args.json:
        print(json.dumps({"written": str(args.out)}))
    return 0


def _check_at_rest(pier: Path) -> None:
    holder = who_locks(check_is_pier(pier))
    if holder is not None:
        raise TreadleError(
            "pier-locked",
            f"{pier} is in use by {holder}, and cannot be copied",
            f"stop that ship first: treadle stop {pier}",
        )


def _run(args: argparse.Namespace) -> int:
    if args.pier is not None:
        _check_at_rest(args.pier)
    names = args.scenario or [scenario.name for scenario in all_scenarios()]
    scenarios = [find_scenario(name) for name in names]
    ledger = Ledger.load(args.ledger) if args.ledger else Ledger()
    began = time.monotonic()
    found = 0
    lines: list[dict[str, Any]] = []
    with Lab(pill=args.pill, pier=args.pier) as lab:
        for scenario in scenarios:
            if scenario.fresh and args.pier is not None:
                continue  # it boots a ship of its own
            with Session(
                lab,
                scenario,
                args.seed,
                ledger,
                keep=args.keep,
                tell=_mute if args.json else print,
                found_max=1 if args.first else FOUND_MAX,
            ) as session:
                line = _run_one(session, args)
            found += len(session.found)
            lines.append({"scenario": scenario.name, **line})
            if not args.json:
                print(f"{scenario.name}: {_sentence(line)}", flush=True)
            ledger.save()
            if found and args.first:
                break
    ledger.seconds += time.monotonic() - began
    ledger.save()
    if args.json:
        print(json.dumps({"rounds": lines, "found": found}))
    return EXIT_FAULT if found else 0


def _run_one(session: Session, args: argparse.Namespace) -> dict[str, int]:
    if args.record is not None and is_block_record(args.record):
        record = BlockRecord(args.record, args.seed)
        number = _checked_state(args.state, len(record.states))
        session.judge_block(record, number, pair=args.pair)
        return {"found": len(session.found)}
    if args.record is not None:
        session.use(args.record)
    if args.point is not None:
        session.strike_point(args.point)
    elif args.state is not None:
        trees = session.trees()
        number = _checked_state(args.state, len(trees))
        if args.pair:
            session.start_pair(number, trees[number])
        else:
            session.judge_state(number, trees[number])
    else:
        states = args.states
        rounds: dict[str, Callable[[], int]] = {
            "states": lambda: session.judge_states(states),
            "pairs": lambda: session.start_pairs(args.pairs),
            "states after a kill": lambda: session.judge_kills(
                args.kills, states // 10
            ),
            "points": lambda: session.strike_points(args.points),
            "damaged piers": lambda: session.damage(args.damage),
            "lies": lambda: session.lie(args.lies),
            "power cuts": lambda: session.cut_power(args.cuts),
            "block states": lambda: session.judge_blocks(args.blocks),
        }
        line: dict[str, int] = {}
        for name, play in rounds.items():
            if not (session.found and args.first):
                line[name] = play()
        return {**line, "found": len(session.found)}
    return {"found": len(session.found)}


def _checked_state(number: int | None, count: int) -> int:
    if number is None or not 0 <= number < count:
        raise TreadleError("usage", f"--state: states are 0 to {count - 1}")
    return number


def _soak(args: argparse.Namespace) -> int:
    names = args.scenario or [scenario.name for scenario in all_scenarios()]
    ledger = Ledger.load(args.ledger)
    end = time.monotonic() + args.minutes * 60
    found = 0
    with Lab() as lab:
        while time.monotonic() < end:
            # The one that had the fewest rounds.
            name = min(names, key=lambda name: ledger.seeds.get(name, 1))
            began = time.monotonic()
            found += _soak_round(lab, name, ledger, args.keep, end)
            ledger.seconds += time.monotonic() - began
            ledger.save()
            if args.report:
                write_report(ledger, args.report)
            totals = {kind: ledger.total(f"{kind}:") for kind in _KINDS}
            if not args.json:
                print(f"{name}: {_sentence(totals)}, {found} found", flush=True)
    if args.json:
        print(json.dumps({"counts": ledger.counts, "found": found}))
    return EXIT_FAULT if found else 0


_KINDS = ("states", "blocks", "pairs", "points", "damage", "lies", "cuts")


def _soak_round(lab: Lab, name: str, ledger: Ledger, keep: Path, end: float) -> int:
    """One scenario with its next seed; how much was found. The order changes:
    a round that the end of the time cuts short must not always leave the same
    undone."""
    seed = ledger.take_seed(name)
    with Session(lab, find_scenario(name), seed, ledger, keep=keep) as session:
        rounds: list[Callable[[], int]] = [
            lambda: session.judge_states(_STATES, deadline=end),
            lambda: session.start_pairs(_PAIRS, deadline=end),
            lambda: session.judge_kills(_KILLS, _STATES // 10, deadline=end),
            lambda: session.strike_points(_POINTS, deadline=end),
            lambda: session.damage(_DAMAGE, deadline=end),
            lambda: session.lie(_LIES, deadline=end),
            lambda: session.cut_power(_CUTS, deadline=end),
            lambda: session.judge_blocks(_BLOCKS, deadline=end),
        ]
        random.Random(seed).shuffle(rounds)
        for play in rounds:
            play()
        return len(session.found)


def _sentence(line: dict[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in line.items())


def _mute(_: str) -> None:
    pass
