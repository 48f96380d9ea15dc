"""`.urb/treadle.json`: what Vere's files have no room for.

Owns: that file: the identity of the event log, formats, how often the ship was
    started, and where it lay then.
Invariants: the file on disk is always whole (written beside, synced, renamed,
    directory synced); a format newer than ours is refused before anything in
    the pier is written.
Limits: it holds nothing that a replay of the log could not do without, except
    the identity that ties our image to this log.

Why a place. Two copies of a ship that both run write two histories, and a ship
that speaks with others is lost then: they have heard events that one of the two
never had. The locks keep two kings out of one directory; the place tells a
directory that is a copy, and a copy runs only after `treadle adopt PIER`. Only
what no rename, reboot, remount or new container changes is compared, so that
nobody is locked out for nothing; place.py has the signals and their reasons.
What says of itself that it is a copy (`copy`: a snapshot) needs none.

Which copy is the staler one, `generation` tells: it rises with every start to
run. This account's own memory (memory.py) knows the highest that it has seen,
and so a backup that was restored in place, too.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from king.disk import explain_disk, write_durably
from king.errors import TreadleError
from king.place import Place, place_of

__all__ = ["FORMAT", "Manifest", "read_manifest", "write_manifest"]

FORMAT = 1
_SIZE_MAX = 1 << 16
_TEXT_MAX = 256


@dataclass(frozen=True, slots=True)
class Manifest:
    """Identity and stamps. `generation` rises with every start to run, so
    that of two copies of a pier the staler one can be told."""

    ship: int
    identity: bytes
    """16 random bytes, made with the log; stands in the image, too."""
    created_by: str
    lmdb: str
    adopted: bool
    """The pier was made by another runtime, and taken over by us."""
    generation: int = 0
    place: Place | None = None
    """Where it was when it was started last; None: not known."""
    copy: str = ""
    """What this is a copy of, in words, where it was made as a copy."""
    format: int = FORMAT

    def next_generation(self) -> Manifest:
        return replace(self, generation=self.generation + 1)


def read_manifest(path: Path) -> Manifest | None:
    """The manifest; None where there is none (a pier made by Vere).

    :raises TreadleError: manifest-bad, pier-newer, no-permission
    """
    try:
        with path.open("rb") as file:
            data = file.read(_SIZE_MAX + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise explain_disk(error, path.parent, "reading the manifest") from error
    try:
        if len(data) > _SIZE_MAX:
            raise ValueError("far too long")
        value = json.loads(data)
        if not isinstance(value, dict):
            raise ValueError("not an object")
        form = _number(value, "format", 1 << 31)
    except ValueError as error:
        raise _bad(path, error) from error
    if form > FORMAT:
        raise TreadleError(
            "pier-newer",
            f"{path} has format {form}; this treadle knows up to {FORMAT}",
            "start the pier with the newer treadle; nothing was changed",
        )
    try:
        return _parse(value)
    except ValueError as error:
        raise _bad(path, error) from error


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Replace the manifest, durably.

    :raises TreadleError: disk-full, disk-error, read-only, no-permission
    """
    value = {
        "format": manifest.format,
        "ship": f"0x{manifest.ship:x}",
        "identity": manifest.identity.hex(),
        "created_by": manifest.created_by,
        "lmdb": manifest.lmdb,
        "adopted": manifest.adopted,
        "generation": manifest.generation,
        "place": manifest.place.as_json() if manifest.place else None,
        "copy": manifest.copy,
    }
    try:
        write_durably(path, json.dumps(value, indent=1).encode() + b"\n")
    except OSError as error:
        raise explain_disk(error, path.parent, "writing the manifest") from error


def _bad(path: Path, why: ValueError) -> TreadleError:
    return TreadleError(
        "manifest-bad",
        f"{path} is damaged: {why}",
        "restore that one file from a copy of this pier; the event log is not "
        "affected and nothing was changed",
    )


def _number(value: dict[str, Any], key: str, limit: int) -> int:
    number = value.get(key)
    if not isinstance(number, int) or isinstance(number, bool):
        raise ValueError(f"{key} is not a number")
    if not 0 <= number < limit:
        raise ValueError(f"{key} is out of range")
    return number


def _text(value: dict[str, Any], key: str) -> str:
    text = value.get(key)
    if not isinstance(text, str) or len(text) > _TEXT_MAX:
        raise ValueError(f"{key} is not a short text")
    return text


def _parse(value: dict[str, Any]) -> Manifest:
    ship = _text(value, "ship")
    identity = _text(value, "identity")
    adopted = value.get("adopted")
    if not re.fullmatch(r"0x[0-9a-f]{1,32}", ship):
        raise ValueError("ship is not a number below 2^128")
    if not re.fullmatch(r"[0-9a-f]{32}", identity):
        raise ValueError("identity is not 16 bytes")
    if not isinstance(adopted, bool):
        raise ValueError("adopted is not true or false")
    place = value.get("place")
    return Manifest(
        ship=int(ship, 16),
        identity=bytes.fromhex(identity),
        created_by=_text(value, "created_by"),
        lmdb=_text(value, "lmdb"),
        adopted=adopted,
        generation=_number(value, "generation", 1 << 63),
        place=None if place is None else place_of(place),
        copy=_text({"copy": ""} | value, "copy"),
        format=_number(value, "format", 1 << 31),
    )
