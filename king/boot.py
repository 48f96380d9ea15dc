"""Boot: from a pill to a pier that any `run` can start.

What it is: the boot list of the specification (5.2), and the ceremony that
    turns it into a directory.
Owns: the temporary directory beside the target, until it is renamed.
Invariants: a crash at any line leaves either no pier or a whole one: log,
    manifest and snapshot are durable before the directory gets its name. The
    list depends on pill, ship, time and entropy alone.
Limits: fake ships; real ones need keys and a network (a later issue).
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from king.config import RUNTIME, BootOptions, runtime_version
from king.disk import check_local_disk, explain_disk, publish
from king.errors import TreadleError
from king.log.epoch import create_log, open_log
from king.log.store import Meta
from king.manifest import write_manifest
from king.pier import (
    Layout,
    Pier,
    lock_pier,
    make_directories,
    new_manifest,
)
from king.pill.formats import Pill, embedded_pill_path, read_pill
from king.place import observe
from proto import fast
from proto.cord import da_from_unix, ship_text
from proto.jam import jam
from proto.message import Row
from proto.noun import Noun, noun

__all__ = [
    "STEP",
    "Booted",
    "RunBoot",
    "boot",
    "boot_rows",
    "check_fake_ship",
    "clean_leftovers",
    "wyrd_card",
]

STEP = 1 << 48
"""Between two stamps: 2^-16 s."""

_ENTROPY_BYTES = 64
_NONCE = "0v1s.vu178"
"""The nonce of the boot's own %wyrd is a constant, in Vere too."""

RunBoot = Callable[[Pier], tuple[int, int]]
"""Run all rows of the pier's log through a serf, save, give (event, mug)."""


# --- the list ---------------------------------------------------------------


def wyrd_card(nonce: str, kelvins: Sequence[tuple[str, int]]) -> Noun:
    """`[%wyrd [nonce runtime-path] kelvins]`: who runs you, and what it offers."""
    runtime = ["treadle", "live", f"~.{runtime_version()}"]
    return noun("wyrd", (nonce, runtime), list(kelvins))


def boot_rows(
    pill: Pill,
    ship: int,
    *,
    now: int,
    entropy: bytes,
    kelvins: Sequence[tuple[str, int]],
    verbose: bool = False,
) -> list[Row]:
    """The whole log of a fresh fake ship: raw boot events, then stamped ova."""
    assert len(entropy) == _ENTROPY_BYTES
    arvo = (0, ["arvo"])
    # Loobeans: %verb's no is "be verbose", %boot's no is "not a lite boot".
    lead = [
        noun(arvo, wyrd_card(_NONCE, kelvins)),
        noun(arvo, ("verb", 0, 1 if verbose else 0)),
        noun(arvo, ("whom", ship)),
        noun(arvo, ("wack", entropy)),
    ]
    identity = noun(("d", ["term", "1"]), ("boot", 1, "fake", ship))
    ova = [
        *(jam(ovum) for ovum in lead),
        *pill.kernel,
        jam(identity),
        *pill.userspace,
    ]
    rows = [Row(0, event) for event in pill.boot]
    for index, ovum in enumerate(ova, 1):
        rows.append(Row(0, fast.stamp(now + index * STEP, ovum)))
    return rows


def check_fake_ship(ship: int) -> None:
    """Refuse what cannot be a fake ship.

    :raises TreadleError: ship-bad
    """
    if ship >= 1 << 64:
        raise TreadleError(
            "ship-bad",
            f"{ship_text(ship)} is a comet; a fake ship is a galaxy, star, planet "
            "or moon",
            "try --fake ~zod",
        )


# --- leftovers --------------------------------------------------------------

_LEFTOVER_MINUTE_S = 60.0


def _temporary_name(target: Path, token: str) -> str:
    return f".{target.name}.boot-{token}"


def clean_leftovers(target: Path) -> list[Path]:
    """Remove temporary directories of boots of `target` that died.

    Ours, provably: the name, our uid, our lock file with our name in it, and
    nobody holding that lock. All else is left alone.
    """
    pattern = re.compile(re.escape(f".{target.name}.boot-") + r"[0-9a-f]{16}\Z")
    removed: list[Path] = []
    try:
        names = os.listdir(target.parent)
    except OSError:
        return removed
    for name in names:
        path = target.parent / name
        if pattern.match(name) and _is_dead_boot(path):
            shutil.rmtree(path, ignore_errors=True)
            removed.append(path)
    return removed


def _is_dead_boot(path: Path) -> bool:
    try:
        info = path.lstat()
        if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.geteuid():
            return False
        entries = set(os.listdir(path))
        if not entries <= {".urb", ".vere.lock"}:
            return False
        lock = Layout(path).lock
        # It died before it took its lock, or is just about to take it.
        young = time.time() - info.st_mtime < _LEFTOVER_MINUTE_S
        if not lock.exists():
            return not young and _holds_no_file(path)
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            note = json.loads(file.read(4096) or b"{}")
            if not note:
                return not young
            return str(note.get("runtime", "")).startswith("treadle-")
    except (OSError, ValueError, AttributeError):
        return False


def _holds_no_file(path: Path) -> bool:
    return not any(files for _, _, files in os.walk(path))


# --- the ceremony -----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Booted:
    """What a boot did."""

    pier: Path
    ship: int
    pill: str
    event: int
    mug: int
    seconds: float


def boot(
    options: BootOptions,
    run_boot: RunBoot,
    *,
    now: int | None = None,
    entropy: bytes | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Booted:
    """Make the pier `options.pier`, whole, or not at all.

    :raises TreadleError: pier-exists, pill-*, ship-bad, boot-failed, disk-*
    """
    started = time.monotonic()
    target = Path(os.path.abspath(options.pier))
    check_fake_ship(options.ship)
    _check_target(target)
    pill = read_pill(options.pill or embedded_pill_path())
    say(f"parsed %{pill.name} pill: {len(pill.boot)} boot events")
    rows = boot_rows(
        pill,
        options.ship,
        now=da_from_unix(time.time_ns()) if now is None else now,
        entropy=secrets.token_bytes(_ENTROPY_BYTES) if entropy is None else entropy,
        kelvins=options.kelvins,
    )
    for path in clean_leftovers(target):
        say(f"removed {path.name}, left by a boot that died")
    temporary = target.parent / _temporary_name(target, secrets.token_hex(8))
    try:
        temporary.mkdir(mode=0o700)
    except OSError as error:
        raise explain_disk(error, target.parent, "making the pier") from error
    whole = False
    try:
        pier = _make_pier(temporary, target, options.ship, len(pill.boot), rows)
        try:
            event, mug = _compute(pier, run_boot)
            assert event == len(rows), (event, len(rows))
            # Under the lock, which tells others that this is no leftover.
            _publish(temporary, target)
            whole = True
        finally:
            pier.close()
    except OSError as error:
        raise explain_disk(error, target.parent, "making the pier") from error
    finally:
        if not whole:
            shutil.rmtree(temporary, ignore_errors=True)
    seconds = time.monotonic() - started
    return Booted(target, options.ship, pill.name, event, mug, seconds)


def _compute(pier: Pier, run_boot: RunBoot) -> tuple[int, int]:
    """Run the rows; a crash here is the pill's fault, not the log's."""
    try:
        return run_boot(pier)
    except TreadleError as error:
        if error.code not in ("replay-crashed", "replay-diverged"):
            raise
        raise TreadleError(
            "boot-failed",
            f"the pill does not boot: {error.message}",
            "is the pill whole, and meant for this kind of machine? nothing was kept",
        ) from error


def _check_target(target: Path) -> None:
    if os.path.lexists(target):
        raise TreadleError(
            "pier-exists",
            f"{target} exists already",
            f"start it with `treadle run {target}`, or boot into a new directory",
        )
    if not target.parent.is_dir():
        raise TreadleError(
            "pier-missing",
            f"the directory {target.parent}, where the pier would go, does not exist",
            f"make it first: mkdir -p {target.parent}",
        )
    check_local_disk(target.parent)


def _make_pier(
    root: Path, target: Path, ship: int, life: int, rows: Sequence[Row]
) -> Pier:
    """All but the snapshot, durably; the pier comes locked."""
    layout = Layout(root)
    make_directories(layout, log=False)
    locks = lock_pier(layout)
    try:
        create_log(layout.log_dir, Meta(ship, True, life), rows, RUNTIME)
        place = replace(observe(layout), path=str(target))
        manifest = replace(new_manifest(ship, adopted=False), place=place)
        write_manifest(layout.manifest, manifest)
        log = open_log(layout.log_dir, read_only=True)
    except BaseException:
        locks.release()
        raise
    return Pier(layout, locks, log, manifest, [])


def _publish(temporary: Path, target: Path) -> None:
    try:
        publish(temporary, target)
    except FileExistsError as error:
        raise TreadleError(
            "pier-exists",
            f"{target} appeared while we were booting; nothing of it was changed",
            "boot into another directory",
        ) from error
