"""The pier: directory layout, the two locks, opening with all its refusals.

Owns: the names of everything in a pier (specification 1, and ours), the lock
    files, and the manifest. The log below `.urb/log` is `king.log`'s, the
    image below `.urb/chk` the serf's.
Invariants: whoever holds a `Pier` is the only king of it, among ours and
    Vere's; a pier of a newer format is refused before anything is written;
    nothing that Vere wrote is ever changed, other than through the log.
Limits: Linux (OFD locks, /proc). Local disks only.

Locks. `flock` on `.urb/treadle.lock`, which is never unlinked; the serf
inherits the descriptor, so that an orphaned serf still keeps a second king
out. An OFD record lock on byte 0 of `.vere.lock`, which Vere's own POSIX lock
excludes and is excluded by. What is written inside both is information only.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import struct
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from king.config import RUNTIME
from king.copies import check_age, check_place
from king.disk import check_local_disk, explain_disk, free_bytes, sync_directory
from king.errors import TreadleError
from king.manifest import Manifest, read_manifest, write_manifest
from king.memory import Memory, remember
from king.place import observe
from king.reserve import open_reserve

if TYPE_CHECKING:
    from king.log.epoch import Log
    from king.log.store import Meta

__all__ = [
    "Layout",
    "Pier",
    "check_is_pier",
    "identity_bytes",
    "lock_holder_pid",
    "lock_pier",
    "make_directories",
    "new_manifest",
    "open_pier",
    "wait_unlocked",
    "who_locks",
]


# --- layout -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything is. Making one touches nothing."""

    root: Path

    @property
    def urb(self) -> Path:
        return self.root / ".urb"

    @property
    def log_dir(self) -> Path:
        return self.urb / "log"

    @property
    def image(self) -> Path:
        """Our snapshot, beside Vere's image.bin and never instead of it."""
        return self.urb / "chk" / "treadle.image"

    @property
    def scratch_image(self) -> Path:
        """What a replay from scratch builds, until it takes the image's place."""
        return self.urb / "chk" / "treadle.image.replay"

    @property
    def restored_image(self) -> Path:
        """A copy of an epoch's state, until it takes the image's place."""
        return self.urb / "chk" / "treadle.image.restored"

    @property
    def manifest(self) -> Path:
        return self.urb / "treadle.json"

    @property
    def lock(self) -> Path:
        return self.urb / "treadle.lock"

    @property
    def reserve(self) -> Path:
        """Blocks that are kept for a full disk."""
        return self.urb / "reserve"

    @property
    def costs(self) -> Path:
        """What events cost to compute."""
        return self.urb / "costs"

    @property
    def vere_lock(self) -> Path:
        return self.root / ".vere.lock"

    @property
    def conn_socket(self) -> Path:
        return self.urb / "conn.sock"

    @property
    def http_ports(self) -> Path:
        return self.root / ".http.ports"

    @property
    def put(self) -> Path:
        """Files that effects write."""
        return self.urb / "put"

    @property
    def bundles(self) -> Path:
        """Repro bundles of quarantined events."""
        return self.urb / "bug"


_DIRECTORIES = ("log", "chk", "put", "get", "dev")


def make_directories(layout: Layout, *, log: bool) -> None:
    """Make what is missing of `.urb`. `log` False: leave `log/` to its owner."""
    layout.urb.mkdir(mode=0o700, exist_ok=True)
    for name in _DIRECTORIES:
        if name != "log" or log:
            (layout.urb / name).mkdir(mode=0o700, exist_ok=True)


def check_is_pier(root: Path) -> Layout:
    """Say by name why `root` is no pier, without touching it.

    :raises TreadleError: pier-missing, pier-bad, no-permission
    """
    layout = Layout(root)
    try:
        entries = os.listdir(root)
    except FileNotFoundError:
        raise TreadleError(
            "pier-missing",
            f"there is no pier at {root}",
            f"boot one: treadle boot {root} --fake ~zod",
        ) from None
    except NotADirectoryError:
        raise TreadleError(
            "pier-bad",
            f"{root} is not a directory",
            "name the directory of a ship, not a file",
        ) from None
    except OSError as error:
        raise explain_disk(error, root, "opening the pier") from error
    if ".urb" not in entries or not layout.log_dir.is_dir():
        raise TreadleError(
            "pier-bad",
            f"{root} is not a pier: it has no event log (.urb/log)",
            "name the directory of a ship; to make one, boot into a new directory",
        )
    return layout


# --- locks ------------------------------------------------------------------

_FLOCK = struct.Struct("hhqqi4x")


def _open_for_lock(path: Path) -> int:
    try:
        return os.open(
            path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666
        )
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise TreadleError(
                "pier-bad",
                f"{path} is a symbolic link; a lock must be a file of this pier",
                "move the link away, if you know that no other ship uses it",
            ) from error
        raise explain_disk(error, path.parent, f"opening {path.name}") from error


def _lock_ours(layout: Layout) -> int:
    descriptor = _open_for_lock(layout.lock)
    tries = 5
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            # Those who only ask (`who_locks`) hold it for an instant.
            tries -= 1
            if tries:
                time.sleep(0.01)
                continue
            os.close(descriptor)
            raise TreadleError(
                "pier-locked",
                f"{layout.root} is in use by {_describe_ours(layout)}",
                f"stop that ship first: treadle stop {layout.root}",
            ) from None
        except OSError as error:
            os.close(descriptor)
            raise explain_disk(error, layout.urb, "locking the pier") from error


def _describe_ours(layout: Layout) -> str:
    """Who says that they hold our lock; kernel first, the file second."""
    try:
        with layout.lock.open("rb") as file:
            value = json.loads(file.read(4096) or b"{}")
            pid, host = int(value["pid"]), str(value["host"])
    except (OSError, ValueError, KeyError, TypeError):
        return "another treadle"
    if host != os.uname().nodename:
        return f"treadle, pid {pid} on {host}"
    if not os.path.exists(f"/proc/{pid}"):
        return (
            f"a serf left behind by the treadle of pid {pid}, which is gone (it "
            "leaves by itself within seconds)"
        )
    return f"treadle, pid {pid}"


def _lock_vere(layout: Layout) -> int:
    path = layout.vere_lock
    while True:
        descriptor = _open_for_lock(path)
        try:
            fcntl.fcntl(
                descriptor,
                fcntl.F_OFD_SETLK,
                _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0),
            )
        except (BlockingIOError, PermissionError):
            holder = _vere_holder(descriptor)
            os.close(descriptor)
            raise TreadleError(
                "pier-locked",
                f"{layout.root} is in use by {holder}",
                "stop that ship first",
            ) from None
        except OSError as error:
            os.close(descriptor)
            raise explain_disk(error, layout.root, "locking .vere.lock") from error
        # Vere unlinks its lock file as it leaves: is what we hold still *the*
        # lock file?
        try:
            same = os.path.samestat(os.fstat(descriptor), os.stat(path))
        except FileNotFoundError:
            same = False
        if same:
            return descriptor
        os.close(descriptor)


def _vere_holder(descriptor: int) -> str:
    data = fcntl.fcntl(
        descriptor,
        fcntl.F_OFD_GETLK,
        _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0),
    )
    pid = _FLOCK.unpack(data)[4]
    return f"Vere, pid {pid}" if pid > 0 else "another runtime"


def _rewrite(descriptor: int, data: bytes) -> None:
    """Truncate and write: never leave an older, longer text behind."""
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, data, 0)


@dataclass(slots=True)
class Locks:
    """Both locks, held. `inherit` is the descriptor for the serf."""

    inherit: int
    vere: int

    def release(self) -> None:
        """Give both back; the files stay (see H27 of the hazards)."""
        try:
            # Empty files tell people that nobody runs here.
            os.ftruncate(self.vere, 0)
            os.ftruncate(self.inherit, 0)
        except OSError:
            pass  # a full or read-only disk must not keep us from leaving
        os.close(self.vere)
        os.close(self.inherit)


def lock_pier(layout: Layout) -> Locks:
    """Take both locks, or say who holds them.

    :raises TreadleError: pier-locked, read-only, no-permission, disk-full
    """
    inherit = _lock_ours(layout)
    try:
        vere = _lock_vere(layout)
    except TreadleError:
        os.close(inherit)
        raise
    with contextlib.suppress(OSError):  # the first write that fails will name it
        open_reserve(layout.reserve, free_bytes(layout.urb))
    note = {
        "pid": os.getpid(),
        "host": os.uname().nodename,
        "since": int(time.time()),
        "runtime": RUNTIME,
    }
    try:
        _rewrite(inherit, json.dumps(note).encode() + b"\n")
        _rewrite(vere, f"{os.getpid()}\n".encode())
    except OSError as error:
        os.close(inherit)
        os.close(vere)
        raise explain_disk(error, layout.urb, "writing the lock files") from error
    return Locks(inherit, vere)


def who_locks(layout: Layout) -> str | None:
    """Who holds the pier, in words; None if nobody does. Writes nothing."""
    try:
        descriptor = os.open(layout.lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        pass
    else:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _describe_ours(layout)
        finally:
            os.close(descriptor)
    try:
        descriptor = os.open(layout.vere_lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        data = fcntl.fcntl(
            descriptor,
            fcntl.F_OFD_GETLK,
            _FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, 0, 1, 0),
        )
        kind, _, _, _, pid = _FLOCK.unpack(data)
    finally:
        os.close(descriptor)
    if kind == fcntl.F_UNLCK:
        return None
    return f"Vere, pid {pid}" if pid > 0 else "another runtime"


def lock_holder_pid(layout: Layout) -> int | None:
    """The king that holds our lock, by the kernel's own word: the pid stands
    in /proc/locks with this very file, and in the file. None if in doubt."""
    try:
        info = layout.lock.stat()
        pid = int(json.loads(layout.lock.read_bytes())["pid"])
        locks = Path("/proc/locks").read_text(encoding="ascii")
    except (OSError, ValueError, KeyError, TypeError):
        return None
    device = f"{os.major(info.st_dev):02x}:{os.minor(info.st_dev):02x}:{info.st_ino}"
    for line in locks.splitlines():
        words = line.split()
        if words[1:2] == ["FLOCK"] and words[4:6] == [str(pid), device]:
            return pid
    return None


def wait_unlocked(layout: Layout, timeout_s: float) -> bool:
    """Poll until nobody holds the pier; False after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while who_locks(layout) is not None:
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.02)
    return True


# --- opening ----------------------------------------------------------------


def identity_bytes(ship: int) -> bytes:
    """A ship's number as messages and images carry it: 16 bytes, LE."""
    return ship.to_bytes(16, "little")


def new_manifest(ship: int, *, adopted: bool) -> Manifest:
    import lmdb

    return Manifest(
        ship=ship,
        identity=os.urandom(16),
        created_by=RUNTIME,
        lmdb=".".join(map(str, lmdb.version())),
        adopted=adopted,
    )


class Pier:
    """An open pier: locks held, log open, identity known.

    A context manager; `close` gives the locks back last.
    """

    def __init__(
        self,
        layout: Layout,
        locks: Locks,
        log: Log,
        manifest: Manifest,
        notes: list[str],
    ) -> None:
        self.layout = layout
        self.log = log
        self.manifest = manifest
        self.notes = notes
        """What people should hear of: adoption, unfinished rolls."""
        self._locks: Locks | None = locks

    @property
    def root(self) -> Path:
        return self.layout.root

    @property
    def meta(self) -> Meta:
        return self.log.meta

    @property
    def ship(self) -> bytes:
        """For the handshake with the serf."""
        return identity_bytes(self.manifest.ship)

    @property
    def identity(self) -> bytes:
        """Of the log, for the handshake with the serf."""
        return self.manifest.identity

    @property
    def lock_descriptor(self) -> int:
        """The serf inherits this one (`pass_fds`), and never closes it."""
        assert self._locks is not None
        return self._locks.inherit

    def remember(self) -> None:
        """Let this account know how far the ship is. (Nothing of it is durable
        that the pier has not.)"""
        memory = Memory(
            self.manifest.generation, self.log.last, str(self.root.absolute())
        )
        remember(self.identity, memory)

    def close(self) -> None:
        """Close the log, then unlock. Idempotent."""
        if self._locks is not None:
            locks, self._locks = self._locks, None
            self.log.close()
            locks.release()

    def __enter__(self) -> Pier:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_pier(
    root: Path,
    *,
    run: bool = True,
    write: bool | None = None,
    adopt: bool = False,
    behind: bool = False,
    map_size: int | None = None,
) -> Pier:
    """Open a pier for running it, or (`run` False) for other work on it. Its log
    is then opened for reading only, unless `write` says otherwise.

    A pier made by Vere is adopted: our manifest is written beside Vere's
    files, and none of them is touched. A copy of a pier is not run, unless it
    was adopted (or `adopt`: nobody asks). A log that has lost events is refused,
    whatever the work (but for `behind`: nobody asks). The caller settles the log.

    :raises TreadleError: pier-missing, pier-bad, pier-locked, pier-newer,
        pier-copied, pier-stale, manifest-bad, identity-mismatch, image-newer,
        log-behind, read-only, no-permission, network-disk, and what `open_log`
        raises
    """
    # The log's machinery is loaded for those alone who open it: `stop` and
    # its like want the layout and the locks only.
    from king.behind import check_behind
    from king.formats import check_formats
    from king.log.epoch import open_log
    from king.log.store import MAP_SIZE_MAX

    layout = check_is_pier(root)
    check_formats(layout)
    check_local_disk(root)
    locks = lock_pier(layout)
    log: Log | None = None
    try:
        # Read again: until now another king may have been at work.
        manifest = read_manifest(layout.manifest)
        asks = run and not adopt
        log = open_log(
            layout.log_dir,
            read_only=not (run if write is None else write),
            map_size=map_size or MAP_SIZE_MAX,
        )
        notes = list(log.notes)
        if manifest is None:
            manifest = new_manifest(log.meta.who, adopted=True)
            notes.append(
                f"adopted this pier, made by {log.epochs[0].runtime}: our manifest and "
                "image go beside its files, its own snapshot is left as it is"
            )
        if manifest.ship != log.meta.who:
            raise TreadleError(
                "identity-mismatch",
                f"the manifest says ship 0x{manifest.ship:x}, the log 0x"
                f"{log.meta.who:x}: files of two ships were mixed in {root}",
                "restore the pier from a copy; nothing was changed",
            )
        if asks:
            check_place(layout, manifest)
        if not behind:
            check_behind(layout, manifest, log)
        if asks:
            check_age(layout, manifest, log.last)
        if run:
            place = observe(layout)
            if manifest.place is not None and manifest.place.path != place.path:
                notes.append(f"this pier was in {manifest.place.path} before")
            manifest = replace(manifest.next_generation(), place=place, copy="")
        make_directories(layout, log=False)
        for path in (layout.scratch_image, layout.restored_image):
            path.unlink(missing_ok=True)  # of a replay or a start that was killed
            path.with_name(f"{path.name}.part").unlink(missing_ok=True)
        sync_directory(layout.urb)
        write_manifest(layout.manifest, manifest)
        pier = Pier(layout, locks, log, manifest, notes)
        if asks:
            pier.remember()
        return pier
    except BaseException as error:
        if log is not None:
            log.close()
        locks.release()
        if isinstance(error, OSError):
            raise explain_disk(error, layout.urb, "opening the pier") from error
        raise
