"""Compiler of loom, our little language: source to Nock.

Owns: names, scopes and the shape of every core that our kernels are made of.
    README.md shows the language; reader.py reads it.

The shapes. A *library* is a chain of layer cores as Hoon's standard library
has it, `[battery payload]`, the root's payload being its kelvin; its gates
are `[formula sample layer]`, registered by %fast under their names, so that a
runtime's jets find them. A *code core* is `[functions gates library]`: the
formulas of all functions, and the library gates that they use, built once. A
function runs on `[arguments code]` and is called by a bare Nock 2; a gate is
called by `[9 2 10 [6 arguments] 0 axis]`. A *kernel* is `[arms state code]`.

Scopes. Inside a function the subject is `[newest ... oldest base]`; a
binding is a level (how many frames lie beneath) and an axis in that frame, so
that destructuring costs nothing.

Invariants: output depends on the source text only; every name is resolved,
    every arity checked, before anything is emitted.
Limits: recursion is over source forms, never over nouns.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

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
    "LoomError",
    "Program",
    "boot_ova",
    "compile_expression",
    "load",
    "parse",
]

CRASH = noun(0, 0)
"""The formula that crashes: axis 0 does not exist."""


# --- formulas ----------------------------------------------------------------


def peg(outer: int, inner: int) -> int:
    """The axis, from the root, of axis `inner` of what is at axis `outer`."""
    width = inner.bit_length() - 1
    return (outer << width) | (inner ^ (1 << width))


def _slot(axis: int) -> Noun:
    return Cell(0, axis)


def _constant(value: Noun) -> Noun:
    return Cell(1, value)


def _is_constant(formula: Noun) -> bool:
    return isinstance(formula, Cell) and formula.head == 1


def _is_slot(formula: Noun) -> bool:
    return isinstance(formula, Cell) and formula.head == 0 and formula != CRASH


def _cons(head: Noun, tail: Noun) -> Noun:
    if _is_constant(head) and _is_constant(tail):
        assert isinstance(head, Cell)
        assert isinstance(tail, Cell)
        return _constant(Cell(head.tail, tail.tail))
    return Cell(head, tail)


def _tuple(formulas: Sequence[Noun]) -> Noun:
    """The formula of `[a b c ...]`; of nothing, 0."""
    if not formulas:
        return _constant(0)
    result = formulas[-1]
    for formula in reversed(formulas[:-1]):
        result = _cons(formula, result)
    return result


def _then(first: Noun, second: Noun) -> Noun:
    """Nock 7, with chains of slots joined."""
    if _is_slot(first) and _is_slot(second):
        assert isinstance(first, Cell)
        assert isinstance(second, Cell)
        assert isinstance(first.tail, int)
        assert isinstance(second.tail, int)
        return _slot(peg(first.tail, second.tail))
    return noun(7, first, second)


def _fast(name: Noun, parent: Noun, body: Noun) -> Noun:
    """Nock 11 %fast: register the core that `body` makes."""
    return noun(11, ("fast", _constant(noun(name, parent, 0))), body)


@dataclass(frozen=True, slots=True)
class _Tree:
    """Named nouns in a tree: the often used near the root (Huffman's way)."""

    shape: object
    axes: Mapping[str, int]

    @staticmethod
    def plant(weights: Mapping[str, int]) -> _Tree:
        heap: list[tuple[int, int, object]] = [
            (weight, order, name)
            for order, (name, weight) in enumerate(weights.items())
        ]
        if not heap:
            return _Tree(None, {})
        heapq.heapify(heap)
        order = len(heap)
        while len(heap) > 1:
            one, two = heapq.heappop(heap), heapq.heappop(heap)
            heapq.heappush(heap, (one[0] + two[0], order, (two[2], one[2])))
            order += 1
        axes: dict[str, int] = {}
        walk: list[tuple[object, int]] = [(heap[0][2], 1)]
        while walk:
            node, axis = walk.pop()
            if isinstance(node, tuple):
                walk += [(node[0], axis * 2), (node[1], axis * 2 + 1)]
            else:
                axes[str(node)] = axis
        return _Tree(heap[0][2], axes)

    def grow(
        self, leaf: Callable[[str], Noun], join: Callable[[Noun, Noun], Noun]
    ) -> Noun:
        """Make the noun, given each name's leaf. Depth is the tree's own."""

        def at(node: object) -> Noun:
            if isinstance(node, tuple):
                return join(at(node[0]), at(node[1]))
            return leaf(str(node))

        return 0 if self.shape is None else at(self.shape)


# --- what a source file defines ------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Record:
    """A named shape: field -> (axis, record of the field or None)."""

    fields: Mapping[str, tuple[int, str | None]]


@dataclass(frozen=True, slots=True)
class _Routine:
    """A function or a gate."""

    name: str
    parameters: tuple[Form, ...]
    body: Form
    place: Place
    registered: bool = True


@dataclass(slots=True)
class _Layer:
    """One core of the library; `clue` is what %fast calls it."""

    name: str
    clue: Noun
    kelvin: int | None
    gates: dict[str, _Routine] = field(default_factory=dict)

    def axes(self) -> Mapping[str, int]:
        return _Tree.plant(dict.fromkeys(self.gates, 1)).axes


@dataclass(frozen=True, slots=True)
class _Binding:
    """Where a variable lives: frame `level`, `axis` within it."""

    level: int
    axis: int
    record: str | None = None


@dataclass(frozen=True, slots=True)
class _Loop:
    """A loop's name: its variables are frame `level`, its formula the next."""

    level: int
    arity: int


@dataclass(frozen=True, slots=True)
class _Scope:
    """Names in force. `layer`: index of the library layer at the base, or
    None where the base is a code core."""

    depth: int
    names: Mapping[str, _Binding | _Loop]
    layer: int | None

    def below(self, level: int) -> int:
        """Axis of the subject as it was when only `level` frames lay on it."""
        return (1 << (self.depth - level + 1)) - 1

    def axis(self, binding: _Binding) -> int:
        return peg(peg(self.below(binding.level), 2), binding.axis)

    def push(self) -> _Scope:
        return replace(self, depth=self.depth + 1)

    def bound(self, names: Mapping[str, _Binding | _Loop]) -> _Scope:
        return replace(self, names={**self.names, **names})


_SUGAR = {
    "+": "add",
    "-": "sub",
    "*": "mul",
    "<": "lth",
    "<=": "lte",
    ">": "gth",
    ">=": "gte",
    "cord": "rap",
}


class Program:
    """A linked set of definitions; the compiler proper."""

    def __init__(self) -> None:
        self.layers: list[_Layer] = []
        self.functions: dict[str, _Routine] = {}
        self.constants: dict[str, Noun] = {"yes": 0, "no": 1}
        self.records: dict[str, _Record] = {}
        self.kernel: dict[str, Form] | None = None
        self._weights: Counter[str] = Counter()
        self._function_tree: _Tree | None = None
        self._gate_tree: _Tree | None = None
        self._forms: Mapping[str, Callable[[Sequence[Form], Place, _Scope], Noun]] = {
            "if": self._if,
            "cond": self._cond,
            "case": self._case,
            "match": self._match,
            "let": self._let,
            "loop": self._loop,
            "fn": self._fn,
            "call": self._call_value,
            "and": self._and,
            "or": self._or,
            "not": self._not,
            "=": self._equal,
            "!=": self._unequal,
            "cell?": self._is_cell,
            "atom?": self._is_atom,
            "inc": self._inc,
            "head": self._head,
            "tail": self._tail,
            "at": self._at,
            "nock": self._nock,
            "crash": self._crash,
            "mean": self._mean,
            "slog": self._slog,
            "list": self._list,
            "cord": self._cord,
            "make": self._make,
            "with": self._with,
        }

    # --- definitions -----------------------------------------------------------

    def define(self, forms: Iterable[Form], folder: Path | None) -> None:
        """Take in the top-level forms of one file.

        :raises LoomError: where they are wrong.
        """
        for form in forms:
            if not isinstance(form, Group) or not form.items:
                raise LoomError(form.place, "a definition is expected here")
            keyword, *rest = form.items
            word = _symbol(keyword)
            match word:
                case "use":
                    self._use(rest, form.place, folder)
                case "root":
                    name, kelvin = (_literal(item) for item in _count(rest, 2, form))
                    assert isinstance(kelvin, int)
                    self.layers = [_Layer("root", noun(name, kelvin), kelvin)]
                case "layer":
                    (name_form,) = _count(rest, 1, form)
                    name_text = _symbol(name_form)
                    self.layers.append(_Layer(name_text, noun(name_text), None))
                case "gate" | "helper":
                    self._define_gate(rest, form.place, word == "gate")
                case "define":
                    self._define_function(rest, form.place)
                case "const":
                    name_form, value = _count(rest, 2, form)
                    self._fresh(name_form)
                    self.constants[_symbol(name_form)] = self._fold(value)
                case "record":
                    self._define_record(rest, form.place)
                case "kernel":
                    self._define_kernel(rest, form.place)
                case _:
                    raise LoomError(form.place, f"unknown definition '{word}'")

    def _use(self, rest: Sequence[Form], place: Place, folder: Path | None) -> None:
        for item in rest:
            value = _literal(item)
            assert isinstance(value, int)
            name = value.to_bytes((value.bit_length() + 7) // 8, "little").decode()
            if folder is None or not (folder / name).is_file():
                raise LoomError(place, f"no file '{name}' to use")
            text = (folder / name).read_text(encoding="utf-8")
            self.define(read(text, name), folder)

    def _fresh(self, form: Form) -> str:
        name = _symbol(form)
        taken = (
            name in self._forms
            or name in _SUGAR
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
    ) -> _Routine:
        if len(rest) != 2 or not isinstance(rest[0], Group) or not rest[0].items:
            raise LoomError(place, "expected (name parameters...) and one body")
        name, *parameters = rest[0].items
        return _Routine(
            self._fresh(name), tuple(parameters), rest[1], place, registered
        )

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
            axis = (2 << index) - 1 if last else peg((2 << index) - 1, 2)
            label, _, kind = _symbol(form).partition(":")
            if kind and kind not in self.records:
                raise LoomError(form.place, f"unknown record '{kind}'")
            if label in fields:
                raise LoomError(form.place, f"field '{label}' is there twice")
            fields[label] = (axis, kind or None)
        self.records[name] = _Record(fields)

    def _define_kernel(self, rest: Sequence[Form], place: Place) -> None:
        arms: dict[str, Form] = {}
        for item in rest:
            if not isinstance(item, Group) or len(item.items) != 2:
                raise LoomError(item.place, "expected (arm value)")
            arms[_symbol(item.items[0])] = item.items[1]
            self._weigh(item)
        if set(arms) != {"load", "wish", "peek", "poke", "state"}:
            raise LoomError(place, "a kernel has load, wish, peek, poke and state")
        self.kernel = arms

    def _weigh(self, form: Form) -> None:
        """Count how often each name is used: the plan of the code core."""
        walk = [form]
        while walk:
            item = walk.pop()
            if isinstance(item, Symbol):
                self._weights[_SUGAR.get(item.name, item.name)] += 1
            elif isinstance(item, Group | Tuple):
                walk += item.items

    def _fold(self, form: Form) -> Noun:
        formula = self.expression(form, _Scope(0, {}, None))
        if not _is_constant(formula):
            raise LoomError(form.place, "this is not constant")
        assert isinstance(formula, Cell)
        return formula.tail

    # --- cores -------------------------------------------------------------------

    def library_formula(self) -> Noun:
        """The formula, of any subject, that builds and registers the library:
        the innermost layer core."""
        if not self.layers:
            return _constant(0)
        root, *layers = self.layers
        version = _slot(3)
        formula = _fast(
            root.clue,
            _constant(0),
            _cons(_constant(version), _constant(root.kelvin or 0)),
        )
        for index, layer in enumerate(layers, 1):
            core = _cons(_constant(self._battery(index, layer)), _slot(1))
            formula = noun(7, formula, _fast(layer.clue, _slot(3), core))
        return formula

    def _battery(self, index: int, layer: _Layer) -> Noun:
        def arm(name: str) -> Noun:
            gate = layer.gates[name]
            scope = self._parameters(gate, _Scope(0, {}, index)).push()
            body = self.expression(gate.body, scope)
            core = noun(8, _constant(0), _cons(_constant(body), _slot(1)))
            return _fast(noun(name), _slot(7), core) if gate.registered else core

        tree = _Tree.plant(dict.fromkeys(layer.gates, 1))
        return tree.grow(arm, Cell)

    def _parameters(self, routine: _Routine, scope: _Scope) -> _Scope:
        return self._bind_all(routine.parameters, scope.push())

    def _bind_all(self, patterns: Sequence[Form], scope: _Scope) -> _Scope:
        """Bind the tuple of `patterns` to the newest frame of `scope`."""
        names: dict[str, _Binding] = {}
        for index, pattern in enumerate(patterns):
            last = index == len(patterns) - 1
            axis = (2 << index) - 1 if last else peg((2 << index) - 1, 2)
            self._bind(pattern, _Binding(scope.depth, axis), names)
        return scope.bound(names)

    def _bind(self, pattern: Form, where: _Binding, names: dict[str, _Binding]) -> None:
        match pattern:
            case Symbol(name="_"):
                pass
            case Symbol(name=text, place=place):
                name, _, kind = text.partition(":")
                if kind and kind not in self.records:
                    raise LoomError(place, f"unknown record '{kind}'")
                if name in names:
                    raise LoomError(place, f"'{name}' is bound twice")
                if not name or "." in name:
                    raise LoomError(place, f"'{text}' cannot be bound")
                names[name] = replace(where, record=kind or None)
            case Tuple(items=parts):
                for index, part in enumerate(parts):
                    last = index == len(parts) - 1
                    inner = (1 << index + 1) - 1 if last else peg((2 << index) - 1, 2)
                    inner_where = _Binding(where.level, peg(where.axis, inner))
                    self._bind(part, inner_where, names)
            case Group(items=(Symbol(name="as"), name_form, inner_form)):
                self._bind(name_form, where, names)
                self._bind(inner_form, where, names)
            case _:
                raise LoomError(pattern.place, "this pattern may fail to match")

    def code_formula(self) -> Noun:
        """The formula, of any subject, that builds the code core."""
        functions = self._functions().grow(self._function_formula, Cell)
        gates = self._gates().grow(self._pull, _cons)
        if gates == 0:
            gates = _constant(0)
        core = _tuple([_constant(functions), gates, _slot(1)])
        return noun(7, self.library_formula(), core)

    def _pull(self, name: str) -> Noun:
        """The formula, of the innermost layer core, of gate `name`."""
        place = self._gate_place(name, len(self.layers) - 1)
        assert place is not None
        return noun(9, *place)

    def _functions(self) -> _Tree:
        if self._function_tree is None:
            weights = {name: self._weights[name] + 1 for name in self.functions}
            self._function_tree = _Tree.plant(weights)
        return self._function_tree

    def _gates(self) -> _Tree:
        if self._gate_tree is None:
            weights = {
                name: self._weights[name]
                for layer in self.layers
                for name in layer.gates
                if self._weights[name]
            }
            self._gate_tree = _Tree.plant(weights)
        return self._gate_tree

    def _function_formula(self, name: str) -> Noun:
        routine = self.functions[name]
        scope = self._parameters(routine, _Scope(0, {}, None))
        return self.expression(routine.body, scope)

    def _gate_place(self, name: str, layer: int) -> tuple[int, Noun] | None:
        """(arm axis, formula of the core) of gate `name`, seen from the core
        of `layer`."""
        core = 1
        for index in range(layer, 0, -1):
            axes = self.layers[index].axes()
            if name in axes:
                return peg(2, axes[name]), _slot(core)
            core = peg(core, 3)
        return None

    def kernel_formula(self) -> Noun:
        """The formula, of a code core, that makes `[arms state code]`.

        Arms as Arvo has them: load 4, wish 10, peek 22, poke 23.
        :raises LoomError: if the program is no kernel.
        """
        if self.kernel is None:
            raise LoomError(Place("program", 1, 1), "no (kernel ...) is defined")
        state_formula = self.expression(self.kernel["state"], _Scope(0, {}, None))
        state, code, sample = _slot(30), 31, _slot(6)  # in [body sample kernel]

        def arm(body: Noun) -> Noun:
            return _tuple([_constant(body), _constant(0), _slot(1)])

        def ask(name: str, *arguments: Noun) -> Noun:
            form = self.kernel[name] if self.kernel else None
            assert form is not None
            routine = self.functions.get(_symbol(form))
            if routine is None or len(routine.parameters) != 2:
                raise LoomError(form.place, "expected a function of two arguments")
            return self._enter(routine.name, _tuple(arguments), code)

        poke = noun(
            8,
            ask("poke", state, sample),
            _cons(_slot(4), noun(10, (6, _slot(5)), _slot(15))),
        )
        load = noun(10, (6, ask("load", state, sample)), _slot(7))
        battery = noun(
            arm(load),
            arm(ask("wish", state, sample)),
            arm(ask("peek", state, sample)),
            arm(poke),
        )
        return _tuple([_constant(battery), state_formula, _slot(1)])

    # --- expressions ---------------------------------------------------------------

    def expression(self, form: Form, scope: _Scope) -> Noun:
        """Compile one expression to a formula.

        :raises LoomError: for unbound names, wrong arities, bad shapes.
        """
        match form:
            case Literal(value=value):
                return _constant(value)
            case Symbol():
                return self._variable(form, scope)
            case Tuple(items=parts):
                return _tuple([self.expression(part, scope) for part in parts])
            case Group(items=items, place=place):
                if not items:
                    raise LoomError(place, "an empty call")
                return self._apply(_symbol(items[0]), items[1:], place, scope)

    def _variable(self, form: Symbol, scope: _Scope) -> Noun:
        binding = self._find(form, scope)
        if binding is not None:
            return _slot(scope.axis(binding))
        if form.name in self.constants:
            return _constant(self.constants[form.name])
        raise LoomError(form.place, f"unbound name '{form.name}'")

    def _find(self, form: Form, scope: _Scope) -> _Binding | None:
        """The place that `form` names, if it names one: a variable, a field of
        one, or its head or tail."""
        match form:
            case Symbol(name=text):
                name, *path = text.split(".")
                binding = scope.names.get(name)
                if not isinstance(binding, _Binding):
                    return None
                for label in path:
                    axis, record = self._field(form, binding.record, label)
                    binding = _Binding(binding.level, peg(binding.axis, axis), record)
                return binding
            case Group(items=(Symbol(name="head" | "tail" as side), inner)):
                found = self._find(inner, scope)
                if found is None:
                    return None
                return _Binding(found.level, peg(found.axis, 2 + (side == "tail")))
            case _:
                return None

    def _field(
        self, form: Form, record: str | None, label: str
    ) -> tuple[int, str | None]:
        if record is None:
            raise LoomError(form.place, f"no record here to have a field '{label}'")
        fields = self.records[record].fields
        if label not in fields:
            raise LoomError(form.place, f"record '{record}' has no field '{label}'")
        return fields[label]

    def _apply(
        self, name: str, rest: Sequence[Form], place: Place, scope: _Scope
    ) -> Noun:
        loop = scope.names.get(name)
        if isinstance(loop, _Loop):
            arguments = self._arguments(name, rest, loop.arity, place, scope)
            formula = _slot(peg(scope.below(loop.level + 1), 2))
            context = _slot(scope.below(loop.level - 1))
            return noun(2, _tuple([formula, arguments, context]), formula)
        if isinstance(loop, _Binding):
            raise LoomError(place, f"'{name}' is a value: use (call {name} ...)")
        if name in self._forms:
            return self._forms[name](rest, place, scope)
        name = _SUGAR.get(name, name)
        if scope.layer is None and name in self.functions:
            arity = len(self.functions[name].parameters)
            arguments = self._arguments(name, rest, arity, place, scope)
            return self._enter(name, arguments, scope.below(0))
        return self._slam(name, rest, place, scope)

    def _arguments(
        self,
        name: str,
        rest: Sequence[Form],
        arity: int,
        place: Place,
        scope: _Scope,
    ) -> Noun:
        if len(rest) != arity:
            raise LoomError(place, f"'{name}' takes {arity} arguments, not {len(rest)}")
        return _tuple([self.expression(item, scope) for item in rest])

    def _enter(self, name: str, arguments: Noun, code: int) -> Noun:
        """Call a function: `*[[arguments code] formula]`, code at an axis."""
        axis = peg(code, peg(2, self._functions().axes[name]))
        return noun(2, _cons(arguments, _slot(code)), _slot(axis))

    def _slam(
        self, name: str, rest: Sequence[Form], place: Place, scope: _Scope
    ) -> Noun:
        """Call a gate of the library."""
        found = [layer for layer in self.layers if name in layer.gates]
        if not found:
            raise LoomError(place, f"unbound name '{name}'")
        arity = len(found[0].gates[name].parameters)
        arguments = self._arguments(name, rest, arity, place, scope)
        base = scope.below(0)
        if scope.layer is None:
            gate = _slot(peg(base, peg(6, self._gates().axes[name])))
        else:
            seen = self._gate_place(name, scope.layer)
            if seen is None:
                raise LoomError(place, f"'{name}' is in a later layer")
            arm, core = seen
            gate = noun(9, arm, _then(_slot(base), core))
        return noun(9, 2, 10, (6, arguments), gate)

    # --- special forms -------------------------------------------------------------

    def _if(self, rest: Sequence[Form], place: Place, scope: _Scope) -> Noun:
        test, yes, no = (self.expression(f, scope) for f in _exact(rest, 3, place))
        return _branch(test, yes, no)

    def _cond(self, rest: Sequence[Form], place: Place, scope: _Scope) -> Noun:
        *clauses, final = _clauses(rest, place)
        result = self.expression(_else(final), scope)
        for test, body in reversed(clauses):
            condition = self.expression(test, scope)
            result = _branch(condition, self.expression(body, scope), result)
        return result

    def _subject(
        self, form: Form, scope: _Scope
    ) -> tuple[_Binding, _Scope, Noun | None]:
        """Make `form`'s value addressable: its place, the scope from which it
        is seen, and the value to push, if one must be pushed."""
        found = self._find(form, scope)
        if found is not None:
            return found, scope, None
        value = self.expression(form, scope)
        pushed = scope.push()
        return _Binding(pushed.depth, 1), pushed, value

    def _case(self, rest: Sequence[Form], place: Place, scope: _Scope) -> Noun:
        if not rest:
            raise LoomError(place, "case of what?")
        where, inner, value = self._subject(rest[0], scope)
        *clauses, final = _clauses(rest[1:], place)
        result = self.expression(_else(final), inner)
        target = _slot(inner.axis(where))
        for key, body in reversed(clauses):
            keys = key.items if isinstance(key, Group) else (key,)
            tests = [noun(5, target, _constant(self._fold(one))) for one in keys]
            branch = self.expression(body, inner)
            result = _branch(_any(tests), branch, result)
        return result if value is None else noun(8, value, result)

    def _match(self, rest: Sequence[Form], place: Place, scope: _Scope) -> Noun:
        if not rest:
            raise LoomError(place, "match of what?")
        where, inner, value = self._subject(rest[0], scope)
        *clauses, final = _clauses(rest[1:], place)
        result = self.expression(_else(final), inner)
        for pattern, body in reversed(clauses):
            tests: list[Noun] = []
            names: dict[str, _Binding] = {}
            self._refute(pattern, where, inner, tests, names)
            branch = self.expression(body, inner.bound(names))
            for test in reversed(tests):
                branch = _branch(test, branch, result)
            result = branch
        return result if value is None else noun(8, value, result)

    def _refute(
        self,
        pattern: Form,
        where: _Binding,
        scope: _Scope,
        tests: list[Noun],
        names: dict[str, _Binding],
    ) -> None:
        """The tests, in order, that tell whether what is at `where` has the
        shape of `pattern`; and the names it binds."""
        here = _slot(scope.axis(where))
        match pattern:
            case Tuple(items=parts):
                rest = where
                for index, part in enumerate(parts):
                    if index == len(parts) - 1:
                        self._refute(part, rest, scope, tests, names)
                        break
                    tests.append(noun(3, _slot(scope.axis(rest))))
                    first = _Binding(rest.level, peg(rest.axis, 2))
                    self._refute(part, first, scope, tests, names)
                    rest = _Binding(rest.level, peg(rest.axis, 3))
            case Group(items=(Symbol(name="as"), name, inner)):
                self._bind(name, where, names)
                self._refute(inner, where, scope, tests, names)
            case Group(items=(Symbol(name="or"), *options)):
                constants = [_constant(self._fold(one)) for one in options]
                tests.append(_any([noun(5, here, one) for one in constants]))
            case Group(items=(Symbol(name="cell"), name)):
                tests.append(noun(3, here))
                self._bind(name, where, names)
            case Group(items=(Symbol(name="atom"), name)):
                tests.append(_branch(noun(3, here), _constant(1), _constant(0)))
                self._bind(name, where, names)
            case Symbol(name=name) if name not in self.constants:
                self._bind(pattern, where, names)
            case _:
                tests.append(noun(5, here, _constant(self._fold(pattern))))

    def _let(self, rest: Sequence[Form], place: Place, scope: _Scope) -> Noun:
        bindings, body = _exact(rest, 2, place)
        pairs = _pairs(bindings)
        pushes: list[Noun] = []
        for pattern, form in pairs:
            where, scope, value = self._subject(form, scope)
            names: dict[str, _Binding] = {}
            if isinstance(pattern, Symbol) and ":" not in pattern.name:
                names[pattern.name] = where
                if pattern.name == "_":
                    names = {}
            else:
                self._bind(pattern, where, names)
            scope = scope.bound(names)
            if value is not None:
                pushes.append(value)
        result = self.expression(body, scope)
        for value in reversed(pushes):
            result = noun(8, value, result)
        return result

    def _loop(self, rest: Sequence[Form], place: Place, scope: _Scope) -> Noun:
        name, bindings, body = _exact(rest, 3, place)
        pairs = _pairs(bindings)
        start = _tuple([self.expression(form, scope) for _, form in pairs])
        inner = self._bind_all([pattern for pattern, _ in pairs], scope.push())
        loop = _Loop(inner.depth, len(pairs))
        inner = inner.bound({_symbol(name): loop}).push()
        formula = _constant(self.expression(body, inner))
        return noun(7, _tuple([formula, start, _slot(1)]), 2, _slot(1), _slot(2))

    def _fn(self, rest: Sequence[Form], place: Place, scope: _Scope) -> Noun:
        parameters, body = _exact(rest, 2, place)
        if not isinstance(parameters, Group):
            raise LoomError(parameters.place, "expected (parameters...)")
        inner = self._bind_all(parameters.items, scope.push()).push()
        formula = _constant(self.expression(body, inner))
        return _tuple([formula, _constant(0), _slot(1)])

    def _call_value(self, rest: Sequence[Form], place: Place, scope: _Scope) -> Noun:
        if not rest:
            raise LoomError(place, "call what?")
        gate, *arguments = (self.expression(form, scope) for form in rest)
        return noun(9, 2, 10, (6, _tuple(arguments)), gate)

    def _and(self, rest: Sequence[Form], place: Place, scope: _Scope) -> Noun:
        result: Noun = _constant(0)
        for index, form in enumerate(reversed(rest)):
            test = self.expression(form, scope)
            result = test if index == 0 else _branch(test, result, _constant(1))
        return result

    def _or(self, rest: Sequence[Form], place: Place, scope: _Scope) -> Noun:
        tests = [self.expression(form, scope) for form in rest]
        return _any(tests) if tests else _constant(1)

    def _not(self, rest: Sequence[Form], place: Place, scope: _Scope) -> Noun:
        (form,) = _exact(rest, 1, place)
        return _branch(self.expression(form, scope), _constant(1), _constant(0))

    def _equal(self, rest: Sequence[Form], place: Place, scope: _Scope) -> Noun:
        left, right = (self.expression(form, scope) for form in _exact(rest, 2, place))
        return noun(5, left, right)

    def _unequal(self, rest: Sequence[Form], place: Place, scope: _Scope) -> Noun:
        return _branch(self._equal(rest, place, scope), _constant(1), _constant(0))

    def _is_cell(self, rest: Sequence[Form], place: Place, scope: _Scope) -> Noun:
        (form,) = _exact(rest, 1, place)
        return noun(3, self.expression(form, scope))

    def _is_atom(self, rest: Sequence[Form], place: Place, scope: _Scope) -> Noun:
        return _branch(self._is_cell(rest, place, scope), _constant(1), _constant(0))

    def _inc(self, rest: Sequence[Form], place: Place, scope: _Scope) -> Noun:
        (form,) = _exact(rest, 1, place)
        return noun(4, self.expression(form, scope))

    def _head(self, rest: Sequence[Form], place: Place, scope: _Scope) -> Noun:
        (form,) = _exact(rest, 1, place)
        return _then(self.expression(form, scope), _slot(2))

    def _tail(self, rest: Sequence[Form], place: Place, scope: _Scope) -> Noun:
        (form,) = _exact(rest, 1, place)
        return _then(self.expression(form, scope), _slot(3))

    def _at(self, rest: Sequence[Form], place: Place, scope: _Scope) -> Noun:
        axis, form = _exact(rest, 2, place)
        value = self._fold(axis)
        if not isinstance(value, int) or value < 1:
            raise LoomError(axis.place, "an axis is a positive number")
        return _then(self.expression(form, scope), _slot(value))

    def _nock(self, rest: Sequence[Form], place: Place, scope: _Scope) -> Noun:
        subject, formula = (self.expression(f, scope) for f in _exact(rest, 2, place))
        return noun(2, subject, formula)

    def _crash(self, rest: Sequence[Form], place: Place, scope: _Scope) -> Noun:
        _exact(rest, 0, place)
        return CRASH

    def _mean(self, rest: Sequence[Form], place: Place, scope: _Scope) -> Noun:
        clue, body = (self.expression(form, scope) for form in _exact(rest, 2, place))
        return noun(11, ("mean", clue), body)

    def _slog(self, rest: Sequence[Form], place: Place, scope: _Scope) -> Noun:
        priority, tank, body = (
            self.expression(form, scope) for form in _exact(rest, 3, place)
        )
        return noun(11, ("slog", _cons(priority, tank)), body)

    def _list(self, rest: Sequence[Form], place: Place, scope: _Scope) -> Noun:
        return _tuple([*(self.expression(f, scope) for f in rest), _constant(0)])

    def _cord(self, rest: Sequence[Form], place: Place, scope: _Scope) -> Noun:
        items = Group((Symbol("list", place), *rest), place)
        return self._apply("rap", [Literal(3, place), items], place, scope)

    def _make(self, rest: Sequence[Form], place: Place, scope: _Scope) -> Noun:
        if not rest or _symbol(rest[0]) not in self.records:
            raise LoomError(place, "make which record?")
        record = _symbol(rest[0])
        fields = self.records[record].fields
        values: dict[str, Noun] = {}
        for item in rest[1:]:
            if not isinstance(item, Group) or len(item.items) != 2:
                raise LoomError(item.place, "expected (field value)")
            label, value = item.items
            self._field(item, record, _symbol(label))
            values[_symbol(label)] = self.expression(value, scope)
        missing = [label for label in fields if label not in values]
        if missing:
            raise LoomError(place, f"no value for {', '.join(missing)}")
        return _tuple([values[label] for label in fields])

    def _with(self, rest: Sequence[Form], place: Place, scope: _Scope) -> Noun:
        if len(rest) < 3 or len(rest) % 2 == 0:
            raise LoomError(place, "expected a record variable, then field, value, ...")
        found = self._find(rest[0], scope)
        if found is None:
            raise LoomError(rest[0].place, "expected a record variable")
        result = _slot(scope.axis(found))
        for label, value in zip(rest[1::2], rest[2::2], strict=True):
            record, axis = found.record, 1
            for step in _symbol(label).split("."):
                inner, record = self._field(label, record, step)
                axis = peg(axis, inner)
            result = noun(10, (axis, self.expression(value, scope)), result)
        return result


# --- helpers over forms ----------------------------------------------------------


def _branch(test: Noun, yes: Noun, no: Noun) -> Noun:
    """Nock 6, without the detours that a constant test or a `not` would make."""
    match test:
        case Cell(head=1, tail=0):
            return yes
        case Cell(head=1, tail=1):
            return no
        case Cell(head=6, tail=Cell(head=inner, tail=Cell(head=left, tail=right))) if (
            left == _constant(1) and right == _constant(0)
        ):
            return _branch(inner, no, yes)
        case _:
            if yes == _constant(0) and no == _constant(1):
                return test
            return noun(6, test, yes, no)


def _any(tests: Sequence[Noun]) -> Noun:
    result = tests[-1]
    for test in reversed(tests[:-1]):
        result = _branch(test, _constant(0), result)
    return result


def _symbol(form: Form) -> str:
    if not isinstance(form, Symbol):
        raise LoomError(form.place, "a name is expected here")
    return form.name


def _literal(form: Form) -> Noun:
    if not isinstance(form, Literal):
        raise LoomError(form.place, "a constant is expected here")
    return form.value


def _count(rest: Sequence[Form], count: int, form: Group) -> Sequence[Form]:
    return _exact(rest, count, form.place)


def _exact(rest: Sequence[Form], count: int, place: Place) -> Sequence[Form]:
    if len(rest) != count:
        raise LoomError(place, f"expected {count} parts here, found {len(rest)}")
    return rest


def _pairs(bindings: Form) -> list[tuple[Form, Form]]:
    if not isinstance(bindings, Group) or len(bindings.items) % 2:
        raise LoomError(bindings.place, "expected (pattern value ...)")
    items = iter(bindings.items)
    return list(zip(items, items, strict=True))


def _clauses(rest: Sequence[Form], place: Place) -> list[tuple[Form, Form]]:
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


def _else(clause: tuple[Form, Form]) -> Form:
    return clause[1]


# --- entries -----------------------------------------------------------------------


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


def compile_expression(text: str, program: Program) -> Noun:
    """The formula, of any subject, that builds `program`'s code core and then
    evaluates the one expression `text` in it.

    :raises LoomError: if the source is wrong.
    """
    forms = read(text, "expression")
    if len(forms) != 1:
        raise LoomError(Place("expression", 1, 1), "expected one expression")
    for name in _names(forms[0]):
        program._weights[_SUGAR.get(name, name)] += 1
    program._gate_tree = None
    program._function_tree = None
    body = program.expression(forms[0], _Scope(0, {}, None))
    return noun(7, program.code_formula(), body)


def _names(form: Form) -> Iterator[str]:
    if isinstance(form, Symbol):
        yield form.name
    elif isinstance(form, Group | Tuple):
        for item in form.items:
            yield from _names(item)


def boot_ova(program: Program) -> Noun:
    """The pill's boot events: lifecycle formula, code core, kernel.

    The lifecycle formula, given the rest of the log `[code kernel events]`,
    runs the code formula, the kernel formula on that, and pokes the kernel
    with each event; its product has the last kernel at axis 7.
    """
    poked = noun(9, 2, 10, (6, _slot(14)), 9, 23, _slot(6))
    step = noun(9, 2, _slot(2), _then(poked, _slot(3)), _slot(15))
    finish = noun(_constant(0), _constant(0), _slot(6))
    fold = noun(6, (3, _slot(7)), step, finish)
    kernel = noun(2, (2, _slot(1), _slot(2)), _slot(6))
    lifecycle = noun(9, 2, _constant(fold), kernel, _slot(7))
    return listed([lifecycle, program.code_formula(), program.kernel_formula()])
