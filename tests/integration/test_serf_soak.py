"""A serf over many events: bounded memory, unchanged answers, long traces."""

from __future__ import annotations

import time
from pathlib import Path

from proto.jam import cue, jam
from proto.message import (
    Bail,
    Done,
    Effect,
    Gauge,
    Gauged,
    Hash,
    Hashed,
    Jam,
    Pack,
    Peek,
    Play,
    Played,
    Row,
    Save,
    Saved,
    Stuck,
    Work,
)
from proto.mug import mug
from proto.noun import Cell, Noun, items, noun, slot
from tests.integration import soak_serf
from tests.support.serf_rig import COUNT, KEEP, SerfProcess, boot_row, core, job

# The data becomes the state.
STORE = noun((1, 0), (10, (3, 0, 55), 0, 7))
SPIN = noun(8, (1, (9, 2, 0, 1)), 9, 2, 0, 1)


def gauge(serf: SerfProcess) -> dict[str, int]:
    gauged = serf.ask(Gauge(1 << 40))
    assert isinstance(gauged, Gauged)
    return dict(gauged.values)


def resident_bytes(serf: SerfProcess) -> int:
    statm = Path(f"/proc/{serf.process.pid}/statm").read_text().split()
    return int(statm[1]) * 4096


def boot(serf: SerfProcess, kernel: Noun) -> None:
    serf.ripe()
    assert isinstance(serf.ask(Play(0, 1, 1, (boot_row(kernel),))), Played)


def test_a_state_that_is_overwritten_stays_bounded(tmp_path: Path) -> None:
    """60,000 events, each with a new state of 100 cells and some bytes: 200 MB
    of garbage in all."""
    size = ("--home-size", str(256 << 20), "--nursery-size", str(64 << 20))
    with SerfProcess(tmp_path / "image", *size) as serf:
        boot(serf, core(STORE, 0))
        event = 1
        peak = 0
        for batch in range(120):
            serf.send(
                *(
                    Work(n, 0, job(batch * 500 + n, ["x"], "set", [(n, batch)] * 100))
                    for n in range(3)
                ),
                *(
                    Work(n, 0, job(batch * 500 + n, ["x"], "set", 1 << 24_000 | n))
                    for n in range(3, 500)
                ),
            )
            for _ in range(500):
                event += 1
                done = serf.hear()
                assert isinstance(done, Done)
                assert done.event == event
            if batch == 20:
                warm = resident_bytes(serf)
            if batch % 10 == 0:
                peak = max(peak, gauge(serf)["home_bytes"])
        assert resident_bytes(serf) < warm + (32 << 20)
        values = gauge(serf)
        assert values["home_bytes_promoted"] > 150 << 20
        assert values["home_collections"] > 3
        assert peak < 64 << 20
        serf.ask(Pack(1))
        assert gauge(serf)["home_bytes"] < 1 << 20
        # And what was collected is not missed: the state is the last one.
        hashed = serf.ask(Hash(2))
        assert isinstance(hashed, Hashed)
        saved = serf.ask(Save(3, event))
        assert isinstance(saved, Saved)
    with SerfProcess(tmp_path / "image", *size, "--verify") as serf:
        assert serf.ripe().event == event
        again = serf.ask(Hash(2))
        assert again == hashed


def test_the_soak_by_hand_goes_well(tmp_path: Path) -> None:
    """scripts/soak-serf, a little of it."""
    ship = soak_serf.Ship(seed=1)
    soak_serf.soak(ship, 20_000, home_mib=64, image=str(tmp_path / "image"))


def test_a_long_trace_is_rendered_in_part(tmp_path: Path) -> None:
    """A crash under 5,000 nested %mean hints; +mook gives the trace as tang."""
    # Walk the list at 6 of [loop list ...], not in tail position; crash at 0.
    loop = noun(
        6,
        (3, 0, 6),
        (11, ("mean", (0, 12)), (9, 2, 10, (6, 0, 13), 0, 1)),
        (0, 0),
    )
    crash = noun(8, (0, 55), 8, (1, loop), 9, 2, 0, 1)
    is_crud = noun(5, (0, 54), (1, "crud"))
    kernel = core((6, is_crud, ((1, 0), KEEP), crash), 0, wish=(1, (0, 6), 0, 0))
    with SerfProcess(tmp_path / "image") as serf:
        boot(serf, kernel)
        done = serf.ask(Work(1, 0, job(1, ["x"], "deep", list(range(5000)))))
    assert isinstance(done, Done)
    assert done.job is not None
    goof = slot(cue(done.job), 30)
    assert isinstance(goof, Cell)
    assert goof.head == noun("exit")
    # The innermost entries, that is the end of the list, come first.
    wanted = [noun("mean", value) for value in range(4999, 4999 - 1024, -1)]
    assert items(goof.tail) == wanted


def test_an_interrupt_stops_a_replay_where_it_is(tmp_path: Path) -> None:
    spins = noun(6, (5, (0, 54), (1, "spin")), SPIN, (1, 0), COUNT)
    kernel = core(spins, 0)
    assert isinstance(kernel, Cell)
    with SerfProcess(tmp_path / "image") as serf:
        boot(serf, kernel)
        rows = [Row(0, job(n, ["x"], "spin" if n == 3 else "x")) for n in range(6)]
        serf.send(Play(9, 2, 1, tuple(rows)))
        serf.await_busy()
        serf.interrupt(9)
        stuck = serf.hear(10)
        assert isinstance(stuck, Stuck)
        assert stuck.event == 5
        assert stuck.goof is not None
        assert stuck.goof.mote == "intr"
        after = Row(mug(Cell(kernel.head, 4)), job(9, ["x"], "x"))
        assert serf.ask(Play(10, 5, 1, (after,))) == Played(10, 5, after.mug)


def test_a_peek_has_a_deadline(tmp_path: Path) -> None:
    with SerfProcess(tmp_path / "image") as serf:
        boot(serf, core(STORE, 0, peek=SPIN))
        begun = time.monotonic()
        bail = serf.ask(Peek(1, 100, jam(0)))
        assert time.monotonic() - begun < 5
        assert isinstance(bail, Bail)
        assert [goof.mote for goof in bail.goofs] == ["intr"]


def test_answers_do_not_wait_for_a_slow_neighbour(tmp_path: Path) -> None:
    """The first works of a frame are answered while a later one still runs."""
    spins = noun(6, (5, (0, 54), (1, "spin")), SPIN, (1, 0), COUNT)
    with SerfProcess(tmp_path / "image") as serf:
        boot(serf, core(spins, 0))
        spin = job(1, ["x"], "spin")
        quick = job(1, ["x"], "quick")
        serf.send(
            Work(1, 100, spin),
            Work(2, 0, quick),
            Work(3, 0, spin),
            Work(4, 0, quick),
        )
        assert [serf.hear().request for _ in range(2)] == [1, 2]
        serf.interrupt(3)
        assert [serf.hear().request for _ in range(2)] == [3, 4]


def test_answers_do_not_wait_for_a_slow_successor(tmp_path: Path) -> None:
    """What is done is told while the next work of its frame runs, which so is the
    oldest without an answer: the king can interrupt it."""
    spins = noun(6, (5, (0, 54), (1, "spin")), SPIN, (1, 0), COUNT)
    with SerfProcess(tmp_path / "image") as serf:
        boot(serf, core(spins, 0))
        spin, quick = job(1, ["x"], "spin"), job(1, ["x"], "quick")
        serf.send(*(Work(n, 0, quick) for n in (1, 2)), Work(3, 0, spin))
        told = [serf.hear(20) for _ in range(2)]
        assert [(plea.request, plea.event) for plea in told] == [(1, 2), (2, 3)]
        serf.interrupt(3)
        done = serf.hear(20)
        assert isinstance(done, Done)
        assert (done.request, done.event) == (3, 4)
        assert done.job is not None  # its %crud


def test_many_and_large_effects(tmp_path: Path) -> None:
    """Data is a list of effects, given back as they are."""
    kernel = core(((0, 55), KEEP), 0)
    with SerfProcess(tmp_path / "image") as serf:
        boot(serf, kernel)
        many = [(["w", str(n)], "tag", n) for n in range(20_000)]
        done = serf.ask(Work(1, 0, job(1, ["x"], "t", many)))
        assert isinstance(done, Done)
        assert done.effects == tuple(
            Effect((b"w", str(n).encode()), b"tag", Jam(jam(n))) for n in range(20_000)
        )
        large = 1 << (8 << 23)
        done = serf.ask(Work(2, 0, job(1, ["x"], "t", [(["w"], "tag", large)])))
        assert isinstance(done, Done)
        assert done.effects[0].data == jam(large)
        # More than a frame should hold: the event fails as a whole, and so does
        # its %crud, which returns the same.
        bail = serf.ask(Work(3, 0, job(1, ["x"], "t", [(["w"], "t", large)] * 9)))
        assert isinstance(bail, Bail)
        assert [goof.mote for goof in bail.goofs] == ["fail", "fail"]
