"""The fuzz targets, without a fuzzer: any compiler, the seeds, what was found.

Every input that once broke something lies in found/TARGET/NAME.hex; each is
run here, with the seeds, under ASan and UBSan. scripts/fuzz looks for more.
"""

import subprocess
from pathlib import Path

import pytest

from tests.fuzz import seeds
from tests.support.c_units import LIBRARIES, NATIVE, units_of

HERE = Path(__file__).parent
TARGETS = sorted(HERE.glob("*_fuzz.c"))
# -O0: built in seconds, and nothing here is long.
BUILD = ["cc", "-std=c11", "-D_GNU_SOURCE", "-O0", "-g", "-DNK_PARANOID", f"-I{NATIVE}"]
BUILD += ["-Wall", "-Wextra", "-Werror"]
BUILD += ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an object for each unit that some target links."""
    folder = tmp_path_factory.mktemp("objects")
    units = {unit for target in TARGETS for unit in units_of(target)}
    units.add(HERE / "replay.c")
    subprocess.run([*BUILD, "-c", *sorted(units)], cwd=folder, check=True)
    return folder


def _name(target: Path) -> str:
    return target.stem.removesuffix("_fuzz")


def test_every_target_has_seeds() -> None:
    assert {_name(target) for target in TARGETS} == set(seeds.SEEDS)


def test_every_find_belongs_to_a_target() -> None:
    known = {_name(target) for target in TARGETS}
    assert {path.parent.name for path in HERE.glob("found/*/*")} <= known


@pytest.mark.parametrize("target", TARGETS, ids=_name)
def test_fuzz_target_takes_seeds_and_finds(
    target: Path, objects: Path, tmp_path: Path
) -> None:
    program = tmp_path / target.stem
    units = [objects / f"{unit.stem}.o" for unit in units_of(target)]
    command = [*BUILD, target, objects / "replay.o", *units, *LIBRARIES]
    subprocess.run([*command, "-o", program], check=True)
    inputs: list[Path] = []
    for path in sorted(HERE.glob(f"found/{_name(target)}/*.hex")):
        inputs.append(tmp_path / path.stem)
        inputs[-1].write_bytes(bytes.fromhex(path.read_text()))
    seeds.write(tmp_path / "seeds")
    inputs += sorted((tmp_path / "seeds" / _name(target)).iterdir())
    ran = subprocess.run([program, *inputs], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-4000:]
