"""Block enumeration: what power cuts leave of real filesystems, on real mounts.

A sample of the disks that the writes and flushes of a scenario allow; each is
mounted, and judged. scripts/soak does it in number.
TREADLE_LAB_BLOCKS: how many disks of each filesystem (60). TREADLE_LAB_SEED.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from king.lab.blocks import BlockRecord, record, why_no_blocks
from king.lab.ledger import Ledger
from king.lab.scenario import find_scenario
from king.lab.session import Session
from king.lab.trial import Lab

BLOCKS = int(os.environ.get("TREADLE_LAB_BLOCKS", "60"))
SEED = int(os.environ.get("TREADLE_LAB_SEED", "1"))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("kind", "name"), [("ext4", "steady"), ("xfs", "save")])
def test_no_disk_of_a_real_filesystem_loses_anything(
    lab: Lab, kind: str, name: str, tmp_path: Path
) -> None:
    if missing := why_no_blocks(kind):
        pytest.skip(f"block enumeration of {kind}: {missing}")
    ledger = Ledger()
    opened = lab.judge.opened_logs
    kept = tmp_path / "record"
    scenario = find_scenario(name)
    record(lab, scenario, kind, kept)
    blocks = BlockRecord(kept, SEED)
    with Session(lab, scenario, SEED, ledger, keep=tmp_path / "found") as session:
        done = session.judge_blocks_of(blocks, BLOCKS)
    print(f"{kind}: {len(blocks.states)} states; {ledger.counts}")
    assert not session.found, [f.faults for f in session.found]
    assert done == min(BLOCKS, len(blocks.states))
    assert {state.kind for state in blocks.states} > {"prefix", "subset"}
    assert lab.judge.opened_logs - opened > BLOCKS / 10, "the disks do not differ"
