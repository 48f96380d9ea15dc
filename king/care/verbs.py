"""The verbs: names, arguments, and what people read at the end.

What it is: the one table that the command line, the control socket and the
    two grounds go by. An entry here is all that a new operation needs.
Invariants: arguments are plain JSON values, checked by the same rules on the
    command line and, once more, in the daemon, which takes them from a socket.
Limits: the socket's, on the size of a request. Operations are imported when
    they are needed: the table is read by every command.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from importlib import import_module
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from king.errors import TreadleError

if TYPE_CHECKING:
    from king.care.ground import Operation

__all__ = ["VERBS", "Argument", "Kind", "Verb", "read_arguments"]

_PATH_MAX = 4096
_WORD_MAX = 4096


class Kind(Enum):
    """What an argument's value may be."""

    PATH = "an absolute path"
    """The command line completes a relative one; from a socket it is refused:
    it would mean another place there."""
    NUMBER = "a number from 0 on"
    FLAG = "true or false"
    WORD = "a text"


@dataclass(frozen=True, slots=True)
class Argument:
    """`name` is as on the command line: `DEST`, or `--keep`."""

    name: str
    kind: Kind
    help: str
    default: Any = None
    """None: it may be left out only if it is an option, and is not there then."""

    @property
    def key(self) -> str:
        """Its name in the mapping that an operation is given."""
        return self.name.lstrip("-").lower().replace("-", "_")

    @property
    def is_option(self) -> bool:
        return self.name.startswith("-")

    def check(self, value: object) -> None:
        """:raises ValueError: why it will not do"""
        good = False
        match self.kind:
            case Kind.PATH:
                good = (
                    isinstance(value, str)
                    and "\0" not in value
                    and len(value.encode(errors="surrogateescape")) <= _PATH_MAX
                    and PurePosixPath(value).is_absolute()
                )
            case Kind.NUMBER:
                good = (
                    isinstance(value, int)
                    and not isinstance(value, bool)
                    and 0 <= value < 1 << 63
                )
            case Kind.FLAG:
                good = isinstance(value, bool)
            case Kind.WORD:
                good = isinstance(value, str) and len(value) <= _WORD_MAX
        if not good:
            raise ValueError(f"{self.name} is not {self.kind.value}")


@dataclass(frozen=True, slots=True)
class Verb:
    """An operation. It is the function of this name in king/care/NAME.py."""

    name: str
    help: str
    show: Callable[[Mapping[str, Any]], str]
    """The result for people; several lines, if it must."""
    arguments: tuple[Argument, ...] = ()
    writes: bool = False
    """It writes to the log: at rest, that is opened for writing."""

    def load(self) -> Operation:
        operation: Operation = getattr(
            import_module(f"king.care.{self.name}"), self.name
        )
        return operation

    def check(self, given: Mapping[str, object]) -> dict[str, Any]:
        """The arguments, complete.

        :raises TreadleError: usage
        """
        known = {argument.key: argument for argument in self.arguments}
        try:
            for key in given:
                if key not in known:
                    raise ValueError(f"it knows no {key!r}")
            checked: dict[str, Any] = {}
            for key, argument in known.items():
                value = given.get(key, argument.default)
                if value is None and not argument.is_option:
                    raise ValueError(f"{argument.name} is missing")
                if value is not None:
                    argument.check(value)
                checked[key] = value
        except ValueError as error:
            raise TreadleError(
                "usage", f"{self.name}: {error}", f"treadle {self.name} --help"
            ) from error
        return checked


def _show_roll(found: Mapping[str, Any]) -> str:
    epoch, start = found["epoch"], found["start"]
    head = f"epoch {epoch} begins" if found["rolled"] else "nothing to roll"
    if start is None:
        return f"{head}; {epoch} is the log's first, and needs no state at its start"
    kept = f"a copy of the state at event {start['event']:,}"
    return f"{head}; {epoch} keeps {kept}, {start['bytes']:,} bytes, verified"


def _show_snapshot(found: Mapping[str, Any]) -> str:
    return (
        f"{found['dest']} is {found['ship']} up to event {found['event']:,}, "
        f"{found['bytes']:,} bytes, checked; it runs after `treadle adopt`"
    )


def _show_export(found: Mapping[str, Any]) -> str:
    if found["kind"] == "rock":
        what = f"the state of {found['ship']} at event {found['event']:,}"
        proof = f"mug {found['mug']}"
    else:
        what = f"events {found['first']:,} to {found['last']:,} of {found['ship']}"
        proof = f"sha256 {found['sha256']}"
    return f"{found['file']} is {what}, {found['bytes']:,} bytes, {proof}"


def _show_chop(found: Mapping[str, Any]) -> str:
    removed = found["removed"]
    head = f"removed {' '.join(removed)}" if removed else "nothing to chop"
    return f"{head}; the log has {' '.join(found['epochs'])}"


def _show_pins(found: Mapping[str, Any]) -> str:
    pins = found["pins"].items()
    return (
        "\n".join(f"{name}  event {at:,}" for name, at in pins) or "nothing is pinned"
    )


VERBS: dict[str, Verb] = {
    verb.name: verb
    for verb in (
        Verb(
            "save",
            "make the state as it now is durable in the image",
            lambda found: f"event {found['event']:,} is in the image",
        ),
        Verb(
            "snapshot",
            "copy the whole ship, consistent and checked, to a new directory",
            _show_snapshot,
            (Argument("DEST", Kind.PATH, "where to; it must not exist yet"),),
        ),
        Verb(
            "export",
            "write the state as a portable rock, or the event log as one file",
            _show_export,
            (
                Argument("FILE", Kind.PATH, "where to; it must not exist yet"),
                Argument(
                    "--saved",
                    Kind.FLAG,
                    "the state as it was saved last, even if the log has lost events",
                    False,
                ),
                Argument("--log", Kind.FLAG, "the event log, not the state", False),
                Argument("--first", Kind.NUMBER, "with --log: from this event on"),
                Argument("--last", Kind.NUMBER, "with --log: up to this event"),
            ),
        ),
        Verb(
            "roll",
            "let an epoch of the log begin here",
            _show_roll,
            (
                Argument(
                    "--finish",
                    Kind.FLAG,
                    "only make up for a copy of the state that is missing",
                    False,
                ),
            ),
            writes=True,
        ),
        Verb(
            "chop",
            "delete old epochs of the log, never what recovery needs",
            _show_chop,
            (
                Argument("--keep", Kind.NUMBER, "how many stay (2 at least)", 2),
                Argument("--through", Kind.WORD, "the last one to go, such as 0i58"),
            ),
            writes=True,
        ),
        Verb(
            "pin",
            "keep the state as it now is in the image, under a name",
            lambda found: f"event {found['event']:,} is pinned as {found['name']}",
            (Argument("NAME", Kind.WORD, "letters, digits and -._"),),
        ),
        Verb(
            "unpin",
            "let a pinned state go",
            lambda found: f"event {found['event']:,} is not pinned any more",
            (Argument("NAME", Kind.WORD, "as `treadle pins` shows it"),),
        ),
        Verb("pins", "list the states that are pinned", _show_pins),
    )
}


def read_arguments(name: str, text: str) -> tuple[Verb, dict[str, Any]]:
    """A verb and its arguments, from someone who is not believed.

    :raises TreadleError: usage
    """
    verb = VERBS.get(name)
    if verb is None:
        raise TreadleError("usage", f"there is no care by the name of {name[:40]!r}")
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TreadleError("usage", f"{name}: its arguments are no JSON") from error
    if not isinstance(given, dict):
        raise TreadleError("usage", f"{name}: its arguments are no JSON object")
    return verb, verb.check(given)
