"""What is made beside its name, and gets it when it is whole.

Invariants: a folder that is being made is ours alone (a lock on it); it is gone at
    the end, unless it was given its name. What a kill left there has no name, and
    the next one to make the same removes it.
Limits: one at a time for each name.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from king.disk import explain_disk, publish
from king.errors import TreadleError

__all__ = ["check_new", "name_it", "new_part"]


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
def new_part(
    target: Path, part: Path, *, outside: Path | None = None
) -> Iterator[None]:
    """`part` is an empty folder, for what is to be `target`.

    :raises TreadleError: as `check_new`, care-busy, disk-*
    """
    check_new(target, outside)
    try:
        with _claimed(part):
            try:
                yield
            finally:
                shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        raise explain_disk(error, target.parent, f"making {target.name}") from error


@contextmanager
def _claimed(part: Path) -> Iterator[None]:
    while True:
        part.mkdir(mode=0o700, exist_ok=True)
        folder = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ours = os.path.samestat(os.fstat(folder), part.lstat())
        except BlockingIOError:
            os.close(folder)
            raise TreadleError(
                "care-busy",
                f"another process is making {part}",
                "wait for its end, or name another",
            ) from None
        except FileNotFoundError:
            ours = False
        if ours:
            break
        os.close(folder)
    try:
        for entry in os.scandir(part):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)
        yield
    finally:
        os.close(folder)


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
