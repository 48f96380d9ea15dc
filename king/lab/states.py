"""From a record of file operations to the trees that a power cut could leave.

What it is: a filesystem that promises no more than POSIX does. What was
    written is durable once its file was synced (or was opened with O_DSYNC);
    a name is durable once its directory was synced. Until then a write may be
    there, missing, or there in part, at the grain of 512 or 4096 bytes,
    whatever happened to the writes before and after it; names of one
    directory appear in their order.
Owns: nothing on disk but what `Tree.write` is told to make.
Invariants: everything that was synced before the cut is in every tree of it;
    nothing that began after the cut is in any; equal trees are given once.
Limits: no link counts, owners or times; a directory's names are lost from the
    end only, as a metadata journal would; data written through mappings is
    not recorded (LMDB's lock file is left out, `released` keeps its first
    contents: both are hints); nor is the reserve, in which nothing is. Files are
    held in memory.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from king.lab.witness import Call, Kind

__all__ = ["Disk", "Tree", "crash_states"]

_NEVER = 1 << 62
_RENAME_EXCHANGE = 2
_LEFT_OUT = ("lock.mdb", "reserve")
TEARS = (512, 4096)


# --- what happened ------------------------------------------------------------


@dataclass(slots=True, eq=False)
class Change:
    """One write, truncation or allocation of one file."""

    index: int
    offset: int
    data: bytes | None
    """None: only the size changes."""
    size: int
    """Of the file, for a truncation; -1: as large as it must be."""
    settled: int = _NEVER
    """The call by which it was durable."""

    @property
    def end(self) -> int:
        return self.offset + (len(self.data) if self.data is not None else 0)


@dataclass(slots=True, eq=False)
class File:
    """A file by itself; names lead to it."""

    number: int
    base: bytes
    changes: list[Change] = field(default_factory=list)

    def touched(self) -> list[tuple[int, int]]:
        """What any change may alter: all that a comparison needs to look at."""
        spans = sorted((c.offset, c.end) for c in self.changes if c.data)
        joined: list[tuple[int, int]] = []
        for start, end in spans:
            if joined and start <= joined[-1][1]:
                joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
            else:
                joined.append((start, end))
        return joined


@dataclass(slots=True, eq=False)
class Naming:
    """A change of names: each part sets or (None) removes one. Atomic."""

    index: int
    parts: tuple[tuple[Folder, str, File | Folder | None], ...]
    settled: int = _NEVER


@dataclass(slots=True, eq=False)
class Folder:
    number: int
    base: Names = field(default_factory=dict)
    live: Names = field(default_factory=dict)
    namings: list[Naming] = field(default_factory=list)


Names = dict[str, File | Folder]


class Disk:
    """What was at `root` before, and all that was done to it."""

    def __init__(self, root: Path) -> None:
        """Read the tree at `root` as it is now, all of it durable."""
        self.root = root
        self._count = 0
        self.top = self._read(root)
        self.calls: list[Call] = []
        self.cuts: list[int] = []
        """After these calls something differs."""
        self.digests: dict[object, bytes] = {}
        """Of the contents of files, by what made them."""
        self._fds: dict[tuple[int, int], File | Folder] = {}

    def _read(self, path: Path) -> Folder:
        # Folders are few and shallow, but no recursion all the same.
        top = self._folder()
        waiting = [(path, top)]
        while waiting:
            where, folder = waiting.pop()
            for entry in os.scandir(where):
                if entry.is_dir(follow_symlinks=False):
                    below = self._folder()
                    folder.base[entry.name] = below
                    waiting.append((Path(entry.path), below))
                elif entry.is_file(follow_symlinks=False):
                    folder.base[entry.name] = self._file(Path(entry.path).read_bytes())
            folder.live = dict(folder.base)
        return top

    def _file(self, base: bytes = b"") -> File:
        self._count += 1
        return File(self._count, base)

    def _folder(self) -> Folder:
        self._count += 1
        return Folder(self._count)

    # --- following the calls --------------------------------------------------

    def follow(self, calls: Iterable[Call]) -> None:
        """Take in what was done, in order."""
        for call in calls:
            self._follow(len(self.calls), call)
            self.calls.append(call)

    def _follow(self, index: int, call: Call) -> None:
        if call.done and call.result < 0:
            return  # a failed sync, too, settles nothing
        match call.kind:
            case Kind.OPEN:
                self._open(index, call)
            case Kind.CLOSE:
                self._fds.pop((call.process, call.fd), None)
            case Kind.WRITE:
                # Of one that never came back: what it did, if that is known.
                self._write(index, call, call.result or call.length)
            case Kind.TRUNCATE:
                self._change(index, call, Change(index, 0, None, call.length))
            case Kind.ALLOCATE:
                size = call.offset + call.length
                self._change(index, call, Change(index, size, None, -1))
            case Kind.SYNC:
                self._sync(index, call)
            case Kind.RENAME | Kind.LINK:
                self._rename(index, call)
            case Kind.UNLINK:
                folder, name = self._place(call.path)
                if folder is not None and name in folder.live:
                    self._name(index, [(folder, name, None)])
            case Kind.MKDIR:
                folder, name = self._place(call.path)
                if folder is not None and name not in folder.live:
                    self._name(index, [(folder, name, self._folder())])
            case Kind.NOTE:
                pass

    def _place(self, path: str) -> tuple[Folder | None, str]:
        """The folder that holds the last name of `path`; None: not ours."""
        parts = Path(path).relative_to(self.root).parts
        folder = self.top
        for part in parts[:-1]:
            below = folder.live.get(part)
            if not isinstance(below, Folder):
                return None, ""
            folder = below
        return folder, parts[-1] if parts else ""

    def _open(self, index: int, call: Call) -> None:
        folder, name = self._place(call.path)
        if folder is None or call.fd < 0:
            return
        found = folder.live.get(name) if name else self.top
        if found is None:
            if not call.flags & os.O_CREAT:
                return
            found = self._file()
            self._name(index, [(folder, name, found)])
        elif isinstance(found, File) and call.flags & os.O_TRUNC:
            found.changes.append(Change(index, 0, None, 0))
            self.cuts.append(index + 1)
        self._fds[call.process, call.fd] = found

    def _change(self, index: int, call: Call, change: Change) -> None:
        file = self._fds.get((call.process, call.fd))
        if isinstance(file, File):
            file.changes.append(change)
            self.cuts.append(index + 1)

    def _write(self, index: int, call: Call, size: int) -> None:
        if size:
            change = Change(index, call.offset, call.data[:size], -1)
            if call.flags & os.O_DSYNC and call.done and call.result >= 0:
                change.settled = index
            self._change(index, call, change)

    def _sync(self, index: int, call: Call) -> None:
        found = self._fds.get((call.process, call.fd))
        if not call.done or call.flags or found is None:
            return
        for change in found.changes if isinstance(found, File) else found.namings:
            change.settled = min(change.settled, index)
        self.cuts.append(index + 1)

    def _rename(self, index: int, call: Call) -> None:
        source, old = self._place(call.path)
        target, new = self._place(call.other)
        if source is None or target is None or old not in source.live:
            return
        found = source.live[old]
        parts: list[tuple[Folder, str, File | Folder | None]] = [(target, new, found)]
        if call.kind is Kind.RENAME:
            other = target.live.get(new) if call.flags & _RENAME_EXCHANGE else None
            parts.insert(0, (source, old, other))
        self._name(index, parts)

    def _name(
        self, index: int, parts: Sequence[tuple[Folder, str, File | Folder | None]]
    ) -> None:
        naming = Naming(index, tuple(parts))
        parts[-1][0].namings.append(naming)
        for folder, name, found in parts:
            _set(folder.live, name, found)
        self.cuts.append(index + 1)

    # --- what a cut leaves ----------------------------------------------------

    def files(self) -> list[File]:
        """Every file that ever was."""
        return [node for node in self._nodes() if isinstance(node, File)]

    def folders(self) -> list[Folder]:
        return [node for node in self._nodes() if isinstance(node, Folder)]

    def _nodes(self) -> list[File | Folder]:
        seen: dict[int, File | Folder] = {}
        waiting: list[File | Folder] = [self.top]
        while waiting:
            node = waiting.pop()
            if node.number in seen:
                continue
            seen[node.number] = node
            if isinstance(node, Folder):
                waiting.extend(node.base.values())
                for naming in node.namings:
                    waiting.extend(f for _, _, f in naming.parts if f is not None)
        return [seen[number] for number in sorted(seen)]

    def cut(self, at: int) -> Cut:
        """The moment before call `at`: what is certain, and what is not."""
        return Cut(self, at)


def _set(names: Names, name: str, found: File | Folder | None) -> None:
    if found is None:
        names.pop(name, None)
    else:
        names[name] = found


class Cut:
    """The power fails before call `at`."""

    def __init__(self, disk: Disk, at: int) -> None:
        self.disk = disk
        self.at = at
        self.open_changes = [
            change
            for file in disk.files()
            for change in file.changes
            if change.index < at and change.settled >= at
        ]
        self.open_namings = [
            (folder, sum(n.index < at and n.settled >= at for n in folder.namings))
            for folder in disk.folders()
        ]
        self.open_namings = [(f, count) for f, count in self.open_namings if count]


@dataclass(frozen=True, slots=True)
class Choice:
    """Which of the uncertain changes made it."""

    kind: str
    dropped: frozenset[int]
    """Calls whose change is lost."""
    torn: int = -1
    """The call whose write is there in part."""
    grain: int = 512
    pattern: int = 0
    """Seed of which of its sectors."""
    lost_names: tuple[tuple[int, int], ...] = ()
    """(folder's number, how many of its last namings are lost)"""


class Tree:
    """One state of the disk: names to contents."""

    def __init__(self, disk: Disk, at: int, choice: Choice) -> None:
        self.at = at
        self.choice = choice
        self._disk = disk
        self._contents: dict[str, tuple[File, tuple[Change, ...]]] = {}
        self._folders: list[str] = []
        self._list(disk)

    def _list(self, disk: Disk) -> None:
        lost = dict(self.choice.lost_names)
        names: dict[int, Names] = {}
        done: list[Naming] = []
        for folder in disk.folders():
            names[folder.number] = dict(folder.base)
            made = [n for n in folder.namings if n.index < self.at]
            done += made[: len(made) - lost.get(folder.number, 0)]
        for naming in sorted(done, key=lambda n: n.index):
            for folder, name, found in naming.parts:
                _set(names[folder.number], name, found)
        waiting: list[tuple[str, Folder]] = [("", disk.top)]
        while waiting:
            prefix, folder = waiting.pop()
            for name, node in sorted(names[folder.number].items()):
                path = f"{prefix}{name}"
                if isinstance(node, Folder):
                    self._folders.append(path)
                    waiting.append((f"{path}/", node))
                elif name not in _LEFT_OUT:
                    self._contents[path] = (node, self._changes(node))

    def _changes(self, file: File) -> tuple[Change, ...]:
        dropped = self.choice.dropped
        return tuple(
            change
            for change in file.changes
            if change.index < self.at
            and (change.settled < self.at or change.index not in dropped)
        )

    def names(self) -> list[str]:
        return sorted(self._contents)

    def paths(self) -> list[str]:
        """Names of files, and of folders with a slash at their end."""
        return [*self.names(), *(f"{folder}/" for folder in self._folders)]

    def key(self, *, below: str = "", without: str = "") -> bytes:
        """Equal for equal trees of one disk, as far as they lie below `below`
        and not below `without`."""
        digest = hashlib.blake2b(digest_size=16)
        for path in sorted(self.paths()):
            if not _is_wanted(path, below, without):
                continue
            digest.update(f"{path}\n".encode())
            if path in self._contents:
                digest.update(self._digest(*self._contents[path]))
        return digest.digest()

    def _digest(self, file: File, changes: Sequence[Change]) -> bytes:
        torn = [c.index for c in changes if self._is_torn(c)]
        how = (self.choice.grain, self.choice.pattern) if torn else None
        made_by = (file.number, tuple(c.index for c in changes), how)
        known = self._disk.digests.get(made_by)
        if known is not None:
            return known
        digest = hashlib.blake2b(file.number.to_bytes(8, "little"), digest_size=16)
        data = self._data(file, changes)
        digest.update(len(data).to_bytes(8, "little"))
        for start, end in file.touched():
            digest.update(data[start:end])
        return self._disk.digests.setdefault(made_by, digest.digest())

    def _is_torn(self, change: Change) -> bool:
        return change.index == self.choice.torn and change.settled >= self.at

    def read(self, path: str) -> bytes:
        return bytes(self._data(*self._contents[path]))

    def _data(self, file: File, changes: Sequence[Change]) -> bytes | bytearray:
        if not changes:
            return file.base
        data = bytearray(file.base)
        for change in changes:
            if change.data is None:
                size = change.size if change.size >= 0 else max(len(data), change.end)
                if size < len(data):
                    del data[size:]
                else:
                    data.extend(bytes(size - len(data)))
                continue
            if change.end > len(data):
                data.extend(bytes(change.end - len(data)))
            if self._is_torn(change):
                for start, end in _sectors(change, self.choice):
                    piece = change.data[start - change.offset : end - change.offset]
                    data[start:end] = piece
            else:
                data[change.offset : change.end] = change.data
        return data

    def write(self, root: Path, *, below: str = "", without: str = "") -> None:
        """Make the tree at `root`, which does not exist yet; of its files only
        those below `below` and not below `without`."""
        root.mkdir(mode=0o700)
        for folder in sorted(self._folders):
            (root / folder).mkdir(mode=0o700)
        for path in self.names():
            if _is_wanted(path, below, without):
                (root / path).write_bytes(self._data(*self._contents[path]))

    def __str__(self) -> str:
        choice = self.choice
        words = [f"cut before call {self.at}", choice.kind]
        if choice.dropped:
            words.append(f"lost {sorted(choice.dropped)}")
        if choice.torn >= 0:
            words.append(f"call {choice.torn} torn at {choice.grain} bytes")
        if choice.lost_names:
            words.append(f"names lost {list(choice.lost_names)}")
        return ", ".join(words)


def _is_wanted(path: str, below: str, without: str) -> bool:
    return path.startswith(below) and not (without and path.startswith(without))


def _sectors(change: Change, choice: Choice) -> Iterator[tuple[int, int]]:
    """The pieces of a torn write that are there: the head, the tail, every
    second, or any, of its sectors."""
    grain = choice.grain
    first = change.offset // grain
    count = (change.end + grain - 1) // grain - first
    dice = random.Random(choice.pattern)
    shape = dice.randrange(4)
    middle = dice.randrange(count + 1)
    for sector in range(count):
        there = (
            sector < middle,
            sector >= middle,
            sector % 2 == middle % 2,
            dice.random() < 0.5,
        )[shape]
        if there:
            start = (first + sector) * grain
            yield max(start, change.offset), min(start + grain, change.end)


# --- all of them ----------------------------------------------------------------


def crash_states(
    disk: Disk, seed: int, *, per_cut: int = 24, start: int = 0
) -> Iterator[Tree]:
    """Trees that cuts after call `start` leave, each once, in a fixed order."""
    seen: set[bytes] = set()
    previous = -1
    for at in sorted({cut for cut in disk.cuts if cut > start}):
        if at == previous:
            continue
        previous = at
        dice = random.Random(f"{seed}/{at}")
        for choice in _choices(disk.cut(at), dice, per_cut):
            tree = Tree(disk, at, choice)
            key = tree.key()
            if key not in seen:
                seen.add(key)
                yield tree


def _choices(cut: Cut, dice: random.Random, limit: int) -> list[Choice]:
    """Every issued call; none that is uncertain; and between them each single
    loss, each single survivor, tears, lost names, and mixtures, as many as
    `limit` allows."""
    changes = [change.index for change in cut.open_changes]
    writes = [change.index for change in cut.open_changes if change.data]
    everything = frozenset(changes)
    no_names = tuple((folder.number, count) for folder, count in cut.open_namings)
    always = [Choice("prefix", frozenset())]
    if changes:
        always.append(Choice("unsynced lost", everything))
    if no_names:
        always.append(Choice("names lost", frozenset(), lost_names=no_names))
        if changes:
            always.append(Choice("all lost", everything, lost_names=no_names))
    more: list[Choice] = []
    if len(changes) > 1:
        for index in changes:
            more.append(Choice("one lost", frozenset([index])))
            more.append(Choice("one kept", everything - {index}))
    for index in writes:
        for grain in TEARS:
            for others in (frozenset[int](), everything - {index}):
                pattern = dice.randrange(1 << 32)
                more.append(Choice("torn", others, index, grain, pattern))
    for folder, count in cut.open_namings:
        for lost_count in range(1, count + 1):
            lost = ((folder.number, lost_count),)
            more.append(Choice("names lost", frozenset(), lost_names=lost))
    for _ in range(min(8, 1 << len(changes)) if changes else 0):
        some = frozenset(index for index in changes if dice.random() < 0.5)
        torn = dice.choice(writes) if writes and dice.random() < 0.3 else -1
        names = tuple((f.number, dice.randrange(n + 1)) for f, n in cut.open_namings)
        grain, pattern = dice.choice(TEARS), dice.randrange(1 << 32)
        more.append(Choice("mixed", some - {torn}, torn, grain, pattern, names))
    room = max(limit - len(always), 0)
    return always + (dice.sample(more, room) if len(more) > room else more)
