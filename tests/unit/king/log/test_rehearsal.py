"""A page of LMDB's that is not what it was: refused by name, by whoever reads.

Red here: king/log/rehearsal.py. Without it, the process that opens such a log is
killed by SIGABRT, and this test run with it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from king.errors import TreadleError
from king.log.epoch import create_log, open_log
from king.log.rehearsal import NEWEST_ROWS, check_readable
from king.log.store import Meta
from proto.message import Jam, Row

ROOT = Path(__file__).resolve().parents[4]
PAGE = 4096
LEAF = 0x02
META = Meta(who=0, fake=True, life=1)


def make_log(path: Path, count: int) -> Path:
    rows = [Row(number, Jam(bytes([1 + number % 255]) * 60)) for number in range(count)]
    create_log(path, META, rows, "a test")
    return path / "0i0" / "data.mdb"


def leaves_of_events(data: Path) -> list[int]:
    """Page numbers of leaves with rows, in the order of the file."""
    content = data.read_bytes()
    found: list[int] = []
    for at in range(2 * PAGE, len(content), PAGE):
        number, _, flags, lower = struct.unpack_from("<QHHH", content, at)
        if number == at // PAGE and flags & LEAF and lower > 16 + 2 * 20:
            found.append(number)
    return found


def lose(data: Path, page: int) -> None:
    with data.open("r+b") as file:
        file.seek(page * PAGE)
        file.write(bytes(PAGE))


def test_a_lost_page_of_the_newest_rows_is_refused_by_name(tmp_path: Path) -> None:
    data = make_log(tmp_path / "log", 200)
    lose(data, leaves_of_events(data)[-2])
    before = hashlib.sha256(data.read_bytes()).digest()
    for read_only in (False, True):
        with pytest.raises(TreadleError, match="SIGABRT") as caught:
            open_log(tmp_path / "log", read_only=read_only)
        assert caught.value.code == "log-bad"
        assert "treadle check" in caught.value.hint
    assert hashlib.sha256(data.read_bytes()).digest() == before


@contextlib.contextmanager
def other_thread() -> Iterator[None]:
    """Nobody forks beside it: a process of its own reads."""
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_it_is_so_beside_other_threads(tmp_path: Path) -> None:
    data = make_log(tmp_path / "log", 200)
    lose(data, leaves_of_events(data)[-2])
    before = hashlib.sha256(data.read_bytes()).digest()
    for read_only in (False, True):
        with other_thread(), pytest.raises(TreadleError, match="SIGABRT"):
            open_log(tmp_path / "log", read_only=read_only)
    assert hashlib.sha256(data.read_bytes()).digest() == before


@pytest.mark.parametrize("beside", [contextlib.nullcontext, other_thread])
def test_older_rows_are_read_first_by_whoever_wants_them(
    tmp_path: Path, beside: Callable[[], contextlib.AbstractContextManager[None]]
) -> None:
    data = make_log(tmp_path / "log", 3 * NEWEST_ROWS)
    check_readable(tmp_path / "log", 1)
    lose(data, leaves_of_events(data)[1])
    with beside(), contextlib.closing(open_log(tmp_path / "log")) as log:
        assert log.last == 3 * NEWEST_ROWS
    check_readable(tmp_path / "log", NEWEST_ROWS)
    with pytest.raises(TreadleError, match="SIGABRT"):
        check_readable(tmp_path / "log", 2)


def test_a_rehearsal_changes_nothing(tmp_path: Path) -> None:
    data = make_log(tmp_path / "log", 100)
    before = data.read_bytes()
    log = open_log(tmp_path / "log")
    assert data.read_bytes() == before
    log.append(101, [Row(1, Jam(b"one more"))])
    assert log.read(101) == [Row(1, Jam(b"one more"))]
    log.close()


def test_where_no_child_is_to_be_had_a_good_log_is_opened_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_log(tmp_path / "log", 100)

    def refused(*_: object, **__: object) -> int:
        raise BlockingIOError(errno.EAGAIN, "no more processes")

    monkeypatch.setattr(os, "fork", refused)
    monkeypatch.setattr(subprocess, "run", refused)
    for beside in (contextlib.nullcontext, other_thread):
        with beside(), contextlib.closing(open_log(tmp_path / "log")) as log:
            assert log.last == 100
    check_readable(tmp_path / "log", 1)


def test_a_bug_in_a_child_that_reads_is_told(tmp_path: Path) -> None:
    program = "from king.log_child import in_child; print(in_child({}, lambda: 1 // 0))"
    done = subprocess.run(
        [sys.executable, "-c", program.format(f"{str(tmp_path)!r}")],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert "ZeroDivisionError" in done.stderr
    assert done.stdout == "1\n"
