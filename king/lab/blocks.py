"""Block enumeration: every disk that a power cut can leave under a real filesystem.

What it is: an independent check of `states`, by ext4 and XFS themselves. A
    scenario is played on such a filesystem, whose disk (`fuse_disk`, under a
    loop device) logs writes and flushes. From the log the lab rebuilds disks:
    every prefix of the writes; between two flushes, random subsets of them,
    and one write torn. Each is mounted, the filesystem replays its journal,
    and what treadle makes of it is judged by what people had been told.
Owns: the disks, the mounts, the devices, meanwhile.
Invariants: a write that was answered before a flush began is on every disk
    after that flush; states are numbered, and a record and its seed give the
    same ones again.
Limits: Linux, root, FUSE and loop devices; `why_no_blocks` says which is
    missing. A write torn at 512 bytes may hit the filesystem's superblock,
    which no filesystem survives: such a disk that cannot be mounted is
    counted apart.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import os
import random
import subprocess
import time
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

from king.errors import TreadleError
from king.lab.cuts import FILESYSTEMS, run, unmount, why_not
from king.lab.judge import Promise
from king.lab.pair import Hand, Hang, Over, Told
from king.lab.scenario import Scenario
from king.lab.trial import PIER, Blow, Lab, Siege, promise_of
from king.lab.witness import NO_FAULT
from king.modules import module_command

__all__ = [
    "BlockRecord",
    "BlockState",
    "is_block_record",
    "judge",
    "record",
    "start",
    "why_no_blocks",
]

_SIZES = {"ext4": 192 << 20, "xfs": 304 << 20}
_OPTIONS = {
    # Small journals: a disk is copied for every state.
    "ext4": ("-b", "4096", "-J", "size=4", "-E", "lazy_itable_init=0,nodiscard"),
    "xfs": ("-K",),
}
_TORN = "torn at {}"
SUBSETS = 3
"""Random subsets of the writes between two flushes."""


def why_no_blocks(kind: str) -> str:
    """What this machine lacks for it; "" if nothing."""
    missing = why_not(kind)
    if missing:
        return missing
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return f"/dev/fuse: {error.strerror}"
    if importlib.util.find_spec("mfusepy") is None:
        return "there is no mfusepy (pip install 'treadle[lab]')"
    try:
        importlib.import_module("mfusepy")
    except OSError as error:
        return f"there is no libfuse3 ({error})"
    return ""


@contextlib.contextmanager
def _mounted(kind: str, disk: Path, mount: Path) -> Iterator[Path]:
    """A filesystem in a file.

    :raises CalledProcessError: it cannot be mounted.
    """
    options = "loop,nouuid" if kind == "xfs" else "loop"
    run("mount", "-t", kind, "-o", options, str(disk), str(mount))
    try:
        yield mount
    finally:
        unmount(mount)


def _copy(source: Path, target: Path) -> None:
    """Holes stay holes, and zeros become some."""
    run("cp", "--sparse=always", str(source), str(target))


# --- recording --------------------------------------------------------------------


class _Notes:
    """What people were told, and how far the disk's log was then."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.taken: list[tuple[int, str]] = []

    def write(self, text: str) -> None:
        self.taken.append((self.log.stat().st_size, text))


def record(lab: Lab, scenario: Scenario, kind: str, keep: Path) -> None:
    """Play `scenario` on a filesystem of `kind`; its record becomes the folder
    `keep`. `why_no_blocks(kind)` is empty.

    :raises TreadleError: failed: it does not even go well in peace.
    """
    keep.mkdir()
    with lab.room() as folder:
        image, mount, fuse = folder / "image", folder / "mount", folder / "fuse"
        mount.mkdir()
        fuse.mkdir()
        with image.open("wb") as file:
            file.truncate(_SIZES[kind])
        run(FILESYSTEMS[kind][0], "-q", *_OPTIONS[kind], str(image))
        with _mounted(kind, image, mount):
            begun = lab.prepare(scenario, mount)
        _copy(image, keep / "base")
        notes = _Notes(keep / "log")
        with _served(image, keep / "log", fuse) as disk, _mounted(kind, disk, mount):
            hand = Hand(
                lab.stable,
                mount / PIER,
                folder,
                pill=lab.pill,
                notes=notes,
                told=deepcopy(begun),
            )
            try:
                scenario.play(hand)
            except (Over, Hang) as error:
                why = f"{scenario.name} fails in peace: {error}: {hand.words[-900:]}"
                raise TreadleError("failed", why) from error
            finally:
                hand.close()
        value = {
            "kind": kind,
            "begun": [begun.snapshot_event, begun.booted, begun.adopted],
            "offered": sorted(hand.told.offered),
            "notes": notes.taken,
        }
        (keep / "told.json").write_text(json.dumps(value))


@contextlib.contextmanager
def _served(image: Path, log: Path, mount: Path) -> Iterator[Path]:
    """`image` as a disk that logs."""
    words = (str(image), str(log), str(mount))
    command, variables = module_command("king.lab.fuse_disk", *words)
    process = subprocess.Popen(command, env=variables)
    try:
        for _ in range(500):
            if os.path.ismount(mount):
                break
            if process.poll() is not None:
                raise subprocess.CalledProcessError(process.returncode, command)
            time.sleep(0.02)
        yield mount / "disk"
    finally:
        if os.path.ismount(mount):
            unmount(mount)
        process.wait()


def is_block_record(folder: Path) -> bool:
    return (folder / "base").is_file()


# --- states -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BlockState:
    """The power fails after `end` accesses; of the writes since the last flush
    some are `lost`, one may be `torn`: there up to a sector, or from it on."""

    kind: str
    end: int
    lost: frozenset[int] = frozenset()
    torn: int = -1
    sector: int = 0
    head: bool = True
    grain: int = 4096

    def __str__(self) -> str:
        words = [f"cut after access {self.end}", self.kind]
        if self.lost:
            words.append(f"lost {sorted(self.lost)}")
        if self.torn >= 0:
            side = "to" if self.head else "from"
            words.append(
                f"write {self.torn} there {side} sector {self.sector} of {self.grain}"
            )
        return ", ".join(words)


class BlockRecord:
    """What `record` kept."""

    def __init__(self, folder: Path, seed: int) -> None:
        from king.lab.fuse_disk import read_accesses

        self.folder = folder
        value = json.loads((folder / "told.json").read_bytes())
        self.kind: str = value["kind"]
        saved, booted, adopted = value["begun"]
        self._begun = Told(snapshot_event=saved, booted=booted, adopted=adopted)
        self._offered = set(value["offered"])
        self._notes: list[tuple[int, str]] = value["notes"]
        self._accesses = list(read_accesses(folder / "log"))
        self.states = list(self._enumerate(seed))

    def _enumerate(self, seed: int) -> Iterator[BlockState]:
        writes: list[int] = []
        for index, access in enumerate(self._accesses):
            if access.data is not None:
                writes.append(index)
                yield BlockState("prefix", index + 1)
                continue
            yield from self._between_flushes(index, writes, seed)
            writes = []
        yield from self._between_flushes(len(self._accesses), writes, seed)

    def _between_flushes(
        self, end: int, writes: list[int], seed: int
    ) -> Iterator[BlockState]:
        """The flush that access `end` is has not happened."""
        dice = random.Random(f"{seed}/{end}")
        seen: set[frozenset[int]] = {frozenset()}
        for _ in range(SUBSETS if len(writes) > 1 else 0):
            lost = frozenset(index for index in writes if dice.random() < 0.5)
            if lost not in seen:
                seen.add(lost)
                yield BlockState("subset", end, lost)
        for grain in (512, 4096) if writes else ():
            torn = dice.choice(writes)
            data = self._accesses[torn].data
            assert data is not None
            if len(data) > grain:
                others = frozenset(
                    i for i in writes if i != torn and dice.random() < 0.3
                )
                sector = dice.randrange(1, -(-len(data) // grain))
                head = dice.random() < 0.5
                yield BlockState(
                    _TORN.format(grain), end, others, torn, sector, head, grain
                )

    def promise(self, state: BlockState) -> Promise:
        """What had been told when the power failed."""
        size = self._accesses[state.end - 1].end if state.end else 0
        notes = [text for at, text in self._notes if at <= size]
        return promise_of(notes, self._offered, self._begun)

    def write(self, state: BlockState, disk: Path) -> None:
        """The disk as this cut leaves it."""
        _copy(self.folder / "base", disk)
        with disk.open("r+b") as file:
            for index, access in enumerate(self._accesses[: state.end]):
                if access.data is None or index in state.lost:
                    continue
                offset, data = access.offset, access.data
                if index == state.torn:
                    at = state.sector * state.grain
                    offset, data = (
                        (offset, data[:at]) if state.head else (offset + at, data[at:])
                    )
                os.pwrite(file.fileno(), data, offset)


# --- judging ----------------------------------------------------------------------


@contextlib.contextmanager
def _left(lab: Lab, record: BlockRecord, state: BlockState) -> Iterator[Path]:
    """The filesystem of this state, mounted.

    :raises CalledProcessError: it cannot be.
    """
    with lab.room() as folder:
        mount = folder / "mount"
        mount.mkdir()
        record.write(state, folder / "disk")
        with _mounted(record.kind, folder / "disk", mount):
            yield mount


def judge(lab: Lab, record: BlockRecord, state: BlockState) -> tuple[str, list[str]]:
    """What this state counts as, and what is wrong with it."""
    try:
        with _left(lab, record, state) as mount:
            promise = record.promise(state)
            verdict = lab.judge.judge(mount / PIER, promise, known=True)
    except subprocess.CalledProcessError as error:
        if state.kind == _TORN.format(512):
            return "no filesystem", []
        return state.kind, [_why_not_mounted(error)]
    return state.kind, verdict.faults


def start(lab: Lab, scenario: Scenario, record: BlockRecord, state: BlockState) -> Blow:
    """Start a whole pair on this state."""
    with lab.room() as folder:
        try:
            with _left(lab, record, state) as mount:
                siege = Siege(lab, scenario)
                return siege.recover_at(mount / PIER, folder, record.promise(state))
        except subprocess.CalledProcessError as error:
            torn = state.kind == _TORN.format(512)
            faults = [] if torn else [_why_not_mounted(error)]
            return Blow(NO_FAULT, struck=True, faults=faults)


def _why_not_mounted(error: subprocess.CalledProcessError) -> str:
    return f"it cannot be mounted: {error.stderr.decode(errors='replace').strip()}"
