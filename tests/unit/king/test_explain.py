"""Every code has its words, and the command finds them."""

from __future__ import annotations

import json

import pytest

from king.cli import main
from king.errors import EXIT_CODES
from king.explain import WORDS


def test_every_code_has_words_and_every_word_a_code() -> None:
    assert set(WORDS) == set(EXIT_CODES)
    for words in WORDS.values():
        assert all(text.endswith(".") for text in words)


def test_explain_says_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "pier-locked"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("pier-locked (exit code 3)\n")
    assert "symptom" in told
    assert "`treadle stop PIER`" in told


def test_explain_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "log-failed", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {
        "code": "log-failed",
        "exit_code": 4,
        **WORDS["log-failed"]._asdict(),
    }


def test_explain_lists_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(WORDS)


def test_explain_knows_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "nonesuch"]) == 2
    assert "nonesuch is no code of ours" in capsys.readouterr().err
