"""A round of the lab: one scenario, one seed, so many states and points.

What it is: what `treadle lab run`, the soak and the tests have in common.
    Plays the scenario in peace; judges what power cuts would leave; starts
    whole pairs on some of that; strikes faults at whole pairs; writes all of
    it into a ledger.
Invariants: everything is chosen by the seed; what breaks the law is shrunk as
    far as that is quick, and told with the line that shows it again.
Limits: states of one record are numbered; a new record of the same scenario
    may differ by a call, so a finding's record is kept.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from king.lab.blocks import BlockRecord, why_no_blocks
from king.lab.blocks import judge as judge_block
from king.lab.blocks import record as record_blocks
from king.lab.blocks import start as start_on_block
from king.lab.cuts import FILESYSTEMS, cut_power, why_not
from king.lab.damage import Damager
from king.lab.enemy import KINDS, command
from king.lab.ledger import Finding, Ledger
from king.lab.scenario import Scenario
from king.lab.states import Choice, Tree, crash_states
from king.lab.trial import PIER, Blow, Lab, Peace, Siege, points
from king.lab.witness import KING, NO_FAULT, Do, Fault

__all__ = ["Session"]

GROUP = 8
"""Blows at one pier before it is left to recover in peace."""

HANDS = len(os.sched_getaffinity(0))
"""Piers that are struck at once."""

FOUND_MAX = 5
"""Of one scenario and seed; more are more of the same."""


class Session:
    """A context manager. Records of what was found go to the folder `keep`;
    `tell` hears of it, as lines for people."""

    def __init__(
        self,
        lab: Lab,
        scenario: Scenario,
        seed: int,
        ledger: Ledger,
        *,
        keep: Path,
        tell: Callable[[str], None] = print,
        found_max: int = FOUND_MAX,
    ) -> None:
        self.lab = lab
        self.scenario = scenario
        self.seed = seed
        self.ledger = ledger
        self.found: list[Finding] = []
        self._found_max = found_max
        self._keep = keep
        self._tell = tell
        self._record: Path | None = None
        self._peace: Peace | None = None
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.lab.judge.forget()
        self._stack.close()

    @property
    def peace(self) -> Peace:
        """The scenario as it goes undisturbed; played once.

        :raises TreadleError: failed: it does not go well in peace.
        """
        if self._peace is None:
            self._record = self._stack.enter_context(self.lab.room()) / "record"
            self._peace = self.lab.peace(self.scenario, self._record)
            self.ledger.add_live(self._peace.live_s)
        return self._peace

    def use(self, record: Path) -> None:
        """Take a kept record instead of playing."""
        self._peace = self.lab.remember(self.scenario, record)
        self._record = record

    # --- power cuts -----------------------------------------------------------

    def trees(self) -> list[Tree]:
        """What power cuts leave, numbered, in a fixed order."""
        return list(crash_states(self.peace.disk, self.seed))

    def judge_states(self, limit: int, *, deadline: float = 1e18) -> int:
        """Judge up to `limit` of them, spread over all; how many were judged."""
        trees = self.trees()
        numbers = list(range(len(trees)))
        if len(numbers) > limit:
            numbers = sorted(random.Random(self.seed).sample(numbers, limit))
        done = 0
        for number in numbers:
            if time.monotonic() > deadline or len(self.found) >= self._found_max:
                break
            self.judge_state(number, trees[number])
            done += 1
        return done

    def judge_state(self, number: int, tree: Tree) -> bool:
        """Whether the law holds in it."""
        faults = self._faults(tree)
        self.ledger.count(f"states:{tree.choice.kind}")
        if faults:
            tree = self._shrink(tree)
            what = f"state {number}: {tree}"
            again = f"--state {number} --record {self._keep_record()}"
            self._report(what, again, faults)
        return not faults

    def _faults(self, tree: Tree) -> list[str]:
        promise = self.peace.promise(tree.at)
        return self.lab.judge.judge_tree(tree, PIER, promise).faults

    def _shrink(self, tree: Tree) -> Tree:
        """The same fault with less lost: give back one call after the other."""
        smaller = True
        while smaller:
            smaller = False
            for choice in _lesser(tree.choice):
                other = Tree(self.peace.disk, tree.at, choice)
                if self._faults(other):
                    tree, smaller = other, True
                    break
        return tree

    def judge_kills(self, kills: int, states: int, *, deadline: float = 1e18) -> int:
        """Kill the king at so many calls, start it again, and cut the power
        then; how many states were judged. What it reads after the kill may
        never have reached the disk."""
        faults = [
            fault
            for fault in points(self.peace.counts, self.seed)
            if fault.do is Do.KILL_AFTER and fault.role == KING
        ]
        done = 0
        for fault in faults[:kills]:
            other = Session(
                self.lab,
                self.scenario,
                self.seed,
                self.ledger,
                keep=self._keep / f"kill-{fault.at}",
                tell=self._tell,
                found_max=self._found_max,
            )
            with other:
                other.peace_after(fault)
                done += other.judge_states(states, deadline=deadline)
            self.ledger.count("kills before a power cut")
            self.found += other.found
            if len(self.found) >= self._found_max or time.monotonic() > deadline:
                return done
        return done

    def peace_after(self, fault: Fault) -> None:
        """Record the scenario with this fault, and how the ship goes on."""
        self._record = self._stack.enter_context(self.lab.room()) / "record"
        self._peace = self.lab.peace(self.scenario, self._record, fault)

    def start_pairs(self, limit: int, *, deadline: float = 1e18) -> int:
        """Start whole pairs on some states; how many."""
        trees = self.trees()
        dice = random.Random(f"pairs/{self.seed}")
        numbers = sorted(dice.sample(range(len(trees)), min(limit, len(trees))))
        done = 0
        for number in numbers:
            if time.monotonic() > deadline or len(self.found) >= self._found_max:
                break
            self.start_pair(number, trees[number])
            done += 1
        return done

    def start_pair(self, number: int, tree: Tree) -> bool:
        """Whether a whole pair recovers from this state."""
        promise = self.peace.promise(tree.at)
        blow = Siege(self.lab, self.scenario).recover(tree, promise)
        self.ledger.count(f"pairs:{tree.choice.kind}")
        self._recovered(blow)
        if blow.faults:
            what = f"state {number}, a whole pair: {tree}"
            again = f"--state {number} --pair --record {self._keep_record()}"
            self._report(what, again, blow.faults)
        return not blow.faults

    # --- points -----------------------------------------------------------------

    def strike_points(self, limit: int, *, deadline: float = 1e18) -> int:
        """Strike so many faults at whole pairs; how many were struck."""
        faults = points(self.peace.counts, self.seed)[:limit]
        self.lab.begin(self.scenario)  # made once, and then copied by all

        def strike(start: int) -> list[Blow]:
            if time.monotonic() > deadline or len(self.found) >= self._found_max:
                return []
            return Siege(self.lab, self.scenario).run(faults[start : start + GROUP])

        starts = range(0, len(faults), GROUP)
        with ThreadPoolExecutor(HANDS) as hands:
            results = zip(starts, hands.map(strike, starts), strict=True)
            return sum(self._account(start, blows) for start, blows in results)

    def strike_point(self, number: int) -> bool:
        """This one alone, at a fresh pier; whether the law holds."""
        fault = points(self.peace.counts, self.seed)[number]
        self._account(number, Siege(self.lab, self.scenario).run([fault]))
        return not self.found

    def _account(self, start: int, blows: list[Blow]) -> int:
        """Of blows numbered from `start`: how many struck."""
        for number, blow in enumerate(blows, start):
            kind = blow.fault.do.name.lower()
            if blow.fault.do is Do.ERRNO:
                kind = str(blow.fault).split(" ", 1)[0]
            self.ledger.count(f"points:{kind}" if blow.struck else "missed")
            self._recovered(blow)
            if blow.faults:
                self._report_blow(number, blows[: number - start + 1])
        return sum(blow.struck for blow in blows)

    def _report_blow(self, number: int, blows: list[Blow]) -> None:
        """Does the last blow do it alone? Else the whole group is needed."""
        blow = blows[-1]
        what = f"point {number}: {blow.fault}"
        again = f"--point {number}"
        if len(blows) > 1:
            alone = Siege(self.lab, self.scenario).run([blow.fault])
            if not alone[-1].faults:
                before = "; ".join(str(b.fault) for b in blows[:-1])
                what += f", after {before}"
                again = f"--points {number + 1}"
        self._report(what, again, blow.faults)

    def _recovered(self, blow: Blow) -> None:
        self.ledger.add_live(blow.live_s)
        self.ledger.count("starts", len(blow.live_s))
        if blow.verdict.replayed:
            self.ledger.count("recoveries:replayed events")
        elif blow.verdict.events:
            self.ledger.count("recoveries:nothing to replay")
        if blow.verdict.fell_back:
            self.ledger.count("recoveries:fell back to an older snapshot")

    # --- hostile piers and serfs --------------------------------------------------

    def damage(self, count: int, *, deadline: float = 1e18) -> int:
        """Damage so many copies of the pier that the scenario leaves."""
        pier = self._stack.enter_context(self.lab.room()) / "whole"
        trees = crash_states(self.peace.disk, self.seed, start=self._last_cut())
        next(trees).write(pier)
        damager = Damager(self.lab, pier / PIER)
        done = 0
        for number in range(count):
            if time.monotonic() > deadline or len(self.found) >= self._found_max:
                break
            seed = self.seed * 1_000_000 + number
            damage = damager.strike(seed)
            done += 1
            self.ledger.count(f"damage:{damage.outcome}")
            if damage.fault:
                again = f"--damage {number + 1}"
                self._report(f"damage {damage.what}", again, [damage.fault])
        return done

    def _last_cut(self) -> int:
        return max(self.peace.disk.cuts) - 1

    def lie(self, count: int, *, deadline: float = 1e18) -> int:
        """Let the serf lie so many times; how often it came to that."""
        dice = random.Random(f"lies/{self.seed}")
        done = 0
        for number in range(count):
            kind, at = dice.choice(list(KINDS)), dice.randrange(2, 24)
            if time.monotonic() > deadline or len(self.found) >= self._found_max:
                break
            with self.lab.room() as folder:
                mark = folder / "lied"
                serf = command(kind, at, mark)
                blows = Siege(self.lab, self.scenario, serf=serf).run([NO_FAULT])
                lied = mark.exists()
            self._recovered(blows[-1])
            self.ledger.count(f"lies:{kind}" if lied else "missed")
            done += lied
            if blows[-1].faults:
                what = f"lie {number}: {kind} at frame {at}"
                self._report(what, f"--lies {number + 1}", blows[-1].faults)
        return done

    def cut_power(self, count: int, *, deadline: float = 1e18) -> int:
        """Shut real filesystems down so often, each, where this machine allows it."""
        total = 0
        for kind in FILESYSTEMS:
            missing = why_not(kind)
            if count and missing:
                self._tell(f"no power cuts of {kind} here: {missing}")
            if not count or missing or time.monotonic() > deadline:
                continue
            done, faults = cut_power(
                self.lab, kind, self.seed, count, deadline=deadline
            )
            total += done
            self.ledger.count(f"cuts:{kind}", done)
            if faults:
                self._report(f"power cut {done} of {kind}", f"--cuts {done}", faults)
        return total

    # --- block enumeration --------------------------------------------------------

    def judge_blocks(
        self, limit: int, *, pairs: int = 1, deadline: float = 1e18
    ) -> int:
        """Of each filesystem that this machine has: judge so many disks that a
        power cut leaves of it, spread over all, and start whole pairs on some;
        how many were judged."""
        done = 0
        for kind in FILESYSTEMS:
            if not limit or time.monotonic() > deadline:
                break
            if missing := why_no_blocks(kind):
                self._tell(f"no block states of {kind} here: {missing}")
                continue
            with self.lab.room() as folder:
                kept = folder / "record"
                record_blocks(self.lab, self.scenario, kind, kept)
                record = BlockRecord(kept, self.seed)
                done += self.judge_blocks_of(
                    record, limit, pairs=pairs, deadline=deadline
                )
        return done

    def judge_blocks_of(
        self, record: BlockRecord, limit: int, *, pairs: int = 1, deadline: float = 1e18
    ) -> int:
        """Of one record, up to `limit` of its states."""
        dice = random.Random(f"blocks/{self.seed}")
        numbers = range(len(record.states))
        chosen = sorted(dice.sample(numbers, min(limit, len(numbers))))
        started = frozenset(dice.sample(chosen, min(pairs, len(chosen))))
        done = 0
        for number in chosen:
            if time.monotonic() > deadline or len(self.found) >= self._found_max:
                break
            self.judge_block(record, number, pair=number in started)
            done += 1
        return done

    def judge_block(
        self, record: BlockRecord, number: int, *, pair: bool = False
    ) -> bool:
        """Whether the law holds on this disk."""
        state = record.states[number]
        if pair:
            blow = start_on_block(self.lab, self.scenario, record, state)
            self.ledger.count(f"pairs:block of {record.kind}")
            self._recovered(blow)
            faults = blow.faults
        else:
            kind, faults = judge_block(self.lab, record, state)
            self.ledger.count(f"blocks:{record.kind}, {kind}")
        if faults:
            what = f"block state {number} of {record.kind}: {state}"
            keep = self._keep / f"{self.scenario.name}-{self.seed}-{record.kind}"
            folder = _kept(record.folder, keep, self.lab)
            again = f"--state {number} --record {folder}"
            self._report(what, again + " --pair" * pair, faults)
        return not faults

    # --- findings -----------------------------------------------------------------

    def _report(self, what: str, again: str, faults: list[str]) -> None:
        line = f"treadle lab run {self.scenario.name} --seed {self.seed} {again}"
        finding = Finding(self.scenario.name, what, line, tuple(faults))
        self.found.append(finding)
        self.ledger.findings.append(finding)
        self._tell(f"FOUND {what}")
        for fault in faults:
            self._tell(f"  {fault}")
        self._tell(f"  again: {line}")

    def _keep_record(self) -> Path:
        """Where the record of this session outlives it."""
        assert self._record is not None
        keep = self._keep / f"{self.scenario.name}-{self.seed}"
        return _kept(self._record, keep, self.lab)


def _kept(record: Path, keep: Path, lab: Lab) -> Path:
    """Where a record outlives the lab."""
    if not record.is_relative_to(lab.folder):
        return record  # it was given to us
    if not keep.exists():
        shutil.copytree(record, keep)
    return keep


def _lesser(choice: Choice) -> Iterator[Choice]:
    """Choices that lose one thing less."""
    if choice.torn >= 0:
        yield replace(choice, torn=-1)
    for index in sorted(choice.dropped):
        yield replace(choice, dropped=choice.dropped - {index})
    for at, (number, count) in enumerate(choice.lost_names):
        fewer = ((number, count - 1),) if count > 1 else ()
        rest = choice.lost_names[:at] + choice.lost_names[at + 1 :]
        yield replace(choice, lost_names=rest + fewer)
