"""Where the notes of a run are kept: a folder with a file for each process.

For tests and the lab: `TREADLE_RECORD=FOLDER treadle run PIER`. Several runs
may go into one folder, one after the other; `read_recording` gives them as
one, in the order of their happening.

Owns: the files that it makes in that folder.
Invariants: a file is mapped, so that notes outlive a SIGKILL of their writer
    (though not a power cut); it is sparse, and its room is never given back
    while the process lives.
Limits: FILE_SIZE bytes, some two million notes, for each process. One
    machine, one boot of it: time is CLOCK_MONOTONIC.
"""

from __future__ import annotations

import mmap
import os
import time
from pathlib import Path

from proto.record import Note, Notes, read_notes

__all__ = ["FILE_SIZE", "asked_for", "make_file", "open_notes", "read_recording"]

FILE_SIZE = 64 << 20


def asked_for() -> Path | None:
    """The folder that TREADLE_RECORD names."""
    folder = os.environ.get("TREADLE_RECORD")
    return Path(folder) if folder else None


def make_file(folder: Path, kind: str) -> Path:
    """A fresh, empty recording in `folder`, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{time.monotonic_ns():020}-{kind}-{os.getpid()}.notes"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.ftruncate(descriptor, FILE_SIZE)
    finally:
        os.close(descriptor)
    return path


def open_notes(path: Path) -> Notes:
    """Notes of this process, kept in a file that `make_file` made."""
    with open(path, "r+b") as file:
        return Notes(mmap.mmap(file.fileno(), FILE_SIZE), os.getpid())


def read_recording(folder: Path) -> list[Note]:
    """All that was noted in `folder`, in the order of its happening.

    :raises ValueError: naming a file that is full or no recording.
    """
    notes: list[Note] = []
    for path in sorted(folder.glob("*.notes")):
        try:
            notes += read_notes(_content(path))
        except ValueError as error:
            raise ValueError(f"{path.name}: {error}") from error
    return sorted(notes, key=lambda note: note.time)


def _content(path: Path) -> bytes:
    """What was written: not the hole behind it."""
    parts: list[bytes] = []
    with open(path, "rb") as file:
        while part := file.read(1 << 16):
            parts.append(part)
            if not any(part[-64:]):
                break
    return b"".join(parts)
