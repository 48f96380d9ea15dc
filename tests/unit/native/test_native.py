"""Compile and run the C unit tests: `<unit>_test.c`, each a program.

Each is built twice: as shipped (with costly checks on), and with tiny arenas
under ASan and UBSan; what is about threads, once more under TSan
(scripts/sanitize does that with all). The first line of a test names the units
that it links: support/c_units.py. A unit is compiled once for each way.
"""

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.c_units import LIBRARIES, NATIVE, units_of

HERE = Path(__file__).parent
TESTS = sorted(HERE.glob("*_test.c"))
WARNINGS = [
    "-Wall",
    "-Wextra",
    "-Wconversion",
    "-Wshadow",
    "-Wtype-limits",
    "-Wstrict-prototypes",
    "-Wmissing-prototypes",
    "-Werror",
]
VARIANTS = {
    "shipped": ["-O2", "-DNK_PARANOID"],
    "tiny": [
        "-O1",
        "-g",
        "-DNK_TINY",
        "-fsanitize=address,undefined",
        "-fno-sanitize-recover=all",
        "-fno-omit-frame-pointer",
    ],
    "threads": ["-O1", "-g", "-DNK_TINY", "-DNK_PARANOID", "-fsanitize=thread"],
}
# Saves, verifications and long arithmetic have threads; nothing else has.
THREADED = {"big_test", "collect_test", "image_test"}
THREADED |= {"image_pins_test", "image_shrink_test"}
# scripts/sanitize: these flags instead, for all tests.
if os.environ.get("NATIVE_FLAGS"):
    VARIANTS = {"given": os.environ["NATIVE_FLAGS"].split()}


def test_there_are_native_tests() -> None:
    assert TESTS


CASES = [
    pytest.param(source, variant, id=f"{source.stem}-{variant}")
    for source in TESTS
    for variant in VARIANTS
    if variant != "threads" or source.stem in THREADED
]


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder for each variant, for the objects of its units."""
    return {name: tmp_path_factory.mktemp(f"objects-{name}") for name in VARIANTS}


def build(variant: str, *words: object, folder: Path | None = None) -> None:
    command = ["cc", "-std=c11", "-D_GNU_SOURCE", *WARNINGS, *VARIANTS[variant]]
    command += [f"-I{NATIVE}", *map(str, words)]
    built = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr


@pytest.mark.parametrize(("source", "variant"), CASES)
def test_native(
    source: Path, variant: str, objects: dict[str, Path], tmp_path: Path
) -> None:
    program, folder = tmp_path / source.stem, objects[variant]
    units = {unit: folder / f"{unit.stem}.o" for unit in units_of(source)}
    missing = [unit for unit, made in units.items() if not made.exists()]
    with ThreadPoolExecutor(os.cpu_count()) as cores:
        for _ in cores.map(
            lambda unit: build(variant, "-c", unit, folder=folder), missing
        ):
            pass
    build(variant, source, *units.values(), *LIBRARIES, "-o", program)
    # What it leaves behind when it fails is left here.
    ran = subprocess.run(
        [program], cwd=tmp_path, capture_output=True, text=True, timeout=240
    )
    assert ran.returncode == 0, f"{ran.returncode}\n{ran.stdout}{ran.stderr}"
