"""The hash chain over a log: whether a job is the one that was committed.

Owns: CHAIN_FILE, beside the rows of an epoch. Vere's files stay as they are.
Invariants: what is chained was durable before; a stretch is chained once, and
    each names the one before it, across epochs, too. An epoch is sealed, to its
    last event and durably, before the next one exists. The chain never stands
    in the way of a commit: if it cannot be written, it ends with a fault, and is
    made up for from the rows: by a later commit (king/log/epoch.py), or at the
    next start.
Limits: it tells what changed, it does not mend. Who can write the log can
    write a chain, too: keep a head elsewhere (`treadle log verify` prints it)
    to hold against that. Rows after the last anchor, at most STRETCH_ROWS or
    STRETCH_BYTES of them, are not vouched for yet.

A file is a head and anchors, little-endian; SHA-256 is the hash.

    head    magic, u64 events before it, 32 bytes link before it, u32 crc
    anchor  u64 first event, u32 count, 32 bytes link,
            u32 adler32 of each row, u32 crc of the anchor

    row  = mug (4 bytes), job: the very bytes that the log has
    link = hash(link before, u64 first, rows, u32 size of each row, u32 count)

The link vouches; the adler32 only tell which row of a bad stretch it is. The
crcs tell an anchor from what a power cut made of one: the file is synced when
it is sealed, and otherwise at the kernel's leisure. A power cut leaves sectors
of what was appended as they should be, or not there: zeros, or beyond the end.
What is wrong otherwise was changed later, and is told as damage.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from struct import Struct

from king.errors import TreadleError
from proto.message import Row

__all__ = [
    "CHAIN_FILE",
    "NO_LINK",
    "STRETCH_ROWS",
    "Anchor",
    "Chain",
    "ChainFile",
    "Checked",
    "check_rows",
    "create_chain",
    "head_is_damaged",
    "link_before",
    "read_chain",
]

CHAIN_FILE = "treadle.chain"

STRETCH_ROWS = 1024
STRETCH_BYTES = 4 << 20
"""A start hashes again what was not anchored: it must not take long."""

NO_LINK = bytes(32)
"""Before the first event, and before epochs that nobody chained."""

_MAGIC = b"trchain1"
_HEAD = Struct("<8sQ32s")
_ANCHOR = Struct("<QI32s")
_CRC = Struct("<I")
_FIRST = Struct("<Q")
_HEAD_SIZE = _HEAD.size + _CRC.size
_FAULTS_MAX = 20
_SECTOR = 512

Read = Callable[[int], Sequence[Row]]
"""Rows from an event on, some; none beyond the last."""


# --- files ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Anchor:
    """Events first..last, and the link that vouches for them."""

    first: int
    last: int
    link: bytes
    checks: array[int] = field(repr=False)


@dataclass(frozen=True, slots=True)
class ChainFile:
    """What a file says, as far as it is whole: `size` bytes of it. `damaged`: what
    follows is not what a power cut leaves."""

    start: int
    base: bytes
    anchors: tuple[Anchor, ...]
    size: int
    damaged: bool = False

    @property
    def last(self) -> int:
        return self.anchors[-1].last if self.anchors else self.start

    @property
    def link(self) -> bytes:
        return self.anchors[-1].link if self.anchors else self.base

    def until(self, last: int) -> ChainFile:
        """Without the anchors of events beyond `last`."""
        anchors = tuple(anchor for anchor in self.anchors if anchor.last <= last)
        size = _HEAD_SIZE + sum(_size(len(anchor.checks)) for anchor in anchors)
        return ChainFile(self.start, self.base, anchors, size, self.damaged)


def _size(count: int) -> int:
    return _ANCHOR.size + 4 * count + _CRC.size


def _with_crc(data: bytes) -> bytes:
    return data + _CRC.pack(zlib.crc32(data))


def read_chain(path: Path) -> ChainFile | None:
    """The file, up to the first anchor that is not whole; None where there is
    none, or not even its head is whole.

    :raises OSError:
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    head = data[:_HEAD_SIZE]
    if len(head) < _HEAD_SIZE or head != _with_crc(head[: _HEAD.size]):
        return None
    magic, start, base = _HEAD.unpack_from(head)
    if magic != _MAGIC:
        return None
    anchors: list[Anchor] = []
    at, event, damaged = _HEAD_SIZE, start, False
    while at < len(data):
        first = count = 0
        if at + _ANCHOR.size <= len(data):
            first, count, link = _ANCHOR.unpack_from(data, at)
        fits = first == event + 1 and 0 < count <= STRETCH_ROWS
        end = at + (_size(count) if fits else _ANCHOR.size)
        whole = data[at:end]
        if not fits or end > len(data) or whole != _with_crc(whole[: -_CRC.size]):
            damaged = not _was_cut(data, at, end)
            break
        checks = array("I", whole[_ANCHOR.size : -_CRC.size])
        anchors.append(Anchor(first, event + count, link, checks))
        event += count
        at = end
    return ChainFile(start, base, tuple(anchors), at, damaged)


def _was_cut(data: bytes, at: int, end: int) -> bool:
    """Whether a power cut may have left at..end so, where something whole was to
    be: the file ends before it, or a sector of it is still zeros."""
    if end > len(data):
        return len(data) % _SECTOR == 0
    for start in range(at - at % _SECTOR, end, _SECTOR):
        if not any(data[max(start, at) : min(start + _SECTOR, end)]):
            return True
    return False


def head_is_damaged(path: Path) -> bool:
    """Whether a file of which `read_chain` knows nothing was one, and was changed.

    :raises OSError:
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return False
    return bool(data) and not _was_cut(data, 0, _HEAD_SIZE)


def link_before(epochs: Iterable[tuple[int, Path]], first: int) -> bytes | None:
    """The link that vouches for all events before `first`, out of the chains of
    epochs (start, path of the chain); None if none ends just there.

    :raises OSError:
    """
    if first == 1:
        return NO_LINK
    for start, path in epochs:
        found = read_chain(path) if start < first else None
        if found is None or found.start != start:
            continue
        if found.start == first - 1:
            return found.base
        for anchor in found.anchors:
            if anchor.last == first - 1:
                return anchor.link
    return None


def create_chain(path: Path, start: int, base: bytes) -> None:
    """A new file without anchors, in place of what is there. Not synced.

    :raises OSError:
    """
    path.write_bytes(_with_crc(_HEAD.pack(_MAGIC, start, base)))


# --- a stretch --------------------------------------------------------------


class _Stretch:
    """Rows on their way to an anchor."""

    def __init__(self, before: bytes, first: int) -> None:
        self.first = first
        self.checks = array("I")
        self.bytes = 0
        self._sizes = array("I")
        self._hash = hashlib.sha256(before + _FIRST.pack(first))

    @property
    def count(self) -> int:
        return len(self.checks)

    @property
    def next(self) -> int:
        return self.first + len(self.checks)

    def add(self, values: Sequence[bytes]) -> None:
        # Few calls for many rows: this is on the path of every event.
        data = b"".join(values)
        self._hash.update(data)
        self.bytes += len(data)
        self._sizes.extend(map(len, values))
        self.checks.extend(map(zlib.adler32, values))

    def anchor(self) -> Anchor:
        self._hash.update(self._sizes.tobytes() + _CRC.pack(self.count))
        return Anchor(self.first, self.next - 1, self._hash.digest(), self.checks)


# --- writing ----------------------------------------------------------------


class Chain:
    """The chain of the epoch that is written."""

    def __init__(self, path: Path, found: ChainFile) -> None:
        """Go on after what was `found` in the file; what is beyond that is cut.

        :raises OSError:
        """
        self.fault = ""
        """Why nothing is chained any more; "" while it is."""
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            if os.fstat(self._descriptor).st_size > found.size:
                os.ftruncate(self._descriptor, found.size)
                os.fsync(self._descriptor)  # or a power cut may mix old with new
            os.lseek(self._descriptor, found.size, os.SEEK_SET)
        except OSError:
            os.close(self._descriptor)
            raise
        self._size = found.size
        self._anchored = found.last
        self._stretch = _Stretch(found.link, found.last + 1)
        self.link = found.link
        """Of the last anchor."""

    @property
    def anchored(self) -> int:
        """The last event that an anchor vouches for."""
        return self._anchored

    @property
    def last(self) -> int:
        """The last event that was added."""
        return self._stretch.next - 1

    def catch_up(self, last: int, read: Read) -> None:
        """Add what the log has up to `last` and the chain has not.

        :raises TreadleError: as the log's read
        """
        while self.last < last and not self.fault:
            rows = read(self.last + 1)
            self.add([row.mug.to_bytes(4, "little") + row.job for row in rows])

    def add(self, values: list[bytes]) -> None:
        """Chain rows that are durable, in order. Never raises: see `fault`."""
        at = 0
        while at < len(values) and not self.fault:
            stretch = self._stretch
            part = values[at : at + STRETCH_ROWS - stretch.count]
            stretch.add(part)
            at += len(part)
            if stretch.count == STRETCH_ROWS or stretch.bytes >= STRETCH_BYTES:
                self._end_stretch()

    def _end_stretch(self) -> None:
        if not self._stretch.count or self.fault:
            return
        anchor = self._stretch.anchor()
        head = _ANCHOR.pack(anchor.first, len(anchor.checks), anchor.link)
        data = memoryview(_with_crc(head + anchor.checks.tobytes()))
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError as error:
            self.fault = error.strerror or str(error)
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._size)  # half an anchor is none
            return
        self._size += _size(len(anchor.checks))
        self._anchored = anchor.last
        self.link = anchor.link
        self._stretch = _Stretch(anchor.link, anchor.last + 1)

    def sync(self) -> None:
        """What is anchored is durable.

        :raises OSError: or it cannot be had
        """
        if not self.fault:
            try:
                os.fsync(self._descriptor)
            except OSError as error:
                self.fault = error.strerror or str(error)
        if self.fault:
            raise OSError(f"the hash chain cannot be written: {self.fault}")

    def seal(self) -> bytes:
        """Anchor all that was added, durably; the link of that. More may come.

        :raises OSError: or it cannot be had
        """
        self._end_stretch()
        self.sync()
        return self.link

    def close(self) -> None:
        """Anchor what there is, for a start that need not hash it again."""
        self._end_stretch()
        os.close(self._descriptor)


# --- verifying --------------------------------------------------------------


@dataclass(slots=True)
class Checked:
    """Rows first..last that were held against their anchors."""

    first: int
    last: int
    faults: list[str] = field(default_factory=list)
    bad_events: list[int] = field(default_factory=list)


def check_rows(
    found: ChainFile,
    last: int,
    read: Read,
    *,
    first: int = 1,
    advance: Callable[[int], None] | None = None,
) -> Checked:
    """Hold the stretches that reach into first..last against the rows. What is
    wrong stands in `faults`, and the events that are others in `bad_events`.

    `advance` is told of every event that was reached.
    """
    wanted = [a for a in found.anchors if a.last >= first and a.first <= last]
    checked = Checked(wanted[0].first, wanted[-1].last) if wanted else Checked(0, 0)
    before = {anchor.last + 1: anchor.link for anchor in found.anchors}
    for anchor in wanted:
        if len(checked.faults) >= _FAULTS_MAX:
            checked.faults.append("and perhaps more: not looked further")
            break
        stretch = _Stretch(before.get(anchor.first, found.base), anchor.first)
        try:
            for rows in _batches(anchor, read):
                stretch.add([row.mug.to_bytes(4, "little") + row.job for row in rows])
                if advance is not None:
                    advance(stretch.next - 1)
        except TreadleError as error:
            checked.faults.append(error.message)
            checked.bad_events.append(stretch.next)
            continue
        if stretch.anchor().link != anchor.link:
            _blame(anchor, stretch.checks, checked)
    return checked


def _batches(anchor: Anchor, read: Read) -> Iterator[Sequence[Row]]:
    event = anchor.first
    while event <= anchor.last:
        rows = read(event)[: anchor.last - event + 1]
        if not rows:
            raise TreadleError("log-gap", f"event {event} is missing")
        yield rows
        event += len(rows)


def _blame(anchor: Anchor, checks: array[int], checked: Checked) -> None:
    """Which rows of a stretch are not those that were committed."""
    others = [
        anchor.first + index
        for index, (a, b) in enumerate(zip(anchor.checks, checks, strict=True))
        if a != b
    ]
    if not others:
        text = (
            f"events {anchor.first} to {anchor.last}: their chain does not fit, "
            "although each looks as it was: the chain itself was changed, or a row "
            "with care"
        )
    else:
        named = ", ".join(map(str, others[:_FAULTS_MAX]))
        more = f" and {len(others) - _FAULTS_MAX} more" * (len(others) > _FAULTS_MAX)
        text = (
            f"event{'s' * (len(others) > 1)} {named}{more}: not as committed (chain "
            f"of events {anchor.first} to {anchor.last})"
        )
    checked.faults.append(text)
    checked.bad_events += others or [anchor.first]
