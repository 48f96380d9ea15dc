"""Jam, cue and mug in Python, against vectors of the specification."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto.errors import CueError
from proto.jam import cue, jam
from proto.mug import mug
from proto.noun import Cell, Noun, noun
from tests.support.serf_rig import VERE

ABC = "abcdefjhijklmnopqrstuvwxyz"

JAMS: list[tuple[Noun, str]] = [
    (0, "02"),
    (1, "0c"),
    (2, "48"),
    (noun("fast"), "c0370b9ba303"),
    (noun(0, 0), "29"),
    (noun(1, 1), "3103"),
    (noun(1, 2), "3112"),
    (noun(2, 3), "21d1"),
    (noun(1, 1, 1), "71cc"),
    (noun(1, 2, 3), "714834"),
    (noun((1, 2), 3), "c54834"),
    (noun("fast", "full"), "01df2c6c8e0e7cb33a3636"),
    (noun("fast", "full", "fast"), "01df2c6c8e1ef0cdead8d893"),
    (noun((1, 2), (1, 2), 1, 2), "c5c8262701"),
    (noun((0, 0), ((0, 0), 1, 1), 1, 1), "a53519f31805"),
    (
        noun(ABC, 2, 3, ABC),
        "01f80c131b232b3353434b535b636b737b838b939ba3abb3bbc3cbd3870c3d09",
    ),
    (1 << 256, "000c" + "00" * 32 + "08"),
    (1 << 31, "800000000010"),
    (1 << 62, "801f0000000000000008"),
    ((1 << 64) - 1, "0081ffffffffffffff7f"),
]

MUGS: list[tuple[Noun, int]] = [
    (0, 0x79FF04E8),
    (1, 0x715C2A60),
    (2, 0x718B9468),
    (noun("Hello, world!"), 0x4D441035),
    (noun("x" * 28), 0x64DFDA5C),
    (1 << 96, 0x519BD45C),
    ((1 << 96) + (1 << 32), 0x540EB8A9),
    ((1 << 31) - 1, 0x389CA03A),
    (1 << 63, 0x135EB193),
    ((1 << 64) - 1, 0x695C8310),
    (((1 << 212) ^ int.from_bytes(b"abcdefjhijklmnopqrstuvwxyz", "little")) << 8,
     0x34D08717),
    (noun(0, 0), 0x192F5588),
    (noun(1, 2, 3), 0x3A811AEC),
    (noun(0, 1 << 32), 0x07CEFB7F),
    (noun((1 << 128) - 1, 1), 0x2AA06BFC),
    (noun((0, 0), 0), 0x0BED655D),
]  # fmt: skip


@pytest.mark.parametrize(("value", "text"), JAMS)
def test_jam_and_cue_agree_with_the_vectors(value: Noun, text: str) -> None:
    assert jam(value).hex() == text
    assert cue(bytes.fromhex(text)) == value


@pytest.mark.parametrize(("value", "expected"), MUGS)
def test_mug_agrees_with_the_vectors(value: Noun, expected: int) -> None:
    assert mug(value) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [("", "gone"), ("01", "gone"), ("03", "gone"), ("00", "gone"), ("00" * 9, "gone")]
    + [(text, "back") for text in ("07", "0b", "17", "ff")]
    + [("00" * 40 + "01", "meme"), ("00" * 8 + "04" + "ff" * 8, "meme")],
)
def test_cue_refuses(text: str, why: str) -> None:
    with pytest.raises(CueError) as caught:
        cue(bytes.fromhex(text))
    assert caught.value.why == why


def test_cue_jam_and_mug_as_in_vere() -> None:
    wrong = []
    for line in (VERE / "nouns.jsonl").read_text().splitlines():
        row = json.loads(line)
        data = bytes.fromhex(row["jam"])
        if row["kind"] == "error":
            with pytest.raises(CueError) as caught:
                cue(data)
            same = caught.value.why == row["why"]
        else:
            value = cue(data)
            same = jam(value).hex() == row.get("rejam", row["jam"])
            same = same and f"{mug(value):08x}" == row["mug"]
        if not same:
            wrong.append((row["class"], row["jam"][:80]))
    assert wrong == []


def test_cue_accepts_a_non_canonical_zero() -> None:
    assert cue(bytes.fromhex("0400")) == 0


def test_deep_nouns_need_no_recursion() -> None:
    left: Noun = 0
    right: Noun = 0
    for i in range(200_000):
        left, right = Cell(left, i & 7), Cell(i & 7, right)
    both = Cell(left, right)
    again = cue(jam(both))
    assert again == both
    assert mug(again) == mug(both)


def test_shared_structure_stays_linear() -> None:
    dag: Noun = 1
    twin: Noun = 1
    for _ in range(200):
        dag, twin = Cell(dag, dag), Cell(twin, twin)
    assert jam(dag) == jam(twin)
    assert dag == twin
    assert cue(jam(dag)) == dag


NOUNS = st.recursive(
    st.integers(0, 5) | st.integers(0, 1 << 200),
    lambda inner: st.builds(Cell, inner, inner),
    max_leaves=60,
)


@given(NOUNS)
def test_cue_undoes_jam(value: Noun) -> None:
    data = jam(value)
    assert cue(data) == value
    assert jam(cue(data)) == data
    assert not data or data[-1] != 0


@given(st.binary(max_size=80))
def test_cue_never_fails_otherwise(data: bytes) -> None:
    try:
        value = cue(data)
    except CueError:
        return
    assert cue(jam(value)) == value
