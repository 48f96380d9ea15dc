"""Inputs to begin with, for each fuzz target: made here, or from golden data.

A target's input format stands at the top of its source.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from proto.jam import jam
from proto.noun import Cell, Noun, noun

ROOT = Path(__file__).resolve().parents[2]

VERE = ROOT / "tests/conformance/vere"
SEED_BYTES_MAX = 4096


def _golden(name: str, key: str) -> Iterator[bytes]:
    for line in (VERE / name).read_text().splitlines():
        row = json.loads(line)
        if isinstance(row.get(key), str):
            yield bytes.fromhex(row[key])


def _shapes() -> Iterator[Noun]:
    """What random bytes seldom come to."""
    yield from (0, 1, 1 << 62, 1 << 63, 1 << 64, (1 << 300) - 1, 1 << 2000)
    left: Noun = 0
    right: Noun = 0
    shared: Noun = noun(1, 2)
    for i in range(40):
        left, right, shared = Cell(left, i), Cell(i, right), Cell(shared, shared)
    yield from (left, right, shared)
    yield noun(1 << 100, 1 << 100, (1 << 100) + 1, 1 << 100)
    yield noun([1, 2, 3, 1 << 70, [4, 5]])


def cue() -> Iterator[bytes]:
    yield from (jam(shape) for shape in _shapes())
    yield from _golden("nouns.jsonl", "jam")


def codec() -> Iterator[bytes]:
    for at, data in enumerate(cue()):
        yield bytes([at % 4]) + (at * 0x123456789).to_bytes(8, "little") + data


def _formulas() -> Iterator[Noun]:
    """Formulas of [effects state], for the kernel of serf_fuzz.c."""
    effect = noun((noun("a"), noun("b"), 0), noun("tag"), 1, 2, 3)
    slog = noun("slog")
    yield noun((1, 0), 0, 15)
    yield noun((1, effect, 0), 4, 0, 3)
    yield noun((1, effect, effect, effect, 7), (0, 3), 0, 3)
    yield noun((11, (slog, 1, 2, noun("leaf"), 104, 105, 0), 1, 0), 1, 1 << 200)
    yield noun(11, (noun("mean"), 1, 1), 0, 0)
    yield noun(11, (noun("memo"), 1, 0), (1, 0), 1, [1, 2, 3, 4])
    yield noun(11, (noun("fast"), 1, noun("k", 138), (1, 0), 0), (1, 0), 1, 138)
    yield noun(8, (1, 0), 8, (1, 6, (5, (0, 6), 0, 7), (1, 0), 9, 2, 0, 1), 9, 2, 0, 1)
    yield from (noun((1, 0), 1, shape) for shape in _shapes())


def _command(what: int, data: bytes) -> bytes:
    return bytes([what]) + len(data).to_bytes(2, "little") + data


def serf() -> Iterator[bytes]:
    formulas = list(_formulas())
    jobs = [jam(noun(at, (119, 0), 116, each)) for at, each in enumerate(formulas)]
    upkeep = _command(6, b"") + _command(7, b"")
    for job, formula in zip(jobs, formulas, strict=True):
        yield b"\1" + _command(3, job) + _command(2, jam(formula))
        yield b"\1" + _command(5, job) + _command(3, job) + upkeep
        row = bytes(8) + len(job).to_bytes(8, "little") + job
        yield b"\1" + _command(1, row + row) + upkeep
        record = (1).to_bytes(8, "little") + (40).to_bytes(8, "little") + row[8:]
        yield b"\1" + _command(0, record + record) + upkeep
    yield b"\1" + b"".join(_command(3, job) for job in jobs) + upkeep
    yield b"\1" + _command(4, jobs[0] + jobs[0])
    yield b"\0" + _command(1 + 8, row) + upkeep


def image() -> Iterator[bytes]:
    """Edits [what how index at value]; `how` & 3 is the value's width."""
    for flags in (1, 2, 3, 7):
        yield bytes([flags])
        for what in range(8):
            for at in (0, 3, 8, 88):
                for how in (3, 5):
                    value = (1 << (how & 3)) * b"\2"
                    place = at.to_bytes(2, "little")
                    yield bytes([flags, what, how, at % 7]) + place + value


SEEDS = {"cue": cue, "codec": codec, "image": image, "serf": serf}


def write(folder: Path) -> None:
    """Write all seeds that are not too large, as FOLDER/TARGET/seed-NUMBER."""
    for target, seeds in SEEDS.items():
        (folder / target).mkdir(parents=True, exist_ok=True)
        for at, data in enumerate(seeds()):
            if len(data) <= SEED_BYTES_MAX:
                (folder / target / f"seed-{at:04}").write_bytes(data)
