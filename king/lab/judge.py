"""Hold a pier against the law, without starting a ship on it.

What it is: the oracle. A pier that something happened to is opened as a start
    opens it, in a forked child that may die of it; the image is loaded, caught
    up, saved and loaded again by `serf.lab`. What people were told is compared
    with what is there.
Owns: two helper processes, and a folder for the rows that they share.
Invariants: nothing is forgiven that a person would have to repair by hand.
    Equal logs and equal images are judged once.
Limits: the pier is written to, as by a start; the caller gives a copy. Rows
    of a whole log are held in memory.

    python -m king.lab.judge     JSON lines: {"root": DIR, "append": BOOL, "away": DIR}
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from king.errors import TreadleError
from king.lab.states import Tree
from king.log.epoch import Log
from king.log.start import image_of, read_start, record_of
from king.log.verify import verify_log
from king.log_file import LogFileReader
from king.manifest import read_manifest
from king.modules import module_command
from king.pier import Layout, identity_bytes, open_pier
from proto import fast
from proto.errors import CueError, ProtoError
from proto.jam import cue, jam
from proto.message import Jam, Row
from proto.noun import Cell, Noun

__all__ = [
    "AWAY",
    "CARRIED",
    "ROCK",
    "TAKEN",
    "Judge",
    "Promise",
    "Verdict",
    "copy_pier",
    "tokens_in",
]

AWAY = "away"
"""Beside a pier, where a scenario archives its epochs: put back, they and those
that are left must be the whole history."""

TAKEN = "taken"
"""Beside a pier, where a scenario takes a snapshot of it: if it is there at all, it
is whole, and of the pier's history."""

ROCK = "carried.rock"
"""Beside a pier, where a scenario exports its state: if it is there, it is whole. The
pier that is made of it, `TAKEN`, goes on from epochs that the pier itself has."""

CARRIED = "carried.log"
"""Beside a pier, where a scenario exports its log: if it is there, it is whole."""

_ANSWER_S = 120.0
_ROWS_KEPT = 1 << 16


@dataclass(frozen=True, slots=True)
class Promise:
    """What must hold, by what people were told."""

    acknowledged: frozenset[str] = frozenset()
    """Tokens of events that were told to be done, or whose effects were seen."""
    offered: frozenset[str] = frozenset()
    """Tokens of all events that ever were injected."""
    rows: tuple[bytes, ...] = ()
    """Digests of the rows that must be there, from event 1."""
    must_exist: bool = True
    """False: there may be no pier at all (it was being booted)."""
    snapshot_event: int = 0
    """A snapshot of this event was said to be saved: a usable one is there, of
    this event or a later one."""
    pins: tuple[tuple[str, int], ...] = ()
    """Names, and the events of which they were said to be pinned: whole, also after
    the next save."""
    taken: bool = False
    """A snapshot was said to be taken."""
    adopted: bool | None = None
    """False: its log may be refused for having lost events. True: it may not be any
    more, and is no copy."""


@dataclass(slots=True)
class Verdict:
    """What was found. No `faults`: the law holds."""

    faults: list[str] = field(default_factory=list)
    events: int = 0
    snapshot_event: int = 0
    fell_back: int = 0
    replayed: int = 0
    rows: tuple[bytes, ...] = ()

    def __bool__(self) -> bool:
        return not self.faults


# --- tokens -------------------------------------------------------------------

_TOKEN = re.compile(rb"tok(\d+);")


def _text_of(noun: Noun) -> bytes:
    """The bytes of all atoms, in order: tapes and cords become readable."""
    parts: list[bytes] = []
    waiting = [noun]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Cell):
            waiting.append(value.tail)
            waiting.append(value.head)
        else:
            parts.append(value.to_bytes((value.bit_length() + 7) // 8, "little"))
    return b"".join(parts)


@lru_cache(maxsize=_ROWS_KEPT)
def tokens_in(job: bytes) -> tuple[str, ...]:
    """The tokens of the lab in a logged job: each once."""
    try:
        found = _TOKEN.findall(_text_of(cue(Jam(job))))
    except ProtoError:
        return ()
    return tuple(sorted({token.decode() for token in found}))


# --- the helpers ----------------------------------------------------------------


class _Helper:
    """A process that answers lines; started anew after a death."""

    def __init__(self, module: str, *words: str) -> None:
        self._command, self._environment = module_command(module, *words)
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """Its answer; a `fault` that says how it died, if it did."""
        if self._process is None:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(question).encode() + b"\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if line:
            value: dict[str, Any] = json.loads(line)
            return value
        self._process = None
        status = process.wait()
        how = f"exit code {status}"
        if status < 0:
            how = signal.Signals(-status).name
        return {"fault": f"opening it killed the process ({how})"}

    def close(self) -> None:
        if self._process is not None:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.close()
            self._process.stdout.close()
            self._process.wait()
            self._process = None


class Judge:
    """A context manager. `folder` is its own, and exists."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._king = _Helper("king.lab.judge")
        self._serf = _Helper("serf", "lab")
        self._logs: dict[bytes, dict[str, Any]] = {}
        self._images: dict[tuple[bytes, str], dict[str, Any]] = {}
        self._looks: dict[bytes, tuple[dict[str, Any], dict[str, Any]]] = {}
        self._turn = threading.Lock()
        self.opened_logs = 0
        self.opened_images = 0

    def __enter__(self) -> Judge:
        return self

    def __exit__(self, *_: object) -> None:
        self._king.close()
        self._serf.close()

    def forget(self) -> None:
        """What was judged: another scenario's piers are not equal to it."""
        self._logs.clear()
        self._images.clear()
        self._looks.clear()
        for rows in self._folder.glob("*.json"):
            rows.unlink()

    def judge(self, root: Path, promise: Promise, *, known: bool = False) -> Verdict:
        """Judge the pier at `root`. `known`: many are equal to one that was
        judged before, so look at the bytes first."""
        verdict = Verdict()
        if not os.path.lexists(root):
            if promise.must_exist:
                verdict.faults.append("there is no pier")
            return verdict
        key = _digest_tree(root.parent) if known else b""
        looked = self._looks.get(key)
        if looked is None:
            looked = self.look(root)
            if known:
                self._looks[key] = looked
        found, facts = looked
        if self._judge_log(found, promise, verdict):
            self._judge_image(facts, promise, verdict)
        taken = root.parent / TAKEN
        self._judge_taken(
            self.look(taken, before=root) if taken.exists() else None, promise, verdict
        )
        return verdict

    def judge_tree(self, tree: Tree, pier: str, promise: Promise) -> Verdict:
        """Judge what a power cut left, `pier` being the pier's path in it. The
        log must take one more event, too."""
        verdict = Verdict()
        root = self._folder / "state"
        if not any(path.startswith(f"{pier}/") for path in tree.paths()):
            if promise.must_exist:
                verdict.faults.append("there is no pier")
            return verdict
        below = f"{pier}/.urb/chk/"
        key = tree.key(without=below)
        found = self._logs.get(key)
        if found is None:
            with _written(tree, root, without=below):
                found = self._logs[key] = self._open(root / pier, append=True)
        if not self._judge_log(found, promise, verdict):
            return verdict
        pair = (tree.key(below=below), found["rows_name"])
        facts = self._images.get(pair)
        if facts is None:
            with _written(tree, root, below=below):
                facts = self._images[pair] = self._load(root / pier, found)
        self._judge_image(facts, promise, verdict)
        looked = None
        if any(path.startswith(f"{TAKEN}/") for path in tree.paths()):
            # What is made of a rock needs the rows that led to it.
            below = "" if ROCK in tree.paths() else f"{TAKEN}/"
            looked = self._looks.get(tree.key(below=below))
            if looked is None:
                with _written(tree, root, below=below):
                    looked = self.look(root / TAKEN, before=root / pier)
                self._looks[tree.key(below=below)] = looked
        self._judge_taken(looked, promise, verdict)
        for name, faults in ((CARRIED, _file_faults), (ROCK, _rock_faults)):
            if name in tree.paths():
                with _written(tree, root, below=name):
                    verdict.faults += faults(root / name)
        return verdict

    def look(
        self, root: Path, *, before: Path | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """What a start finds at `root`, without a verdict: king's and serf's.
        `before`: the pier that has its older epochs. Threads may ask, and have
        their turns."""
        with self._turn:
            found = self._open(root, append=False, before=before)
            return found, {} if found["fault"] else self._load(root, found)

    def _open(
        self, root: Path, *, append: bool, before: Path | None = None
    ) -> dict[str, Any]:
        self.opened_logs += 1
        away = root.parent / AWAY if before is None else Layout(before).log_dir
        question = {"root": str(root), "append": append, "away": str(away)}
        found = self._king.ask(question)
        if not found["fault"]:
            digests = "".join(found["digests"]).encode()
            found["rows_name"] = name = hashlib.sha256(digests).hexdigest()
            rows = self._folder / f"{name}.json"
            if not rows.exists():
                rows.write_text(json.dumps(found["rows"]))
        return found

    def _load(self, root: Path, found: dict[str, Any]) -> dict[str, Any]:
        self.opened_images += 1
        image = Layout(root).image
        image.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        question = {name: found[name] for name in ("ship", "log", "life")}
        rows = self._folder / f"{found['rows_name']}.json"
        return self._serf.ask({**question, "image": str(image), "rows": str(rows)})

    def _judge_log(
        self, found: dict[str, Any], promise: Promise, verdict: Verdict
    ) -> bool:
        """Whether there are rows, for an image to be compared with."""
        if found["fault"]:
            if promise.adopted is not False or "log-behind: " not in found["fault"]:
                verdict.faults.append(f"it does not open: {found['fault']}")
            return False
        if promise.adopted and found["copy"]:
            verdict.faults.append(f"it was adopted, and says: {found['copy']}")
        verdict.faults += found["epoch_faults"]
        rows = found["rows"]
        verdict.events = len(rows)
        verdict.rows = tuple(bytes.fromhex(digest) for digest in found["digests"])
        kept = len(promise.rows)
        if verdict.rows[:kept] != promise.rows:
            pairs = zip(verdict.rows, promise.rows, strict=False)
            same = next((n for n, (a, b) in enumerate(pairs) if a != b), len(rows))
            verdict.faults.append(
                f"history was lost or rewritten: {kept} events were there, of which "
                f"{min(same, kept)} are"
            )
        counts: dict[str, int] = {}
        for _, job in rows:
            for token in tokens_in(bytes.fromhex(job)):
                counts[token] = counts.get(token, 0) + 1
        lost = promise.acknowledged - counts.keys()
        if lost:
            verdict.faults.append(f"acknowledged and lost: events {sorted(lost)}")
        twice = sorted(token for token, count in counts.items() if count > 1)
        if twice:
            verdict.faults.append(f"logged twice: events {twice}")
        unknown = sorted(counts.keys() - promise.offered)
        if unknown and promise.offered:
            verdict.faults.append(f"in the log and never offered: events {unknown}")
        return True

    def _judge_taken(
        self,
        looked: tuple[dict[str, Any], dict[str, Any]] | None,
        promise: Promise,
        verdict: Verdict,
    ) -> None:
        if looked is None:
            if promise.taken:
                verdict.faults.append("the snapshot that was taken is not there")
            return
        found, facts = looked
        fault = found["fault"] or facts["fault"]
        if fault:
            verdict.faults.append(f"the snapshot that was taken: {fault}")
            return
        digests = [bytes.fromhex(digest) for digest in found["digests"]]
        if tuple(digests) != verdict.rows[: len(digests)]:
            verdict.faults.append("the snapshot that was taken is of another history")
        if facts["end"] != facts["expected_end"]:
            verdict.faults.append("the snapshot that was taken is of another state")

    def _judge_image(
        self, facts: dict[str, Any], promise: Promise, verdict: Verdict
    ) -> None:
        if facts["fault"]:
            verdict.faults.append(f"its image: {facts['fault']}")
            return
        verdict.snapshot_event = facts["event"]
        verdict.fell_back = facts["fell_back"]
        verdict.replayed = verdict.events - facts["event"]
        last = verdict.events
        if facts["event"] < promise.snapshot_event:
            verdict.faults.append(
                f"a snapshot of event {promise.snapshot_event} was saved, and that of "
                f"{facts['event']} is what is usable: {facts['note']}"
            )
        for name, event in promise.pins:
            pin = facts["pins"].get(name, {"event": 0, "fault": "it is not there"})
            if pin["event"] not in (0, event):
                pin = {"fault": f"it is of event {pin['event']}"}
            if pin["fault"]:
                fault = f"event {event} was pinned as {name}: {pin['fault']}"
                verdict.faults.append(fault)
        if facts["newest"] > last and promise.adopted is not False:
            newest = facts["newest"]
            verdict.faults.append(f"it has a snapshot of event {newest} > {last}")
        if facts["reference_fault"]:
            why = facts["reference_fault"]
            verdict.faults.append(f"the log does not play from its start: {why}")
            return
        if facts["state"] != facts["expected"]:
            verdict.faults.append(
                f"the snapshot of event {facts['event']} is not the state that its "
                "log gives"
            )
        if facts["end"] != facts["expected_end"]:
            verdict.faults.append("snapshot and replay do not give the state")
        again = facts["again"]
        calm = (again["good"], again["event"], again["fell_back"])
        if calm != (True, last, 0) or again["state"] != facts["expected_end"]:
            verdict.faults.append(f"the second start is not calm: {again}")


def _digest_tree(root: Path) -> bytes:
    """Of all names and contents but LMDB's lock file, which a start makes anew."""
    digest = hashlib.blake2b(digest_size=16)
    for folder, folders, names in os.walk(root):
        folders.sort()
        digest.update(f"{folders}\0".encode())
        for name in sorted(names):
            path = Path(folder, name)
            if name != "lock.mdb" and path.is_file():
                data = path.read_bytes()
                digest.update(f"{path.relative_to(root)}\0{len(data)}\0".encode())
                digest.update(data)
    return digest.digest()


@contextlib.contextmanager
def _written(
    tree: Tree, root: Path, *, below: str = "", without: str = ""
) -> Iterator[None]:
    """The tree, on disk for as long as it takes."""
    tree.write(root, below=below, without=without)
    try:
        yield
    finally:
        shutil.rmtree(root)


# --- in the helper ----------------------------------------------------------------


def _open(root: Path, append: bool, away: Path) -> dict[str, Any]:
    """As a start opens a pier; the rows of its log."""
    _put_back(root, away)
    manifest = read_manifest(Layout(root).manifest)
    with open_pier(root, adopt=True) as pier:
        log = pier.log
        log.settle()
        epoch_faults = _epoch_faults(log)
        rows: list[Row] = []
        while batch := log.read(len(rows) + 1):
            rows += batch
        if len(rows) != log.last:
            raise TreadleError("log-gap", f"{len(rows)} of {log.last} rows are there")
        if append:
            log.append(log.last + 1, [Row(0, jam(0))])
            if len(log.read(log.last)) != 1:
                raise TreadleError("log-gap", "what was appended is not there")
        identity = pier.identity.hex()
        ship = identity_bytes(pier.manifest.ship).hex()
        life = pier.meta.life
    pairs = [(row.mug, row.job.hex()) for row in rows]
    return {
        "fault": "",
        "epoch_faults": epoch_faults,
        "copy": manifest.copy if manifest is not None else "",
        "rows": pairs,
        "digests": [_digest(row) for row in rows],
        "ship": ship,
        "log": identity,
        "life": life,
    }


def copy_pier(pier: Path, folder: Path, name: str) -> Path:
    """A copy in `folder`, with what was archived beside it."""
    copy = folder / name
    if pier.exists():
        shutil.copytree(pier, copy, ignore=shutil.ignore_patterns("*.sock"))
    for beside in (AWAY, TAKEN):
        if (pier.parent / beside).exists():
            shutil.copytree(pier.parent / beside, folder / beside)
    return copy


def _file_faults(path: Path) -> list[str]:
    """Of a log that was exported."""
    try:
        with path.open("rb") as file:
            for _ in LogFileReader(file, path.name).blocks():
                pass
    except TreadleError as error:
        return [f"the log that was exported: {error.message}"]
    return []


def _rock_faults(path: Path) -> list[str]:
    """Of a state that was exported."""
    data = path.read_bytes()
    try:
        whole = fast.rejam(data) == data
    except CueError:
        whole = False
    return [] if whole else ["the rock that was exported is not whole"]


def _put_back(root: Path, away: Path) -> None:
    """Old epochs that were taken away; those alone that come before what is there."""
    log_dir = Layout(root).log_dir
    starts = [int(path.name[2:]) for path in log_dir.glob("0i*")]
    for epoch in away.glob("0i*") if away.is_dir() else ():
        if starts and int(epoch.name[2:]) < min(starts):
            shutil.copytree(epoch, log_dir / epoch.name)


def _epoch_faults(log: Log) -> list[str]:
    """What the epochs vouch for, and is not so."""
    faults = [
        f"{facts['name']}: {fault}"
        for facts in verify_log(log)["epochs"]
        for fault in facts["faults"]
    ]
    for epoch in log.epochs:
        image = image_of(epoch)
        if not record_of(epoch).exists():
            continue
        kept = read_start(epoch)
        if kept is None:
            faults.append(f"{epoch.path.name}: its record is of a state that is not")
        elif hashlib.sha256(image.read_bytes()).hexdigest() != kept.sha256:
            faults.append(f"{epoch.path.name}: its state is not that of its record")
    return faults


def _digest(row: Row) -> str:
    data = row.mug.to_bytes(4, "little") + row.job
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def _in_child(question: dict[str, Any]) -> bytes:
    """The answer of a child, which may die of it."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(read)
        try:
            root, away = Path(question["root"]), Path(question["away"])
            answer = _open(root, question["append"], away)
        except TreadleError as error:
            answer = {"fault": str(error)}
        except BaseException as error:
            answer = {"fault": f"{type(error).__name__}: {error}"}
        view = memoryview(json.dumps(answer).encode())
        while view:
            view = view[os.write(write, view) :]
        os._exit(0)
    os.close(write)
    parts: list[bytes] = []
    while part := os.read(read, 1 << 20):
        parts.append(part)
    os.close(read)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        return json.dumps({"fault": f"opening it kills ({name})"}).encode()
    return b"".join(parts)


def _main(lines: Iterable[str]) -> int:
    import king.log.epoch
    import king.log.store

    assert king.log.epoch
    assert king.log.store
    for line in lines:
        os.write(1, _in_child(json.loads(line)) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.stdin))
