"""A snapshot of another history than the log's is never built upon, also where
there is nothing to replay."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from king.errors import TreadleError
from king.log.store import MemoryLog, Meta
from proto.jam import jam
from proto.message import Row
from proto.noun import Cell
from tests.support.fake_serf import step
from tests.support.live_rig import Rig, open_rig


def history(count: int) -> list[Row]:
    rows: list[Row] = []
    mug = 0
    for number in range(count):
        job = jam(Cell(number << 48, Cell(1, 2)))
        mug = step(mug, job)
        rows.append(Row(mug, job))
    return rows


@pytest.mark.parametrize("event", [3, 10])
async def test_a_snapshot_must_have_the_mug_of_the_log(
    tmp_path: Path, event: int
) -> None:
    rows = history(10)
    image = tmp_path / "image.json"
    state = {"event": event, "mug": rows[event - 1].mug, "generation": 1}
    image.write_text(json.dumps(state))
    async with open_rig(tmp_path, MemoryLog(Meta(0, True, 0), rows)) as rig:
        assert rig.spine.pipeline.committed == 10
        assert (await rig.revive(False))[1] == 10
        image.write_text(json.dumps(state | {"mug": state["mug"] ^ 1}))
        with pytest.raises(TreadleError) as caught:
            await rig.revive(False)
        assert caught.value.code == "replay-diverged"
        assert f"event {event}" in caught.value.message


async def test_a_log_that_begins_after_the_snapshot_can_be_run(
    tmp_path: Path,
) -> None:
    """Older epochs were chopped: there is no row to compare with."""
    rows = history(10)
    state = {"event": 4, "mug": rows[3].mug, "generation": 1}
    (tmp_path / "image.json").write_text(json.dumps(state))
    log = MemoryLog(Meta(0, True, 0), rows[4:], start=4)
    async with open_rig(tmp_path, log) as rig:
        check: Rig = rig
        assert check.spine.pipeline.committed == 10
