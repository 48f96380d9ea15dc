"""Tools for one noun, one computation, one image: what `treadle` runs for
`noun`, `nock`, `check` and `status`, in a process of their own.

    noun FILE|- [--json]
    nock FILE|- [--no-jets] [--jet-check] [--time] [--stats] [--profile FILE]
         [--disassemble] [--out FILE] [--json]
    jets [--json]                   every arm that the machine knows
    check-image PATH [--deep] [--json]    reads and verifies all of it, to the noun
    image-info PATH [--json]        reads its superblocks only
    image-copy SOURCE EVENT|newest DEST [--json]    see serf/copy.py

With `-`, JSON lines come on stdin (`jam`, or `in`, in hex) and each is
answered by a line; a bad line is answered by an `error` and the next is read.

`--profile` writes folded stacks (`outer;inner samples`), a sample each
millisecond of names from %fast and %spot. `--disassemble` lists the programs
and evaluates nothing. `--jet-check` compares every jet with its Nock; a
mismatch is told on stderr and crashes with %fail.

Exit codes: 0; 1 bad input (`treadle: CODE: FILE: why` and a hint; with --json
also an object); 2 the computation crashed; 64 wrong usage.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import sys
from collections.abc import Callable
from typing import Any

from proto.errors import ProtoError
from proto.jam import cue
from proto.noun import Cell, items
from proto.text import render
from serf.copy import NEWEST, run_copy
from serf.engine import (
    CheckedImage,
    Crashed,
    Engine,
    NotJam,
    check_image,
    image_facts,
)
from serf.errors import Usage

__all__ = ["PROFILE_US", "print_more", "run", "stats"]

_TEXT_JAM_MAX = 1 << 17
_TEXT_MAX = 2000
_TOOL_HOME_SIZE = 1 << 26
PROFILE_US = 1000

Row = dict[str, Any]


_JAM_HINT = "the file should hold one jam; for nock, the jam of [subject formula]"
_FILE_HINT = "is the path right, and may you read or write there?"


class BadInput(Exception):
    """The file is not what the tool needs."""


class BadFile(BadInput):
    """The file cannot be read or written."""


def run(args: list[str]) -> int:
    """One tool's work; the exit code."""
    # A long evaluation is in C: let ^C and a closed pipe end it at once.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    name, rest = args[0], args[1:]
    flags = {arg for arg in rest if arg.startswith("--")}
    known = {
        "noun": {"--json"},
        "nock": {
            *("--json", "--no-jets", "--jet-check", "--time", "--out"),
            *("--stats", "--profile", "--disassemble"),
        },
        "jets": {"--json"},
        "check-image": {"--json", "--deep"},
        "image-info": {"--json"},
        "image-copy": {"--json"},
    }[name]
    out = _value(rest, "--out")
    profile = _value(rest, "--profile")
    values = {id(value) for value in (out, profile)}
    paths = [arg for arg in rest if not arg.startswith("--") and id(arg) not in values]
    if flags - known:
        raise Usage(f"{name}: unknown option {min(flags - known)}")
    if name == "jets":
        if paths:
            raise Usage("jets: takes no file")
        return _jets("--json" in flags)
    if name == "image-copy":
        return _image_copy(paths, "--json" in flags)
    if len(paths) != 1:
        raise Usage(f"{name}: one file is needed, or - for JSON lines")
    try:
        if name == "check-image":
            return _check_image(paths[0], "--deep" in flags, "--json" in flags)
        if name == "image-info":
            return _image_info(paths[0], "--json" in flags)
        engine = Engine(home_size=_TOOL_HOME_SIZE)
        jets = "--no-jets" not in flags
        if flags & {"--stats", "--profile", "--jet-check"}:
            engine.probe(
                interval_us=PROFILE_US if profile is not None else 0,
                check="--jet-check" in flags,
            )
        if paths[0] == "-":
            answer = _noun_row if name == "noun" else _nock_row(jets)
            return _lines(lambda row: answer(engine, row))
        data = _read(paths[0])
        if name == "noun":
            return _noun(engine, paths[0], data, "--json" in flags)
        if "--disassemble" in flags:
            return _disassemble(engine, data, "--json" in flags)
        code, row = _nock(engine, paths[0], data, jets, out, flags)
        if profile is not None:
            _write(profile, engine.profile().encode())
        if "--json" in flags:
            _show(row)
        return code
    except (BadInput, NotJam) as error:
        message = f"{paths[0]}: {error}"
        if name in ("check-image", "image-info"):  # a king asked
            print(f"{name}: {message}", file=sys.stderr)
        elif isinstance(error, BadFile):
            _report("file-bad", message, _FILE_HINT, 1, "--json" in flags)
        else:
            _report("jam-bad", message, _JAM_HINT, 1, "--json" in flags)
        return 1


def _report(code: str, message: str, hint: str, exit_code: int, as_json: bool) -> None:
    """A fault as all of treadle tells them; see king/errors.py."""
    if as_json:
        row = {"error": code, "message": message, "hint": hint}
        _show({**row, "exit_code": exit_code})
    sys.stdout.flush()
    print(f"treadle: {code}: {message}", file=sys.stderr)
    print(f"  hint: {hint}", file=sys.stderr)


def _value(args: list[str], name: str) -> str | None:
    """The very string object that follows `name`."""
    if name not in args:
        return None
    at = args.index(name) + 1
    if at == len(args):
        raise Usage(f"{name} needs a value")
    return args[at]


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise BadFile(error.strerror or str(error)) from error


def _show(row: Row) -> None:
    print(json.dumps(row))


def _text_of(data: bytes) -> str | None:
    """A noun as text, where it is small enough to be read."""
    if len(data) > _TEXT_JAM_MAX:
        return None
    return render(cue(data), _TEXT_MAX)


# --- files ------------------------------------------------------------------


def _noun(engine: Engine, path: str, data: bytes, as_json: bool) -> int:
    try:
        facts = engine.noun(data)
    except NotJam as error:
        raise NotJam(f"not a jam: {error}") from None
    row: Row = {
        "file": path,
        "bytes": len(data),
        "canonical": facts.jam == data,
        "mug": f"{facts.mug:08x}",
        "cells": facts.cells,
        "atoms": facts.atoms,
        "cells_tree": facts.cells_tree,
        "atoms_tree": facts.atoms_tree,
        "depth": facts.depth,
        "text": _text_of(facts.jam),
    }
    if as_json:
        _show(row)
        return 0
    many = "2^64 or more"
    cells = many if facts.cells_tree is None else f"{facts.cells_tree}"
    atoms = many if facts.atoms_tree is None else f"{facts.atoms_tree}"
    canonical = "" if row["canonical"] else f" (canonical: {len(facts.jam)})"
    print(f"mug    {row['mug']}")
    print(f"bytes  {len(data)}{canonical}")
    print(f"cells  {facts.cells} distinct, {cells} as a tree")
    print(f"atoms  {facts.atoms} distinct, {atoms} as a tree")
    print(f"depth  {facts.depth}")
    if row["text"] is not None:
        print(row["text"])
    return 0


def _nock(
    engine: Engine,
    path: str,
    data: bytes,
    jets: bool,
    out: str | None,
    flags: set[str],
) -> tuple[int, Row]:
    """Evaluate and tell; the exit code, and what `--json` is to show."""
    try:
        result = engine.nock(data, jets)
    except NotJam as error:
        raise NotJam(f"not a jam of [subject formula]: {error}") from None
    for slog in engine.slogs():
        print(render(cue(slog.tank), _TEXT_MAX), file=sys.stderr)
    more: Row = {"seconds": result.seconds} if "--time" in flags else {}
    if flags & {"--stats", "--jet-check"}:
        more["stats"] = stats(engine)
    if isinstance(result, Crashed):
        trace = _trace_lines(result.trace)
        if "--json" in flags:
            row: Row = {"result": "crash", "mote": result.mote}
            row |= {"trace": result.trace.hex(), "text": trace}
            return 2, {**row, **more}
        message = f"{path}: the computation crashed with %{result.mote}"
        print(f"treadle: nock-crashed: {message}", file=sys.stderr)
        for line in trace:
            print(f"  {line}", file=sys.stderr)
        print_more(more)
        return 2, {}
    if out is not None:
        _write(out, result.jam)
    text = _text_of(result.jam)
    if "--json" in flags:
        row = {"result": "ok", "mug": f"{result.mug:08x}", "text": text}
        return 0, {**row, "bytes": len(result.jam), **more}
    print(f"a noun of {len(result.jam)} bytes" if text is None else text)
    print(f"mug {result.mug:08x}")
    print_more(more)
    return 0, {}


def _write(path: str, data: bytes) -> None:
    try:
        with open(path, "wb") as file:
            file.write(data)
    except OSError as error:
        raise BadFile(f"cannot write {path}: {error.strerror}") from error


def stats(engine: Engine) -> Row:
    """Counters, in groups; those of a group only where they are not 0."""
    found: Row = {"instructions": {}}
    for name, value in engine.stats().items():
        group, _, rest = name.partition(":")
        if not rest:
            found[name] = value
        elif value:
            found.setdefault(group, {})[rest] = value
    found["jets"] = {
        arm.path: {
            name: getattr(arm, name)
            for name in ("hits", "misses", "checked", "unchecked", "wrong")
            if getattr(arm, name)
        }
        for arm in engine.arms()
        if arm.hits or arm.misses or arm.wrong
    }
    return found


def print_more(more: Row) -> None:
    """What was asked for beside the answer, for people."""
    if "seconds" in more:
        print(f"seconds {more['seconds']:.6f}")
    for name, value in more.get("stats", {}).items():
        if not isinstance(value, dict):
            print(f"{name:<20} {value}")
            continue
        for key, item in sorted(value.items(), key=lambda row: str(row[0])):
            if isinstance(item, dict):
                item = " ".join(f"{word} {count}" for word, count in item.items())
            print(f"{name + ' ' + key:<20} {item}")


def _disassemble(engine: Engine, data: bytes, as_json: bool) -> int:
    try:
        text = engine.disassemble(data)
    except NotJam as error:
        raise NotJam(f"not a jam of [subject formula]: {error}") from None
    if not as_json:
        sys.stdout.write(text)
        return 0
    programs: list[Row] = []
    for part in text.split("\n\n"):
        title, *lines = part.strip("\n").split("\n")
        programs.append({"title": title, "lines": [line.strip() for line in lines]})
    _show({"programs": programs})
    return 0


def _jets(as_json: bool) -> int:
    arms = Engine(home_size=_TOOL_HOME_SIZE).arms()
    rows = [{"path": arm.path, "kind": arm.kind, "hook": arm.hook} for arm in arms]
    if as_json:
        _show({"arms": rows})
        return 0
    for row in rows:
        hook = f"  needs {row['hook']}" if row["hook"] else ""
        print(f"{row['path']:<32} {row['kind']}{hook}")
    return 0


def _trace_lines(trace: bytes) -> list[str]:
    """A trace for people: one `[tag clue]` a line, innermost first."""
    if len(trace) > _TEXT_JAM_MAX:
        return [f"a trace of {len(trace)} bytes"]
    value = cue(trace)
    if not isinstance(value, Cell):
        return []
    try:
        return [render(entry, 200) for entry in items(value)]
    except ProtoError:
        return [render(value, _TEXT_MAX)]


# --- JSON lines -------------------------------------------------------------


def _lines(answer: Callable[[Row], Row]) -> int:
    for line in sys.stdin:
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if not isinstance(row, dict):
                raise BadInput("not a JSON object")
            reply = answer(row)
        except (BadInput, NotJam, ValueError, RecursionError) as error:
            reply = {"error": str(error)}
        sys.stdout.write(json.dumps(reply) + "\n")
        sys.stdout.flush()
    return 0


def _hex(row: Row, *names: str) -> bytes:
    for name in names:
        if isinstance(row.get(name), str):
            return bytes.fromhex(row[name])
    raise BadInput(f"no {names[0]!r} in hex")


def _noun_row(engine: Engine, row: Row) -> Row:
    rejam, mug = engine.rejam(_hex(row, "jam", "in"))
    return {"mug": f"{mug:08x}", "rejam": rejam.hex()}


def _nock_row(jets: bool) -> Callable[[Engine, Row], Row]:
    def answer(engine: Engine, row: Row) -> Row:
        result = engine.nock(_hex(row, "in", "jam"), jets)
        printed = [clue.hex() for clue in engine.clues()]
        slog: Row = {"slog": printed} if printed else {}
        if isinstance(result, Crashed):
            trace = result.trace.hex()
            return {"result": "crash", "mote": result.mote, "trace": trace, **slog}
        return {
            "result": "ok",
            "mug": f"{result.mug:08x}",
            "jam": result.jam.hex(),
            **slog,
        }

    return answer


# --- images -----------------------------------------------------------------


def _check_is_file(path: str) -> None:
    try:
        is_file = stat.S_ISREG(os.stat(path).st_mode)
    except OSError as error:
        raise BadInput(error.strerror or str(error)) from error
    if not is_file:
        raise BadInput("not a file")


def _image_row(path: str, checked: CheckedImage) -> Row:
    return {
        "file": path,
        "fault": checked.fault,
        "good": checked.good,
        "generations": checked.generations,
        "generation": checked.generation,
        "event": checked.event,
        "mug": f"{checked.mug:08x}",
        "pages": checked.pages,
        "slots": checked.slots,
        "ship": checked.ship.hex(),
        "log": checked.log.hex(),
        "pins": [pin._asdict() for pin in checked.pins],
    }


def _image_info(path: str, as_json: bool) -> int:
    _check_is_file(path)
    facts = image_facts(path)
    if as_json:
        _show(_image_row(path, facts))
    elif facts.fault:
        print(f"image-info: {path}: {facts.fault}", file=sys.stderr)
    elif not facts.good:
        print(f"{path}: no good superblock")
    else:
        print(
            f"{path}: generation {facts.generation}, event {facts.event},"
            f" mug {facts.mug:08x}, {facts.pages} pages (not verified)"
        )
        for pin in facts.pins:
            print(f"pin {pin.name}: generation {pin.generation}, event {pin.event}")
    return 1 if facts.fault else 0


def _check_image(path: str, deep: bool, as_json: bool) -> int:
    _check_is_file(path)
    checked = check_image(path, deep)
    if as_json:
        _show(_image_row(path, checked))
    elif checked.fault:
        print(f"check-image: {path}: {checked.fault}", file=sys.stderr)
    else:
        print(
            f"{path}: {checked.generations} generations; the newest is of event"
            f" {checked.event}, mug {checked.mug:08x}, {checked.pages} pages: good"
        )
    return 1 if checked.fault else 0


def _image_copy(words: list[str], as_json: bool) -> int:
    if len(words) != 3:
        raise Usage("image-copy: takes SOURCE EVENT|newest DEST")
    source, event, target = words
    number = NEWEST
    if event != "newest":
        number = int(event) if event.isascii() and event.isdigit() else NEWEST
        if number >= NEWEST:
            raise Usage(f"image-copy: {event!r} is no event number, nor `newest`")
    return run_copy(source, number, target, as_json)
