"""Is this pier the ship, or a copy of it, or an older state of it?

What it is: the questions before a start; manifest.py says why they are asked,
    place.py and memory.py what is known.
Invariants: it writes nothing; where nobody knows, nobody is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from king.errors import TreadleError
from king.manifest import Manifest
from king.memory import recall, why_stale
from king.place import observe, why_copied

if TYPE_CHECKING:
    from king.pier import Layout

__all__ = ["check_age", "check_place", "why_a_copy"]

_NEVER = 1 << 63


def why_a_copy(layout: Layout, manifest: Manifest) -> str | None:
    """Why this pier is a copy of the one that its manifest is of; None if it is
    not, or if nobody can say.

    :raises OSError: as stat
    """
    if manifest.copy:
        return manifest.copy
    if manifest.place is None:
        return None
    return why_copied(manifest.place, observe(layout))


def check_place(layout: Layout, manifest: Manifest) -> None:
    """Refuse a copy.

    :raises TreadleError: pier-copied
    """
    why = why_a_copy(layout, manifest)
    if why is None:
        return
    place = manifest.place
    origin = f"; it was in {place.path} on {place.host}" if place is not None else ""
    stale = why_stale(recall(manifest.identity), manifest.generation, _NEVER)
    older = f". It is also the older one: {stale}" if stale else ""
    raise TreadleError(
        "pier-copied",
        f"{layout.root} is a copy of a ship, not the ship itself: {why}{origin}{older}",
        "run the original; or, if that never runs again, take this one for it: "
        f"treadle adopt {layout.root}",
    )


def check_age(layout: Layout, manifest: Manifest, last: int) -> None:
    """Refuse a pier that is older than what this account knows of its ship.

    :raises TreadleError: pier-stale
    """
    why = why_stale(recall(manifest.identity), manifest.generation, last)
    if why is None:
        return
    raise TreadleError(
        "pier-stale",
        f"{layout.root} is an older state of a ship that has lived on: {why}",
        "run the newer one; or, if that is lost, take this one for it: "
        f"treadle adopt {layout.root}",
    )
