"""The bare machine: a scratch folder on a real disk, and floors of disk,
pipe and processor.

Every floor does what the measured thing cannot do without, and nothing else.
"""

from __future__ import annotations

import mmap
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import lmdb

__all__ = [
    "ROOT",
    "Lmdb",
    "Machine",
    "append_rate",
    "cursor_to_pipe_rate",
    "direct_write_s",
    "filesystem",
    "python_start_s",
    "scratch",
    "write_s",
]

ROOT = Path(__file__).resolve().parents[2]
_MAP_SIZE = 1 << 40
_MEMORY = ("tmpfs", "ramfs", "devtmpfs")
_ROWS_A_FRAME = 1_024


class Machine:
    """Where the bench works, and the C programs it compiled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._number = 0

    def place(self, name: str) -> Path:
        """A fresh directory."""
        self._number += 1
        path = self.folder / f"{self._number}-{name}"
        path.mkdir()
        return path

    def drop(self, path: Path) -> None:
        """Give the room back, and let the disk settle."""
        shutil.rmtree(path, ignore_errors=True)

    @property
    def floors(self) -> Path:
        return self._compiled("floors", [], ["-O2"])

    @property
    def serial(self) -> Path:
        return self._of_native("serial", "noun", "nursery", "mug", "jam", "status")

    @property
    def collect(self) -> Path:
        units = ("home", "collect", "noun", "nursery", "mug", "status")
        return self._of_native("collect", *units)

    def _of_native(self, name: str, *units: str) -> Path:
        sources = [str(ROOT / "native" / f"{unit}.c") for unit in units]
        flags = ["-O3", f"-I{ROOT / 'native'}", "-pthread"]
        return self._compiled(name, sources, flags)

    def _compiled(self, name: str, more: Sequence[str], flags: Sequence[str]) -> Path:
        program = self.folder / name
        if not program.exists():
            source = Path(__file__).with_name(f"{name}.c")
            base = ["cc", "-std=c11", "-D_GNU_SOURCE", *flags, "-o", str(program)]
            subprocess.run([*base, str(source), *more], check=True)
        return program

    def write_noun(self, what: str, count: int, path: Path) -> None:
        """The jam of a noun of serial.c."""
        with path.open("wb") as out:
            command = [str(self.serial), "write", what, str(count)]
            subprocess.run(command, stdout=out, check=True)

    def c_loop_s(self, *words: str) -> float:
        """Seconds of one round of a computation in floors.c, on its own clock."""
        command = [str(self.floors), *words, "1"]
        out = subprocess.run(command, check=True, capture_output=True, text=True)
        return int(out.stdout) / 1e9

    def echo_rate(self, size: int, seconds: float) -> float:
        """Round trips a second of `size` bytes over two bare pipes."""
        with subprocess.Popen(
            [str(self.floors), "echo"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        ) as echo:
            assert echo.stdin is not None
            assert echo.stdout is not None
            there, back = echo.stdin.fileno(), echo.stdout.fileno()
            data = bytes(size)
            count = 0
            begun = time.perf_counter()
            while (passed := time.perf_counter() - begun) < seconds:
                for _ in range(100):
                    os.write(there, data)
                    left = size
                    while left:
                        left -= len(os.read(back, left))
                count += 100
            echo.stdin.close()
            echo.wait()
        return count / passed

    @contextmanager
    def sink(self) -> Iterator[int]:
        """A pipe that somebody reads empty."""
        with subprocess.Popen(
            [str(self.floors), "sink"], stdin=subprocess.PIPE, bufsize=0
        ) as reader:
            assert reader.stdin is not None
            yield reader.stdin.fileno()
            reader.stdin.close()
            reader.wait()


# --- disk ---------------------------------------------------------------------


def filesystem(path: Path) -> str:
    """The type of the filesystem that holds `path`."""
    best, kind = "", "unknown"
    target = str(path.resolve())
    with open("/proc/mounts") as mounts:
        for line in mounts:
            _, point, name, *_ = line.split()
            inside = target == point or target.startswith(point.rstrip("/") + "/")
            if inside and len(point) >= len(best):
                best, kind = point, name
    return kind


def scratch(chosen: Path | None) -> Path:
    """A new directory on a disk, not in memory; in `chosen`, if given."""
    if chosen is not None:
        chosen.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix="treadle-bench-", dir=chosen))
    for parent in (tempfile.gettempdir(), "/var/tmp", str(ROOT)):
        if os.access(parent, os.W_OK) and filesystem(Path(parent)) not in _MEMORY:
            return Path(tempfile.mkdtemp(prefix="treadle-bench-", dir=parent))
    raise SystemExit("bench: no writable directory on a disk; give one: --dir")


class Lmdb:
    """Bare commits with the flags of king.log.store, in one growing log."""

    def __init__(self, folder: Path) -> None:
        self._env = lmdb.open(str(folder), map_size=_MAP_SIZE, max_dbs=2)
        self._events = self._env.open_db(b"EVENTS", integerkey=True)
        self._next = 1

    def close(self) -> None:
        self._env.close()

    def commits(self, batch: int, size: int, seconds: float) -> tuple[float, list[int]]:
        """(events a second, nanoseconds of each commit)."""
        value = bytes(size)
        times: list[int] = []
        clock = time.perf_counter_ns
        begun = clock()
        end = begun + int(seconds * 1e9)
        while (at := clock()) < end:
            first = self._next
            rows = [
                (number.to_bytes(8, "little"), value)
                for number in range(first, first + batch)
            ]
            with (
                self._env.begin(write=True, db=self._events) as txn,
                txn.cursor() as cursor,
            ):
                cursor.putmulti(rows, dupdata=False, overwrite=False, append=True)
            self._next += batch
            times.append(clock() - at)
        return len(times) * batch / ((clock() - begun) / 1e9), times


def append_rate(folder: Path, size: int, seconds: float) -> float:
    """Appends of `size` bytes a second, each with an fdatasync."""
    descriptor = os.open(folder / "append", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    data = bytes(size)
    count = 0
    begun = time.perf_counter()
    while (passed := time.perf_counter() - begun) < seconds:
        os.write(descriptor, data)
        os.fdatasync(descriptor)
        count += 1
    os.close(descriptor)
    return count / passed


def write_s(folder: Path, size: int) -> float:
    """Seconds to write `size` bytes to a new file, in large writes, and sync."""
    path = folder / "written"
    block = os.urandom(1 << 20)
    begun = time.perf_counter()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    left = size
    while left > 0:
        left -= os.write(descriptor, block[: min(left, len(block))])
    os.fdatasync(descriptor)
    os.close(descriptor)
    passed = time.perf_counter() - begun
    path.unlink()
    return passed


def direct_write_s(folder: Path, size: int) -> float:
    """As `write_s`, past the page cache: what the disk itself takes."""
    path = folder / "written"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_DIRECT
    with mmap.mmap(-1, 1 << 20) as block:  # aligned, as the disk wants it
        block[:] = os.urandom(len(block))
        begun = time.perf_counter()
        descriptor = os.open(path, flags)
        for _ in range(-(-size // len(block))):
            if os.write(descriptor, block) != len(block):
                raise SystemExit(f"bench: a short write to {path}")
        os.fdatasync(descriptor)
        os.close(descriptor)
        passed = time.perf_counter() - begun
    path.unlink()
    return passed


def cursor_to_pipe_rate(machine: Machine, log: Path) -> float:
    """Rows a second out of a log's cursor, through a bare pipe."""
    env = lmdb.open(str(log), max_dbs=2, readonly=True, lock=False)
    try:
        events = env.open_db(b"EVENTS", integerkey=True, create=False)
        with machine.sink() as pipe, env.begin(db=events) as txn:
            begun = time.perf_counter()
            count = 0
            parts: list[bytes] = []
            for _, value in txn.cursor():
                count += 1
                parts.append(struct.pack("<I", len(value)) + value)
                if len(parts) == _ROWS_A_FRAME:
                    _write_all(pipe, b"".join(parts))
                    parts.clear()
            _write_all(pipe, b"".join(parts))
            return count / (time.perf_counter() - begun)
    finally:
        env.close()


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


# --- processes ----------------------------------------------------------------


def python_start_s(*modules: str) -> float:
    """Seconds that a Python with these modules takes to start and to end."""
    code = f"import {','.join(modules)}" if modules else ""
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - begun
