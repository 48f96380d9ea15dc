"""`treadle archive`: old epochs go elsewhere, and only then from here.

What it is: a reader of epochs that nobody writes any more, in a process of its
    own; what is removed in the end, `chop` removes (king/care/chop.py), with all
    its refusals, live or at rest.
Invariants: an epoch is removed when its copy was read again, byte for byte, from
    the disk, and held against its hash chain; or when the command that was to
    take it succeeded. Interrupted, it leaves whole copies, which the next call
    verifies and goes on from, and parts below `.part`, which it makes anew.
Limits: blocking. What a command did with an epoch, nobody verifies but itself.

To put an epoch back: copy its directory into `.urb/log` of the ship at rest.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from king.disk import explain_disk, free_bytes, sync_directory, sync_file
from king.errors import TreadleError
from king.log.epoch import KEEP_MIN, Epoch, find_epochs
from king.log.start import read_start
from king.log_verify import verify_path
from king.pier import Layout

__all__ = ["archive", "plan"]

_BLOCK = 1 << 20
_LEFT_OUT = {"lock.mdb"}

Progress = Callable[[int, int, str], None]
"""Bytes done, bytes in all, and what is being done."""


def plan(layout: Layout, keep: int) -> list[Epoch]:
    """The epochs to archive, oldest first.

    :raises TreadleError: usage, chop-refused
    """
    if keep < KEEP_MIN:
        raise TreadleError("usage", f"at least {KEEP_MIN} epochs stay, not {keep}")
    epochs, _ = find_epochs(layout.log_dir)
    for epoch in epochs[-KEEP_MIN:] if len(epochs) > keep else ():
        if read_start(epoch) is None:
            # chop looks closer; but this should be known before the copying.
            raise TreadleError(
                "chop-refused",
                f"epoch {epoch.path.name} is to stay, and has no state of its own",
                "roll, and again after some events (treadle roll); then archive",
            )
    return epochs[:-keep]


def archive(
    layout: Layout,
    epochs: list[Epoch],
    *,
    directory: Path | None,
    command: str | None,
    progress: Progress,
) -> list[dict[str, Any]]:
    """Bring these epochs elsewhere: copies into a directory, or by a command. What
    was archived: name, events, chain link, where.

    :raises TreadleError: archive-exists, archive-failed, log-bad, disk-*
    """
    if directory is not None:
        _check_directory(layout, directory, epochs)
    sizes = [_size_of(epoch.path) for epoch in epochs]
    done = 0
    found = []
    for epoch, size in zip(epochs, sizes, strict=True):
        name = epoch.path.name
        began = done

        def advance(count: int, note: str, began: int = began) -> None:
            progress(began + count, 2 * sum(sizes), note)

        facts = _verified(epoch.path)
        if directory is not None:
            where = str(_copy_to(directory, epoch.path, advance))
        else:
            assert command is not None
            advance(0, f"the command has {name}")
            _run(command, epoch)
            where = command
        done += 2 * size
        found.append(
            {
                "name": name,
                "first": facts["first"],
                "last": facts["last"],
                "link": facts["link"],
                "where": where,
            }
        )
    return found


def _verified(path: Path) -> dict[str, Any]:
    """The facts of an epoch that is whole.

    :raises TreadleError: log-bad, ...
    """
    (facts,) = verify_path(path)["epochs"]
    faults = list(facts["faults"])
    if facts["link"] is not None and facts["loose"]:
        faults.append(f"its last {facts['loose']} events are not chained")
    if faults:
        raise TreadleError(
            "log-bad",
            f"{path} is not what was committed: {'; '.join(faults)}",
            "nothing was removed; look at it with `treadle log verify`",
        )
    verified: dict[str, Any] = facts
    return verified


# --- into a directory -----------------------------------------------------------


def _check_directory(layout: Layout, directory: Path, epochs: list[Epoch]) -> None:
    if directory.resolve().is_relative_to(layout.root.resolve()):
        raise TreadleError(
            "usage", f"{directory} is in the pier itself", "name another directory"
        )
    try:
        _make_durably(directory)
        need = sum(
            _size_of(epoch.path)
            for epoch in epochs
            if not (directory / epoch.path.name).exists()
        )
        free = free_bytes(directory)
    except OSError as error:
        raise explain_disk(error, directory.parent, "archiving") from error
    if free < need:
        raise TreadleError(
            "disk-full",
            f"the epochs have {need:,} bytes, and {free:,} are free in {directory}",
            "free some space there, or name another directory",
        )


def _make_durably(directory: Path) -> None:
    """The directory, and its name: what goes into it is going to be all there is."""
    directory = directory.absolute()
    for path in reversed([directory, *directory.parents][:-1]):
        if path == directory or not path.exists():
            path.mkdir(exist_ok=True)
            sync_directory(path.parent)


def _files_of(path: Path) -> list[Path]:
    return sorted(
        file
        for file in path.iterdir()
        if file.is_file() and file.name not in _LEFT_OUT and file.suffix != ".part"
    )


def _size_of(path: Path) -> int:
    return sum(file.stat().st_size for file in _files_of(path))


def _copy_to(
    directory: Path, source: Path, advance: Callable[[int, str], None]
) -> Path:
    """A copy that was read again; or the one that is there from an earlier call."""
    target = directory / source.name
    try:
        if target.exists():
            _compare(source, target, advance)
            _verified(target)
            sync_directory(directory)
            return target
        part = directory / ".part" / source.name
        shutil.rmtree(part.parent, ignore_errors=True)
        part.parent.mkdir()
        part.mkdir(mode=0o700)
        digests = {}
        done = 0
        for file in _files_of(source):
            with file.open("rb") as old, (part / file.name).open("xb") as new:
                digest = hashlib.sha256()
                while block := old.read(_BLOCK):
                    digest.update(block)
                    new.write(block)
                    done += len(block)
                    advance(done, f"copying {source.name}")
                new.flush()
                os.fsync(new.fileno())
            digests[file.name] = digest.digest()
        sync_directory(part)
        for name, copied in digests.items():
            if copied != _digest_of(part / name):
                raise TreadleError(
                    "disk-error",
                    f"{part / name} does not give back what was written",
                    "nothing was removed; look at that disk (dmesg)",
                )
            done += (part / name).stat().st_size
            advance(done, f"verifying {source.name}")
        _verified(part)
        os.rename(part, target)
        part.parent.rmdir()
        sync_directory(directory)
    except OSError as error:
        raise explain_disk(error, directory, f"archiving {source.name}") from error
    return target


def _digest_of(path: Path) -> bytes:
    """Of what the disk has: not of what the cache remembers, if that can be."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return hashlib.file_digest(file, "sha256").digest()


def _compare(source: Path, target: Path, advance: Callable[[int, str], None]) -> None:
    done = 0
    same = [f.name for f in _files_of(source)] == [f.name for f in _files_of(target)]
    for file in _files_of(source) if same else ():
        sync_file(target / file.name)
        same = same and _digest_of(file) == _digest_of(target / file.name)
        done += 2 * file.stat().st_size
        advance(done, f"comparing {source.name}")
    sync_directory(target)
    if not same:
        raise TreadleError(
            "archive-exists",
            f"{target} is there already, and is another epoch or another copy",
            "name another directory; nothing was removed",
        )


# --- by a command ---------------------------------------------------------------


def _run(command: str, epoch: Epoch) -> None:
    """The user's own words, in the user's own shell. What it prints is for people."""
    name, path = epoch.path.name, str(epoch.path.resolve())
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        env={**os.environ, "EPOCH": name, "EPOCH_DIR": path},
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr.fileno(),
        check=False,
    )
    if done.returncode:
        raise TreadleError(
            "archive-failed",
            f"the command ended with {done.returncode} for epoch {name}",
            "nothing was removed; it is given $EPOCH and $EPOCH_DIR",
        )
