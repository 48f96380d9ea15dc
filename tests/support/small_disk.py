"""A disk small enough to fill: a tmpfs of its own, or a filesystem in a file."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from king.disk import free_bytes

__all__ = ["filled", "mounted"]

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


@contextmanager
def mounted(at: Path, size: str, kind: str = "tmpfs") -> Iterator[Path]:
    """Mount one of `size` (such as "2m") at the new folder `at`.

    Skips the test where mounting is not ours to do: that takes root, and a
    container may forbid it even then.
    """
    at.mkdir()
    if kind == "tmpfs":
        words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(at)]
    else:
        if shutil.which(_MAKE[kind][0]) is None:
            pytest.skip(f"there is no {_MAKE[kind][0]}")
        disk = at.with_suffix(".disk")
        subprocess.run(["truncate", "-s", size.upper(), str(disk)], check=True)
        subprocess.run([*_MAKE[kind], str(disk)], check=True, capture_output=True)
        words = ["mount", "-o", "loop", str(disk), str(at)]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"needs to mount a small disk: {done.stderr.strip()}")
    try:
        yield at
    finally:
        subprocess.run(["umount", "-l", str(at)], check=True)
