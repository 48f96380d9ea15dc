"""Bad input at the command line: one clear message, an exit code, nothing lost.

Each case damages a copy of a pier (or a file that is given to a command), runs
what a person would run, and looks: no traceback, no signal, exactly one fault
with a code of the catalogue, or a success where the damage can be healed; and
what is undamaged is as it was.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from king.adopt import adopt
from king.errors import EXIT_CODES
from proto.jam import jam
from proto.noun import noun
from tests.support.golden import GOLDEN
from tests.support.small_disk import mounted
from tests.support.whole_ship import ROOT, Ran, WholeShip, boot, treadle, wait_for

OWN_PILL = ROOT / "king/pill/treadle.pill"
SEED = int(os.environ.get("TREADLE_DAMAGE_SEED", "1"))


def faults(ran: Ran) -> str:
    """The one fault of a command that failed as it should."""
    code = ran.fault
    assert ran.code == EXIT_CODES[code], ran
    return code


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pier with a snapshot behind its log, killed."""
    pier = tmp_path_factory.mktemp("settled") / "zod"
    with boot(pier) as ship:
        ship.start()
        for number in range(30):
            assert ship.http("PUT", f"/kv/k{number}", b"v" * 2000)[0] == 201
        assert ship.stop() == 0
        ship.start()
        for number in range(30):
            assert ship.http("PUT", f"/kv/l{number}", b"w" * 2000)[0] == 201
        ship.kill()
        ship.wait_free()
    ship.layout.conn_socket.unlink()  # cannot be copied
    return pier


@pytest.fixture
def ship(settled: Path, tmp_path: Path) -> Iterator[WholeShip]:
    shutil.copytree(settled, tmp_path / "zod")
    adopt(tmp_path / "zod")
    with WholeShip(tmp_path / "zod") as made:
        yield made


def whole(ship: WholeShip) -> None:
    """All that was acknowledged is there."""
    ship.start()
    assert ship.http("GET", "/kv/k29") == (200, b"v" * 2000)
    assert ship.http("GET", "/kv/l29") == (200, b"w" * 2000)
    assert ship.stop() == 0
    ship.check()


# --- pills ------------------------------------------------------------------


def bad_pills() -> list[tuple[str, bytes]]:
    rng = random.Random(SEED)
    good = OWN_PILL.read_bytes()
    toy = (GOLDEN / "pills/counter.pill").read_bytes()
    cases = [
        ("empty", b""),
        ("zero", b"\0"),
        ("text", b"this is not a pill\n"),
        ("atom", jam(5)),
        ("cell", jam(noun(1, 2))),
        ("wrong-tag", jam(noun("pilfer", "a", 0, 0, 0))),
        ("no-events", jam(noun("pill", "a", 0, 0, 0))),
        ("atoms-for-events", jam(noun("pill", "a", 1, 2, 3))),
        ("crashes", jam(noun("pill", "a", [noun(0, 0), noun(0, 0)], 0, 0))),
        ("deep", jam(noun("pill", "a", *range(20_000)))),
    ]
    for name, data in (("own", good), ("toy", toy)):
        for cut in (1, len(data) // 2, len(data) - 1):
            cases.append((f"{name}-cut-{cut}", data[:cut]))
        for _ in range(4):
            broken = bytearray(data)
            bit = rng.randrange(len(data) * 8)
            broken[bit // 8] ^= 1 << bit % 8
            cases.append((f"{name}-bit-{bit}", bytes(broken)))
    return cases


@pytest.mark.parametrize(
    "data", [pytest.param(data, id=name) for name, data in bad_pills()]
)
def test_bad_pills_boot_wholly_or_not_at_all(
    tmp_path: Path, data: bytes, request: pytest.FixtureRequest
) -> None:
    """A flipped bit may be harmless (in a text); never a half-made pier."""
    file = tmp_path / "bad.pill"
    file.write_bytes(data)
    pier = tmp_path / "pier"
    ran = treadle("boot", pier, "--fake", "zod", "--pill", file, "--no-run", timeout=60)
    if ran.code == 0:
        assert "bit" in request.node.callspec.id, "a bad pill was booted"
        WholeShip(pier).check()
        return
    assert faults(ran) in ("pill-bad", "boot-failed", "pill-ivory"), ran
    assert sorted(os.listdir(tmp_path)) == ["bad.pill"], "boot left something behind"


def test_an_ivory_pill_is_not_a_ship(tmp_path: Path) -> None:
    ran = treadle(
        *("boot", tmp_path / "p", "--fake", "zod", "--no-run"),
        *("--pill", GOLDEN / "pills/toy-ivory.pill"),
    )
    assert faults(ran) == "pill-ivory"


def test_a_pill_that_is_not_there(tmp_path: Path) -> None:
    for pill in (tmp_path / "none", tmp_path):
        words = ("boot", tmp_path / "p", "--fake", "zod", "--pill", pill, "--no-run")
        assert faults(treadle(*words)) in ("pill-missing", "pill-bad")
    assert os.listdir(tmp_path) == []


# --- jams -------------------------------------------------------------------


@pytest.mark.parametrize("command", ["noun", "nock"])
def test_bad_jams_are_refused(tmp_path: Path, command: str) -> None:
    rng = random.Random(SEED)
    good = jam(noun(noun(1, 2, 3), noun(0, 1)))
    cases = [b"", b"\0", good[:-1], good[:1], b"\xff" * 50, bytes(1000)]
    cases += [rng.randbytes(rng.randrange(1, 60)) for _ in range(10)]
    file = tmp_path / "a.jam"
    for data in cases:
        file.write_bytes(data)
        ran = treadle(command, file, "--json")
        if ran.code == 0 or (command == "nock" and ran.code == 2):
            assert isinstance(ran.json, dict)
        else:
            assert ran.code == 1, (data, ran)
            assert ran.fault == ran.json["error"] == "jam-bad", ran
            assert str(file) in ran.err, ran
    ran = treadle(command, tmp_path / "none")
    assert (ran.code, ran.fault) == (1, "file-bad")


# --- logs, images, manifests ------------------------------------------------


def damage(path: Path, rng: random.Random, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "truncate":
        del data[rng.randrange(len(data)) :]
    elif how == "empty":
        data.clear()
    elif how == "garbage":
        data[:] = rng.randbytes(len(data))
    else:
        bit = rng.randrange(len(data) * 8)
        data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("how", ["truncate", "empty", "garbage", "flip", "flip again"])
@pytest.mark.parametrize("which", ["log", "top", "manifest", "image"])
def test_damaged_files_are_named_or_healed(
    ship: WholeShip, which: str, how: str, request: pytest.FixtureRequest
) -> None:
    """`check`, `run` and `replay` of it: no signal, no traceback, and never an
    acknowledged value that comes back changed."""
    rng = random.Random(f"{SEED}{request.node.callspec.id}")
    paths = {
        "log": ship.layout.log_dir / "0i0/data.mdb",
        "top": ship.layout.log_dir / "data.mdb",
        "manifest": ship.layout.manifest,
        "image": ship.layout.image,
    }
    damage(paths[which], rng, how)
    checked = treadle("check", ship.pier)
    if checked.code not in (0, 1):
        faults(checked)
    if ship.try_to_start():
        # It lives: then nothing may be missing or changed.
        assert ship.http("GET", "/kv/k29") == (200, b"v" * 2000)
        assert ship.http("GET", "/kv/l29") == (200, b"w" * 2000)
        assert ship.stop() == 0
        if which == "image":
            assert treadle("check", ship.pier).code == 0, "not healed"
    else:
        assert which != "image" or how.startswith("flip"), (
            "a bad image is only a lost cache"
        )
        code = ship.wait_exit()
        told = [line for line in ship.words.splitlines() if line.startswith("treadle:")]
        assert len(told) == 1, ship.words
        assert code == EXIT_CODES[told[0].split(": ")[1]], ship.words
        assert checked.code != 0, "check saw nothing"
    replayed = treadle("replay", ship.pier, "--from-scratch")
    if replayed.code:
        faults(replayed)


def test_no_image_at_all_is_only_slower(ship: WholeShip) -> None:
    ship.layout.image.unlink()
    whole(ship)


def test_a_hole_in_the_log_is_never_skipped(ship: WholeShip) -> None:
    import lmdb

    with lmdb.open(str(ship.layout.log_dir / "0i0"), max_dbs=2) as environment:
        events = environment.open_db(b"EVENTS", integerkey=True, create=False)
        with environment.begin(db=events, write=True) as transaction:
            transaction.delete((40).to_bytes(8, "little"))
    ran = treadle("check", ship.pier)
    assert ran.code == 1
    assert "40" in ran.out
    ran = treadle("run", ship.pier, "--headless", "--http-port", "0", timeout=60)
    assert faults(ran) in ("log-gap", "log-bad")
    assert "40" in ran.err


def test_a_manifest_of_another_ship(ship: WholeShip, tmp_path: Path) -> None:
    other = boot(tmp_path / "nec", ship="nec")
    shutil.copy(other.layout.manifest, ship.layout.manifest)
    ran = treadle("run", ship.pier, "--headless", "--http-port", "0", timeout=60)
    assert faults(ran) == "identity-mismatch"
    assert treadle("check", ship.pier).code == 1


def test_an_image_of_another_ship_is_not_used(ship: WholeShip, tmp_path: Path) -> None:
    other = boot(tmp_path / "nec", ship="nec")
    with other.start():
        assert other.http("PUT", "/kv/l29", b"not ours")[0] == 201
        assert other.stop() == 0
    shutil.copy(other.layout.image, ship.layout.image)
    if ship.try_to_start():
        assert ship.http("GET", "/kv/l29") == (200, b"w" * 2000)
        assert ship.stop() == 0
    else:
        assert ship.wait_exit() == 5
        assert "image" in ship.words


# --- piers ------------------------------------------------------------------


def test_a_second_king_is_refused_and_harms_nothing(ship: WholeShip) -> None:
    ship.start()
    for command in ("run", "replay"):
        more = ["--headless"] if command == "run" else []
        ran = treadle(command, ship.pier, *more)
        assert faults(ran) == "pier-locked"
        assert str(ship.pid) in ran.err
    assert faults(treadle("boot", ship.pier, "--fake", "zod")) == "pier-exists"
    assert ship.http("PUT", "/kv/new", b"x")[0] == 201
    assert ship.stop() == 0
    ship.check()


def test_a_pier_beneath_a_king_that_vere_holds(ship: WholeShip) -> None:
    """Vere's lock (a POSIX record lock) excludes us as well."""
    script = (
        "import fcntl, sys, time; f = open(sys.argv[1], 'a+b');"
        "fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, 1); print(1, flush=True);"
        "time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(ship.pier / ".vere.lock")],
        stdout=subprocess.PIPE,
    ) as vere:
        assert vere.stdout is not None
        vere.stdout.readline()
        ran = treadle("run", ship.pier, "--headless")
        assert faults(ran) == "pier-locked"
        vere.kill()
    whole(ship)


def as_somebody(*words: object) -> Ran:
    """Run treadle as a user who may not do everything."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "king", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=60,
        user=65534,
        group=65534,
        extra_groups=[],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Ran(done.returncode, done.stdout, done.stderr)


def test_a_pier_that_may_not_be_written(ship: WholeShip) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can become somebody who may not write")
    try:
        can_run = as_somebody("check", "--help").code == 0
    except (OSError, AssertionError):
        can_run = False
    if not can_run:
        pytest.skip("this Python, or this tree, is for root alone")
    for folder in (ship.pier, *ship.pier.parents):
        with contextlib.suppress(OSError):
            folder.chmod(folder.stat().st_mode | 0o555)
        if folder.name.startswith("pytest-of-"):
            break
    for path in (ship.pier, *ship.pier.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    ran = as_somebody("run", ship.pier, "--headless", "--http-port", "0")
    assert faults(ran) in ("no-permission", "read-only")
    ran = as_somebody("replay", ship.pier)
    assert faults(ran) in ("no-permission", "read-only")
    for path in (ship.pier, *ship.pier.rglob("*")):
        path.chmod(0o700 if path.is_dir() else 0o600)
    assert faults(as_somebody("run", ship.pier, "--headless")) == "no-permission"
    whole(ship)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 100 MB; where one can be mounted."""
    with mounted(tmp_path / "small", "100m") as disk:
        yield disk


def test_a_full_disk_refuses_and_then_resumes(settled: Path, small_disk: Path) -> None:
    """Below the low-water mark nothing new is taken; reading goes on; with
    room again, all goes on by itself. Then brimful: a start, a clear word."""
    shutil.copytree(settled, small_disk / "zod")
    adopt(small_disk / "zod")
    with WholeShip(small_disk / "zod") as ship:
        ship.start()
        assert ship.http("PUT", "/kv/a", b"1")[0] == 201
        filler = small_disk / "filler"
        free = shutil.disk_usage(small_disk).free
        filler.write_bytes(bytes(free - (20 << 20)))
        wait_for(lambda: ship.status()["refusing"], "refuses", 30)
        assert "disk" in ship.status()["refusing"]
        status, _ = ship.http("PUT", "/kv/a", b"2")
        assert status == 503
        ran = treadle("poke", ship.pier, "/x/t", "hello")
        assert faults(ran) == "disk-low"
        assert treadle("peek", ship.pier, "/x//kv/a").code in (0, 8)
        filler.unlink()
        wait_for(lambda: not ship.status()["refusing"], "resumes", 30)
        assert ship.http("GET", "/kv/a") == (200, b"1")
        assert ship.http("PUT", "/kv/a", b"3")[0] == 204
        ship.kill()
        ship.wait_free()
        filler.write_bytes(bytes(shutil.disk_usage(small_disk).free - 4096))
        told = ship.words.count("nearly full")
        ship.launch()
        king = ship.king
        assert king is not None
        wait_for(
            lambda: ship.words.count("nearly full") > told or king.poll() is not None,
            "a clear word",
        )
        if king.poll() is None:
            assert ship.stop() in (0, 7)
        else:
            assert ship.wait_exit() == 7, ship.words
        filler.unlink()
        ship.start()
        assert ship.http("GET", "/kv/a") == (200, b"3")
        assert ship.http("GET", "/kv/l29") == (200, b"w" * 2000)
        assert ship.stop() == 0
        ship.check()


def test_a_disk_that_is_read_only(settled: Path, small_disk: Path) -> None:
    """Looking is possible; everything else says why not."""
    shutil.copytree(settled, small_disk / "zod")
    adopt(small_disk / "zod")
    remount(small_disk, "ro")
    pier = small_disk / "zod"
    for words in (("run", "--headless", "--http-port", "0"), ("replay",)):
        ran = treadle(words[0], pier, *words[1:])
        assert faults(ran) == "read-only", ran
    boots = treadle("boot", small_disk / "nec", "--fake", "nec", "--no-run")
    assert faults(boots) == "read-only"
    assert treadle("status", pier).code == 0
    assert treadle("check", pier).code == 0
    remount(small_disk, "rw")
    whole(WholeShip(pier))


def remount(disk: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)


def test_boot_on_a_full_disk_leaves_nothing(small_disk: Path) -> None:
    filler = small_disk / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(small_disk).free - (64 << 10)))
    ran = treadle("boot", small_disk / "zod", "--fake", "zod", "--no-run")
    assert faults(ran) in ("disk-full", "disk-error", "log-failed"), ran
    assert os.listdir(small_disk) == ["filler"]


def test_a_start_in_a_folder_with_modules_of_the_same_name(
    ship: WholeShip, tmp_path: Path
) -> None:
    """Whose folder we are started in is no authority over what we run."""
    trap = tmp_path / "trap"
    trap.mkdir()
    for name in ("serf", "proto", "king", "msgpack", "json"):
        (trap / f"{name}.py").write_text("raise SystemExit('trapped')\n")
    ship.start(cwd=trap)
    assert ship.http("GET", "/kv/k0") == (200, b"v" * 2000)
    assert ship.stop() == 0
    assert "trapped" not in ship.words


# --- wrong words ------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["boot", "p"],
        ["boot", "p", "--fake", "zod", "--nonsense"],
        ["run", "p", "--http-port", "-1"],
        ["run", "p", "--snapshot-every", "0"],
        ["run"],
        ["replay", "p", "--until", "-3"],
        ["peek", "p"],
        ["frob"],
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_wrong_words(words: list[str], as_json: bool) -> None:
    ran = treadle(*words, *(["--json"] if as_json else []))
    assert ran.code == 2
    assert ran.fault == "usage"
    if as_json:
        assert json.loads(ran.out)["error"] == "usage"


@pytest.mark.parametrize(
    "words",
    [
        ("run", "--headless"),
        ("replay",),
        ("check",),
        ("status",),
        ("stop",),
        ("peek", "/x//kv/a"),
        ("poke", "/d/term/1", "belt"),
    ],
)
def test_no_pier_there(tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    for name in ("none", "file", "empty"):
        ran = treadle(words[0], tmp_path / name, *words[1:])
        assert faults(ran) in ("pier-missing", "pier-bad"), (name, ran)
    assert os.listdir(tmp_path / "empty") == []
