"""`python -m serf noun|nock|check-image|...` on files: what people see, and codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

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
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{name}: {file}: not a jam")
    assert why in line


@pytest.mark.parametrize("name", ["noun", "nock", "check-image", "image-info"])
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
    assert first == f"nock: {file}: crashed: %exit"
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


def test_check_image(tmp_path: Path) -> None:
    image = tmp_path / "image"
    kernel = core(((1, 0), COUNT), 3)
    with SerfProcess(image) as serf:
        serf.ripe()
        serf.ask(Play(1, 1, 1, (boot_row(kernel),)))
        assert isinstance(serf.ask(Save(2, 1)), Saved)
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
    image = tmp_path / "image"
    kernel = core(((1, 0), COUNT), 3)
    with SerfProcess(image) as serf:
        serf.ripe()
        serf.ask(Play(1, 1, 1, (boot_row(kernel),)))
        assert isinstance(serf.ask(Save(2, 1)), Saved)
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
