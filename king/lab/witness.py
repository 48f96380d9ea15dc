"""The witness seen from Python: make a trace, plan a fault, read what happened.

Owns: one trace file; the layout of native/witness.c, which is its twin.
Invariants: records come in the one order in which their calls began, across
    threads and processes; a record whose call never came back is not `done`.
Limits: SIZE bytes of records; what finds no room sets `overflow`, and such a
    trace is refused rather than read as if it were whole.
"""

from __future__ import annotations

import ctypes
import errno
import importlib.machinery
import mmap
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from king.errors import TreadleError

__all__ = [
    "KING",
    "NO_FAULT",
    "ROLES",
    "SERF",
    "Call",
    "Do",
    "Fault",
    "Kind",
    "Trace",
    "attach",
    "environment",
    "library_path",
]

SIZE = 1 << 30
"""Sparse: only what is recorded takes room."""

KING, SERF = 0, 1
ROLES = ("king", "serf")

_MAGIC = b"witness\n"
_FIRST = 4096
_CONTROL = struct.Struct("<8sQQ")
_USED = 16
_CALLS = 24
_HALTED = 44
_OVERFLOW = 48
_WITH_DATA = 52
_FAULT = struct.Struct("<IIQII")
_FAULT_AT = 56
_HITS = 80
_RECORD = struct.Struct("<IHHiiqqqiIQII")


class Kind(IntEnum):
    """What was called; see native/witness.c."""

    OPEN = 1
    CLOSE = 2
    WRITE = 3
    TRUNCATE = 4
    ALLOCATE = 5
    SYNC = 6
    RENAME = 7
    UNLINK = 8
    LINK = 9
    MKDIR = 10
    NOTE = 11


class Do(IntEnum):
    """What befalls a call."""

    NOTHING = 0
    ERRNO = 1
    SHORT = 2
    SLOW = 3
    KILL_BEFORE = 4
    KILL_TORN = 5
    KILL_AFTER = 6
    HALT = 7


@dataclass(frozen=True, slots=True)
class Fault:
    """At the `at`th call (from 1) of a role: do this. `every`: and at each one
    after it, until the fault is lifted."""

    do: Do
    role: int = KING
    at: int = 0
    argument: int = 0
    every: bool = False

    def __str__(self) -> str:
        if self.do is Do.NOTHING:
            return "no fault"
        what = self.do.name.lower().replace("_", " ")
        if self.do is Do.ERRNO:
            what = errno.errorcode.get(self.argument, str(self.argument))
        when = "from" if self.every else "at"
        return f"{what} {when} call {self.at} of the {ROLES[self.role]}"


NO_FAULT = Fault(Do.NOTHING)


@dataclass(frozen=True, slots=True)
class Call:
    """One recorded call. `path` is absolute; `result` as libc gave it."""

    index: int
    kind: Kind
    process: int
    fd: int
    flags: int
    offset: int
    length: int
    result: int
    error: int
    done: bool
    nanoseconds: int
    path: str
    other: str
    data: bytes


class Trace:
    """A trace file, shared with those that are watched. A context manager."""

    def __init__(self, path: Path, root: Path, *, with_data: bool = True) -> None:
        """Make it anew; `root` is the directory to watch."""
        with path.open("wb") as file:
            file.truncate(SIZE)
        self._open(path, root)
        self._kept = False
        self._put(_WITH_DATA, with_data)
        _CONTROL.pack_into(self._map, 0, _MAGIC, SIZE, _FIRST)

    @classmethod
    def opened(cls, path: Path, root: Path) -> Trace:
        """One that was copied, to be read.

        :raises OSError, ValueError: it is none.
        """
        self = cls.__new__(cls)
        self._open(path, root)
        self._kept = True
        if self._map[: len(_MAGIC)] != _MAGIC:
            raise ValueError(f"{path} is no trace")
        return self

    def _open(self, path: Path, root: Path) -> None:
        self.path = path
        self.root = root
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._map = mmap.mmap(descriptor, 0)
        finally:
            os.close(descriptor)

    def copy(self, path: Path) -> None:
        """What was recorded so far."""
        path.write_bytes(self._map[: min(self.used, SIZE)])

    def __enter__(self) -> Trace:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._map.close()
        if not self._kept:
            self.path.unlink(missing_ok=True)

    # --- the fault ------------------------------------------------------------

    def plan(self, fault: Fault) -> None:
        """Calls are counted from here on, and this one is struck."""
        struct.pack_into("<QQ", self._map, _CALLS, 0, 0)
        struct.pack_into("<I", self._map, _HITS, 0)
        _FAULT.pack_into(self._map, _FAULT_AT, 0, 0, 0, 0, 0)
        if fault.do is not Do.NOTHING:
            words = (fault.role, fault.at, fault.argument, int(fault.every))
            _FAULT.pack_into(self._map, _FAULT_AT, 0, *words)
            self._put(_FAULT_AT, fault.do)  # last: from now on it strikes

    def lift(self) -> None:
        """The disk has room again, is writable again, ..."""
        self._put(_FAULT_AT, Do.NOTHING)

    @property
    def hits(self) -> int:
        """How often the fault struck."""
        return self._get(_HITS)

    @property
    def halted(self) -> int:
        """The process that stands still and waits for the lab; 0: none."""
        return self._get(_HALTED)

    def go_on(self) -> None:
        self._put(_HALTED, 0)

    @property
    def calls(self) -> tuple[int, int]:
        """How many calls that a fault could strike: king's, serf's."""
        king, serf = struct.unpack_from("<QQ", self._map, _CALLS)
        return king, serf

    def _get(self, at: int) -> int:
        return int.from_bytes(self._map[at : at + 4], "little")

    def _put(self, at: int, value: int) -> None:
        self._map[at : at + 4] = value.to_bytes(4, "little")

    # --- what happened --------------------------------------------------------

    @property
    def used(self) -> int:
        """Where the next record will be: a mark for `read`."""
        return int(struct.unpack_from("<Q", self._map, _USED)[0])

    def read(self, start: int = _FIRST) -> Iterator[Call]:
        """The calls since the mark `start`, in order.

        :raises TreadleError: failed
        """
        if self._get(_OVERFLOW):
            raise TreadleError(
                "failed",
                f"the run wrote more than the {SIZE >> 20} MiB that a trace holds",
                "record a shorter scenario, or a smaller ship",
            )
        at, end = start, min(self.used, SIZE)
        index = 0
        with_data = self._get(_WITH_DATA)
        while at < end:
            fields = _RECORD.unpack_from(self._map, at)
            size, kind, process, fd, flags, offset, length, result, error = fields[:9]
            state, nanoseconds, path_size, other_size = fields[9:]
            if not size:
                return  # its process died as it began
            body = at + _RECORD.size
            path_end = body + path_size
            data_at = path_end + other_size
            data = b""
            if kind == Kind.WRITE and with_data:
                data = self._map[data_at : data_at + length]
            yield Call(
                index,
                Kind(kind),
                process,
                fd,
                flags,
                offset,
                length,
                result,
                error,
                state == 1,
                nanoseconds,
                self._map[body:path_end].decode("utf-8", "surrogateescape"),
                self._map[path_end:data_at].decode("utf-8", "surrogateescape"),
                data,
            )
            at += size
            index += 1


# --- the library --------------------------------------------------------------


def library_path() -> Path:
    """Where the built witness is.

    :raises TreadleError: failed
    """
    folder = Path(__file__).parent
    for suffix in importlib.machinery.EXTENSION_SUFFIXES:
        path = folder / f"_witness{suffix}"
        if path.is_file():
            return path
    raise TreadleError(
        "failed",
        f"the witness library is not in {folder}",
        "install treadle whole: scripts/setup",
    )


def environment(trace: Trace | None = None) -> dict[str, str]:
    """What a process must have to be watched; without a trace: to be able to
    `attach` itself later."""
    preload = [str(library_path()), *filter(None, [os.environ.get("LD_PRELOAD")])]
    words = {"LD_PRELOAD": ":".join(preload)}
    if trace is not None:
        words["TREADLE_WITNESS"] = str(trace.path)
        words["TREADLE_WITNESS_ROOT"] = str(trace.root)
    return words


class Notes:
    """The lab's own words in a trace: what it was told, and when."""

    def __init__(self, trace: Trace) -> None:
        self._library = ctypes.CDLL(str(library_path()), use_errno=True)
        path, root = os.fsencode(trace.path), os.fsencode(trace.root)
        # The lab holds the library too, and is not watched by it: it was not
        # preloaded here, so nothing of ours goes through it.
        if self._library.witness_attach(path, root, 1):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(trace.path))

    def write(self, text: str) -> None:
        self._library.witness_note(text.encode())


def attach(trace: Path, root: Path, role: int) -> None:
    """Be watched from here on: for a process that has the library preloaded."""
    library = ctypes.CDLL(None, use_errno=True)
    if library.witness_attach(os.fsencode(trace), os.fsencode(root), role):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(trace))
