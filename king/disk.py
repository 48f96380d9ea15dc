"""Manners towards disks: durable files, room left, faults by their names.

Owns: nothing; every function is told where.
Invariants: a file that `write_durably` replaced is, after a crash, the old
    one or the new one, whole.
Limits: Linux.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

from king.errors import TreadleError

__all__ = [
    "check_local_disk",
    "disk_type",
    "explain_disk",
    "free_bytes",
    "publish",
    "rename_new",
    "sync_directory",
    "sync_file",
    "write_durably",
]

_NEARLY_FULL_BYTES = 256 << 10


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    _sync(path, os.O_DIRECTORY)


def sync_file(path: Path) -> None:
    """Make what is in a file durable."""
    _sync(path, 0)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_durably(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Replace a file whole.

    :raises OSError: the old file is still there
    """
    temporary = path.with_name(f"{path.name}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(temporary, flags, mode)
    try:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


_RENAME_NOREPLACE = 1
_AT_FDCWD = -100


def rename_new(source: Path, target: Path) -> None:
    """Rename, never onto something: not even onto an empty directory.

    :raises FileExistsError: `target` is there
    :raises OSError: as rename
    """
    import ctypes  # costs what a quick command need not pay

    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.renameat2(
        _AT_FDCWD,
        os.fsencode(source),
        _AT_FDCWD,
        os.fsencode(target),
        _RENAME_NOREPLACE,
    )
    if result == 0:
        return
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL):  # old kernels, some filesystems
        os.rename(source, target)
        return
    raise OSError(number, os.strerror(number), str(target))


def publish(temporary: Path, target: Path) -> None:
    """Make every name in a new directory durable, then give it its own.

    :raises FileExistsError: `target` is there; nothing was changed
    """
    for directory, _, _ in os.walk(temporary):
        sync_directory(Path(directory))
    rename_new(temporary, target)
    sync_directory(target.parent)


def free_bytes(path: Path) -> int:
    """Room that anybody may still fill on the filesystem of `path`, as `df` has
    it: what ext4 keeps for itself, even root cannot have."""
    stat = os.statvfs(path)
    return stat.f_bavail * stat.f_frsize


def explain_disk(
    error: Exception, where: Path, doing: str, kind: type[TreadleError] = TreadleError
) -> TreadleError:
    """Name the cause of a failed read or write beneath `where`.

    A full disk can come as an I/O error (from LMDB, on a tmpfs), so the room
    that is left decides before the error's number does.
    """
    number = error.errno if isinstance(error, OSError) else None
    try:
        full = free_bytes(where) < _NEARLY_FULL_BYTES
    except OSError:
        full = False
    text = f"{doing} in {where}: {error}"
    if number in (errno.EACCES, errno.EPERM):
        return kind("no-permission", text, "use the account that owns the pier")
    if number == errno.EROFS:
        return kind("read-only", text, "the pier must be on a writable disk")
    if full or number in (errno.ENOSPC, errno.EDQUOT):
        hint = "free some space on that disk, then start the ship again"
        return kind("disk-full", text, hint)
    if isinstance(error, OSError):
        return kind("disk-error", text, "look at the disk (dmesg) before anything else")
    hint = "start the ship again; if it persists, `treadle check`"
    return kind("log-failed", text, hint)


# `f_type` of filesystems on which locks or shared mappings cannot be trusted.
_NETWORK_DISKS = {
    0x6969: "NFS",
    0x517B: "SMB",
    0xFE534D42: "SMB2",
    0xFF534D42: "CIFS",
    0x5346414F: "AFS",
    0x6B414653: "AFS",
    0x564C: "NCP",
    0x73757245: "Coda",
    0x01021997: "9p",
    0x00C36400: "Ceph",
    0x0BD00BD0: "Lustre",
    0x47504653: "GPFS",
}


def disk_type(path: Path) -> int:
    """`f_type` of the filesystem of `path`."""
    import ctypes  # costs what a quick command need not pay

    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(512)
    if libc.statfs(os.fsencode(path), buffer) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(path))
    # `f_type` comes first, a long; the magic numbers are 32 bits.
    return int.from_bytes(buffer.raw[:4], "little")


def check_local_disk(path: Path, disk_type: Callable[[Path], int] = disk_type) -> None:
    """Refuse a pier on a network filesystem: LMDB and locks need a real disk.

    :raises TreadleError: network-disk
    """
    name = _NETWORK_DISKS.get(disk_type(path))
    if name is not None:
        raise TreadleError(
            "network-disk",
            f"{path} is on a network filesystem ({name}), where the log is not safe",
            "move the pier to a local disk; nothing was changed",
        )
