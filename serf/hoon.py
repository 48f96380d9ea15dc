"""Compile and run Hoon with the compiler that a kernel contains.

    hoon --kernel FILE [--compiler FILE ...] [--prelude FILE] [--out FILE]
         [--json] [--time] [--stats] [--profile FILE] [--jet-check] [--no-jets]
         TEXT|FILE.hoon

The kernel is the jam of a trap that makes a core with a `+wish` arm at axis
10, as hoonc.jam of nockchain/nockchain is. `+wish` parses and evaluates a
text against nothing; its formula tells where `+slap` and `+ream` are, and
+slap's own how a type and a hoon become a type and a formula.

A compiler is the source of one: a hoon.hoon, whose product is the gate
+ride, from [type text] to [type formula]. It is compiled by what compiles so
far, and compiles from then on. So a compiler that is given twice has compiled
itself; whoever gives a prelude of another kelvin than the kernel's gives it
as compiler first, since types mean something to their own compiler only.

With a prelude (a hoon.hoon again) the text sees all of its names, and answers
are printed by its own printer. Compiling it takes long, so the result is kept
under $XDG_CACHE_HOME/treadle, named by what it was made of; compilers too.
What is kept is a formula: only cores that are made in a run have jets.

With --out the formula that the text compiles to is written, and not run.
--stats, --profile and --jet-check are those of serf/tool.py, over all runs.

Nouns that may be large stay jams here, and travel as they are.

Exit codes: as serf/tool.py.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from proto.errors import ProtoError
from proto.fast import mug, slots, tuple_
from proto.jam import cue, jam
from proto.message import Jam
from proto.noun import Cell, Noun, items, noun, slot
from proto.tank import tank_lines
from proto.text import render
from serf.engine import Crashed, Engine, NotJam
from serf.errors import Usage
from serf.tool import PROFILE_US, print_more, stats

__all__ = ["ANYTHING", "NOTHING", "Compiler", "Crash", "run"]

_WISH = 10
_TEXT_MAX = 2000
_HOME_SIZE = 1 << 26
# Worlds: [type formula].
NOTHING = jam(noun(("atom", "n", 0, 0), 1, 0))
ANYTHING = jam(noun("noun", 1, 0))
# Of [value-formula subject], before a formula: run the one on 0, and forget
# what it made; go on with the subject.
_WITH_WORLD = (8, (2, (1, 0), 0, 2), 7, (0, 7))
# Of [formula type text]: slam the gate that the formula makes.
_RIDE = (8, (2, (1, 0), 0, 2), 9, 2, 10, (6, 0, 7), 0, 2)
_STRANGE = (
    "the prelude's printer crashes on the answer's type: a prelude of another"
    " kelvin than the compiler's is to be given with --compiler too"
)
_VALUES = ("--kernel", "--prelude", "--out", "--profile")
_FLAGS = ("--json", "--time", "--stats", "--jet-check", "--no-jets")


class BadInput(Exception):
    """A file is not what is needed."""


class Crash(Exception):
    """The computation crashed."""

    def __init__(self, crashed: Crashed) -> None:
        super().__init__(crashed.mote)
        self.crashed = crashed


class Options(NamedTuple):
    """What the user asked for."""

    values: dict[str, str]
    flags: set[str]
    compilers: list[str]
    text: str


def run(args: list[str]) -> int:
    """The tool's work; the exit code."""
    options = _parse(args)
    as_json = "--json" in options.flags
    try:
        return _run(options)
    except (BadInput, NotJam, ProtoError) as error:
        row = {"error": "hoon-bad", "message": str(error), "exit_code": 1}
        if as_json:
            print(json.dumps(row))
        print(f"treadle: hoon-bad: {error}", file=sys.stderr)
        return 1
    except Crash as crash:
        _tell_crash(crash.crashed, as_json)
        return 2


def _parse(args: list[str]) -> Options:
    options = Options({}, set(), [], "")
    texts: list[str] = []
    rest = iter(args)
    for arg in rest:
        if arg == "--compiler" or arg in _VALUES:
            value = next(rest, None)
            if value is None:
                raise Usage(f"{arg} needs a value")
            if arg == "--compiler":
                options.compilers.append(value)
            else:
                options.values[arg] = value
        elif arg in _FLAGS:
            options.flags.add(arg)
        elif arg.startswith("--"):
            raise Usage(f"hoon: unknown option {arg}")
        else:
            texts.append(arg)
    if "--kernel" not in options.values or len(texts) != 1:
        raise Usage("hoon: --kernel FILE and one text, or one FILE.hoon, are needed")
    return options._replace(text=texts[0])


def _run(options: Options) -> int:
    values, flags, source = options.values, options.flags, options.text
    text = _read(source) if source.endswith(".hoon") else source.encode()
    compiler = Compiler(_read(values["--kernel"]), jets="--no-jets" not in flags)
    engine = compiler.engine
    if flags & {"--stats", "--jet-check"} or "--profile" in values:
        engine.probe(
            interval_us=PROFILE_US if "--profile" in values else 0,
            check="--jet-check" in flags,
        )
    try:
        row = _compile_and_run(compiler, options, text)
    finally:
        if "--profile" in values:
            _write(values["--profile"], engine.profile().encode())
    more: dict[str, Any] = {}
    if flags & {"--stats", "--jet-check"}:
        more["stats"] = stats(engine)
    if "--json" in flags:
        print(json.dumps({**row, **more}))
        return 0
    if "text" in row:
        print(row["text"])
    if "--time" in flags:
        took = f"compile {row['compile']:.6f} s"
        print(took + (f", run {row['run']:.6f} s" if "run" in row else ""))
    print_more(more)
    return 0


def _compile_and_run(
    compiler: Compiler, options: Options, text: bytes
) -> dict[str, Any]:
    values = options.values
    for path in options.compilers:
        compiler.become(_read(path))
    world, printer = NOTHING, None
    if "--prelude" in values:
        world, printer = compiler.prelude(_read(values["--prelude"]))
    made = compiler.compile(world, text)
    row: dict[str, Any] = {"result": "ok", "compile": compiler.seconds}
    row["mug"] = f"{mug(made):08x}"
    type_, formula = _parts(made, 2, 3)
    if "--out" in values:
        _write(values["--out"], formula)
        return {**row, "out": values["--out"]}
    (value,) = _parts(world, 3)
    product = compiler.nock(tuple_([value, formula]), _RUN)
    row["run"] = compiler.seconds
    compiler.nock(value, _MAKE)
    row["cores"] = compiler.seconds
    if printer is None:
        return {**row, "text": render(cue(product), _TEXT_MAX)}
    # The prelude's cores are made anew, so that its jets are known.
    try:
        tape = compiler.nock(tuple_([value, printer, type_, product]), _PRINT)
    except Crash as crash:
        raise BadInput(_STRANGE) from crash
    letters = bytes(c for c in items(cue(tape)) if isinstance(c, int) and c < 256)
    return {**row, "text": letters.decode("utf-8", "replace")}


# Of a value's formula: run it on 0, for the time it takes.
_MAKE = (7, (2, (1, 0), 0, 1), 1, 0)
# Of [value-formula formula]: run the one on what the other makes of 0.
_RUN = (2, (2, (1, 0), 0, 2), 0, 3)
# Of [value-formula printer type product]: slam the printer.
_PRINT = (8, (2, (2, (1, 0), 0, 2), 0, 6), 9, 2, 10, (6, 0, 15), 0, 2)


class Arms(NamedTuple):
    """Where the compiler is, seen from the kernel's +wish gate."""

    slap: int
    ream: int
    context: int


class Compiler:
    """A kernel, asked to parse and compile; or the compilers that came from
    it. A world is [type formula], where the formula makes the value from 0;
    so is what is compiled, from the world's value. Both are jams."""

    def __init__(self, kernel: bytes, *, jets: bool = True) -> None:
        self.engine = Engine(home_size=_HOME_SIZE)
        self.seconds = 0.0
        self._jets = jets
        self._name = hashlib.sha256(kernel)
        self._kernel = kernel
        self._ride: Jam | None = None
        gate = self.nock(kernel, (8, (9, 2, 0, 1), 9, _WISH, 0, 2))
        (battery,) = _parts(gate, 2)
        slap, ream, context = self._arms = _find_arms(cue(battery))
        (battery,) = _parts(self.nock(gate, (9, slap, 0, context)), 2)
        # [gate kernel trap type text], and then under +slap's gate.
        parse = ((8, (9, ream, 0, _peg(6, context)), 9, 2), (10, (6, 0, 127), 0, 2))
        sample = (6, ((0, 62), (1, 0)), *parse[0], *parse[1])
        mint = (7, (10, sample, 0, 2), _find_mint(cue(battery)))
        self._compile = (
            *(8, (9, 2, 0, 2), 8, (9, _WISH, 0, 2)),
            *(8, (9, slap, 0, _peg(2, context)), *mint),
        )

    def compile(self, world: Jam, text: bytes) -> Jam:
        """[type formula] of a text in a world, whose value is made first: only
        so has it jets when the compiler folds what the text makes of it."""
        type_, value = _parts(world, 2, 3)
        by, formula = self._kernel, noun(self._compile)
        if self._ride is not None:
            by, formula = self._ride, noun(_RIDE)
        job = tuple_([by, type_, jam(int.from_bytes(text, "little"))])
        return self.nock(tuple_([value, job]), (*_WITH_WORLD, formula))

    def become(self, text: bytes) -> None:
        """Compile a hoon.hoon, and let what it makes compile from now on."""

        def make() -> Jam:
            return self.compile(ANYTHING, text)

        _, self._ride = self._kept("compiler", text, make)
        self._name.update(hashlib.sha256(text).digest())

    def prelude(self, text: bytes) -> tuple[Jam, Jam]:
        """World and printer: of the core that a hoon.hoon's product, the gate
        +ride, is in; the printer is a formula."""

        def make() -> Jam:
            ride = self.compile(ANYTHING, text)
            core = self.compile(ride, b"+>")
            to_ride, (type_, to_core) = _parts(ride, 3)[0], _parts(core, 2, 3)
            world = tuple_([type_, jam(7), to_ride, to_core])
            printer = self.compile(world, b"text")
            return tuple_([world, *_parts(printer, 3)])

        world, printer = self._kept("prelude", text, make)
        return world, printer

    def _kept(self, what: str, text: bytes, make: Callable[[], Jam]) -> list[Jam]:
        """Both halves of a pair that is made once, of `text`."""
        name = self._name.copy()
        name.update(what.encode() + hashlib.sha256(text).digest())
        base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        path = Path(base) / "treadle" / f"hoon-{name.hexdigest()[:32]}.jam"
        try:
            return _parts(path.read_bytes(), 2, 3)
        except (OSError, ProtoError, BadInput):
            print(f"hoon: compiling the {what}, once", file=sys.stderr)
        made = make()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh = path.with_suffix(f".{os.getpid()}")
            fresh.write_bytes(made)
            fresh.replace(path)
        except OSError as error:
            print(f"hoon: cannot keep {path}: {error.strerror}", file=sys.stderr)
        return _parts(made, 2, 3)

    def nock(self, subject: bytes, formula: object) -> Jam:
        """Evaluate.

        :raises Crash: it did.
        """
        job = tuple_([subject, jam(noun(formula))])
        result = self.engine.nock(job, self._jets)
        for slog in self.engine.slogs():
            print(*tank_lines(cue(slog.tank)), sep="\n", file=sys.stderr)
        self.seconds = result.seconds
        if isinstance(result, Crashed):
            raise Crash(result)
        return result.jam


def _parts(data: bytes, *axes: int) -> list[Jam]:
    """The jams of a noun's parts."""
    found = [part for part in slots(data, axes) if part is not None]
    if len(found) != len(axes):
        raise BadInput("a noun is not of the shape that a compiler gives")
    return found


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
