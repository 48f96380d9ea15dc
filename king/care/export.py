"""`treadle export PIER FILE`: the state as a portable rock, or the log as one file.

A rock is what Vere's `cram` writes: `queu` takes it, and so does `treadle import`.
Beside it goes FILE.json with what a rock does not say: whose it is, and of which
event. With --saved it is the newest state that is in the image, also of a pier whose
log has lost events (king/behind.py): with them, if they are in that state. With
--log, the events (or some of them) go into a file of king/log_file.py.

Live or at rest; the rock is made from the image by a process of its own. What is
there under its name is whole; interrupted, nothing is. A kill leaves `.FILE.export`
(and FILE.json, if it came between the two names), which the next call makes anew.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import trio

from king.care.ground import Ground, Progress, log_of
from king.check import image_info
from king.config import RUNTIME
from king.disk import explain_disk, rename_new, sync_directory, write_durably
from king.errors import TreadleError
from king.log.chain import link_before
from king.log.epoch import Log
from king.log_file import BLOCK_BYTES, LogFileWriter, LogHead
from king.part import check_new, file_part, new_file
from king.steps import run_steps
from proto.cord import ship_text

__all__ = ["export", "facts_of"]

_ROWS = 4096


def facts_of(rock: Path) -> Path:
    """Where a rock's own words are."""
    return rock.with_name(f"{rock.name}.json")


async def export(
    ground: Ground, arguments: Mapping[str, Any], progress: Callable[[Progress], None]
) -> dict[str, Any]:
    """`file`, `kind` (rock or log), `event` or `first` and `last`, `bytes`, and
    what proves it: `mug`, or `sha256`.

    :raises TreadleError: pier-exists, pier-missing, disk-*, image-*, log-*
    """
    target = Path(arguments["file"])
    check_new(target)
    log = await log_of(ground)
    if arguments["log"] and arguments["saved"]:
        raise TreadleError("usage", "--saved is a state, --log the events")
    if arguments["log"]:
        first = log.first if arguments["first"] is None else arguments["first"]
        last = log.last if arguments["last"] is None else arguments["last"]
        if not log.first <= first <= last <= log.last:
            raise TreadleError(
                "usage",
                f"events {first} to {last} are not in the log: it has {log.first} to "
                f"{log.last}",
            )
        return await _export_log(ground, log, target, first, last, progress)
    if arguments["first"] is not None or arguments["last"] is not None:
        raise TreadleError("usage", "--first and --last go with --log")
    return await _export_rock(ground, log, target, arguments["saved"], progress)


def _link(log: Log, first: int) -> str | None:
    """Of the hash chain, where it says something of just the events before `first`."""
    chains = [(epoch.start, epoch.chain_path) for epoch in log.epochs]
    try:
        link = link_before(chains, first)
    except OSError:
        return None
    return link.hex() if link is not None else None


async def _saved(ground: Ground) -> int:
    """The event of the newest state in the image, whatever the log has.

    :raises TreadleError: image-event-missing, failed
    """
    image = await trio.to_thread.run_sync(image_info, ground.layout.image)
    if not image["good"] or image["log"] != ground.identity.hex():
        raise TreadleError(
            "image-event-missing", f"{ground.layout.image} has no state of this ship"
        )
    return int(image["event"])


async def _export_rock(
    ground: Ground,
    log: Log,
    target: Path,
    saved: bool,
    progress: Callable[[Progress], None],
) -> dict[str, Any]:
    if not file_part(target).exists():  # else of a kill between the two names
        check_new(facts_of(target))
    try:
        with new_file(target) as (part, file):
            progress(Progress(0, 0, "bytes", "saving"))
            async with ground.hold_saves():
                event = await _saved(ground) if saved else await ground.save()
                progress(Progress(0, 0, "bytes", "writing the rock"))
                words = ("rock-out", str(ground.layout.image), str(event), str(part))
                ended = await run_steps(
                    "serf", *words, step=lambda row: None, hold=file.fileno()
                )
            found = ended.last
            if ended.code or "bytes" not in found:
                raise ended.fault("the rock was not written")
            # First, so that no rock is there that says nothing of itself.
            _write_facts(ground, log, target, found)
            try:
                rename_new(part, target)
            except OSError:
                facts_of(target).unlink()
                raise
            sync_directory(target.parent)
    except FileExistsError as error:
        raise TreadleError("pier-exists", f"{target} appeared meanwhile") from error
    except OSError as error:
        raise explain_disk(error, target.parent, "writing the rock") from error
    facts = json.loads(facts_of(target).read_bytes())
    return {"file": str(target), "kind": "rock", "bytes": found["bytes"], **facts}


def _write_facts(
    ground: Ground, log: Log, target: Path, found: Mapping[str, Any]
) -> None:
    """What a rock does not say.

    :raises OSError:
    """
    facts = {
        "ship": ship_text(log.meta.who),
        "fake": log.meta.fake,
        "life": log.meta.life,
        "identity": ground.identity.hex(),
        "event": found["event"],
        "mug": found["mug"],
        "runtime": RUNTIME,
        "link": _link(log, found["event"] + 1),
    }
    write_durably(facts_of(target), json.dumps(facts, indent=1).encode() + b"\n")


async def _export_log(
    ground: Ground,
    log: Log,
    target: Path,
    first: int,
    last: int,
    progress: Callable[[Progress], None],
) -> dict[str, Any]:
    began = time.monotonic()
    meta = log.meta
    link = _link(log, first)
    head = LogHead(
        *(meta.who, meta.fake, meta.life, ground.identity, first, last, RUNTIME),
        bytes.fromhex(link) if link is not None else None,
    )

    def write(following: int) -> int:
        """In a thread that is not the log's: reading keeps no writer waiting."""
        rows = log.read(following, min(_ROWS, last - following + 1), BLOCK_BYTES)
        writer.rows(rows)
        return following + len(rows)

    try:
        with new_file(target) as (part, file):
            writer = LogFileWriter(file, head)
            following = first
            while following <= last:
                following = await trio.to_thread.run_sync(write, following)
                done = following - first
                progress(Progress(done, last - first + 1, "events", "writing"))
            sha256 = writer.end()
            file.flush()
            await trio.to_thread.run_sync(os.fsync, file.fileno())
            size = file.tell()
            rename_new(part, target)
            sync_directory(target.parent)
    except FileExistsError as error:
        raise TreadleError("pier-exists", f"{target} appeared meanwhile") from error
    except OSError as error:
        raise explain_disk(error, target.parent, "writing the log") from error
    return {
        "file": str(target),
        "kind": "log",
        "ship": ship_text(meta.who),
        "first": first,
        "last": last,
        "bytes": size,
        "sha256": sha256,
        "seconds": round(time.monotonic() - began, 3),
    }
