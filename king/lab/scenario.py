"""Scenarios: what people do to a ship, for the lab to interfere with.

A scenario is one small file: a docstring that says what it is, a function
`play(hand)`, and, if it begins with no pier at all, `FRESH = True`; or a function
`ready(hand)`, for what happened to the pier long before, in peace. Ours are in
`king/lab/scenarios/`; anybody may give the path of another.

What it is: finding and loading them.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import king.lab.scenarios
from king.errors import TreadleError
from king.lab.pair import Hand

__all__ = ["Scenario", "all_scenarios", "find_scenario"]


@dataclass(frozen=True, slots=True)
class Scenario:
    """`fresh`: it begins without a pier. `needs_page`: it speaks HTTP. `ready`:
    what it begins with; each blow at it has that anew."""

    name: str
    text: str
    play: Callable[[Hand], None]
    fresh: bool = False
    needs_page: bool = False
    ready: Callable[[Hand], None] | None = None

    @property
    def begins_anew(self) -> bool:
        """Each time it is played, and not where the time before left the pier."""
        return self.fresh or self.ready is not None


def all_scenarios() -> list[Scenario]:
    """Our own, by name."""
    found = pkgutil.iter_modules(king.lab.scenarios.__path__)
    prefix = king.lab.scenarios.__name__
    return [
        _read(importlib.import_module(f"{prefix}.{info.name}"), info.name)
        for info in sorted(found, key=lambda info: info.name)
    ]


def find_scenario(name: str) -> Scenario:
    """One of ours by its name, or the file that `name` is the path of.

    :raises TreadleError: usage
    """
    if name.endswith(".py"):
        path = Path(name)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None or not path.is_file():
            raise _unknown(name)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return _read(module, path.stem)
    for scenario in all_scenarios():
        if scenario.name == name:
            return scenario
    raise _unknown(name)


def _unknown(name: str) -> TreadleError:
    return TreadleError(
        "usage",
        f"there is no scenario {name}",
        "treadle lab list names ours; a path to a .py file names your own",
    )


def _read(module: ModuleType, name: str) -> Scenario:
    play = getattr(module, "play", None)
    if not callable(play) or not module.__doc__:
        raise TreadleError(
            "usage",
            f"the scenario {name} has no play(hand), or no docstring",
            "king/lab/scenario.py says what a scenario is",
        )
    return Scenario(
        name,
        module.__doc__.strip().splitlines()[0],
        play,
        bool(getattr(module, "FRESH", False)),
        bool(getattr(module, "NEEDS_PAGE", False)),
        getattr(module, "ready", None),
    )
