"""The watermark of effects: kept from run to run, and done without."""

from __future__ import annotations

from pathlib import Path

from king.released import ReleasedMark

LOG = bytes(range(16))


def test_the_next_run_knows_how_far_it_got(tmp_path: Path) -> None:
    path = tmp_path / "released"
    mark = ReleasedMark(path, LOG)
    assert (mark.before, mark.clean) == (None, False)
    mark.begin(3)
    mark.set(5)
    assert (ReleasedMark(path, LOG).before, ReleasedMark(path, LOG).clean) == (5, False)
    mark.close(7, clean=True)
    after = ReleasedMark(path, LOG)
    assert (after.before, after.clean) == (7, True)
    assert ReleasedMark(path, bytes(16)).before is None, "of another log"


def test_a_run_goes_on_without_it(tmp_path: Path) -> None:
    """A disk that refuses it costs words, not the ship."""
    for path in (tmp_path, tmp_path / "missing" / "released"):
        mark = ReleasedMark(path, LOG)
        assert mark.before is None
        mark.begin(1)
        mark.set(2)
        mark.close(3, clean=True)
