"""Ships, numbers, dates, paths, and nouns as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto import cord
from proto.errors import TextError
from proto.noun import Cell, Noun, atom_bytes, items, noun, slot
from proto.text import parse, render

SHIPS = [
    (0, "~zod"),
    (2, "~bud"),
    (5, "~per"),
    (0xFF, "~fes"),
    (0x100, "~marzod"),
    (0xFFFF, "~fipfes"),
    (0x10000, "~dapnep-ronmyl"),
    (0xFFFFFFFF, "~dostec-risfen"),
]


@pytest.mark.parametrize(("number", "text"), SHIPS)
def test_ships_have_their_names(number: int, text: str) -> None:
    assert cord.ship_text(number) == text
    assert cord.ship_from_text(text) == number
    assert cord.ship_from_text(text[1:]) == number


@given(st.integers(0, (1 << 128) - 1) | st.integers(0, 1 << 33))
def test_ship_names_come_back(number: int) -> None:
    assert cord.ship_from_text(cord.ship_text(number)) == number


@pytest.mark.parametrize(
    "text", ["", "~", "~zzz", "zod-", "~dozzod", "~zod-zod", "~ZOD"]
)
def test_ship_refuses(text: str) -> None:
    with pytest.raises(TextError):
        cord.ship_from_text(text)


def test_numbers_as_text() -> None:
    assert cord.ud_text(1_234_567) == "1.234.567"
    assert cord.uv_text(0) == "0v0"
    assert cord.uv_text(123_456_789) == "0v3.lnj8l"


def test_dates() -> None:
    da = cord.da_from_unix(1_700_000_000_500_000_000)
    assert cord.da_text(da) == "~2023.11.14..22.13.20..8000"
    assert cord.da_to_unix(da) == 1_700_000_000.5
    assert cord.da_from_unix(0) == cord.UNIX_EPOCH


NOUNS = st.recursive(
    st.integers(0, 1 << 80) | st.text(max_size=9).map(cord.cord),
    lambda inner: st.builds(Cell, inner, inner),
    max_leaves=30,
)


@given(NOUNS)
def test_text_parses_to_the_same_noun(value: Noun) -> None:
    assert parse(render(value)) == value


def test_text_forms() -> None:
    assert parse("[1 [2 3] %foo 'x y' ~zod ~ & |]") == noun(
        1, (2, 3), "foo", "x y", 0, 0, 0, 1
    )
    assert parse("/a/b") == noun(["a", "b"])
    assert parse('"ab"') == noun([97, 98])
    assert render(noun(1, (2, 3), "foo"), 4).endswith("...")


@pytest.mark.parametrize("text", ["", "[", "]", "[]", "1 2", "[1 2", "'x", "-1", "0x"])
def test_text_refuses(text: str) -> None:
    with pytest.raises(TextError):
        parse(text)


def test_nouns_from_values() -> None:
    assert noun("a", ["b", (1, 2)], None) == Cell(97, Cell(noun(["b", (1, 2)]), 0))
    assert slot(noun(1, 2, 3), 7) == 3
    assert items(noun([1, 2])) == [1, 2]
    assert atom_bytes(noun(b"ab")) == b"ab"
    for bad in (True, -1, 1.5):
        with pytest.raises(TypeError):
            noun(bad)
    for axis in (0, 4):
        with pytest.raises(ValueError, match="axis"):
            slot(noun(1, 2), axis)
