"""Epoch directories, and the log as one: find, create, read across, append.

Owns: `.urb/log/` and what lies beneath it.
Invariants: the newest complete epoch is the live one and the only one that is
    written; an epoch without its version file does not exist; epochs follow
    each other without hole or overlap. Opening deletes nothing. An unfinished
    epoch is left out only if it holds no event. An epoch comes and goes by one
    rename: the directory of a new one is whole and durable before it has its
    name, and one that is taken away is no epoch any more before a file of it
    is deleted.
Limits: one writer, holding the pier's locks.

Epoch `0i<N>` holds the events after N. It has an LMDB environment (`store`),
`epoc.txt` (version of its layout) and `vere.txt` (the runtime that made it);
of ours, beside these, the hash chain (`chain`), and the state at its start with
what is known of it (king/epochs.py). The top directory holds META alone; only
logs of format 1 have their events there, and those we read but do not continue.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic

import lmdb

from king.disk import explain_disk, sync_directory, write_durably
from king.errors import TreadleError
from king.log.chain import (
    CHAIN_FILE,
    NO_LINK,
    STRETCH_ROWS,
    Chain,
    create_chain,
    head_is_damaged,
    read_chain,
)
from king.log.rehearsal import rehearse
from king.log.start import read_start
from king.log.store import (
    BYTES_MAX,
    FORMAT,
    MAP_SIZE_MAX,
    ROWS_MAX,
    Head,
    LmdbStore,
    Meta,
    check_lmdb_version,
    create_store,
)
from proto.message import Row

__all__ = [
    "EPOCH_VERSION",
    "KEEP_MIN",
    "Epoch",
    "Log",
    "create_log",
    "find_epochs",
    "open_epoch",
    "open_log",
    "prepare_epoch",
    "sweep",
]

EPOCH_VERSION = 2
"""`epoc.txt`: 1 has north.bin and south.bin, 2 has image.bin."""

KEEP_MIN = 2
"""So many of the newest epochs are never taken: if the state of one is rotten, a
ship recovers from the other's."""

CHAIN_RETRY_S = 30.0
"""From a fault of the chain's file to the commit that tries it again."""

_NEXT = "next"
_CHOPPED = "chopped-"
"""Names that are no epoch's, to us or to Vere."""

_EPOCH_NAME = re.compile(r"0i(0|[1-9][0-9]{0,18})\Z")


@dataclass(frozen=True, slots=True)
class Epoch:
    """A complete epoch: events start + 1 and later. `runtime` made it."""

    start: int
    path: Path
    version: int
    runtime: str

    @property
    def chain_path(self) -> Path:
        return self.path / CHAIN_FILE


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
    _write_versions(epoch, runtime)
    sync_directory(log_dir)


def _write_versions(epoch: Path, runtime: str) -> None:
    write_durably(epoch / "vere.txt", runtime.encode("ascii"))
    write_durably(epoch / "epoc.txt", str(EPOCH_VERSION).encode())


def prepare_epoch(
    log_dir: Path, meta: Meta, runtime: str, *, map_size: int = MAP_SIZE_MAX
) -> Path:
    """The directory of a next epoch, whole and durable but for its name. What an
    earlier call left is made anew.

    :raises TreadleError: disk-full, disk-error, log-failed; nothing has changed
    """
    path = log_dir / _NEXT
    try:
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(mode=0o700)
        create_store(path, meta, map_size=map_size)
        _write_versions(path, runtime)
    except (OSError, TreadleError) as error:
        shutil.rmtree(path, ignore_errors=True)
        if isinstance(error, TreadleError):
            raise TreadleError(error.code, error.message, error.hint) from error
        raise explain_disk(error, log_dir, "making an epoch") from error
    return path


def sweep(log_dir: Path) -> list[str]:
    """Delete what is left of chopped epochs, and of rolls that never came to
    be; the names of those epochs. Not while one is being made.

    :raises OSError:
    """
    names = []
    for path in sorted(log_dir.glob(f"{_CHOPPED}*")):
        shutil.rmtree(path)
        names.append(path.name.removeprefix(_CHOPPED))
    shutil.rmtree(log_dir / _NEXT, ignore_errors=True)
    return names


# --- open -------------------------------------------------------------------


class Log:
    """All epochs as one log. Implements `store.EventLog`.

    Reading may go on in other threads while the log's own appends, rolls and
    chops.
    """

    def __init__(
        self,
        epochs: Sequence[Epoch],
        stores: Sequence[LmdbStore],
        notes: Sequence[str],
    ) -> None:
        """Join opened stores, oldest first.

        :raises TreadleError: log-gap
        """
        self.notes = tuple(notes)
        self.chain_fault = ""
        """Why no row is chained for now; "" while each is, or if that was not begun."""
        self._chain_due = 0.0
        self._chain_anew = False
        self._parts = tuple(zip(epochs, stores, strict=True))
        self._chain: Chain | None = None
        self._prepared: Path | None = None
        for (_, before), (epoch, _) in zip(self._parts, self._parts[1:], strict=False):
            if before.last != epoch.start:
                raise TreadleError(
                    "log-gap",
                    f"epoch {epoch.path} begins after event {epoch.start}, but the "
                    f"one before it ends with event {before.last}",
                    "restore the missing epoch from a copy; nothing was changed",
                )
        for epoch, store in self._parts:
            if store.first and store.first != epoch.start + 1:
                raise TreadleError(
                    "log-gap",
                    f"the log in {epoch.path} has a hole: expected event "
                    f"{epoch.start + 1}, found event {store.first}",
                    "run `treadle check` on a copy; nothing was changed",
                )

    @property
    def epochs(self) -> tuple[Epoch, ...]:
        """Oldest first."""
        return tuple(epoch for epoch, _ in self._parts)

    @property
    def stores(self) -> tuple[LmdbStore, ...]:
        return tuple(store for _, store in self._parts)

    @property
    def _live(self) -> LmdbStore:
        return self._parts[-1][1]

    @property
    def meta(self) -> Meta:
        return self._live.meta

    @property
    def first(self) -> int:
        start = self._parts[0][0].start
        return start + 1 if self.last > start else 0

    @property
    def last(self) -> int:
        return self._live.last

    def chained(self) -> int:
        """The last event that the newest epoch's chain vouches for; 0 if it has
        none that can be read."""
        newest = self._parts[-1][0]
        try:
            found = read_chain(newest.chain_path)
        except OSError:
            return 0
        return found.last if found is not None and found.start == newest.start else 0

    def append(self, first: int, rows: Sequence[Row]) -> None:
        self._live.append(first, rows)

    def read(
        self, first: int, rows_max: int = ROWS_MAX, bytes_max: int = BYTES_MAX
    ) -> list[Row]:
        """As `EventLog.read`; a batch ends at the end of an epoch."""
        if first > self.last:
            return []
        return self._store_of(first).read(first, rows_max, bytes_max)

    def heads(self, first: int, rows_max: int, head_max: int) -> list[Head]:
        """As `LmdbStore.heads`; ends at the end of an epoch, as `read` does."""
        if first > self.last:
            return []
        return self._store_of(first).heads(first, rows_max, head_max)

    def look_again(self) -> None:
        """See what another process has written to the newest epoch by now."""
        self._live.look_again()

    def _store_of(self, first: int) -> LmdbStore:
        parts = self._parts
        for epoch, store in reversed(parts):
            if first > epoch.start:
                return store
        oldest = parts[0][0].start + 1
        raise TreadleError(
            "log-gap",
            f"event {first} is not in the log: it begins with event {oldest}, "
            "older epochs were chopped",
            "start from a snapshot, or restore the older epochs from a copy",
        )

    def settle(self) -> None:
        """Refuse holes. Older epochs were closed by a durable roll; only the live
        one is settled. A log that is written is chained from here on.

        :raises TreadleError: log-gap
        """
        for _, store in self._parts:
            store.check_count()
        self._live.settle()
        if not self._live.read_only and self._chain is None:
            self._begin_chain()

    def rehearse(self) -> None:
        """What a start will do, without a change: see `rehearsal`."""
        for _, store in self._parts:
            store.check_count()
        self._live.rehearse()

    def touch(self, first: int) -> None:
        """Come by every page of the rows from `first` on."""
        for _, store in self._parts:
            if store.last >= first:
                store.touch(first)

    def size_bytes(self) -> int:
        size = 0
        for _, store in self._parts:
            with contextlib.suppress(FileNotFoundError):  # chopped at this moment
                size += store.size_bytes()
        return size

    def close(self) -> None:
        self._live.committed = _ignore
        self._end_chain()
        for _, store in self._parts:
            store.close()

    # --- the chain ------------------------------------------------------------

    def _begin_chain(self) -> None:
        """Go on with the chain, from its last good anchor. A log that has none
        (Vere made it) is chained from its first event that is there. Where the
        newest epoch's is lost, and the epochs before were chopped, the epoch's
        record knows how it began."""
        parts = self._parts
        at = len(parts) - 1
        self._live.committed = self._add_to_chain
        try:
            while at and read_chain(parts[at][0].chain_path) is None:
                at -= 1
            kept = read_start(parts[at][0])
            link = bytes.fromhex(kept.chain) if kept is not None else b""
            link = link or NO_LINK
            for epoch, store in parts[at:]:
                self._chain = self._open_chain(epoch, store, link)
                if store is not self._live:
                    link = self._chain.seal()
                    self._chain.close()
        except OSError as error:
            self._chain = None
            self._put_chain_off(str(error))
            return
        self.chain_fault = ""
        self._chain_anew = False
        self._note_chain_fault()

    def _open_chain(self, epoch: Epoch, store: LmdbStore, before: bytes) -> Chain:
        found = read_chain(epoch.chain_path)
        if found is None or found.start != epoch.start:
            if found is not None or head_is_damaged(epoch.chain_path):
                self.notes += (
                    f"the hash chain of {epoch.path.name} was damaged from the "
                    "beginning: it is made again, from the rows as they now are",
                )
            create_chain(epoch.chain_path, epoch.start, before)
            found = read_chain(epoch.chain_path)
            assert found is not None
        elif found.last > store.last:
            self.notes += (
                f"the hash chain of {epoch.path.name} vouches for events up to "
                f"{found.last}, and its log ends with {store.last}: events were lost, "
                "or an older file was put in its place",
            )
            found = found.until(store.last)
        elif found.damaged:
            self.notes += (
                f"the hash chain of {epoch.path.name} was damaged after event "
                f"{found.last}: it is made again from there, from the rows as they "
                "now are",
            )
        elif store.last - found.last > STRETCH_ROWS:
            self.notes += (
                f"the hash chain of {epoch.path.name} is whole up to event "
                f"{found.last} only: it is made again from there",
            )
        if self._chain_anew:
            found = found.until(epoch.start)
        chain = Chain(epoch.chain_path, found)
        chain.catch_up(store.last, store.read)
        return chain

    def _add_to_chain(self, values: list[bytes]) -> None:
        if self._chain is not None:
            self._chain.add(values)
            self._note_chain_fault()
        elif monotonic() >= self._chain_due:
            try:
                self._begin_chain()  # with these, which are in the log
            except TreadleError as error:
                self._end_chain()
                self._put_chain_off(error.message)

    def _note_chain_fault(self) -> None:
        chain = self._chain
        if chain is not None and chain.fault:
            self._end_chain()
            self._put_chain_off(chain.fault)

    def _put_chain_off(self, why: str) -> None:
        """Until a commit that comes later: the disk may answer again by then."""
        self.chain_fault = why
        self._chain_due = monotonic() + CHAIN_RETRY_S

    def _end_chain(self) -> None:
        chain, self._chain = self._chain, None
        if chain is not None:
            chain.close()

    def seal(self) -> bytes:
        """The link of the last event, in a chain that is durable up to there."""
        if self._chain is None:
            self._begin_chain()
        if self._chain is None:
            raise OSError(f"the hash chain cannot be written: {self.chain_fault}")
        try:
            return self._chain.seal()
        except OSError:
            # After a failed sync, what can be read may never reach the disk.
            self._chain_anew = True
            raise

    # --- epochs come and go ---------------------------------------------------

    def prepare_roll(self, runtime: str) -> None:
        """See EventLog."""
        live = self._live
        self._prepared = prepare_epoch(
            live.path.parent, self.meta, runtime, map_size=live.map_size
        )

    def roll(self) -> int | None:
        """See EventLog. Takes some milliseconds: the chain is sealed, and a name
        made durable."""
        live, last = self._live, self.last
        if last == self._parts[-1][0].start:
            return None
        prepared, self._prepared = self._prepared, None
        assert prepared is not None
        log_dir = prepared.parent
        path = log_dir / f"0i{last}"
        try:
            link = self.seal()
            create_chain(prepared / CHAIN_FILE, last, link)
            _clear_unfinished(path)
            os.rename(prepared, path)
        except OSError as error:
            raise explain_disk(error, log_dir, "rolling") from error
        # From here on a next start may find either.
        try:
            sync_directory(log_dir)
            epoch = find_epochs(log_dir)[0][-1]
            assert epoch.path == path
            store = LmdbStore(path, start=last, map_size=live.map_size)
        except (OSError, TreadleError) as error:
            raise live.fail(error, "rolling") from error
        live.committed = _ignore
        self._end_chain()
        self._parts += ((epoch, store),)
        self._begin_chain()
        try:
            live.retire()
        except (lmdb.Error, TreadleError) as error:
            raise store.fail(error, "rolling") from error
        return last

    def take_oldest(self) -> None:
        """See EventLog. The files of that epoch stay, under a name that `sweep`
        finds."""
        assert len(self._parts) > KEEP_MIN
        epoch, store = self._parts[0]
        aside = epoch.path.with_name(_CHOPPED + epoch.path.name)
        try:
            os.rename(epoch.path, aside)
            self._parts = self._parts[1:]
            store.close()
            sync_directory(aside.parent)
        except OSError as error:
            raise explain_disk(error, epoch.path.parent, "chopping") from error


def _clear_unfinished(path: Path) -> None:
    """Another runtime's roll that was cut off, in the way of ours. (It holds no
    event: `_check_left_out` saw to that.)"""
    if path.is_dir() and not (path / "epoc.txt").exists():
        shutil.rmtree(path)


def _ignore(_: list[bytes]) -> None:
    pass


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
    open_it = partial(
        open_log_at_risk, log_dir, read_only=read_only, live=live, map_size=map_size
    )
    if not live:
        rehearse(log_dir, lambda: open_it().rehearse(), read_only=read_only)
    return open_it()


def open_log_at_risk(
    log_dir: Path,
    *,
    read_only: bool = False,
    live: bool = False,
    map_size: int = MAP_SIZE_MAX,
) -> Log:
    """As `open_log`, but LMDB may abort this process if a page is damaged."""
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
    _check_left_out(log_dir, epochs, live)
    if not epochs:
        raise TreadleError(
            "log-missing",
            f"there is no epoch in {log_dir}",
            "restore the pier from a copy",
        )
    stores: list[LmdbStore] = []
    try:
        for epoch in epochs:
            _check_file(epoch.path)
            newest = epoch is epochs[-1]
            stores.append(
                LmdbStore(
                    epoch.path,
                    start=epoch.start,
                    read_only=read_only or not newest,
                    live=live,
                    map_size=map_size if newest else 0,
                )
            )
        return Log(epochs, stores, notes)
    except TreadleError:
        for store in stores:
            store.close()
        raise


def open_epoch(path: Path) -> tuple[Epoch, LmdbStore]:
    """One epoch for reading, wherever it lies.

    :raises TreadleError: log-missing, log-newer, log-bad, meta-bad, lmdb-version
    """
    check_lmdb_version()
    for epoch in find_epochs(path.parent)[0]:
        if epoch.path == path:
            _check_file(path)
            return epoch, LmdbStore(path, start=epoch.start, read_only=True, map_size=0)
    raise TreadleError(
        "log-missing",
        f"there is no epoch at {path}",
        "an epoch is a directory 0iN with epoc.txt and data.mdb in it",
    )


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
