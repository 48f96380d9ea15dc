"""An epoch whose version file is lost: nothing that it holds is forgotten."""

from __future__ import annotations

from pathlib import Path

import pytest

from king.errors import TreadleError
from king.log.epoch import find_epochs, open_log
from king.log.store import create_store
from king.pier import Layout, open_pier
from tests.support.golden import unpack


@pytest.mark.parametrize("how", ["empty", "missing"])
@pytest.mark.parametrize("read_only", [True, False])
def test_an_epoch_with_events_is_never_left_out(
    tmp_path: Path, how: str, read_only: bool
) -> None:
    log_dir = Layout(unpack("epochs", tmp_path)).log_dir
    newest = find_epochs(log_dir)[0][-1]
    version = newest.path / "epoc.txt"
    if how == "empty":
        version.write_bytes(b"")
    else:
        version.unlink()
    with pytest.raises(TreadleError) as caught:
        open_log(log_dir, read_only=read_only)
    assert caught.value.code == "log-bad"
    assert str(newest.path) in caught.value.message
    with pytest.raises(TreadleError):
        open_pier(log_dir.parent.parent)


def test_an_unfinished_roll_without_events_is_left_out(tmp_path: Path) -> None:
    log_dir = Layout(unpack("epochs", tmp_path)).log_dir
    log = open_log(log_dir, read_only=True)
    last, meta = log.last, log.meta
    log.close()
    roll = log_dir / f"0i{last}"
    roll.mkdir()
    create_store(roll, meta)
    (log_dir / f"0i{last + 5}").mkdir()
    log = open_log(log_dir)
    assert log.last == last
    assert len(log.notes) == 2
    log.close()
