"""The embedded kernel on the real machine: the same as on the plain one."""

from __future__ import annotations

from functools import cache

import pytest

from king.pill.build import HERE
from king.pill.compiler import Program, compile_expression, load
from proto.jam import cue, jam
from proto.message import Done, Jam, Row, Slog, Work
from proto.mug import mug
from proto.noun import Noun, items, noun, slot
from serf.engine import Crashed, Engine
from tests.support.nock import Crash, Machine
from tests.support.pill_ship import START, TICK, Ship, path, pill_noun, printed

TERM = noun("d", path("term", "1"))
WEB = noun("e", path("http-server", "0v1", "7", "1"))


class Native(Ship):
    """The same ship, each event given to the C machine as well; both must
    answer alike, and end as equal kernels."""

    def __init__(self) -> None:
        self.engine = Engine(home_size=1 << 28)
        rows = items(slot(pill_noun(), 14))
        assert self.engine.play(len(rows), [Row(0, jam(row)) for row in rows]) is None
        self.requests = 0
        super().__init__()

    def poke(self, wire: Noun, card: Noun) -> list[Noun]:
        expected = super().poke(wire, card)
        assert self.native(wire, card) == expected
        assert self.engine.mug == mug(self.kernel)
        return expected

    def native(self, wire: Noun, card: Noun, deadline_ms: int = 0) -> list[Noun]:
        """Poke the C machine alone; the effects."""
        self.requests += 1
        job = Jam(jam(noun(self.now, wire, card)))
        work = Work(self.requests, deadline_ms, job)
        pleas = [p for batch in self.engine.work([work]) for p in batch]
        (done,) = [plea for plea in pleas if not isinstance(plea, Slog)]
        assert isinstance(done, Done), done
        return [
            noun([_atom(k) for k in e.wire], (_atom(e.tag), cue(e.data)))
            for e in done.effects
        ]


def _atom(data: bytes) -> int:
    return int.from_bytes(data, "little")


@pytest.fixture(scope="module")
def ship() -> Native:
    return Native()


def test_a_session_is_the_same_on_both_machines(ship: Native) -> None:
    ship.term("born", 0)
    ship.term("blew", 60, 20)
    for line in (
        "help",
        "2 * (3 - 4) / 5",
        "123456789012345678901234567890 * 987654321098765432109876543210 % 1000000007",
        "set größe 3 m",
        "get größe",
        "list",
        "mass",
        "grow 2000",
        "timer 1.25 tea",
        "timers",
        "nonsense",
        "drop",
        "time",
    ):
        ship.say(line)
    for key in (("aro", "u"), ("aro", "l"), ("mod", "ctl", "a"), ("mod", "ctl", "k")):
        ship.key(*key)
    for method, url, body in (
        ("PUT", "/kv/a%20b", b"value\0\0"),
        ("PUT", "/kv/big", b"\xff" * 50_000),
        ("GET", "/kv/a%20b", None),
        ("GET", "/kv/big", None),
        ("GET", "/kv", None),
        ("GET", "/", None),
        ("GET", "/status", None),
        ("DELETE", "/kv/big", None),
    ):
        ship.http(method, url, body)
    for i in range(60):
        ship.http("PUT", f"/kv/k{i}", b"v")
    for i in range(0, 60, 2):
        ship.http("DELETE", f"/kv/k{i}")
    ship.now += 4 * TICK
    ship.poke(noun("b", path("behn")), noun("wake", 0))


def test_crash_and_spin_become_crud_events(ship: Native) -> None:
    ship.write("crash")
    assert printed(ship.native(TERM, noun("belt", "ret", 0))) == [
        "~zod:treadle> crash",
        "! %belt event crashed: %exit",
        "  you asked for a crash",
    ]
    ship.native(TERM, noun("belt", "txt", [ord(c) for c in "spin"]))
    lines = printed(ship.native(TERM, noun("belt", "ret", 0), deadline_ms=200))
    assert lines[1] == "! %belt event crashed: %intr"


def test_jets_and_bodies_make_equal_kernels() -> None:
    """The whole of a life, boot included, with and without jets."""
    cards = [
        noun("blew", 24, 5),
        noun("belt", "txt", [97, 98]),
        noun("belt", "aro", "l"),
        noun("belt", "bac", 0),
        noun("belt", "mod", "ctl", "e"),
    ]
    rows = items(slot(pill_noun(), 14))
    events = [noun(START + i * TICK, TERM, card) for i, card in enumerate(cards)]
    task = jam(noun([*rows, *events], (2, (0, 3), 0, 2)))
    engine = Engine(home_size=1 << 26)
    results = [engine.nock(task, jets) for jets in (True, False)]
    assert not any(isinstance(result, Crashed) for result in results)
    assert results[0].jam == results[1].jam


@cache
def library() -> Program:
    return load(HERE / "library.loom")


BIG = (1 << 200) + 12345
TEXT = "'the quick brown fox'"


@pytest.mark.parametrize(
    "source",
    [
        f"(add {BIG} {BIG})",
        f"(sub {BIG} 1)",
        f"(sub 1 {BIG})",
        f"(dec {BIG})",
        "(dec 0)",
        f"(mul {BIG} {BIG})",
        f"(dvr {BIG} 1_000_003)",
        f"(div {BIG} 97)",
        f"(mod {BIG} 97)",
        "(div 1 0)",
        f"[(lth 1 {BIG}) (lte {BIG} {BIG}) (gth 1 {BIG}) (gte {BIG} 1)]",
        f"[(max 1 {BIG}) (min 1 {BIG})]",
        f"(cap {BIG})",
        f"(mas {BIG})",
        f"(peg {BIG} 13)",
        "(bex 300)",
        f"(xeb {BIG})",
        f"(lsh 3 {TEXT})",
        f"(lsh [2 5] {TEXT})",
        f"(rsh 3 {TEXT})",
        f"(rsh [2 5] {TEXT})",
        f"(end 3 {TEXT})",
        f"(end [3 5] {TEXT})",
        f"(cut 3 [4 5] {TEXT})",
        f"(met 3 {TEXT})",
        f"(met 0 {BIG})",
        f"(cat 3 {TEXT} 'es')",
        f"(can 3 (list [3 {TEXT}] [0 5] [2 'abc']))",
        f"(rap 3 (list {TEXT} '' 'x'))",
        f"(rep 3 (list 1 0 {BIG} 0))",
        f"(rep [3 2] (list 1 0 {BIG}))",
        f"(rip 3 {TEXT})",
        f"(rip [3 4] {TEXT})",
        "(rip 0 5)",
        f"(rev 3 25 {TEXT})",
        f"(swp 3 {TEXT})",
        f"[(con {BIG} 6) (dis {BIG} 6) (mix {BIG} {BIG})]",
        "(pow 7 100)",
        f"(mug [1 {TEXT} {BIG}])",
        "[(dor 1 2) (dor [1 2] [1 3]) (dor 1 [1 2]) (dor [1 2] 1)]",
        "[(gor 1 2) (gor 2 1) (mor 1 2) (mor 'a' 'b') (gor 3 3)]",
        f"(jam [1 {TEXT} [2 {TEXT}] [2 {TEXT}]])",
        f"(cue (jam [1 {TEXT} [2 {TEXT}] [2 {TEXT}]]))",
        "(mat 1000)",
        "(rub 3 (lsh [0 3] (tail (mat 1000))))",
        "(lent (list 1 2 3))",
        "(lent [1 2])",
        "(flop (list 1 2 3))",
        "(weld (list 1 2) [3 4])",
        "(zing (list (list 1) ~ (list 2 3)))",
        "(snag 2 (list 1 2 3))",
        "(snag 3 (list 1 2 3))",
        "[(scag 2 (list 1 2 3)) (scag 5 (list 1)) (slag 2 (list 1 2 3)) (slag 5 ~)]",
        "(reap 4 [1 2])",
        "(turn (list 1 2 3) (fn (x) [x x]))",
        "(roll (list 1 2 3) (fn (x acc) [x acc]))",
        "(reel (list 1 2 3) (fn (x acc) [x acc]))",
        "[(levy (list 1 2) (fn (x) (> x 1))) (levy ~ (fn (x) (crash)))]",
        "[(lien (list 1 2) (fn (x) (> x 1))) (lien ~ (fn (x) (crash)))]",
        "[(skim (list 1 2 3) (fn (x) (> x 1))) (skip (list 1 2 3) (fn (x) (> x 1)))]",
        "(skid (list 1 2 3) (fn (x) (> x 1)))",
        "(murn (list 1 2 3) (fn (x) (if (= x 2) ~ [~ x])))",
        "(sort (list 5 3 9 1 3) (fn (a b) (< a b)))",
        "(turn (list 1 2) (fn (x) (crash)))",
    ],
)
def test_native_jets_take_our_samples(source: str) -> None:
    formula = compile_expression(source, library())
    found = Engine(home_size=1 << 26).nock(jam(noun(0, formula)), True)
    try:
        expected = Machine().nock(0, formula)
    except Crash:
        assert isinstance(found, Crashed)
        assert found.mote == "exit"
        return
    assert not isinstance(found, Crashed)
    assert cue(found.jam) == expected
