"""What is made beside its name, and gets it when it is whole.

Invariants: what is being made is ours alone (a lock on it, which our children hold,
    too: see `run_steps`); it is gone at the end, unless it was given its name. What a
    kill left has a name of ours (`.NAME.snapshot`, `.NAME.import`, `.NAME.export`) and
    no lock: the next one to make the same clears it, and never a living one's.
Limits: one at a time for each name.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from king.disk import explain_disk, publish
from king.errors import TreadleError

__all__ = ["check_new", "file_part", "name_it", "new_file", "new_part"]


def check_new(target: Path, outside: Path | None = None) -> None:
    """Refuse a name that is taken, whose folder is not there, or that does not lie
    `outside` of a pier.

    :raises TreadleError: pier-exists, pier-missing, usage
    """
    if os.path.lexists(target):
        raise TreadleError("pier-exists", f"{target} exists already", "name a new one")
    if outside is not None and target.resolve().is_relative_to(outside.resolve()):
        raise TreadleError(
            "usage",
            f"{target} lies within the ship's own directory",
            "name a directory beside it, or on another disk",
        )
    if not target.parent.is_dir():
        raise TreadleError(
            "pier-missing",
            f"the directory {target.parent}, where it would go, does not exist",
            f"make it first: mkdir -p {target.parent}",
        )


@contextmanager
def new_part(target: Path, part: Path, *, outside: Path | None = None) -> Iterator[int]:
    """`part` is an empty folder, for what is to be `target`; the descriptor that
    holds its lock.

    :raises TreadleError: as `check_new`, care-busy, disk-*
    """
    check_new(target, outside)
    try:
        with _claimed(part) as lock:
            try:
                yield lock
            finally:
                shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        raise explain_disk(error, target.parent, f"making {target.name}") from error


@contextmanager
def _claimed(part: Path) -> Iterator[int]:
    folder = -1
    while folder < 0:
        part.mkdir(mode=0o700, exist_ok=True)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        folder = _lock(part, flags)
    try:
        for entry in os.scandir(part):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)
        yield folder
    finally:
        os.close(folder)


def file_part(target: Path) -> Path:
    """Where a file is made before it has its name."""
    return target.with_name(f".{target.name}.export")


@contextmanager
def new_file(target: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """An empty file beside `target`, for what is to be that, and its path.

    :raises TreadleError: care-busy
    :raises OSError:
    """
    part = file_part(target)
    descriptor = -1
    while descriptor < 0:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = _lock(part, flags)
    with os.fdopen(descriptor, "wb") as file:
        file.truncate(0)
        mine = os.fstat(descriptor)
        try:
            yield part, file
        finally:
            with suppress(FileNotFoundError):  # else it has its name
                if os.path.samestat(mine, part.lstat()):
                    part.unlink()


def _lock(part: Path, flags: int) -> int:
    """Open and lock; -1 where another was done with it just now.

    :raises TreadleError: care-busy
    """
    descriptor = os.open(part, flags, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), part.lstat()):
            return descriptor
    except BlockingIOError:
        os.close(descriptor)
        raise TreadleError(
            "care-busy",
            f"another process is making {part}",
            "wait for its end, or name another",
        ) from None
    except FileNotFoundError:
        pass
    os.close(descriptor)
    return -1


def name_it(part: Path, target: Path) -> None:
    """Durable, and then under its name.

    :raises TreadleError: pier-exists
    """
    try:
        publish(part, target)
    except FileExistsError as error:
        raise TreadleError(
            "pier-exists",
            f"{target} appeared meanwhile; nothing of it was changed",
            "name a new one",
        ) from error
