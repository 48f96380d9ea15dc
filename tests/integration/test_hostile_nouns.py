"""Nouns made to hurt: through each door that takes one, an answer or a refusal by
name, soon, in bounded memory, and never the end of a process.

TREADLE_HOSTILE_CELLS (100,000) and TREADLE_HOSTILE_BYTES (4 MB) make them
larger: what is promised holds for 10,000,000 and 536,870,912.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from king.errors import TreadleError
from king.pill.formats import parse_pill
from proto import fast
from proto.errors import CueError
from proto.jam import cue, jam
from proto.message import (
    Bail,
    Done,
    Hash,
    Hashed,
    Jam,
    Peek,
    Peeked,
    Play,
    Save,
    Saved,
    Work,
)
from proto.mug import mug
from proto.noun import Cell, Noun, noun
from proto.tank import tank_lines
from proto.text import render
from serf.engine import Crashed, Engine
from tests.support.jets import Jets
from tests.support.serf_rig import ROOT, SerfProcess, boot_row, core
from tests.support.whole_ship import STRETCH, Ran, WholeShip, memory_kib, running

CELLS = int(os.environ.get("TREADLE_HOSTILE_CELLS", "100000")) // 4 * 4
BYTES = int(os.environ.get("TREADLE_HOSTILE_BYTES", str(4 << 20)))
SECONDS = STRETCH * (60 + CELLS / 100_000 + BYTES / (4 << 20))
# A process of its own, and what each cell and byte may cost it at most: in
# arena, jam's and the survey's tables.
MEMORY = (120 << 20) + 320 * CELLS + 8 * BYTES


# --- the nouns, as jams that are written directly -------------------------------------

# A cell is 1 0, the atom 0 is 0 1, the lowest bit first.
LEFT = Jam(b"\x55" * (CELLS // 4) + b"\xaa" * (CELLS // 4) + b"\x02")
RIGHT = Jam(b"\x99" * (CELLS // 2) + b"\x02")


def atom_jam(bits: int, data: bytes) -> Jam:
    """The jam that says of an atom that it has so many bits, and then `data`."""
    wide = bits.bit_length()
    head = 1 << wide + 1 | (bits - (1 << wide - 1)) << wide + 2
    return Jam(head.to_bytes((2 * wide + 8) // 8, "little") + data)


def double(leaf: Noun, levels: int = 60) -> Noun:
    """2^levels leaves, in so many cells."""
    for _ in range(levels):
        leaf = Cell(leaf, leaf)
    return leaf


# The head of its jam ends in the middle of a byte: that many zeros more.
_BITS = 8 * BYTES - (2 * (8 * BYTES).bit_length() + 1) % 8 + 8
BIG = atom_jam(_BITS, b"\xff" * BYTES)
DOUBLE = jam(double(0))
LONG_AXIS = (1 << 5000) + 1

NOUNS = {"left": LEFT, "right": RIGHT, "atom": BIG, "double": DOUBLE}
every_noun = pytest.mark.parametrize("name", NOUNS)

# Not jams; the word that each is refused with.
NO_JAMS = {
    "nothing": (b"", "gone"),
    "cells-without-end": (b"\x55" * CELLS, "gone"),
    "length-of-2^40": (atom_jam(1 << 40, b"\xff" * 8), "meme"),
    "length-of-2^62": (atom_jam((1 << 63) - 1, b"\xff" * 8), "meme"),
    "length-of-length": (bytes(64) + b"\1", "meme"),
    "zeros": (bytes(BYTES), "meme"),
    "reference-ahead": (b"\xff" * 64, "back"),
    "reference-to-itself": (bytes([0b1110_1]), "back"),
}
every_no_jam = pytest.mark.parametrize("name", NO_JAMS)


@pytest.fixture(autouse=True)
def _soon() -> Iterator[None]:
    start = time.monotonic()
    yield
    assert time.monotonic() - start < SECONDS


# --- the command line -----------------------------------------------------------------


def treadle(*words: object, lines: Sequence[dict[str, str]] = ()) -> Ran:
    """Run a command to its end, in bounded memory."""
    command = [sys.executable, "-m", "king", *map(str, words)]
    # Its own child, so that its memory is that of its children.
    script = (
        "import resource, subprocess, sys\n"
        f"code = subprocess.run({command!r}).returncode\n"
        "peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss\n"
        "print(peak, file=sys.stderr)\n"
        "sys.exit(code if code >= 0 else 255)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        input="".join(json.dumps(row) + "\n" for row in lines),
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    *said, peak = done.stderr.strip().split("\n")
    assert int(peak) << 10 < MEMORY, f"{peak} KiB"
    assert done.returncode != 255, said
    assert not any("Traceback" in line for line in said), said
    return Ran(done.returncode, done.stdout, "\n".join(said))


@every_noun
def test_the_noun_command_counts_it(name: str, tmp_path: Path) -> None:
    file = tmp_path / "noun.jam"
    file.write_bytes(NOUNS[name])
    ran = treadle("noun", file, "--json")
    assert ran.code == 0, ran.err
    row = ran.json
    cells, deep = {
        "left": (CELLS, CELLS),
        "right": (CELLS, CELLS),
        "atom": (0, 0),
        "double": ((1 << 60) - 1, 60),
    }[name]
    assert row["canonical"]
    assert (row["cells_tree"], row["depth"]) == (cells, deep)
    assert row["text"] is None or len(row["text"]) < 3000


@every_no_jam
def test_the_noun_command_refuses_by_name(name: str, tmp_path: Path) -> None:
    data, why = NO_JAMS[name]
    file = tmp_path / "noun.jam"
    file.write_bytes(data)
    ran = treadle("noun", file)
    assert ran.code == 1
    assert f"{file}: not a jam: {why}" in ran.err


def nock(tmp_path: Path, subject: Jam, formula: Noun) -> Ran:
    file = tmp_path / "nock.jam"
    file.write_bytes(fast.tuple_((subject, jam(formula))))
    return treadle("nock", file, "--json")


@every_noun
def test_nock_gives_it_back(name: str, tmp_path: Path) -> None:
    ran = nock(tmp_path, NOUNS[name], noun((0, 1), 5, (0, 1), 0, 1))
    assert ran.code == 0, ran.err
    assert ran.json["mug"] == f"{fast.mug(fast.tuple_((NOUNS[name], jam(0)))):08x}"


def loop(count: int, step: Noun, start: Noun) -> Noun:
    """A formula: `step` of [x count trap] as x, `count` times, from `start`."""
    again = noun(9, 7, 10, (2, step), 10, (6, 4, 0, 6), 0, 1)
    trap = noun(6, (5, (1, count), 0, 6), (0, 2), again)
    return noun(8, (start, (1, 0), 1, trap), 9, 7, 0, 2)


def test_equality_of_two_that_share_nothing(tmp_path: Path) -> None:
    """2^60 leaves twice, and with one leaf that differs."""
    grow = noun((0, 2), 0, 2)
    same = noun(5, loop(60, grow, noun(1, 7)), loop(60, grow, noun(1, 7)))
    other = noun(5, loop(60, grow, noun(1, 7)), loop(60, grow, noun(1, 8)))
    ran = nock(tmp_path, jam(0), noun(same, other))
    assert ran.json["text"] == "[0 1]"


NOWHERE = [
    noun(0, LONG_AXIS),
    noun(10, (LONG_AXIS, 1, 1), 0, 1),
    noun(9, LONG_AXIS, 0, 1),
    noun(10, (noun(1, 2), 1, 1), 0, 1),
    noun(0, 1 << 400_000),
    noun(7, (0, 3), 0, LONG_AXIS),
]


def test_axes_that_lead_nowhere_crash() -> None:
    rows = [
        {"in": fast.tuple_((subject, jam(formula))).hex()}
        for subject in (jam(0), DOUBLE)
        for formula in NOWHERE
    ]
    ran = treadle("nock", "-", lines=rows)
    answers = [json.loads(line) for line in ran.out.splitlines()]
    assert [answer.get("mote") for answer in answers] == ["exit"] * len(rows)


def test_axes_of_thousands_of_bits_lead_somewhere(tmp_path: Path) -> None:
    """The 20,000th item of a list, read, replaced, and called."""
    axis = (1 << 20_001) - 2
    read = noun(0, axis)
    edit = noun(7, (10, (axis, 1, 1, 5), 0, 1), 0, axis)
    call = noun(7, (10, (axis, 1, 1, 6), 0, 1), 9, axis, 0, 1)
    ran = nock(tmp_path, RIGHT, noun(read, edit, call))
    assert ran.code == 0, ran.err
    assert ran.json["text"] == "[0 [1 5] 6]"


def test_a_stack_of_all_memory_is_a_crash_by_name() -> None:
    engine = Engine(home_size=1 << 26, nursery_size=1 << 26)
    endless = noun(8, (1, 4, 9, 2, 0, 1), 9, 2, 0, 1)
    for _ in range(2):
        answer = engine.nock(jam(Cell(0, endless)), True)
        assert isinstance(answer, Crashed)
        assert answer.mote in ("over", "meme")


def test_a_noun_of_all_memory_is_a_crash_by_name() -> None:
    engine = Engine(home_size=1 << 26, nursery_size=1 << 26)
    grow = noun(8, (1, 9, 2, 10, (6, (0, 6), 0, 6), 0, 1), 9, 2, (0, 2), 0, 1)
    hold = noun(8, (1, 8, (9, 2, (0, 2), 0, 3), 0, 2), 9, 2, 0, 1)
    list_ = loop(1 << 62, noun((1, 1 << 70), 0, 2), noun(1, 0))
    for formula in (grow, hold, list_):
        answer = engine.nock(jam(Cell(0, formula)), True)
        assert isinstance(answer, Crashed)
        assert answer.mote in ("exit", "meme", "over")


# --- jets -----------------------------------------------------------------------------


def hostile_samples() -> Iterator[Noun]:
    deep_left: Noun = 0
    deep_right: Noun = 0
    for i in range(3000):
        deep_left, deep_right = Cell(deep_left, i & 1), Cell(i & 1, deep_right)
    parts = [0, 1, (1 << 62) + 1, 1 << 64, (1 << 70_000) - 1]
    parts += [double(0, 40), double(1, 40), deep_left, deep_right]
    yield from parts
    for a in parts:
        for b in parts:
            yield Cell(a, b)
    for a in (3, 1 << 62):
        for b in parts:
            yield noun(a, b, deep_right)
            yield noun((a, 1 << 40), b, 1)


def jet_layers() -> list[str]:
    arms = Engine(home_size=1 << 24).arms()
    return sorted({arm.path.split("/")[0] for arm in arms if arm.kind == "jet"})


@pytest.mark.parametrize("layer", jet_layers())
def test_jets_take_hostile_samples(layer: str) -> None:
    """A product, a crash by name, or the arm's own Nock. (What calls gates runs
    whatever it is given, until its deadline.)"""
    jets = Jets()
    jets.engine = Engine(home_size=1 << 24, nursery_size=1 << 24)  # soon full
    samples = [fast.tuple_((jam(sample), jam(0))) for sample in hostile_samples()]
    for arm in jets.engine.arms():
        if arm.path.split("/")[0] != layer or arm.kind != "jet":
            continue
        gate = jets.gate(arm.path)
        formula = jam(noun(8, gate, 9, 2, 10, (6, 0, 6), 0, 2))
        for sample in samples:
            answer = jets.engine.nock(fast.tuple_((sample, formula)), True)
            if isinstance(answer, Crashed):
                assert answer.mote in ("exit", "meme", "fail"), arm.path
    assert any(arm.hits for arm in jets.engine.arms())


@pytest.mark.parametrize("path", ["tri/shay", "tri/shal", "tri/sha/sha1"])
def test_a_digest_of_what_is_not_there_meets_its_deadline(
    path: str, tmp_path: Path
) -> None:
    """32 GiB of zeros."""
    sample = noun(1, 0xFFFFFFF0 * 8, 0)
    slam = noun(8, Jets().gate(path), 9, 2, 10, (6, 7, (0, 3), sample), 0, 2)
    with started(tmp_path / "image", noun((slam, 1, 0), 0, 7)) as serf:
        answer = serf.ask(Work(2, 500, event(jam(0))))
        assert isinstance(answer, Bail)
        assert answer.goofs[0].mote == "intr"


@pytest.mark.parametrize("path", ["two/in/dif", "two/by/dif"])
def test_a_tree_of_endless_nodes_meets_its_deadline(path: str, tmp_path: Path) -> None:
    """2^30 nodes in 60 cells, taken from nothing."""
    slam = noun(8, Jets().gate(path), 9, 2, 10, (6, 1, double(0)), 0, 2)
    with started(tmp_path / "image", noun((slam, 1, 0), 0, 7)) as serf:
        answer = serf.ask(Work(2, 500, event(jam(0))))
        assert isinstance(answer, Bail)
        assert answer.goofs[0].mote == "intr"


# --- events ---------------------------------------------------------------------------

# Of an event's data: make it the state; print it; send it as an effect.
KEEP = noun((1, 0), 10, (3, 0, 55), 0, 7)
PRINT = noun(11, (noun("slog"), (1, 2), 0, 55), (1, 0), 0, 7)
SEND = noun((((1, noun("w"), 0), (1, noun("tag")), 0, 55), 1, 0), 0, 7)


def event(data: Jam) -> Jam:
    """[now wire tag data], without a look at the data."""
    return fast.tuple_((jam(1), jam(noun(["w"])), jam(noun("tag")), data))


def started(image: Path, poke: Noun) -> SerfProcess:
    serf = SerfProcess(image)
    serf.ripe()
    serf.ask(Play(1, 1, 1, (boot_row(core(poke, peek=noun(0, 15))),)))
    return serf


def digest(serf: SerfProcess) -> bytes:
    hashed = serf.ask(Hash(9))
    assert isinstance(hashed, Hashed), hashed
    return hashed.sha256


@every_noun
def test_an_event_makes_it_the_state(name: str, tmp_path: Path) -> None:
    """Promoted, saved, loaded, and looked at: the same all the time."""
    image = tmp_path / "image"
    with started(image, KEEP) as serf:
        assert isinstance(serf.ask(Work(2, 60_000, event(NOUNS[name]))), Done)
        before = digest(serf)
        assert isinstance(serf.ask(Save(3, 2)), Saved)
    with SerfProcess(image, "--verify") as serf:
        assert serf.ripe().event == 2
        assert digest(serf) == before
        peeked = serf.ask(Peek(2, 60_000, jam(0)))
        assert isinstance(peeked, Peeked)
        assert peeked.result == NOUNS[name]


@every_noun
@pytest.mark.parametrize("poke", [PRINT, SEND], ids=["print", "send"])
def test_an_event_says_it(name: str, poke: Noun, tmp_path: Path) -> None:
    """As a tank, or as an effect; or it is too much, and that is said."""
    with started(tmp_path / "image", poke) as serf:
        for number in (2, 3):
            answer = serf.ask(Work(number, 60_000, event(NOUNS[name])))
            assert isinstance(answer, Done | Bail)
            if isinstance(answer, Done):
                assert all(fast.mug(effect.data) for effect in answer.effects)
        for slog in serf.slogs:
            assert fast.mug(slog.tank)


@every_no_jam
def test_an_event_that_is_no_noun_is_refused(name: str, tmp_path: Path) -> None:
    with started(tmp_path / "image", KEEP) as serf:
        before = digest(serf)
        for writ in (
            Work(2, 60_000, Jam(NO_JAMS[name][0])),
            Peek(3, 60_000, Jam(NO_JAMS[name][0])),
        ):
            answer = serf.ask(writ)
            assert isinstance(answer, Bail)
            assert answer.goofs[0].mote in ("bad", "exit", "meme"), answer
        assert digest(serf) == before


# --- the king -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ship(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeShip]:
    with running(tmp_path_factory.mktemp("hostile") / "zod") as made:
        yield made


def packets() -> Iterator[tuple[str, bytes]]:
    rid = jam(1)
    for name, hostile in NOUNS.items():
        yield f"{name}: all of it", hostile
        for tag in ("fyrd", "ovum", "peek", "peel", "urth", "none"):
            yield f"{name}: {tag}", fast.tuple_((rid, jam(noun(tag)), hostile))
        ovum = (rid, jam(noun("ovum")), jam(noun("x")), jam(noun(["t"])))
        yield f"{name}: card", fast.tuple_((*ovum, jam(noun("hello")), hostile))
        yield (
            f"{name}: fyrd's id",
            fast.tuple_((hostile, jam(noun("fyrd")), jam(noun(1, 2)))),
        )
    for name, (data, _) in NO_JAMS.items():
        yield name, data or b"\0"


def test_a_ship_answers_hostile_packets(ship: WholeShip) -> None:
    """On conn.sock: each is answered, or its connection closed; and the same king
    and serf serve the next."""
    king, serf = ship.pid, ship.serf_pid()
    for name, body in packets():
        if len(body) > 64 << 20:
            continue
        with ship.conn(timeout=SECONDS) as conn:
            conn.socket.sendall(b"\0" + len(body).to_bytes(4, "little") + body)
            # A kernel need not answer a %fyrd.
            assert "fyrd" in name or conn.hear_bytes() is not None, name
        assert ship.poke("x", ["t"], "hello", 2) == noun("news", "done"), name
        assert memory_kib(king) << 10 < MEMORY, name
    assert (ship.pid, ship.serf_pid()) == (king, serf)


@pytest.mark.parametrize("name", [*NOUNS, *NO_JAMS])
def test_it_is_no_pill(name: str) -> None:
    data = NOUNS[name] if name in NOUNS else NO_JAMS[name][0]
    with pytest.raises(TreadleError) as caught:
        parse_pill(data)
    assert caught.value.code == "pill-bad"


@pytest.mark.parametrize("name", ["left", "right", "double"])
def test_python_takes_it_too(name: str) -> None:
    """The king's own nouns: compared, hashed, shown, and let go."""
    value = cue(NOUNS[name])
    assert jam(value) == NOUNS[name]
    assert value == cue(NOUNS[name])
    assert mug(value) == fast.mug(NOUNS[name])
    assert hash(value) == hash(cue(NOUNS[name]))
    assert len(render(value, 2000)) < 2100
    assert len(tank_lines(value)) < 2100


@every_no_jam
def test_python_refuses_it_as_c_does(name: str) -> None:
    data, why = NO_JAMS[name]
    for refuse in (cue, fast.mug):
        with pytest.raises(CueError) as caught:
            refuse(data)
        found = caught.value.why
        assert found.startswith(why) or (why, found) == ("meme", "size")


def tanks() -> Iterator[Noun]:
    for leaf in (noun("leaf", 0), noun("leaf", [97]), noun("leaf", [97] * 50), 0):
        for kind, frame in (("rose", (0, 0, 0)), ("palm", (0, 0, 0, 0))):
            shared, nested = leaf, leaf
            for _ in range(60):
                shared = noun(kind, frame, [shared, shared])
            for _ in range(2000):
                nested = noun(kind, frame, [nested, leaf])
            yield from (shared, nested)
    tape: Noun = noun([97] * 20_000)
    yield noun("rose", (0, 0, 0), [noun("leaf", i, tape) for i in range(2000)])
    yield noun("rose", (tape, tape, tape), [tape] * 2000)
    yield from (cue(DOUBLE), cue(LEFT[:1000] + b"\xaa" * 1001 + b"\x02"))


def test_tanks_are_laid_out_soon() -> None:
    for number, tank in enumerate(tanks()):
        start = time.process_time()
        assert len(tank_lines(tank)) < 20_000
        assert time.process_time() - start < 3 * STRETCH, number
