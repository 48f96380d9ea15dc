"""What loom sources define: library layers, functions, constants, records.

Owns: the top level of the language, and the names in it.
Invariants: a name means one thing; every constant is a noun already.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from king.pill.formulas import Tree, peg
from king.pill.reader import (
    Form,
    Group,
    Literal,
    LoomError,
    Place,
    Symbol,
    Tuple,
    read,
)
from proto.noun import Cell, Noun, listed, noun

__all__ = [
    "RESERVED",
    "SUGAR",
    "Layer",
    "Program",
    "Record",
    "Routine",
    "clauses_of",
    "exact",
    "item_axis",
    "names_in",
    "pairs_of",
    "symbol",
]

_WORDS = """if cond case match let loop fn call and or not = != cell? atom? inc
head tail at nock crash mean slog list cord make with else as _"""
RESERVED = frozenset(_WORDS.split())
"""Words that no definition may take."""

SUGAR = {
    "+": "add",
    "-": "sub",
    "*": "mul",
    "<": "lth",
    "<=": "lte",
    ">": "gth",
    ">=": "gte",
    "cord": "rap",
}


@dataclass(frozen=True, slots=True)
class Record:
    """A named shape: field -> (axis, record of the field or None)."""

    fields: Mapping[str, tuple[int, str | None]]


@dataclass(frozen=True, slots=True)
class Routine:
    """A function or a gate."""

    name: str
    parameters: tuple[Form, ...]
    body: Form
    place: Place
    registered: bool = True


@dataclass(slots=True)
class Layer:
    """One core of the library; `clue` is what %fast calls it."""

    name: str
    clue: Noun
    kelvin: int | None
    gates: dict[str, Routine] = field(default_factory=dict)

    def tree(self) -> Tree:
        return Tree.plant(dict.fromkeys(self.gates, 1))


class Program:
    """A linked set of definitions."""

    def __init__(self) -> None:
        self.layers: list[Layer] = []
        self.functions: dict[str, Routine] = {}
        self.constants: dict[str, Noun] = {"yes": 0, "no": 1}
        self.records: dict[str, Record] = {}
        self.kernel: dict[str, Form] | None = None
        self.weights: Counter[str] = Counter()  # how often each name is used

    def define(self, forms: Iterable[Form], folder: Path | None) -> None:
        """Take in the top-level forms of one file.

        :raises LoomError: where they are wrong.
        """
        for form in forms:
            if not isinstance(form, Group) or not form.items:
                raise LoomError(form.place, "a definition is expected here")
            keyword, *rest = form.items
            word = symbol(keyword)
            match word:
                case "use":
                    self._use(rest, form.place, folder)
                case "root":
                    name, kelvin = (
                        literal(item) for item in exact(rest, 2, form.place)
                    )
                    assert isinstance(kelvin, int)
                    self.layers = [Layer("root", noun(name, kelvin), kelvin)]
                case "layer":
                    (name_form,) = exact(rest, 1, form.place)
                    name_text = symbol(name_form)
                    self.layers.append(Layer(name_text, noun(name_text), None))
                case "gate" | "helper":
                    self._define_gate(rest, form.place, word == "gate")
                case "define":
                    self._define_function(rest, form.place)
                case "const":
                    name_form, value = exact(rest, 2, form.place)
                    self._fresh(name_form)
                    self.constants[symbol(name_form)] = self.fold(value)
                case "record":
                    self._define_record(rest, form.place)
                case "kernel":
                    self._define_kernel(rest, form.place)
                case _:
                    raise LoomError(form.place, f"unknown definition '{word}'")

    def _use(self, rest: Sequence[Form], place: Place, folder: Path | None) -> None:
        for item in rest:
            value = literal(item)
            assert isinstance(value, int)
            name = value.to_bytes((value.bit_length() + 7) // 8, "little").decode()
            if folder is None or not (folder / name).is_file():
                raise LoomError(place, f"no file '{name}' to use")
            text = (folder / name).read_text(encoding="utf-8")
            self.define(read(text, name), folder)

    def _fresh(self, form: Form) -> str:
        name = symbol(form)
        taken = (
            name in RESERVED
            or name in SUGAR
            or name in self.functions
            or name in self.constants
            or name in self.records
            or any(name in layer.gates for layer in self.layers)
        )
        if taken or not name or "." in name or ":" in name:
            raise LoomError(form.place, f"'{name}' is taken or not a name")
        return name

    def _routine(
        self, rest: Sequence[Form], place: Place, registered: bool = True
    ) -> Routine:
        if len(rest) != 2 or not isinstance(rest[0], Group) or not rest[0].items:
            raise LoomError(place, "expected (name parameters...) and one body")
        name, *parameters = rest[0].items
        return Routine(self._fresh(name), tuple(parameters), rest[1], place, registered)

    def _define_function(self, rest: Sequence[Form], place: Place) -> None:
        routine = self._routine(rest, place)
        self.functions[routine.name] = routine
        self._weigh(routine.body)

    def _define_gate(
        self, rest: Sequence[Form], place: Place, registered: bool
    ) -> None:
        if not self.layers or self.layers[-1].kelvin is not None:
            raise LoomError(place, "a gate belongs to a layer")
        routine = self._routine(rest, place, registered)
        self.layers[-1].gates[routine.name] = routine

    def _define_record(self, rest: Sequence[Form], place: Place) -> None:
        if len(rest) < 3:
            raise LoomError(place, "a record has a name and two fields or more")
        name = self._fresh(rest[0])
        fields: dict[str, tuple[int, str | None]] = {}
        for index, form in enumerate(rest[1:]):
            last = index == len(rest) - 2
            axis = item_axis(index, last=last)
            label, _, kind = symbol(form).partition(":")
            if kind and kind not in self.records:
                raise LoomError(form.place, f"unknown record '{kind}'")
            if label in fields:
                raise LoomError(form.place, f"field '{label}' is there twice")
            fields[label] = (axis, kind or None)
        self.records[name] = Record(fields)

    def _define_kernel(self, rest: Sequence[Form], place: Place) -> None:
        arms: dict[str, Form] = {}
        for item in rest:
            if not isinstance(item, Group) or len(item.items) != 2:
                raise LoomError(item.place, "expected (arm value)")
            arms[symbol(item.items[0])] = item.items[1]
            self._weigh(item)
        if set(arms) != {"load", "wish", "peek", "poke", "state"}:
            raise LoomError(place, "a kernel has load, wish, peek, poke and state")
        self.kernel = arms

    def _weigh(self, form: Form) -> None:
        """Count how often each name is used: the plan of the code core."""
        self.weights.update(SUGAR.get(name, name) for name in names_in(form))

    def fold(self, form: Form) -> Noun:
        """The noun that a constant form stands for.

        :raises LoomError: if it is not constant.
        """
        match form:
            case Literal(value=value):
                return value
            case Symbol(name=name) if name in self.constants:
                return self.constants[name]
            case Tuple(items=parts):
                *parts_before, last = (self.fold(part) for part in parts)
                for part in reversed(parts_before):
                    last = Cell(part, last)
                return last
            case Group(items=(Symbol(name="list"), *parts)):
                return listed([self.fold(part) for part in parts])
            case _:
                raise LoomError(form.place, "this is not constant")


# --- helpers over forms ----------------------------------------------------------


def symbol(form: Form) -> str:
    if not isinstance(form, Symbol):
        raise LoomError(form.place, "a name is expected here")
    return form.name


def literal(form: Form) -> Noun:
    if not isinstance(form, Literal):
        raise LoomError(form.place, "a constant is expected here")
    return form.value


def exact(rest: Sequence[Form], count: int, place: Place) -> Sequence[Form]:
    if len(rest) != count:
        raise LoomError(place, f"expected {count} parts here, found {len(rest)}")
    return rest


def pairs_of(bindings: Form) -> list[tuple[Form, Form]]:
    if not isinstance(bindings, Group) or len(bindings.items) % 2:
        raise LoomError(bindings.place, "expected (pattern value ...)")
    items = iter(bindings.items)
    return list(zip(items, items, strict=True))


def clauses_of(rest: Sequence[Form], place: Place) -> list[tuple[Form, Form]]:
    clauses: list[tuple[Form, Form]] = []
    for form in rest:
        if not isinstance(form, Group) or len(form.items) != 2:
            raise LoomError(form.place, "expected (test value)")
        clauses.append((form.items[0], form.items[1]))
    if not clauses or not _is_else(clauses[-1][0]):
        raise LoomError(place, "the last clause must be (else value)")
    return clauses


def _is_else(form: Form) -> bool:
    return isinstance(form, Symbol) and form.name == "else"


def names_in(form: Form) -> Iterator[str]:
    """Every symbol in a form, as often as it stands there."""
    walk = [form]
    while walk:
        item = walk.pop()
        if isinstance(item, Symbol):
            yield item.name
        elif isinstance(item, Group | Tuple):
            walk += item.items


def item_axis(index: int, *, last: bool) -> int:
    """The axis of an item of a tuple."""
    rest = (2 << index) - 1
    return rest if last else peg(rest, 2)
