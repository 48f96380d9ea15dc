"""What Vere wrote: its piers unpacked, and what is known of each; its traces."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any

from king.log.store import EventLog
from proto.noun import Cell, Noun

GOLDEN = Path(__file__).resolve().parents[1] / "conformance" / "vere"
PIERS = ("plain", "crud", "epochs", "long")


def unpack(case: str, target: Path) -> Path:
    """A fresh copy of a golden pier beneath `target`."""
    with tarfile.open(GOLDEN / "piers" / f"{case}.tar.gz") as archive:
        archive.extractall(target, filter="data")
    return target / case


def expected(case: str) -> dict[str, Any]:
    text = (GOLDEN / "piers" / f"{case}.expect.json").read_text()
    value: dict[str, Any] = json.loads(text)
    return value


def pill(name: str) -> Path:
    return GOLDEN / "pills" / f"{name}.pill"


def edit(n: Noun, axis: int, value: Noun) -> Noun:
    """`n` with `value` at `axis`."""
    path = bin(axis)[3:]
    spine = []
    for bit in path:
        assert isinstance(n, Cell)
        spine.append(n)
        n = n.tail if bit == "1" else n.head
    for cell, bit in zip(reversed(spine), reversed(path), strict=True):
        value = Cell(cell.head, value) if bit == "1" else Cell(value, cell.tail)
    return value


def log_digest(log: EventLog) -> str:
    """SHA-256 over mug (4 bytes LE) and jam of all events in order."""
    digest = hashlib.sha256()
    number = max(log.first, 1)
    while rows := log.read(number):
        for row in rows:
            digest.update(row.mug.to_bytes(4, "little") + row.job)
        number += len(rows)
    return digest.hexdigest()
