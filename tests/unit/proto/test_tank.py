"""Tanks as lines: what a terminal, or a page of the web, can be shown."""

from proto.noun import noun
from proto.tank import clean, tank_lines


def test_what_steers_a_terminal_is_shown_as_a_question() -> None:
    assert clean("a\tb\x1b[2J\x9b\x7f\r") == "a b?[2J???"
    assert clean("\u00e9\u4e2d \U0001f600") == "\u00e9\u4e2d \U0001f600"


def test_what_cannot_be_encoded_is_shown_as_a_question() -> None:
    (line,) = tank_lines(noun("leaf", [0xD800, 0x1F600, 0xDFFF]))
    assert line.encode() == "?\U0001f600?".encode()
