"""`treadle hoon`: a real kernel's compiler, run as a person runs it.

Needs TREADLE_REAL_KERNELS, a folder that holds hoonc.jam and, for what sees
the whole prelude, hoon-138.hoon; compiling that takes half a minute, once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from proto.jam import cue, jam
from proto.noun import Cell, Noun, noun
from serf.engine import Engine, Evaluated
from serf.hoon import Compiler

ROOT = Path(__file__).resolve().parents[2]
# A world that uses wet gates, a recursive type, a fork and a hold.
SMALL = """
=>  |%
    ++  dec  |=(a=@ =|(b=@ |-(?:(=(a +(b)) b $(b +(b))))))
    ++  add  |=([a=@ b=@] ?:(=(0 a) b $(a (dec a), b +(b))))
    ++  list  |$  [item]  $@(~ [i=item t=(list item)])
    ++  turn  |*  [a=(list) b=$-(* *)]  |-  ?~(a ~ [i=(b i.a) t=$(a t.a)])
    --
(turn `(list @)`~[1 2 3] |=(a=@ (add a 40)))
"""


@pytest.fixture(scope="module")
def kernels() -> Path:
    folder = os.environ.get("TREADLE_REAL_KERNELS")
    if not folder:
        pytest.skip("no real kernel: set TREADLE_REAL_KERNELS to hoonc.jam's folder")
    return Path(folder)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def hoon(kernels: Path, cache: Path, *words: str) -> subprocess.CompletedProcess[str]:
    kernel = str(kernels / "hoonc.jam")
    return subprocess.run(
        [sys.executable, "-m", "king", "hoon", "--kernel", kernel, *words],
        capture_output=True,
        text=True,
        timeout=280,
        cwd=ROOT,
        env={**os.environ, "XDG_CACHE_HOME": str(cache)},
    )


def test_without_a_prelude(kernels: Path, cache: Path, tmp_path: Path) -> None:
    assert hoon(kernels, cache, "=>  a=41  +(a)").stdout == "42\n"
    crashed = hoon(kernels, cache, "--json", "!!")
    assert crashed.returncode == 2
    assert json.loads(crashed.stdout)["mote"] == "exit"
    source, out = tmp_path / "x.hoon", tmp_path / "x.jam"
    source.write_text(SMALL)
    done = hoon(kernels, cache, "--out", str(out), str(source))
    assert done.returncode == 0, done.stderr
    ran = Engine().nock(jam(Cell(0, cue(out.read_bytes()))), True)
    assert isinstance(ran, Evaluated)
    assert cue(ran.jam) == noun([41, 42, 43])


def test_what_is_wrong_is_named(kernels: Path, cache: Path, tmp_path: Path) -> None:
    missing = hoon(kernels, cache, "nowhere.hoon")
    assert missing.returncode == 1
    assert "nowhere.hoon" in missing.stderr
    syntax = hoon(kernels, cache, "(add 1")
    assert syntax.returncode == 2
    (tmp_path / "hoonc.jam").write_bytes(jam(noun((1, 1, 0), 5)))
    odd = hoon(tmp_path, cache, "1")
    assert odd.returncode != 0
    assert "Traceback" not in odd.stderr


@pytest.mark.timeout(300)
def test_with_the_prelude(kernels: Path, cache: Path) -> None:
    prelude = kernels / "hoon-138.hoon"
    if not prelude.exists():
        pytest.skip("no hoon-138.hoon in the folder that TREADLE_REAL_KERNELS names")
    for text, answer in {
        "(add 1 41)": "42",
        "(turn (gulf 1 5) |=(a=@ (mul a a)))": "~[1 4 9 16 25]",
        "(~(got by (~(gas by *(map @tas @)) ~[[%a 1] [%b 2]])) %b)": "2",
        '(scan "12.345" dem:ag)': "12.345",
        '(weld "to" "day")': '"today"',
    }.items():
        done = hoon(kernels, cache, "--prelude", str(prelude), text)
        assert done.stdout == f"{answer}\n", done.stderr


def test_the_compiler_is_the_same_without_its_memory(kernels: Path) -> None:
    """Each jet that a compile meets is compared with its Nock."""
    compiler = Compiler((kernels / "hoonc.jam").read_bytes())
    world: Noun = noun(("atom", "n", 0, 0), 1, 0)
    plain = compiler.compile(world, SMALL.encode())
    compiler.engine.probe(check=True)
    assert compiler.compile(world, SMALL.encode()) == plain
    arms = {arm.path: arm for arm in compiler.engine.arms()}
    assert not [arm for arm in arms.values() if arm.wrong]
    for path in ("mint", "rest", "nest/nest-in/nest-dext"):
        assert arms[f"pen/ut/{path}"].hits, path
    assert arms["pen/ut/rest"].checked
    for path in ("pen/look", "pen/fork", "two/by/get", "qua/just/fun"):
        assert arms[path].checked, path
