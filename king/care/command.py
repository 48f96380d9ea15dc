"""The verbs of care on the command line: words in, a bar, the result.

What it is: `treadle VERB PIER ...` for every entry of verbs.py: over the
    control socket where the ship lives, else on its files.
Invariants: on a terminal a bar with rate and time left, on stderr; elsewhere
    nothing but the result. ^C ends the operation, also a live ship's.
Limits: no trio unless the ship is at rest.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from king.care.verbs import VERBS, Argument, Kind, Verb
from king.errors import EXIT_CODES, TreadleError
from king.groups import run_trio
from king.progress import Bar
from king.values import count, positive
from proto.cord import cord, cord_text
from proto.noun import Cell, Noun

__all__ = ["add_commands", "perform", "run"]

_FAULT = ("error", "message", "hint")
_METAVARS = {Kind.NUMBER: "N"}


def add_commands(
    add_for_pier: Callable[..., argparse.ArgumentParser],
) -> None:
    """Every verb as a command of the parser's, and what makes a pier of what they
    made; `add_for_pier` is cli.py's."""
    for verb in VERBS.values():
        command = add_for_pier(verb.name, partial(run, verb), verb.help)
        for argument in verb.arguments:
            _add_argument(command, argument)
    _add_import(add_for_pier)


def _add_argument(command: argparse.ArgumentParser, argument: Argument) -> None:
    more: dict[str, Any] = {"help": argument.help, "default": argument.default}
    match argument.kind:
        case Kind.FLAG:
            more["action"] = "store_true"
            more["default"] = bool(argument.default)
        case Kind.NUMBER:
            more["type"] = count
        case Kind.PATH:
            more["type"] = os.path.abspath
    if argument.is_option:
        more["dest"] = argument.key
        if argument.kind is not Kind.FLAG:
            more["metavar"] = _METAVARS.get(
                argument.kind, argument.name.lstrip("-").upper()
            )
        command.add_argument(argument.name, **more)
    else:
        more.pop("default")
        command.add_argument(argument.key, metavar=argument.name, **more)


def run(verb: Verb, args: argparse.Namespace) -> int:
    """One verb; its exit code."""
    given = {argument.key: getattr(args, argument.key) for argument in verb.arguments}
    arguments = verb.check({k: v for k, v in given.items() if v is not None})
    bar = Bar(verb.name)
    try:
        found = perform(args.pier, verb, arguments, None if args.json else bar)
    finally:
        bar.close()
    print(json.dumps(found) if args.json else verb.show(found), flush=True)
    return 0


def perform(
    root: Path, verb: Verb, arguments: Mapping[str, Any], bar: Bar | None
) -> dict[str, Any]:
    """One verb on a ship, live or at rest; its result.

    :raises TreadleError: whatever stands in the way
    """
    from king.pier import check_is_pier, who_locks

    layout = check_is_pier(root)
    if who_locks(layout) is None:
        return _at_rest(root, verb, arguments, bar)
    from king.client import Client

    with Client(layout) as client:
        reply = client.follow(
            "care",
            verb.name,
            json.dumps(arguments),
            step=lambda words: _show_step(bar, words),
        )
    return _result(root, reply)


def _result(root: Path, reply: Noun) -> dict[str, Any]:
    """`[%care json]`, or raise what `[%bail code json]` says."""
    strange = TreadleError(
        "conn-failed",
        f"the ship at {root} answered in words we do not know",
        "is it an older treadle, or Vere? with the ship at rest it works as well",
    )
    try:
        match reply:
            case Cell(head=head, tail=int(text)) if head == cord("care"):
                found = json.loads(cord_text(text))
            case Cell(head=head, tail=Cell(tail=int(text))) if head == cord("bail"):
                fault = json.loads(cord_text(text))
                if fault["error"] in EXIT_CODES:
                    raise TreadleError(*(str(fault[key]) for key in _FAULT))
                raise strange
            case _:
                raise strange
    except (ValueError, KeyError, TypeError) as error:
        raise strange from error
    if not isinstance(found, dict):
        raise strange
    return found


def _show_step(bar: Bar | None, words: Noun) -> None:
    """What a ship says of its progress."""
    if bar is None:
        return
    try:
        step = json.loads(cord_text(words))
        bar.show(
            int(step["done"]), int(step["total"]), str(step["unit"]), str(step["note"])
        )
    except (KeyError, TypeError, ValueError):
        pass  # a newer ship may say it otherwise


def _at_rest(
    root: Path, verb: Verb, arguments: Mapping[str, Any], bar: Bar | None
) -> dict[str, Any]:
    from king.care.ground import Progress
    from king.care.rest import carry_out

    def progress(now: Progress) -> None:
        if bar is not None:
            bar.show(*now)

    return run_trio(carry_out, root, verb, arguments, progress)


# --- import -------------------------------------------------------------------


def _add_import(add_for_pier: Callable[..., argparse.ArgumentParser]) -> None:
    """It makes a pier, so it is no verb of one."""
    command = add_for_pier(
        "import", _import, "make a ship of an exported log, or of a rock"
    )
    command.add_argument(
        "file", type=Path, metavar="FILE", help="of `treadle export`, or a Vere's rock"
    )
    command.add_argument(
        "--rock",
        type=Path,
        metavar="FILE",
        help="the state that a log goes on from, which does not begin with event 1",
    )
    command.add_argument("--ship", metavar="SHIP", help="of a rock alone: whose it is")
    command.add_argument(
        "--event", type=positive, metavar="N", help="of a rock alone: its event"
    )
    command.add_argument(
        "--real", action="store_true", help="of a rock alone: it is no fake ship"
    )


def _import(args: argparse.Namespace) -> int:
    from king.importer import import_until_told, is_log, read_rock_facts

    log = args.file if is_log(args.file) else None
    path = args.rock if log else args.file
    if args.rock and log is None:
        raise TreadleError("usage", f"{args.file} is a rock: --rock goes with a log")
    rock = None
    if path is not None:
        rock = read_rock_facts(path, args.ship, args.event, args.real)
    elif args.ship or args.event or args.real:
        raise TreadleError("usage", "a log says itself whose it is")
    bar = Bar("import")
    target = Path(os.path.abspath(args.pier))
    try:
        found = run_trio(
            import_until_told,
            target,
            log,
            rock,
            (lambda now: None) if args.json else (lambda now: bar.show(*now)),
        )
    finally:
        bar.close()
    if args.json:
        print(json.dumps(found), flush=True)
    else:
        print(
            f"{args.pier} is {found['ship']} at event {found['event']:,}, mug "
            f"{found['mug']}; it runs after `treadle adopt`"
        )
        if not found["chain_continued"]:
            print("its hash chain begins anew: FILE carries no link of the one before")
    return 0
