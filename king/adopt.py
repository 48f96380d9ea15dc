"""`treadle adopt`: a copy becomes the ship.

Invariants: the one write is the manifest's, whole. After it the pier starts, and
    a start of the original is refused wherever this account would know.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from king.copies import why_a_copy
from king.disk import explain_disk
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
    with open_pier(root, run=False) as pier:
        layout, manifest, last = pier.layout, pier.manifest, pier.log.last
        memory = recall(manifest.identity)
        try:
            why = why_a_copy(layout, manifest)
            place = observe(layout)
        except OSError as error:
            raise explain_disk(error, layout.root, "looking at the pier") from error
        why = why or why_stale(memory, manifest.generation, last) or ""
        known = max(manifest.generation, memory.generation if memory else 0)
        if why:
            known += 1  # the original is the older one from now on
        pier.manifest = replace(manifest, generation=known, place=place, copy="")
        write_manifest(layout.manifest, pier.manifest)
        pier.remember()
        return Adopted(manifest.ship, last, known, why)
