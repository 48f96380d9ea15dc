"""The arms of Arvo's libraries, with and without their jets: an oracle.

Owns: a compiled part of lull and zuse, and bytestream above them, from the Hoon
in the folder TREADLE_REAL_KERNELS: hoonc.jam compiles hoon, arvo, lull, zuse (of
kelvin 135) and bytestream.hoon. Of lull and zuse only the arms that are named
here are compiled, with all that their hints refer to. That takes a minute, and
each gate some seconds, once: all is kept under $XDG_CACHE_HOME/treadle.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

import pytest

from proto.errors import ProtoError
from proto.jam import cue, jam
from proto.noun import Cell, Noun, items, noun, slot
from serf.engine import Crashed, Engine
from serf.hoon import Compiler
from tests.support.jets import CRASH

__all__ = ["Library", "library"]

_ANYTHING = noun("noun", 0, 1)


class Library:
    """Gates by the Hoon that makes them."""

    def __init__(self, folder: Path, *names: str) -> None:
        self._kernel = (folder / "hoonc.jam").read_bytes()
        self._sources = [
            _PARTS.get(name, str)((folder / f"{name}.hoon").read_text("latin-1"))
            for name in names
        ]
        self.engine = Engine(home_size=1 << 28, nursery_size=1 << 31)
        self._world = slot(self._compiled(*self._sources), 3)
        self._gates: dict[str, Noun] = {}

    def nock(self, gate: str, samples: list[Noun]) -> list[Noun]:
        """What the gate makes of each sample, or CRASH: by its own Nock, with
        the jets of what it calls."""
        # Another battery than the registered one: no jet stands for it.
        bare = noun(((1, 7), (1, 0, 1), 0, 2), 0, 3)
        products = self._slam(noun(7, self._gate(gate), bare), samples)
        if products != CRASH:
            return items(products)
        if len(samples) == 1:
            return [CRASH]
        half = len(samples) // 2
        return [*self.nock(gate, samples[:half]), *self.nock(gate, samples[half:])]

    def jet(self, gate: str, sample: Noun) -> tuple[str, Noun]:
        """(path, product) of the jet that stands for the gate."""
        before = {arm.path: arm.hits for arm in self.engine.arms()}
        products = self._slam(self._gate(gate), [sample])
        hit = [arm.path for arm in self.engine.arms() if arm.hits > before[arm.path]]
        assert len(hit) == 1, (gate, hit)
        return hit[0], products if products == CRASH else items(products)[0]

    def _gate(self, text: str) -> Noun:
        if text not in self._gates:
            self._gates[text] = slot(self._compiled(*self._sources, text), 15)
        return self._gates[text]

    def _slam(self, gate: Noun, samples: list[Noun]) -> Noun:
        body: Noun = noun(1, 0)
        for at in reversed(range(len(samples))):
            body = noun((9, 2, 10, (6, 0, (8 << at) - 2), 0, 2), body)
        make = noun(7, (1, 0), 7, self._world, gate)
        task = Cell(noun(samples), noun(8, make, body))
        answer = self.engine.nock(jam(task), True)
        if isinstance(answer, Crashed):
            assert answer.mote == "exit", answer.mote
            return CRASH
        return cue(answer.jam)

    def _compiled(self, *sources: str) -> Noun:
        """[type 7 world formula] of the last source, with all before it in its
        world; [world formula] makes it from 0."""
        name = hashlib.sha256(self._kernel)
        for source in sources:
            name.update(hashlib.sha256(source.encode()).digest())
        base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        path = Path(base) / "treadle" / f"library-{name.hexdigest()[:32]}.jam"
        try:
            return cue(path.read_bytes())
        except (OSError, ProtoError):
            pass
        world = self._compiled(*sources[:-1]) if sources[1:] else _ANYTHING
        compiler = Compiler(self._kernel)
        made = cue(compiler.compile(jam(world), sources[-1].encode("latin-1")))
        made = noun(slot(made, 2), 7, slot(world, 3), slot(made, 3))
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(f".{os.getpid()}")
        fresh.write_bytes(jam(made))
        fresh.replace(path)
        return made


def _some(core: str, names: str, indent: str = "") -> str:
    """A core's source with these of its arms alone (not the last one)."""
    head, *arms = re.split(rf"^(?={indent}\+[+$]  )", core, flags=re.MULTILINE)
    kept = [arm for arm in arms if arm.split()[1] in names.split()]
    assert len(kept) == len(names.split()), names
    return "".join([head, *kept, f"{indent}--\n"])


def _arvo(source: str) -> str:
    """Down to the core hex."""
    end = source.index("\n--  =>\n", source.index("~%  %hex"))
    return source[:end] + "\n--  ..part\n"


def _lull(source: str) -> str:
    return _some(source, "lull json mime octs plot")


def _zuse(source: str) -> str:
    start, end = source.index("++  html"), source.index("++  wired")
    html = _some(source[start:end], "mimes json", "  ").replace("=,  eyre\n", "")
    return _some(source[:start] + html + source[end:], "zuse html checksum")


def _bytestream(source: str) -> str:
    """Under the name that released ships hint it with."""
    return f"=~\n{source.replace('%bytestream  ..', '%bytestream-v0  ..')}\n=="


_PARTS = {
    "arvo": _arvo,
    "lull": _lull,
    "zuse": _zuse,
    "bytestream": _bytestream,
}


def library(*extra: str) -> Library:
    """Zuse, and the named libraries above it; skips the test without them."""
    folder = os.environ.get("TREADLE_REAL_KERNELS")
    names = ("hoon", "arvo", "lull", "zuse", *extra)
    wanted = ["hoonc.jam", *(f"{name}.hoon" for name in names)]
    missing = [each for each in wanted if not folder or not Path(folder, each).exists()]
    if not folder or missing:
        pytest.skip(f"TREADLE_REAL_KERNELS is no folder with {', '.join(missing)}")
    return Library(Path(folder), *names)
