"""Rooms with real Hoon in them: compiles by a real compiler, and what it made.

They need files that are not ours: TREADLE_REAL_KERNELS, a folder with
hoonc.jam and hoon-138.hoon, and for the compiles of another Hoon also
TREADLE_REAL_ARVO, a folder with the hoon.hoon (kelvin 135) and arvo.hoon of a
real Arvo. Without them a room says so and measures nothing.

Nothing here has a floor of its own: the naive fib(25) of floors.c stands in
as a yardstick of the machine's mood. Vere's figures were measured elsewhere,
the programs' with sources of its own that do the same.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.bench.figure import Aim, Figure, figure, pairs
from tests.bench.plan import Plan
from tests.bench.ship import treadle

__all__ = ["COMPILES", "PROGRAMS", "compiles", "programs"]

_YARDSTICK = "a naive fib(25) in C, as a yardstick"
_SELF = ("--compiler", "ARVO/hoon.hoon")


class _Compile(NamedTuple):
    source: str
    chain: tuple[str, ...]
    aim: Aim | None
    vere: float
    note: str


COMPILES = {
    "compile_138": _Compile(
        "KERNELS/hoon-138.hoon", (), Aim(11.3), 34.0, "hoonc compiles hoon-138"
    ),
    "compile_135": _Compile(
        "ARVO/hoon.hoon", (), None, 35.8, "hoonc compiles hoon.hoon of kelvin 135"
    ),
    "compile_self": _Compile(
        "ARVO/hoon.hoon", _SELF, None, 22.6, "that hoon.hoon compiles itself"
    ),
    "compile_arvo": _Compile(
        "ARVO/arvo.hoon",
        (*_SELF, "--prelude", "ARVO/hoon.hoon"),
        None,
        1.4,
        "and arvo.hoon",
    ),
}


class _Program(NamedTuple):
    text: str
    answer: str
    aim: Aim | None
    vere: float
    note: str


PROGRAMS = {
    "hoon_dec": _Program(
        "=/  n=@  1.000.000  |-  ^-  @  ?:  =(0 n)  n  $(n (dec n))",
        "0",
        Aim(0.121),
        0.364,
        "10^6 calls of dec",
    ),
    "hoon_roll": _Program(
        "(roll (gulf 1 100.000) add)",
        "5.000.050.000",
        None,
        0.0153,
        "roll of a gulf of 100,000",
    ),
    "hoon_shax": _Program(
        "=/  n=@  20.000  =/  a=@  0  |-  ^-  @"
        "  ?:  =(0 n)  (end 3 0)  $(n (dec n), a (shax a))",
        "0",
        None,
        0.0196,
        "20,000 calls of shax",
    ),
    "hoon_map": _Program(
        "=|  m=(map @ @)  =/  n=@  100.000  |-  ^-  @"
        "  ?:  =(0 n)  ~(wyt by m)  $(n (dec n), m (~(put by m) n n))",
        "100.000",
        Aim(0.16),
        0.480,
        "100,000 calls of put:by",
    ),
    "hoon_fib": _Program(
        "%.  24  |=  n=@  ^-  @  ?:  (lth n 2)  n  (add $(n (dec n)) $(n (sub n 2)))",
        "46.368",
        Aim(0.032),
        0.095,
        "fib(24), jetted arithmetic",
    ),
}


class _Files(NamedTuple):
    """The folders that were named, or nothing."""

    kernels: str
    arvo: str

    def place(self, word: str) -> str:
        """A word of a command line, with its folder put in."""
        for name, folder in (("KERNELS", self.kernels), ("ARVO", self.arvo)):
            word = word.replace(f"{name}/", f"{folder}/", 1)
        return word

    def miss(self, words: tuple[str, ...]) -> str:
        """The variable that `words` would need and that is not set, or ""."""
        text = " ".join(words)
        if not self.kernels:
            return "TREADLE_REAL_KERNELS"
        return "TREADLE_REAL_ARVO" if "ARVO/" in text and not self.arvo else ""


def _files() -> _Files:
    names = ("TREADLE_REAL_KERNELS", "TREADLE_REAL_ARVO")
    return _Files(*(os.environ.get(name, "") for name in names))


def _missing(name: str, variable: str) -> None:
    print(f"bench: {name}: not measured, set {variable}", file=sys.stderr)


def _hoon(plan: Plan, files: _Files, *words: str) -> dict[str, float | str]:
    """`treadle hoon`, with what it keeps in the bench's own folder."""
    os.environ["XDG_CACHE_HOME"] = str(plan.machine.folder / "cache")
    kernel = ("--kernel", str(Path(files.kernels) / "hoonc.jam"))
    return treadle("hoon", *kernel, *(files.place(word) for word in words))


def _yardstick(plan: Plan) -> float:
    return plan.machine.c_loop_s("fib")


def compiles(plan: Plan) -> Iterator[Figure]:
    files = _files()
    for name, item in COMPILES.items():
        if not plan.wants(name):
            continue
        words = (*item.chain, item.source)
        if variable := files.miss(words):
            _missing(name, variable)
            continue
        out = str(plan.machine.folder / "compiled.jam")

        def measure(words: tuple[str, ...] = words, out: str = out) -> float:
            return float(_hoon(plan, files, "--out", out, *words)["compile"])

        values, floors = pairs(plan.runs, measure, partial(_yardstick, plan))
        yield figure(
            name,
            "s",
            values,
            floors,
            _YARDSTICK,
            aim=item.aim,
            vere=item.vere,
            note=item.note,
        )


def programs(plan: Plan) -> Iterator[Figure]:
    files = _files()
    for name, item in PROGRAMS.items():
        if not plan.wants(name):
            continue
        words = ("--prelude", "KERNELS/hoon-138.hoon", item.text)
        if variable := files.miss(words):
            _missing(name, variable)
            continue

        def measure(
            name: str = name, item: _Program = item, words: tuple[str, ...] = words
        ) -> float:
            row = _hoon(plan, files, *words)
            if row["text"] != item.answer:
                raise SystemExit(f"bench: {name}: wrong answer, {row['text']}")
            return float(row["run"]) - float(row["cores"])

        values, floors = pairs(plan.runs, measure, partial(_yardstick, plan))
        yield figure(
            name,
            "s",
            values,
            floors,
            _YARDSTICK,
            aim=item.aim,
            vere=item.vere,
            note=f"{item.note}, compiled by hoonc; less the making of its cores",
        )
