"""A serf that never stops talking, or whose jams are none: the king goes on."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio

from king.daemon import _Ship
from king.drivers.wire import goof_jams
from king.event import Effect, Failure
from king.lord import READ_SIZE, Lord
from king.pipeline import Lie, Pipeline
from proto import fast
from proto.codec import pack_pleas
from proto.jam import cue, jam
from proto.message import Done, Goof, Jam, Slog
from proto.noun import Cell
from tests.support.live_rig import LANES, open_rig, ovum, slow_stamp

LOUD = """
import os, sys
sys.path.insert(0, sys.argv[1])
from proto.codec import pack_pleas
from proto.message import PROTOCOL, Jam, Ripe, Slog
up = int(sys.argv[sys.argv.index("--write") + 1])
ship = bytes.fromhex(sys.argv[sys.argv.index("--ship") + 1])
log = bytes.fromhex(sys.argv[sys.argv.index("--log") + 1])
os.write(up, pack_pleas([Ripe(PROTOCOL, "loud", ship, log, 0, 0, 0, 0, "")]))
data = pack_pleas([Slog(0, 1, Jam(b"\\x02"))] * 20)
while True:
    os.write(up, data)
"""
SLOG_SIZE = len(pack_pleas([Slog(0, 1, Jam(b"\x02"))] * 20)) // 20

BAD = Jam(b"\xff\xff\xff")


async def test_a_loud_serf_leaves_time_for_others(tmp_path: Path) -> None:
    script = tmp_path / "loud.py"
    script.write_text(LOUD)
    root = str(Path(__file__).parents[2])
    reads = 20
    heard = turns = 0

    def hear(_: Slog) -> None:
        nonlocal heard
        heard += 1
        if heard * SLOG_SIZE >= reads * READ_SIZE:
            lord.kill("enough")

    async with open_rig(tmp_path) as rig:
        spec = replace(rig.spec(), command=(sys.executable, str(script), root))
        lord = await Lord.start(rig.nursery, spec)
        lord.on_slog = hear
        while lord.is_alive:
            await trio.lowlevel.checkpoint()
            turns += 1
        await lord.dead.wait()
    # Two reads at most between two turns of another task.
    assert turns >= reads // 2, f"the king heard nothing but its serf: {turns} turns"


def test_a_replacing_job_that_is_no_jam_is_a_lie() -> None:
    pipeline = Pipeline(LANES, event=0, last_time=0, stamp=slow_stamp)
    pipeline.resume(0)
    pipeline.offer(pipeline.lanes[0], ovum("a"), None)
    (work,) = pipeline.send(1 << 100)
    job = cast(Any, work).job
    time = cast(Cell, cue(job)).head
    good = fast.stamp(cast(int, time), jam(Cell(1, Cell(2, 3))))
    for bad in (good[:-2] + b"\xff\xff\xff", good + b"\0", good[:-1]):
        with pytest.raises(Lie):
            pipeline.answer(Done(1, 1, 7, (), Jam(bad)))
    pipeline.answer(Done(1, 1, 7, (), good))


def test_a_tang_that_is_no_jam_is_left_out() -> None:
    parts = goof_jams(Failure((Goof("exit", BAD),)))
    assert fast.tuple_(parts) == jam(Cell(Cell(0x74697865, 0), 0))


async def test_a_trim_that_is_no_jam_is_lost_and_one_is_enough() -> None:
    lines: list[str] = []
    offered: list[object] = []
    gate = trio.Event()

    async def submit(event: object) -> None:
        offered.append(event)
        await gate.wait()

    async with trio.open_nursery() as nursery:
        ship = SimpleNamespace(
            log=lines.append,
            _drivers=nursery,
            hind=SimpleNamespace(submit=submit),
            _trimming=False,
        )
        ship._trim = lambda event: _Ship._trim(cast(Any, ship), event)
        for data in (BAD, jam(1), jam(1), jam(1)):
            effect = Effect((b"",), b"trim", data)
            _Ship._on_trim(cast(Any, ship), 1, effect)
        await trio.testing.wait_all_tasks_blocked()
        assert len(offered) == 1
        assert len(lines) == 1
        gate.set()
        await trio.testing.wait_all_tasks_blocked()
        _Ship._on_trim(cast(Any, ship), 2, Effect((b"",), b"trim", jam(1)))
        await trio.testing.wait_all_tasks_blocked()
        assert len(offered) == 2
