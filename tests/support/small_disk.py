"""A disk small enough to fill: a tmpfs of its own, or a filesystem in a file."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from king.disk import free_bytes

__all__ = ["filled", "make_disk", "mounted", "mounted_disk"]

_MAKE = {"ext4": ("mkfs.ext4", "-q", "-m", "0"), "xfs": ("mkfs.xfs", "-q")}


def filled(disk: Path, leave: int = 0) -> Path:
    """Fill the disk but for `leave` bytes; the file that does it."""
    path = disk / "filler"
    with path.open("ab", buffering=0) as file:
        piece = bytes(1 << 20)
        size = free_bytes(disk) - leave
        while size > 0:
            try:
                size -= file.write(piece[:size])
            except OSError:
                # The last blocks come singly.
                if len(piece) == 4096:
                    break
                piece = bytes(4096)
    return path


def make_disk(disk: Path, size: str, kind: str) -> Path:
    """The file `disk` of `size` (such as "320M") with a filesystem of `kind`."""
    if shutil.which(_MAKE[kind][0]) is None:
        pytest.skip(f"needs {_MAKE[kind][0]}")
    subprocess.run(["truncate", "-s", size.upper(), str(disk)], check=True)
    subprocess.run([*_MAKE[kind], str(disk)], check=True, capture_output=True)
    return disk


@contextmanager
def mounted_disk(at: Path, *words: str) -> Iterator[Path]:
    """Mount by these words of mount(8) at the folder `at`.

    Skips the test where mounting is not ours to do: that takes root, and a
    container may forbid it even then.
    """
    done = subprocess.run(["mount", *words, str(at)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"needs to mount a small disk: {done.stderr.strip()}")
    try:
        yield at
    finally:
        subprocess.run(["umount", "-l", str(at)], check=True)


@contextmanager
def mounted(at: Path, size: str, kind: str = "tmpfs") -> Iterator[Path]:
    """Mount a new one of `size` (such as "2m") at the new folder `at`."""
    at.mkdir()
    if kind == "tmpfs":
        words = ["-t", "tmpfs", "-o", f"size={size}", "tmpfs"]
    else:
        words = ["-o", "loop", str(make_disk(at.with_suffix(".disk"), size, kind))]
    with mounted_disk(at, *words):
        yield at
