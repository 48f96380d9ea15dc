"""Replay against the fake serf: every row once, mugs compared, resumable."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace as changed
from pathlib import Path
from typing import Any

import pytest
import trio

from king import replay as replaying
from king.errors import TreadleError
from king.log.store import MemoryLog, Meta
from king.log_thread import LogThread
from king.lord import Lord, SerfSpec
from king.replay import Progress, replay
from proto.jam import jam
from proto.message import Row
from proto.noun import Cell
from tests.support.fake_serf import step
from tests.support.live_rig import FAKE, LOG, SHIP


def rows(count: int, *, boot: int = 0) -> list[Row]:
    out = []
    mug = 0
    for number in range(1, count + 1):
        job = jam(Cell(number << 64, number))
        mug = step(mug, job)
        out.append(Row(0 if number <= boot else mug, job))
    return out


@asynccontextmanager
async def serf(folder: Path, last: int, **env: str) -> AsyncIterator[Lord]:
    import sys

    spec = SerfSpec(
        folder / "image.json",
        SHIP,
        LOG,
        last,
        command=(sys.executable, FAKE),
        environment=tuple(env.items()),
    )
    async with trio.open_nursery() as nursery:
        lord = await Lord.start(nursery, changed(spec))
        yield lord
        await lord.stop()


async def play(folder: Path, log: MemoryLog, *, env: Any = None, **how: Any) -> Any:
    thread = LogThread()
    try:
        async with serf(folder, log.last, **(env or {})) as lord:
            try:
                return await replay(lord, log, thread, life=log.meta.life, **how)
            except TreadleError as error:
                return error
    finally:
        await thread.close()


async def test_replay_from_nothing(tmp_path: Path) -> None:
    log = MemoryLog(Meta(0, True, 3), rows(5000, boot=8))
    seen: list[Progress] = []
    done = await play(tmp_path, log, on_progress=seen.append)
    assert (done.first, done.event, done.count) == (1, 5000, 5000)
    assert done.mug == log.read(5000)[0].mug
    assert done.snapshot == 5000
    assert seen[-1].event == 5000
    assert json.loads((tmp_path / "image.json").read_text())["event"] == 5000


async def test_replay_goes_on_from_the_snapshot(tmp_path: Path) -> None:
    log = MemoryLog(Meta(0, True, 3), rows(5000))
    first = await play(tmp_path, log, until=3000)
    assert (first.event, first.snapshot) == (3000, 3000)
    second = await play(tmp_path, log)
    assert (second.first, second.count) == (3001, 2000)
    third = await play(tmp_path, log)
    assert third.count == 0
    assert third.event == 5000


async def test_replay_saves_on_its_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replaying, "ROWS_MAX", 100)
    log = MemoryLog(Meta(0, True, 3), rows(1000))
    error = await play(tmp_path, log, env={"FAKE_SERF_PLAY_DIE": "900"}, save_s=0.0)
    assert isinstance(error, TreadleError)
    assert error.code == "serf-died"
    assert json.loads((tmp_path / "image.json").read_text())["event"] >= 500
    done = await play(tmp_path, log)
    assert done.event == 1000
    assert done.count <= 500


async def test_replay_can_be_halted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replaying, "ROWS_MAX", 10)
    log = MemoryLog(Meta(0, True, 3), rows(1000))
    seen: list[Progress] = []
    done = await play(
        tmp_path, log, on_progress=seen.append, halt=lambda: len(seen) > 5
    )
    assert 0 < done.event < 1000
    assert done.snapshot == done.event


async def test_a_divergence_names_event_and_both_mugs(tmp_path: Path) -> None:
    log = MemoryLog(Meta(0, True, 3), rows(1000))
    error = await play(tmp_path, log, env={"FAKE_SERF_SKEW": "700"})
    assert isinstance(error, TreadleError)
    assert error.code == "replay-diverged"
    good = log.read(700)[0].mug
    assert "event 700" in error.message
    assert f"{good:08x}" in error.message
    assert f"{good ^ 1:08x}" in error.message
    assert "treadle replay" in error.hint


async def test_a_serf_that_agrees_to_a_wrong_end_is_caught(tmp_path: Path) -> None:
    # The skewed event has no mug in the log, so the serf cannot notice; the
    # king compares the next one that has.
    some = rows(50)
    some[39] = Row(0, some[39].job)
    log = MemoryLog(Meta(0, True, 3), some)
    error = await play(tmp_path, log, env={"FAKE_SERF_SKEW": "40"})
    assert isinstance(error, TreadleError)
    assert error.code == "replay-diverged"
    assert "event 41" in error.message


async def test_a_log_shorter_than_its_life_is_refused(tmp_path: Path) -> None:
    log = MemoryLog(Meta(0, True, 9), rows(5))
    error = await play(tmp_path, log)
    assert isinstance(error, TreadleError)
    assert error.code == "log-gap"


async def test_the_lifecycle_rows_never_come_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replaying, "ROWS_MAX", 4)
    monkeypatch.setattr(replaying, "BYTES_MAX", 20)
    sent: list[Any] = []
    log = MemoryLog(Meta(0, True, 30), rows(40))
    thread = LogThread()
    async with serf(tmp_path, 40) as lord:
        say = lord.send

        def note(writs: Any) -> None:
            sent.extend(writs)
            say(writs)

        lord.send = note
        done = await replay(lord, log, thread, life=30)
    await thread.close()
    assert done.event == 40
    assert len(sent[0].rows) == 30
    assert sent[0].life == 30
    assert all(len(writ.rows) <= 4 for writ in sent[1:] if hasattr(writ, "rows"))
    assert all(writ.life == 0 for writ in sent[1:] if hasattr(writ, "rows"))
