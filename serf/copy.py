"""`image-copy SOURCE EVENT|newest DEST`: one generation of an image, in a file
of its own.

What it is: a process for native/image_copy.h, which says what is compared; here
    the copy gets its name.
Invariants: DEST is never there in part: the copy is made beside it as
    `DEST.part`, and renamed and its folder synced when it is whole and verified.
    Nothing that exists is replaced. A copy that fails or is told to stop
    (SIGINT, SIGTERM) leaves nothing; after a kill -9 or a power cut the next
    copy to DEST begins anew in the same `DEST.part`.
Limits: one copy to DEST at a time (a lock on the part).

With --json, lines on stdout: `{"step": "copy" or "verify", "done", "total"}` in
bytes, some times a second, and at the end what was made, or an `error` with a
code of king/errors.py.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from serf.engine import CopyFailed, ImageCopy

__all__ = ["NEWEST", "copy_image", "run_copy"]

NEWEST = (1 << 64) - 1
_TELL_S = 0.1
_NICENESS = 10  # a live ship comes first


class Stopped(Exception):
    """A signal asked us to."""


def run_copy(source: str, event: int, target: str, as_json: bool) -> int:
    """The tool; its exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        os.nice(_NICENESS)
        row = copy_image(source, event, target, tell=_show if as_json else _tell_not)
    except CopyFailed as error:
        _fail(error.code, str(error), as_json)
        return 1
    except OSError as error:
        _fail(_code_of(error), f"{error.filename}: {error.strerror}", as_json)
        return 1
    except Stopped:
        _fail("failed", "told to stop; nothing was left behind", as_json)
        return 1
    if as_json:
        _show(row)
    else:
        print(
            f"{target}: generation {row['generation']}, event {row['event']}, "
            f"{row['pages']} pages, {row['bytes']} bytes, verified"
        )
    return 0


def copy_image(source: str, event: int, target: str, tell: Any) -> dict[str, Any]:
    """Copy and name it; what was made.

    :raises CopyFailed: with a code and words
    :raises OSError: of the file system
    """
    began = time.monotonic()
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, "exists already", target)
    with _part(target) as (part, file):
        copy = ImageCopy(source, event, file)
        told = 0.0
        while not copy.step():
            if time.monotonic() - told >= _TELL_S:
                told = time.monotonic()
                step = "verify" if copy.verifying else "copy"
                tell({"step": step, "done": copy.done, "total": copy.total})
        os.rename(part, target)
    _sync_folder(target)
    of = copy.what
    return {
        "file": target,
        "generation": of.generation,
        "event": of.event,
        "mug": f"{of.mug:08x}",
        "pages": copy.pages,
        "bytes": copy.bytes,
        "seconds": round(time.monotonic() - began, 3),
        "ship": of.ship.hex(),
        "log": of.log.hex(),
    }


@contextmanager
def _part(target: str) -> Iterator[tuple[str, int]]:
    """An empty file of ours alone beside `target`; gone afterwards, unless it
    was renamed."""
    part = f"{target}.part"
    file = os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ours = os.path.samestat(os.fstat(file), os.lstat(part))
        except (BlockingIOError, FileNotFoundError):
            ours = False
        if not ours:  # another copy has it, or had it and has named it by now
            raise CopyFailed("failed", f"{target} is being made by another process")
        os.ftruncate(file, 0)
        try:
            yield part, file
        except BaseException:
            os.unlink(part)
            raise
    finally:
        os.close(file)


def _sync_folder(path: str) -> None:
    folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _stop(_number: int, _frame: Any) -> NoReturn:
    raise Stopped


def _code_of(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "disk-full"
    return "disk-error" if error.errno == errno.EIO else "file-bad"


def _fail(code: str, message: str, as_json: bool) -> None:
    if as_json:
        _show({"error": code, "message": message})
    print(f"image-copy: {code}: {message}", file=sys.stderr)


def _tell_not(_row: dict[str, Any]) -> None:
    pass


def _show(row: dict[str, Any]) -> None:
    print(json.dumps(row), flush=True)
