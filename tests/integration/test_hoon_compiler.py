"""`treadle hoon`: a real kernel's compiler, run as a person runs it.

Needs TREADLE_REAL_KERNELS, a folder that holds hoonc.jam and, for what sees
the whole prelude, hoon-138.hoon; compiling that takes half a minute, once.

By hand, since it takes minutes: TREADLE_REAL_ARVO, a folder that holds the
hoon.hoon (kelvin 135) and arvo.hoon of a real Arvo. hoonc compiles the
former, which then compiles the latter, and itself, until nothing changes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from proto.fast import tuple_
from proto.jam import cue, jam
from proto.noun import Cell, noun, slot
from serf.engine import Engine, Evaluated
from serf.hoon import NOTHING, Compiler

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

# A world with one jet.
JETTED = """
=>  %138  =>  ~%  %k.138  ~  ~  |%  ++  hoon-version  +  --
~%  %one  +  ~
|%
++  dec  ~/  %dec  |=(a=@ =|(b=@ |-(?:(=(a +(b)) b $(b +(b))))))
--
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


@pytest.fixture(scope="module")
def arvo() -> Path:
    folder = os.environ.get("TREADLE_REAL_ARVO")
    if not folder:
        pytest.skip("no real Arvo: set TREADLE_REAL_ARVO to hoon.hoon's folder")
    return Path(folder)


def hoon(kernels: Path, cache: Path, *words: str) -> subprocess.CompletedProcess[str]:
    kernel = str(kernels / "hoonc.jam")
    return subprocess.run(
        [sys.executable, "-m", "king", "hoon", "--kernel", kernel, *words],
        capture_output=True,
        text=True,
        timeout=1700,
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
    plain = compiler.compile(NOTHING, SMALL.encode())
    compiler.engine.probe(check=True)
    assert compiler.compile(NOTHING, SMALL.encode()) == plain
    arms = {arm.path: arm for arm in compiler.engine.arms()}
    assert not [arm for arm in arms.values() if arm.wrong]
    for path in ("mint", "rest", "nest/nest-in/nest-dext"):
        assert arms[f"pen/ut/{path}"].hits, path
    assert arms["pen/ut/rest"].checked
    for path in ("pen/loot", "pen/fork", "two/by/get", "qua/just/fun"):
        assert arms[path].checked, path


def test_the_compiler_folds_with_the_jets_of_the_world(kernels: Path) -> None:
    """Without them this would count to 10^12."""
    compiler = Compiler((kernels / "hoonc.jam").read_bytes())
    world = compiler.compile(NOTHING, JETTED.encode())
    made = cue(compiler.compile(world, b"^~  (dec 1.000.000.000.000)"))
    assert slot(made, 3) == noun(1, 999_999_999_999)


def test_what_was_observed_is_told(kernels: Path, cache: Path, tmp_path: Path) -> None:
    folded = tmp_path / "folded"
    words = ("--json", "--stats", "--profile", str(folded))
    done = hoon(kernels, cache, *words, "=>  a=41  +(a)")
    row = json.loads(done.stdout)
    assert row["text"] == "42"
    assert row["stats"]["jets"]["qua/just/fun"]["hits"]
    assert row["stats"]["memo_transient"]["entries_peak"]
    assert "k138/one" in folded.read_text()
    checked = json.loads(hoon(kernels, cache, "--json", "--jet-check", "42").stdout)
    assert (
        checked["mug"] == json.loads(hoon(kernels, cache, "--json", "42").stdout)["mug"]
    )
    assert checked["stats"]["jet_mismatches"] == 0
    assert checked["stats"]["jets"]["qua/just/fun"]["checked"]


# A gate from [type text] to [type formula], as small as they come: whatever
# the text, it compiles to 7.
CONSTANT = "|=  *  [%noun 1 7]"


def test_a_compiler_compiles(kernels: Path, cache: Path, tmp_path: Path) -> None:
    source = tmp_path / "constant.hoon"
    source.write_text(CONSTANT)
    done = hoon(kernels, cache, "--compiler", str(source), "anything")
    assert done.stdout == "7\n", done.stderr
    assert "compiling the compiler, once" in done.stderr
    again = hoon(kernels, cache, "--compiler", str(source), "anything")
    assert (again.stdout, again.stderr) == ("7\n", "")


@pytest.mark.timeout(600)
def test_hoonc_boots(kernels: Path) -> None:
    """nockapp's first poke, %boot: hoonc parses and compiles its hoon-138 and
    keeps it; asked in the same run, whether it has."""
    kernel, text = kernels / "hoonc.jam", kernels / "hoon-138.hoon"
    if not text.exists():
        pytest.skip("no hoon-138.hoon in the folder that TREADLE_REAL_KERNELS names")
    cause = ("boot", int.from_bytes(text.read_bytes(), "little"))
    ovum = noun(1, ("poke", "one-punch", 0), 0x1234, 0, 1 << 127, cause)
    poke = (8, (7, (0, 2), 9, 2, 0, 1), 9, 2, 10, (6, 0, 7), 9, 23, 0, 2)
    peek = (8, (0, 3), 9, 2, 10, (6, 1, "booted", 0), 9, 22, 0, 2)
    formula = jam(noun(7, poke, (0, 2), peek))
    subject = tuple_([kernel.read_bytes(), jam(ovum)])
    ran = Engine(home_size=1 << 26).nock(tuple_([subject, formula]), True)
    assert isinstance(ran, Evaluated)
    print(f"%boot: {ran.seconds:.1f} s")
    assert cue(ran.jam) == noun(0, 0, 0, 0)  # no effects; ``&


@pytest.mark.timeout(3600)
def test_real_hoon_compiles_itself(
    kernels: Path, arvo: Path, cache: Path, tmp_path: Path
) -> None:
    source, target = str(arvo / "hoon.hoon"), str(arvo / "arvo.hoon")

    def compiled(name: str, times: int, *words: str) -> tuple[bytes, str]:
        out = tmp_path / name
        chain = ["--compiler", source] * times
        done = hoon(kernels, cache, "--json", *chain, "--out", str(out), *words)
        assert done.returncode == 0, done.stderr
        row = json.loads(done.stdout)
        print(f"{name}: {row['compile']:.1f} s, [type formula] {row['mug']}")
        return out.read_bytes(), row["mug"]

    # By hoonc's compiler, by what that gave, by what that gave.
    compiled("hoon by hoonc", 0, source)
    second = compiled("hoon by its own first", 1, source)
    assert compiled("hoon by its own second", 2, source) == second
    first = compiled("arvo by the first", 1, "--prelude", source, target)
    assert compiled("arvo by the second", 2, "--prelude", source, target) == first
    done = hoon(kernels, cache, "--compiler", source, "--prelude", source, "(add 1 41)")
    assert done.stdout == "42\n", done.stderr
    # Its printer cannot read the types of another kelvin.
    done = hoon(kernels, cache, "--prelude", source, "(add 1 41)")
    assert done.returncode == 1
    assert "is to be given with --compiler too" in done.stderr


@pytest.mark.timeout(7200)
def test_real_hoon_with_every_jet_checked(
    kernels: Path, arvo: Path, cache: Path, tmp_path: Path
) -> None:
    """Every jet beside its Nock, the compile's product is the same."""
    words = ("--json", "--out", str(tmp_path / "out"), str(arvo / "hoon.hoon"))
    plain = json.loads(hoon(kernels, cache, *words).stdout)
    done = hoon(kernels, cache, "--jet-check", *words)
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)
    assert row["mug"] == plain["mug"]
    assert row["stats"]["jet_mismatches"] == 0
    jets = row["stats"]["jets"].values()
    checked, unchecked = (
        sum(arm.get(word, 0) for arm in jets) for word in ("checked", "unchecked")
    )
    print(f"checked: {row['compile']:.0f} s, {checked} calls, {unchecked} given up")
    assert checked > unchecked
