"""Epoch directories, and the log as one: find, create, read across, append.

Owns: `.urb/log/` and what lies beneath it.
Invariants: the newest complete epoch is the live one and the only one that is
    written; an epoch without its version file does not exist; epochs follow
    each other without hole or overlap; nothing here deletes anything. An
    unfinished epoch is left out only if it holds no event.
Limits: one writer, holding the pier's locks.

Epoch `0i<N>` holds the events after N. It has an LMDB environment (`store`),
`epoc.txt` (version of its layout) and `vere.txt` (the runtime that made it).
The top directory holds META alone; only logs of format 1 have their events
there, and those we read but do not continue.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from king.disk import sync_directory, write_durably
from king.errors import TreadleError
from king.log.store import (
    BYTES_MAX,
    FORMAT,
    MAP_SIZE_MAX,
    ROWS_MAX,
    LmdbStore,
    Meta,
    check_lmdb_version,
    create_store,
)
from proto.message import Row

__all__ = [
    "EPOCH_VERSION",
    "Epoch",
    "Log",
    "create_log",
    "find_epochs",
    "open_log",
]

EPOCH_VERSION = 2
"""`epoc.txt`: 1 has north.bin and south.bin, 2 has image.bin."""

_EPOCH_NAME = re.compile(r"0i(0|[1-9][0-9]{0,18})\Z")


@dataclass(frozen=True, slots=True)
class Epoch:
    """A complete epoch: events start + 1 and later. `runtime` made it."""

    start: int
    path: Path
    version: int
    runtime: str


def find_epochs(log_dir: Path) -> tuple[list[Epoch], list[str]]:
    """The complete epochs, oldest first, and notes on incomplete ones.

    :raises TreadleError: log-missing, log-newer
    """
    starts: list[int] = []
    try:
        names = os.listdir(log_dir)
    except FileNotFoundError:
        names = []
    for name in names:
        match = _EPOCH_NAME.match(name)
        if match and (log_dir / name).is_dir():
            starts.append(int(match[1]))
    epochs: list[Epoch] = []
    notes: list[str] = []
    for start in sorted(starts):
        path = log_dir / f"0i{start}"
        version = _read_text(path / "epoc.txt")
        if not version or not (path / "data.mdb").is_file():
            missing = "epoc.txt" if not version else "data.mdb"
            notes.append(
                f"epoch 0i{start} has no {missing}: an unfinished roll, unused"
            )
            continue
        if not version.isdigit() or int(version) > EPOCH_VERSION:
            raise TreadleError(
                "log-newer",
                f"epoch {path} has layout {version!r}; we know 1 to {EPOCH_VERSION}",
                "start it with the newer runtime that wrote it; nothing was changed",
            )
        runtime = _read_text(path / "vere.txt") or "unknown"
        epochs.append(Epoch(start, path, int(version), runtime))
    return epochs, notes


def _read_text(path: Path) -> str | None:
    """A version file's text; None where it is missing, too long or not text."""
    try:
        with path.open("rb") as file:
            data = file.read(128)
    except OSError:
        return None
    if len(data) > 127:
        return None
    return data.decode("ascii", errors="replace").strip()


# --- create -----------------------------------------------------------------


def create_log(
    log_dir: Path,
    meta: Meta,
    rows: Sequence[Row],
    runtime: str,
    *,
    map_size: int = MAP_SIZE_MAX,
) -> None:
    """Make a whole new log beneath `log_dir`, which does not exist.

    `rows` become events 1, 2, ... in one commit. All of it is durable on
    return, except the name of `log_dir` itself.

    :raises TreadleError: disk-full, disk-error, log-failed
    """
    epoch = log_dir / "0i0"
    log_dir.mkdir(mode=0o700)
    create_store(log_dir, meta, events=False, map_size=map_size)
    epoch.mkdir(mode=0o700)
    create_store(epoch, meta, map_size=map_size)
    store = LmdbStore(epoch, map_size=map_size)
    try:
        store.append(1, rows)
    finally:
        store.close()
    write_durably(epoch / "vere.txt", runtime.encode("ascii"))
    write_durably(epoch / "epoc.txt", str(EPOCH_VERSION).encode())
    sync_directory(log_dir)


# --- open -------------------------------------------------------------------


class Log:
    """All epochs as one log. Implements `store.EventLog`."""

    def __init__(
        self,
        epochs: Sequence[Epoch],
        stores: Sequence[LmdbStore],
        notes: Sequence[str],
    ) -> None:
        """Join opened stores, oldest first.

        :raises TreadleError: log-gap
        """
        self.epochs = tuple(epochs)
        self.notes = tuple(notes)
        self.stores = tuple(stores)
        self._live = self.stores[-1]
        for before, epoch in zip(self.stores, self.epochs[1:], strict=False):
            if before.last != epoch.start:
                raise TreadleError(
                    "log-gap",
                    f"epoch {epoch.path} begins after event {epoch.start}, but the "
                    f"one before it ends with event {before.last}",
                    "restore the missing epoch from a copy; nothing was changed",
                )
        for epoch, store in zip(self.epochs, self.stores, strict=True):
            if store.first and store.first != epoch.start + 1:
                raise TreadleError(
                    "log-gap",
                    f"the log in {epoch.path} has a hole: expected event "
                    f"{epoch.start + 1}, found event {store.first}",
                    "run `treadle check` on a copy; nothing was changed",
                )

    @property
    def meta(self) -> Meta:
        return self._live.meta

    @property
    def first(self) -> int:
        return self.epochs[0].start + 1 if self.last > self.epochs[0].start else 0

    @property
    def last(self) -> int:
        return self._live.last

    def append(self, first: int, rows: Sequence[Row]) -> None:
        self._live.append(first, rows)

    def read(
        self, first: int, rows_max: int = ROWS_MAX, bytes_max: int = BYTES_MAX
    ) -> list[Row]:
        """As `EventLog.read`; a batch ends at the end of an epoch."""
        if first > self.last:
            return []
        for epoch, store in zip(
            reversed(self.epochs), reversed(self.stores), strict=True
        ):
            if first > epoch.start:
                return store.read(first, rows_max, bytes_max)
        oldest = self.epochs[0].start + 1
        raise TreadleError(
            "log-gap",
            f"event {first} is not in the log: it begins with event {oldest}, "
            "older epochs were chopped",
            "start from a snapshot, or restore the older epochs from a copy",
        )

    def settle(self) -> None:
        """Refuse holes. Older epochs were closed by a durable roll; only the live
        one is settled.

        :raises TreadleError: log-gap
        """
        for store in self.stores:
            store.check_count()
        self._live.settle()

    def size_bytes(self) -> int:
        return sum(store.size_bytes() for store in self.stores)

    def close(self) -> None:
        for store in self.stores:
            store.close()


def open_log(
    log_dir: Path,
    *,
    read_only: bool = False,
    live: bool = False,
    map_size: int = MAP_SIZE_MAX,
) -> Log:
    """Open every epoch; the newest one for writing, unless `read_only`.

    `live`: another process may be writing (only with `read_only`).

    :raises TreadleError: log-missing, log-newer, log-old, log-gap, log-bad,
        meta-bad, lmdb-version
    """
    check_lmdb_version()
    if not (log_dir / "data.mdb").is_file():
        raise TreadleError(
            "log-missing",
            f"there is no event log in {log_dir}",
            "is this a pier? if it was one, restore it from a copy",
        )
    # Formats first, and read-only, so that a newer log is refused untouched.
    version = _read_format(log_dir, live)
    epochs, notes = find_epochs(log_dir)
    if version < FORMAT:
        if not read_only:
            raise TreadleError(
                "log-old",
                f"the log in {log_dir} has format {version}, from an old Vere",
                "start it once with Vere 3 or later, which migrates it; until then "
                "`treadle check` and `treadle replay` can read it",
            )
        if not epochs:
            epochs = [Epoch(0, log_dir, 1, "unknown")]
    if not epochs:
        raise TreadleError(
            "log-missing",
            f"there is no epoch in {log_dir}",
            "restore the pier from a copy",
        )
    _check_left_out(log_dir, epochs, live)
    stores: list[LmdbStore] = []
    try:
        for epoch in epochs:
            _check_file(epoch.path)
            writing = not read_only and epoch is epochs[-1]
            stores.append(
                LmdbStore(
                    epoch.path,
                    start=epoch.start,
                    read_only=not writing,
                    live=live,
                    map_size=map_size,
                )
            )
        return Log(epochs, stores, notes)
    except TreadleError:
        for store in stores:
            store.close()
        raise


def _check_left_out(log_dir: Path, epochs: Sequence[Epoch], live: bool) -> None:
    """Refuse a log if an epoch that lost its version file (as a power cut may
    leave it) holds events: going on without it would fork the ship's history.

    :raises TreadleError: log-bad
    """
    known = {epoch.path.name for epoch in epochs}
    for path in sorted(log_dir.iterdir()):
        if not _EPOCH_NAME.match(path.name) or path.name in known:
            continue
        if not (path / "data.mdb").is_file():
            continue
        try:
            _check_file(path)
            store = LmdbStore(path, read_only=True, live=live)
        except TreadleError:
            continue  # not even its databases were made
        store.close()
        if store.last:
            raise TreadleError(
                "log-bad",
                f"epoch {path} holds events {store.first} to {store.last}, but its "
                "epoc.txt is missing or empty",
                f"on a copy of the pier, write {EPOCH_VERSION} into that file and "
                "run `treadle check`; nothing was changed",
            )


def _read_format(log_dir: Path, live: bool) -> int:
    _check_file(log_dir)
    store = LmdbStore(log_dir, read_only=True, live=live, events=False)
    try:
        return store.meta.version
    finally:
        store.close()


# --- torn files -------------------------------------------------------------

_PAGE_HEADER_BYTES = 16
_META_PAGE = struct.Struct("<IIQQ48x48xQQ")  # LMDB 0.9, 64-bit
_META_MAGIC = 0xBEEFC0DE


def _pages_expected(path: Path) -> int:
    """Bytes that the newer meta page says are in use; 0 if it says nothing."""
    expected = 0
    newest = -1
    with path.open("rb") as file:
        first = file.read(_PAGE_HEADER_BYTES + _META_PAGE.size)
        if len(first) < _PAGE_HEADER_BYTES + _META_PAGE.size:
            return 0
        page_size = int.from_bytes(first[40:44], "little")
        if not 512 <= page_size <= 65536:
            return 0
        for offset in (0, page_size):
            file.seek(offset + _PAGE_HEADER_BYTES)
            data = file.read(_META_PAGE.size)
            if len(data) < _META_PAGE.size:
                continue
            magic, _, _, _, last_page, txn = _META_PAGE.unpack(data)
            if magic == _META_MAGIC and txn > newest:
                newest = txn
                expected = (last_page + 1) * page_size
    return expected


def _check_file(path: Path) -> None:
    """Refuse a torn data file before mapping it: touching a page that is not
    there kills the process (SIGBUS).

    The last pages in use may rightly be missing, if they were never written;
    so a short file is first read through by a child, which may die of it.

    :raises TreadleError: log-bad
    """
    data = path / "data.mdb"
    size = data.stat().st_size
    expected = _pages_expected(data)
    if size >= expected > 0:
        return
    if not _survives_reading(path):
        raise TreadleError(
            "log-bad",
            f"the log file {data} is torn: {size} bytes, {expected} in use",
            "restore the pier from a copy; nothing was changed",
        )


def _survives_reading(path: Path) -> bool:
    # Only ever needed after a mishap.
    import subprocess
    import sys

    probe = (
        "import lmdb, sys\n"
        "env = lmdb.open(sys.argv[1], readonly=True, lock=False, max_dbs=2)\n"
        "with env.begin() as txn:\n"
        "    for name in [key for key, _ in txn.cursor()]:\n"
        "        database = env.open_db(name, txn, create=False)\n"
        "        for key, value in txn.cursor(database):\n"
        "            pass\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", probe, str(path)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    return done.returncode == 0
