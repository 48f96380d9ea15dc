"""kill -9 in the middle of a snapshot, an export, an import: what is left has no
name, and the next call of the same clears it; what somebody is making stays."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from king.care.export import facts_of
from tests.support.whole_ship import ROOT, boot, treadle, wait_for


@pytest.fixture(scope="module")
def ship(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """At rest; what it leaves out is beside it: a rock, and a log."""
    pier = tmp_path_factory.mktemp("killed") / "zod"
    with boot(pier) as made:
        made.start()
        for number in range(10):
            assert made.http("PUT", f"/kv/k{number}", b"v" * 20_000)[0] == 201
        assert made.stop() == 0
    assert treadle("export", pier, pier.with_name("rock")).code == 0
    assert treadle("export", pier, pier.with_name("log"), "--log").code == 0
    return pier


def words_of(verb: str, ship: Path, target: Path) -> list[str]:
    """Of a command that makes `target`."""
    words: dict[str, list[object]] = {
        "snapshot": ["snapshot", ship, target],
        "rock": ["export", ship, target],
        "log": ["export", ship, target, "--log"],
        "import": ["import", target, ship.with_name("log")],
        "import rock": ["import", target, ship.with_name("rock")],
    }
    return [str(word) for word in words[verb]]


def part_of(verb: str, target: Path) -> Path:
    kind = {"snapshot": "snapshot", "rock": "export", "log": "export"}
    return target.with_name(f".{target.name}.{kind.get(verb, 'import')}")


VERBS = ["snapshot", "rock", "log", "import", "import rock"]


@pytest.mark.parametrize("verb", VERBS)
def test_a_kill_leaves_nothing_that_the_next_call_does_not_clear(
    verb: str, ship: Path, tmp_path: Path
) -> None:
    """At moments that differ; whatever each of them meets, this holds."""
    target = tmp_path / "made"
    part = part_of(verb, target)
    for delay in (0.0, 0.1, 0.3, 0.7):
        kill_after(words_of(verb, ship, target), part, delay)
        if target.exists():  # it had done all of it
            break
        # Its children may be about to leave, and hold what they work on until then.
        wait_for(lambda: is_free(part), "the last of it is gone")
    if not target.exists():
        assert treadle(*words_of(verb, ship, target)).code == 0
    found = {path.name for path in tmp_path.iterdir()}
    assert found == {"made", *([facts_of(target).name] if verb == "rock" else [])}
    if verb in ("rock", "log"):
        shutil.rmtree(tmp_path / "again", ignore_errors=True)
        assert treadle("import", tmp_path / "again", target).code == 0
    else:
        assert treadle("check", target).code == 0


def kill_after(words: list[str], part: Path, delay: float) -> None:
    """So long after it has begun to make something."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "king", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for(
        lambda: os.path.lexists(part) or process.poll() is not None,
        "its part, or its end",
    )
    time.sleep(delay)
    process.kill()
    process.wait()


def is_free(part: Path) -> bool:
    if not part.exists():
        return True
    descriptor = os.open(part, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


@pytest.mark.parametrize("verb", VERBS)
def test_what_somebody_is_making_is_left_to_him(
    verb: str, ship: Path, tmp_path: Path
) -> None:
    target = tmp_path / "made"
    part = part_of(verb, target)
    if verb in ("rock", "log"):
        part.write_bytes(b"half of it")
        mine = part
    else:
        part.mkdir()
        mine = part / "half"
        mine.write_bytes(b"half of it")
    descriptor = os.open(part, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        assert treadle(*words_of(verb, ship, target)).fault == "care-busy"
        assert mine.read_bytes() == b"half of it"
        assert not target.exists()
    finally:
        os.close(descriptor)
    assert treadle(*words_of(verb, ship, target)).code == 0
    assert not part.exists()
