"""The bench runs, and what it prints is whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from proto.jam import cue
from proto.mug import mug
from proto.noun import listed
from tests.bench.alone import nock
from tests.bench.figure import Aim, figure, percentile
from tests.bench.rooms import BY_HAND, NAMES

ROOT = Path(__file__).resolve().parents[2]
NUMBERS = ("value", "floor", "ratio", "low", "high", "floor_low", "floor_high")
WORDS = ("name", "unit", "floor_is", "better", "note")
# Those that the project has promised to keep.
PROMISED = [
    "event_1",
    "event_10",
    "event_256",
    "event_1024",
    "latency_p99",
    "replay",
    "save",
    "restart_10mb",
    "restart_500mb",
    "save_1gb",
    "save_stall_1gb",
    "restart_2gb",
    "decrement",
    "tree",
    "cue",
    "jam",
]


def bench(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "tests.bench", *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
    )


def test_promised_names_exist() -> None:
    assert set(PROMISED) <= set(NAMES)
    assert len(set(NAMES)) == len(NAMES)
    assert set(NAMES) > BY_HAND
    assert set(PROMISED) & BY_HAND == {"save_1gb", "save_stall_1gb", "restart_2gb"}


def test_bench_quick_yields_whole_rows() -> None:
    names = ["event_10", "latency_p99", "decrement", "save_1gb", "save_stall_1gb"]
    done = bench("--json", "--quick", "--only", *names)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert sorted(row["name"] for row in rows) == sorted(names)
    for row in rows:
        for key in NUMBERS:
            assert isinstance(row[key], float | int), (row["name"], key)
            assert row[key] > 0, (row["name"], key)
        for key in WORDS:
            assert row[key], (row["name"], key)
        assert row["runs"] >= 1
        assert row["low"] <= row["value"] <= row["high"]
        more = row["better"] == "higher"
        assert more == (row["unit"] == "events/s")
        top, bottom = ("value", "floor") if more else ("floor", "value")
        assert row["ratio"] == pytest.approx(row[top] / row[bottom], rel=1e-3)


def test_inputs_are_written_for_another_nock(tmp_path: Path) -> None:
    done = bench("--inputs", str(tmp_path))
    assert done.returncode == 0, done.stderr
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {Path(line).name for line in done.stdout.split()}
    assert {"dec1e6.jam", "edit10k.jam", "data-tree.jam"} <= written
    answer = nock(tmp_path / "edit10k.jam", 2)
    assert answer["mug"] == f"{mug(listed([*range(9_999), 2])):08x}"
    assert len(answer["seconds"]) == 2
    assert cue((tmp_path / "data-small.jam").read_bytes()) is not None


def test_bench_refuses_unknown_names() -> None:
    done = bench("--only", "no_such_figure")
    assert done.returncode == 2
    assert "no_such_figure" in done.stderr


def test_ratio_is_the_share_of_the_floors_speed() -> None:
    rate = figure("a", "events/s", [50, 40, 90], [100.0], "")
    assert (rate.value, rate.ratio, rate.low, rate.high) == (50, 0.5, 40, 90)
    time = figure("b", "ms", [400.0], [100.0], "", aim=Aim(300))
    assert time.ratio == 0.25
    assert time.met is False
    assert figure("c", "ms", [200.0], [100.0], "", aim=Aim(0.5, of_ratio=True)).met


def test_percentile_is_a_value_that_was_seen() -> None:
    values = [float(n) for n in range(100)]
    assert percentile(values, 0.5) == 50
    assert percentile(values, 0.99) == 99
    assert percentile([3.0], 0.99) == 3.0
