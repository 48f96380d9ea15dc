"""`treadle adopt`: a copy becomes the ship.

Invariants: the one write is the manifest's, whole. After it the pier starts, and
    a start of the original is refused wherever this account would know. Where the
    log has lost events (behind.py), what was made of them goes first: the image is
    saved anew at the log's last event, from an older state and a replay; killed on
    the way, it is done again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from king.behind import why_behind
from king.copies import why_a_copy
from king.disk import explain_disk, sync_directory
from king.errors import TreadleError
from king.groups import run_trio
from king.log.start import read_start, record_of
from king.manifest import write_manifest
from king.memory import recall, why_stale
from king.pier import open_pier
from king.place import observe

__all__ = ["Adopted", "adopt"]


@dataclass(frozen=True, slots=True)
class Adopted:
    """What it found. `why`: "" where the pier was the ship itself."""

    ship: int
    event: int
    generation: int
    why: str


def adopt(root: Path) -> Adopted:
    """From here on this pier is the ship, whatever it is a copy of, however old.

    :raises TreadleError: as open_pier
    """
    behind = ""
    try:
        opened = open_pier(root, run=False)
    except TreadleError as error:
        if error.code != "log-behind":
            raise
        behind = _go_on_without(root)
        opened = open_pier(root, run=False)
    with opened as pier:
        layout, manifest, last = pier.layout, pier.manifest, pier.log.last
        memory = recall(manifest.identity)
        try:
            why = why_a_copy(layout, manifest)
            place = observe(layout)
        except OSError as error:
            raise explain_disk(error, layout.root, "looking at the pier") from error
        why = why or why_stale(memory, manifest.generation, last) or ""
        why = "; ".join(filter(None, (behind, why)))
        known = max(manifest.generation, memory.generation if memory else 0)
        if why:
            known += 1  # the original is the older one from now on
        pier.manifest = replace(manifest, generation=known, place=place, copy="")
        write_manifest(layout.manifest, pier.manifest)
        pier.remember()
        return Adopted(manifest.ship, last, known, why)


def _go_on_without(root: Path) -> str:
    """Give up what is later than the log's end; what that was."""
    from king.replay import save_at_end

    with open_pier(root, run=False, write=True, behind=True) as pier:
        why = why_behind(pier.layout, pier.manifest, pier.log)
        run_trio(save_at_end, pier)
        newest = pier.log.epochs[-1]
        kept = read_start(newest)
        try:
            if kept is not None and kept.event > pier.log.last:
                record_of(newest).unlink()
                sync_directory(newest.path)
            pier.log.settle()  # the chain is cut
            pier.log.seal()
        except OSError as error:
            raise explain_disk(error, pier.layout.log_dir, "adopting") from error
        return f"the log ends with event {pier.log.last}, but {why}"
