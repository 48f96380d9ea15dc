"""Fuzz what takes bytes from strangers: libFuzzer, ASan and UBSan; Hypothesis.

    scripts/fuzz [TARGET...] [--seconds N] [--folder DIR] [--tiny]

Targets: the C programs tests/fuzz/*_fuzz.c, each of which says what it holds
against its input; `python`, what reads bytes in Python; and `twin`, random
formulas in C and in Python. All by default; N seconds for each, by default 60.
DIR holds programs, corpora, logs and crashing inputs, and is used again;
default: treadle-fuzz in the system's folder for temporary files. --tiny: with
tiny arenas, and a collection at every safepoint.

Needs clang (apt package clang; installed where that is possible). At the end a
line for each target: runs, coverage and corpus, as libFuzzer counts them; exit
code 1 where one found something. A found input, made small
(PROGRAM -minimize_crash=1 FILE), belongs into tests/fuzz/found as hex.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz import seeds
from tests.support.c_units import LIBRARIES, NATIVE, units_of

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "tests" / "fuzz"
BUILD = ["clang", "-std=c11", "-D_GNU_SOURCE", "-O1", "-g", f"-I{NATIVE}"]
BUILD += ["-fno-omit-frame-pointer", "-fno-sanitize-recover=all"]
SANITIZERS = "address,undefined"
OPTIONS = {
    "ASAN_OPTIONS": "allocator_may_return_null=1:detect_leaks=0",
    "UBSAN_OPTIONS": "print_stacktrace=1",
}
PROPERTIES = {
    "python": "tests/fuzz/test_fuzz_python.py",
    "twin": "tests/property/test_nock_twin.py",
}
EXAMPLES = 2000  # a round; the seed is a new one each time
LENGTH_MAX = 4096
RUN_SECONDS_MAX = 20
MEMORY_MB_MAX = 4096


def main() -> int:
    """Build and run what was asked for; 1 where anything was found."""
    names = sorted(path.stem[: -len("_fuzz")] for path in SOURCES.glob("*_fuzz.c"))
    parser = argparse.ArgumentParser(
        prog="scripts/fuzz",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    parser.add_argument("--seconds", type=int, default=60)
    default = Path(tempfile.gettempdir()) / "treadle-fuzz"
    parser.add_argument("--folder", type=Path, default=default)
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    targets = options.targets or [*names, *PROPERTIES]
    unknown = set(targets) - set(names) - set(PROPERTIES)
    if unknown:
        parser.error(f"unknown target {min(unknown)}")
    programs = [name for name in targets if name in names]
    if programs and not _have_clang():
        print("fuzz: no clang. This installs it:\n    sudo apt-get install -y clang")
        return 2
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    seeds.write(folder / "seeds")
    found = 0
    for name, program in _build(programs, folder, options.tiny).items():
        found += _run(name, program, folder, options.seconds)
    for name in targets:
        if name in PROPERTIES:
            found += _try_properties(name, options.seconds)
    return 1 if found else 0


def _have_clang() -> bool:
    if not shutil.which("clang") and os.geteuid() == 0 and shutil.which("apt-get"):
        print("fuzz: installing clang", flush=True)
        subprocess.run(["apt-get", "install", "-qy", "clang"], stdout=sys.stderr)
    return shutil.which("clang") is not None


def _build(targets: list[str], folder: Path, tiny: bool) -> dict[str, Path]:
    """A program for each; the units of native that they share are built once."""
    if not targets:
        return {}
    kind = "-tiny" if tiny else ""
    build = [*BUILD, "-DNK_TINY" if tiny else "-DNK_PARANOID"]
    sources = {name: SOURCES / f"{name}_fuzz.c" for name in targets}
    units = {unit for source in sources.values() for unit in units_of(source)}
    programs = {name: folder / f"{name}{kind}" for name in targets}
    with tempfile.TemporaryDirectory(prefix="treadle-fuzz-") as objects:
        command = [*build, f"-fsanitize=fuzzer-no-link,{SANITIZERS}", "-c"]
        subprocess.run([*command, *sorted(units)], cwd=objects, check=True)
        for name, source in sources.items():
            program = programs[name]
            command = [*build, f"-fsanitize=fuzzer,{SANITIZERS}", str(source)]
            command += [f"{objects}/{unit.stem}.o" for unit in units_of(source)]
            program.unlink(missing_ok=True)  # it may be running
            subprocess.run([*command, *LIBRARIES, "-o", program], check=True)
    return programs


def _run(name: str, program: Path, folder: Path, seconds: int) -> bool:
    """Fuzz one target; did it find anything?"""
    corpus = folder / "corpus" / name
    finds = folder / "found" / program.name
    for each in (corpus, finds):
        each.mkdir(parents=True, exist_ok=True)
    command = [program, corpus, folder / "seeds" / name, f"-max_len={LENGTH_MAX}"]
    command += [f"-max_total_time={seconds}", f"-artifact_prefix={finds}/"]
    command += [f"-timeout={RUN_SECONDS_MAX}", f"-rss_limit_mb={MEMORY_MB_MAX}"]
    command += ["-print_final_stats=1"]
    log = folder / f"{program.name}.log"
    before = os.times()
    with log.open("w") as file:
        done = subprocess.run(
            command, env={**os.environ, **OPTIONS}, stdout=file, stderr=file
        )
    after = os.times()
    used = after.children_user + after.children_system
    used -= before.children_user + before.children_system
    text = log.read_text(errors="replace")
    runs = re.findall(r"stat::number_of_executed_units: +(\d+)", text)
    states = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)/", text)
    edges, features, inputs = states[-1] if states else ("?", "?", "?")
    word = "ok   " if done.returncode == 0 else "FOUND"
    count = runs[-1] if runs else "?"
    print(
        f"{word} {program.name}: {count} runs, {used:.0f} s of CPU; "
        f"edges {edges}, features {features}, corpus {inputs}; {log}",
        flush=True,
    )
    if done.returncode:
        print(text[-4000:])
    return done.returncode != 0


def _try_properties(name: str, seconds: int) -> bool:
    """Rounds of random examples; was any false?"""
    end = time.monotonic() + seconds
    rounds = 0
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    command += ["-o", "timeout=0", PROPERTIES[name], "--hypothesis-seed"]
    environment = {**os.environ, "TREADLE_FUZZ_EXAMPLES": str(EXAMPLES)}
    while time.monotonic() < end:
        seed = str(time.time_ns())
        done = subprocess.run(
            [*command, seed], cwd=ROOT, env=environment, capture_output=True, text=True
        )
        if done.returncode:
            print(f"FOUND {name}: seed {seed}\n{done.stdout[-4000:]}")
            return True
        rounds += 1
    print(f"ok    {name}: {rounds} rounds of {EXAMPLES} examples", flush=True)
    return False


if __name__ == "__main__":
    sys.exit(main())
