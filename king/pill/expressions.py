"""Expressions of loom: one form in a scope to one formula.

Owns: scopes, patterns and the special forms.

Scopes. In a function the subject is `[newest ... oldest base]`; a binding is
a level (how many frames lie beneath) and an axis in that frame, so that
taking a value apart costs nothing until a part is used.

Invariants: every name is resolved and every arity checked.
Limits: recursion is over source forms, never over nouns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from king.pill.definitions import (
    RESERVED,
    SUGAR,
    Program,
    Routine,
    clauses_of,
    exact,
    item_axis,
    pairs_of,
    symbol,
)
from king.pill.formulas import (
    CRASH,
    Tree,
    any_of,
    branch,
    cons,
    constant,
    peg,
    slot_of,
    then,
    tuple_of,
)
from king.pill.reader import Form, Group, Literal, LoomError, Place, Symbol, Tuple
from proto.noun import Noun, noun

__all__ = ["Binding", "Compiler", "Loop", "Scope"]


@dataclass(frozen=True, slots=True)
class Binding:
    """Where a variable lives: frame `level`, `axis` within it."""

    level: int
    axis: int
    record: str | None = None


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop's name: its variables are frame `level`, its formula the next."""

    level: int
    arity: int


@dataclass(frozen=True, slots=True)
class Scope:
    """Names in force. `layer`: index of the library layer at the base, or
    None where the base is a code core."""

    depth: int
    names: Mapping[str, Binding | Loop]
    layer: int | None

    def below(self, level: int) -> int:
        """Axis of the subject as it was when only `level` frames lay on it."""
        return (1 << (self.depth - level + 1)) - 1

    def axis(self, binding: Binding) -> int:
        return peg(peg(self.below(binding.level), 2), binding.axis)

    def push(self) -> Scope:
        return replace(self, depth=self.depth + 1)

    def bound(self, names: Mapping[str, Binding | Loop]) -> Scope:
        return replace(self, names={**self.names, **names})


class Compiler:
    """Compiles the expressions of one program, whose code core it plans:
    which function and which gate lies where. `weights`: uses of names
    beyond those in the program."""

    def __init__(self, program: Program, weights: Counter[str] | None = None) -> None:
        weights = program.weights + (weights or Counter())
        self.program = program
        self.functions = Tree.plant(
            {name: weights[name] + 1 for name in program.functions}
        )
        self.gates = Tree.plant(
            {
                name: weights[name]
                for layer in program.layers
                for name in layer.gates
                if weights[name]
            }
        )
        self._layer_axes = [layer.tree().axes for layer in program.layers]
        self._forms: Mapping[str, Callable[[Sequence[Form], Place, Scope], Noun]] = {
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

        assert self._forms.keys() <= RESERVED

    # --- patterns ------------------------------------------------------------------

    def parameters(self, routine: Routine, scope: Scope) -> Scope:
        return self._bind_all(routine.parameters, scope.push())

    def _bind_all(self, patterns: Sequence[Form], scope: Scope) -> Scope:
        """Bind the tuple of `patterns` to the newest frame of `scope`."""
        names: dict[str, Binding] = {}
        for index, pattern in enumerate(patterns):
            last = index == len(patterns) - 1
            axis = item_axis(index, last=last)
            self._bind(pattern, Binding(scope.depth, axis), names)
        return scope.bound(names)

    def _bind(self, pattern: Form, where: Binding, names: dict[str, Binding]) -> None:
        match pattern:
            case Symbol(name="_"):
                pass
            case Symbol(name=text, place=place):
                name, _, kind = text.partition(":")
                if kind and kind not in self.program.records:
                    raise LoomError(place, f"unknown record '{kind}'")
                if name in names:
                    raise LoomError(place, f"'{name}' is bound twice")
                if not name or "." in name:
                    raise LoomError(place, f"'{text}' cannot be bound")
                names[name] = replace(where, record=kind or None)
            case Tuple(items=parts):
                for index, part in enumerate(parts):
                    last = index == len(parts) - 1
                    inner = item_axis(index, last=last)
                    inner_where = Binding(where.level, peg(where.axis, inner))
                    self._bind(part, inner_where, names)
            case Group(items=(Symbol(name="as"), name_form, inner_form)):
                self._bind(name_form, where, names)
                self._bind(inner_form, where, names)
            case _:
                raise LoomError(pattern.place, "this pattern may fail to match")

    # --- expressions ---------------------------------------------------------------

    def expression(self, form: Form, scope: Scope) -> Noun:
        """Compile one expression to a formula.

        :raises LoomError: for unbound names, wrong arities, bad shapes.
        """
        match form:
            case Literal(value=value):
                return constant(value)
            case Symbol():
                return self._variable(form, scope)
            case Tuple(items=parts):
                return tuple_of([self.expression(part, scope) for part in parts])
            case Group(items=items, place=place):
                if not items:
                    raise LoomError(place, "an empty call")
                return self._apply(symbol(items[0]), items[1:], place, scope)

    def _variable(self, form: Symbol, scope: Scope) -> Noun:
        binding = self._find(form, scope)
        if binding is not None:
            return slot_of(scope.axis(binding))
        if form.name in self.program.constants:
            return constant(self.program.constants[form.name])
        raise LoomError(form.place, f"unbound name '{form.name}'")

    def _find(self, form: Form, scope: Scope) -> Binding | None:
        """The place that `form` names, if it names one: a variable, a field of
        one, or its head or tail."""
        match form:
            case Symbol(name=text):
                name, *path = text.split(".")
                binding = scope.names.get(name)
                if not isinstance(binding, Binding):
                    return None
                for label in path:
                    axis, record = self._field(form, binding.record, label)
                    binding = Binding(binding.level, peg(binding.axis, axis), record)
                return binding
            case Group(items=(Symbol(name="head" | "tail" as side), inner)):
                found = self._find(inner, scope)
                if found is None:
                    return None
                return Binding(found.level, peg(found.axis, 2 + (side == "tail")))
            case _:
                return None

    def _field(
        self, form: Form, record: str | None, label: str
    ) -> tuple[int, str | None]:
        if record is None:
            raise LoomError(form.place, f"no record here to have a field '{label}'")
        fields = self.program.records[record].fields
        if label not in fields:
            raise LoomError(form.place, f"record '{record}' has no field '{label}'")
        return fields[label]

    def _apply(
        self, name: str, rest: Sequence[Form], place: Place, scope: Scope
    ) -> Noun:
        loop = scope.names.get(name)
        if isinstance(loop, Loop):
            arguments = self._arguments(name, rest, loop.arity, place, scope)
            formula = slot_of(peg(scope.below(loop.level + 1), 2))
            context = slot_of(scope.below(loop.level - 1))
            return noun(2, tuple_of([formula, arguments, context]), formula)
        if isinstance(loop, Binding):
            raise LoomError(place, f"'{name}' is a value: use (call {name} ...)")
        if name in self._forms:
            return self._forms[name](rest, place, scope)
        name = SUGAR.get(name, name)
        if scope.layer is None and name in self.program.functions:
            arity = len(self.program.functions[name].parameters)
            arguments = self._arguments(name, rest, arity, place, scope)
            return self.enter(name, arguments, scope.below(0))
        return self._slam(name, rest, place, scope)

    def _arguments(
        self,
        name: str,
        rest: Sequence[Form],
        arity: int,
        place: Place,
        scope: Scope,
    ) -> Noun:
        if len(rest) != arity:
            raise LoomError(place, f"'{name}' takes {arity} arguments, not {len(rest)}")
        return tuple_of([self.expression(item, scope) for item in rest])

    def enter(self, name: str, arguments: Noun, code: int) -> Noun:
        """Call a function: `*[[arguments code] formula]`, code at an axis."""
        axis = peg(code, peg(2, self.functions.axes[name]))
        return noun(2, cons(arguments, slot_of(code)), slot_of(axis))

    def _slam(
        self, name: str, rest: Sequence[Form], place: Place, scope: Scope
    ) -> Noun:
        """Call a gate of the library."""
        found = [layer for layer in self.program.layers if name in layer.gates]
        if not found:
            raise LoomError(place, f"unbound name '{name}'")
        arity = len(found[0].gates[name].parameters)
        arguments = self._arguments(name, rest, arity, place, scope)
        base = scope.below(0)
        if scope.layer is None:
            gate = slot_of(peg(base, peg(6, self.gates.axes[name])))
        else:
            seen = self.gate_place(name, scope.layer)
            if seen is None:
                raise LoomError(place, f"'{name}' is in a later layer")
            arm, core = seen
            gate = noun(9, arm, then(slot_of(base), core))
        return noun(9, 2, 10, (6, arguments), gate)

    def gate_place(self, name: str, layer: int) -> tuple[int, Noun] | None:
        """(arm axis, formula of the core) of gate `name`, seen from the core
        of `layer`."""
        core = 1
        for index in range(layer, 0, -1):
            axes = self._layer_axes[index]
            if name in axes:
                return peg(2, axes[name]), slot_of(core)
            core = peg(core, 3)
        return None

    # --- special forms -------------------------------------------------------------

    def _if(self, rest: Sequence[Form], place: Place, scope: Scope) -> Noun:
        test, yes, no = (self.expression(f, scope) for f in exact(rest, 3, place))
        return branch(test, yes, no)

    def _cond(self, rest: Sequence[Form], place: Place, scope: Scope) -> Noun:
        *clauses, final = clauses_of(rest, place)
        result = self.expression(final[1], scope)
        for test, body in reversed(clauses):
            condition = self.expression(test, scope)
            result = branch(condition, self.expression(body, scope), result)
        return result

    def _subject(self, form: Form, scope: Scope) -> tuple[Binding, Scope, Noun | None]:
        """Make `form`'s value addressable: its place, the scope from which it
        is seen, and the value to push, if one must be pushed."""
        found = self._find(form, scope)
        if found is not None:
            return found, scope, None
        value = self.expression(form, scope)
        pushed = scope.push()
        return Binding(pushed.depth, 1), pushed, value

    def _case(self, rest: Sequence[Form], place: Place, scope: Scope) -> Noun:
        if not rest:
            raise LoomError(place, "case of what?")
        where, inner, value = self._subject(rest[0], scope)
        *clauses, final = clauses_of(rest[1:], place)
        result = self.expression(final[1], inner)
        target = slot_of(inner.axis(where))
        for key, body in reversed(clauses):
            keys = key.items if isinstance(key, Group) else (key,)
            tests = [noun(5, target, constant(self.program.fold(one))) for one in keys]
            taken = self.expression(body, inner)
            result = branch(any_of(tests), taken, result)
        return result if value is None else noun(8, value, result)

    def _match(self, rest: Sequence[Form], place: Place, scope: Scope) -> Noun:
        if not rest:
            raise LoomError(place, "match of what?")
        where, inner, value = self._subject(rest[0], scope)
        *clauses, final = clauses_of(rest[1:], place)
        result = self.expression(final[1], inner)
        for pattern, body in reversed(clauses):
            tests: list[Noun] = []
            names: dict[str, Binding] = {}
            self._refute(pattern, where, inner, tests, names)
            taken = self.expression(body, inner.bound(names))
            for test in reversed(tests):
                taken = branch(test, taken, result)
            result = taken
        return result if value is None else noun(8, value, result)

    def _refute(
        self,
        pattern: Form,
        where: Binding,
        scope: Scope,
        tests: list[Noun],
        names: dict[str, Binding],
    ) -> None:
        """The tests, in order, that tell whether what is at `where` has the
        shape of `pattern`; and the names it binds."""
        here = slot_of(scope.axis(where))
        match pattern:
            case Tuple(items=parts):
                rest = where
                for index, part in enumerate(parts):
                    if index == len(parts) - 1:
                        self._refute(part, rest, scope, tests, names)
                        break
                    tests.append(noun(3, slot_of(scope.axis(rest))))
                    first = Binding(rest.level, peg(rest.axis, 2))
                    self._refute(part, first, scope, tests, names)
                    rest = Binding(rest.level, peg(rest.axis, 3))
            case Group(items=(Symbol(name="as"), name, inner)):
                self._bind(name, where, names)
                self._refute(inner, where, scope, tests, names)
            case Group(items=(Symbol(name="or"), *options)):
                constants = [constant(self.program.fold(one)) for one in options]
                tests.append(any_of([noun(5, here, one) for one in constants]))
            case Group(items=(Symbol(name="cell"), name)):
                tests.append(noun(3, here))
                self._bind(name, where, names)
            case Group(items=(Symbol(name="atom"), name)):
                tests.append(branch(noun(3, here), constant(1), constant(0)))
                self._bind(name, where, names)
            case Symbol(name=name) if name not in self.program.constants:
                self._bind(pattern, where, names)
            case _:
                tests.append(noun(5, here, constant(self.program.fold(pattern))))

    def _let(self, rest: Sequence[Form], place: Place, scope: Scope) -> Noun:
        bindings, body = exact(rest, 2, place)
        pairs = pairs_of(bindings)
        pushes: list[Noun] = []
        for pattern, form in pairs:
            where, scope, value = self._subject(form, scope)
            names: dict[str, Binding] = {}
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

    def _loop(self, rest: Sequence[Form], place: Place, scope: Scope) -> Noun:
        name, bindings, body = exact(rest, 3, place)
        pairs = pairs_of(bindings)
        start = tuple_of([self.expression(form, scope) for _, form in pairs])
        inner = self._bind_all([pattern for pattern, _ in pairs], scope.push())
        loop = Loop(inner.depth, len(pairs))
        inner = inner.bound({symbol(name): loop}).push()
        formula = constant(self.expression(body, inner))
        return noun(
            7, tuple_of([formula, start, slot_of(1)]), 2, slot_of(1), slot_of(2)
        )

    def _fn(self, rest: Sequence[Form], place: Place, scope: Scope) -> Noun:
        parameters, body = exact(rest, 2, place)
        if not isinstance(parameters, Group):
            raise LoomError(parameters.place, "expected (parameters...)")
        inner = self._bind_all(parameters.items, scope.push()).push()
        bunt = noun(*([0] * max(1, len(parameters.items))))
        formula = constant(self.expression(body, inner))
        return tuple_of([formula, constant(bunt), slot_of(1)])

    def _call_value(self, rest: Sequence[Form], place: Place, scope: Scope) -> Noun:
        if not rest:
            raise LoomError(place, "call what?")
        gate, *arguments = (self.expression(form, scope) for form in rest)
        return noun(9, 2, 10, (6, tuple_of(arguments)), gate)

    def _and(self, rest: Sequence[Form], place: Place, scope: Scope) -> Noun:
        result: Noun = constant(0)
        for index, form in enumerate(reversed(rest)):
            test = self.expression(form, scope)
            result = test if index == 0 else branch(test, result, constant(1))
        return result

    def _or(self, rest: Sequence[Form], place: Place, scope: Scope) -> Noun:
        tests = [self.expression(form, scope) for form in rest]
        return any_of(tests) if tests else constant(1)

    def _not(self, rest: Sequence[Form], place: Place, scope: Scope) -> Noun:
        (form,) = exact(rest, 1, place)
        return branch(self.expression(form, scope), constant(1), constant(0))

    def _equal(self, rest: Sequence[Form], place: Place, scope: Scope) -> Noun:
        left, right = (self.expression(form, scope) for form in exact(rest, 2, place))
        return noun(5, left, right)

    def _unequal(self, rest: Sequence[Form], place: Place, scope: Scope) -> Noun:
        return branch(self._equal(rest, place, scope), constant(1), constant(0))

    def _is_cell(self, rest: Sequence[Form], place: Place, scope: Scope) -> Noun:
        (form,) = exact(rest, 1, place)
        return noun(3, self.expression(form, scope))

    def _is_atom(self, rest: Sequence[Form], place: Place, scope: Scope) -> Noun:
        return branch(self._is_cell(rest, place, scope), constant(1), constant(0))

    def _inc(self, rest: Sequence[Form], place: Place, scope: Scope) -> Noun:
        (form,) = exact(rest, 1, place)
        return noun(4, self.expression(form, scope))

    def _head(self, rest: Sequence[Form], place: Place, scope: Scope) -> Noun:
        (form,) = exact(rest, 1, place)
        return then(self.expression(form, scope), slot_of(2))

    def _tail(self, rest: Sequence[Form], place: Place, scope: Scope) -> Noun:
        (form,) = exact(rest, 1, place)
        return then(self.expression(form, scope), slot_of(3))

    def _at(self, rest: Sequence[Form], place: Place, scope: Scope) -> Noun:
        axis, form = exact(rest, 2, place)
        value = self.program.fold(axis)
        if not isinstance(value, int) or value < 1:
            raise LoomError(axis.place, "an axis is a positive number")
        return then(self.expression(form, scope), slot_of(value))

    def _nock(self, rest: Sequence[Form], place: Place, scope: Scope) -> Noun:
        subject, formula = (self.expression(f, scope) for f in exact(rest, 2, place))
        return noun(2, subject, formula)

    def _crash(self, rest: Sequence[Form], place: Place, scope: Scope) -> Noun:
        exact(rest, 0, place)
        return CRASH

    def _mean(self, rest: Sequence[Form], place: Place, scope: Scope) -> Noun:
        clue, body = (self.expression(form, scope) for form in exact(rest, 2, place))
        return noun(11, ("mean", clue), body)

    def _slog(self, rest: Sequence[Form], place: Place, scope: Scope) -> Noun:
        priority, tank, body = (
            self.expression(form, scope) for form in exact(rest, 3, place)
        )
        return noun(11, ("slog", cons(priority, tank)), body)

    def _list(self, rest: Sequence[Form], place: Place, scope: Scope) -> Noun:
        return tuple_of([*(self.expression(f, scope) for f in rest), constant(0)])

    def _cord(self, rest: Sequence[Form], place: Place, scope: Scope) -> Noun:
        items = Group((Symbol("list", place), *rest), place)
        return self._apply("rap", [Literal(3, place), items], place, scope)

    def _make(self, rest: Sequence[Form], place: Place, scope: Scope) -> Noun:
        if not rest or symbol(rest[0]) not in self.program.records:
            raise LoomError(place, "make which record?")
        record = symbol(rest[0])
        fields = self.program.records[record].fields
        values: dict[str, Noun] = {}
        for item in rest[1:]:
            if not isinstance(item, Group) or len(item.items) != 2:
                raise LoomError(item.place, "expected (field value)")
            label, value = item.items
            self._field(item, record, symbol(label))
            values[symbol(label)] = self.expression(value, scope)
        missing = [label for label in fields if label not in values]
        if missing:
            raise LoomError(place, f"no value for {', '.join(missing)}")
        return tuple_of([values[label] for label in fields])

    def _with(self, rest: Sequence[Form], place: Place, scope: Scope) -> Noun:
        if len(rest) < 3 or len(rest) % 2 == 0:
            raise LoomError(place, "expected a record variable, then field, value, ...")
        found = self._find(rest[0], scope)
        if found is None:
            raise LoomError(rest[0].place, "expected a record variable")
        result = slot_of(scope.axis(found))
        for label, value in zip(rest[1::2], rest[2::2], strict=True):
            record, axis = found.record, 1
            for step in symbol(label).split("."):
                inner, record = self._field(label, record, step)
                axis = peg(axis, inner)
            result = noun(10, (axis, self.expression(value, scope)), result)
        return result
