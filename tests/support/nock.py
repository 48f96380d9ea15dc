"""A plain Nock machine for tests: slow, small, and written from the rules.

Owns: nothing but its counters. Explicit stacks; no recursion over nouns.
Cores registered by %fast are recognised by name as a runtime does it (a path
of names from the root), and a few of those names have jets in Python, so that
kernels can be driven before, and beside, the C machine. One of them is mink,
with opcode 12 inside of it; that alone recurses, by one level a mink.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from proto.jam import cue, jam
from proto.mug import mug
from proto.noun import Cell, Noun, items, listed, noun, slot

__all__ = ["Crash", "Machine"]

FAST = noun("fast")
TRACES = {noun(name) for name in ("mean", "spot", "hunk", "lose")}


class Crash(Exception):
    """The computation has no product. `trace`: clues, innermost first."""

    def __init__(self, trace: list[tuple[Noun, Noun]]) -> None:
        super().__init__("nock crash")
        self.trace = trace


class _Bail(Exception):
    pass


class _Block(Exception):
    """A scry handler does not answer: the run of its mink ends so."""

    def __init__(self, mink: object, path: Noun) -> None:
        super().__init__("blocked")
        self.mink = mink
        self.path = path


class _Fallen(Exception):
    """A scry handler crashed: so does what called its mink."""

    def __init__(self, mink: object, trace: list[tuple[Noun, Noun]]) -> None:
        super().__init__("handler crashed")
        self.mink = mink
        self.trace = trace


# How a malformed formula, or a slot of an atom, shows in Python.
_BAILS = (_Bail, ValueError, AttributeError, TypeError)


class Machine:
    """Evaluates Nock. `jets`: all of them, none, or those named; where there
    is none a gate's own body runs."""

    def __init__(
        self, *, jets: bool | frozenset[str] = True, steps_max: int = 50_000_000
    ) -> None:
        if isinstance(jets, bool):
            jets = frozenset(JETS) if jets else frozenset()
        self.jets = jets
        self.steps_max = steps_max
        self.steps = 0
        self.hits: Counter[str] = Counter()
        self.slogs: list[Noun] = []
        self._paths: dict[Noun, tuple[str, ...]] = {}  # by battery
        self._handlers: list[tuple[object, Noun]] = []  # (its mink, the gate)
        self._sound: dict[Noun, bool] = {}  # by formula

    # --- the machine -----------------------------------------------------------

    def nock(self, subject: Noun, formula: Noun) -> Noun:
        """*[subject formula].

        :raises Crash: if it crashes.
        """
        trace: list[tuple[Noun, Noun]] = []
        self._handlers = []
        try:
            return self._run(subject, formula, trace)
        except _BAILS:
            raise Crash(trace[::-1]) from None

    def slam(self, gate: Noun, sample: Noun) -> Noun:
        """Call a gate."""
        return self.nock(noun(gate, sample), noun(9, 2, 10, (6, 0, 3), 0, 2))

    def _run(
        self, subject: Noun, formula: Noun, trace: list[tuple[Noun, Noun]]
    ) -> Noun:
        values: list[Noun] = []
        todo: list[tuple[object, ...]] = [("call", subject, formula)]
        while todo:
            step = todo.pop()
            if step[0] not in ("eval", "call"):
                self._finish(step, values, todo, trace)
                continue
            # As a runtime that compiles what it calls: all of it, or nothing.
            if step[0] == "call" and not self._is_sound(step[2]):
                raise _Bail
            self.steps += 1
            if self.steps > self.steps_max:
                raise RuntimeError("too many Nock steps")
            _, a, f = step
            op, rest = f.head, f.tail
            if isinstance(op, Cell):
                todo += [("cons",), ("eval", a, rest), ("eval", a, op)]
            elif op == 0:
                values.append(_slot(a, rest))
            elif op == 1:
                values.append(rest)
            elif op == 2:
                todo += [("nock",), ("eval", a, rest.tail), ("eval", a, rest.head)]
            elif op == 3:
                todo += [("cell",), ("eval", a, rest)]
            elif op == 4:
                todo += [("inc",), ("eval", a, rest)]
            elif op == 5:
                todo += [("same",), ("eval", a, rest.tail), ("eval", a, rest.head)]
            elif op == 6:
                todo += [("if", a, rest.tail), ("eval", a, rest.head)]
            elif op == 7:
                todo += [("then", rest.tail), ("eval", a, rest.head)]
            elif op == 8:
                todo += [("push", a, rest.tail), ("eval", a, rest.head)]
            elif op == 9:
                todo += [("kick", rest.head), ("eval", a, rest.tail)]
            elif op == 10:
                todo += [
                    ("edit", rest.head.head),
                    ("eval", a, rest.head.tail),
                    ("eval", a, rest.tail),
                ]
            elif op == 11:
                if isinstance(rest.head, Cell):
                    todo += [
                        ("hint", rest.head.head, a, rest.tail),
                        ("eval", a, rest.head.tail),
                    ]
                else:
                    todo.append(("eval", a, rest.tail))
            elif op == 12:
                todo += [("scry",), ("eval", a, rest.tail), ("eval", a, rest.head)]
            else:
                raise _Bail
        return values.pop()

    def _finish(
        self,
        step: tuple[object, ...],
        values: list[Noun],
        todo: list[tuple[object, ...]],
        trace: list[tuple[Noun, Noun]],
    ) -> None:
        kind = step[0]
        value = values.pop()
        if kind == "cons":
            values.append(Cell(values.pop(), value))
        elif kind == "nock":
            todo.append(("call", values.pop(), value))
        elif kind == "cell":
            values.append(0 if isinstance(value, Cell) else 1)
        elif kind == "inc":
            if isinstance(value, Cell):
                raise _Bail
            values.append(value + 1)
        elif kind == "same":
            values.append(0 if values.pop() == value else 1)
        elif kind == "if":
            if value not in (0, 1):
                raise _Bail
            branches = step[2]
            chosen = branches.tail if value else branches.head
            todo.append(("call", step[1], chosen))
        elif kind == "then":
            todo.append(("eval", value, step[1]))
        elif kind == "push":
            todo.append(("eval", Cell(value, step[1]), step[2]))
        elif kind == "kick":
            self._kick(value, step[1], values, todo, trace)
        elif kind == "scry":
            values.append(self._scry(values.pop(), value, trace))
        elif kind == "edit":
            values.append(_edit(values.pop(), step[1], value))
        elif kind == "hint":
            if step[1] == FAST:
                todo.append(("fast", value))
            elif step[1] in TRACES:
                trace.append((step[1], value))
                todo.append(("untrace",))
            elif step[1] == noun("slog"):
                self.slogs.append(value)
            todo.append(("eval", step[2], step[3]))
        elif kind == "fast":
            self._register(step[1], value)
            values.append(value)
        elif kind == "untrace":
            trace.pop()
            values.append(value)

    def _is_sound(self, formula: Noun) -> bool:
        """Are it and all its parts formulas? Of the branches of a 6, one is enough:
        the other crashes where it is taken."""
        todo = [formula]
        while todo:
            f = todo[-1]
            if f in self._sound:
                todo.pop()
                continue
            parts = _parts(f)
            new = [part for part in parts or () if part not in self._sound]
            if new:
                todo += new
                continue
            good = [self._sound[part] for part in parts or ()]
            if len(good) == 3:
                good = [good[0], good[1] or good[2]]
            self._sound[f] = parts is not None and all(good)
        return self._sound[formula]

    # --- virtualisation --------------------------------------------------------

    def _mink(self, sample: Noun, trace: list[tuple[Noun, Noun]]) -> Noun:
        """[[subject formula] gate] -> [0 product], [1 path] or [2 trace]."""
        subject, formula, gate = slot(sample, 4), slot(sample, 5), slot(sample, 3)
        mink = object()
        inside: list[tuple[Noun, Noun]] = []
        outside = self._handlers
        self._handlers = [*outside, (mink, gate)]
        try:
            return Cell(0, self._run(subject, formula, inside))
        except _Block as block:
            if block.mink is not mink:
                raise
            return Cell(1, block.path)
        except _Fallen as fallen:
            if fallen.mink is not mink:
                raise
            trace += fallen.trace
            raise _Bail from None
        except _BAILS:
            return Cell(2, listed([Cell(*entry) for entry in inside[::-1]]))
        finally:
            self._handlers = outside

    def _scry(self, ref: Noun, path: Noun, trace: list[tuple[Noun, Noun]]) -> Noun:
        """Ask the innermost handler, which itself may ask those outside of it."""
        if not self._handlers:
            raise _Bail
        inside: list[tuple[Noun, Noun]] = []
        handlers = self._handlers
        mink, gate = handlers[-1]
        self._handlers = handlers[:-1]
        try:
            core = Cell(gate.head, Cell(Cell(ref, path), gate.tail.tail))
            answer = self._run(core, core.head, inside)
        except _BAILS:
            raise _Fallen(mink, inside) from None
        finally:
            self._handlers = handlers
        if answer == 0:
            raise _Block(mink, path)
        if not isinstance(answer.tail, Cell):
            trace.append((noun("hunk"), Cell(ref, path)))
            raise _Bail
        return answer.tail.tail

    # --- jets ------------------------------------------------------------------

    def _register(self, clue: Noun, core: Noun) -> None:
        try:
            name, parent = slot(clue, 2), slot(clue, 6)
            self._name(name, parent, core)
        except _BAILS:
            pass  # a malformed %fast registers nothing

    def _name(self, name: Noun, parent: Noun, core: Noun) -> None:
        path: tuple[str, ...]
        if parent == noun(1, 0):
            path = ("k138",) if name == noun("k", 138) else ("?",)
        else:
            found = self._locate(_slot(core, slot(parent, 3)))
            if found is None:
                return
            if isinstance(name, Cell):
                return
            path = (*found, _text(name))
        self._paths.setdefault(slot(core, 2), path)

    def _locate(self, core: Noun) -> tuple[str, ...] | None:
        return self._paths.get(core.head) if isinstance(core, Cell) else None

    def _kick(
        self,
        core: Noun,
        axis: object,
        values: list[Noun],
        todo: list[tuple[object, ...]],
        trace: list[tuple[Noun, Noun]],
    ) -> None:
        path = self._locate(core) if axis == 2 else None
        if path and path[-1] == "mink" and self.jets:
            values.append(self._mink(core.tail.head, trace))
            return
        jet = JETS[path[-1]] if path and path[-1] in self.jets else None
        if jet is None:
            todo.append(("call", core, _slot(core, axis)))
            return
        product = jet(core.tail.head)
        self.hits[path[-1]] += 1
        values.append(product)


def _parts(f: Noun) -> list[Noun] | None:
    """The formulas that a formula is made of; None where it is none."""
    try:
        op, rest = f.head, f.tail
        if isinstance(op, Cell):
            return [op, rest]
        if op == 0:
            return [] if isinstance(rest, int) else None
        if op == 1:
            return []
        if op in (3, 4):
            return [rest]
        if op in (2, 5, 7, 8, 12):
            return [rest.head, rest.tail]
        if op == 6:
            return [rest.head, rest.tail.head, rest.tail.tail]
        if op == 9:
            return [rest.tail] if isinstance(rest.head, int) else None
        if op == 10:
            head = rest.head
            return [head.tail, rest.tail] if isinstance(head.head, int) else None
        if op == 11:
            hint = rest.head
            return [*([hint.tail] if isinstance(hint, Cell) else []), rest.tail]
    except AttributeError:
        pass
    return None


def _slot(n: object, axis: object) -> Noun:
    if not isinstance(axis, int) or axis == 0:
        raise _Bail
    for bit in range(axis.bit_length() - 2, -1, -1):
        n = n.tail if (axis >> bit) & 1 else n.head
    return n


def _edit(target: Noun, axis: int, value: Noun) -> Noun:
    _slot(target, axis)
    path: list[tuple[Noun, int]] = []
    for bit in range(axis.bit_length() - 2, -1, -1):
        side = (axis >> bit) & 1
        path.append((target.tail if not side else target.head, side))
        target = target.tail if side else target.head
    for other, side in reversed(path):
        value = Cell(other, value) if side else Cell(value, other)
    return value


def _text(atom: int) -> str:
    return atom.to_bytes((atom.bit_length() + 7) // 8, "little").decode()


def _bite(n: Noun) -> int:
    """Width in bits of a bite."""
    return (1 << n.head) * n.tail if isinstance(n, Cell) else 1 << n


def _end(a: Noun, b: int) -> int:
    return b & ((1 << _bite(a)) - 1)


def _met(a: int, b: int) -> int:
    return (b.bit_length() + (1 << a) - 1) >> a


def _rap(a: int, parts: Noun) -> int:
    total, shift = 0, 0
    for part in items(parts):
        assert isinstance(part, int)
        total |= part << shift
        shift += _met(a, part) << a
    return total


def _rip(a: Noun, b: int) -> Noun:
    width, parts = _bite(a), []
    mask = (1 << width) - 1
    while b:
        parts.append(b & mask)
        b >>= width
    return listed(parts)


def _rep(a: Noun, parts: Noun) -> int:
    width = _bite(a)
    return sum(
        (part & ((1 << width) - 1)) << (width * i)
        for i, part in enumerate(items(parts))
    )


def _rev(a: int, b: int, c: int) -> int:
    width = 1 << a
    mask = (1 << width) - 1
    return sum(((c >> (width * i)) & mask) << (width * (b - 1 - i)) for i in range(b))


def _can(a: int, parts: Noun) -> int:
    total, shift = 0, 0
    for part in items(parts):
        total |= _end(noun(a, part.head), part.tail) << shift
        shift += part.head << a
    return total


def _sub(a: int, b: int) -> int:
    if b > a:
        raise _Bail
    return a - b


def _snag(a: int, b: Noun) -> Noun:
    for _ in range(a):
        b = b.tail
    return b.head


def _slag(a: int, b: Noun) -> Noun:
    for _ in range(a):
        if b == 0:
            return 0
        b = b.tail
    return b


def _dor(a: Noun, b: Noun) -> bool:
    while True:
        if a == b:
            return True
        if not isinstance(a, Cell):
            return isinstance(b, Cell) or a < b
        if not isinstance(b, Cell):
            return False
        same = a.head == b.head
        a, b = (a.tail, b.tail) if same else (a.head, b.head)


def _gor(a: Noun, b: Noun) -> bool:
    c, d = mug(a), mug(b)
    return _dor(a, b) if c == d else c < d


def _mor(a: Noun, b: Noun) -> bool:
    c, d = mug(mug(a)), mug(mug(b))
    return _dor(a, b) if c == d else c < d


def _flag(f: Callable[..., bool]) -> Callable[..., Noun]:
    return lambda *a: 0 if f(*a) else 1


def _two(f: Callable[..., Noun]) -> Callable[[Noun], Noun]:
    return lambda s: f(s.head, s.tail)


def _three(f: Callable[..., Noun]) -> Callable[[Noun], Noun]:
    return lambda s: f(s.head, s.tail.head, s.tail.tail)


JETS: dict[str, Callable[[Noun], Noun]] = {
    "dec": lambda a: _sub(a, 1),
    "add": _two(lambda a, b: a + b),
    "sub": _two(_sub),
    "mul": _two(lambda a, b: a * b),
    "div": _two(lambda a, b: a // b if b else _sub(0, 1)),
    "mod": _two(lambda a, b: a % b if b else _sub(0, 1)),
    "dvr": _two(lambda a, b: noun(*divmod(a, b)) if b else _sub(0, 1)),
    "lth": _two(_flag(lambda a, b: a < b)),
    "lte": _two(_flag(lambda a, b: a <= b)),
    "gth": _two(_flag(lambda a, b: a > b)),
    "gte": _two(_flag(lambda a, b: a >= b)),
    "max": _two(max),
    "min": _two(min),
    "lent": lambda a: len(items(a)),
    "flop": lambda a: listed(items(a)[::-1]),
    "weld": _two(lambda a, b: _weld(a, b)),
    "snag": _two(_snag),
    "slag": _two(_slag),
    "scag": _two(lambda a, b: listed(items(b)[:a])),
    "bex": lambda a: 1 << a,
    "lsh": _two(lambda a, b: b << _bite(a)),
    "rsh": _two(lambda a, b: b >> _bite(a)),
    "end": _two(_end),
    "met": _two(_met),
    "cut": lambda s: _end(
        Cell(slot(s, 2), slot(s, 13)),
        slot(s, 7) >> (slot(s, 12) << slot(s, 2)),
    ),
    "cat": _three(lambda a, b, c: (c << (_met(a, b) << a)) + b),
    "can": _two(_can),
    "rap": _two(_rap),
    "rip": _two(_rip),
    "rep": _two(_rep),
    "rev": _three(_rev),
    "con": _two(lambda a, b: a | b),
    "dis": _two(lambda a, b: a & b),
    "mix": _two(lambda a, b: a ^ b),
    "mug": mug,
    "dor": _two(_flag(_dor)),
    "gor": _two(_flag(_gor)),
    "mor": _two(_flag(_mor)),
    "jam": lambda a: int.from_bytes(jam(a), "little"),
    "cue": lambda a: cue(_bytes(a)),
}


def _weld(a: Noun, b: Noun) -> Noun:
    for item in reversed(items(a)):
        b = Cell(item, b)
    return b


def _bytes(a: Noun) -> bytes:
    assert isinstance(a, int)
    return a.to_bytes((a.bit_length() + 7) // 8, "little")
