"""Compile and run Hoon with the compiler that a kernel contains.

    hoon --kernel FILE [--prelude FILE] [--out FILE] [--json] [--time]
         TEXT|FILE.hoon

The kernel is the jam of a trap that makes a core with a `+wish` arm at axis
10, as hoonc.jam of nockchain/nockchain is. `+wish` parses and evaluates a
text against nothing; its formula tells where `+slap` and `+ream` are, and
+slap's own how a type and a hoon become a type and a formula.

With a prelude (the hoon.hoon of the kernel's kelvin) the text sees all of its
names, and answers are printed by its own printer. Compiling it takes long, so
the result is kept under $XDG_CACHE_HOME/treadle, named by what it was made
of. What is kept is a formula: only cores that are made in a run have jets.

With --out the formula that the text compiles to is written, and not run.

Exit codes: as serf/tool.py.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import NamedTuple

from proto.errors import ProtoError
from proto.jam import cue, jam
from proto.noun import Cell, Noun, items, noun, slot
from proto.text import render
from serf.engine import Crashed, Engine, NotJam
from serf.errors import Usage

__all__ = ["Compiler", "run"]

_WISH = 10
_TEXT_MAX = 2000
_HOME_SIZE = 1 << 26
_NOTHING = noun(("atom", "n", 0, 0), 1, 0)
_ANYTHING = noun("noun", 1, 0)


class BadInput(Exception):
    """A file is not what is needed."""


class Crash(Exception):
    """The computation crashed."""

    def __init__(self, crashed: Crashed) -> None:
        super().__init__(crashed.mote)
        self.crashed = crashed


class Arms(NamedTuple):
    """Where the compiler is, seen from the kernel's +wish gate."""

    slap: int
    ream: int
    context: int


def run(args: list[str]) -> int:
    """The tool's work; the exit code."""
    values: dict[str, str] = {}
    flags: set[str] = set()
    texts: list[str] = []
    rest = iter(args)
    for arg in rest:
        if arg in ("--kernel", "--prelude", "--out"):
            value = next(rest, None)
            if value is None:
                raise Usage(f"{arg} needs a value")
            values[arg] = value
        elif arg in ("--json", "--time"):
            flags.add(arg)
        elif arg.startswith("--"):
            raise Usage(f"hoon: unknown option {arg}")
        else:
            texts.append(arg)
    if "--kernel" not in values or len(texts) != 1:
        raise Usage("hoon: --kernel FILE and one text, or one FILE.hoon, are needed")
    as_json = "--json" in flags
    try:
        return _run(values, flags, texts[0])
    except (BadInput, NotJam, ProtoError) as error:
        row = {"error": "hoon-bad", "message": str(error), "exit_code": 1}
        if as_json:
            print(json.dumps(row))
        print(f"treadle: hoon-bad: {error}", file=sys.stderr)
        return 1
    except Crash as crash:
        _tell_crash(crash.crashed, as_json)
        return 2


def _run(values: dict[str, str], flags: set[str], source: str) -> int:
    text = _read(source) if source.endswith(".hoon") else source.encode()
    compiler = Compiler(_read(values["--kernel"]))
    world, printer = _NOTHING, None
    if "--prelude" in values:
        kept = compiler.prelude(_read(values["--prelude"]))
        world, printer = slot(kept, 2), slot(kept, 3)
    made = compiler.compile(world, text)
    compile_seconds = compiler.seconds
    if "--out" in values:
        _write(values["--out"], jam(slot(made, 3)))
        row = {"result": "ok", "out": values["--out"], "compile": compile_seconds}
        if "--json" in flags:
            print(json.dumps(row))
        return 0
    product = compiler.nock(0, (7, slot(world, 3), slot(made, 3)))
    run_seconds = compiler.seconds
    shown = render(product, _TEXT_MAX)
    if printer is not None:
        # The prelude's cores are made anew, so that its jets are known.
        gate = (7, (7, (1, 0), slot(world, 3)), printer)
        vase = Cell(slot(made, 2), product)
        tape = compiler.nock(vase, (8, gate, 9, 2, 10, (6, 0, 3), 0, 2))
        letters = bytes(c for c in items(tape) if isinstance(c, int) and c < 256)
        shown = letters.decode("utf-8", "replace")
    if "--json" in flags:
        row = {"result": "ok", "text": shown, "compile": compile_seconds}
        print(json.dumps({**row, "run": run_seconds}))
        return 0
    print(shown)
    if "--time" in flags:
        print(f"compile {compile_seconds:.6f} s, run {run_seconds:.6f} s")
    return 0


class Compiler:
    """A kernel, asked to parse and compile. A world is [type formula], where
    the formula makes the value from 0; so is what is compiled, from the
    world's value."""

    def __init__(self, kernel: bytes) -> None:
        self.engine = Engine(home_size=_HOME_SIZE)
        self._name = hashlib.sha256(kernel)
        self._kernel = cue(kernel)
        self.seconds = 0.0
        gate = self.nock(self._kernel, (8, (9, 2, 0, 1), 9, _WISH, 0, 2))
        self._arms = _find_arms(slot(gate, 2))
        slap = self.nock(gate, (9, self._arms.slap, 0, self._arms.context))
        self._mint = _find_mint(slot(slap, 2))

    def compile(self, world: Noun, text: bytes) -> Noun:
        """[type formula] of a text in a world."""
        slap, ream, context = self._arms
        # [gate kernel trap type text], and then under +slap's gate.
        parse = (
            *(8, (9, ream, 0, _peg(6, context)), 9, 2),
            *(10, (6, 0, 127), 0, 2),
        )
        mint = (7, (10, (6, ((0, 62), (1, 0)), *parse), 0, 2), self._mint)
        formula = (
            *(8, (9, 2, 0, 2), 8, (9, _WISH, 0, 2)),
            *(8, (9, slap, 0, _peg(2, context)), *mint),
        )
        subject = noun(self._kernel, slot(world, 2), int.from_bytes(text, "little"))
        return self.nock(subject, formula)

    def prelude(self, text: bytes) -> Noun:
        """[world printer]: of the core that a hoon.hoon's product, the gate
        +ride, is in; its printer is a formula."""
        name = self._name.copy()
        name.update(hashlib.sha256(text).digest())
        base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        path = Path(base) / "treadle" / f"hoon-{name.hexdigest()[:32]}.jam"
        try:
            return cue(path.read_bytes())
        except (OSError, ProtoError):
            print("hoon: compiling the prelude, once", file=sys.stderr)
        ride = self.compile(_ANYTHING, text)
        core = self.compile(ride, b"+>")
        world = noun(slot(core, 2), 7, slot(ride, 3), slot(core, 3))
        kept = Cell(world, slot(self.compile(world, b"text"), 3))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh = path.with_suffix(f".{os.getpid()}")
            fresh.write_bytes(jam(kept))
            fresh.replace(path)
        except OSError as error:
            print(f"hoon: cannot keep {path}: {error.strerror}", file=sys.stderr)
        return kept

    def nock(self, subject: Noun, formula: object) -> Noun:
        """Evaluate.

        :raises Crash: it did.
        """
        result = self.engine.nock(jam(Cell(subject, noun(formula))), True)
        for slog in self.engine.slogs():
            print(render(cue(slog.tank), _TEXT_MAX), file=sys.stderr)
        self.seconds = result.seconds
        if isinstance(result, Crashed):
            raise Crash(result)
        return cue(result.jam)


def _peg(a: int, b: int) -> int:
    steps = b.bit_length() - 1
    return a << steps | b - (1 << steps)


def _bare(formula: Noun) -> Noun:
    """A formula without the hints around it."""
    while isinstance(formula, Cell) and formula.head == 11:
        formula = slot(formula, 7)
    return formula


def _find_arms(formula: Noun) -> Arms:
    """Of  q:(slap !>(~) (ream txt)) : the first and the last arm that it pulls
    from the core that both are in."""
    calls: list[tuple[int, int]] = []
    waiting = [formula]
    while waiting:
        match waiting.pop():
            case Cell(
                head=9, tail=Cell(head=int(axis), tail=Cell(head=0, tail=int(at)))
            ) if axis > 2:
                calls.append((axis, at))
            case Cell(head=head, tail=tail):
                waiting += [tail, head]
    if len(calls) < 2 or calls[0][1] != calls[-1][1]:
        raise BadInput("the kernel's +wish is not one that is known")
    return Arms(calls[0][0], calls[-1][0], calls[0][1])


def _find_mint(formula: Noun) -> Noun:
    """Of  =+(gun=(~(mint ut p.vax) %noun gen) [p.gun .*(q.vax q.gun)]) : what
    gun is."""
    match _bare(formula):
        case Cell(head=8, tail=Cell(head=gun)):
            return gun
    raise BadInput("the kernel's +slap is not one that is known")


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from error


def _write(path: str, data: bytes) -> None:
    try:
        Path(path).write_bytes(data)
    except OSError as error:
        raise BadInput(f"cannot write {path}: {error.strerror}") from error


def _tell_crash(crashed: Crashed, as_json: bool) -> None:
    trace = cue(crashed.trace)
    lines = [render(entry, 200) for entry in items(trace)]
    if as_json:
        print(json.dumps({"result": "crash", "mote": crashed.mote, "text": lines}))
        return
    message = f"the computation crashed with %{crashed.mote}"
    print(f"treadle: hoon-crashed: {message}", file=sys.stderr)
    for line in lines:
        print(f"  {line}", file=sys.stderr)
