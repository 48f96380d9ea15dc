"""Looking at an event log: of a ship that lives, or rests, ours or Vere's.

What it is: a reader in a process of its own, beside whoever writes.
Invariants: it writes nothing; but where the ship lives, LMDB's reader table, so
    that no page is reused beneath us. A log that is opened without that table
    is believed only as long as nobody runs the ship: each batch is read again
    if somebody began to. Memory is bounded: BATCH rows of HEAD_BYTES, however
    large the log and its jobs are.
Limits: a ship that Vere runs is not read: copy the pier. When, on which wire and
    with which tag is what the head of a job says; the first `life` rows of a log
    are no jobs, and have none of it. What an event cost is known of the last
    some hundred thousand that this runtime computed live (king/costs.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from king.costs import read_costs
from king.errors import TreadleError
from king.log.epoch import find_epochs, open_log
from king.log.store import Head
from king.manifest import read_manifest
from king.pier import check_is_pier, who_locks
from proto import fast
from proto.cord import UNIX_EPOCH
from proto.message import Row

__all__ = ["BATCH", "BOOT", "Entry", "Filter", "Kinds", "Tally", "View", "driver_of"]

BATCH = 4096
HEAD_BYTES = 512
_HEAD_BYTES_MAX = 8192
KEYS_MAX = 10_000
BOOT = "boot"
OTHERS = "(others)"
_DRIVERS = {
    "": "arvo",
    "a": "ames",
    "b": "behn",
    "c": "unix",
    "d": "term",
    "e": "http",
    "g": "gall",
    "i": "iris",
    "j": "jael",
    "k": "conn",
    "l": "lick",
}


class Entry(NamedTuple):
    """One event. `wire` and `tag` are None where its job is strange, or the
    boot's; `time` is in Unix seconds, or None."""

    event: int
    time: float | None
    size: int
    mug: int
    wire: str | None
    tag: str | None
    driver: str
    nanoseconds: int | None
    pages: int | None


def driver_of(wire: str) -> str:
    """Whose wires these are: the target's usual driver, else the target."""
    target = wire.split("/", 2)[1]
    return _DRIVERS.get(target, target)


class View:
    """The log of the pier at `root`. A context manager."""

    def __init__(self, root: Path) -> None:
        """
        :raises TreadleError: pier-*, pier-locked (Vere runs it), log-*
        """
        self.layout = check_is_pier(root)
        manifest = read_manifest(self.layout.manifest)
        self._identity = manifest.identity if manifest else b""
        self._open()

    def _open(self) -> None:
        holder = who_locks(self.layout)
        if holder is not None and "treadle" not in holder:
            raise TreadleError(
                "pier-locked",
                f"{self.layout.root} is in use by {holder}: its log is not read",
                "stop that ship, or copy the pier and look at the copy",
            )
        self.live = holder is not None
        self.log = open_log(self.layout.log_dir, read_only=True, live=self.live)

    def close(self) -> None:
        self.log.close()

    def __enter__(self) -> View:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def first(self) -> int:
        return self.log.first

    @property
    def last(self) -> int:
        return self.log.last

    @property
    def life(self) -> int:
        return self.log.meta.life

    def look_again(self) -> bool:
        """See what has happened meanwhile; whether there are new events."""
        before = self.last
        if self.live and who_locks(self.layout) is not None:
            self.log.look_again()
        if self.last == before:
            newest = find_epochs(self.layout.log_dir)[0][-1]
            if newest != self.log.epochs[-1] or not self.live:
                self._reopen()
        return self.last > before

    def _reopen(self) -> None:
        self.close()
        self._open()

    def row(self, event: int) -> Row:
        """One event whole.

        :raises TreadleError: log-gap, usage (there is none)
        """
        if not 0 < event <= self.last:
            raise TreadleError(
                "usage",
                f"there is no event {event}: the log has {self.first} to {self.last}",
            )
        while True:
            (row,) = self.log.read(event, 1)
            if self._is_safe():
                return row

    def _is_safe(self) -> bool:
        """Whether what was just read was nobody's to change; else open anew."""
        if self.live or who_locks(self.layout) is None:
            return True
        self._reopen()
        return False

    def entries(self, first: int = 1, last: int | None = None) -> Iterator[Entry]:
        """Events `first` to `last` (None: to the end), in order.

        :raises TreadleError: log-*
        """
        number = max(first, self.first)
        last = self.last if last is None else min(last, self.last)
        while 0 < number <= last:
            heads = self._heads(number, min(BATCH, last + 1 - number))
            yield from self._read(number, heads)
            number += len(heads)

    def _heads(self, first: int, count: int, size: int = HEAD_BYTES) -> list[Head]:
        while True:
            heads = self.log.heads(first, count, size)
            if self._is_safe():
                return heads

    def _read(self, first: int, heads: list[Head]) -> Iterator[Entry]:
        looks = fast.glance([head for _, _, head in heads])
        costs = read_costs(self.layout.costs, self._identity, first, len(heads))
        for event, (mug, size, head), look, cost in zip(
            range(first, first + len(heads)), heads, looks, costs, strict=True
        ):
            now, names, more = look
            if more and len(head) < size:
                now, names = self._look_closer(event)
            nanoseconds, pages = cost or (None, None)
            if event <= self.life:
                yield Entry(event, None, size, mug, None, None, BOOT, None, None)
            elif names is None:
                yield Entry(event, None, size, mug, None, None, "?", nanoseconds, pages)
            else:
                wire, tag = names
                time = (now - UNIX_EPOCH >> 48) / 65536
                driver = driver_of(wire)
                yield Entry(
                    event, time, size, mug, wire, tag, driver, nanoseconds, pages
                )

    def _look_closer(self, event: int) -> tuple[int, tuple[str, str] | None]:
        ((_, _, head),) = self._heads(event, 1, _HEAD_BYTES_MAX)
        ((now, names, _),) = fast.glance([head])
        return now, names


# --- which events -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Filter:
    """What an event must be. None asks nothing."""

    tag: str | None = None
    wire: str | None = None
    """Its beginning."""
    driver: str | None = None
    size_min: int = 0
    since: float | None = None
    until: float | None = None
    """Unix seconds."""

    def takes(self, entry: Entry) -> bool:
        if self.tag is not None and entry.tag != self.tag:
            return False
        if self.wire is not None and not (entry.wire or "").startswith(self.wire):
            return False
        if self.driver is not None and entry.driver != self.driver:
            return False
        if entry.size < self.size_min:
            return False
        if self.since is None and self.until is None:
            return True
        if entry.time is None:
            return False
        return (self.since is None or self.since <= entry.time) and (
            self.until is None or entry.time < self.until
        )


# --- what they add up to -------------------------------------------------------


@dataclass(slots=True)
class Tally:
    """A sum over events; `known` of them had their cost recorded."""

    events: int = 0
    bytes: int = 0
    known: int = 0
    nanoseconds: int = 0
    pages: int = 0

    def add(self, entry: Entry) -> None:
        self.events += 1
        self.bytes += entry.size
        if entry.nanoseconds is not None:
            self.known += 1
            self.nanoseconds += entry.nanoseconds
            self.pages += entry.pages or 0


class Kinds:
    """Tallies by one of tag, wire, driver. Of wires, the knots that differ from
    client to client are one: `/e/http-server/*/*`. Beyond KEYS_MAX names, what
    comes new is added to the `(others)`."""

    def __init__(self, by: str) -> None:
        self.by = by
        self.table: dict[str, Tally] = {}
        self._patterns: dict[str, str] = {}

    def add(self, entry: Entry) -> None:
        table = self.table
        key = self._key(entry)
        tally = table.get(key)
        if tally is None:
            if len(table) >= KEYS_MAX:
                key = OTHERS
            tally = table.setdefault(key, Tally())
        tally.add(entry)

    def _key(self, entry: Entry) -> str:
        if self.by == "driver":
            return entry.driver
        if self.by == "tag" and entry.tag is not None:
            return f"%{entry.tag}"
        wire = entry.wire if self.by == "wire" else None
        if wire is None:
            return entry.driver
        pattern = self._patterns.get(wire)
        if pattern is None:
            if len(self._patterns) >= KEYS_MAX:
                self._patterns.clear()
            pattern = self._patterns[wire] = _pattern(wire)
        return pattern


def _pattern(wire: str) -> str:
    """The wire with `*` for knots that are numbers or names."""
    target, *knots = wire[1:].split("/")
    return "/" + "/".join([target, *("*" if _varies(k) else k for k in knots)])


def _varies(knot: str) -> bool:
    return knot[:1] == "~" or knot[:1].isdigit()
