"""Vere's golden computations as events, and Vere's logs replayed, in a serf."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from proto.fast import tuple_
from proto.jam import cue, jam
from proto.message import (
    Bail,
    Done,
    Effect,
    Hash,
    Hashed,
    Play,
    Played,
    Row,
    Stuck,
    Work,
)
from proto.mug import mug, mug_both
from proto.noun import Cell, noun, slot
from tests.support.serf_rig import (
    VERE,
    SerfProcess,
    boot_row,
    core,
    job,
    pill_rows,
    vere_log,
)

# A poke whose data is [subject formula]: the product becomes the state, and
# the data of an effect. In the body the product is at 2, the gate at 3.
RUN = noun(
    8,
    (2, (0, 110), 0, 111),
    (((1, ["run"]), (1, "product"), 0, 2), 1, 0),
    (10, (3, 0, 2), 0, 15),
)


def test_computations_as_events(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (VERE / "nock.jsonl").read_text().splitlines()]
    kernel = core(RUN, 0)
    assert isinstance(kernel, Cell)
    battery = mug(kernel.head)
    event = 1
    crashes = 0
    with SerfProcess(tmp_path / "image") as serf:
        serf.ripe()
        serf.ask(Play(0, 1, 1, (boot_row(kernel),)))
        before = serf.ask(Hash(0))
        for number, row in enumerate(rows):
            # The job is put together from jams, so that shared graphs stay so.
            serf.send(Work(number, 0, job_of(bytes.fromhex(row["in"]))))
            answer = serf.hear()
            where = f"line {number + 1} ({row['class']})"
            if row["result"] == "crash":
                assert isinstance(answer, Bail), where
                assert answer.goofs[0].mote == row["mote"], where
                after = serf.ask(Hash(0))
                assert isinstance(after, Hashed)
                assert after == before, where
                crashes += 1
                continue
            event += 1
            assert isinstance(answer, Done), (where, answer)
            assert answer.event == event
            assert answer.job is None
            assert answer.mug == mug_both(battery, int(row["mug"], 16)), where
            (effect,) = answer.effects
            assert (effect.wire, effect.tag) == ((b"run",), b"product")
            if "jam" in row:
                assert effect.data.hex() == row["jam"], where
            before = serf.ask(Hash(0))
    assert crashes == 149


def job_of(computation: bytes) -> bytes:
    """Jam of `[now /run %run subject formula]`, by the C codec."""
    parts = [jam(1), jam(noun(["run"])), jam(noun("run")), computation]
    return tuple_(parts)


@pytest.mark.parametrize("name", ["plain", "crud", "epochs", "long"])
def test_a_log_of_vere_replays_to_the_same_mugs(name: str, tmp_path: Path) -> None:
    expect = json.loads((VERE / f"piers/{name}.expect.json").read_text())
    rows = vere_log(name, tmp_path)
    assert len(rows) == expect["events"]
    final = int(expect["final_mug"], 16)
    assert rows[-1].mug == final
    with SerfProcess(tmp_path / "image") as serf:
        serf.ripe()
        for first in range(0, len(rows), 1024):
            batch = tuple(rows[first : first + 1024])
            played = serf.ask(Play(first, first + 1, expect["life"], batch))
            assert isinstance(played, Played), played
        assert (played.event, played.mug) == (len(rows), final)


def test_each_mug_on_the_way_is_the_logged_one(tmp_path: Path) -> None:
    """A wrong mug anywhere would be noticed: each row, one by one."""
    rows = vere_log("crud", tmp_path)
    with SerfProcess(tmp_path / "image") as serf:
        serf.ripe()
        assert isinstance(serf.ask(Play(0, 1, 2, tuple(rows[:2]))), Played)
        checked = 0
        for event, row in enumerate(rows[2:], 3):
            wrong = Row((row.mug or 5) ^ 1, row.job)
            stuck = serf.ask(Play(1, event, 2, (wrong,)))
            assert isinstance(stuck, Stuck), stuck
            assert stuck.event == event
            if row.mug:
                assert stuck.actual == row.mug
                checked += 1
            assert isinstance(serf.ask(Play(1, event, 2, (row,))), Played)
    assert checked > 30


def test_a_crash_becomes_the_very_crud_event_that_vere_logged(tmp_path: Path) -> None:
    expect = json.loads((VERE / "piers/crud.expect.json").read_text())
    rows = vere_log("crud", tmp_path)
    replaced = 0
    with SerfProcess(tmp_path / "image") as serf:
        serf.ripe()
        assert isinstance(serf.ask(Play(0, 1, 2, tuple(rows[:2]))), Played)
        for event, row in enumerate(rows[2:], 3):
            logged = cue(row.job)
            if event not in expect["crud_events"]:
                done = serf.ask(Work(event, 0, row.job))
                assert isinstance(done, Done)
                assert done.job is None
            else:
                # [now wire %crud goof ovum] -> [now ovum]
                offered = jam(noun(slot(logged, 2), slot(logged, 31)))
                done = serf.ask(Work(event, 0, offered))
                assert isinstance(done, Done)
                assert done.job == row.job
                replaced += 1
            assert done.event == event
            if row.mug:
                assert done.mug == row.mug
    assert replaced == len(expect["crud_events"]) == 8


def test_a_double_crash_bails_with_the_tangs_of_vere(tmp_path: Path) -> None:
    rows = vere_log("crud", tmp_path)
    with SerfProcess(tmp_path / "image") as serf:
        serf.ripe()
        assert isinstance(serf.ask(Play(0, 1, 2, tuple(rows))), Played)
        answer = serf.ask(Work(1, 0, job(1 << 64, ["x"], "bust")))
    assert isinstance(answer, Bail)
    tangs = [(goof.mote, cue(goof.tang)) for goof in answer.goofs]
    assert tangs == [
        ("exit", noun([("leaf", [ord(c) for c in text])]))
        for text in ("counter: bust", "toy kernel")
    ]


def test_effects_of_vere_traces_come_as_they_were_given(tmp_path: Path) -> None:
    """The echo kernel returns the effects that are its ovum's data."""
    effects = noun([((["term", "1"]), "blit", [("bel", 0)]), (["behn"], "doze", 0)])
    with SerfProcess(tmp_path / "image") as serf:
        serf.ripe()
        boot = pill_rows("echo")
        played = serf.ask(Play(0, 1, len(boot), boot))
        assert isinstance(played, Played), (played, os.fspath(tmp_path))
        done = serf.ask(Work(1, 0, job(1 << 64, ["x", "y"], "anything", effects)))
    assert isinstance(done, Done)
    assert done.effects == (
        Effect((b"term", b"1"), b"blit", jam(noun([("bel", 0)]))),
        Effect((b"behn",), b"doze", jam(0)),
    )
