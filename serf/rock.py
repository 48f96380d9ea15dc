"""A state in and out of an image: rocks, and what Vere left.

    rock-out IMAGE EVENT FILE            the image's state as a rock, in an empty FILE
    rock-in FILE IMAGE EVENT SHIP LOG    a rock as a new image
    vere-in FILE IMAGE SHIP LOG          a Vere's image.bin as a new image

A rock is what Vere's `cram` writes and its `queu` reads: the jam of
`[%arvo kernel %hashboard cold]` (spec/king.md 3.8). SHIP and LOG are 16 bytes in
hex, of the identity that the image is to have.

What it is: a process that may die of a hostile file. On stdout, JSON: what was
    made, or {"error", "message"}.
Invariants: an image is made beside its name as `.part`, and has it when it is whole
    and durable; a rock gets its name from whoever asked for it; nothing that exists
    is replaced; the source is only read.
Limits: memory for the state, and for its jam twice.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from proto import fast
from proto.cord import cord
from proto.errors import CueError
from proto.jam import cue, jam
from serf.cold import BadCold, from_vere, to_vere
from serf.engine import Engine, Failed, NotJam
from serf.errors import ImageUnusable
from serf.vere_image import BadImage, read_image

__all__ = ["run_rock"]

_ARVO = jam(cord("arvo"))
_HASHBOARD = jam(cord("hashboard"))
_PARTS = (2, 6, 14, 15)
"""Axes of a rock's four."""


class BadRock(Exception):
    """It is no rock, or none that we can use."""


def run_rock(args: list[str]) -> int:
    """One of the tools; its exit code."""
    name, *words = args
    tools: dict[str, tuple[int, Callable[..., dict[str, Any]]]] = {
        "rock-out": (3, rock_out),
        "rock-in": (5, rock_in),
        "vere-in": (4, vere_in),
    }
    count, tool = tools[name]
    if len(words) != count:
        return _fail("usage", f"{name} takes {count} words")
    try:
        print(json.dumps(tool(*words)), flush=True)
    except (BadRock, BadCold, BadImage, NotJam) as error:
        return _fail("rock-bad", f"{words[0]}: {error}")
    except ImageUnusable as error:
        return _fail("image-damaged", f"{words[0]}: {error}")
    except Failed as error:
        return _fail("snapshot-failed", f"it could not be saved: {error}")
    except MemoryError:
        return _fail("failed", f"{words[0]}: there is not memory enough for it")
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        code = "disk-full" if full else "file-bad"
        return _fail(code, f"{error.filename or words[0]}: {error.strerror}")
    return 0


def _fail(code: str, message: str) -> int:
    print(json.dumps({"error": code, "message": message}), flush=True)
    return 1


# --- out ----------------------------------------------------------------------


def rock_out(image: str, event: str, target: str) -> dict[str, Any]:
    """The state of that very event, verified, as a rock."""
    engine = Engine()
    engine.open_image(image)
    loaded = engine.load(int(event), True, bytes(16), bytes(16))
    if not loaded.good or loaded.event != int(event):
        raise ImageUnusable(f"there is no whole state of event {event} in it")
    state = engine.state()
    kernel, cold = fast.slots(state, (2, 3))
    assert kernel is not None
    assert cold is not None
    rock = fast.tuple_([_ARVO, kernel, _HASHBOARD, jam(to_vere(cue(cold)))])
    with open(target, "r+b") as file:
        file.write(rock)
        file.flush()
        os.fsync(file.fileno())
    return {
        "event": loaded.event,
        "mug": f"{loaded.mug:08x}",
        "bytes": len(rock),
        "ship": loaded.ship.hex(),
        "log": loaded.log.hex(),
    }


def _refuse_existing(target: str) -> None:
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, "exists already", target)


def _sync_folder(path: str) -> None:
    folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


# --- in -----------------------------------------------------------------------


def rock_in(source: str, image: str, event: str, ship: str, log: str) -> dict[str, Any]:
    """A rock as a new image, of a state after `event`."""
    with open(source, "rb") as file:
        rock = file.read()
    try:
        arvo, kernel, hashboard, cold = fast.slots(rock, _PARTS)
    except CueError as error:
        raise BadRock(f"it is no jam ({error.text})") from error
    if arvo != _ARVO or hashboard != _HASHBOARD or kernel is None or cold is None:
        raise BadRock("it is not [%arvo kernel %hashboard cold]")
    ours = jam(from_vere(cue(cold)))
    return _make_image(kernel, ours, int(event), image, ship, log)


def vere_in(source: str, image: str, ship: str, log: str) -> dict[str, Any]:
    """The state in an image.bin of Vere's as a new image; its jets are registered
    anew as the kernel goes."""
    state = read_image(source)
    return _make_image(state.kernel, jam(0), state.event, image, ship, log)


def _make_image(
    kernel: bytes, cold: bytes, event: int, image: str, ship: str, log: str
) -> dict[str, Any]:
    """Equal nouns of both become one, as they are in a ship that grew."""
    _refuse_existing(image)
    part = f"{image}.part"
    Path(part).unlink(missing_ok=True)
    try:
        engine = Engine()
        engine.open_image(part)
        engine.load(event, False, bytes.fromhex(ship), bytes.fromhex(log))
        engine.install(fast.tuple_([kernel, cold]), event)
        engine.begin_save(-1)
        saved = engine.end_save()
        os.rename(part, image)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise
    _sync_folder(image)
    return {"file": image, "event": saved.event, "mug": f"{saved.mug:08x}"}
