"""Call a jet by its path, or the Hoon that it stands for, from Python.

Owns: one engine each. `Jets` builds a core that is registered under a name
path, as a kernel would have it, whose own Nock answers PUNT: another answer
came from the jet. `Kernel` finds the same arm in a real kernel, takes the
%fast hint away, and runs its Nock; arms that it calls keep their jets.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from weakref import WeakSet

import pytest

from proto.jam import cue, jam
from proto.noun import Cell, Noun, items, noun, slot
from serf.engine import Crashed, Engine

__all__ = ["CRASH", "HITS", "PUNT", "Jets", "Kernel", "note_hits", "real_kernel"]

FAST = noun("fast")
PUNT = noun("declined", 0)
CRASH = noun("crashed", 0)
LAYERS = ("one", "two", "tri", "qua", "pen", "hex")
FAR = ("qua/stew/fun",)  # their maker lies at 31, under [door ~]
HITS: dict[str, set[str]] = {}  # by file: the arms that its jets stood for
SLAM = noun(9, 2, 10, (6, 0, 6), 0, 2)  # of [gate [sample ...]]


def _run(engine: Engine, subject: Noun, formula: Noun) -> Noun:
    answer = engine.nock(jam(Cell(subject, formula)), True)
    if isinstance(answer, Crashed):
        assert answer.mote == "exit", answer.mote
        return CRASH
    return cue(answer.jam)


def _hint(name: Noun, parent: Noun, body: Noun) -> Noun:
    return noun(11, (FAST, 1, name, parent, 0), body)


class Jets:
    """Jets by path."""

    def __init__(self, kelvin: int = 138, nursery_size: int = 1 << 28) -> None:
        self.kelvin = kelvin
        self.engine = Engine(home_size=1 << 26, nursery_size=nursery_size)
        self._gates: dict[tuple[str, Noun], Noun] = {}
        _living.add(self)
        _kept.append(self)

    def __call__(self, path: str, sample: Noun, door: Noun = 0) -> Noun:
        """The product, CRASH or PUNT. `door`: the sample of the door above."""
        if (path, door) not in self._gates:
            self._gates[path, door] = noun(8, self.gate(path, door=door), SLAM)
        # The gate is pushed on [sample 0].
        return _run(self.engine, Cell(sample, 0), self._gates[path, door])

    def many(self, path: str, samples: list[Noun], door: Noun = 0) -> list[Noun]:
        """The products of many, none of which may crash."""
        # A core [loop list products gate]: slams the list's items, in turn.
        slam = noun(9, 2, 10, (6, 0, 12), 0, 15)
        after = noun((0, 2), (0, 13), (slam, 0, 14), 0, 15)
        loop = noun(6, (3, 0, 6), (9, 2, after), 0, 14)
        start = noun((1, loop), (0, 1), (1, 0), self.gate(path, door=door))
        made = _run(self.engine, noun(samples), noun(9, 2, start))
        return items(made)[::-1]

    def gate(self, path: str, sample: Noun = 0, door: Noun = 0) -> Noun:
        """The formula that makes and registers the gate, and all above it."""
        *above, name = path.split("/")
        name_of_root, root = noun("k", self.kelvin), noun((1, 0, 0), 1, self.kelvin)
        formula = _hint(name_of_root, noun(1, 0), root)
        for at, layer in enumerate(above):
            if layer in LAYERS:
                core = noun((1, 0, at + 1), 0, 1)
                formula = noun(7, formula, _hint(noun(layer), noun(0, 3), core))
            else:
                core = noun((1, noun(layer), at + 1), (1, door), 0, 1)
                formula = noun(7, formula, _hint(noun(layer), noun(0, 7), core))
        far = path in FAR
        context = noun((1, door), (1, 0), 0, 1) if far else noun(0, 1)
        body = noun((1, 11, noun(name), 1, PUNT), (1, sample), context)
        return noun(7, formula, _hint(noun(name), noun(0, 31 if far else 7), body))

    def made(self, path: str, door: Noun) -> Noun:
        """The gate itself, for the sample of another one."""
        return _run(self.engine, 0, self.gate(path, door=door))

    def slam(self, gate: Noun, sample: Noun, paths: Sequence[str]) -> Noun:
        """What a gate gives that was made of others, of these paths."""
        formula = noun(9, 2, 10, (6, 0, 3), 0, 2)
        for path in paths:
            formula = noun(7, (self.gate(path), 0, 1), 7, (0, 3), formula)
        return _run(self.engine, Cell(gate, sample), formula)


_living: WeakSet[Jets] = WeakSet()
_kept: list[Jets] = []  # those of the file that runs


def note_hits(file: str) -> None:
    """A file of tests is done: what did its jets stand for?"""
    hits = HITS.setdefault(file, set())
    for jets in _living:
        hits.update(arm.path for arm in jets.engine.arms() if arm.hits)
    _kept.clear()


class Kernel:
    """The arms of a real kernel, without their jets."""

    def __init__(self, data: bytes) -> None:
        self.engine = Engine(home_size=1 << 28, nursery_size=1 << 30)
        made = self.engine.nock(jam(Cell(cue(data), noun(9, 2, 0, 1))), True)
        assert not isinstance(made, Crashed)
        self._layers = _layers(cue(made.jam))[: len(LAYERS)]
        self._gates: dict[tuple[str, Noun | None], Noun] = {}

    def __call__(
        self, path: str, samples: list[Noun], door: Noun | None = None
    ) -> list[Noun]:
        """The products of the arm's own Nock, or CRASH. `door`: the sample of
        the door above; None: as it is, or there is no door."""
        if (path, door) not in self._gates:
            self._gates[path, door] = self._gate(path, door)
        products = self._slam(self._gates[path, door], samples)
        if products != CRASH:
            return items(products)
        if len(samples) == 1:
            return [CRASH]
        half = len(samples) // 2
        return [*self(path, samples[:half], door), *self(path, samples[half:], door)]

    def in_doors(self, path: str, cases: list[tuple[Noun, Noun]]) -> list[Noun]:
        """The same of (the door's sample, sample), at once; none may crash."""
        if (path, None) not in self._gates:
            self._gates[path, None] = self._gate(path, None)
        pairs = [Cell(door, sample) for door, sample in cases]
        return items(self._slam(self._gates[path, None], list(pairs), doors=True))

    def _slam(self, gate: Noun, samples: list[Noun], doors: bool = False) -> Noun:
        """The list of what [gate] makes of each; the layers registered first."""
        formula: Noun = noun(1, 0)
        for at in range(len(samples) - 1, -1, -1):
            axis = (8 << at) * 2 - 2
            call = noun(9, 2, 10, (6, 0, axis), 0, 6)
            if doors:
                door = noun(10, (30, 0, 2 * axis), 0, 6)
                call = noun(9, 2, 10, (6, 0, 2 * axis + 1), door)
            formula = noun(call, formula)
        axis = 2
        for index in range(len(self._layers) - 1, -1, -1):
            root = index == 0
            name = noun("k", 138) if root else noun(LAYERS[index - 1])
            hint = _hint(name, noun(1, 0) if root else noun(0, 3), noun(0, axis))
            formula = noun(7, (hint, 0, 1), 7, (0, 3), formula)
            axis = axis * 2 + 1
        subject = Cell(self._layers[-1], Cell(gate, noun(samples)))
        return _run(self.engine, subject, formula)

    def has(self, path: str) -> bool:
        """Does its library name this arm?"""
        return self._holder(path.split("/")[1]) is not None

    def _holder(self, name: str) -> tuple[Noun, int] | None:
        for core in self._layers:
            if name in (arms := _arms(slot(core, 2))):
                return core, arms[name]
        return None

    def _gate(self, path: str, door: Noun | None) -> Noun:
        _, *above, name = path.split("/")
        found = self._holder((*above, name)[0])
        assert found is not None, path
        core, axis = found
        if above:
            core = _run(self.engine, core, _maker(slot(slot(core, 2), axis)))
            if door is not None:
                core = noun(slot(core, 2), door, slot(core, 7))
            axis = _arms(slot(core, 2))[name]
        maker = _maker(slot(slot(core, 2), axis))
        gate = _run(self.engine, core, _without_hint(maker))
        # Another battery: what other arms register does not find this one.
        return noun((7, (0, 1), slot(gate, 2)), slot(gate, 3))


def _layers(kernel: Noun) -> list[Noun]:
    """The cores from the kernel in to its [battery kelvin] root."""
    chain = [kernel]
    while isinstance(chain[-1], Cell) and not isinstance(chain[-1].tail, int):
        chain.append(chain[-1].tail)
    return chain[::-1]


def _arms(battery: Noun) -> dict[str, int]:
    """The axes of the arms that make registered cores, by name."""
    arms: dict[str, int] = {}
    todo = [(battery, 1)]
    while todo:
        tree, axis = todo.pop()
        if not isinstance(tree, Cell):
            continue
        if isinstance(tree.head, int):
            hint = _find_hint(_maker(tree))
            if hint is not None:
                name = slot(hint, 54)
                if isinstance(name, int):
                    arms.setdefault(_text(name), axis)
        else:
            todo += [(tree.head, 2 * axis), (tree.tail, 2 * axis + 1)]
    return arms


def _maker(formula: Noun) -> Noun:
    """Of an arm that makes a registered core and goes on with it: without what
    comes after."""
    before: list[Cell] = []
    at = formula
    while isinstance(at, Cell) and at.head in (7, 8) and isinstance(at.tail, Cell):
        made = at.tail.head
        if at.head == 7 and _find_hint(made) is not None:
            for step in reversed(before):
                assert isinstance(step.tail, Cell)
                made = noun(step.head, step.tail.head, made)
            return made
        before.append(at)
        at = at.tail.tail
    return formula


def _is_fast(formula: Cell) -> bool:
    hint = slot(formula, 6)
    return isinstance(hint, Cell) and hint.head == FAST


def _find_hint(formula: Noun) -> Cell | None:
    """The %fast hint that a formula's value passes through."""
    while isinstance(formula, Cell) and isinstance(formula.tail, Cell):
        if formula.head == 11 and _is_fast(formula):
            return formula
        if formula.head not in (7, 8, 11):
            return None
        formula = formula.tail.tail
    return None


def _without_hint(formula: Noun) -> Noun:
    assert isinstance(formula, Cell)
    assert isinstance(formula.tail, Cell)
    if formula.head == 11 and _is_fast(formula):
        return formula.tail.tail
    return noun(formula.head, formula.tail.head, _without_hint(formula.tail.tail))


def _text(cord: int) -> str:
    return cord.to_bytes((cord.bit_length() + 7) // 8, "little").decode("latin-1")


def real_kernel() -> Kernel:
    """The kernel that TREADLE_REAL_KERNELS leads to (a folder that holds
    hoonc.jam); skips the test where it is not set."""
    folder = os.environ.get("TREADLE_REAL_KERNELS")
    if not folder:
        pytest.skip("no real kernel: set TREADLE_REAL_KERNELS to hoonc.jam's folder")
    return Kernel((Path(folder) / "hoonc.jam").read_bytes())
