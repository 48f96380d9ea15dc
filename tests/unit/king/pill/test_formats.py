"""Pills: accepted, refused by name, and never believed beyond their shape."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from king.errors import TreadleError
from king.pill.formats import parse_pill, read_pill
from proto.jam import cue, jam
from proto.noun import Cell, Noun, items, noun
from tests.support.golden import pill

OVUM = noun(("d", ["term", "1"]), ("belt", 7))
BOOT = [1, (2, 3)]


def make(kind: str, *body: object) -> bytes:
    return jam(noun(kind, *body))


@pytest.mark.parametrize("name", ["counter", "echo", "light"])
def test_golden_pills_parse_to_their_own_parts(name: str) -> None:
    parsed = read_pill(pill(name))
    whole = cue(pill(name).read_bytes())
    assert isinstance(whole, Cell)
    _, rest = whole
    assert isinstance(rest, Cell)
    label, rest = rest
    assert isinstance(rest, Cell)
    boot, rest = rest
    assert isinstance(rest, Cell)
    kernel, userspace = rest
    assert parsed.kind == "pill"
    assert int.from_bytes(parsed.name.encode(), "little") == label

    def jams(events: Noun) -> tuple[bytes, ...]:
        return tuple(jam(event) for event in items(events))

    assert (parsed.boot, parsed.kernel, parsed.userspace) == (
        jams(boot),
        jams(kernel),
        jams(userspace),
    )


def test_cash_pill_parses_with_and_without_its_cache() -> None:
    cache = [((1, 2), 3)]
    new = parse_pill(make("cash", ("brass", BOOT, [OVUM], [OVUM, OVUM]), cache))
    old = parse_pill(make("cash", "brass", BOOT, [OVUM], [OVUM, OVUM]))
    plain = parse_pill(make("pill", "brass", BOOT, [OVUM], [OVUM, OVUM]))
    for cash in (new, old):
        assert cash.kind == "cash"
        assert cash.name == "brass"
        assert (cash.boot, cash.kernel, cash.userspace) == (
            plain.boot,
            plain.kernel,
            plain.userspace,
        )
    assert len(plain.userspace) == 2


def test_ivory_is_refused_by_name() -> None:
    with pytest.raises(TreadleError) as caught:
        read_pill(pill("toy-ivory"))
    assert caught.value.code == "pill-ivory"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "not a noun (gone: the bits run out)"),
        (b"\x00", "not a noun"),
        (b"#!/bin/sh\necho not a pill\n", ""),
        (jam(0), "no tag"),
        (jam(Cell(Cell(1, 2), 3)), "no tag"),
        (make("bill", 1, BOOT, 0, 0), "%bill"),
        (make("pill", (1, 2), BOOT, 0, 0), "name"),
        (make("pill", "x", BOOT, 0), ""),
        (make("pill", "x", 0, 0, 0), "no boot events"),
        (make("pill", "x", (1, 2, 3), 0, 0), "not a list"),
        (make("pill", "x", BOOT, [5], 0), "kernel event 1 is not an ovum"),
        (make("pill", "x", BOOT, 0, [OVUM, (1, 2)]), "userspace event 2"),
        (make("pill", "x", BOOT, 0, [((("a", 1), 0), "b", 0)]), "a cell for a target"),
    ],
)
def test_garbage_gets_one_clear_error(data: bytes, why: str) -> None:
    with pytest.raises(TreadleError) as caught:
        parse_pill(data, "bad.pill")
    assert caught.value.code == "pill-bad"
    assert caught.value.exit_code == 6
    assert "bad.pill" in caught.value.message
    assert why in caught.value.message


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TreadleError) as caught:
        read_pill(tmp_path / "none.pill")
    assert caught.value.code == "pill-missing"


def fault(data: bytes) -> str | None:
    """The code of the refusal; None where it was accepted."""
    try:
        parse_pill(data)
    except TreadleError as error:
        return error.code
    return None


def test_every_truncation_is_a_pill_or_one_clear_error() -> None:
    data = pill("light").read_bytes()
    found = [fault(data[:size]) for size in range(0, len(data), 7)]
    assert set(found) <= {None, "pill-bad"}
    # Bits past the end read as zeros: only the very last may be spared.
    assert found.count(None) <= 8


def test_flipped_bits_are_a_pill_or_one_clear_error() -> None:
    good = pill("light").read_bytes()
    chance = random.Random(20261122)
    found = []
    for _ in range(400):
        data = bytearray(good)
        at = chance.randrange(len(data) * 8)
        data[at // 8] ^= 1 << at % 8
        found.append(fault(bytes(data)))
    assert set(found) <= {None, "pill-bad", "pill-ivory"}
    assert found.count("pill-bad") > 100
