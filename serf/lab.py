"""What a start would make of an image: for the crash lab, many in one process.

    python -m serf lab        JSON lines on stdin and stdout

    {"image": PATH, "ship": HEX, "log": HEX, "life": N, "rows": FILE}

`rows` is a file of JSON: [[mug, job in hex], ...], the log from event 1. The
image is loaded as a serf loads it, with every page verified; what the log has
beyond it is played, a snapshot saved, and the image loaded once more. The
answer tells what was found at each step, and the hash of the state beside the
hash that the same rows give when they are played from the first:

    {"fault": "", "newest": N, "good": true, "event": N, "fell_back": N, "note": "...",
     "state": HEX, "expected": HEX, "end": HEX, "expected_end": HEX,
     "reference_fault": "",
     "again": {"good": ..., "event": ..., "fell_back": ...},
     "pins": {"NAME": {"event": N, "fault": "..."}}}

`newest` is the event of the newest superblock. Pins are looked at last, so after a
save: each is copied out and compared.

What it is: `python -m serf` without pipe and confinement, over and over. It
    writes to the images that it is given.
Invariants: references are computed in peace, in a machine of their own.
Limits: small machines; the rows of one ship at a time are kept.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import sys
from typing import Any

from proto.message import Jam, Row
from serf.copy import copy_image
from serf.engine import CopyFailed, Engine, Failed, Loaded, image_facts
from serf.errors import SerfError

__all__ = ["run"]

_HOME_SIZE = 1 << 28
_NURSERY_SIZE = 1 << 28

Facts = dict[str, Any]


class Refused(Exception):
    """A step that a start could not have taken."""


@functools.lru_cache(maxsize=64)
def _rows(path: str) -> tuple[Row, ...]:
    with open(path, "rb") as file:
        return tuple(Row(mug, Jam(bytes.fromhex(job))) for mug, job in json.load(file))


def _engine() -> Engine:
    return Engine(_HOME_SIZE, _NURSERY_SIZE)


def _hash(engine: Engine) -> str:
    return hashlib.sha256(engine.kernel()).hexdigest() if engine.event else ""


def _play(engine: Engine, rows: tuple[Row, ...], life: int, end: int) -> None:
    """From where the engine stands to event `end`."""
    start = engine.event
    if start < end:
        stopped = engine.play(life if start == 0 else 0, rows[start:end])
        if stopped is not None:
            raise Refused(f"the replay of event {stopped.event} diverged or crashed")


@functools.lru_cache(maxsize=4096)
def _reference(rows: tuple[Row, ...], life: int) -> str:
    """The state after these rows, computed in peace."""
    engine = _engine()
    _play(engine, rows, life, len(rows))
    return _hash(engine)


def _load(engine: Engine, job: Facts, event_max: int) -> Loaded:
    ship, log = bytes.fromhex(job["ship"]), bytes.fromhex(job["log"])
    engine.open_image(job["image"])
    loaded = engine.load(event_max, True, ship, log)
    if loaded.good and (loaded.ship, loaded.log) != (ship, log):
        raise Refused("the image is another ship's")
    return loaded


def _answer(job: Facts, wake_fd: int) -> Facts:
    rows, life = _rows(job["rows"]), job["life"]
    facts: Facts = {"fault": ""}
    try:
        there = os.path.exists(job["image"])
        newest = image_facts(job["image"]).event if there else 0
        engine = _engine()
        loaded = _load(engine, job, len(rows))
        start = engine.event
        facts.update(
            newest=newest,
            good=loaded.good,
            event=start,
            fell_back=loaded.fell_back,
            note=loaded.note,
            state=_hash(engine),
        )
        _play(engine, rows, life, len(rows))
        facts.update(end=_hash(engine))
        engine.begin_save(wake_fd)
        engine.end_save()
        del engine
        engine = _engine()
        again = _load(engine, job, len(rows))
        facts["again"] = {
            "good": again.good,
            "event": again.event,
            "fell_back": again.fell_back,
            "state": _hash(engine),
        }
        facts["pins"] = {
            pin.name: {"event": pin.event, "fault": _pin_fault(job, pin.event, rows)}
            for pin in image_facts(job["image"]).pins
        }
    except (SerfError, Refused) as error:
        facts["fault"] = str(error)
    except Failed as error:
        facts["fault"] = f"the serf failed: {error}"
    if not facts["fault"]:
        facts.update(_references(rows, life, facts["event"]))
    return facts


def _pin_fault(job: Facts, event: int, rows: tuple[Row, ...]) -> str:
    """What is wrong with a pinned state; "" if nothing."""
    target = f"{job['image']}.pinned"
    try:
        copy_image(job["image"], event, target, lambda _: None)
        engine = _engine()
        loaded = _load(engine, {**job, "image": target}, event)
        if not loaded.good or loaded.event != event:
            return loaded.note or "it does not load"
        if _hash(engine) != _reference(rows[:event], job["life"]):
            return "it is not the state that its log gives"
    except (CopyFailed, OSError, SerfError, Refused) as error:
        return str(error)
    finally:
        if os.path.exists(target):
            os.unlink(target)
    return ""


def _references(rows: tuple[Row, ...], life: int, event: int) -> Facts:
    """What the rows alone give; empty, with the reason, if they give nothing."""
    try:
        return {
            "expected": _reference(rows[:event], life) if event else "",
            "expected_end": _reference(rows, life),
            "reference_fault": "",
        }
    except Refused as error:
        return {"expected": "", "expected_end": "", "reference_fault": str(error)}


def run() -> int:
    """Answer until stdin ends."""
    wake_fd = os.eventfd(0)  # told of the end of a save; nobody here listens
    for line in sys.stdin:
        answer = json.dumps(_answer(json.loads(line), wake_fd)).encode() + b"\n"
        os.write(1, answer)
    return 0
