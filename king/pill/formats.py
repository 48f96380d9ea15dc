"""Pills: what a kernel comes in. Parse, check the shape, refuse by name.

What it is: bytes of a pill file -> `Pill`, whose events stay jams.
Invariants: a pill that parses has at least one boot event, and every other
    event is an ovum, `[[target path] [tag data]]`. Nothing here runs Nock.
Limits: a bit flipped inside a formula shows only when the pill is booted.

    [%pill name boot kernel userspace]
    [%cash [name boot kernel userspace] cache]      also without the cache
    [%ivory list]                                   not a ship's kernel

boot: a lifecycle formula and what it folds over (the log's first `life`
rows); kernel and userspace: lists of ova. The cache of a %cash pill only
saves time at boot; we do without it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from king.errors import TreadleError
from proto import fast
from proto.cord import is_term
from proto.errors import CueError
from proto.jam import cue
from proto.message import Jam

__all__ = ["PILL_BYTES_MAX", "Pill", "embedded_pill_path", "parse_pill", "read_pill"]

PILL_BYTES_MAX = 1 << 30
_SMALL_BYTES = 256
_EVENTS_MAX = 1 << 20


@dataclass(frozen=True, slots=True)
class Pill:
    """A kernel, and how to start it. All jams are opaque here."""

    kind: str
    """`pill` or `cash`."""
    name: str
    boot: tuple[Jam, ...] = field(repr=False)
    kernel: tuple[Jam, ...] = field(repr=False)
    userspace: tuple[Jam, ...] = field(repr=False)


def embedded_pill_path() -> Path:
    return Path(__file__).with_name("treadle.pill")


def read_pill(path: Path) -> Pill:
    """Read and parse a pill file.

    :raises TreadleError: pill-missing, pill-bad, pill-ivory
    """
    try:
        with path.open("rb") as file:
            data = file.read(PILL_BYTES_MAX + 1)
    except OSError as error:
        raise TreadleError(
            "pill-missing",
            f"cannot read the pill {path}: {error.strerror}",
            "name an existing file with --pill, or leave --pill out for our own",
        ) from error
    return parse_pill(data, str(path))


def parse_pill(data: bytes, source: str = "pill") -> Pill:
    """Parse a pill's bytes; `source` names them in errors.

    :raises TreadleError: pill-bad, pill-ivory
    """
    if len(data) > PILL_BYTES_MAX:
        raise _bad(source, f"it is larger than {PILL_BYTES_MAX >> 20} MiB")
    try:
        return _parse(data, source)
    except CueError as error:
        raise _bad(source, f"its bytes are not a noun ({error.text})") from error


def _bad(source: str, why: str) -> TreadleError:
    return TreadleError(
        "pill-bad",
        f"{source} is not a pill that we can boot: {why}",
        "is the file whole? fetch it again, or leave --pill out for our own",
    )


def _parse(data: bytes, source: str) -> Pill:
    tag, third = fast.slots(data, [2, 12])
    kind = _term(tag)
    if kind == "ivory":
        raise TreadleError(
            "pill-ivory",
            f"{source} is an %ivory pill: a helper for the terminal, not a kernel",
            "boot a %pill or %cash pill (brass, solid), or leave --pill out",
        )
    if kind == "pill":
        core = 3
    elif kind == "cash":
        # Old ones have no cache: then axis 12 is not the name, but inside it.
        core = 6 if third is not None else 3
    else:
        known = "no tag" if kind is None else f"%{kind}"
        raise _bad(source, f"it begins with {known}, not with %pill or %cash")
    # [name boot kernel userspace] stands at axis `core`.
    boot_axis = (core * 2 + 1) * 2
    kernel_axis = (boot_axis + 1) * 2
    name = _term(fast.slots(data, [core * 2])[0])
    if name is None:
        raise _bad(source, "its name is not a term")
    boot = _list(data, boot_axis, "boot events", source)
    kernel = _list(data, kernel_axis, "kernel events", source)
    userspace = _list(data, kernel_axis + 1, "userspace events", source)
    if not boot:
        raise _bad(source, "it has no boot events")
    for what, events in (("kernel", kernel), ("userspace", userspace)):
        for index, event in enumerate(events, 1):
            _check_ovum(event, f"{what} event {index}", source)
    return Pill(kind, name, boot, kernel, userspace)


def _term(data: Jam | None) -> str | None:
    """The term that a small jam is; None for all else."""
    if data is None or len(data) > _SMALL_BYTES:
        return None
    value = cue(data)
    if not isinstance(value, int):
        return None
    raw = value.to_bytes((value.bit_length() + 7) // 8, "little")
    text = raw.decode("ascii", "replace")
    return text if is_term(text) else None


def _list(data: bytes, axis: int, what: str, source: str) -> tuple[Jam, ...]:
    try:
        events = fast.jam_list(data, axis)
    except CueError as error:
        if fast.slots(data, [axis])[0] is None:
            raise _bad(source, f"it has no {what}") from error
        raise _bad(source, f"its {what} are not a list") from error
    if len(events) > _EVENTS_MAX:
        raise _bad(source, f"it has {len(events)} {what}")
    return tuple(events)


def _check_ovum(event: Jam, what: str, source: str) -> None:
    """`[[target path] [tag data]]`: atoms at 4 and 6, something at 5 and 7."""
    target, path, tag, data = fast.slots(event, [4, 5, 6, 7])
    if target is None or path is None or tag is None or data is None:
        raise _bad(source, f"{what} is not an ovum")
    if _is_cell(target) or _is_cell(tag):
        raise _bad(source, f"{what} has a cell for a target or tag")


def _is_cell(data: Jam) -> bool:
    """Jams tell by their first bits: 0 atom, 01 (LSB first) cell."""
    return data[0] & 3 == 1
