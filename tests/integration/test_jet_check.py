"""`--jet-check`: our jets agree with the Nock they stand for, and a jet that
does not is told.

The embedded kernel's whole life, the library's functions on our samples and
the piers that Vere wrote, each jet compared; then jets that are made wrong by
registering other code under their names.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from king.pill.build import HERE
from king.pill.compiler import compile_expression, load
from proto.jam import cue, jam
from proto.message import Bail, Done, Jam, Row, Slog, Work
from proto.noun import Noun, items, noun, slot
from serf.engine import Crashed, Engine, Evaluated
from tests.support.golden import PIERS, expected, unpack
from tests.support.pill_ship import START, TICK, path, pill_noun
from tests.support.serf_rig import ROOT, boot_row, core, job
from tests.support.whole_ship import WholeShip, treadle

DONE = noun("news", "done")
TERM = noun("d", path("term", "1"))
WEB = noun("e", path("http-server", "0v1", "7", "1"))


class Checked:
    """The embedded kernel with every jet checked."""

    def __init__(self) -> None:
        self.engine = Engine(home_size=1 << 28)
        self.engine.probe(check=True)
        rows = items(slot(pill_noun(), 14))
        assert self.engine.play(len(rows), [Row(0, jam(row)) for row in rows]) is None
        self.requests = 0
        self.poke(noun(0, path("arvo")), noun("whom", 0))

    def poke(self, wire: Noun, card: Noun) -> None:
        self.requests += 1
        job = Jam(jam(noun(START + self.requests * TICK, wire, card)))
        pleas = [
            plea
            for batch in self.engine.work([Work(self.requests, 0, job)])
            for plea in batch
            if not isinstance(plea, Slog)
        ]
        assert isinstance(pleas[0], Done), pleas
        assert pleas[0].job is None, "the event crashed"

    def say(self, line: str) -> None:
        self.poke(TERM, noun("belt", "txt", [ord(c) for c in line]))
        self.poke(TERM, noun("belt", "ret", 0))

    def http(self, method: str, url: str, body: bytes | None = None) -> None:
        unit = 0 if body is None else noun(0, len(body), body)
        card = noun("request", 1, ("ipv4", 0x7F000001), (method, url, 0, unit))
        self.poke(WEB, card)


def test_the_embedded_kernel_is_right_on_our_jets() -> None:
    ship = Checked()
    ship.poke(TERM, noun("born", 0))
    ship.poke(TERM, noun("blew", 60, 20))
    for line in (
        "help",
        "2 * (3 + 4) / 5",
        "1234567890123456789012345 * 98765432109876543210 % 1000000007",
        "set size 3 m",
        "get size",
        "list",
        "mass",
        "grow 100",
        "timer 1.25 tea",
        "time",
    ):
        ship.say(line)
    for key in (("aro", "u"), ("aro", "l"), ("mod", "ctl", "a"), ("bac", 0)):
        ship.poke(TERM, noun("belt", *key))
    ship.http("PUT", "/kv/a%20b", b"value\0\0")
    ship.http("PUT", "/kv/big", b"\xff" * 2000)
    for url in ("/kv/a%20b", "/kv", "/", "/status"):
        ship.http("GET", url)
    ship.http("DELETE", "/kv/big")
    arms = [arm for arm in ship.engine.arms() if arm.hits]
    assert len(arms) > 10
    assert sum(arm.checked for arm in arms) > 500
    assert [arm.path for arm in arms if arm.wrong] == []


BIG = (1 << 200) + 12345


@pytest.mark.parametrize(
    "source",
    [
        f"(add {BIG} {BIG})",
        f"(sub {BIG} 1)",
        "(sub 1 2)",
        "(dvr 1000 7)",
        "(div 1 0)",
        f"[(lth 1 {BIG}) (lte {BIG} {BIG}) (gth 1 2) (max 1 2) (min 1 2)]",
        "[(cap 6) (mas 6) (peg 6 13) (bex 30) (xeb 300)]",
        "[(lsh 3 'abc') (rsh 3 'abc') (end 3 'abc') (cut 3 [1 1] 'abc') (met 3 'abc')]",
        "[(cat 3 'ab' 'c') (can 3 (list [3 'abc'] [2 'de'])) (rap 3 (list 'a' 'bc'))]",
        "[(rep 3 (list 1 0 7)) (rip 3 'abcd') (rev 3 4 'abcd') (swp 3 'abcd')]",
        "[(con 12 6) (dis 12 6) (mix 12 6) (pow 3 5)]",
        "[(jam [1 'abc' [1 2]]) (cue (jam [1 'abc' [1 2]])) (mat 100)]",
        "[(dor 1 2) (gor 1 2) (mor 1 2)]",
        "[(lent (list 1 2)) (flop (list 1 2)) (weld (list 1) [2 ~]) (snag 1 [1 2 ~])]",
        "(turn (list 1 2 3) (fn (x) (add x x)))",
        "(turn (list 1 2) (fn (x) (crash)))",
        "(roll (list 1 2 3) (fn (x acc) (add x acc)))",
        "(skim (list 1 2 3) (fn (x) (> x 1)))",
        "[(levy (list 1 2) (fn (x) (> x 1))) (lien (list 1 2) (fn (x) (> x 1)))]",
        "(sort (list 5 3 9 1 3) (fn (a b) (< a b)))",
    ],
)
def test_a_check_changes_no_answer(source: str) -> None:
    task = jam(noun(0, compile_expression(source, load(HERE / "library.loom"))))
    plain = Engine(home_size=1 << 26)
    checked = Engine(home_size=1 << 26)
    checked.probe(check=True)
    want, got = plain.nock(task, True), checked.nock(task, True)
    assert type(want) is type(got)
    if isinstance(want, Crashed):
        assert isinstance(got, Crashed)
        assert (got.mote, got.trace) == (want.mote, want.trace)
    else:
        assert isinstance(got, Evaluated)
        assert got.jam == want.jam
    assert [arm.path for arm in checked.arms() if arm.wrong] == []
    # Somewhere in it there was a jet to check.
    assert sum(arm.checked + arm.unchecked for arm in checked.arms()) > 0


@pytest.mark.parametrize("case", PIERS)
def test_piers_of_vere_replay_with_every_jet_checked(case: str, tmp_path: Path) -> None:
    expect = expected(case)
    pier = unpack(case, tmp_path)
    ran = treadle("replay", pier, "--from-scratch", "--jet-check", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["mug"] == expect["final_mug"]
    assert [path for path, row in ran.json["jets"].items() if "wrong" in row] == []


# --- jets made wrong ---------------------------------------------------------


SAMPLE = noun(7, 3)


def registered(
    name: str,
    body: Noun,
    *,
    layers: Sequence[str] = ("one",),
    sample: Noun = SAMPLE,
) -> Noun:
    """A formula: the gate of /k138/`layers`/`name` with `body`, in any subject."""

    def hint(name: Noun, parent: Noun, formula: Noun) -> Noun:
        return noun(11, ("fast", 1, name, parent, 0), formula)

    root = hint(noun("k", 138), noun(1, 0), noun((1, 0, 0), 1, 138))
    gate = hint(noun(name), noun(0, 7), noun((1, body), (1, sample), 0, 1))
    for layer in reversed(layers):
        core = hint(noun(layer), noun(0, 3), noun((1, 0, 0), 0, 1))
        gate = noun(7, core, gate)
    return noun(7, root, gate)


CALL = noun(9, 2, 0, 1)
SPIN = noun(8, (1, 9, 2, 0, 1), 9, 2, 0, 1)


def run(formula: Noun, *, check: bool = True) -> tuple[Evaluated | Crashed, Engine]:
    engine = Engine(home_size=1 << 26)
    engine.probe(check=check)
    return engine.nock(jam(noun(0, formula)), True), engine


@pytest.mark.parametrize("tail", [True, False])
@pytest.mark.parametrize("body", [noun(1, 9), noun(0, 0)], ids=["other", "crash"])
def test_a_wrong_jet_is_told_and_fails(
    capfd: pytest.CaptureFixture[str], body: Noun, tail: bool
) -> None:
    call = noun(7, registered("add", body), CALL)
    formula = call if tail else noun(call, 1, 0)
    plain, _ = run(formula, check=False)
    assert isinstance(plain, Evaluated)
    got, engine = run(formula)
    assert isinstance(got, Crashed)
    assert got.mote == "fail"
    said = capfd.readouterr().err
    assert "jet-check: one/add is wrong: sample" in said
    assert "[7 3]; the jet gives" in said
    assert said.rstrip().endswith("crashes" if body == noun(0, 0) else " 9")
    assert [arm.path for arm in engine.arms() if arm.wrong] == ["one/add"]
    # No handler of the guest's makes a value of it: it is not a crash.
    assert engine.stats()["jet_mismatches"] == 1


def test_a_jet_that_crashes_where_nock_does_not_is_wrong(
    capfd: pytest.CaptureFixture[str],
) -> None:
    got, _ = run(noun(7, registered("sub", noun(1, 9)), 9, 2, 10, (6, 1, 3, 7), 0, 1))
    assert isinstance(got, Crashed)
    assert got.mote == "fail"
    assert "the jet crashes; its Nock gives" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("product", "agrees"), [(noun(2, 5), True), (noun(0, 5), False), (noun(2), False)]
)
def test_traces_are_not_compared(product: Noun, agrees: bool) -> None:
    """A jet hides the frames within it, and mink shows them to the guest."""
    formula = registered(
        "mink",
        noun(1, product),
        layers=("one", "two", "tri", "qua"),
        sample=noun((0, 0, 0), 1, 0, 0),
    )
    got, engine = run(noun(7, formula, CALL))
    (arm,) = [arm for arm in engine.arms() if arm.hits]
    assert (arm.path, arm.wrong) == ("qua/mink", 0 if agrees else 1)
    if agrees:
        assert isinstance(got, Evaluated)
        assert cue(got.jam) == noun(2, 0)


def test_what_takes_too_long_is_given_up_and_counted() -> None:
    got, engine = run(noun(7, registered("add", SPIN), CALL))
    assert isinstance(got, Evaluated)
    assert cue(got.jam) == 10
    (arm,) = [arm for arm in engine.arms() if arm.hits]
    assert (arm.path, arm.checked, arm.unchecked, arm.wrong) == ("one/add", 0, 1, 0)


def test_what_needs_too_much_memory_is_given_up() -> None:
    """Its Nock builds without end; the step budget or the nursery ends it."""
    grow = noun(8, (0, 1), 9, 2, 10, (6, (0, 1), 0, 1), 0, 3)
    got, engine = run(noun(7, registered("add", grow), CALL))
    assert isinstance(got, Evaluated)
    assert cue(got.jam) == 10
    assert sum(arm.unchecked for arm in engine.arms()) == 1


def test_a_bad_jet_fails_the_event_of_a_ship(tmp_path: Path) -> None:
    """Through the serf's own option, on its pipe."""
    engine = Engine(home_size=1 << 26)
    engine.probe(check=True)
    body = noun(7, registered("add", noun(1, 9)), CALL)
    poke = noun(8, (1, 0), noun((1, 8, body, 1, 0, 0), 0, 1))
    kernel = noun((0, (poke, 0, 0), poke), 0)
    formula = noun(1, 0, 0, kernel)
    assert engine.play(1, [Row(0, jam(formula))]) is None
    pleas = [
        plea
        for batch in engine.work([Work(1, 0, Jam(jam(noun(1, 0, "x", 0))))])
        for plea in batch
    ]
    (bail,) = [plea for plea in pleas if isinstance(plea, Bail)]
    assert bail.goofs
    assert engine.event == 1


def test_jets_that_are_switched_off_are_called_no_more() -> None:
    """Nor are those by which a call in home did its work before."""
    engine = Engine(home_size=1 << 26)
    gate = registered("add", noun(1, 9))
    kernel = core(((1, 0), 10, (3, gate), 0, 7), peek=(7, (0, 15), CALL))
    assert engine.play(1, [boot_row(kernel)]) is None
    for _ in engine.work([Work(1, 0, job(1, ["x"], "keep the gate"))]):
        pass
    for enabled in (True, True, False, False, True):
        engine.enable_jets(enabled)
        assert cue(engine.peek(jam(0), 0)) == (10 if enabled else 9)
    assert engine.nock(jam(noun(0, 1, 0)), False)
    assert cue(engine.peek(jam(0), 0)) == 10


def test_the_tool_checks_and_tells(tmp_path: Path) -> None:
    file = tmp_path / "wrong.jam"
    file.write_bytes(jam(noun(0, noun(7, registered("add", noun(1, 9)), CALL))))
    done = subprocess.run(
        [sys.executable, "-m", "serf", "nock", str(file), "--jet-check", "--json"],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 2
    row = json.loads(done.stdout)
    assert row["mote"] == "fail"
    assert row["stats"]["jets"]["one/add"] == {"hits": 1, "wrong": 1}
    assert "one/add is wrong" in done.stderr


def test_a_live_ship_tells_how_often_its_jets_were_called(tmp_path: Path) -> None:
    """Booted with every jet checked; `treadle jets` asks it."""
    pier = tmp_path / "zod"
    done = treadle("boot", pier, "--fake", "~zod", "--no-run", "--json")
    assert done.code == 0, done.err
    with WholeShip(pier) as ship:
        ship.start("--jet-check")
        for _ in range(3):
            assert ship.poke("d", ["term", "1"], "belt", noun("aro", "l")) == DONE
        told = treadle("jets", pier, "--json")
        assert told.code == 0, told.err
        jets = told.json["jets"]
        assert any("checked" in row for row in jets.values())
        assert not any("wrong" in row for row in jets.values())
        plain = treadle("jets", pier)
        assert "hits" in plain.out
    told = treadle("jets", pier)
    assert told.code == 8
    assert "at rest" in told.err
