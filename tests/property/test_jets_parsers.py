"""Parsers that call others, against Hoon's own: written down in Python, and
as a real kernel has it.

Each combinator alone, on rules that answer with edges of every shape, also
such as no parser makes; then parsers made of many, on texts.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from proto.noun import Cell, Noun, noun, slot
from tests.support.jets import CRASH, PUNT, Jets, real_kernel

FEW = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def jets() -> Jets:
    return Jets()


# --- the model ---------------------------------------------------------------


class Crash(Exception):
    """Where Nock crashes."""


class Decline(Exception):
    """Where the jet leaves it to Nock."""


def at(some: Noun, axis: int) -> Noun:
    try:
        return slot(some, axis)
    except (ValueError, TypeError, AttributeError, LookupError) as error:
        raise Crash from error


def echo(sample: Noun) -> Noun:
    return noun(at(sample, 2), 0, sample, sample)


FORMULAS: dict[Noun, Callable[[Noun], Noun]] = {
    noun((0, 12), (1, 0), (0, 6), 0, 6): echo,
    noun(0, 6): lambda sample: sample,
    noun(0, 13): lambda sample: at(sample, 3),
    noun((1, 0), 0, 12): lambda sample: noun(0, at(sample, 2)),
    noun(3, 0, 12): lambda sample: int(not isinstance(at(sample, 2), Cell)),
}
GATES: list[Noun] = [noun(formula, 0, 0) for formula in FORMULAS]


def constant(value: Noun) -> Noun:
    """The gate that always answers so."""
    return noun((1, value), 0, 0)


def nock(formula: Noun, sample: Noun) -> Noun:
    if isinstance(formula, Cell) and formula.head == 1:
        return formula.tail
    if formula in FORMULAS:
        return FORMULAS[formula](sample)
    raise Crash


PARSERS: dict[Noun, Callable[[Noun], Noun]] = {}


def call(gate: Noun, sample: Noun) -> Noun:
    if gate in PARSERS:
        return PARSERS[gate](sample)
    at(gate, 7)
    return nock(at(gate, 2), sample)


def last(a: Noun, b: Noun) -> Noun:
    x, y = at(a, 2), at(b, 2)
    if x == y:
        x, y = at(a, 3), at(b, 3)
    if not isinstance(x, int) or not isinstance(y, int) or max(x, y) >> 63:
        raise Decline
    return a if x > y else b


def edge(hair: Noun, value: Noun, nail: Noun) -> Noun:
    return noun(hair, 0, value, nail)


def parse_one(make: Callable[[Noun, Noun, Noun], Noun], tub: Noun, door: Noun) -> Noun:
    """cold, cook, here, stag: of what sef parsed."""
    vex = call(at(door, 3), tub)
    if at(vex, 3) == 0:
        return vex
    value = make(at(door, 2), tub, at(vex, 7))
    return edge(at(vex, 2), value, at(vex, 15))


def here(hez: Noun, tub: Noun, parsed: Noun) -> Noun:
    pint = noun(at(tub, 2), at(parsed, 6))
    return call(hez, noun(pint, at(parsed, 2)))


def parse_two(make: Callable[[Noun, Noun], Noun], sample: Noun, door: Noun) -> Noun:
    """comp and its kin: vex, then sab."""
    vex, sab = at(sample, 2), at(sample, 3)
    if at(vex, 3) == 0:
        return vex
    yit = call(sab, at(vex, 15))
    hair = last(at(vex, 2), at(yit, 2))
    if at(yit, 3) == 0:
        return noun(hair, 0)
    value = make(door, noun(at(vex, 14), at(yit, 14)))
    return edge(hair, value, at(yit, 15))


def bend(sample: Noun, door: Noun) -> Noun:
    vex, sab = at(sample, 2), at(sample, 3)
    if at(vex, 3) == 0:
        return vex
    yit = call(sab, at(vex, 15))
    hair = last(at(vex, 2), at(yit, 2))
    if at(yit, 3) == 0:
        return noun(hair, at(vex, 3))
    unit = call(door, noun(at(vex, 14), at(yit, 14)))
    if unit == 0:
        raise Decline
    return edge(hair, at(unit, 3), at(yit, 15))


def glue(sample: Noun, door: Noun) -> Noun:
    vex, sab = at(sample, 2), at(sample, 3)
    if at(vex, 3) == 0:
        return vex
    between = call(door, at(vex, 15))
    at(sab, 7)
    yit = parse_two(lambda _, pair: at(pair, 3), noun(between, sab), 0)
    hair = last(at(vex, 2), at(yit, 2))
    if at(yit, 3) == 0:
        return noun(hair, 0)
    return edge(hair, noun(at(vex, 14), at(yit, 14)), at(yit, 15))


def pose(sample: Noun, door: Noun) -> Noun:
    vex, sab = at(sample, 2), at(sample, 3)
    if at(vex, 3) != 0:
        return vex
    roq = nock(at(sab, 2), 0)
    return noun(last(at(vex, 2), at(roq, 2)), at(roq, 3))


def stew(tub: Noun, tree: Noun) -> Noun:
    tape = at(tub, 3)
    while tape != 0 and tree != 0:
        key, rule = at(at(tree, 2), 2), at(tree, 5)
        low, high = (key.head, key.tail) if isinstance(key, Cell) else (key, key)
        char = at(tape, 2)
        assert isinstance(low, int)
        assert isinstance(high, int)
        if not isinstance(char, int):
            raise Decline
        if low <= char <= high:
            return call(rule, tub)
        tree = at(tree, 6 if char < low else 7)
    return noun(at(tub, 2), 0)


def stir(tub: Noun, door: Noun) -> Noun:
    value, raq, fel = at(door, 2), at(door, 6), at(door, 7)
    done: list[Noun] = []
    while True:
        vex = call(fel, tub)
        if at(vex, 3) == 0:
            break
        done.append(vex)
        tub = at(vex, 15)
    hair = at(vex, 2)
    for vex in reversed(done):
        hair = last(at(vex, 2), hair)
        value = call(raq, noun(at(vex, 14), value))
    return edge(hair, value, tub)


MODEL: dict[str, Callable[[Noun, Noun], Noun]] = {
    "bend/fun": bend,
    "cold/fun": partial(parse_one, lambda cus, tub, parsed: cus),
    "comp/fun": partial(parse_two, call),
    "cook/fun": partial(parse_one, lambda poq, _, parsed: call(poq, at(parsed, 2))),
    "glue/fun": glue,
    "here/fun": partial(parse_one, here),
    "pfix": partial(parse_two, lambda _, pair: at(pair, 3)),
    "plug": partial(parse_two, lambda _, pair: pair),
    "pose": pose,
    "sfix": partial(parse_two, lambda _, pair: at(pair, 2)),
    "stag/fun": partial(parse_one, lambda gob, _, parsed: noun(gob, at(parsed, 2))),
    "stir/fun": stir,
}
ONE = ("cold/fun", "cook/fun", "here/fun", "stag/fun")


def model(path: str, sample: Noun, door: Noun) -> Noun:
    try:
        return MODEL[path](sample, door)
    except Crash:
        return CRASH
    except Decline:
        return PUNT


# --- each alone --------------------------------------------------------------


class Dice(random.Random):
    """Draws what parsers meet, and what they should not."""

    def odd(self) -> bool:
        return self.random() < 0.04

    def hair(self) -> Noun:
        line: Noun = self.choice((1, 1, 1, 2, 3, (1 << 62) + 1))
        column: Noun = self.randrange(1, 5)
        if self.odd():
            return self.choice((7, noun(line, (1, 1)), noun((1, 1), column)))
        return noun(line, column)

    def nail(self) -> Noun:
        return noun(self.hair(), [self.randrange(97, 100) for _ in range(2)])

    def edge(self) -> Noun:
        if self.odd():
            return self.choice((7, noun(self.hair(), 7), noun(self.hair(), 0, 7)))
        if self.random() < 0.3:
            return noun(self.hair(), 0)
        return edge(self.hair(), self.randrange(9), self.nail())

    def gate(self) -> Noun:
        odd = (7, noun(1, 2), noun((1, 0), 2), noun(5, 0, 0), noun((9, 9), 0, 0))
        if self.odd():
            return self.choice(odd)
        return self.choice((*GATES, *GATES, constant(0), constant(7)))

    def rule(self) -> Noun:
        if self.odd():
            return self.gate()
        return GATES[0] if self.random() < 0.1 else constant(self.edge())

    def case(self, path: str) -> tuple[Noun, Noun]:
        """Sample and door."""
        if path in ONE:
            return self.nail(), noun(self.gate(), self.rule())
        pair = noun(self.edge(), self.rule())
        door = self.rule() if path == "glue/fun" else self.gate()
        return pair, door if "/" in path else 0


TWOS = sorted(set(MODEL) - {"stir/fun"})


@FEW
@given(st.integers(0, 1 << 40))
def test_each_combinator(jets: Jets, seed: int) -> None:
    dice = Dice(seed)
    for path in TWOS:
        sample, door = dice.case(path)
        want = model(path, sample, door)
        assert jets(f"qua/{path}", sample, door) == want, (path, sample, door)


def take(stop: int) -> Noun:
    """A rule that takes one character, unless there is none or it is [stop]."""
    none = noun(6, (5, (1, 0), 0, 13), (1, 0), 5, (1, stop), 0, 26)
    good = noun((0, 12), (1, 0), (0, 26), (0, 12), 0, 27)
    return noun((6, none, ((0, 12), 1, 0), good), 0, 0)


@FEW
@given(st.lists(st.integers(97, 100), max_size=9), st.integers(97, 101))
def test_stir(jets: Jets, text: list[int], stop: int) -> None:
    tub = noun((1, 1), list(text))
    gate = take(stop)
    FORMULAS[slot(gate, 2)] = partial(_take, stop)
    for raq in (*GATES, constant(3)):
        door = noun(5, raq, gate)
        want = model("stir/fun", tub, door)
        assert jets("qua/stir/fun", tub, door) == want


def _take(stop: int, tub: Noun) -> Noun:
    tape = at(tub, 3)
    if tape == 0 or at(tape, 2) == stop:
        return noun(at(tub, 2), 0)
    return edge(at(tub, 2), at(tape, 2), noun(at(tub, 2), at(tape, 3)))


def tree_of(rules: list[tuple[Noun, Noun]]) -> Noun:
    """Any search tree does."""
    if not rules:
        return 0
    at_ = len(rules) // 2
    return noun(noun(*rules[at_]), tree_of(rules[:at_]), tree_of(rules[at_ + 1 :]))


RULES: list[tuple[Noun, Noun]] = [
    (97, constant(noun((1, 2), 0))),
    (noun(99, 102), GATES[0]),
    (105, constant(5)),
    (noun(110, 110), 9),
    (noun(112, 120), constant(7)),
]


@FEW
@given(st.integers(94, 124), st.integers(0, 5))
@example(99, 5)
def test_stew(jets: Jets, char: int, count: int) -> None:
    tree = tree_of(RULES[:count])
    for text in ([char], [char, 1], []):
        tub = noun((1, 1), list(text))
        try:
            want = stew(tub, tree)
        except Crash:
            want = CRASH
        assert jets("qua/stew/fun", tub, tree) == want
    assert jets("qua/stew/fun", noun((1, 1), (7, 7), 0), tree) == (
        PUNT if count else noun((1, 1), 0)
    )


# --- many of them ------------------------------------------------------------

LEAVES = ("easy/fun", "just/fun", "mask/fun", "shim/fun")
TWO = ("pfix", "plug", "pose", "sfix", "bend/fun", "comp/fun", "glue/fun")
PATHS = [f"qua/{path}" for path in (*LEAVES, *ONE, *TWO, "stew/fun", "stir/fun")]


def leaf(test: Callable[[int], bool], tub: Noun) -> Noun:
    tape, line, column = at(tub, 3), at(tub, 4), at(tub, 5)
    assert isinstance(line, int)
    assert isinstance(column, int)
    if not isinstance(tape, Cell):
        return noun((line, column), 0)
    assert isinstance(tape.head, int)
    if not test(tape.head):
        return noun((line, column), 0)
    hair = noun(line + 1, 1) if tape.head == 10 else noun(line, column + 1)
    return edge(hair, tape.head, noun(hair, tape.tail))


def of_two(path: str, door: Noun, first: Noun, second: Noun, tub: Noun) -> Noun:
    """What ;~ makes: the combinator, of the first's edge and the second rule."""
    sab = constant(call(second, tub)) if path == "pose" else second
    return MODEL[path](noun(call(first, tub), sab), door)


class Builder:
    """Random parsers, and what the model needs to know of their gates."""

    def __init__(self, jets: Jets, dice: random.Random) -> None:
        self.jets = jets
        self.dice = dice

    def gate(self, path: str, door: Noun, parse: Callable[[Noun], Noun]) -> Noun:
        made = self.jets.made(f"qua/{path}", door)
        PARSERS[made] = parse
        return made

    def char(self) -> int:
        return self.dice.choice((10, 97, 98, 99))

    def leaf(self) -> Noun:
        char, kind = self.char(), self.dice.choice(LEAVES[1:])
        tests: dict[str, tuple[Noun, Callable[[int], bool]]] = {
            "just/fun": (char, char.__eq__),
            "mask/fun": (noun([97, char]), (97, char).__contains__),
            "shim/fun": (noun(97, char), range(97, char + 1).__contains__),
        }
        door, test = tests[kind]
        return self.gate(kind, door, partial(leaf, test))

    def parser(self, depth: int) -> Noun:
        if depth == 0:
            if self.dice.random() < 0.9:
                return self.leaf()
            return self.gate("easy/fun", 7, lambda tub: edge(at(tub, 2), 7, tub))
        path = self.dice.choice((*ONE, *TWO, *TWO, "stew/fun", "stir/fun"))
        if path == "stir/fun":  # of what takes a character, or it never ends
            door = noun(5, GATES[1], self.leaf())
            return self.gate(path, door, lambda tub: stir(tub, door))
        first, second = self.parser(depth - 1), self.parser(depth - 1)
        if path == "stew/fun":
            tree = tree_of([(97, first), (noun(98, 99), second)])
            return self.gate(path, tree, lambda tub: stew(tub, tree))
        if path in ONE:
            door = noun(self.dice.choice(GATES[1:2]), first)
            return self.gate(path, door, lambda tub: MODEL[path](tub, door))
        door = GATES[3]
        if path == "glue/fun":
            door = self.leaf()
        combinator = self.jets.made(f"qua/{path}", door)
        # (combinator (first tub) second(+< tub))
        pair = ((9, 2, 10, (6, 0, 6), 0, 30), 10, (6, 0, 6), 0, 31)
        made = noun((9, 2, 10, (6, *pair), 0, 14), 0, combinator, first, second)
        PARSERS[made] = partial(of_two, path, door, first, second)
        return made


@settings(FEW, max_examples=60)
@given(
    st.integers(0, 1 << 40),
    st.integers(0, 4),
    st.lists(st.lists(st.sampled_from([10, 97, 98, 99]), max_size=12), min_size=4),
)
def test_parsers_of_many(
    jets: Jets, seed: int, depth: int, texts: list[list[int]]
) -> None:
    PARSERS.clear()
    rule = Builder(jets, random.Random(seed)).parser(depth)
    for text in texts:
        tub = noun((1, 1), list(text))
        assert jets.slam(rule, tub, PATHS) == call(rule, tub)


def test_little_memory() -> None:
    """Collections come at any instruction."""
    small = Jets(nursery_size=1 << 20)
    letter = small.made("qua/shim/fun", noun(97, 122))
    word = small.made("qua/stir/fun", noun(0, GATES[1], letter))
    line = small.made("qua/cook/fun", noun(GATES[1], word))
    text = [97 + n % 26 for n in range(6000)]
    got = small.slam(line, noun((1, 1), list(text)), PATHS)
    assert at(got, 2) == noun(1, 6001)
    assert at(got, 15) == noun((1, 6001), 0)
    value = at(got, 14)
    for char in text:
        assert at(value, 2) == char
        value = at(value, 3)
    assert value == 0


# --- a real kernel -----------------------------------------------------------


@pytest.mark.timeout(600)
def test_real_hoon_agrees(jets: Jets) -> None:
    kernel, dice = real_kernel(), Dice(11)
    for path in TWOS:
        door = dice.case(path)[1]
        samples = [dice.case(path)[0] for _ in range(30)]
        got = [(jets(f"qua/{path}", sample, door), sample) for sample in samples]
        good = [(made, sample) for made, sample in got if made not in (CRASH, PUNT)]
        some = [sample for _, sample in good]
        assert kernel(f"qua/{path}", some, door) == [made for made, _ in good], path
        # One alone: to find those that crash takes a run each.
        for made, sample in got:
            if made == CRASH:
                assert kernel(f"qua/{path}", [sample], door) == [CRASH], sample
                break
    texts: list[list[int]] = [[], [97], [97, 98, 99]]
    tubs: list[Noun] = [noun((1, 1), list(text)) for text in texts]
    for raq in (GATES[1], constant(3)):
        door = noun(5, raq, take(98))
        got = [jets("qua/stir/fun", tub, door) for tub in tubs]
        assert got == kernel("qua/stir/fun", tubs, door)
    tubs = [noun((1, 1), [char]) for char in range(94, 124)]
    tubs += [noun((1, 1), 0)]
    want = kernel("qua/stew/fun", tubs, noun([noun(*rule) for rule in RULES]))
    assert [jets("qua/stew/fun", tub, tree_of(RULES)) for tub in tubs] == want
