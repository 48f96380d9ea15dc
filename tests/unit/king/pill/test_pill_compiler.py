"""Loom: the language, its errors, and that library gates keep their promises."""

from __future__ import annotations

import re
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from king.pill.build import HERE
from king.pill.compiler import (
    LoomError,
    Program,
    code_formula,
    compile_expression,
    library_formula,
    load,
    parse,
)
from king.pill.expressions import Compiler
from king.pill.reader import read
from proto.jam import cue, jam
from proto.mug import mug
from proto.noun import Noun, noun
from tests.support.nock import Crash, Machine


@cache
def library() -> Program:
    return load(HERE / "library.loom")


def run(expression: str, *, jets: bool = True, program: Program | None = None) -> Noun:
    formula = compile_expression(expression, program or library())
    return Machine(jets=jets).nock(0, formula)


def define(text: str) -> Program:
    return parse(f"(use 'library.loom') {text}", "try.loom", HERE)


# --- the language ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("42", 42),
        ("0xff_ff", 0xFFFF),
        ("1_000", 1000),
        ("'a\\x00b\\n'", noun(b"a\0b\n")),
        ('"aé"', noun([97, 233])),
        ("%term", noun("term")),
        ("[1 2 %x ~]", noun(1, 2, "x", 0)),
        ("(list 1 2)", noun([1, 2])),
        ("(if (= 1 1) 5 6)", 5),
        ("(if (not (= 1 1)) 5 6)", 6),
        ("(if yes 5 (crash))", 5),
        ("(cond ((= 1 2) 1) ((= 2 2) 2) (else 3))", 2),
        ("(and yes yes no)", 1),
        ("(or no no yes)", 0),
        ("(and)", 0),
        ("(or)", 1),
        ("(!= 1 2)", 0),
        ("(let (x 1 y [x 2] [a b] y) (list b a))", noun([2, 1])),
        ("(let ((as whole [a _]) [7 8]) [whole a])", noun((7, 8), 7)),
        ("(let (x 1 x (inc x)) x)", 2),
        ("(case 2 (1 %one) ((2 3) %few) (else %many))", noun("few")),
        ("(case (inc 8) (1 %one) (else %many))", noun("many")),
        ("(match [%a 7 8] ([%a x _] x) (else 0))", 7),
        ("(match [%b 7] ([%a x] x) ([(or %b %c) x] [x x]) (else 0))", noun(7, 7)),
        ("(match 5 ([a b] a) ((atom n) (inc n)) (else 0))", 6),
        ("(match [1 2] ((cell c) (tail c)) (else 0))", 2),
        ("(match [%a [1 2]] ([%a [x ~]] 1) ([%a [x 2]] 2) (else 3))", 2),
        ("(loop go (i 0 l ~) (if (= i 3) l (go (inc i) [i l])))", noun([2, 1, 0])),
        (
            "(loop a (i 0) (if (= i 3) ~ [(loop b (j 0) (if (= j i) j (b (inc j))))"
            " (a (inc i))]))",
            noun([0, 1, 2]),
        ),
        (
            "(loop a (i 0) (loop b (j i) (if (= j 9) [i j] (if (= j 4) (a 7)"
            " (b (inc j))))))",
            noun(7, 9),
        ),
        ("(let (k 10) (call (fn (x y) (+ k (+ x y))) 1 2))", 13),
        ("(turn (list 1 2 3) (fn (x) (* x x)))", noun([1, 4, 9])),
        ("(skim (list 1 2 3) (fn (x) (> x 1)))", noun([2, 3])),
        ("(sort (list 3 1 2) (fn (a b) (< a b)))", noun([1, 2, 3])),
        ("(at 6 [1 2 3])", 2),
        ("(head (tail [1 2 3]))", 2),
        ("(nock 5 [4 0 1])", 6),
        ("(cord 'ab' 'c')", noun("abc")),
        ("(cell? [1 2])", 0),
        ("(atom? [1 2])", 1),
        ("(- 7 3)", 4),
    ],
)
def test_expressions_have_their_values(source: str, value: Noun) -> None:
    assert run(source) == value


def test_functions_call_each_other_and_destructure() -> None:
    program = define(
        """
        (define (even n) (if (= n 0) yes (odd (dec n))))
        (define (odd n) (if (= n 0) no (even (dec n))))
        (define (swap [a b] c) [b a c])
        (define (nothing) %none)
        """
    )
    assert run("(even 10)", program=program) == 0
    assert run("(swap [1 2] 3)", program=program) == noun(2, 1, 3)
    assert run("(nothing)", program=program) == noun("none")


def test_records_are_read_updated_and_nested() -> None:
    program = define(
        """
        (record point x y)
        (record line from:point to:point name)
        (define (shift l:line)
          (with l from.x (inc l.from.x) name [l.name l.to.y]))
        (define (origin) (make line (from [0 0]) (to [3 4]) (name %o)))
        """
    )
    assert run("(shift (origin))", program=program) == noun(
        (1, 0), (3, 4), (noun("o"), 4)
    )


def test_constants_fold_into_literals() -> None:
    program = define("(const base [1 2]) (const more [base %x])")
    formula = compile_expression("more", program)
    assert formula.tail.tail == noun(1, (1, 2), "x")


def test_mean_leaves_a_trace() -> None:
    with pytest.raises(Crash) as caught:
        run("(mean 'outer' (mean 'inner' (crash)))")
    assert [clue for _, clue in caught.value.trace] == [noun("inner"), noun("outer")]


def test_slog_prints() -> None:
    machine = Machine()
    assert machine.nock(0, compile_expression("(slog 2 'hello' 7)", library())) == 7
    assert machine.slogs == [noun(2, "hello")]


def test_what_the_readme_shows_is_so() -> None:
    text = (HERE / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```(loom|loom-values)\n(.*?)```", text, re.DOTALL)
    assert [kind for kind, _ in blocks] == ["loom", "loom-values"]
    program = parse(blocks[0][1], "README.md", HERE)
    lines = blocks[1][1].splitlines()
    assert len(lines) > 10
    for line in lines:
        shown, value = re.split(r"\s{2,}", line)
        assert run(f"(= {shown} {value})", program=program) == 0, line


# --- errors -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "place", "message"),
    [
        ("(define (f) x)", "try.loom:2:13", "unbound name 'x'"),
        ("(define (f) (g 1))", "try.loom:2:13", "unbound name 'g'"),
        ("(define (f a) 1)\n(define (g) (f))", "try.loom:3:13", "takes 1 arguments"),
        ("(define (f) (add 1))", "try.loom:2:13", "takes 2 arguments, not 1"),
        ("(define (f a) (a 1))", "try.loom:2:15", "use (call a"),
        ("(define (f) (loop go (i 0) (go)))", "try.loom:2:28", "takes 1 arguments"),
        ("(define (f a a) a)", "try.loom:2:14", "'a' is bound twice"),
        ("(define (f [a 1]) a)", "try.loom:2:15", "may fail to match"),
        ("(define (if a) a)", "try.loom:2:10", "taken"),
        ("(define (f a) a)(define (f b) b)", "try.loom:2:26", "taken"),
        ("(define (f) (if 1 2))", "try.loom:2:13", "expected 3 parts"),
        ("(define (f a) (match a (1 2)))", "try.loom:2:15", "must be (else value)"),
        ("(const x (add 1 2))", "try.loom:2:10", "not constant"),
        ("(record r a b)(define (f r:r) r.c)", "try.loom:2:31", "has no field 'c'"),
        ("(define (f r) r.c)", "try.loom:2:15", "no record here"),
        (
            "(record r a b)(define (f) (make r (a 1)))",
            "try.loom:2:27",
            "no value for b",
        ),
        ("(fun 1)", "try.loom:2:1", "unknown definition 'fun'"),
        ("(define (f) (1 2)", "try.loom:2:1", "never closed"),
        ("(define (f) 1])", "try.loom:2:14", "unexpected ']'"),
        ("(const x 'abc\n)", "try.loom:2:10", "unterminated string"),
        ("(const x 12ab)", "try.loom:2:10", "bad number"),
        ("(use 'nowhere.loom')", "try.loom:2:1", "no file 'nowhere.loom'"),
    ],
)
def test_errors_name_the_place(source: str, place: str, message: str) -> None:
    def compile_all() -> None:
        program = parse(f"(use 'library.loom')\n{source}", "try.loom", HERE)
        code_formula(Compiler(program))

    with pytest.raises(LoomError, match=re.escape(message)) as caught:
        compile_all()
    assert str(caught.value.place) == place


def test_a_gate_cannot_call_into_a_later_layer() -> None:
    text = "(root %k 138) (layer one) (gate (f a) (g a)) (layer two) (gate (g a) a)"
    with pytest.raises(LoomError, match="later layer"):
        library_formula(Compiler(parse(text)))


def test_reader_counts_lines_through_raw_strings() -> None:
    forms = read("'''a\nb''' ; note\n x", "f")
    assert [(f.place.line, f.place.column) for f in forms] == [(1, 1), (3, 2)]


# --- the library ------------------------------------------------------------------

SMALL = st.integers(0, 30)


@settings(max_examples=12, deadline=None)
@given(SMALL, SMALL)
def test_numbers_are_counted_right_without_jets(a: int, b: int) -> None:
    names = ("add", "mul", "lth", "lte", "gth", "gte", "max", "min")
    source = "[" + " ".join(f"({name} {a} {b})" for name in names) + "]"
    assert run(source, jets=False) == run(source, jets=True)
    if b:
        assert run(f"(dvr {a} {b})", jets=False) == noun(*divmod(a, b))
    if a < b:
        with pytest.raises(Crash):
            run(f"(sub {a} {b})", jets=False)
    else:
        assert run(f"(sub {a} {b})", jets=False) == a - b


@settings(max_examples=12, deadline=None)
@given(SMALL, SMALL, st.integers(0, 2), st.integers(0, 3), st.integers(0, 3))
def test_bits_agree_with_their_jets(a: int, b: int, bloq: int, n: int, m: int) -> None:
    sources = [
        f"(mix {a} {b})",
        f"(con {a} {b})",
        f"(dis {a} {b})",
        f"(cut {bloq} [{n} {m}] {a})",
        f"(end [{bloq} {n}] {a})",
        f"(rsh [{bloq} {n}] {a})",
        f"(lsh {bloq} {b})",
        f"(met {bloq} {a})",
        f"(cat 1 {a % 8} {b % 8})",
        f"(rip {bloq} {a})",
        f"(rap 1 (list {a % 4} {b % 4}))",
        f"(rep {bloq} (list {a % 4} {b % 4}))",
        f"(rev 1 4 {a})",
        f"(can 0 (list [2 {a}] [3 {b}]))",
    ]
    source = "[" + " ".join(sources) + "]"
    assert run(source, jets=False) == run(source, jets=True)


@pytest.mark.parametrize(
    "source",
    [
        "(lent (list 1 2 3))",
        "(flop (list 1 2 3))",
        "(weld (list 1 2) (list 3))",
        "(scag 2 (list 1 2 3))",
        "(slag 2 (list 1 2 3))",
        "(snag 1 (list 1 2 3))",
        "(bex 5)",
        "(dor [1 2] [1 3])",
        "(dor 3 [1 2])",
        "(jam 1)",
        "(jam [0 0])",
        "(cue 12)",
        "(cue 41)",
    ],
)
def test_lists_and_others_agree_with_their_jets(source: str) -> None:
    assert _bodies(source) == run(source)


NUMBERS = frozenset(
    ["dec", "add", "sub", "mul", "div", "mod", "dvr", "lth", "lte", "gth", "gte"]
)
BITS = frozenset(["mix", "con", "bex", "lsh", "rsh", "end", "met", "cut", "cat"])


def _bodies(
    source: str, jets: frozenset[str] = NUMBERS, program: Program | None = None
) -> Noun:
    """Evaluate with these jets only: numbers would be counted for hours."""
    formula = compile_expression(source, program or library())
    return Machine(jets=jets).nock(0, formula)


NOUNS = st.recursive(
    st.integers(0, 1 << 40),
    lambda inner: st.tuples(inner, inner).map(lambda pair: noun(pair)),
    max_leaves=5,
)


@settings(max_examples=8, deadline=None)
@given(NOUNS)
def test_mug_jam_and_cue_bodies_agree_with_python(value: Noun) -> None:
    packed = int.from_bytes(jam(value), "little")
    program = parse(
        f"(use 'library.loom') (const packed {packed})(define (value) (cue packed))",
        "try.loom",
        HERE,
    )
    source = "[(mug (value)) (value) (jam (value))]"
    result = _bodies(source, NUMBERS | BITS | {"gor", "mor"}, program)
    assert result == noun(mug(value), cue(jam(value)), packed)


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("(roll (list 1 2 3) (fn (x acc) (+ x acc)))", 6),
        ("(reel (list 1 2 3) (fn (x acc) [x acc]))", noun([1, 2, 3])),
        ("(levy (list 1 2) (fn (x) (> x 0)))", 0),
        ("(lien (list 1 2) (fn (x) (> x 2)))", 1),
        ("(skid (list 1 2 3) (fn (x) (> x 1)))", noun([2, 3], [1])),
        ("(skip (list 1 2 3) (fn (x) (> x 1)))", noun([1])),
        ("(murn (list 1 2 3) (fn (x) (if (= x 2) ~ [~ x])))", noun([1, 3])),
        ("(zing (list (list 1) (list 2 3)))", noun([1, 2, 3])),
        ("(reap 3 7)", noun([7, 7, 7])),
        ("(cap 5)", 2),
        ("(mas 5)", 3),
        ("(peg 5 6)", 22),
        ("(xeb 9)", 4),
        ("(pow 3 4)", 81),
        ("(need [~ 5])", 5),
        ("(swp 3 'abc')", noun("cba")),
        ("(mat 0)", noun(1, 1)),
        ("(mat 5)", noun(7, 0b1011100)),
        ("(rub 0 92)", noun(7, 5)),
    ],
)
def test_gates_compute_what_hoon_says(source: str, value: Noun) -> None:
    assert run(source) == value
