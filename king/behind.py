"""Is the log behind what was made of it?

What it is: a question before anything is done to a pier that could save a state. A
    snapshot is written when the events in it are durable, and so is a chain; one
    that is beyond the log's end tells that events were lost which people were told
    of: an older log was put beside it, or the disk lost what it had promised to
    keep. Going on would give their numbers to others.
Invariants: nothing is written; what is damaged tells nothing (a serf looks at the
    checksum of a superblock that says so), nor does what belongs to another log.
Limits: where image, chain and records are as old as the log, `memory` may know.
    Vere's own snapshot says nothing of its log, and is not asked.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from king.errors import TreadleError
from king.formats import IMAGE_MAGIC, IMAGE_RING, read_at
from king.log.start import read_start

if TYPE_CHECKING:
    from king.log.epoch import Log
    from king.manifest import Manifest
    from king.pier import Layout

__all__ = ["check_behind", "why_behind"]

_SUPERBLOCK = Struct("<8sII16sQQ16s16s")
"""native/image_inside.h: magic, format, size of a page, sum, generation, event,
ship, log."""


def check_behind(layout: Layout, manifest: Manifest, log: Log) -> None:
    """Refuse a log that has lost events.

    :raises TreadleError: log-behind
    """
    why = why_behind(layout, manifest, log)
    if why is None:
        return
    root = layout.root
    raise TreadleError(
        "log-behind",
        f"the log in {root} ends with event {log.last}, but {why}: events that were "
        "acknowledged are missing in it; nothing was changed",
        f"put the newer log back, if there is a copy of it: treadle check {root} tells "
        "whether it fits; else `treadle explain log-behind` has two ways to go on",
    )


def why_behind(layout: Layout, manifest: Manifest, log: Log) -> str | None:
    """What is beyond the last event of this log; None if nothing is."""
    event = _image_event(layout, manifest, log.last)
    if event > log.last:
        return f"its snapshot is of event {event}"
    newest = log.epochs[-1]
    kept = read_start(newest)
    ours = kept is not None and kept.identity == manifest.identity.hex()
    if kept is not None and ours and kept.event > log.last:
        return f"epoch {newest.path.name} keeps a state of event {kept.event}"
    chained = log.chained()
    if chained > log.last:
        return f"its hash chain vouches for events up to {chained}"
    return None


def _image_event(layout: Layout, manifest: Manifest, last: int) -> int:
    """Of the newest superblock, if one says that it is beyond `last`; else 0."""
    later = False
    for at in IMAGE_RING:
        head = read_at(layout.image, at, _SUPERBLOCK.size)
        if len(head) == _SUPERBLOCK.size:
            magic, _, _, _, _, event, _, identity = _SUPERBLOCK.unpack(head)
            ours = (magic, identity) == (IMAGE_MAGIC, manifest.identity)
            later = later or (ours and event > last)
    if not later:
        return 0
    from king.check import image_info

    try:
        image = image_info(layout.image)
    except TreadleError:
        return 0  # the serf that is to use it will say what is wrong with it
    mine = image["good"] and image["log"] == manifest.identity.hex()
    return int(image["event"]) if mine else 0
