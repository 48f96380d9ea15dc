"""`treadle import PIER FILE`: a pier from a log file, or from a rock.

From a log that begins with event 1, all is computed again. From a rock, the pier
begins at the rock's event: its first epoch is `0i<event>`, with the state at its
start. From both (`--rock`), the state and then the events after it. Every mug that
the log has is compared. The hash chain goes on from the link that the file carries;
where it carries none, it begins anew, and that is said.

Owns: the folder that the pier is made in, until it has its name.
Invariants: whole or not at all, as a boot. The pier is marked as a copy: where it
    came from, the ship may still live; so it runs after `treadle adopt`.
Limits: a range of events alone is no ship.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import trio

from king.care.ground import Progress
from king.care.rest import cancel_on_signal
from king.config import RUNTIME
from king.disk import check_local_disk, explain_disk, sync_directory, sync_file
from king.epochs import keep_start
from king.errors import TreadleError
from king.log.chain import CHAIN_FILE, NO_LINK, create_chain
from king.log.epoch import create_log, open_log, prepare_epoch
from king.log.store import LmdbStore, Meta, create_store
from king.log_file import MAGIC, LogFileReader, LogHead
from king.manifest import Manifest, write_manifest
from king.part import name_it, new_part
from king.pier import (
    Layout,
    Pier,
    identity_bytes,
    lock_pier,
    make_directories,
    new_manifest,
)
from king.replay import play_through
from king.steps import run_steps
from proto.cord import ship_from_text, ship_text
from proto.errors import TextError

__all__ = ["Rock", "import_pier", "import_until_told", "is_log", "read_rock_facts"]

Tell = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Rock:
    """A rock, and what it does not say of itself. `mug` "": not known."""

    path: Path
    ship: int
    fake: bool
    life: int
    event: int
    mug: str
    identity: bytes
    link: bytes | None = None
    """Of the hash chain, up to `event`."""


def read_rock_facts(
    path: Path, ship: str | None, event: int | None, real: bool
) -> Rock:
    """What the command line says of a rock, or else what was exported with it.

    :raises TreadleError: usage, ship-bad, rock-bad
    """
    facts: dict[str, Any] = {}
    beside = path.with_name(f"{path.name}.json")
    try:
        facts = json.loads(beside.read_bytes()[: 1 << 16])
        identity = bytes.fromhex(facts["identity"])
        life, fake, mug = int(facts["life"]), bool(facts["fake"]), str(facts["mug"])
        ship, event = ship or str(facts["ship"]), event or int(facts["event"])
        link = bytes.fromhex(facts.get("link") or "") or None
        if len(identity) != 16 or not 0 < life < 1 << 31:
            raise ValueError("numbers out of range")
        if link is not None and len(link) != 32:
            raise ValueError("its link is none")
    except FileNotFoundError:
        identity, life, fake, mug, link = os.urandom(16), 1, not real, "", None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TreadleError("rock-bad", f"{beside} makes no sense: {error}") from error
    if ship is None or event is None or not 0 < event < 1 << 63:
        raise TreadleError(
            "usage",
            f"{path} does not say whose it is, nor of which event",
            "give --ship ~NAME and --event N (of a Vere's, N is its file's name)",
        )
    try:
        return Rock(path, ship_from_text(ship), fake, life, event, mug, identity, link)
    except TextError as error:
        raise TreadleError("ship-bad", str(error)) from error


def is_log(path: Path) -> bool:
    """Of the two kinds of file, which is this?

    :raises TreadleError: file-bad
    """
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError as error:
        raise TreadleError("file-bad", f"{path}: {error.strerror}") from error


async def import_until_told(
    target: Path, log: Path | None, rock: Rock | None, progress: Tell
) -> dict[str, Any]:
    """`import_pier`, ended by SIGINT and SIGTERM.

    :raises KeyboardInterrupt: it was
    """
    found: dict[str, Any] = {}
    async with trio.open_nursery() as nursery:
        scope = await nursery.start(cancel_on_signal)
        with scope:
            found = await import_pier(target, log, rock, progress)
        nursery.cancel_scope.cancel()
    if scope.cancelled_caught:
        raise KeyboardInterrupt
    return found


async def import_pier(
    target: Path, log: Path | None, rock: Rock | None, progress: Tell
) -> dict[str, Any]:
    """Make it; `event`, `mug`, `ship`, what it was made of, and whether its hash
    chain is `continued`.

    :raises TreadleError: pier-exists, log-file-bad, rock-bad, replay-*, disk-*
    """
    began = time.monotonic()
    part = target.with_name(f".{target.name}.import")
    with new_part(target, part) as lock:
        check_local_disk(part)
        layout = Layout(part)
        make_directories(layout, log=False)
        locks = lock_pier(layout)
        try:
            manifest, link = await _fill(layout, log, rock, lock, progress)
            write_manifest(layout.manifest, manifest)
            opened = open_log(layout.log_dir, read_only=True)
        except BaseException:
            locks.release()
            raise
        with Pier(layout, locks, opened, manifest, []) as pier:
            found = await _compute(pier, rock, progress)
            name_it(part, target)
    return {
        "pier": str(target),
        "ship": ship_text(manifest.ship),
        **found,
        "chain_continued": link is not None,
        "seconds": round(time.monotonic() - began, 3),
    }


async def _fill(
    layout: Layout, log: Path | None, rock: Rock | None, lock: int, progress: Tell
) -> tuple[Manifest, bytes | None]:
    """The log, and the rock's image; what the manifest is to say, and the link that
    the hash chain continues."""
    name = os.uname().nodename
    link = rock.link if rock is not None else None
    if log is None:
        assert rock is not None
        meta = Meta(rock.ship, rock.fake, rock.life)
        await trio.to_thread.run_sync(_begin_log, layout, meta, rock.event)
        what, identity = (
            f"the rock {rock.path.name} of event {rock.event}",
            rock.identity,
        )
    else:
        work = partial(_fill_log, layout, log, rock, progress)
        head = await trio.to_thread.run_sync(work)
        meta, identity = Meta(head.ship, head.fake, head.life), head.identity
        what = f"the log {log.name}"
        if rock is None or rock.event == head.first - 1:
            link = head.link if link is None else link
    start = rock.event if rock is not None else 0
    link = link if start else NO_LINK
    await trio.to_thread.run_sync(_begin_chain, layout, start, link or NO_LINK)
    if rock is not None:
        await _fill_image(layout, rock, meta, identity, lock, progress)
    manifest = replace(new_manifest(meta.who, adopted=False), identity=identity)
    copy = f"it was imported on {name} from {what}"[:256]
    return replace(manifest, copy=copy), link


def _begin_chain(layout: Layout, start: int, link: bytes) -> None:
    """Of the one epoch; the first start chains its rows."""
    path = layout.log_dir / f"0i{start}" / CHAIN_FILE
    try:
        create_chain(path, start, link)
        sync_file(path)
    except OSError as error:
        raise explain_disk(error, layout.root, "beginning the hash chain") from error


def _begin_log(layout: Layout, meta: Meta, start: int) -> None:
    """A log whose one epoch begins after `start`, empty."""
    log_dir = layout.log_dir
    if not start:
        create_log(log_dir, meta, [], RUNTIME)
        return
    log_dir.mkdir(mode=0o700)
    create_store(log_dir, meta, events=False)
    prepare_epoch(log_dir, meta, RUNTIME).rename(log_dir / f"0i{start}")
    sync_directory(log_dir)


def _fill_log(layout: Layout, path: Path, rock: Rock | None, progress: Tell) -> LogHead:
    """In a thread. The rows, block by block, each durable."""
    start = rock.event if rock is not None else 0
    try:
        with path.open("rb") as file:
            reader = LogFileReader(file, str(path))
            head = reader.head
            _check_fits(reader, path, rock)
            meta = Meta(head.ship, head.fake, head.life)
            _begin_log(layout, meta, start)
            store = LmdbStore(layout.log_dir / f"0i{start}", start=start)
            try:
                for first, rows in reader.blocks():
                    skipped = max(start + 1 - first, 0)
                    if rows[skipped:]:
                        store.append(first + skipped, rows[skipped:])
                    done, total = first + len(rows) - head.first, head.last
                    progress(
                        Progress(done, total - head.first + 1, "events", "reading")
                    )
                    trio.from_thread.check_cancelled()
            finally:
                store.close()
    except OSError as error:
        raise explain_disk(error, layout.root, f"importing {path}") from error
    return head


def _check_fits(reader: LogFileReader, path: Path, rock: Rock | None) -> None:
    head = reader.head
    if rock is None:
        if head.first != 1:
            raise TreadleError(
                "usage",
                f"{path} begins with event {head.first}: alone it is no ship",
                f"give the state before it, too: --rock FILE, of event "
                f"{head.first - 1} or later",
            )
        if not 0 < head.life <= head.last or head.life >= 1 << 31:
            raise TreadleError(
                "log-file-bad", f"{path}: {head.life} of {head.last} events boot it"
            )
        return
    if not head.first - 1 <= rock.event <= head.last:
        raise TreadleError(
            "usage",
            f"the rock is of event {rock.event}, and {path} has {head.first} to "
            f"{head.last}",
            "a log that goes on from the rock's event is needed",
        )
    if head.ship != rock.ship:
        raise TreadleError(
            "identity-mismatch",
            f"the rock is {ship_text(rock.ship)}'s, the log {ship_text(head.ship)}'s",
        )


async def _fill_image(
    layout: Layout,
    rock: Rock,
    meta: Meta,
    identity: bytes,
    lock: int,
    progress: Tell,
) -> None:
    progress(Progress(0, 0, "bytes", "reading the rock"))
    layout.image.parent.mkdir(mode=0o700, exist_ok=True)
    words = (
        *("rock-in", str(rock.path), str(layout.image), str(rock.event)),
        *(identity_bytes(meta.who).hex(), identity.hex()),
    )
    ended = await run_steps("serf", *words, step=lambda row: None, hold=lock)
    found = ended.last
    if ended.code or "mug" not in found:
        raise ended.fault(f"{rock.path} was not read")
    if rock.mug and found["mug"] != rock.mug:
        raise TreadleError(
            "rock-bad",
            f"{rock.path} is a state of mug {found['mug']}, and should be {rock.mug}",
            "export it again, or fetch it again",
        )
    log = open_log(layout.log_dir, read_only=True)
    try:
        (epoch,) = log.epochs
    finally:
        log.close()
    await keep_start(
        layout,
        epoch,
        identity_bytes(meta.who),
        identity,
        lambda note, done, total: progress(Progress(done, total, "bytes", note)),
    )


async def _compute(pier: Pier, rock: Rock | None, progress: Tell) -> dict[str, Any]:
    """Replay what there is; a snapshot of the end."""
    done, ended = await play_through(
        pier,
        pier.layout.image,
        pier.log.last,
        lambda now: progress(
            Progress(now.event, now.last, "events", now.note or "replaying")
        ),
    )
    if not ended:
        raise KeyboardInterrupt
    if rock is not None and done.event < rock.event:
        raise TreadleError("rock-bad", "the rock's state was not used")
    return {"event": done.event, "mug": f"{done.mug:08x}", "replayed": done.count}
