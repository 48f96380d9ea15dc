"""A real serf on real pipes: what it answers, what it survives, when it leaves."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from proto.codec import pack_writs
from proto.jam import cue, jam
from proto.message import (
    PROTOCOL,
    Bail,
    Done,
    Effect,
    Exit,
    Gauge,
    Gauged,
    Hash,
    Hashed,
    Jam,
    Pack,
    Packed,
    Peek,
    Peeked,
    Play,
    Played,
    Row,
    Save,
    Saved,
    Stuck,
    Work,
)
from proto.mug import mug
from proto.noun import Cell, Noun, noun, slot
from tests.support.serf_rig import (
    COUNT,
    KEEP,
    LOG,
    ROOT,
    SHIP,
    SerfProcess,
    boot_row,
    core,
    job,
)

TAG_AT = 54
DATA_AT = 55
LOOP = noun(9, 2, 0, 1)


def branch(tag: str, then: object, otherwise: object) -> Noun:
    """If the ovum's tag is `tag`, do this, else that."""
    return noun(6, (5, (0, TAG_AT), (1, tag)), then, otherwise)


# Grow a list without end: [state state state ...].
GROW = noun(8, (1, 0), 8, (1, (9, 2, 10, (6, (0, 6), 0, 6), 0, 1)), 9, 2, 0, 1)
SPIN = noun(8, (1, (9, 2, 0, 1)), 9, 2, 0, 1)

# A %crud of a %bust crashes too: in its data, `[goof wire tag data]`, the tag.
BUST = noun(6, (5, (0, 446), (1, "bust")), (0, 0), ((1, 0), COUNT))

# The kernel of these tests counts its events and does what tags say.
POKE = branch(
    "bust",
    (0, 0),
    branch(
        "crud",
        BUST,
        branch(
            "spin",
            SPIN,
            branch(
                "grow",
                GROW,
                branch(
                    "odd",
                    ((0, DATA_AT), KEEP),
                    branch(
                        "set",
                        ((1, 0), (10, (3, 0, DATA_AT), 0, 7)),
                        branch(
                            "atom",
                            (1, 7),
                            branch(
                                "print",
                                (11, ("slog", (1, 2), 0, DATA_AT), (1, 0), COUNT),
                                (
                                    # One effect: [/echo/1 %echo data].
                                    (
                                        ((1, ["echo", "1"]), (1, "echo"), 0, DATA_AT),
                                        1,
                                        0,
                                    ),
                                    COUNT,
                                ),
                            ),
                        ),
                    ),
                ),
            ),
        ),
    ),
)
PEEK = noun((1, 0), 0, 15)  # [~ state]
KERNEL = core(POKE, 0, peek=PEEK)
SMALL = ("--nursery-size", str(32 << 20), "--home-size", str(64 << 20))


def poke(request: int, tag: str, data: object = 0, *, ms: int = 0) -> Work:
    return Work(request, ms, job(1000 + request, ["t", "est"], tag, noun(data)))


@pytest.fixture
def serf(tmp_path: Path) -> Iterator[SerfProcess]:
    """A booted serf at event 1."""
    with SerfProcess(tmp_path / "image", *SMALL) as process:
        process.ripe()
        assert process.ask(Play(1, 1, 1, (boot_row(KERNEL),))) == Played(
            1, 1, mug(KERNEL)
        )
        yield process


def state_of(serf: SerfProcess) -> tuple[int, bytes]:
    hashed = serf.ask(Hash(999))
    assert isinstance(hashed, Hashed)
    return hashed.event, hashed.sha256


def with_state(state: Noun) -> Noun:
    assert isinstance(KERNEL, Cell)
    return Cell(KERNEL.head, state)


def test_ripe_names_protocol_and_identity(tmp_path: Path) -> None:
    with SerfProcess(tmp_path / "image") as process:
        ripe = process.ripe()
    assert (ripe.protocol, ripe.ship, ripe.log) == (PROTOCOL, SHIP, LOG)
    assert (ripe.event, ripe.mug, ripe.fell_back, ripe.note) == (0, 0, 0, "")
    version = (ROOT / "pyproject.toml").read_text().split('version = "')[1]
    assert ripe.runtime == "treadle-" + version.split('"')[0]


def test_work_answers_number_mug_and_effects(serf: SerfProcess) -> None:
    done = serf.ask(poke(5, "hello", (1, 2)))
    effect = Effect((b"echo", b"1"), b"echo", jam(noun(1, 2)))
    assert done.nanoseconds > 0
    honest = done._replace(nanoseconds=0, pages=0)
    assert honest == Done(5, 2, mug(with_state(1)), (effect,), None)
    assert state_of(serf) == (2, hashlib.sha256(jam(with_state(1))).digest())


def test_many_works_in_one_frame_are_answered_in_order(serf: SerfProcess) -> None:
    works = [poke(n, "bust" if n % 7 == 3 else "x", n) for n in range(500)]
    serf.send(*works[:400])
    serf.send(*works[400:])
    event = 1
    for n in range(500):
        answer = serf.hear()
        assert answer.request == n
        if n % 7 == 3:
            assert isinstance(answer, Bail)
        else:
            event += 1
            assert isinstance(answer, Done)
            assert answer.event == event


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (0, []),
        ([(["a"], "tag", 5)], [((b"a",), b"tag", 5)]),
        ([([], "tag", 5)], [((), b"tag", 5)]),
        ([(["a", ""], "tag", (1, 2))], [((b"a", b""), b"tag", noun(1, 2))]),
        ([7], [((), b"", 7)]),
        ([(["a"], 7)], [((), b"", noun(["a"], 7))]),
        ([(5, "tag", 6)], [((), b"", noun(5, "tag", 6))]),
        ([((1, 2), "tag", 6)], [((), b"", noun((1, 2), "tag", 6))]),
        ([(((1, 1), 0), "tag", 6)], [((), b"", noun(((1, 1), 0), "tag", 6))]),
        ([(["a"], (1, 2), 6)], [((), b"", noun(["a"], (1, 2), 6))]),
        (9, [((), b"", 9)]),
        (((["a"], "t", 1), 9), [((b"a",), b"t", 1), ((), b"", 9)]),
        ([(["x" * 2000], "t", 1)], [((), b"", noun(["x" * 2000], "t", 1))]),
        ([(["k"] * 65, "t", 1)], [((), b"", noun(["k"] * 65, "t", 1))]),
    ],
    ids=range(14),
)
def test_effects_of_every_shape(
    serf: SerfProcess, data: object, expected: list[tuple[object, bytes, Noun]]
) -> None:
    done = serf.ask(poke(1, "odd", data))
    assert isinstance(done, Done)
    got = [(effect.wire, effect.tag, cue(effect.data)) for effect in done.effects]
    assert got == expected


def test_a_crash_whose_crud_succeeds_is_replaced(serf: SerfProcess) -> None:
    # "atom": the product is no cell. Its %crud has another tag and succeeds.
    done = serf.ask(poke(9, "atom", 3))
    assert isinstance(done, Done)
    assert done.event == 2
    assert done.job is not None
    original = cue(poke(9, "atom", 3).job)
    assert isinstance(original, Cell)
    wanted = noun(original.head, (0, "arvo", 0), "crud", ("exit", 0), original.tail)
    assert cue(done.job) == wanted
    # And the replacement is a job that replays to the same state.
    assert serf.ask(Peek(1, 0, jam(0))) == Peeked(1, jam(noun(0, 1)))


def test_a_crash_whose_crud_crashes_bails_with_both(tmp_path: Path) -> None:
    kernel = core((0, 0), 5)
    with SerfProcess(tmp_path / "image", *SMALL) as process:
        process.ripe()
        process.ask(Play(1, 1, 1, (boot_row(kernel),)))
        before = state_of(process)
        answer = process.ask(poke(2, "any"))
        assert isinstance(answer, Bail)
        assert [goof.mote for goof in answer.goofs] == ["exit", "exit"]
        assert all(cue(goof.tang) == 0 for goof in answer.goofs)
        assert state_of(process) == before


def test_deadline_ends_an_event_as_intr(serf: SerfProcess) -> None:
    start = time.monotonic()
    done = serf.ask(poke(2, "spin", ms=200))
    assert time.monotonic() - start < 5
    assert isinstance(done, Done)
    assert done.job is not None
    assert slot(cue(done.job), 30) == noun("intr", 0)
    assert isinstance(serf.ask(poke(3, "x")), Done)


def test_interrupt_ends_an_event_and_is_used_up(serf: SerfProcess) -> None:
    serf.send(poke(2, "spin"), poke(3, "x"))
    serf.await_busy()
    serf.interrupt(2)
    first, second = serf.hear(10), serf.hear(10)
    assert isinstance(first, Done)
    assert first.job is not None
    assert isinstance(second, Done)
    assert second.job is None
    assert serf.word[0:4] == bytes(4)


def test_an_interrupt_meets_only_the_request_that_it_names(serf: SerfProcess) -> None:
    # Too late for request 2: request 3, which runs now, is innocent.
    assert isinstance(serf.ask(poke(2, "x")), Done)
    serf.interrupt(2)
    serf.send(Work(3, 300, job(3, ["wire"], "spin")))
    begun = time.monotonic()
    done = serf.hear(10)
    assert time.monotonic() - begun > 0.25, "the stale word ended it"
    assert isinstance(done, Done)
    assert done.job is not None
    assert serf.word[0:4] == bytes(4), "the stale word was not dropped"
    # Too early: it waits until its request comes.
    serf.interrupt(5)
    done = serf.ask(poke(4, "x"))
    assert isinstance(done, Done)
    assert done.job is None
    done = serf.ask(poke(5, "spin"))
    assert isinstance(done, Done)
    assert done.job is not None
    assert slot(cue(done.job), 30) == noun("intr", 0)


def test_a_request_is_named_by_its_low_bits(serf: SerfProcess) -> None:
    """Also across the wrap: 2^32 - 1 is older than 2^32 + 1."""
    serf.interrupt(0xFFFFFFFE)
    done = serf.ask(Work((1 << 32) + 1, 0, job(2, ["wire"], "x")))
    assert isinstance(done, Done)
    assert serf.word[0:4] == bytes(4)
    serf.send(Work((1 << 32) + 7, 0, job(3, ["wire"], "spin")))
    serf.await_busy()
    serf.interrupt(7)
    done = serf.hear(10)
    assert isinstance(done, Done)
    assert done.job is not None


def test_an_interrupt_ends_the_crud_too(tmp_path: Path) -> None:
    """One for the event, one more for the %crud that takes its place."""
    with SerfProcess(tmp_path / "image") as serf:
        kernel = core(SPIN)
        serf.ripe()
        assert serf.ask(Play(1, 1, 1, (boot_row(kernel),))) == Played(1, 1, mug(kernel))
        serf.send(poke(2, "x"))
        for _ in range(2):
            serf.await_busy()
            serf.interrupt(2)
            serf.await_obeyed()
        bail = serf.hear(10)
        assert isinstance(bail, Bail)
        assert [goof.mote for goof in bail.goofs] == ["intr", "intr"]
        assert serf.word[0:4] == bytes(4)


def test_a_peek_is_interrupted_by_its_name(tmp_path: Path) -> None:
    with SerfProcess(tmp_path / "image") as serf:
        kernel = core(COUNT, 0, peek=SPIN)
        serf.ripe()
        assert isinstance(serf.ask(Play(1, 1, 1, (boot_row(kernel),))), Played)
        serf.send(Peek(7, 0, jam(0)))
        serf.await_busy()
        serf.interrupt(6)
        serf.await_busy()
        serf.interrupt(7)
        bail = serf.hear(10)
        assert isinstance(bail, Bail)
        assert [goof.mote for goof in bail.goofs] == ["intr"]


def test_a_stack_too_deep_ends_the_event_only(tmp_path: Path) -> None:
    """Its limit is the nursery's, and to the guest it is memory."""
    deep = noun(8, (1, (4, 9, 2, 0, 1)), 9, 2, 0, 1)
    kernel = core(branch("deep", deep, ((1, 0), COUNT)))
    with SerfProcess(tmp_path / "image", *SMALL) as serf:
        serf.ripe()
        assert isinstance(serf.ask(Play(1, 1, 1, (boot_row(kernel),))), Played)
        done = serf.ask(poke(2, "deep"))
        assert isinstance(done, Done)
        assert done.job is not None
        assert slot(cue(done.job), 30) == noun("meme", 0)
        assert isinstance(serf.ask(poke(3, "x")), Done)


def test_out_of_memory_ends_the_event_only(serf: SerfProcess) -> None:
    done = serf.ask(poke(2, "grow"))
    assert isinstance(done, Done)
    assert done.job is not None
    assert slot(cue(done.job), 30) == noun("meme", 0)
    assert isinstance(serf.ask(poke(3, "x")), Done)


def test_state_beyond_home_ends_the_event_only(tmp_path: Path) -> None:
    small = ("--nursery-size", str(64 << 20), "--home-size", str(4 << 20))
    with SerfProcess(tmp_path / "image", *small) as process:
        process.ripe()
        process.ask(Play(1, 1, 1, (boot_row(KERNEL),)))
        big = int.from_bytes(os.urandom(6 << 20), "little") | 1 << (6 << 23)
        done = process.ask(poke(2, "set", big))
        assert isinstance(done, Done)
        assert done.job is not None
        assert slot(cue(done.job), 30) == noun("meme", 0)
        # What fits is taken, again and again: home is collected.
        for n in range(12):
            fits = int.from_bytes(os.urandom(1 << 20), "little") | 1 << (1 << 23)
            done = process.ask(poke(10 + n, "set", fits))
            assert isinstance(done, Done)
            assert done.job is None


def test_slogs_come_before_their_answer(serf: SerfProcess) -> None:
    assert isinstance(serf.ask(poke(2, "print", ("leaf", ["a"]))), Done)
    assert [(s.priority, s.event, cue(s.tank)) for s in serf.slogs] == [
        (2, 2, noun("leaf", ["a"]))
    ]


def test_peek_does_not_change_anything(serf: SerfProcess) -> None:
    before = state_of(serf)
    assert serf.ask(Peek(7, 0, jam(noun(1, 2)))) == Peeked(7, jam(noun(0, 0)))
    assert state_of(serf) == before


def test_a_peek_that_crashes_bails(tmp_path: Path) -> None:
    with SerfProcess(tmp_path / "image", *SMALL) as process:
        process.ripe()
        answer = process.ask(Peek(7, 0, jam(0)))
        assert isinstance(answer, Bail)
        assert "no kernel" in text_of(answer)
        process.ask(Play(1, 1, 1, (boot_row(core((0, 0))),)))
        answer = process.ask(Peek(8, 0, jam(0)))
        assert isinstance(answer, Bail)
        assert [goof.mote for goof in answer.goofs] == ["exit"]


def text_of(bail: Bail) -> str:
    """The words of a tang of one %leaf."""
    tape = slot(cue(bail.goofs[0].tang), 2 * 2 + 1)
    letters = []
    while isinstance(tape, Cell):
        assert isinstance(tape.head, int)
        letters.append(chr(tape.head))
        tape = tape.tail
    return "".join(letters)


@pytest.mark.parametrize("data", [b"", b"\x00", b"\xff\xff", jam(7)])
def test_a_job_that_is_none_bails(serf: SerfProcess, data: bytes) -> None:
    before = state_of(serf)
    answer = serf.ask(Work(3, 0, Jam(data)))
    assert isinstance(answer, Bail)
    assert "not a jam of [now ovum]" in text_of(answer)
    assert state_of(serf) == before


def test_play_stops_before_a_divergence(serf: SerfProcess) -> None:
    rows = tuple(
        Row(mug(with_state(n)), poke(n, "x").job)
        if n != 3
        else Row(77, poke(3, "x").job)
        for n in range(1, 6)
    )
    stuck = serf.ask(Play(4, 2, 1, rows))
    assert stuck == Stuck(4, 4, 77, mug(with_state(3)), None)
    assert state_of(serf) == (3, hashlib.sha256(jam(with_state(2))).digest())
    # It goes on from there with the right mug.
    good = Row(mug(with_state(3)), poke(3, "x").job)
    assert serf.ask(Play(5, 4, 1, (good,))) == Played(5, 4, mug(with_state(3)))


def test_play_stops_at_a_crash_with_its_goof(serf: SerfProcess) -> None:
    rows = (Row(0, poke(1, "x").job), Row(0, poke(2, "bust").job))
    stuck = serf.ask(Play(4, 2, 1, rows))
    assert isinstance(stuck, Stuck)
    assert (stuck.event, stuck.expected, stuck.actual) == (3, 0, 0)
    assert stuck.goof is not None
    assert stuck.goof.mote == "exit"
    assert state_of(serf)[0] == 2


def test_play_from_the_wrong_place_bails(serf: SerfProcess) -> None:
    answer = serf.ask(Play(4, 9, 1, ()))
    assert isinstance(answer, Bail)
    assert "play begins at event 9; the serf is at 1" in text_of(answer)


def test_a_boot_with_too_few_rows_is_stuck(tmp_path: Path) -> None:
    with SerfProcess(tmp_path / "image", *SMALL) as process:
        process.ripe()
        stuck = process.ask(Play(1, 1, 3, (boot_row(KERNEL),)))
        assert isinstance(stuck, Stuck)
        assert stuck.event == 1
        stuck = process.ask(Play(2, 1, 1, (Row(0, jam(noun(0, 0))),)))
        assert isinstance(stuck, Stuck)
        assert stuck.goof is not None
        assert stuck.goof.mote == "exit"
        played = process.ask(Play(3, 1, 1, (boot_row(KERNEL),)))
        assert isinstance(played, Played)


def test_save_restart_goes_on(tmp_path: Path) -> None:
    image = tmp_path / "image"
    with SerfProcess(image, *SMALL) as process:
        process.ripe()
        process.ask(Play(1, 1, 1, (boot_row(KERNEL),)))
        for n in range(20):
            process.ask(poke(n, "x"))
        refused = process.ask(Save(50, 3))
        assert isinstance(refused, Bail)
        assert "event 3 is durable; the serf is at 21" in text_of(refused)
        saved = process.ask(Save(51, 21))
        assert isinstance(saved, Saved)
        assert (saved.event, saved.mug) == (21, mug(with_state(20)))
        assert saved.bytes_written >= saved.pages * 16384 > 0
        before = state_of(process)
        process.ask(poke(60, "x"))
    for verify in ((), ("--verify",)):
        with SerfProcess(image, *SMALL, *verify) as process:
            ripe = process.ripe()
            assert (ripe.event, ripe.mug) == (21, mug(with_state(20)))
            assert ripe.generation == saved.generation
            assert state_of(process) == before
            done = process.ask(poke(60, "x"))
            assert isinstance(done, Done)
            assert (done.event, done.mug) == (22, mug(with_state(21)))


def test_a_save_is_of_the_event_that_it_names(tmp_path: Path) -> None:
    """Whatever happens beside it: the state saved is the one it began with."""
    image = tmp_path / "image"
    with SerfProcess(image, *SMALL) as process:
        process.ripe()
        process.ask(Play(1, 1, 1, (boot_row(KERNEL),)))
        for round_ in range(8):
            event = 1 + 50 * round_
            process.send(Save(9, event), *(poke(n, "x") for n in range(50)))
            pleas = [process.hear() for _ in range(51)]
            (saved,) = (plea for plea in pleas if isinstance(plea, Saved))
            assert (saved.request, saved.event) == (9, event)
            assert [p.event for p in pleas if isinstance(p, Done)] == [
                *range(event + 1, event + 51)
            ]
    with SerfProcess(image, *SMALL, "--verify") as process:
        ripe = process.ripe()
        assert (ripe.event, ripe.mug) == (351, mug(with_state(350)))
        done = process.ask(poke(60, "x"))
        assert isinstance(done, Done)
        assert (done.event, done.mug) == (352, mug(with_state(351)))


def test_an_image_ahead_of_the_log_is_not_used(tmp_path: Path) -> None:
    image = tmp_path / "image"
    with SerfProcess(image, *SMALL) as process:
        process.ripe()
        process.ask(Play(1, 1, 1, (boot_row(KERNEL),)))
        for n in range(3):
            process.ask(poke(n, "x"))
            assert isinstance(process.ask(Save(9, n + 2)), Saved)
    with SerfProcess(image, *SMALL, event_max=3) as process:
        ripe = process.ripe()
        assert (ripe.event, ripe.fell_back) == (3, 1)
    with SerfProcess(image, *SMALL, event_max=0) as process:
        ripe = process.ripe()
        assert ripe.event == 0
        assert ripe.note
        # It begins anew, and saves over what it had to give up.
        process.ask(Play(1, 1, 1, (boot_row(KERNEL),)))
        assert isinstance(process.ask(Save(2, 1)), Saved)
    with SerfProcess(image, *SMALL) as process:
        assert process.ripe().event == 1


def test_another_ships_image_is_refused(tmp_path: Path) -> None:
    image = tmp_path / "image"
    with SerfProcess(image, *SMALL) as process:
        process.ripe()
        process.ask(Play(1, 1, 1, (boot_row(KERNEL),)))
        process.ask(Save(2, 1))
    other = bytes([7] * 16)
    with SerfProcess(image, *SMALL, ship=other) as process:
        with pytest.raises(EOFError) as error:
            process.ripe()
        assert str(error.value).startswith("serf left: 65:")
        assert SHIP.hex() in str(error.value)
        assert other.hex() in str(error.value)
    with SerfProcess(image, *SMALL, log=other) as process:
        with pytest.raises(EOFError) as error:
            process.ripe()
        assert "65:" in str(error.value)
        assert "log" in str(error.value)


def test_pack_and_gauge(serf: SerfProcess) -> None:
    for n in range(50):
        serf.ask(poke(n, "set", [n] * 500))
    packed = serf.ask(Pack(1))
    assert isinstance(packed, Packed)
    assert 0 < packed.bytes_after <= packed.bytes_before
    gauged = serf.ask(Gauge(2))
    assert isinstance(gauged, Gauged)
    values = dict(gauged.values)
    assert values["event"] == 51
    assert values["home_bytes"] == packed.bytes_after
    assert values["pokes"] == 50
    assert values["home_collections"] >= 1


def test_exit_and_hang_up(tmp_path: Path) -> None:
    process = SerfProcess(tmp_path / "image", *SMALL)
    process.ripe()
    process.send(Exit(42))
    assert process.process.wait(10) == 42
    process.__exit__(None, None, None)
    with SerfProcess(tmp_path / "image", *SMALL) as process:
        process.ripe()
        process.hang_up()
        assert process.process.wait(10) == 0


def test_a_king_that_dies_takes_the_serf_along(serf: SerfProcess) -> None:
    serf.send(poke(2, "spin"))
    serf.await_busy()
    serf.hang_up()
    assert serf.process.wait(30) == 0


@pytest.mark.parametrize(
    "data",
    [bytes(4), b"\xff\xff\xff\xff", b"\x01\0\0\0\xc1", pack_writs([])[:4] + b"\x07"],
    ids=["zero", "huge", "not-msgpack", "not-a-list"],
)
def test_a_bad_frame_ends_the_serf_with_words(tmp_path: Path, data: bytes) -> None:
    with SerfProcess(tmp_path / "image", *SMALL) as process:
        process.ripe()
        process.send_raw(data)
        with pytest.raises(EOFError) as error:
            process.hear(10)
        assert str(error.value).startswith("serf left: 68: serf: bad frame")
        assert len(process.flogs) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--frob", "1"), "unknown option --frob"),
        (("--home-size",), "--home-size needs a value"),
        (("--nursery-size", "many"), "--nursery-size needs a number"),
        (("--log", "00"), "--log needs 16 bytes"),
    ],
)
def test_wrong_options_end_it_with_words(
    tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    with (
        SerfProcess(tmp_path / "image", *options) as process,
        pytest.raises(EOFError) as error,
    ):
        process.ripe()
    assert "64: serf:" in str(error.value)
    assert words in str(error.value)


def test_it_refuses_to_run_without_asserts(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-O", "-m", "serf", "noun", "-"],
        capture_output=True,
        text=True,
        input="",
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 64
    assert "-O" in done.stderr


def test_the_terminals_interrupt_is_not_its_own(serf: SerfProcess) -> None:
    serf.process.send_signal(signal.SIGINT)
    time.sleep(0.1)
    assert isinstance(serf.ask(poke(2, "x")), Done)


def test_it_is_confined(serf: SerfProcess) -> None:
    status = Path(f"/proc/{serf.process.pid}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["Seccomp"] == "2"
    assert fields["NoNewPrivs"] == "1"
    names = {
        os.readlink(f"/proc/{serf.process.pid}/fd/{fd}")
        for fd in os.listdir(f"/proc/{serf.process.pid}/fd")
    }
    assert not any(name.startswith("socket") for name in names)
    files = {name for name in names if name.startswith("/") and "dev/null" not in name}
    assert {Path(name).name for name in files} == {"image"}


@pytest.mark.parametrize(("gigabytes", "starts"), [(30, True), (3, False)])
def test_scarce_address_space(tmp_path: Path, gigabytes: int, starts: bool) -> None:
    """Replay's fourfold memory is given up first; then there is one clear line."""
    limited = ["sh", "-c", f'ulimit -v {gigabytes << 20} && exec "$@"', "sh"]
    command = [*limited, sys.executable, "-m", "serf"]
    with SerfProcess(tmp_path / "image", command=command) as process:
        if starts:
            process.ripe()
            assert isinstance(process.ask(Play(1, 1, 1, (boot_row(KERNEL),))), Played)
            return
        with pytest.raises(EOFError) as error:
            process.ripe()
        assert "67: serf: the system refuses" in str(error.value)


def test_a_fresh_serf_is_small(serf: SerfProcess) -> None:
    status = Path(f"/proc/{serf.process.pid}/status").read_text()
    resident_kb = int(status.split("VmRSS:")[1].split()[0])
    assert resident_kb < 60_000
