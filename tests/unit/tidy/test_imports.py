"""Who may import whom: every arrow of ARCHITECTURE.md, Python and C."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
STDLIB = sys.stdlib_module_names
ALLOWED = {
    "king": {"king", "proto", "trio", "lmdb", "h11", "wcwidth", "mfusepy"},
    "serf": {"serf", "proto"},
    "proto": {"proto", "msgpack"},
}
FORBIDDEN_IN_DRIVERS = {"os", "socket", "time", "random", "subprocess", "king.log"}

# native: a unit may include its own layer and those after it.
LAYERS = [
    {"api", "codec", "kernel"},
    {
        "nock",
        "loop",
        "jet",
        "memo",
        "code",
        "jets",
        "opcodes",
        "probe",
        "listing",
        "stub",
    },
    {
        "image",
        "image_inside",
        "image_save",
        "image_copy",
        "image_pins",
        "watch",
        "confine",
    },
    {"home", "home_inside", "collect", "freeze"},
    {"survey"},
    {"jam", "mug", "hash", "atom", "big", "glance"},
    {"noun", "nursery", "worklist", "murmur", "cord"},
    {"config", "status"},
    {"witness"},  # the lab's, and no part of the core
]


def imports_of(path: Path) -> set[str]:
    """Dotted names that a file imports, wherever the statement stands."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def python_files(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


@pytest.mark.parametrize("room", ALLOWED)
def test_rooms_import_only_what_they_may(room: str) -> None:
    files = python_files(room)
    assert files
    for path in files:
        for name in imports_of(path):
            top = name.split(".")[0]
            assert top in ALLOWED[room] or top in STDLIB, f"{path}: imports {name}"


def test_only_the_codec_touches_msgpack() -> None:
    users = {p.name for p in python_files("proto") if "msgpack" in imports_of(p)}
    assert users == {"codec.py"}


def test_only_the_engine_touches_the_arena() -> None:
    for path in python_files("serf"):
        if any("_native" in name for name in imports_of(path)):
            assert path.name == "engine.py", path


def test_only_fast_touches_the_codec_extension() -> None:
    for room in ALLOWED:
        for path in python_files(room):
            if any("_codec" in name for name in imports_of(path)):
                assert path.name == "fast.py", path


def test_drivers_hold_only_their_capabilities() -> None:
    for path in python_files("king/drivers"):
        tree = ast.parse(path.read_text())
        for name in imports_of(path):
            parts = name.split(".")
            for end in range(1, len(parts) + 1):
                dotted = ".".join(parts[:end])
                assert dotted not in FORBIDDEN_IN_DRIVERS, f"{path}: {name}"
            if parts[0] == "king":
                assert parts[1] in {"drivers", "event", "errors"}, f"{path}: {name}"
        calls = {
            node.func.id
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert not calls & {"open", "exec", "eval"}, path


def test_nobody_imports_tests_or_scripts() -> None:
    for room in ALLOWED:
        for path in python_files(room):
            tops = {name.split(".")[0] for name in imports_of(path)}
            assert not tops & {"tests", "scripts"}, path


def test_native_units_include_downwards() -> None:
    layer_of = {unit: i for i, layer in enumerate(LAYERS) for unit in layer}
    files = [p for p in (ROOT / "native").rglob("*") if p.suffix in {".c", ".h"}]
    assert files
    for path in files:
        unit = "jets" if path.parent.name == "jets" else path.stem
        assert unit in layer_of, f"{path}: which layer is this?"
        for included in re.findall(r'#include "([^"]+)"', path.read_text()):
            stem = "jets" if "jets/" in included else Path(included).stem
            if path.parent.name == "jets" and (path.parent / included).exists():
                stem = "jets"
            assert stem in layer_of, f"{path}: {included}"
            assert layer_of[unit] <= layer_of[stem], f"{path} includes {included}"
