"""The boot list against Vere's logs; the ceremony against crashes."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from king.boot import STEP, boot, boot_rows, clean_leftovers
from king.config import KELVINS, RUNTIME, BootOptions
from king.errors import TreadleError
from king.log.epoch import open_log
from king.pier import Layout, Pier, open_pier, who_locks
from king.pill.formats import read_pill
from proto.jam import cue, jam
from proto.message import Row
from proto.noun import Cell, Noun, slot
from tests.support.golden import expected, pill, unpack

ENTROPY = bytes(range(1, 65))
NOW = 0x8000000D39A0432302C40000 << 32


def run_boot(pier: Pier) -> tuple[int, int]:
    """Stands for the serf: writes an image, reads the whole log."""
    rows = pier.log.read(1, 1 << 20)
    pier.layout.image.write_bytes(b"an image")
    return len(rows), 7


def options(target: Path, ship: int = 0) -> BootOptions:
    return BootOptions(pier=target, ship=ship, pill=pill("counter"))


@pytest.mark.parametrize("case", ["plain", "crud"])
def test_list_is_vere_s_but_for_time_entropy_and_version(
    case: str, tmp_path: Path
) -> None:
    """Rows 1 to 9 of the golden piers, rebuilt byte for byte."""
    log = open_log(unpack(case, tmp_path) / ".urb" / "log", read_only=True)
    golden = log.read(1, 9)
    ship = log.meta.who
    log.close()
    first = cue(golden[2].job)
    wack = slot(cue(golden[5].job), 15)
    assert isinstance(first, Cell)
    assert isinstance(first.head, int)
    assert isinstance(wack, int)
    ours = boot_rows(
        read_pill(pill(expected(case)["kernel"].removesuffix(".pill"))),
        ship,
        now=first.head - STEP,
        entropy=wack.to_bytes(64, "little"),
        kelvins=KELVINS,
    )
    assert len(ours) == 9
    for index, (mine, theirs) in enumerate(zip(ours, golden, strict=True)):
        if index == 2:
            # %wyrd names the runtime: all else in it is the same.
            assert _without_runtime(mine) == _without_runtime(theirs)
        else:
            assert mine == theirs


def _without_runtime(row: Row) -> tuple[Noun, ...]:
    # [now wire %wyrd [nonce runtime] kelvins]
    whole = cue(row.job)
    return tuple(slot(whole, axis) for axis in (2, 6, 14, 60, 31))


def test_list_is_a_function_of_its_arguments() -> None:
    counter = read_pill(pill("counter"))
    one = boot_rows(counter, 5, now=NOW, entropy=ENTROPY, kelvins=KELVINS)
    two = boot_rows(counter, 5, now=NOW, entropy=ENTROPY, kelvins=KELVINS)
    assert one == two
    assert [row.mug for row in one] == [0] * len(one)
    stamps = [slot(cue(row.job), 2) for row in one[2:]]
    assert stamps == [NOW + n * STEP for n in range(1, len(stamps) + 1)]
    assert all(jam(cue(row.job)) == row.job for row in one)


def test_boot_makes_a_whole_pier(tmp_path: Path) -> None:
    target = tmp_path / "zod"
    done = boot(options(target, 256), run_boot, now=NOW, entropy=ENTROPY)
    assert (done.event, done.mug, done.pill) == (9, 7, "counter")
    assert os.listdir(tmp_path) == ["zod"]
    assert target.stat().st_mode & 0o777 == 0o700
    assert who_locks(Layout(target)) is None
    assert (target / ".urb/log/0i0/vere.txt").read_text() == RUNTIME
    for name in ("put", "get", "dev", "chk"):
        assert (target / ".urb" / name).is_dir()
    with open_pier(target) as pier:
        assert pier.manifest.ship == pier.meta.who == 256
        assert not pier.manifest.adopted
        assert (pier.meta.life, pier.meta.fake, pier.log.last) == (2, True, 9)
        assert pier.layout.image.read_bytes() == b"an image"
        counter = read_pill(pill("counter"))
        rows = boot_rows(counter, 256, now=NOW, entropy=ENTROPY, kelvins=KELVINS)
        assert pier.log.read(1) == rows


def test_existing_target_is_never_touched(tmp_path: Path) -> None:
    for make in (Path.mkdir, Path.touch, lambda path: path.symlink_to("nowhere")):
        target = tmp_path / "zod"
        make(target)
        with pytest.raises(TreadleError) as caught:
            boot(options(target), run_boot)
        assert caught.value.code == "pier-exists"
        assert os.listdir(tmp_path) == ["zod"]
        target.rmdir() if not target.is_symlink() and target.is_dir() else (
            target.unlink()
        )


def test_target_that_appears_meanwhile_is_never_touched(tmp_path: Path) -> None:
    target = tmp_path / "zod"

    def slow(pier: Pier) -> tuple[int, int]:
        target.mkdir()
        return run_boot(pier)

    with pytest.raises(TreadleError) as caught:
        boot(options(target), slow)
    assert caught.value.code == "pier-exists"
    assert os.listdir(tmp_path) == ["zod"]
    assert os.listdir(target) == []


def test_failed_boot_leaves_nothing(tmp_path: Path) -> None:
    def fails(pier: Pier) -> tuple[int, int]:
        raise TreadleError("boot-failed", "the pill crashed")

    with pytest.raises(TreadleError, match="the pill crashed"):
        boot(options(tmp_path / "zod"), fails)
    assert os.listdir(tmp_path) == []


def test_comets_and_missing_parents_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TreadleError) as caught:
        boot(options(tmp_path / "zod", 1 << 64), run_boot)
    assert caught.value.code == "ship-bad"
    with pytest.raises(TreadleError) as caught:
        boot(options(tmp_path / "no" / "zod"), run_boot)
    assert caught.value.code == "pier-missing"


_DIES = """
import os, signal, sys
from pathlib import Path
from king import boot as module
from king.config import BootOptions

steps = int(sys.argv[3])

def tracer(frame, event, argument):
    global steps
    if frame.f_code.co_filename.endswith(NAMES):
        if event == "line":
            steps -= 1
            if steps == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return tracer
    return None

def run_boot(pier):
    rows = pier.log.read(1, 1 << 20)
    pier.layout.image.write_bytes(b"an image")
    return len(rows), 7

NAMES = ("king/boot.py", "king/pier.py", "king/manifest.py", "log/epoch.py")
NAMES += ("king/disk.py",)
options = BootOptions(pier=Path(sys.argv[1]), ship=0, pill=Path(sys.argv[2]))
sys.settrace(tracer)
module.boot(options, run_boot)
sys.settrace(None)
print(steps)
"""


@pytest.mark.slow
def test_kill_at_any_line_leaves_nothing_or_a_whole_pier(tmp_path: Path) -> None:
    target = tmp_path / "zod"

    def attempt(steps: int) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-c", _DIES, target, pill("counter"), str(steps)]
        return subprocess.run(command, capture_output=True, check=False)

    whole = attempt(1 << 30)
    assert whole.returncode == 0, whole.stderr
    total = (1 << 30) - int(whole.stdout)
    shutil.rmtree(target)
    assert total > 150
    outcomes = set()
    for steps in range(1, total, max(total // 30, 1)):
        died = attempt(steps)
        assert died.returncode == -signal.SIGKILL, died.stderr
        if target.exists():
            with open_pier(target) as pier:
                assert pier.log.last == 9
                assert pier.layout.image.exists()
            outcomes.add("whole")
            shutil.rmtree(target)
        else:
            outcomes.add("nothing")
        # Another boot works, and removes what the dead one left.
        for path in tmp_path.iterdir():
            os.utime(path, (0, 0))
        boot(options(target), run_boot)
        assert os.listdir(tmp_path) == ["zod"]
        shutil.rmtree(target)
    assert outcomes == {"nothing", "whole"}


def test_only_dead_boots_of_ours_are_cleaned(tmp_path: Path) -> None:
    target = tmp_path / "zod"
    with_lock = tmp_path / ".zod.boot-0123456789abcdef"
    (with_lock / ".urb").mkdir(parents=True)
    lock = with_lock / ".urb" / "treadle.lock"
    lock.write_text('{"runtime": "treadle-0.1.0"}')
    kept = [
        tmp_path / ".zod.boot-short",
        tmp_path / ".bud.boot-0123456789abcdef",
        tmp_path / ".zod.boot-00000000000000aa",  # strange contents
        tmp_path / ".zod.boot-00000000000000bb",  # a stranger's lock file
        tmp_path / ".zod.boot-00000000000000cc",  # empty, but too young
    ]
    for path in kept:
        path.mkdir()
    (kept[2] / "precious.txt").write_text("mine")
    (kept[3] / ".urb").mkdir()
    (kept[3] / ".urb" / "treadle.lock").write_text('{"runtime": "other"}')
    link = tmp_path / ".zod.boot-00000000000000dd"
    link.symlink_to(kept[2])
    with lock.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert clean_leftovers(target) == []
    assert clean_leftovers(target) == [with_lock]
    assert all(path.exists() for path in [*kept, link])
    old = time.time() - 1000
    os.utime(kept[4], (old, old))
    assert clean_leftovers(target) == [kept[4]]


def test_without_renameat2_a_rename_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("king.disk._RENAME_NOREPLACE", 1 << 30)  # EINVAL
    boot(options(tmp_path / "zod"), run_boot)
    assert os.listdir(tmp_path) == ["zod"]
