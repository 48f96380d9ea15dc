"""One fault in one scenario on a whole pair, and the recovery from it.

What it is: the part of the lab that starts ships. `Lab` holds what all trials
    share; `peace` plays a scenario undisturbed and records it; `Siege` strikes
    fault after fault at one pier, whose every start recovers from the blow
    before, and ends with a calm start, a check, and a start that has nothing
    to recover.
Owns: a scratch folder, the stable, the judge.
Invariants: after each blow the pier is judged, on a copy, before any start
    touches it; a fault that was not struck is not counted.
Limits: a fault is found again by its number as far as two runs of a pair make
    the same calls; timing may shift it by a call or two.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path

from king.errors import TreadleError
from king.lab.judge import AWAY, TAKEN, Judge, Promise, Verdict, copy_pier
from king.lab.pair import Hand, Hang, Over, Stable, Told
from king.lab.protocol import judge as judge_notes
from king.lab.recorder import read_recording
from king.lab.scenario import Scenario
from king.lab.states import Disk, Tree
from king.lab.witness import KING, NO_FAULT, SERF, Call, Do, Fault, Kind, Notes, Trace

__all__ = [
    "PIER",
    "Blow",
    "Lab",
    "Peace",
    "Siege",
    "points",
    "promise_of",
    "scratch_folder",
]

PIER = "pier"
"""Its name in the folder that is watched."""

BOTH, OTHER = 0, 1
"""Whom HALT kills: everyone, or the one that did not call."""

LASTING_S = 1.0
"""How long an error lasts that does, from its first strike on."""

_KILLS = (
    (Do.KILL_BEFORE, 0),
    (Do.KILL_AFTER, 0),
    (Do.KILL_TORN, 512),
    (Do.HALT, BOTH),
    (Do.HALT, OTHER),
)
_ERRORS = (
    (Do.ERRNO, errno.EIO, False),
    (Do.ERRNO, errno.EINTR, False),
    (Do.ERRNO, errno.ENOSPC, True),
    (Do.ERRNO, errno.EROFS, True),
    (Do.SHORT, 0, False),
    (Do.SLOW, 20_000, False),
)


def scratch_folder() -> Path:
    """Where piers are made: memory, if there is some to write to. The lab
    plays the disk itself."""
    memory = Path("/dev/shm")
    return memory if os.access(memory, os.W_OK) else Path(tempfile.gettempdir())


def points(calls: tuple[int, int], seed: int) -> list[Fault]:
    """Every fault that can befall a scenario of so many calls (king's, serf's),
    in an order that depends on the seed alone."""
    found: list[Fault] = []
    for role in (KING, SERF):
        for at in range(1, calls[role] + 1):
            found += [Fault(do, role, at, argument) for do, argument in _KILLS]
            found += [Fault(do, role, at, arg, every) for do, arg, every in _ERRORS]
    random.Random(seed).shuffle(found)
    return found


@dataclass(slots=True)
class Peace:
    """A scenario played undisturbed, and its record."""

    scenario: Scenario
    disk: Disk
    calls: list[Call]
    counts: tuple[int, int]
    told: Told
    begun: Told
    live_s: list[float]

    def promise(self, at: int) -> Promise:
        """What holds if the power fails before call `at`, by what was told."""
        notes = [c.path for c in self.calls[:at] if c.kind is Kind.NOTE]
        return promise_of(notes, self.told.offered, self.begun)


def promise_of(notes: Sequence[str], offered: Iterable[str], begun: Told) -> Promise:
    """What holds by the notes that a hand had taken; `begun`: what held before."""
    return Promise(
        acknowledged=frozenset(n[4:] for n in notes if n.startswith("ack "))
        | begun.acknowledged,
        offered=frozenset(offered),
        must_exist=begun.booted or "booted" in notes,
        snapshot_event=max(
            (int(n[6:]) for n in notes if n.startswith("saved ")),
            default=begun.snapshot_event,
        ),
        pins=_pinned(notes),
        taken="taken" in notes,
        adopted=True if "adopted" in notes else begun.adopted,
    )


def _pinned(notes: Sequence[str]) -> tuple[tuple[str, int], ...]:
    """What was pinned, and nobody has begun to let go."""
    pins: dict[str, int] = {}
    for note in notes:
        match note.split(" "):
            case ["pinned", name, event]:
                pins[name] = int(event)
            case ["unpinning", name]:
                pins.pop(name, None)
    return tuple(pins.items())


@dataclass(slots=True)
class Blow:
    """A fault that was struck, and what came of it."""

    fault: Fault
    struck: bool = False
    faults: list[str] = field(default_factory=list)
    exits: list[int] = field(default_factory=list)
    live_s: list[float] = field(default_factory=list)
    verdict: Verdict = field(default_factory=Verdict)
    over: str = ""
    words: str = ""


class Lab:
    """What all trials share. A context manager."""

    def __init__(
        self,
        *,
        pill: Path | None = None,
        pier: Path | None = None,
        scratch: Path | None = None,
    ) -> None:
        """Ships are booted from `pill`, or copies of `pier`, which is at rest."""
        where = scratch or scratch_folder()
        self.folder = Path(tempfile.mkdtemp(prefix="treadle-lab-", dir=where)).resolve()
        self.pill = pill
        self._stack = contextlib.ExitStack()
        self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        try:
            self.stable = self._stack.enter_context(Stable())
            (self.folder / "judge").mkdir()
            self.judge = self._stack.enter_context(Judge(self.folder / "judge"))
            self._base = self.folder / "begin" / PIER
            self._base.parent.mkdir()
            self._begun: dict[str, tuple[Path, Told]] = {}
            if pier is not None:
                shutil.copytree(pier, self._base, ignore=_sockets)
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def base(self) -> Path:
        """A pier at rest that nobody touches.

        :raises TreadleError: failed: the pill does not boot.
        """
        if not self._base.exists():
            with self.room() as folder:
                hand = Hand(self.stable, self._base, folder, pill=self.pill)
                try:
                    hand.boot()
                except Over as error:
                    why = f"the ship does not boot: {error}"
                    raise TreadleError("failed", why) from error
        return self._base

    @contextlib.contextmanager
    def room(self) -> Iterator[Path]:
        """A folder for one piece of work."""
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def begin(self, scenario: Scenario) -> tuple[Path | None, Told]:
        """The folder that `scenario` begins with, if with any, which nobody touches;
        what was told until then. Made once: not in many threads.

        :raises TreadleError: failed: it cannot be made.
        """
        if scenario.fresh:
            return None, Told()
        pier = self.base()
        if scenario.ready is None:
            return pier.parent, Told(snapshot_event=1, booted=True)
        if scenario.name not in self._begun:
            root = self.folder / f"begin-{scenario.name}"
            shutil.copytree(pier.parent, root, ignore=_sockets)
            told = Told(snapshot_event=1, booted=True)
            with self.room() as folder:
                hand = Hand(self.stable, root / PIER, folder, told=told)
                try:
                    scenario.ready(hand)
                except (Over, Hang) as error:
                    why = f"{scenario.name} cannot be made ready: {error}"
                    raise TreadleError("failed", f"{why}: {hand.words[-900:]}") from (
                        error
                    )
                finally:
                    hand.close()
            self._begun[scenario.name] = root, told
        return self._begun[scenario.name]

    def prepare(self, scenario: Scenario, root: Path) -> Told:
        """Fill the folder that is watched with what `scenario` begins with; what
        was told until then."""
        before, told = self.begin(scenario)
        root.mkdir(exist_ok=True)
        if before is not None:
            shutil.copytree(before, root, ignore=_sockets, dirs_exist_ok=True)
        return deepcopy(told)

    def peace(
        self,
        scenario: Scenario,
        keep: Path | None = None,
        fault: Fault = NO_FAULT,
    ) -> Peace:
        """Play it undisturbed, and record it; `keep` the record in a folder.
        With a `fault`: disturbed, and then on with a ship started anew, so
        that a power cut can befall what was built on the ruins.

        :raises TreadleError: failed: it does not even go well in peace.
        """
        with self.room() as folder:
            root = folder / "root"
            begun = self.prepare(scenario, root)
            pier = root / PIER
            disk = Disk(root)
            if keep is not None:
                shutil.copytree(root, keep / "before")
            with Trace(folder / "trace", root) as trace:
                trace.plan(fault)
                hand = Hand(
                    self.stable,
                    pier,
                    folder,
                    pill=self.pill,
                    trace=trace,
                    notes=Notes(trace),
                    told=deepcopy(begun),
                )
                try:
                    if fault is not NO_FAULT:
                        with contextlib.suppress(Over):
                            scenario.play(hand)
                        hand.close()
                        scenario = replace(scenario, play=_on)
                    scenario.play(hand)
                except (Over, Hang) as error:
                    why = (
                        f"{scenario.name} fails in peace: {error}: {hand.words[-900:]}"
                    )
                    raise TreadleError("failed", why) from error
                finally:
                    hand.close()
                if keep is not None:
                    _keep(trace, hand.told, keep)
                return _followed(scenario, disk, trace, hand.told, begun, hand.live_s)

    def remember(self, scenario: Scenario, kept: Path) -> Peace:
        """A record that `peace` kept.

        :raises TreadleError: failed: it is none.
        """
        try:
            value = json.loads((kept / "told.json").read_bytes())
            told = Told(set(value["offered"]), set(value["acknowledged"]))
            disk = Disk(kept / "before")
            disk.root = Path(value["root"])
            with Trace.opened(kept / "trace", disk.root) as trace:
                begun = self.begin(scenario)[1]
                return _followed(scenario, disk, trace, told, begun, [])
        except (OSError, ValueError, KeyError) as error:
            raise TreadleError("failed", f"{kept} is no record: {error}") from error


def _on(hand: Hand) -> None:
    """How a ship goes on after a blow."""
    if not hand.pier.exists():
        hand.boot()
    if hand.told.adopted is False:
        hand.adopt()
    hand.start()
    hand.poke(2)
    hand.stop()


def _keep(trace: Trace, told: Told, keep: Path) -> None:
    trace.copy(keep / "trace")
    value = {
        "root": str(trace.root),
        "offered": sorted(told.offered),
        "acknowledged": sorted(told.acknowledged),
    }
    (keep / "told.json").write_text(json.dumps(value))


def _followed(
    scenario: Scenario,
    disk: Disk,
    trace: Trace,
    told: Told,
    begun: Told,
    live_s: list[float],
) -> Peace:
    calls = list(trace.read())
    disk.follow(calls)
    return Peace(scenario, disk, calls, trace.calls, told, begun, live_s)


def _sockets(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if name.endswith(".sock")]


# --- the siege ------------------------------------------------------------------


class Siege:
    """Blow after blow at one pier."""

    def __init__(
        self, lab: Lab, scenario: Scenario, *, serf: Sequence[str] = ()
    ) -> None:
        self.lab = lab
        self.scenario = scenario
        self.blows: list[Blow] = []
        self._serf = tuple(serf)
        self._told = Told()
        self._rows: tuple[bytes, ...] = ()
        self._life = 0  # of its pier, if each blow has a fresh one

    def run(self, faults: Sequence[Fault]) -> list[Blow]:
        """Strike them in turn, then recover in peace. Stops at the first fault
        that breaks the law."""
        with self.lab.room() as folder:
            root = folder / "root"
            self._told = self.lab.prepare(self.scenario, root)
            pier = root / PIER
            with Trace(folder / "trace", root, with_data=False) as trace:
                for fault in faults:
                    blow = self._strike(fault, pier, folder, trace)
                    self.blows.append(blow)
                    if blow.faults:
                        return self.blows
                if self.blows:
                    self._recover(pier, folder, self.blows[-1])
        return self.blows

    def _strike(self, fault: Fault, pier: Path, folder: Path, trace: Trace) -> Blow:
        blow = Blow(fault)
        if self.scenario.begins_anew and self.blows:
            for path in pier.parent.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            self._told, self._rows = self.lab.prepare(self.scenario, pier.parent), ()
            self._life += 1
        hand = Hand(
            self.lab.stable,
            pier,
            folder,
            pill=self.lab.pill,
            trace=trace,
            serf=self._serf,
            told=self._told,
            record=self._record(folder),
        )
        trace.plan(fault)
        with _attended(hand, trace, fault):
            try:
                self.scenario.play(hand)
            except Over as error:
                blow.over = str(error)
            except Hang as error:
                blow.faults.append(f"it hangs: {error}")
            with contextlib.suppress(Hang):
                hand.close()
        blow.struck = trace.hits > 0
        blow.exits, blow.live_s, blow.words = hand.exits, hand.live_s, hand.words
        self._check_manners(blow)
        self._check_record(blow, folder)
        if not blow.faults:
            blow.verdict = self._judge(pier, folder)
            blow.faults += blow.verdict.faults
            self._rows = blow.verdict.rows
        return blow

    def _check_manners(self, blow: Blow) -> None:
        """Whatever happens: no traceback, no crash, no fault without a name."""
        if "Traceback" in blow.words:
            blow.faults.append(f"a traceback: {blow.words[-1500:]}")
        for code in blow.exits:
            if code < 0 and code != -signal.SIGKILL:
                blow.faults.append(f"the king died of {signal.Signals(-code).name}")
            if code > 0 and "treadle: " not in blow.words:
                blow.faults.append(f"the king ended with {code} and no word")

    def _record(self, folder: Path) -> Path | None:
        """Where king and serf note what they do; not one that lies to the other."""
        return None if self._serf else folder / f"notes{self._life}"

    def _check_record(self, blow: Blow, folder: Path) -> None:
        """What was noted is a run of the model."""
        record = self._record(folder)
        if record is not None:
            why = judge_notes(read_recording(record))
            if why is not None:
                blow.faults.append(f"no run of proto/model: {why}")

    def _judge(self, pier: Path, folder: Path) -> Verdict:
        """Of a copy: a judge starts what it judges."""
        copy = copy_pier(pier, folder, "copy")
        told = self._told
        promise = Promise(
            acknowledged=frozenset(told.acknowledged),
            offered=frozenset(told.offered),
            rows=self._rows,
            must_exist=told.booted,
            snapshot_event=told.snapshot_event,
            pins=tuple(told.pins.items()),
            taken=told.taken,
            adopted=told.adopted,
        )
        try:
            return self.lab.judge.judge(copy, promise)
        finally:
            shutil.rmtree(copy, ignore_errors=True)
            for beside in (AWAY, TAKEN):
                shutil.rmtree(folder / beside, ignore_errors=True)

    def recover(self, tree: Tree, promise: Promise) -> Blow:
        """Start a whole pair on what a power cut left."""
        with self.lab.room() as folder:
            root = folder / "root"
            tree.write(root)
            return self.recover_at(root / PIER, folder, promise)

    def recover_at(self, pier: Path, folder: Path, promise: Promise) -> Blow:
        """Start a whole pair on a pier that something happened to."""
        blow = Blow(NO_FAULT, struck=True)
        self._told = Told(set(promise.offered), set(promise.acknowledged))
        self._told.booted = promise.must_exist
        self._told.snapshot_event = promise.snapshot_event
        self._told.pins = dict(promise.pins)
        self._told.taken = promise.taken
        self._told.adopted = promise.adopted
        self._recover(pier, folder, blow)
        return blow

    def _recover(self, pier: Path, folder: Path, blow: Blow) -> None:
        """A calm start; `treadle check`; a start that recovers nothing."""
        hand = Hand(
            self.lab.stable,
            pier,
            folder,
            pill=self.lab.pill,
            told=self._told,
            record=self._record(folder),
        )
        try:
            if not pier.exists():
                hand.boot()
            if hand.told.adopted is False:
                hand.adopt()
            hand.start()
            hand.poke()
            hand.stop()
            hand.check()
            hand.start()
            hand.stop()
        except (Over, Hang) as error:
            blow.faults.append(f"it does not recover: {error}: {hand.words[-1500:]}")
        finally:
            hand.close()
        self._check_record(blow, folder)
        if blow.faults:
            return
        blow.live_s += hand.live_s
        calm = hand.recoveries[-1]
        if not (
            calm["clean"]
            and calm["replayed"]["events"] == 0
            and calm["snapshot"]["fell_back"] == 0
            and calm["effects_unsure"] is None
        ):
            blow.faults.append(f"the second start is not calm: {calm}")
        verdict = self._judge(pier, folder)
        blow.faults += verdict.faults


@contextlib.contextmanager
def _attended(hand: Hand, trace: Trace, fault: Fault) -> Iterator[None]:
    """Meanwhile, while one process stands still at its call, kill whom the fault
    names; and a while after a lasting error struck, end it: the disk has room
    again, and the ship must go on by itself, or must have gone."""
    attend = _lift if fault.every else _execute
    if fault.do is not Do.HALT and not fault.every:
        yield
        return
    over = threading.Event()
    words = (hand, trace, fault, over)
    thread = threading.Thread(target=attend, args=words, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        trace.go_on()


def _lift(_: Hand, trace: Trace, __: Fault, over: threading.Event) -> None:
    while not trace.hits:
        if over.wait(0.02):
            return
    if not over.wait(LASTING_S):
        trace.lift()


def _execute(hand: Hand, trace: Trace, fault: Fault, over: threading.Event) -> None:
    while not over.is_set():
        caller = trace.halted
        run = hand.run
        if caller and run is not None:
            victims = [run.pid, *run.children()]
            if fault.argument == OTHER:
                victims = [pid for pid in victims if pid != caller]
            for pid in victims:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            trace.go_on()
            return
        time.sleep(0.001)
