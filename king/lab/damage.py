"""A hostile pier: flipped bits, misdirected and missing pages, cut files.

What it is: a copy of a pier at rest, one file of it damaged; and what a start
    makes of that. Damage is *refused* (by a named fault), *repaired* (an older
    snapshot, a replay), or *harmless* (the state is the right one, and what is
    wrong in the log is seen by whoever replays it). Anything else is broken
    trust: another state, or fewer events, without a word.
Invariants: the seed alone chooses the damage.
Limits: LMDB keeps no checksums. The mugs in the log vouch for what is played;
    a row that no replay comes by is only looked at by `treadle check`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from king.lab.judge import copy_pier
from king.lab.trial import Lab

__all__ = ["Damage", "Damager"]

_FILES = (
    (".urb/log/0i*/data.mdb", 8, 4096),
    (".urb/log/data.mdb", 2, 4096),
    (".urb/chk/treadle.image", 8, 16384),
    (".urb/treadle.json", 1, 64),
    (".urb/log/0i*/epoc.txt", 1, 1),
    (".urb/log/0i*/vere.txt", 1, 4),
    (".urb/log/0i*/treadle.chain", 1, 64),
    (".urb/log/0i*/treadle.image", 1, 16384),
    (".urb/log/0i*/treadle.json", 1, 64),
    (".urb/treadle.lock", 1, 1),
    (".vere.lock", 1, 1),
    (".urb/released", 1, 64),
)
"""Path (a pattern: of any epoch), weight, and the size of a page of it."""


@dataclass(frozen=True, slots=True)
class Damage:
    """What was done, and what came of it. `fault`: broken trust."""

    what: str
    outcome: str
    fault: str = ""


class Damager:
    """Damages copies of one pier."""

    def __init__(self, lab: Lab, pier: Path) -> None:
        """`pier` is at rest, and whole."""
        self._lab = lab
        self._pier = pier
        with lab.room() as folder:
            self._log, facts = lab.judge.look(copy_pier(pier, folder, "pier"))
            assert not self._log["fault"]
            assert not facts["fault"]
            self._end = facts["end"]

    def strike(self, seed: int) -> Damage:
        """One damage."""
        dice = random.Random(seed)
        with self._lab.room() as folder:
            copy = copy_pier(self._pier, folder, "pier")
            what = _damage(copy, dice)
            found, facts = self._lab.judge.look(copy)
        return self._assess(f"{what} (seed {seed})", found, facts)

    def _assess(
        self, what: str, found: dict[str, Any], facts: dict[str, Any]
    ) -> Damage:
        if found["fault"]:
            return Damage(what, "refused", _unclear(found["fault"]))
        if facts["fault"]:
            return Damage(what, "refused", _unclear(facts["fault"]))
        lost = len(self._log["rows"]) - len(found["rows"])
        if lost > 0 and not facts["fell_back"] and not facts["note"]:
            return Damage(what, "unnoticed", f"{lost} events are gone, without a word")
        if lost == 0 and facts["end"] != self._end:
            return Damage(what, "unnoticed", "another state, without a word")
        if facts["fell_back"] or facts["note"]:
            return Damage(what, "repaired")
        if found["rows"] == self._log["rows"]:
            return Damage(what, "harmless")
        if facts["reference_fault"]:
            return Damage(what, "harmless until replayed, then refused")
        if facts["expected_end"] != self._end:
            return Damage(what, "unnoticed", "a replay gives another state")
        return Damage(what, "harmless")


def _unclear(fault: str) -> str:
    """Fault of a fault: it killed the reader, or has no name."""
    if "kill" in fault:
        return fault
    known = ": " in fault and fault.split(": ", 1)[0].isidentifier()
    return f"not a clear fault: {fault}" if known and "Error" in fault else ""


def _damage(pier: Path, dice: random.Random) -> str:
    """Damage one file; say how."""
    files = [
        (str(path.relative_to(pier)), weight, page)
        for pattern, weight, page in _FILES
        for path in sorted(pier.glob(pattern))
    ]
    name, _, page = dice.choices(files, [weight for _, weight, _ in files])[0]
    data = bytearray((pier / name).read_bytes())
    how = dice.choice(_WAYS) if data else _append
    said = how(data, page, dice)
    (pier / name).write_bytes(data)
    return f"{name}: {said}"


def _used_page(data: bytearray, page: int, dice: random.Random) -> int:
    """The offset of a page; rather one that holds something."""
    for _ in range(64):
        at = dice.randrange((len(data) + page - 1) // page) * page
        if any(data[at : at + page]):
            break
    return at


def _flip(data: bytearray, page: int, dice: random.Random) -> str:
    start = _used_page(data, page, dice)
    size = min(page, len(data) - start)
    bits = [start * 8 + dice.randrange(size * 8) for _ in range(dice.choice((1, 1, 8)))]
    for bit in bits:
        data[bit // 8] ^= 1 << bit % 8
    return f"bits {bits} flipped"


def _misdirect(data: bytearray, page: int, dice: random.Random) -> str:
    source, target = _used_page(data, page, dice), _used_page(data, page, dice)
    data[target : target + page] = data[source : source + page]
    return f"page {source // page} written over page {target // page}"


def _lose(data: bytearray, page: int, dice: random.Random) -> str:
    at = _used_page(data, page, dice)
    data[at : at + page] = bytes(len(data[at : at + page]))
    return f"page {at // page} is zeros"


def _cut(data: bytearray, _: int, dice: random.Random) -> str:
    del data[dice.randrange(len(data)) :]
    return f"cut to {len(data)} bytes"


def _append(data: bytearray, page: int, dice: random.Random) -> str:
    data += dice.randbytes(dice.randrange(1, page + 1))
    return f"grown to {len(data)} bytes of noise"


_WAYS: tuple[Callable[[bytearray, int, random.Random], str], ...] = (
    *(_flip, _flip, _flip, _misdirect, _misdirect, _lose, _cut, _append),
)
