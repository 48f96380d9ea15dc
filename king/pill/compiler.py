"""Compiler of loom, our little language: programs to cores and pills.

Owns: the shape of every core that our kernels are made of. README.md shows
    the language; reader.py reads it, definitions.py collects what a program
    defines, expressions.py compiles bodies, formulas.py spells Nock.

The shapes. A *library* is a chain of layer cores as Hoon's standard library
has it, `[battery payload]`, the root's payload being its kelvin; its gates
are `[formula sample layer]`, registered by %fast under their names, so that a
runtime's jets find them. A *code core* is `[functions gates library]`: the
formulas of all functions, and the library gates that they use, built once. A
function runs on `[arguments code]` and is called by a bare Nock 2; a gate is
called by `[9 2 10 [6 arguments] 0 axis]`. A *kernel* is `[arms state code]`.

Invariants: output depends on the source text only.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from king.pill.definitions import SUGAR, Layer, Program, names_in, symbol
from king.pill.expressions import Compiler, Scope
from king.pill.formulas import cons, constant, fast, slot_of, then, tuple_of
from king.pill.reader import LoomError, Place, read
from proto.noun import Cell, Noun, listed, noun

__all__ = [
    "LoomError",
    "Program",
    "boot_ova",
    "code_formula",
    "compile_expression",
    "kernel_formula",
    "library_formula",
    "load",
    "parse",
]


def parse(text: str, file: str = "text", folder: Path | None = None) -> Program:
    """Read and link `text`; `folder` is where `(use ...)` looks.

    :raises LoomError: if the source is wrong.
    """
    program = Program()
    program.define(read(text, file), folder)
    return program


def load(path: Path) -> Program:
    """Read and link a file and all it uses.

    :raises LoomError: if the source is wrong.
    """
    return parse(path.read_text(encoding="utf-8"), path.name, path.parent)


# --- the library -----------------------------------------------------------------


def library_formula(compiler: Compiler) -> Noun:
    """The formula, of any subject, that builds and registers the library: the
    innermost layer core."""
    layers = compiler.program.layers
    if not layers:
        return constant(0)
    version = constant(slot_of(3))
    root = cons(version, constant(layers[0].kelvin or 0))
    formula = fast(layers[0].clue, constant(0), root)
    for index, layer in enumerate(layers[1:], 1):
        core = cons(constant(_battery(compiler, index, layer)), slot_of(1))
        formula = noun(7, formula, fast(layer.clue, slot_of(3), core))
    return formula


def _battery(compiler: Compiler, index: int, layer: Layer) -> Noun:
    def arm(name: str) -> Noun:
        gate = layer.gates[name]
        scope = compiler.parameters(gate, Scope(0, {}, index)).push()
        body = compiler.expression(gate.body, scope)
        core = noun(8, constant(0), cons(constant(body), slot_of(1)))
        return fast(noun(name), slot_of(7), core) if gate.registered else core

    return layer.tree().grow(arm, Cell)


# --- the code core ---------------------------------------------------------------


def code_formula(compiler: Compiler) -> Noun:
    """The formula, of any subject, that builds the code core."""
    program = compiler.program

    def function(name: str) -> Noun:
        routine = program.functions[name]
        scope = compiler.parameters(routine, Scope(0, {}, None))
        return compiler.expression(routine.body, scope)

    def pull(name: str) -> Noun:
        place = compiler.gate_place(name, len(program.layers) - 1)
        assert place is not None
        return noun(9, *place)

    functions = compiler.functions.grow(function, Cell)
    gates = compiler.gates.grow(pull, cons) if compiler.gates.axes else constant(0)
    core = tuple_of([constant(functions), gates, slot_of(1)])
    return noun(7, library_formula(compiler), core)


def compile_expression(text: str, program: Program) -> Noun:
    """The formula, of any subject, that builds `program`'s code core and then
    evaluates the one expression `text` in it.

    :raises LoomError: if the source is wrong.
    """
    forms = read(text, "expression")
    if len(forms) != 1:
        raise LoomError(Place("expression", 1, 1), "expected one expression")
    weights = Counter(SUGAR.get(name, name) for name in names_in(forms[0]))
    compiler = Compiler(program, weights)
    body = compiler.expression(forms[0], Scope(0, {}, None))
    return noun(7, code_formula(compiler), body)


# --- kernels and pills -----------------------------------------------------------


def kernel_formula(compiler: Compiler) -> Noun:
    """The formula, of a code core, that makes `[arms state code]`.

    Arms as Arvo has them: load 4, wish 10, peek 22, poke 23.
    :raises LoomError: if the program is no kernel.
    """
    arms = compiler.program.kernel
    if arms is None:
        raise LoomError(Place("program", 1, 1), "no (kernel ...) is defined")
    state_formula = compiler.expression(arms["state"], Scope(0, {}, None))
    state, code, sample = slot_of(30), 31, slot_of(6)  # in [body sample kernel]

    def arm(body: Noun) -> Noun:
        return tuple_of([constant(body), constant(0), slot_of(1)])

    def ask(name: str, *arguments: Noun) -> Noun:
        form = arms[name]
        routine = compiler.program.functions.get(symbol(form))
        if routine is None or len(routine.parameters) != 2:
            raise LoomError(form.place, "expected a function of two arguments")
        return compiler.enter(routine.name, tuple_of(arguments), code)

    poke = noun(
        8,
        ask("poke", state, sample),
        cons(slot_of(4), noun(10, (6, slot_of(5)), slot_of(15))),
    )
    load_arm = noun(10, (6, ask("load", state, sample)), slot_of(7))
    battery = noun(
        arm(load_arm),
        arm(ask("wish", state, sample)),
        arm(ask("peek", state, sample)),
        arm(poke),
    )
    return tuple_of([constant(battery), state_formula, slot_of(1)])


def boot_ova(program: Program) -> Noun:
    """The pill's boot events: lifecycle formula, code core, kernel.

    The lifecycle formula, given the rest of the log `[code kernel events]`,
    runs the code formula, the kernel formula on that, and pokes the kernel
    with each event; its product has the last kernel at axis 7.

    :raises LoomError: if the program is wrong, or no kernel.
    """
    poked = noun(9, 2, 10, (6, slot_of(14)), 9, 23, slot_of(6))
    step = noun(9, 2, slot_of(2), then(poked, slot_of(3)), slot_of(15))
    finish = noun(constant(0), constant(0), slot_of(6))
    fold = noun(6, (3, slot_of(7)), step, finish)
    kernel = noun(2, (2, slot_of(1), slot_of(2)), slot_of(6))
    lifecycle = noun(9, 2, constant(fold), kernel, slot_of(7))
    compiler = Compiler(program)
    return listed([lifecycle, code_formula(compiler), kernel_formula(compiler)])
