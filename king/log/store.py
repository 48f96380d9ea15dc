"""One event log: append a batch, read a range, first and last.

Owns: the LMDB environment in one directory, in the byte layout of Vere
    (specification 2), and a twin in memory for tests.
Invariants: events are contiguous; a batch is in the log whole and durably,
    or not at all; after one failed commit the store refuses everything,
    because what a read then shows may never have reached the disk.
Limits: one process, one writer thread at a time; any number of threads may
    read beside it, without making it wait. Every call may wait for the disk: an
    async caller runs it in a thread, and awaits it to the end. No transaction
    outlives a call.

The environment has two databases. EVENTS: key = event number, u64 LE
(MDB_INTEGERKEY); value = mug of the kernel after the event, u32 LE (0 where
it is not known), then the jam of the job. META: names to little-endian
integers without their trailing zero bytes.
"""

from __future__ import annotations

import errno
import os
import struct
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeVar

import lmdb

from king.disk import explain_disk, sync_file
from king.errors import LogFailed, TreadleError
from king.log.rehearsal import NEWEST_ROWS
from proto.message import Jam, Row

__all__ = [
    "FORMAT",
    "MAP_SIZE_MAX",
    "EventLog",
    "Head",
    "LmdbStore",
    "MemoryLog",
    "Meta",
    "check_lmdb_version",
    "create_store",
    "decode_meta",
    "encode_meta",
]

FORMAT = 3
"""META version: 1 one log, 2 between the two, 3 epochs."""

MAP_SIZE_MAX = 1 << 40
MAP_SIZE_MIN = 64 << 30
"""Address space, not disk. Some machines refuse 1 TiB: we halve."""

ROWS_MAX = 1024
BYTES_MAX = 64 << 20

Head = tuple[int, int, bytes]
"""Of an event: mug, bytes of its job, the first of them."""
T = TypeVar("T")

_LOCK_BYTES = 8192
"""Of LMDB's lock file, with as many readers as it has room for by default."""

_EVENTS = b"EVENTS"
_META = b"META"
_KEY = struct.Struct("<Q")
_MUG = struct.Struct("<I")


# --- META -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Meta:
    """Whose log it is. `life` rows at the start go through the lifecycle."""

    who: int
    fake: bool
    life: int
    version: int = FORMAT


_META_WIDTHS = {b"version": 4, b"who": 16, b"fake": 1, b"life": 4}


def _strip(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8, "little")


def encode_meta(meta: Meta) -> dict[bytes, bytes]:
    """META's rows. Loobeans: yes is zero, and zero is the empty value."""
    assert meta.who < 1 << 128
    assert meta.life < 1 << 31
    return {
        b"version": _strip(meta.version),
        b"who": _strip(meta.who),
        b"fake": _strip(0 if meta.fake else 1),
        b"life": _strip(meta.life),
    }


def decode_meta(rows: dict[bytes, bytes], where: Path) -> Meta:
    """Read META's rows, strictly.

    :raises TreadleError: meta-bad, log-newer
    """
    numbers: dict[bytes, int] = {}
    for name, width in _META_WIDTHS.items():
        value = rows.get(name)
        key = name.decode()
        if value is None:
            raise _meta_bad(where, f"{key} is missing")
        if len(value) > width:
            raise _meta_bad(where, f"{key} is {len(value)} bytes, at most {width}")
        numbers[name] = int.from_bytes(value, "little")
    version = numbers[b"version"]
    if version > FORMAT:
        raise TreadleError(
            "log-newer",
            f"the log in {where} has format {version}; we know 1 to {FORMAT}",
            "start it with the newer runtime that wrote it; nothing was changed",
        )
    if version == 0:
        raise _meta_bad(where, "version is 0")
    if numbers[b"fake"] > 1:
        raise _meta_bad(where, f"fake is {numbers[b'fake']}, not a loobean")
    if numbers[b"life"] >= 1 << 31:
        raise _meta_bad(where, f"life is {numbers[b'life']}, not below 2^31")
    return Meta(
        who=numbers[b"who"],
        fake=numbers[b"fake"] == 0,
        life=numbers[b"life"],
        version=version,
    )


def _meta_bad(where: Path, why: str) -> TreadleError:
    return TreadleError(
        "meta-bad",
        f"META of the log in {where}: {why}",
        "restore the pier from a copy; nothing was changed",
    )


# --- the interface ----------------------------------------------------------


class EventLog(Protocol):
    """What the king knows of a log. Numbers are 1-based; 0 means none."""

    @property
    def meta(self) -> Meta: ...

    @property
    def first(self) -> int:
        """Number of the first event held; 0 if none."""
        ...

    @property
    def last(self) -> int:
        """Number of the last durable event; 0 if none."""
        ...

    def append(self, first: int, rows: Sequence[Row]) -> None:
        """Append `rows` as events first, first + 1, ... in one durable commit.

        `first` must be last + 1 (an assertion: our bug otherwise).

        :raises LogFailed: nothing may be appended ever after; stop the ship
        """
        ...

    def read(
        self, first: int, rows_max: int = ROWS_MAX, bytes_max: int = BYTES_MAX
    ) -> list[Row]:
        """Events from `first` on, at most so many; [] beyond the last.

        At least one row is given, however big. May be called in any thread: the
        writer does not wait for it.

        :raises TreadleError: log-gap, log-bad
        """
        ...

    def settle(self) -> None:
        """Make durable what is visible, before the tail is trusted.

        :raises LogFailed: as for append
        """
        ...

    def prepare_roll(self, runtime: str) -> None:
        """What takes long of a roll. In any thread, beside appends.

        :raises TreadleError: disk-full, disk-error; nothing has changed
        """
        ...

    def roll(self) -> int | None:
        """After `prepare_roll`: let an epoch begin with the next event; the last
        one before it. None where the newest epoch holds no event yet.

        :raises LogFailed: as for append
        :raises TreadleError: disk-full, disk-error; nothing has changed
        """
        ...

    def take_oldest(self) -> None:
        """Let the log begin with the second epoch. Never one of the newest two.

        :raises TreadleError: disk-error
        """
        ...

    def size_bytes(self) -> int:
        """Room that the log takes on disk."""
        ...

    def close(self) -> None: ...


def _gap(where: object, expected: int, found: str) -> TreadleError:
    return TreadleError(
        "log-gap",
        f"the log in {where} has a hole: expected event {expected}, found {found}",
        "run `treadle check` on a copy; events before the hole can be replayed "
        "with `treadle replay --until`; nothing was changed",
    )


# --- in memory --------------------------------------------------------------


class MemoryLog:
    """A log that forgets. The oracle of the tests, and a log for the fakes.

    `starts`: of its epochs. `fail_next`, if set, makes the next append, settle or
    roll fail as a disk would.
    """

    def __init__(self, meta: Meta, rows: Sequence[Row] = (), start: int = 0) -> None:
        self.meta = meta
        self.fail_next: str | None = None
        self.starts = [start]
        self._rows: list[Row] = list(rows)
        self._failure: LogFailed | None = None

    @property
    def first(self) -> int:
        return self.starts[0] + 1 if self._rows else 0

    @property
    def last(self) -> int:
        return self.starts[0] + len(self._rows)

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _maybe_fail(self) -> None:
        if self.fail_next is not None:
            self._failure = LogFailed("log-failed", self.fail_next)
            raise self._failure

    def append(self, first: int, rows: Sequence[Row]) -> None:
        self._check()
        assert first == self.last + 1, (first, self.last)
        self._maybe_fail()
        self._rows.extend(rows)

    def read(
        self, first: int, rows_max: int = ROWS_MAX, bytes_max: int = BYTES_MAX
    ) -> list[Row]:
        self._check()
        if first > self.last:
            return []
        if first <= self.starts[0]:
            raise _gap("memory", first, f"event {self.starts[0] + 1}")
        index = first - self.starts[0] - 1
        rows: list[Row] = []
        size = 0
        for row in self._rows[index : index + rows_max]:
            size += len(row.job) + _MUG.size
            if rows and size > bytes_max:
                break
            rows.append(row)
        return rows

    def settle(self) -> None:
        self._check()
        self._maybe_fail()

    def prepare_roll(self, runtime: str) -> None:
        self._check()

    def roll(self) -> int | None:
        self._check()
        if self.last == self.starts[-1]:
            return None
        self._maybe_fail()
        self.starts.append(self.last)
        return self.last

    def take_oldest(self) -> None:
        assert len(self.starts) > 2
        del self._rows[: self.starts[1] - self.starts[0]]
        del self.starts[0]

    def size_bytes(self) -> int:
        return sum(len(row.job) + _MUG.size for row in self._rows)

    def close(self) -> None:
        pass


# --- LMDB -------------------------------------------------------------------


def _explain(
    error: Exception, where: Path, doing: str, kind: type[TreadleError] = TreadleError
) -> TreadleError:
    """As `explain_disk`, with LMDB's errors as the system's."""
    if isinstance(error, lmdb.ReadonlyError):
        error = OSError(errno.EROFS, str(error))
    elif isinstance(error, lmdb.DiskError):
        full = "No space" in str(error)
        error = OSError(errno.ENOSPC if full else errno.EIO, str(error))
    return explain_disk(error, where, doing, kind)


def check_lmdb_version() -> None:
    """Refuse an LMDB library with another file format.

    :raises TreadleError: lmdb-version
    """
    version = lmdb.version()
    if version[:2] != (0, 9):
        raise TreadleError(
            "lmdb-version",
            f"this LMDB library is {'.'.join(map(str, version))}; piers are in the "
            "format of 0.9",
            "install the registry's own build: pip install 'lmdb>=3,<4'",
        )


def _fault_at_open(error: lmdb.Error, path: Path) -> TreadleError:
    match error:
        case lmdb.LockError() | lmdb.ReadersFullError():
            return TreadleError(
                "log-open", f"cannot lock the log in {path}: {error}", "try again"
            )
        case lmdb.VersionMismatchError():
            return TreadleError(
                "log-newer",
                f"the log in {path} was written by another LMDB: {error}",
                "start it with the runtime that wrote it; nothing was changed",
            )
        case lmdb.InvalidError() | lmdb.CorruptedError() | lmdb.PageNotFoundError():
            return TreadleError(
                "log-bad",
                f"the log in {path} is damaged: {error}",
                "restore the pier from a copy; nothing was changed",
            )
    return _explain(error, path, "opening the log")


def _take_lock_room(path: Path) -> None:
    """LMDB makes its lock file as a hole, and maps it: on a full disk, to touch
    that is a SIGBUS.

    :raises TreadleError: disk-full
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        descriptor = os.open(path / "lock.mdb", flags, 0o664)
        try:
            if os.fstat(descriptor).st_blocks * 512 < _LOCK_BYTES:
                os.posix_fallocate(descriptor, 0, _LOCK_BYTES)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise explain_disk(error, path, "opening the log") from error
        # Whatever else is wrong, LMDB will say.


def _open_environment(
    path: Path, *, read_only: bool, lock: bool, map_size: int
) -> lmdb.Environment:
    """Open, with as much address space as the machine grants."""
    if lock:
        _take_lock_room(path)
    while True:
        try:
            return lmdb.open(
                str(path),
                map_size=map_size,
                max_dbs=2,
                mode=0o664,
                readonly=read_only,
                lock=lock,
                create=not read_only,
            )
        except lmdb.MemoryError as error:
            if map_size <= MAP_SIZE_MIN:
                raise _fault_at_open(error, path) from error
            map_size //= 2
        except lmdb.Error as error:
            raise _fault_at_open(error, path) from error


def _read_meta(
    txn: lmdb.Transaction[bytes], database: lmdb._Database, where: Path
) -> Meta:
    rows = {bytes(key): bytes(value) for key, value in txn.cursor(database)}
    return decode_meta(rows, where)


def create_store(
    path: Path, meta: Meta, *, events: bool = True, map_size: int = MAP_SIZE_MAX
) -> None:
    """Make a new environment in the existing, empty directory `path`.

    `events` False: META only, as in the top directory of a log with epochs.

    :raises TreadleError: log-failed, disk-full, disk-error
    """
    check_lmdb_version()
    try:
        env = _open_environment(path, read_only=False, lock=True, map_size=map_size)
        try:
            if events:
                env.open_db(_EVENTS, integerkey=True)
            database = env.open_db(_META)
            with env.begin(write=True, db=database) as txn:
                for key, value in encode_meta(meta).items():
                    txn.put(key, value)
        finally:
            env.close()
    except lmdb.Error as error:
        raise _explain(error, path, "creating the log", LogFailed) from error


class _Gate:
    """Any number of readers; or one who changes the map, with no transaction
    open in this process. New readers let him go first."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._readers = 0
        self._taken = False

    @contextmanager
    def reading(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._taken)
            self._readers += 1
        try:
            yield
        finally:
            with self._changed:
                self._readers -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._taken)
            self._taken = True
            self._changed.wait_for(lambda: not self._readers)
        try:
            yield
        finally:
            with self._changed:
                self._taken = False
                self._changed.notify_all()


class LmdbStore:
    """The log in one directory."""

    def __init__(
        self,
        path: Path,
        *,
        start: int = 0,
        read_only: bool = False,
        live: bool = False,
        events: bool = True,
        map_size: int = MAP_SIZE_MAX,
    ) -> None:
        """Open an existing environment, which holds events after `start`.

        `read_only` touches nothing, not even the reader table, unless `live`
        says that another process may be writing meanwhile. `map_size` 0: as
        large as the file, which nobody writes any more.

        :raises TreadleError: log-missing, log-bad, log-newer, meta-bad, ...
        """
        check_lmdb_version()
        if not (path / "data.mdb").is_file():
            raise TreadleError(
                "log-missing",
                f"there is no event log in {path}",
                "restore the pier from a copy",
            )
        self.path = path
        self.committed: Callable[[list[bytes]], None] = _ignore
        """Told of the values of each batch, once they are durable."""
        self._failure: LogFailed | None = None
        self._busy = threading.Lock()
        self._gate = _Gate()
        self._closed = False
        self.read_only = read_only
        self._env = _open_environment(
            path,
            read_only=read_only,
            lock=live or not read_only,
            map_size=map_size or self.size_bytes(),
        )
        try:
            if not read_only:
                self._env.reader_check()
            self._events = self._open_database(_EVENTS) if events else None
            self._meta_database = self._open_database(_META)
            with self._env.begin() as txn:
                self.meta = _read_meta(txn, self._meta_database, path)
            self.first, self.last = self._find_ends()
            self.last = self.last or start
        except lmdb.Error as error:
            self._env.close()
            raise _fault_at_open(error, path) from error
        except TreadleError:
            self._env.close()
            raise

    def _open_database(self, name: bytes) -> lmdb._Database:
        try:
            return self._env.open_db(name, integerkey=name == _EVENTS, create=False)
        except lmdb.NotFoundError as error:
            raise TreadleError(
                "log-bad",
                f"the log in {self.path} has no {name.decode()} database",
                "restore the pier from a copy; nothing was changed",
            ) from error

    def _find_ends(self) -> tuple[int, int]:
        if self._events is None:
            return 0, 0
        with self._env.begin(db=self._events) as txn, txn.cursor() as cursor:
            if not cursor.first():
                return 0, 0
            first = self._number(cursor.key())
            cursor.last()
            return first, self._number(cursor.key())

    def _number(self, key: bytes) -> int:
        if len(key) != _KEY.size:
            raise self._bad(f"a key of {len(key)} bytes")
        number: int = _KEY.unpack(key)[0]
        return number

    def _bad(self, why: str) -> TreadleError:
        return TreadleError(
            "log-bad",
            f"the log in {self.path} holds {why}",
            "run `treadle check` on a copy of the pier; nothing was changed",
        )

    @property
    def map_size(self) -> int:
        size: int = self._env.info()["map_size"]
        return size

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def fail(self, error: Exception, doing: str) -> LogFailed:
        """From here on nothing is believed: the next commit could "succeed"
        after a lost one, and leave a hole."""
        failure = _explain(error, self.path, doing, LogFailed)
        assert isinstance(failure, LogFailed)
        self._failure = failure
        return failure

    def append(self, first: int, rows: Sequence[Row]) -> None:
        assert self._events is not None
        assert not self.read_only
        values = [_MUG.pack(row.mug) + row.job for row in rows]
        items = [
            (_KEY.pack(number), value) for number, value in enumerate(values, first)
        ]
        with self._busy:
            self._check()
            assert first == self.last + 1, (first, self.last)
            doing = f"writing events {first} to {first + len(rows) - 1}"
            try:
                try:
                    self._put(items)
                except lmdb.MapFullError:
                    # Nothing of the batch is in the map, no transaction is
                    # open: growing and trying once more is safe.
                    self._grow(sum(len(value) for _, value in items))
                    self._put(items)
            except (lmdb.Error, OSError) as error:
                raise self.fail(error, doing) from error
            if not self.first:
                self.first = first
            self.last += len(rows)
            self.committed(values)

    def _put(self, items: Sequence[tuple[bytes, bytes]]) -> None:
        with self._env.begin(write=True, db=self._events) as txn:
            with txn.cursor() as cursor:
                _, added = cursor.putmulti(
                    items, dupdata=False, overwrite=False, append=True
                )
            if added != len(items):
                # Leaving by an exception aborts the transaction.
                raise lmdb.KeyExistsError("an event of this number exists already")

    def _grow(self, need: int) -> None:
        size = self.map_size
        with self._gate.alone():
            self._env.set_mapsize(max(2 * size, size + 4 * need))

    def read(
        self, first: int, rows_max: int = ROWS_MAX, bytes_max: int = BYTES_MAX
    ) -> list[Row]:
        return self._take(first, partial(self._rows, first, rows_max, bytes_max))

    def heads(self, first: int, rows_max: int, head_max: int) -> list[Head]:
        """As `read`, but of each job its size and its first bytes alone: the
        pages of a large one are not touched."""
        return self._take(first, partial(self._heads, first, rows_max, head_max))

    def look_again(self) -> None:
        """Where another process writes: see what it has written by now."""
        with self._gate.reading():
            self.first, last = self._find_ends()
            self.last = max(self.last, last)

    def _take(self, first: int, walk: Callable[[], Iterator[T]]) -> list[T]:
        """All that `walk` gives, within one transaction."""
        self._check()
        if first > self.last:
            return []
        try:
            for again in (False, True):
                with self._gate.reading():
                    if self._closed:
                        raise _gap(self.path, first, "an epoch that was taken away")
                    try:
                        return list(walk())
                    except lmdb.MapResizedError:
                        if again:
                            raise
                # Another process, the writer, has grown the map.
                with self._gate.alone():
                    self._env.set_mapsize(0)
        except lmdb.Error as error:
            raise _fault_at_open(error, self.path) from error
        raise AssertionError

    def _rows(self, first: int, rows_max: int, bytes_max: int) -> Iterator[Row]:
        size = 0
        with closing(self._values(first, buffers=False)) as values:
            for count, value in enumerate(islice(values, rows_max)):
                size += len(value)
                if count and size > bytes_max:
                    return
                yield Row(_MUG.unpack_from(value)[0], Jam(value[_MUG.size :]))

    def _heads(self, first: int, rows_max: int, head_max: int) -> Iterator[Head]:
        end = _MUG.size + head_max
        with closing(self._values(first, buffers=True)) as values:
            for value in islice(values, rows_max):
                head = bytes(value[:end])
                mug = int.from_bytes(head[: _MUG.size], "little")
                yield mug, len(value) - _MUG.size, head[_MUG.size :]

    def _begin(self, buffers: bool) -> lmdb.Transaction[Any]:
        if buffers:
            return self._env.begin(db=self._events, buffers=True)
        return self._env.begin(db=self._events)

    def _values(self, first: int, *, buffers: bool) -> Generator[Any, None, None]:
        """What is logged from event `first` on, to the last; no holes."""
        count = 0
        last = self.last  # before the transaction: it may rise at any moment
        with (
            self._begin(buffers) as txn,
            txn.cursor() as cursor,
        ):
            if not cursor.set_range(_KEY.pack(first)):
                raise _gap(self.path, first, "the end")
            for number, (key, value) in enumerate(cursor, first):
                if key != _KEY.pack(number):
                    found = f"event {self._number(bytes(key))}"
                    raise _gap(self.path, number, found)
                if len(value) <= _MUG.size:
                    raise self._bad(f"{len(value)} bytes as event {number}")
                count += 1
                yield value
                if number == last:
                    # Whatever lies beyond was appended since we looked.
                    return
        # The walk ended before the last event that the log is known to have.
        raise _gap(self.path, first + count, "the end")

    def settle(self) -> None:
        """Rewrite META as it is: LMDB syncs the whole file in doing so. Opened
        for reading, sync the file."""
        with self._busy:
            self._check()
            try:
                if self.read_only:
                    sync_file(self.path / "data.mdb")
                    return
                with self._env.begin(write=True, db=self._meta_database) as txn:
                    for key, value in encode_meta(self.meta).items():
                        txn.put(key, value)
            except (lmdb.Error, OSError) as error:
                raise self.fail(error, "settling the log") from error

    def touch(self, first: int) -> None:
        """Come by every page of the rows from `first` on; of a damaged tree that
        runs in a circle, by as many as there should be."""
        count = self.last - max(first, self.first) + 1
        with (
            self._env.begin(db=self._events, buffers=True) as txn,
            txn.cursor() as cursor,
        ):
            if cursor.set_range(_KEY.pack(first)):
                deque(islice(cursor.iternext(), count), maxlen=0)

    def rehearse(self) -> None:
        """Come by the pages that a start does: of the newest rows, and those
        that a commit of one more would change."""
        self.touch(max(self.first, self.last - NEWEST_ROWS + 1))
        if self.read_only:
            return
        with self._env.begin(write=True) as txn:
            for key, value in encode_meta(self.meta).items():
                txn.put(key, value, db=self._meta_database)
            row = _MUG.pack(0) + bytes(_MUG.size)
            txn.put(_KEY.pack(self.last + 1), row, db=self._events, append=True)
            txn.abort()

    def check_count(self) -> None:
        """Refuse a log with a hole, also where no replay would come by it.
        LMDB keeps the count: this reads one page.

        :raises TreadleError: log-gap
        """
        if self._events is None:
            return
        with self._gate.reading(), self._env.begin(db=self._events) as txn:
            count = txn.stat(self._events)["entries"]
            if not self.first or count == self.last - self.first + 1:
                return
            with txn.cursor() as cursor:
                expected = self.first
                for key in cursor.iternext(keys=True, values=False):
                    if self._number(key) != expected:
                        found = f"event {self._number(key)}"
                        raise _gap(self.path, expected, found)
                    expected += 1
        raise self._bad(f"{count} events, counted as others")

    def copy(self, folder: Path) -> None:
        """Write all of it as it is now into the empty directory `folder`; not
        synced. Writers wait only while two pages are copied.

        :raises OSError, lmdb.Error: as it may be
        """
        self._env.copy(str(folder))

    def size_bytes(self) -> int:
        return (self.path / "data.mdb").stat().st_size

    def retire(self) -> None:
        """From here on this one is read only: give back its address space.

        :raises TreadleError: it is closed then
        """
        assert self._events is not None
        with self._busy, self._gate.alone():
            self._env.close()
            self._closed = True
            self._env = _open_environment(
                self.path, read_only=True, lock=False, map_size=self.size_bytes()
            )
            self._events = self._open_database(_EVENTS)
            self._meta_database = self._open_database(_META)
            self.read_only = True
            self._closed = False

    def close(self) -> None:
        with self._busy, self._gate.alone():
            self._closed = True
            self._env.close()


def _ignore(_: list[bytes]) -> None:
    pass
