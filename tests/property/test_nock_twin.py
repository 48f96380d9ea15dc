"""Random formulas: the C machine against the plain one in Python.

The grammar makes formulas that mostly mean something, on a subject that holds
formulas too: product, kind of crash, trace and what was printed must be the
same. TREADLE_FUZZ_EXAMPLES says how many (scripts/fuzz twin takes its time).
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from proto.jam import cue, jam
from proto.noun import Cell, Noun, listed, noun
from serf.engine import Crashed, Engine
from tests.support.jets import Jets
from tests.support.nock import Crash, Machine

EXAMPLES = int(os.environ.get("TREADLE_FUZZ_EXAMPLES", "300"))
STEPS_MAX = 4000

# --- the grammar --------------------------------------------------------------

SMALL = st.integers(0, 12)
BIG = st.sampled_from([(1 << 62) - 1, 1 << 63, (1 << 64) - 1, 1 << 64, 1 << 200])
ATOMS = st.one_of(SMALL, SMALL, SMALL, BIG)
NOUNS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.builds(Cell, inner, inner), inner.map(lambda n: Cell(n, n))
    ),
    max_leaves=8,
)
AXES = st.one_of(
    st.integers(1, 15),
    st.integers(1, 15),
    st.integers(0, 127),
    st.sampled_from([1 << 31, (1 << 32) + 1, 1 << 64, (1 << 66) + 5, 1 << 300]),
)
# What the machine does something about, and what it does not.
DYNAMIC = st.sampled_from(
    [noun(tag) for tag in ("mean", "spot", "hunk", "lose", "memo", "live", "what")]
)
STATIC = st.sampled_from([noun("what"), noun("nara"), 0, 7])
SLOG = noun("slog")
FAST = noun("fast")

MINK = Jets().gate("qua/mink")


def quoted(n: Noun) -> Noun:
    return noun(1, n)


def mink(subject: Noun, formula: Noun, gate: Noun) -> Noun:
    """A call of +mink, wherever it stands."""
    sample = noun(((7, (0, 3), subject), 7, (0, 3), formula), 7, (0, 3), gate)
    return noun(8, MINK, 9, 2, 10, (6, sample), 0, 2)


def counted(count: int, body: Noun) -> Noun:
    """`count` times: the body's value in place of axis 2 of [x n trap subject]."""
    again = noun(9, 14, 10, (2, body), 10, (6, 4, 0, 6), 0, 1)
    trap = noun(6, (5, (1, count), 0, 6), (0, 2), again)
    return noun(8, (0, 1), 8, (1, trap), 7, ((0, 6), (1, 0), (0, 2), 0, 7), 9, 14, 0, 1)


# Where direct atoms end, and a little before that.
DIRECT_END = 1 << 63
STARTS = st.sampled_from([0, 0, 5, DIRECT_END - 30, DIRECT_END])


def rarely(
    rare: st.SearchStrategy[Noun], mostly: st.SearchStrategy[Noun]
) -> st.SearchStrategy[Noun]:
    return st.integers(0, 15).flatmap(lambda n: rare if n == 9 else mostly)


@st.composite
def counting(draw: st.DrawFn, inner: st.SearchStrategy[Noun]) -> Noun:
    """A call of a core [battery x y z] whose arm is, or looks like, a loop of
    counters (native/code.c); most of them are, and end."""
    start = draw(STARTS)
    near = st.integers(start, start + 6)
    odd = st.sampled_from([1, 2, 3, 7, 28, 30])
    axes = rarely(odd, st.sampled_from([6, 14, 15]))
    slots = axes.map(lambda axis: noun(0, axis))
    nexts = axes.map(lambda axis: noun(4, 0, axis))
    goals = rarely(near, st.integers(start + 9, start + 15)).map(quoted)
    values = st.one_of(slots, slots, nexts, nexts, goals)
    core = noun(0, 1)
    for axis in draw(st.sampled_from([(6,), (14,), (6, 14), (15, 6), (6, 14, 15)])):
        change = draw(
            rarely(st.one_of(nexts, values, inner), st.just(noun(4, 0, axis)))
        )
        core = noun(10, (draw(rarely(odd, st.just(axis))), change), core)
    loop = noun(9, 2, core)
    if draw(st.integers(0, 15)) == 9:
        loop = noun(11, (SLOG, (1, 2), 1, 3), loop)
    tests = rarely(inner, st.builds(lambda a, b: noun(5, a, b), values, goals))
    leaves = st.one_of(st.sampled_from([noun(0, 3), noun(0, 1)]), inner)
    for test in draw(st.lists(tests, min_size=1, max_size=3)):
        leave = draw(leaves)
        turned = draw(st.integers(0, 15)) == 9
        loop = noun(6, test, loop, leave) if turned else noun(6, test, leave, loop)
    x, y, z = (quoted(draw(rarely(NOUNS, near))) for _ in range(3))
    return noun(7, (quoted(loop), x, y, z), 9, 2, 0, 1)


def constants(inner: st.SearchStrategy[Noun]) -> st.SearchStrategy[Noun]:
    """What the compiler knows the outcome of, or some of it."""
    known = NOUNS.map(quoted)
    part = st.one_of(known, AXES.map(lambda axis: noun(0, axis)))
    made = st.one_of(
        st.builds(lambda a, b: noun(5, a, b), part, part),
        part.map(lambda a: noun(3, a)),
        part.map(lambda a: noun(4, a)),
        st.builds(Cell, part, part),
        part,
    )
    uses = st.one_of(
        made, st.builds(lambda t, a, b: noun(6, t, a, b), made, made, inner)
    )
    return st.one_of(
        st.builds(lambda a, b: noun(7, a, b), known, uses),
        st.builds(lambda a, b: noun(8, a, b), known, uses),
        st.builds(lambda a, b, c: noun(8, a, 8, b, c), known, inner, uses),
        uses,
    )


def compound(inner: st.SearchStrategy[Noun]) -> st.SearchStrategy[Noun]:
    quotes = st.one_of(inner.map(quoted), inner.map(quoted), inner)
    tests = st.one_of(
        st.builds(lambda a, b: noun(5, a, b), inner, inner),
        inner.map(lambda a: noun(3, a)),
        st.sampled_from([noun(1, 0), noun(1, 1)]),
        inner,
    )
    # A handler: a gate whose body sees [ref path] at 6.
    answers = st.one_of(
        st.sampled_from([noun(1, 0), noun(1, 0, 0), noun((1, 0), (1, 0), 0, 6)]), inner
    )
    gates = st.one_of(answers.map(lambda body: noun(1, body, 0, 0)), quotes)
    return st.one_of(
        st.builds(Cell, inner, inner),
        st.builds(lambda a, b: noun(2, a, b), inner, quotes),
        inner.map(lambda a: noun(3, a)),
        inner.map(lambda a: noun(4, a)),
        st.builds(lambda a, b: noun(5, a, b), inner, inner),
        st.builds(lambda t, a, b: noun(6, t, a, b), tests, inner, inner),
        st.builds(lambda a, b: noun(7, a, b), inner, inner),
        st.builds(lambda a, b: noun(8, a, b), inner, inner),
        st.builds(lambda n, a: noun(9, n, a), AXES, inner),
        st.builds(lambda f: noun(8, (1, f), 9, 2, 0, 1), inner),
        st.builds(lambda n, a, b: noun(10, (n, a), b), AXES, inner, inner),
        st.builds(lambda t, a: noun(11, t, a), STATIC, inner),
        st.builds(lambda t, c, a: noun(11, (t, c), a), DYNAMIC, inner, inner),
        st.builds(lambda c, a: noun(11, (SLOG, (1, 2), c), a), inner, inner),
        st.builds(lambda c, a: noun(11, (FAST, c), a), inner, inner),
        st.builds(lambda a, b: noun(12, a, b), inner, inner),
        st.builds(mink, inner, quotes, gates),
        st.builds(counted, st.integers(0, 40), inner),
        counting(inner),
        constants(inner),
    )


FORMULAS = st.recursive(
    st.one_of(
        AXES.map(lambda axis: noun(0, axis)),
        AXES.map(lambda axis: noun(0, axis)),
        NOUNS.map(quoted),
        st.one_of(NOUNS, st.builds(Cell, st.integers(0, 13), NOUNS)),
    ),
    compound,
    max_leaves=16,
)
SUBJECTS = st.one_of(
    NOUNS,
    st.builds(lambda f, g, a, b: noun((f, a), g, b), FORMULAS, FORMULAS, NOUNS, NOUNS),
)


# --- the comparison -----------------------------------------------------------


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(home_size=1 << 26, nursery_size=1 << 28)


def has(formula: Noun, tag: Noun) -> bool:
    """Does it hold this atom anywhere?"""
    todo, met = [formula], set()
    while todo:
        n = todo.pop()
        if n == tag:
            return True
        if isinstance(n, Cell) and id(n) not in met:
            met.add(id(n))
            todo += [n.head, n.tail]
    return False


def check(engine: Engine, subject: Noun, formula: Noun) -> str:
    """Compare; what the twin did, in a word or two."""
    twin = Machine(steps_max=STEPS_MAX)
    try:
        product: Noun | None = twin.nock(subject, formula)
        trace: Noun = 0
    except Crash as crash:
        product = None
        trace = listed([Cell(*entry) for entry in crash.trace])
    except (RuntimeError, RecursionError):
        return "too long to be told"
    answer = engine.nock(jam(Cell(subject, formula)), True)
    clues = [cue(clue) for clue in engine.clues()]
    if isinstance(answer, Crashed):
        assert answer.mote == "exit"
        assert product is None, f"%exit, not {product!r}"
        assert cue(answer.trace) == trace
    else:
        assert product is not None, f"{cue(answer.jam)!r}, not %exit"
        assert cue(answer.jam) == product
    # What is remembered is not printed again.
    if not has(Cell(subject, formula), noun("memo")):
        assert clues == twin.slogs
    steps = "few" if twin.steps < 10 else "some" if twin.steps < 100 else "many"
    return f"{'crash' if product is None else 'product'} after {steps} steps"


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(SUBJECTS, FORMULAS)
def test_random_formulas_do_the_same(
    engine: Engine, subject: Noun, formula: Noun
) -> None:
    event(check(engine, subject, formula))


def test_the_grammar_makes_what_it_means(engine: Engine) -> None:
    """Loops, minks and handlers do run in both."""
    increments = counted(30, noun(4, 0, 2))
    assert Machine().nock(5, increments) == 35
    check(engine, 5, increments)
    asked = mink(
        noun(1, 7),
        noun(1, (12, (1, 8), 1, 4), 0, 1),
        noun(1, (((1, 0), (1, 0), 0, 6)), 0, 0),
    )
    assert Machine().nock(0, asked) == noun(0, (8, 4), 7)
    check(engine, 0, asked)
    crashed = noun(
        11,
        (noun("mean"), 1, 1),
        mink(noun(1, 7), noun(1, 12, (1, 8), 1, 4), noun(1, (0, 0), 0, 0)),
    )
    with pytest.raises(Crash):
        Machine().nock(0, crashed)
    check(engine, 0, crashed)


# --- what the compiler makes of them ------------------------------------------


@pytest.fixture(scope="module")
def watched() -> Engine:
    """Runs the machine's other loop, which counts."""
    engine = Engine(home_size=1 << 26, nursery_size=1 << 28)
    engine.probe()
    return engine


def ran(engine: Engine, name: str) -> int:
    return engine.stats().get(f"instructions:{name}", 0)


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(counting(NOUNS.map(quoted)))
def test_loops_of_counters_do_the_same(
    engine: Engine, watched: Engine, formula: Noun
) -> None:
    rounds = ran(watched, "ROUND")
    told = check(watched, 0, formula)
    event(f"{told}, {'counted' if ran(watched, 'ROUND') > rounds else 'by calls'}")
    check(engine, 0, formula)


@settings(max_examples=EXAMPLES, deadline=None)
@given(NOUNS, constants(st.one_of(NOUNS.map(quoted), AXES.map(lambda a: noun(0, a)))))
def test_constants_do_the_same(engine: Engine, subject: Noun, formula: Noun) -> None:
    event(check(engine, subject, formula))


UP = noun(10, (6, 4, 0, 6), 0, 1)
BOTH = noun(10, (14, 4, 0, 14), UP)
IS_100 = noun(5, (0, 6), 1, 100)
# The arm, its payload, and how often it calls itself: once where the call's
# site does not know it yet, and the rest of its rounds are counted.
LOOPS = {
    "decrement": (noun(6, (5, (0, 7), 4, 0, 6), (0, 6), 9, 2, UP), (0, 100), 1),
    "to a constant": (noun(6, IS_100, (0, 1), 9, 2, UP), (0, 9), 1),
    "two counters": (noun(6, (5, (0, 6), 0, 15), (0, 3), 9, 2, BOTH), (0, 7, 50), 1),
    "two tests": (
        noun(6, (5, (0, 6), 0, 14), (1, 0), 6, (5, (0, 6), 0, 15), (1, 1), 9, 2, UP),
        (0, 70, 50),
        1,
    ),
    "while equal": (
        noun(6, IS_100, (0, 3), 6, (5, (0, 6), 0, 14), (9, 2, BOTH), 1, 1),
        (0, 0, 3),
        1,
    ),
    "large atoms": (
        noun(6, (5, (0, 6), 0, 7), (0, 3), 9, 2, UP),
        (DIRECT_END - 50, DIRECT_END + 5),
        55,
    ),
    "a cell to compare with": (
        noun(6, (5, (0, 6), 0, 14), (0, 3), 6, IS_100, (0, 3), 9, 2, UP),
        (0, (1, 2), 3),
        100,
    ),
    "a hint": (noun(6, IS_100, (0, 3), 9, 2, 11, 7, UP), (0, 9), 100),
    "a move": (noun(6, IS_100, (0, 3), 9, 2, 10, (7, 0, 6), UP), (0, 9), 100),
    "what holds the counter": (
        noun(6, (5, (0, 3), 1, 9), (0, 3), 6, IS_100, (0, 3), 9, 2, UP),
        (0, 9),
        100,
    ),
}


@pytest.mark.parametrize("name", LOOPS)
def test_loops_of_counters_are_counted(
    engine: Engine, watched: Engine, name: str
) -> None:
    loop, payload, calls = LOOPS[name]
    formula = noun(7, (quoted(loop), quoted(noun(payload))), 9, 2, 0, 1)
    before = ran(watched, "TSLAM") + ran(watched, "TKICK")
    check(engine, 0, formula)
    assert check(watched, 0, formula).startswith("product")
    assert ran(watched, "TSLAM") + ran(watched, "TKICK") - before == calls + 1


# A formula on [3 4], and its program: names of instructions alone.
FOLDS = {
    "equal": (noun(5, (1, 7), 1, 7), "RETK"),
    "not equal": (noun(5, (1, 7), 1, 1, 2), "RETK"),
    "large, left": (noun(5, (1, 1 << 80), 1, 1 << 81), "LDK LDK EQ RET"),
    "a cell": (noun(3, 1, 1, 2), "RETK"),
    "no cell": (noun(3, 1, 1), "RETK"),
    "increment": (noun(4, 4, 1, 6), "RETK"),
    "of a cell, left": (noun(4, 1, 1, 2), "LDK INC RET"),
    "subject": (noun(7, (1, (1, 2), 3), 4, 0, 5), "LDK RETK"),
    "no such part": (noun(7, (1, (1, 2), 3), 0, 8), "LDK LDP RET"),
    "pushed": (noun(8, (1, (1, 2), 3), 4, 0, 9), "CONSK RETK"),
    "pushed twice": (noun(8, (1, 9), 8, (1, 5), 4, 0, 6), "CONSK CONSK RETK"),
    "below a push": (noun(8, (1, 9), 0, 6), "CONSK LD2 RET"),
    "cell": (noun((1, 9), 0, 2), "LD2 CONSK RET"),
    "cell of two": (noun((1, 9), 1, 8), "LDK CONSK RET"),
    "yes": (noun(6, (5, (1, 2), 1, 2), (0, 2), 0, 0), "LD2 RET BAIL"),
    "no": (noun(6, (3, 1, 2), (0, 0), 0, 2), "JMP BAIL LD2 RET"),
    "neither": (
        noun(6, (7, (1, 2, 3), 0, 2), (0, 2), 0, 3),
        "LDK BAIL LD2 RET LD3 RET",
    ),
}


@pytest.mark.parametrize("name", FOLDS)
def test_constants_are_folded(engine: Engine, name: str) -> None:
    formula, program = FOLDS[name]
    check(engine, noun(3, 4), formula)
    text = engine.disassemble(jam(Cell(noun(3, 4), formula))).split("\n\n")[0]
    assert [line.split()[1] for line in text.splitlines()[2:]] == program.split()
