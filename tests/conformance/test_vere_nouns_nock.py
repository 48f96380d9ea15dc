"""Vere's golden nouns and computations, through the serf's JSON-lines tools.

Each tool is one warm process: line after line in the same machine.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.serf_rig import ROOT, VERE

Row = dict[str, Any]


def rows_of(name: str) -> list[Row]:
    return [json.loads(line) for line in (VERE / name).read_text().splitlines()]


def tool(args: list[str], rows: list[Row], *, small_stack: bool = False) -> list[Row]:
    """Feed rows to a tool, a line each; the answers."""
    command = [sys.executable, "-m", "serf", *args, "-"]
    if small_stack:
        # 256 KiB of C stack: whatever recurses over a noun dies.
        command = ["sh", "-c", 'ulimit -s 256 && exec "$@"', "sh", *command]
    done = subprocess.run(
        command,
        input="".join(json.dumps(row) + "\n" for row in rows),
        capture_output=True,
        text=True,
        timeout=250,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    return [json.loads(line) for line in done.stdout.splitlines()]


def check_noun(row: Row, got: Row) -> str | None:
    if row["kind"] == "error":
        return None if "error" in got else "was accepted"
    if "error" in got:
        return f"refused: {got['error']}"
    wanted = {"mug": row["mug"], "rejam": row.get("rejam", row["jam"])}
    return None if got == wanted else f"{got} instead of {wanted}"


def check_nock(row: Row, got: Row) -> str | None:
    if got.get("result") != row["result"]:
        return f"{got} instead of {row['result']}"
    keys = ["mote", "trace"] if row["result"] == "crash" else ["mug", "jam"]
    for key in [*keys, "slog"]:
        if key in row and key not in got:
            return f"no {key}"
        if key in row and got[key] != row[key]:
            return f"{key}: {str(got.get(key))[:80]} instead of {row[key][:80]}"
    # Hints that measure print what no two machines measure alike.
    if "slog" not in row and "slog" in got and row["class"] != "hint-static":
        return "printed something"
    return None


def report(rows: list[Row], answers: list[Row], check: Any) -> list[str]:
    """What differs, line by line."""
    assert len(rows) == len(answers)
    found = []
    for number, (row, got) in enumerate(zip(rows, answers, strict=True), 1):
        why = check(row, got)
        if why is not None:
            found.append(f"line {number} ({row['class']}): {why}"[:400])
    return found


@pytest.mark.parametrize("small_stack", [False, True], ids=["plain", "small-stack"])
def test_nouns_cue_jam_and_mug_as_in_vere(small_stack: bool) -> None:
    rows = rows_of("nouns.jsonl")
    assert len(rows) == 415
    assert report(rows, tool(["noun"], rows, small_stack=small_stack), check_noun) == []


@pytest.mark.parametrize("small_stack", [False, True], ids=["plain", "small-stack"])
@pytest.mark.parametrize(
    "jets",
    [[], ["--no-jets"], ["--jet-check", "--stats"]],
    ids=["jets", "no-jets", "watched"],
)
def test_computations_end_as_in_vere(jets: list[str], small_stack: bool) -> None:
    rows = rows_of("nock.jsonl")
    assert len(rows) == 426
    answers = tool(["nock", *jets], rows, small_stack=small_stack)
    assert report(rows, answers, check_nock) == []


def test_a_computation_leaves_no_trace_in_the_next() -> None:
    """Backwards, and every one twice in a row."""
    rows = [row for row in reversed(rows_of("nock.jsonl")) for _ in range(2)]
    assert report(rows, tool(["nock"], rows), check_nock) == []


@pytest.mark.parametrize("name", ["noun", "nock"])
def test_a_bad_line_is_answered_and_the_next_is_read(name: str) -> None:
    command = [sys.executable, "-m", "serf", name, "-"]
    lines = ["{", "[]", '{"jam": 3}', '{"jam": "0"}', '{"in": "zz"}', '{"in": "01"}']
    done = subprocess.run(
        command,
        input="\n".join(lines) + '\n{"jam": "c103", "in": "c103"}\n',
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        check=True,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == 7
    assert all("error" in answer for answer in answers[:6])


def test_bench_computations_give_what_vere_gave(tmp_path: Path) -> None:
    expect = json.loads((VERE / "bench/expect.json").read_text())["cases"]
    for name in ("dec1e6", "fib20", "deep1e5", "list1e6", "tree20"):
        done = subprocess.run(
            [
                *(sys.executable, "-m", "serf", "nock", "--json", "--time"),
                *(str(VERE / f"bench/{name}.jam"), "--out", str(tmp_path / name)),
            ],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=ROOT,
            check=True,
        )
        row = json.loads(done.stdout)
        assert row["mug"] == expect[name]["mug"], name
        assert row["seconds"] > 0
        assert (tmp_path / name).stat().st_size == row["bytes"]
