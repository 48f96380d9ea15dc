"""`python -m serf noun|nock|check-image|...` on files: what people see, and codes."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from king.errors import TreadleError
from king.image_copy import copy_image
from proto.jam import cue, jam
from proto.message import Play, Save, Saved
from proto.mug import mug
from proto.noun import Noun, noun
from tests.support.serf_rig import COUNT, LOG, ROOT, SHIP, SerfProcess, boot_row, core


def tool(*args: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "serf", *map(str, args)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        check=False,
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "noun.jam"


def write(file: Path, value: Noun) -> Noun:
    file.write_bytes(jam(value))
    return value


def test_noun_counts_distinct_and_as_a_tree(file: Path) -> None:
    value = write(file, noun((1, 2), (1, 2), "term", 1 << 200))
    done = tool("noun", file, "--json")
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)
    assert row == {
        "file": str(file),
        "bytes": len(jam(value)),
        "canonical": True,
        "mug": f"{mug(value):08x}",
        "cells": 4,
        "atoms": 4,
        "cells_tree": 5,
        "atoms_tree": 6,
        "depth": 3,
        "text": row["text"],
    }
    assert row["text"].startswith("[[1 2] [1 2] %term ")
    plain = tool("noun", file).stdout
    assert f"mug    {mug(value):08x}\n" in plain
    assert "cells  4 distinct, 5 as a tree" in plain


def test_noun_of_exponential_tree_is_counted(file: Path) -> None:
    value: Noun = 0
    for _ in range(200):
        value = noun(value, value)
    write(file, value)
    row = json.loads(tool("noun", file, "--json").stdout)
    assert (row["cells"], row["atoms"], row["depth"]) == (200, 1, 200)
    assert row["cells_tree"] is None
    assert len(row["text"]) < 3000
    assert "2^64 or more as a tree" in tool("noun", file).stdout


def test_noun_says_what_is_not_canonical(file: Path) -> None:
    file.write_bytes(bytes.fromhex("0400"))
    row = json.loads(tool("noun", file, "--json").stdout)
    assert (row["canonical"], row["mug"]) == (False, f"{mug(0):08x}")


@pytest.mark.parametrize(
    ("data", "why"), [(b"", "gone"), (b"\x07", "back"), (b"\x00" * 40, "meme")]
)
@pytest.mark.parametrize("name", ["noun", "nock"])
def test_bad_files_get_one_clear_message(
    file: Path, data: bytes, why: str, name: str
) -> None:
    file.write_bytes(data)
    done = tool(name, file)
    assert done.returncode == 1
    assert done.stdout == ""
    line, hint = done.stderr.splitlines()
    assert line.startswith(f"treadle: jam-bad: {file}: not a jam")
    assert why in line
    assert hint.startswith("  hint: ")
    done = tool(name, file, "--json")
    assert done.returncode == 1
    row = json.loads(done.stdout)
    assert f"treadle: {row['error']}: {row['message']}\n" in done.stderr
    assert (row["error"], row["exit_code"]) == ("jam-bad", 1)


@pytest.mark.parametrize("name", ["noun", "nock"])
def test_files_that_are_not_there_are_told_as_faults(tmp_path: Path, name: str) -> None:
    done = tool(name, tmp_path / "nothing", "--json")
    assert done.returncode == 1
    message = f"{tmp_path / 'nothing'}: No such file or directory"
    assert done.stderr.splitlines()[0] == f"treadle: file-bad: {message}"
    row = json.loads(done.stdout)
    assert (row["error"], row["message"]) == ("file-bad", message)


def test_a_product_that_cannot_be_written_is_a_fault(
    file: Path, tmp_path: Path
) -> None:
    write(file, noun(41, (4, 0, 1)))
    done = tool("nock", file, "--out", tmp_path / "no" / "where")
    assert done.returncode == 1
    assert done.stderr.startswith(f"treadle: file-bad: {file}: cannot write ")


@pytest.mark.parametrize("name", ["check-image", "image-info"])
def test_files_that_are_not_there_get_one_clear_message(
    tmp_path: Path, name: str
) -> None:
    done = tool(name, tmp_path / "nothing")
    assert done.returncode == 1
    assert done.stderr == f"{name}: {tmp_path / 'nothing'}: No such file or directory\n"


@pytest.mark.parametrize(
    "args",
    [["noun"], ["noun", "a", "b"], ["noun", "a", "--time"], ["nock", "a", "--out"]],
)
def test_wrong_usage_is_64(args: list[str]) -> None:
    done = tool(*args)
    assert done.returncode == 64
    assert done.stderr.startswith("serf: ")


def test_nock_prints_the_product(file: Path, tmp_path: Path) -> None:
    write(file, noun(41, (4, 0, 1)))
    done = tool("nock", file)
    assert (done.returncode, done.stdout) == (0, f"42\nmug {mug(42):08x}\n")
    out = tmp_path / "out.jam"
    for flags in (["--no-jets"], ["--time"], ["--out", str(out)]):
        done = tool("nock", file, "--json", *flags)
        row = json.loads(done.stdout)
        assert (row["result"], row["mug"], row["text"]) == (
            "ok",
            f"{mug(42):08x}",
            "42",
        )
        assert ("seconds" in row) == (flags == ["--time"])
    assert cue(out.read_bytes()) == 42


def test_nock_of_a_crash_is_2_with_its_trace(file: Path) -> None:
    write(file, noun(0, (11, ("mean", (1, "outer")), 11, ("spot", (1, 7)), 0, 0)))
    done = tool("nock", file)
    assert done.returncode == 2
    assert done.stdout == ""
    first, *rest = done.stderr.splitlines()
    why = "the computation crashed with %exit"
    assert first == f"treadle: nock-crashed: {file}: {why}"
    assert rest == ["  [%spot 7]", "  [%mean %outer]"]
    done = tool("nock", file, "--json")
    assert done.returncode == 2
    row = json.loads(done.stdout)
    assert (row["result"], row["mote"]) == ("crash", "exit")
    assert cue(bytes.fromhex(row["trace"])) == noun([("spot", 7), ("mean", "outer")])


def test_nock_of_an_atom_is_bad_input(file: Path) -> None:
    write(file, 7)
    done = tool("nock", file)
    assert done.returncode == 1
    assert "not a jam of [subject formula]: an atom" in done.stderr


def test_nock_shows_slogs_on_stderr(file: Path) -> None:
    write(file, noun(5, (11, ("slog", (1, 0, "hello")), 0, 1)))
    done = tool("nock", file)
    assert (done.returncode, done.stderr) == (0, "%hello\n")


def saved(folder: Path) -> tuple[Path, Noun]:
    """An image, and the kernel in it."""
    image = folder / "image"
    kernel = core(((1, 0), COUNT), 3)
    with SerfProcess(image) as serf:
        serf.ripe()
        serf.ask(Play(1, 1, 1, (boot_row(kernel),)))
        assert isinstance(serf.ask(Save(2, 1)), Saved)
    return image, kernel


def test_check_image(tmp_path: Path) -> None:
    image, kernel = saved(tmp_path)
    row = json.loads(tool("check-image", image, "--json").stdout)
    assert (row["fault"], row["good"], row["event"]) == ("", True, 1)
    assert row["mug"] == f"{mug(kernel):08x}"
    assert (row["ship"], row["log"]) == (SHIP.hex(), LOG.hex())
    assert tool("check-image", image).returncode == 0
    # Any flipped byte of a page is found.
    data = bytearray(image.read_bytes())
    at = data.rindex(bytes([1]))
    data[at] ^= 0x80
    image.write_bytes(data)
    done = tool("check-image", image)
    assert done.returncode == 1
    assert str(image) in done.stderr
    done = tool("check-image", image, "--json")
    assert json.loads(done.stdout)["fault"]
    os.truncate(image, 0)
    assert json.loads(tool("check-image", image, "--json").stdout)["good"] is False


def test_image_info_reads_the_superblocks_only(tmp_path: Path) -> None:
    image, kernel = saved(tmp_path)
    checked = json.loads(tool("check-image", image, "--json").stdout)
    # Nothing behind the ring of four slots of 16 KiB is there any more.
    size = image.stat().st_size
    os.truncate(image, 4 * 16384)
    os.truncate(image, size)
    assert json.loads(tool("image-info", image, "--json").stdout) == checked
    done = tool("image-info", image)
    assert done.returncode == 0
    assert f"event 1, mug {mug(kernel):08x}" in done.stdout
    assert tool("check-image", image).returncode == 1
    os.truncate(image, 0)
    assert json.loads(tool("image-info", image, "--json").stdout)["good"] is False
    image.write_bytes(b"nonsense" * 8192)
    row = json.loads(tool("image-info", image, "--json").stdout)
    assert row["good"] is False


def saved_image(image: Path) -> None:
    with SerfProcess(image) as serf:
        serf.ripe()
        serf.ask(Play(1, 1, 1, (boot_row(core(((1, 0), COUNT), 3)),)))
        assert isinstance(serf.ask(Save(2, 1)), Saved)


def test_image_copy_makes_a_whole_image(tmp_path: Path) -> None:
    image, target = tmp_path / "image", tmp_path / "copy"
    saved_image(image)
    done = tool("image-copy", image, "1", target, "--json")
    assert done.returncode == 0, done.stderr
    *steps, made = map(json.loads, done.stdout.splitlines())
    assert {step["step"] for step in steps} <= {"copy", "verify"}
    assert all(step["done"] <= step["total"] for step in steps)
    before, after = (
        json.loads(tool("check-image", path, "--json").stdout)
        for path in (image, target)
    )
    for name in ("good", "event", "mug", "generation", "ship", "log", "pages"):
        assert before[name] == after[name]
    assert made["bytes"] == target.stat().st_size == 16384 * after["slots"]
    assert (made["event"], made["mug"]) == (1, before["mug"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "image"]
    with SerfProcess(target) as serf:
        assert serf.ripe().event == 1


def test_image_copy_refuses_and_leaves_nothing(tmp_path: Path) -> None:
    image, target = tmp_path / "image", tmp_path / "copy"
    saved_image(image)
    part = tmp_path / "copy.part"
    part.write_bytes(b"of a copy that was killed")
    done = tool("image-copy", image, "7", target, "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"] == "image-event-missing"
    assert done.stderr.endswith(
        f"{image}: there is no generation of event 7, but of 1\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["image"]
    with part.open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        done = tool("image-copy", image, "newest", target)
        assert "is being made by another process" in done.stderr
    assert part.exists()
    data = bytearray(image.read_bytes())
    data[data.rindex(bytes([1]))] ^= 0x80
    image.write_bytes(data)
    done = tool("image-copy", image, "newest", target, "--json")
    assert json.loads(done.stdout)["error"] == "image-damaged"
    target.write_bytes(b"mine")
    done = tool("image-copy", image, "newest", target)
    assert (done.returncode, target.read_bytes()) == (1, b"mine")
    assert done.stderr == f"image-copy: file-bad: {target}: exists already\n"
    for words in ([image], [image, "-1", target], [image, str(1 << 64), target]):
        assert tool("image-copy", *words).returncode == 64


def test_the_king_copies_an_image(tmp_path: Path) -> None:
    image, target = tmp_path / "image", tmp_path / "copy"
    saved_image(image)
    made = trio.run(copy_image, image, None, target)
    assert (made["event"], made["file"]) == (1, str(target))
    with pytest.raises(TreadleError) as caught:
        trio.run(copy_image, image, 4, tmp_path / "other")
    assert caught.value.code == "image-event-missing"

    async def cancelled(seconds: float) -> bool:
        with trio.move_on_after(seconds) as scope:
            await copy_image(image, None, tmp_path / "other")
        return scope.cancelled_caught

    ended = []
    for milliseconds in (0, 5, 20, 50, 100):
        ended.append(trio.run(cancelled, milliseconds / 1000))
        if (tmp_path / "other").exists():  # it was too late to be cancelled
            done = tool("check-image", tmp_path / "other", "--json")
            assert json.loads(done.stdout)["good"]
            (tmp_path / "other").unlink()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "image"]
    assert any(ended)


DEC = (8, (1, 0), 8, (1, 6, (5, (0, 7), 4, 0, 6), (0, 6), 9, 2, 10, (6, 4, 0, 6), 0, 1))
"""The head of a decrement of the subject; `9 2 0 1` ends it."""
DEC_BY_CALLS = (8, (1, 0), 8)
DEC_BY_CALLS += ((1, 6, (5, (0, 7), 4, 7, (0, 6), 0, 1), *DEC[3][3:]),)
"""The same, with a test that keeps it from being a counted loop."""


def spotted(formula: object, line: int) -> Noun:
    return noun(11, ("spot", 1, ["lib", "hoon"], (line, 1), line, 9), formula)


def named(name: str, body: object) -> Noun:
    """A registered gate under k138 whose sample is the subject."""
    clue = noun("fast", 1, name, (0, 7), 0)
    root = noun(11, ("fast", 1, ("k", 138), (1, 0), 0), (1, 0, 0), 1, 138)
    return noun(8, root, 11, clue, (1, body), (0, 3), 0, 2)


def test_nock_counts_what_it_did(file: Path) -> None:
    write(file, noun(1000, (*DEC, 9, 2, 0, 1)))
    row = json.loads(tool("nock", file, "--stats", "--json").stdout)
    assert row["text"] == "999"
    assert row["stats"]["instructions"]["ROUND"] == 998
    assert row["stats"]["instructions"]["TSLAM"] == 1
    write(file, noun(1000, (*DEC_BY_CALLS, 9, 2, 0, 1)))
    row = json.loads(tool("nock", file, "--stats", "--json").stdout)
    stats = row["stats"]
    assert row["text"] == "999"
    assert stats["instructions"]["TSLAM"] == 999
    assert stats["instructions"]["INC"] == 1000
    assert stats["instructions_total"] == sum(stats["instructions"].values())
    assert stats["calls"] == 1001  # the run itself, the kick, the loop
    assert stats["programs_compiled"] == 2
    assert stats["bytes_allocated"] > 999 * 48
    assert 0 < stats["nursery_peak_bytes"] <= stats["bytes_allocated"] + (1 << 20)
    assert stats["stack_peak_bytes"] > 0
    assert stats["jets"] == {}
    plain = tool("nock", file, "--stats").stdout
    assert "instructions TSLAM   999\n" in plain
    memo = noun(11, ("memo", 1, 0), 4, 0, 1)
    write(file, noun(1, (memo, memo)))
    stats = json.loads(tool("nock", file, "--stats", "--json").stdout)["stats"]
    memo = stats["memo_transient"]
    assert (memo["hits"], memo["misses"], memo["entries_peak"]) == (1, 1, 1)
    assert 0 < memo["bytes_peak"] <= memo["bytes_max"]


def counted(file: Path, subject: object, body: object) -> dict[str, int]:
    """Counts of a loop up to 100; its core is [formula number subject]."""
    loop = (6, (5, (1, 100), 0, 6), (0, 6), 9, 2, 10, body, 0, 1)
    write(file, noun(0, 9, 2, 1, loop, 0, subject))
    row = json.loads(tool("nock", file, "--stats", "--json").stdout)
    assert row["text"] == "100"
    stats: dict[str, int] = row["stats"]
    return stats


def test_a_call_knows_what_it_met_before(file: Path) -> None:
    swap = (3, (2, (0, 6), 0, 14), (0, 15), 0, 14)
    stats = counted(file, ((4, 0, 1), 7, (0, 1), 4, 0, 1), swap)
    assert stats["call_cache_turns"] == 98
    assert stats["call_cache_misses"] <= 6


def test_equal_formulas_share_a_program(file: Path) -> None:
    add_one = (6, 2, (0, 6), (1, 4), (1, 0), 1, 1)
    stats = counted(file, 0, add_one)
    assert stats["programs_shared"] == 99
    assert stats["programs_compiled"] == 3


def test_what_an_arm_makes_of_its_core_is_kept(file: Path) -> None:
    gate = ((1, 0, 6), (1, 0), 0, 1)
    kick_and_add = (6, 7, ((9, 2, 0, 7), 4, 0, 6), 0, 3)
    stats = counted(file, (gate, 0), kick_and_add)
    assert stats["call_products_kept"] == 99


def test_stats_count_jets(file: Path) -> None:
    gate = noun(11, ("fast", 1, "dec", (0, 7), 0), (1, 0, 0), (1, 7), 0, 1)
    layer = noun(11, ("fast", 1, "one", (0, 3), 0), (1, 0, 0), 0, 1)
    root = noun(11, ("fast", 1, ("k", 138), (1, 0), 0), (1, 0, 0), 1, 138)
    write(file, noun(0, (7, root, 7, layer, 7, gate, 9, 2, 0, 1)))
    row = json.loads(tool("nock", file, "--stats", "--json").stdout)
    assert row["text"] == "6"
    assert row["stats"]["jets"] == {"one/dec": {"hits": 1}}
    row = json.loads(tool("nock", file, "--no-jets", "--json").stdout)
    assert row["result"] == "crash"


def test_the_profile_is_of_names_and_spots(file: Path, tmp_path: Path) -> None:
    loop = noun(*DEC, 9, 2, 0, 1)
    body = spotted((spotted((7, (0, 6), loop), 20), 1, 0), 10)
    write(file, noun(3_000_000, (7, named("work", body), 9, 2, 0, 1)))
    folded = tmp_path / "folded"
    done = tool("nock", file, "--profile", folded)
    assert done.returncode == 0, done.stderr
    rows = {}
    for line in folded.read_text().splitlines():
        stack, count = line.rsplit(" ", 1)
        rows[stack] = int(count)
    deep = "k138/work;/lib/hoon:10.1;/lib/hoon:20.1"
    assert sum(rows.values()) >= 10
    assert rows[deep] > 0.5 * sum(rows.values()), rows
    # The collector's samples are below the spot that it interrupted.
    below = sum(count for stack, count in rows.items() if stack.startswith(deep))
    assert below > 0.8 * sum(rows.values()), rows
    # What cannot be written is told.
    done = tool("nock", file, "--profile", tmp_path / "no" / "where")
    assert done.returncode == 1
    assert "No such file" in done.stderr


def test_the_listing_shows_programs(file: Path) -> None:
    write(file, noun(0, (*DEC, 9, 2, 0, 1)))
    text = tool("nock", file, "--disassemble").stdout
    assert "program 0: the formula\n" in text
    assert "TKICK    arm /2 r" in text
    assert "program 1: literal " in text
    assert "TSLAM    arm /2 r0 r" in text
    row = json.loads(tool("nock", file, "--disassemble", "--json").stdout)
    assert len(row["programs"]) == 2
    # Large literals are cut short; a malformed formula crashes in a word.
    write(file, noun(0, (1, [*range(1000)]), 1, 1 << 9000))
    text = tool("nock", file, "--disassemble").stdout
    assert max(map(len, text.splitlines())) < 140
    assert "..." in text
    write(file, noun(0, 13, 0))
    assert "BAIL" in tool("nock", file, "--disassemble").stdout
    write(file, 7)
    assert tool("nock", file, "--disassemble").returncode == 1


def test_jets_lists_every_arm() -> None:
    rows = json.loads(tool("jets", "--json").stdout)["arms"]
    kinds = {row["path"]: row["kind"] for row in rows}
    assert len(kinds) == len(rows) > 50
    assert (kinds["one/dec"], kinds["two/turn"]) == ("jet", "program")
    assert {row["path"]: row["hook"] for row in rows}["qua/mule"] == "mute"
    assert tool("jets").stdout.count("\n") == len(rows)
    assert tool("jets", "x").returncode == 64
