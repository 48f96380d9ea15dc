"""The command line: one function per command.

What it is: the only place where what the user typed becomes authority.
Invariants: every command takes --json and gives a real exit code; every fault
    is one line, `treadle: CODE: message`, and a hint; what needs no event
    loop does not load one.
Exit codes: king/errors.py. `check` exits 1 where it finds a fault; `nock`
    exits 2 where the computation crashed.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import gc
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from king import values
from king.care.command import add_commands as add_care_commands
from king.config import (
    SCRUB_DAYS,
    BootOptions,
    ReplayOptions,
    RollLimits,
    RunOptions,
    SaveGoals,
    runtime_version,
)
from king.errors import EXIT_FAULT, TreadleError
from king.groups import run_trio
from king.modules import module_command

if TYPE_CHECKING:
    from king.early import EarlySerf

__all__ = ["main"]

_TIMEOUT_S = 10.0
_STOP_TIMEOUT_S = 60.0
_PARTS_IN_LINE = 4
_KEY_COLUMNS = 30
_TEXT_COLUMNS = 60
_TEXT_MAX = 1 << 20  # of a noun, for people: --out gives all of it


# --- boot, run, replay ------------------------------------------------------


def _run_options(args: argparse.Namespace) -> RunOptions:
    from king.lab.recorder import asked_for

    # (No options: for tests and the lab, who copy piers by the hundred.)
    return RunOptions(
        pier=args.pier,
        headless=args.headless,
        http_host=args.http_host,
        http_port=args.http_port,
        verify=args.verify,
        scrub_days=args.scrub_days,
        save_goals=SaveGoals(
            recovery_s=args.max_recovery,
            write_bytes_per_day=args.write_budget,
            interval_s=args.snapshot_every,
        ),
        reserve_bytes=args.reserve,
        roll=_roll_limits(args),
        json=args.json,
        serf_options=_serf_options(args),
        adopt=bool(os.environ.get("TREADLE_ADOPT")),
        record=asked_for(),
    )


def _roll_limits(args: argparse.Namespace) -> RollLimits:
    if args.no_roll:
        return RollLimits(events=0, bytes=0, days=0, runtime=False)
    return RollLimits(args.roll_events, args.roll_bytes, args.roll_days)


def _serf_options(args: argparse.Namespace) -> tuple[str, ...]:
    options = []
    if args.jet_check:
        options.append("--jet-check")
    if args.no_jets:
        options.append("--no-jets")
    for name, size in (("home", args.home_size), ("nursery", args.nursery_size)):
        if size is not None:
            options += [f"--{name}-size", str(size)]
    return tuple(options)


def _boot(args: argparse.Namespace) -> int:
    from king import boot, replay
    from proto.cord import ship_text
    from proto.errors import TextError

    try:
        ship = _ship(args.fake)
    except TextError as error:
        raise TreadleError(
            "ship-bad", str(error), "a ship's name looks like ~zod or ~marzod"
        ) from error
    booted = boot.boot(
        BootOptions(pier=args.pier, ship=ship, pill=args.pill),
        lambda pier: run_trio(replay.run_boot, pier),
        say=_say(args),
    )
    if args.json:
        _print_json(
            {
                "booted": str(booted.pier),
                "ship": ship_text(ship),
                "pill": booted.pill,
                "event": booted.event,
                "mug": f"{booted.mug:08x}",
                "seconds": round(booted.seconds, 3),
            }
        )
    else:
        print(
            f"booted {ship_text(ship)} in {booted.pier}: {booted.event} events, "
            f"{booted.seconds:.1f} s",
            file=sys.stderr,
        )
    if args.no_run:
        return 0
    if not args.headless and not (os.isatty(0) and os.isatty(1)):
        # A script that boots a ship wants it booted; it can run it as it likes.
        _say(args)(f"no terminal here; to run it: treadle run {args.pier} --headless")
        return 0
    return _run(args)


def _ship(text: str) -> int:
    from proto.cord import ship_from_text

    return ship_from_text(text)


def _say(args: argparse.Namespace) -> Any:
    def say(text: str) -> None:
        if not args.json:
            print(f"boot: {text}", file=sys.stderr)

    return say


@contextlib.contextmanager
def _loading() -> Iterator[None]:
    """What is loaded stays: look for no garbage in it, now or later. (It would be a
    tenth of a start.)"""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _run(args: argparse.Namespace) -> int:
    with _loading():
        from king import daemon

    return daemon.run(_run_options(args), args.early)


def _replay(args: argparse.Namespace) -> int:
    from king import daemon
    from king.lab.recorder import asked_for

    return daemon.replay(
        ReplayOptions(
            pier=args.pier,
            from_scratch=args.from_scratch,
            until=args.until,
            json=args.json,
            serf_options=_serf_options(args),
            record=asked_for(),
        )
    )


# --- status, check, stop ----------------------------------------------------


def _status(args: argparse.Namespace) -> int:
    from king.pier import check_is_pier, who_locks

    layout = check_is_pier(args.pier)
    holder = who_locks(layout)
    if holder is None:
        from king.at_rest import rest_status

        value = rest_status(args.pier)
    else:
        value = _live_status(layout, holder, args.timeout)
    if args.json:
        _print_json(value)
    else:
        _print_status(args.pier, value)
    return 0


def _live_status(layout: Any, holder: str, timeout_s: float) -> dict[str, Any]:
    from king.client import Client
    from proto.cord import cord_text
    from proto.noun import Cell, noun

    try:
        with Client(layout, timeout_s) as client:
            reply = client.ask("peel", noun(["treadle", "status"]))
    except TreadleError as error:
        if error.code != "not-running":
            raise
        # Locked, and no socket: it is on its way up or down, or it is Vere.
        note = "it answers nobody: it is starting (replaying its log?), or stopping"
        return {"state": "busy", "holder": holder, "note": note} | dict.fromkeys(
            (
                "event",
                "mug",
                "snapshot_event",
                "log_bytes",
                "epochs",
                "http",
                "pid_king",
                "pid_serf",
            )
        )
    if not isinstance(reply, Cell):
        raise TreadleError("conn-failed", "this ship gives no status: is it Vere's?")
    value = json.loads(cord_text(reply.tail))
    assert isinstance(value, dict)
    return value


def _print_status(pier: Path, value: dict[str, Any]) -> None:
    print(f"{pier}: {value.get('state')}")
    for line in _status_lines({k: v for k, v in value.items() if k != "state"}):
        print(line)


def _status_lines(value: dict[str, Any]) -> list[str]:
    """`key  value` lines; what has many parts stands below its key."""
    lines: list[str] = []
    waiting = [(1, key, item) for key, item in reversed(value.items())]
    while waiting:
        depth, key, item = waiting.pop()
        indent = "  " * depth
        if _says_nothing(item):
            continue
        if isinstance(item, list) and any(
            isinstance(each, dict) or " " in str(each) for each in item
        ):
            item = {str(number): each for number, each in enumerate(item, 1)}
        if isinstance(item, list):
            text = " ".join(map(str, item))
        elif not isinstance(item, dict):
            text = _status_word(key, item)
        else:
            text = _in_line(item)
            if not text:
                lines.append(indent + key)
                waiting += [(depth + 1, k, part) for k, part in reversed(item.items())]
                continue
        lines.append(f"{indent}{key:<{_KEY_COLUMNS - len(indent)}} {text}")
    return lines


def _in_line(item: dict[str, Any]) -> str:
    """A few numbers as one text; "" for what wants lines of its own."""
    if any(isinstance(part, dict | list | str) for part in item.values()):
        return ""
    parts = [f"{k} {_status_word(k, v)}" for k, v in item.items() if v is not None]
    text = ", ".join(parts)
    return text if len(parts) <= _PARTS_IN_LINE and len(text) <= _TEXT_COLUMNS else ""


def _says_nothing(item: object) -> bool:
    """None, or nothing but such."""
    if isinstance(item, dict):
        return all(_says_nothing(part) for part in item.values())
    return item in (None, [], "")


def _status_word(key: str, value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if key == "started" and isinstance(value, float):
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(value))
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    return f"{value:,}" if isinstance(value, int) and "bytes" in key else str(value)


def _adopt(args: argparse.Namespace) -> int:
    from king.adopt import adopt
    from proto.cord import ship_text

    done = adopt(args.pier)
    ship = ship_text(done.ship)
    if args.json:
        row = {"ship": ship, "event": done.event, "generation": done.generation}
        _print_json({"adopted": bool(done.why), **row, "why": done.why})
    elif done.why:
        print(f"{args.pier} is {ship} from now on, at event {done.event}; {done.why}")
    else:
        print(f"{args.pier} is {ship} already, at event {done.event}")
    return 0


def _check(args: argparse.Namespace) -> int:
    from king.check import check_pier

    report = check_pier(args.pier, args.deep)
    if args.json:
        _print_json(report.as_json())
    else:
        print(report.text())
    return 0 if report.ok else EXIT_FAULT


def _log_verify(args: argparse.Namespace) -> int:
    from king.log_verify import show_verified, verify_path
    from king.pier import check_is_pier, who_locks
    from king.progress import Bar

    if None not in (args.first, args.last) and args.first > args.last:
        raise TreadleError(
            "usage", f"event {args.first} does not come before event {args.last}"
        )
    path, live = args.pier, False
    if not (path / "epoc.txt").exists():  # else an epoch, in an archive perhaps
        layout = check_is_pier(path)
        path, live = layout.log_dir, who_locks(layout) is not None
    bar = Bar("verify")
    try:
        found = verify_path(
            path.resolve(),
            live=live,
            first=args.first,
            last=args.last,
            advance=None if args.json else lambda event: bar.show(event, 0, "events"),
        )
    finally:
        bar.close()
    if args.json:
        _print_json(found)
    else:
        print(show_verified(args.pier, found))
    return 0 if found["ok"] else EXIT_FAULT


def _archive(args: argparse.Namespace) -> int:
    from king.archive import archive, plan
    from king.care.command import perform
    from king.care.verbs import VERBS
    from king.pier import check_is_pier
    from king.progress import Bar

    if (args.directory is None) == (args.cmd is None):
        raise TreadleError("usage", "archive goes to DIR, or by --cmd COMMAND")
    layout = check_is_pier(args.pier)
    bar = Bar("archive")
    try:
        epochs = plan(layout, args.keep)
        archived = archive(
            layout,
            epochs,
            directory=args.directory,
            command=args.cmd,
            progress=lambda done, total, note: bar.show(done, total, "bytes", note),
        )
        found: dict[str, Any] = {"removed": []}
        if epochs:
            words = {"keep": args.keep, "through": epochs[-1].path.name}
            verb = VERBS["chop"]
            found = perform(args.pier, verb, verb.check(words), None)
    finally:
        bar.close()
    if args.json:
        _print_json({"archived": archived, "removed": found["removed"]})
        return 0
    for row in archived:
        print(f"{row['name']}: events {row['first']:,} to {row['last']:,}, verified")
    print(f"removed {' '.join(found['removed'])}" if epochs else "nothing to archive")
    return 0


def _stop(args: argparse.Namespace) -> int:
    from king.client import stop_ship
    from king.pier import check_is_pier

    layout = check_is_pier(args.pier)
    how = stop_ship(layout, args.timeout)
    if args.json:
        _print_json({"state": "stopped", "how": how})
    else:
        print(f"{args.pier} has stopped" if how != "idle" else f"{args.pier} was idle")
    return 0


# --- peek, poke -------------------------------------------------------------


def _peek(args: argparse.Namespace) -> int:
    from king.client import Client
    from king.pier import check_is_pier
    from proto.cord import path_from_text
    from proto.errors import TextError
    from proto.jam import jam
    from proto.mug import mug
    from proto.noun import Cell, noun
    from proto.text import render

    try:
        path = path_from_text(args.path)
        if args.beam:
            nom = noun(0, path)
        else:
            view, desk, spur = _three(path)
            nom = noun(1, "once", view, desk, spur)
    except (TextError, ValueError) as error:
        raise TreadleError(
            "usage", str(error), "a path is /VIEW/DESK/SPUR, such as /x//kv/name"
        ) from error
    with Client(check_is_pier(args.pier), args.timeout) as client:
        reply = client.ask("peek", nom)
    # [%peek unit]; a unit is 0, or [0 value].
    found = reply.tail if isinstance(reply, Cell) else 0
    if not isinstance(found, Cell):
        raise TreadleError(
            "peek-failed", f"there is nothing at {args.path}", "is the path right?"
        )
    value = found.tail
    if args.out:
        _write(args.out, jam(value))
    if args.json:
        _print_json(
            {
                "path": args.path,
                "text": render(value, _TEXT_MAX),
                "mug": f"{mug(value):08x}",
                "jam": jam(value).hex(),
            }
        )
    elif not args.out:
        print(render(value, _TEXT_MAX))
    return 0


def _three(path: Any) -> tuple[Any, Any, Any]:
    from proto.noun import Cell

    if isinstance(path, Cell) and isinstance(path.tail, Cell):
        return path.head, path.tail.head, path.tail.tail
    raise ValueError("a path has at least a view and a desk")


def _poke(args: argparse.Namespace) -> int:
    from king.client import Client, poke_outcome
    from king.pier import check_is_pier

    ovum = _ovum(args)
    with Client(check_is_pier(args.pier), args.timeout) as client:
        outcome = poke_outcome(client.ask("ovum", ovum))
    if args.json:
        _print_json({"outcome": outcome})
    else:
        print(outcome)
    return 0


def _ovum(args: argparse.Namespace) -> Any:
    """`[tar wir tag data]` from the words, or from a jam of
    `[[tar wir] tag data]`."""
    from proto.cord import path_from_text
    from proto.errors import ProtoError, TextError
    from proto.jam import cue
    from proto.noun import Cell, noun
    from proto.text import parse

    if args.jam is not None:
        if args.wire or args.tag or args.data:
            raise TreadleError("usage", "give either --jam or WIRE TAG DATA, not both")
        data = _read(args.jam)
        try:
            value = cue(data)
        except ProtoError as error:
            raise TreadleError("noun-bad", f"{args.jam}: {error}") from error
        if not (
            isinstance(value, Cell)
            and isinstance(value.head, Cell)
            and isinstance(value.tail, Cell)
        ):
            raise TreadleError(
                "noun-bad",
                f"{args.jam} is not an ovum",
                "it should be the jam of [[target wire] tag data]",
            )
        return noun(value.head.head, value.head.tail, value.tail)
    if not args.wire or not args.tag:
        raise TreadleError(
            "usage",
            "poke needs WIRE and TAG, or --jam FILE",
            "for example: treadle poke zod /d/term/1 belt '[%txt 104 105 0]'",
        )
    try:
        wire = path_from_text(args.wire)
        card = parse(args.data) if args.data is not None else 0
    except TextError as error:
        raise TreadleError("noun-bad", str(error)) from error
    if not isinstance(wire, Cell):
        raise TreadleError(
            "usage", "an empty wire", "the first part is the target: /d/term/1"
        )
    return noun(wire.head, wire.tail, args.tag.removeprefix("%"), card)


def _read(path: str) -> bytes:
    try:
        if path == "-":
            return sys.stdin.buffer.read()
        return Path(path).read_bytes()
    except OSError as error:
        raise TreadleError(
            "noun-bad", f"cannot read {path}: {error.strerror}"
        ) from error


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise TreadleError(
            "failed", f"cannot write {path}: {error.strerror}"
        ) from error


# --- noun, nock, jets -------------------------------------------------------


def _jets(args: argparse.Namespace) -> int:
    if args.pier is None:
        return _become(["jets", *(["--json"] if args.json else [])])
    from king.pier import check_is_pier, who_locks

    layout = check_is_pier(args.pier)
    holder = who_locks(layout)
    if holder is None:
        raise TreadleError(
            "not-running",
            f"{args.pier} is at rest: nothing is counted",
            "without PIER, jets lists the arms themselves",
        )
    _live_status(layout, holder, args.timeout)  # it refreshes what the next knows
    time.sleep(0.2)
    counts = _live_status(layout, holder, args.timeout).get("jets") or {}
    if args.json:
        _print_json({"jets": counts})
        return 0
    for path, row in counts.items():
        text = ", ".join(f"{count} {name}" for name, count in row.items())
        print(f"{path:<32} {text}")
    return 0


def _tool(args: argparse.Namespace) -> int:
    """Become the serf's tool of the same name."""
    words = [args.command, args.file]
    words += ["--json"] if args.json else []
    if args.command == "nock":
        for flag in ("no-jets", "jet-check", "time", "stats", "disassemble"):
            words += [f"--{flag}"] if getattr(args, flag.replace("-", "_")) else []
        for name in ("out", "profile"):
            value = getattr(args, name)
            words += [f"--{name}", value] if value else []
    return _become(words)


def _hoon(args: argparse.Namespace) -> int:
    """Become the serf's tool of that name."""
    words = ["hoon", "--kernel", args.kernel]
    for path in args.compiler:
        words += ["--compiler", path]
    for name in ("prelude", "out", "profile"):
        value = getattr(args, name)
        words += [f"--{name}", value] if value else []
    for flag in ("json", "time", "stats", "jet-check", "no-jets"):
        words += [f"--{flag}"] if getattr(args, flag.replace("-", "_")) else []
    return _become([*words, args.text])


def _explain(args: argparse.Namespace) -> int:
    from king.errors import EXIT_CODES
    from king.explain import WORDS

    if args.code is None:
        if args.json:
            _print_json(EXIT_CODES)
        for code, words in () if args.json else WORDS.items():
            print(f"{code:20} {words.symptom}")
        return 0
    if args.code not in WORDS:
        raise TreadleError(
            "usage",
            f"{args.code} is no code of ours",
            "treadle explain lists them all",
        )
    import textwrap

    words = WORDS[args.code]
    if args.json:
        _print_json(
            {"code": args.code, "exit_code": EXIT_CODES[args.code], **words._asdict()}
        )
        return 0
    print(f"{args.code} (exit code {EXIT_CODES[args.code]})\n")
    for name, text in words._asdict().items():
        lines = textwrap.wrap(text, 66, break_on_hyphens=False)
        print(
            "\n".join(
                f"  {name if at == 0 else '':9}{line}" for at, line in enumerate(lines)
            )
        )
    return 0


def _lab(args: argparse.Namespace) -> int:
    from king.lab.command import run

    return run(args)


def _become(words: list[str]) -> NoReturn:
    """Be `python -m serf` with these words from now on."""
    command, environment = module_command("serf", *words)
    sys.stdout.flush()
    os.execve(sys.executable, command, environment)


# --- the parser -------------------------------------------------------------


class _Formatter(argparse.HelpFormatter):
    """As wide as the terminal; argparse would ask how wide that is for each option."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_width())


@functools.cache
def _width() -> int:
    return shutil.get_terminal_size().columns - 2


class _Parser(argparse.ArgumentParser):
    def __init__(self, **more: Any) -> None:
        super().__init__(formatter_class=_Formatter, **more)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse has it; but a word too many is told by the command that it was
        given to."""
        found, rest = super().parse_known_args(args, namespace)
        if rest:
            self.error(f"unrecognized arguments: {' '.join(rest)}")
        return found, rest

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        raise TreadleError("usage", message, f"see: {self.prog} --help")


def _add_probe_options(command: argparse.ArgumentParser) -> None:
    _add_jet_options(command)
    command.add_argument(
        "--stats",
        action="store_true",
        help="count instructions, allocations, collections, calls, jets",
    )
    command.add_argument(
        "--profile", metavar="FILE", help="write folded stacks, for a flame graph"
    )


def _add_jet_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--no-jets", action="store_true", help="plain Nock only")
    command.add_argument(
        "--jet-check",
        action="store_true",
        help="compare every jet with its Nock; a difference fails the computation",
    )


def _add_serf_options(command: argparse.ArgumentParser) -> None:
    _add_jet_options(command)
    for name, default, what in (
        ("home", "16G", "the ship's state"),
        ("nursery", "2G", "one event"),
    ):
        command.add_argument(
            f"--{name}-size",
            type=values.size,
            metavar="SIZE",
            help=f"memory for {what}, at most (default {default}); only what is used "
            "is taken",
        )


def _add_run_options(command: argparse.ArgumentParser) -> None:
    _add_serf_options(command)
    command.add_argument(
        "--headless",
        action="store_true",
        help="no terminal (also where there is none); logs go to stderr",
    )
    command.add_argument(
        "--http-host",
        type=values.address,
        default="127.0.0.1",
        metavar="H",
        help="address to listen on (default 127.0.0.1)",
    )
    command.add_argument(
        "--http-port",
        type=values.port,
        metavar="N",
        help="port to listen on (0: any; default: the last one, or one from 8080 on)",
    )
    command.add_argument(
        "--verify",
        action="store_true",
        help="verify every page of the snapshot before it is used",
    )
    command.add_argument(
        "--scrub-days",
        type=values.days,
        default=SCRUB_DAYS,
        metavar="DAYS",
        help="in idle times, read every page of the snapshot again in so many days "
        f"(default {SCRUB_DAYS:g}; 0: never)",
    )
    goals = SaveGoals()
    command.add_argument(
        "--max-recovery",
        type=values.duration,
        default=goals.recovery_s,
        metavar="TIME",
        help="save snapshots so often that a start after a crash takes no longer, such "
        f"as 20s or 5m (default {goals.recovery_s:g}s)",
    )
    command.add_argument(
        "--write-budget",
        type=values.daily_size,
        default=goals.write_bytes_per_day,
        metavar="SIZE/day",
        help="what snapshots may write, such as 5G/day; it comes before the goal "
        "(default: no limit)",
    )
    command.add_argument(
        "--snapshot-every",
        type=values.seconds,
        default=goals.interval_s,
        metavar="SECONDS",
        help="also save so long after the first event that is not saved (default: by "
        "the goal alone)",
    )
    command.add_argument(
        "--reserve",
        type=values.size,
        metavar="SIZE",
        help="room to keep on the disk for the time when it is full (default 32M, at "
        "most 1/32 of the disk; 0: none)",
    )
    roll = RollLimits()
    command.add_argument(
        "--roll-events",
        type=values.count,
        default=roll.events,
        metavar="N",
        help="begin a new epoch of the log after so many events (default "
        f"{roll.events}; 0: never by this)",
    )
    command.add_argument(
        "--roll-bytes",
        type=values.size,
        default=roll.bytes,
        metavar="SIZE",
        help=f"... or after so many bytes (default {roll.bytes >> 30}G; 0: never)",
    )
    command.add_argument(
        "--roll-days",
        type=values.days,
        default=roll.days,
        metavar="DAYS",
        help=f"... or after so many days (default {roll.days:g}; 0: never)",
    )
    command.add_argument(
        "--no-roll",
        action="store_true",
        help="never begin one by itself, not even where another runtime, or another "
        "version, made the last one",
    )


class _Commands:
    """The commands of a parser, as they all begin."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parts = parser.add_subparsers(
            dest="command", required=True, metavar="COMMAND"
        )

    def add(
        self, name: str, function: Any, text: str, **more: Any
    ) -> argparse.ArgumentParser:
        command: argparse.ArgumentParser = self.parts.add_parser(
            name, help=text, description=more.pop("description", text), **more
        )
        command.set_defaults(function=function)
        command.add_argument("--json", action="store_true", help="answer in JSON")
        return command

    def add_for_pier(
        self, name: str, function: Any, text: str, **more: Any
    ) -> argparse.ArgumentParser:
        command = self.add(name, function, text, **more)
        command.add_argument(
            "pier", type=Path, metavar="PIER", help="the ship's directory"
        )
        return command


def _parser(chosen: str) -> argparse.ArgumentParser:
    """`chosen`: the command that stands first, if it is one."""
    parser = _Parser(
        prog="treadle",
        description="A runtime for ships: boot, run, replay, inspect.",
        epilog="Every command has --json. Faults exit with: 2 usage, 3 pier, 4 log, "
        "5 serf or snapshot, 6 pill or boot, 7 disk, 8 live ship, 1 all else.",
    )
    parser.add_argument(
        "--version", action="version", version=f"treadle {runtime_version()}"
    )
    commands = _Commands(parser)
    _add_life(commands)
    add_care_commands(commands.add_for_pier)
    _add_upkeep(commands)
    _add_log(commands, chosen)
    _add_talk(commands)
    _add_tools(commands)
    _add_hoon(commands)
    _add_reference(commands)
    _add_lab(commands, chosen)
    return parser


def _add_life(commands: _Commands) -> None:
    command = commands.add_for_pier("boot", _boot, "make a new ship, and run it")
    command.add_argument(
        "--fake", required=True, metavar="SHIP", help="its name, such as ~zod"
    )
    command.add_argument(
        "--pill", type=Path, metavar="FILE", help="its kernel (default: our own)"
    )
    command.add_argument(
        "--no-run",
        action="store_true",
        help="boot only; do not run it then (where there is no terminal, this is the "
        "default, and --headless runs it)",
    )
    _add_run_options(command)

    command = commands.add_for_pier("run", _run, "start a ship, and keep it alive")
    _add_run_options(command)

    command = commands.add_for_pier(
        "replay", _replay, "compute a ship's state from its log"
    )
    command.add_argument(
        "--from-scratch",
        action="store_true",
        help="from the first event, not from the snapshot",
    )
    command.add_argument(
        "--until", type=values.positive, metavar="N", help="stop after event N"
    )
    _add_serf_options(command)

    command = commands.add_for_pier(
        "status", _status, "tell how a ship is, live or at rest"
    )
    _add_timeout(command, _TIMEOUT_S)


def _add_upkeep(commands: _Commands) -> None:
    commands.add_for_pier(
        "adopt",
        _adopt,
        "make a copy of a ship the ship itself",
        description="Take the copy at PIER for the ship from now on: a snapshot, a "
        "restored backup, an older state. The original must never run again: two "
        "copies write two histories, and other ships believe the first they hear.",
    )

    command = commands.add_for_pier(
        "check", _check, "verify everything in a pier (exit 1: a fault)"
    )
    command.add_argument(
        "--deep",
        action="store_true",
        help="also look at every noun of every state that is kept: generations, "
        "pins, the starts of epochs",
    )

    command = commands.add_for_pier(
        "archive",
        _archive,
        "bring old epochs of the log elsewhere, then remove them here",
        description="Copy each old epoch into DIR, read the copy again and hold it "
        "against its hash chain; or let COMMAND take it, which the shell runs for "
        "each with $EPOCH (its name) and $EPOCH_DIR. Then remove it as chop does, "
        "which never takes what recovery needs. To put one back, copy its directory "
        "into .urb/log of the ship at rest.",
    )
    command.add_argument(
        "directory", type=Path, metavar="DIR", nargs="?", help="where to"
    )
    command.add_argument("--cmd", metavar="COMMAND", help="instead of a directory")
    command.add_argument(
        "--keep",
        type=values.positive,
        default=2,
        metavar="N",
        help="how many of the newest stay (2 at least)",
    )


def _add_talk(commands: _Commands) -> None:
    command = commands.add_for_pier(
        "stop", _stop, "ask a ship to stop, and wait until it has"
    )
    _add_timeout(command, _STOP_TIMEOUT_S)

    command = commands.add_for_pier(
        "peek",
        _peek,
        "read from a live ship's namespace",
        description="Read the value at PATH: /VIEW/DESK/SPUR, asked as [%once view "
        "desk spur]. An empty part is written as nothing: /x//kv/name.",
    )
    command.add_argument("path", metavar="PATH")
    command.add_argument(
        "--beam", action="store_true", help="ask with PATH as it is, a whole beam"
    )
    command.add_argument(
        "--out", type=Path, metavar="FILE", help="write the value's jam to FILE"
    )
    _add_timeout(command, _TIMEOUT_S)

    command = commands.add_for_pier(
        "poke",
        _poke,
        "give a live ship an event",
        description="Give the ship the ovum [[target wire] tag data], and wait until "
        "it is durable. WIRE begins with the target: /d/term/1 is [%d /term/1], "
        "//arvo is [%$ /arvo]. DATA is a noun as text: numbers, %terms, 'cords', "
        "[cells]; ~ if left out. For example: treadle poke zod /d/term/1 belt "
        "'[%txt 104 105 0]'.",
    )
    command.add_argument("wire", metavar="WIRE", nargs="?")
    command.add_argument("tag", metavar="TAG", nargs="?")
    command.add_argument("data", metavar="DATA", nargs="?")
    command.add_argument(
        "--jam", metavar="FILE", help="the jam of the whole ovum instead (- is stdin)"
    )
    _add_timeout(command, _TIMEOUT_S)


def _add_tools(commands: _Commands) -> None:
    command = commands.add("noun", _tool, "look at a jam: counts, depth, mug")
    command.add_argument(
        "file", metavar="FILE", help="a jam; - reads JSON lines with `jam` in hex"
    )
    command = commands.add("nock", _tool, "evaluate the jam of [subject formula]")
    command.add_argument(
        "file", metavar="FILE", help="a jam; - reads JSON lines with `in` in hex"
    )
    _add_probe_options(command)
    command.add_argument(
        "--disassemble",
        action="store_true",
        help="list the formula's programs; evaluate nothing",
    )
    command.add_argument(
        "--time", action="store_true", help="tell the seconds of the evaluation alone"
    )
    command.add_argument("--out", metavar="FILE", help="write the product's jam")


def _add_hoon(commands: _Commands) -> None:
    command = commands.add(
        "hoon", _hoon, "compile and run Hoon with a kernel's own compiler"
    )
    command.add_argument("text", metavar="TEXT", help="a text, or FILE.hoon")
    command.add_argument(
        "--kernel",
        metavar="FILE",
        required=True,
        help="a jam with a +wish arm at axis 10, such as hoonc.jam",
    )
    command.add_argument(
        "--prelude",
        metavar="FILE",
        help="a hoon.hoon: its names for the text, its printer for answers; compiled"
        " once, and kept",
    )
    command.add_argument(
        "--compiler",
        metavar="FILE",
        action="append",
        default=[],
        help="a hoon.hoon, whose +ride compiles from then on; compiled once, and kept."
        " Given twice, it has compiled itself. Needed where the prelude is of another"
        " kelvin than the kernel",
    )
    command.add_argument(
        "--time", action="store_true", help="tell the seconds to compile and to run"
    )
    command.add_argument(
        "--out", metavar="FILE", help="write the formula's jam; run nothing"
    )
    _add_probe_options(command)


def _add_reference(commands: _Commands) -> None:
    command = commands.add(
        "explain", _explain, "say what an error code means, and what to do"
    )
    command.add_argument(
        "code", metavar="CODE", nargs="?", help="such as pier-locked; none: all"
    )
    command = commands.add("jets", _jets, "list the arms that the machine stands for")
    command.add_argument(
        "pier",
        type=Path,
        metavar="PIER",
        nargs="?",
        help="a live ship: how often each was called there",
    )
    _add_timeout(command, _TIMEOUT_S)


def _add_lab(commands: _Commands, chosen: str) -> None:
    text = "crash a ship in every way, and see whether it recovers"
    command = commands.parts.add_parser("lab", help=text, description=text)
    command.set_defaults(function=_lab)
    if chosen == "lab":
        from king.lab.command import add_commands as add_lab_commands

        add_lab_commands(command)


def _add_timeout(command: argparse.ArgumentParser, default: float) -> None:
    command.add_argument(
        "--timeout",
        type=values.seconds,
        default=default,
        metavar="SECONDS",
        help=f"how long to wait for the ship (default {default:g})",
    )


def _add_log(commands: _Commands, chosen: str) -> None:
    text = "look at a ship's events: list, show, top, follow, grep, verify"
    command = commands.parts.add_parser(
        "log", help=text, description=f"{text} (treadle log PIER WHAT does it, too)."
    )
    parts = command.add_subparsers(dest="subcommand", required=True, metavar="WHAT")
    # Most words stand beside what they do; few commands pay for loading them.
    if chosen == "log":
        from king.log_command import add_commands

        add_commands(parts)
    text = (
        "verify that every job is the one that was committed, by the log's hash "
        "chain and without computing anything (exit 1: a fault)"
    )
    command = parts.add_parser("verify", help=text, description=text)
    command.set_defaults(function=_log_verify)
    command.add_argument("--json", action="store_true", help="answer in JSON")
    command.add_argument(
        "pier",
        type=Path,
        metavar="PATH",
        help="the ship's directory, or that of one epoch, wherever it lies",
    )
    for name in ("first", "last"):
        command.add_argument(
            f"--{name}",
            type=values.positive,
            metavar="N",
            help=f"the {name} event to verify",
        )


def _in_order(words: list[str]) -> list[str]:
    """`log PIER WHAT` as `log WHAT PIER`: people name the ship first, too."""
    match words:
        case ["log", pier, what, *rest] if what in _LOOKS and pier not in _LOOKS:
            return ["log", what, pier, *rest]
    return words


_LOOKS = ("list", "show", "top", "follow", "grep", "verify")


# --- main -------------------------------------------------------------------


def _print_json(value: Any) -> None:
    print(json.dumps(value), flush=True)


def _report(error: TreadleError, as_json: bool) -> int:
    if as_json:
        _print_json(error.as_json())
    sys.stdout.flush()
    print(f"treadle: {error.code}: {error.message}", file=sys.stderr)
    if error.hint:
        print(f"  hint: {error.hint}", file=sys.stderr)
    return error.exit_code


def main(argv: Sequence[str] | None = None, early: EarlySerf | None = None) -> int:
    """Run one command, with the serf that is there already; its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if sys.flags.optimize:
            raise TreadleError(
                "usage", "python -O strips our assertions; start without -O"
            )
        parser = _parser(words[0] if words else "")
        args = parser.parse_args(_in_order(words), argparse.Namespace(early=early))
        code: int = args.function(args)
        sys.stdout.flush()
        return code
    except TreadleError as error:
        return _report(error, "--json" in words)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
