"""`python -m king.copy_pier SOURCE TARGET [--live]`: a pier's files, but for those
of which a bare copy would be wrong.

What it is: the child of `treadle snapshot`. It copies the log by LMDB's own means,
    in a read transaction that keeps no writer waiting (longer than it takes to
    copy two pages), and every other file as it is.
Invariants: nothing of the source is written; with --live, LMDB's reader table
    alone. What is copied is synced. A log's chain is copied before the log, so
    that it never vouches for rows that are not there. If whoever started it is
    gone, so is it.
Limits: TARGET is an empty directory, whose fate is the caller's. Not copied: our
    image (image_copy.py), the manifest, locks, sockets, the reserve, what is of
    this very run.

It prints JSON lines: {"step", "done", "total"} in bytes; at the end {"bytes"}, or
{"error", "message", "hint"}.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
import threading
import time
from pathlib import Path

import lmdb

from king.disk import explain_disk, sync_directory, sync_file
from king.errors import TreadleError
from king.log.epoch import find_epochs
from king.log.store import LmdbStore
from king.pier import Layout

__all__ = ["pier_bytes"]

_TELL_S = 0.2
_PIECE = 1 << 20
_NICENESS = 10
_SKIPPED = {
    ".http.ports",
    ".vere.lock",
    ".urb/log",
    ".urb/treadle.json",
    ".urb/treadle.lock",
    ".urb/reserve",
    ".urb/released",
    ".urb/recovery.json",
}
_NOT_FILES = {".mdb", ".part", ".tmp"}
"""In the log: LMDB's, and what is being made at this moment."""
_OURS = "treadle.image"


def _is_copied(name: str) -> bool:
    return name not in _SKIPPED and not name.startswith(f".urb/chk/{_OURS}")


def _plain_files(root: Path) -> list[str]:
    """All but the log, relative to `root`; folders end with a slash."""
    found: list[str] = []
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        for entry in sorted(os.scandir(root / folder), key=lambda entry: entry.name):
            name = folder + entry.name
            if not _is_copied(name):
                continue
            if entry.is_dir(follow_symlinks=False):
                found.append(f"{name}/")
                waiting.append(f"{name}/")
            elif entry.is_symlink() or entry.is_file():
                found.append(name)
    return found


def _logs(layout: Layout) -> list[Path]:
    """Directories with an LMDB environment, the newest epoch first: it grows, and
    what is copied of it last might be beyond what was copied of others."""
    epochs, _ = find_epochs(layout.log_dir)
    return [*(epoch.path for epoch in reversed(epochs)), layout.log_dir]


def pier_bytes(layout: Layout) -> int:
    """About how much a copy of all, without our image, takes."""
    files = [layout.root / name for name in _plain_files(layout.root)]
    for log in _logs(layout):
        files += [path for path in log.iterdir() if path.is_file()]
    return sum(path.lstat().st_size for path in files)


class _Copy:
    def __init__(self, source: Layout, target: Layout, live: bool) -> None:
        self.source = source
        self.target = target
        self.live = live
        self.done = 0
        self.total = pier_bytes(source)
        self._told = 0.0

    def run(self) -> None:
        for name in _plain_files(self.source.root):
            self._plain(name)
        (self.target.log_dir).mkdir(mode=0o700)
        for log in _logs(self.source):
            self._log(log)
        for folder, _, _ in os.walk(self.target.root):
            sync_directory(Path(folder))

    def tell(self, more: int = 0) -> None:
        now = time.monotonic()
        if now - self._told >= _TELL_S:
            self._told = now
            row = {"step": "copying", "done": self.done + more, "total": self.total}
            print(json.dumps(row), flush=True)

    def _plain(self, name: str) -> None:
        source, target = self.source.root / name, self.target.root / name
        try:
            mode = source.lstat().st_mode
            if stat.S_ISDIR(mode):
                target.mkdir(mode=0o700, exist_ok=True)
                target.chmod(stat.S_IMODE(mode))
            elif stat.S_ISLNK(mode):
                target.symlink_to(os.readlink(source))
            else:
                self._file(source, target)
        except FileNotFoundError:
            if source.exists():
                raise
            # It went meanwhile: a guest may remove its own files.

    def _file(self, source: Path, target: Path) -> None:
        with source.open("rb") as read, target.open("xb") as write:
            while data := read.read(_PIECE):
                write.write(data)
                self.done += len(data)
                self.tell()
            write.flush()
            os.fsync(write.fileno())
        shutil.copymode(source, target)

    def _log(self, source: Path) -> None:
        target = self.target.root / source.relative_to(self.source.root)
        if target != self.target.log_dir:
            target.mkdir(mode=0o700)
        for path in sorted(source.iterdir()):
            if path.is_file() and path.suffix not in _NOT_FILES:
                self._file(path, target / path.name)
        events = source != self.source.log_dir or not find_epochs(source)[0]
        store = LmdbStore(source, read_only=True, live=self.live, events=events)
        try:
            self._environment(store, target)
        finally:
            store.close()

    def _environment(self, store: LmdbStore, target: Path) -> None:
        copied = target / "data.mdb"
        fault: list[Exception] = []

        def copy() -> None:
            try:
                store.copy(target)
            except Exception as error:
                fault.append(error)

        worker = threading.Thread(target=copy)
        worker.start()
        while worker.is_alive():
            worker.join(_TELL_S)
            self.tell(copied.stat().st_size if copied.exists() else 0)
        if fault:
            raise fault[0]
        sync_file(copied)
        self.done += copied.stat().st_size


def _leave_with_our_king() -> None:
    """Standard input is its pipe."""
    while os.read(0, 1):
        pass
    os._exit(1)


def main(words: list[str]) -> int:
    """The child; its exit code."""
    source, target = Layout(Path(words[0])), Layout(Path(words[1]))
    threading.Thread(target=_leave_with_our_king, daemon=True).start()
    os.nice(_NICENESS)
    copy = _Copy(source, target, "--live" in words[2:])
    try:
        copy.run()
    except (OSError, lmdb.Error) as error:
        fault = explain_disk(error, target.root.parent, "copying the pier")
        print(json.dumps(fault.as_json()), flush=True)
        return 1
    except TreadleError as error:
        print(json.dumps(error.as_json()), flush=True)
        return 1
    print(json.dumps({"bytes": copy.done}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
