"""Run the C core under sanitizers, and with tiny arenas.

    scripts/sanitize [address] [thread] [tiny] [--only-c] [--keep-going]

For each build (all three by default), in a copy of the tree in a temporary
folder: every C unit test, then the conformance suite (Vere's nouns and
computations, its event logs, and random formulas) with a serf built that way.

    address   AddressSanitizer and UndefinedBehaviorSanitizer
    thread    ThreadSanitizer
    tiny      NK_TINY and NK_PARANOID: tiny arenas, a collection at every
              safepoint, home checked after each cycle and read-only except
              while promotion writes

Left out: the conformance cases on a C stack of 256 KiB, which sanitizers
overrun by themselves; from the tiny build, the computations of a million
steps. Python itself is not instrumented: leaks are not looked
for, and of Python's own threads ThreadSanitizer sees little.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
CONFORMANCE = ["tests/conformance/test_vere_nouns_nock.py"]
CONFORMANCE += ["tests/conformance/test_vere_events.py"]
CONFORMANCE += ["tests/property/test_nock_twin.py"]
BUILDS = {
    "address": {"NK_SANITIZE": "address,undefined"},
    "thread": {"NK_SANITIZE": "thread"},
    "tiny": {"NK_TINY": "1", "NK_PARANOID": "1"},
}
RUNTIMES = {"address": ["libasan.so", "libubsan.so"], "thread": ["libtsan.so"]}
OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
    "TSAN_OPTIONS": "halt_on_error=1:report_signal_unsafe=0",
    "UBSAN_OPTIONS": "print_stacktrace=1",
}
SECONDS_MAX = 1800


def main() -> int:
    """Run what was asked for; 1 where anything failed."""
    parser = argparse.ArgumentParser(
        prog="scripts/sanitize",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("builds", nargs="*", metavar="BUILD", help=", ".join(BUILDS))
    parser.add_argument("--only-c", action="store_true", help="no conformance")
    parser.add_argument("--keep-going", action="store_true", help="after a failure")
    options = parser.parse_args()
    unknown = set(options.builds) - set(BUILDS)
    if unknown:
        parser.error(f"no such build: {', '.join(sorted(unknown))}")
    failed = 0
    for name in options.builds or BUILDS:
        with tempfile.TemporaryDirectory(prefix="treadle-sanitize-") as folder:
            failed += _try(name, Path(folder) / "tree", options)
        if failed and not options.keep_going:
            break
    print("all passed" if not failed else f"{failed} failed", flush=True)
    return 1 if failed else 0


def _try(name: str, tree: Path, options: argparse.Namespace) -> int:
    """One build in a copy of this tree; how many of its suites failed."""
    ignored = (".git", ".venv", "build", "*.so", "__pycache__")
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*ignored))
    failed = _units(name, tree)
    if options.only_c or (failed and not options.keep_going):
        return failed
    return failed + _conformance(name, tree)


def _units(name: str, tree: Path) -> int:
    """Every tests/unit/native/*_test.c; 1 where any failed."""
    settings = BUILDS[name]
    flags = ["-O1", "-g", *(f"-D{key}" for key in settings if key != "NK_SANITIZE")]
    if "NK_SANITIZE" in settings:
        flags += [f"-fsanitize={settings['NK_SANITIZE']}", "-fno-sanitize-recover=all"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += ["-o", "timeout=0", "tests/unit/native/test_native.py"]
    environment = {**OPTIONS, "NATIVE_FLAGS": " ".join(flags)}
    return not _run(f"{name}: C unit tests", command, tree, environment)


def _conformance(name: str, tree: Path) -> int:
    """The golden data through a serf of this build; 1 where it failed."""
    build = {**BUILDS[name], "CFLAGS": "-w"}
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    if not _run(f"{name}: build the serf", command, tree, build, quiet=True):
        return 1
    settings = dict(OPTIONS)
    preload = [_library(library) for library in RUNTIMES.get(name, [])]
    if preload:
        settings["LD_PRELOAD"] = " ".join(preload)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    # A sanitizer's own frames do not fit a tiny C stack; a collection at every
    # safepoint takes too long over lists of a million.
    without = "not small and not bench" if name == "tiny" else "not small"
    command += ["-o", "timeout=0", "-k", without, *CONFORMANCE]
    return not _run(f"{name}: conformance", command, tree, settings)


def _library(name: str) -> str:
    answer = subprocess.run(
        ["cc", f"-print-file-name={name}"], capture_output=True, text=True, check=True
    )
    return str(Path(answer.stdout.strip()).resolve())


def _run(
    what: str,
    command: list[str],
    folder: Path,
    settings: dict[str, str],
    quiet: bool = False,
) -> bool:
    start = time.monotonic()
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, **settings},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=SECONDS_MAX,
        )
        output, code = done.stdout, done.returncode
    except subprocess.TimeoutExpired:
        output, code = f"still running after {SECONDS_MAX} s\n", -1
    seconds = time.monotonic() - start
    if code:
        print(output[-8000:])
    if code or not quiet:
        last = output.strip().split("\n")[-1]
        word = "FAIL" if code else "ok  "
        print(f"{word} {what} ({seconds:.1f} s): {last[:100]}", flush=True)
    return code == 0


if __name__ == "__main__":
    sys.exit(main())
