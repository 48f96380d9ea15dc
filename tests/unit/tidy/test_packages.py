"""What is installed is all there is: a package that pyproject.toml forgets is found
in a checkout, and missing from an installed treadle."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_every_package_is_named_in_pyproject() -> None:
    with open(ROOT / "pyproject.toml", "rb") as file:
        named = tomllib.load(file)["tool"]["setuptools"]["packages"]
    there = {
        ".".join(init.parent.relative_to(ROOT).parts)
        for room in ("king", "serf", "proto")
        for init in (ROOT / room).rglob("__init__.py")
    }
    assert sorted(named) == sorted(there)
