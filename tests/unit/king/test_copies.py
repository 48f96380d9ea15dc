"""A pier knows a copy from itself; and formats are looked at before all else."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from king.adopt import adopt
from king.copies import why_a_copy
from king.errors import TreadleError
from king.formats import CHAIN_MAGIC, IMAGE_FORMAT
from king.log import chain
from king.log.epoch import create_log
from king.log.store import Meta
from king.manifest import read_manifest, write_manifest
from king.memory import Memory, recall, remember, why_stale
from king.pier import Layout, Pier, make_directories, open_pier
from king.place import Place, observe, place_of, why_copied
from proto.jam import jam
from proto.message import Row
from tests.support.small_disk import make_disk, mounted_disk

ROOT = Path(__file__).resolve().parents[3]
MAP_SIZE = 1 << 26


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An account that remembers."""
    path = tmp_path / "state"
    monkeypatch.setenv("XDG_STATE_HOME", str(path))
    return path


@pytest.fixture
def root(tmp_path: Path, home: Path) -> Path:
    root = tmp_path / "zod"
    layout = Layout(root)
    root.mkdir()
    make_directories(layout, log=False)
    rows = [Row(0, jam(number)) for number in range(3)]
    create_log(layout.log_dir, Meta(0, True, 1), rows, "treadle-0", map_size=MAP_SIZE)
    start(root)
    return root


def start(root: Path, *, rows: int = 0) -> Pier:
    """A run, and its end in order."""
    with open_pier(root, map_size=MAP_SIZE) as pier:
        pier.log.settle()
        for _ in range(rows):
            pier.log.append(pier.log.last + 1, [Row(0, jam(7))])
        pier.remember()
        return pier


def refused(root: Path) -> TreadleError:
    before = tree(root)
    with pytest.raises(TreadleError) as caught:
        open_pier(root, map_size=MAP_SIZE)
    assert tree(root) == before, "nothing was changed"
    return caught.value


def tree(root: Path) -> dict[str, bytes]:
    """All that counts; locks are emptied, reader tables are LMDB's."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.suffix != ".lock" and path.name != "lock.mdb"
    }


# --- what is a copy ---------------------------------------------------------


def test_the_ship_itself_starts_again_and_again(root: Path) -> None:
    for generation in (2, 3, 4):
        assert start(root, rows=1).manifest.generation == generation


def test_a_renamed_pier_is_no_copy(root: Path) -> None:
    moved = root.with_name("moved")
    root.rename(moved)
    pier = start(moved)
    assert any("was in" in note and "/zod" in note for note in pier.notes)
    shutil.move(moved, root)
    start(root)


def cp(root: Path, to: Path) -> None:
    subprocess.run(["cp", "-a", root, to], check=True)


def tar(root: Path, to: Path) -> None:
    archive = to.with_suffix(".tar")
    with tarfile.open(archive, "w") as file:
        file.add(root, to.name)
    with tarfile.open(archive) as file:
        file.extractall(to.parent, filter="data")


def tree_copy(root: Path, to: Path) -> None:
    shutil.copytree(root, to)


@pytest.mark.parametrize("copy", [cp, tar, tree_copy])
def test_a_copy_runs_only_once_it_is_adopted(root: Path, copy: Any) -> None:
    other = root.with_name("other")
    copy(root, other)
    error = refused(other)
    assert error.code == "pier-copied"
    assert str(root) in error.message
    assert f"treadle adopt {other}" in error.hint
    start(root)  # the original goes on
    error = refused(other)
    assert "also the older one" in error.message
    done = adopt(other)
    assert done.why
    assert done.event == 3
    # Now it is the original that must not run: this account knows.
    assert refused(root).code == "pier-stale"
    start(other)
    start(other)
    error = refused(root)
    assert error.code == "pier-stale"
    assert str(other) in error.message
    assert adopt(root).why
    start(root)
    assert refused(other).code == "pier-stale"


def test_a_copy_that_never_started_is_one(root: Path, tmp_path: Path) -> None:
    """From a boot on, not from the first start on."""
    from tests.support.ship import boot

    boot(tmp_path / "bud")
    shutil.copytree(tmp_path / "bud", tmp_path / "copy")
    assert refused(tmp_path / "copy").code == "pier-copied"
    start(tmp_path / "bud")


def test_a_backup_restored_into_the_pier_is_told(root: Path) -> None:
    """As rsync does it: what differs gets new files, the rest stays."""
    backup = root.with_name("backup")
    shutil.copytree(root, backup)
    start(root, rows=5)
    for name in (".urb/log/0i0/data.mdb", ".urb/treadle.json"):
        (root / name).unlink()
        shutil.copy2(backup / name, root / name)
    error = refused(root)
    assert error.code == "pier-copied"
    assert "0i0/data.mdb is another file" in error.message


def test_a_backup_written_over_the_pier_is_told(root: Path, home: Path) -> None:
    """As cp does it: every file is the one that it was, and has the old bytes."""
    backup = root.with_name("backup")
    shutil.copytree(root, backup)
    start(root, rows=5)
    subprocess.run(["cp", "-a", f"{backup}/.", root], check=True)
    error = refused(root)
    assert error.code == "pier-stale"
    assert "its starts are 1, and the ship's 2;" in error.message
    # Without a memory nobody can know, and nobody is locked out.
    shutil.rmtree(home)
    start(root)


def test_events_that_are_missing_are_told(root: Path) -> None:
    """Of one generation: a log without its last events."""
    pier = start(root, rows=5)
    memory = recall(pier.identity)
    assert memory == Memory(2, 8, str(root))
    remember(pier.identity, replace(memory, event=9))
    error = refused(root)
    assert error.code == "pier-stale"
    assert "ends with event 8, and the ship was at event 9" in error.message
    assert adopt(root).why
    start(root)


def test_a_marked_copy_is_one_wherever_it_lies(root: Path) -> None:
    layout = Layout(root)
    manifest = read_manifest(layout.manifest)
    assert manifest is not None
    write_manifest(layout.manifest, replace(manifest, copy="it is a snapshot"))
    error = refused(root)
    assert error.code == "pier-copied"
    assert "it is a snapshot" in error.message
    with open_pier(root, run=False, map_size=MAP_SIZE):
        pass  # looking at it is no run
    assert refused(root).code == "pier-copied"
    adopt(root)
    start(root)


def test_whoever_asks_for_it_runs_copies(root: Path) -> None:
    other = root.with_name("other")
    shutil.copytree(root, other)
    with open_pier(other, adopt=True, map_size=MAP_SIZE) as pier:
        assert pier.manifest.generation == 2
    start(other)  # it was recorded where it lies


def test_an_older_manifest_without_a_place_is_taken_on_trust(root: Path) -> None:
    layout = Layout(root)
    value = json.loads(layout.manifest.read_bytes())
    del value["place"], value["copy"]
    layout.manifest.write_text(json.dumps(value))
    other = root.with_name("other")
    shutil.copytree(root, other)
    start(other)


@pytest.mark.parametrize(
    "place",
    [
        5,
        {},
        {"marks": 1},
        {"marks": {"a": [1]}},
        {"marks": {"a": ["1", 2]}},
        {"marks": {}, "disk": 3},
        {"marks": {}, "volume": "what"},
    ],
)
def test_a_place_that_is_none_is_a_damaged_manifest(root: Path, place: Any) -> None:
    layout = Layout(root)
    value = json.loads(layout.manifest.read_bytes()) | {"place": place}
    layout.manifest.write_text(json.dumps(value))
    assert refused(root).code == "manifest-bad"


# --- what is compared ---------------------------------------------------------

PLACE = Place({"a": (5, 100), "b": (6, None)}, "ext4", 77, "/here", "host")


@pytest.mark.parametrize(
    ("changes", "copied"),
    [
        ({}, False),
        ({"path": "/there", "host": "another"}, False),
        ({"marks": {"a": (5, 100)}}, False),
        ({"marks": {"a": (5, None), "b": (6, 3)}}, False),
        ({"volume": None}, False),
        ({"disk": None, "marks": {"a": (9, 9)}}, False),
        ({"marks": {"a": (9, 100)}}, True),
        ({"marks": {"a": (5, 101)}}, True),
        ({"marks": {"b": (7, None)}}, True),
        ({"disk": "xfs", "volume": None}, True),
        ({"volume": 78}, True),
    ],
)
def test_what_makes_a_copy(changes: dict[str, Any], copied: bool) -> None:
    seen = replace(PLACE, **changes)
    assert (why_copied(PLACE, seen) is not None) == copied
    assert place_of(json.loads(json.dumps(PLACE.as_json()))) == PLACE


def test_births_are_known_here(root: Path) -> None:
    place = observe(Layout(root))
    assert set(place.marks) == {".urb", ".urb/log/data.mdb", ".urb/log/0i0/data.mdb"}
    number, birth = place.marks[".urb"]
    assert number == (root / ".urb").stat().st_ino
    if place.disk in ("ext4", "xfs", "btrfs"):
        assert birth is not None
        assert abs(birth / 1e9 - (root / ".urb").stat().st_ctime) < 3600


def test_an_untrusted_disk_locks_nobody_out(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("king.place.disk_type", lambda path: 0x65735546)  # FUSE
    other = root.with_name("other")
    shutil.copytree(root, other)
    manifest = read_manifest(Layout(other).manifest)
    assert manifest is not None
    assert why_a_copy(Layout(other), manifest) is None


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_a_remount_on_another_device_is_no_copy(
    root: Path, tmp_path: Path, kind: str
) -> None:
    """And what the numbers alone would not tell: a tree that is unpacked into a
    fresh filesystem may get the inodes that it had in another."""
    disks = [
        str(make_disk(tmp_path / f"{name}.disk", "320M", kind))
        for name in ("one", "two", "spare")
    ]
    at, other = tmp_path / "at", tmp_path / "other"
    at.mkdir()
    other.mkdir()
    with mounted_disk(at, "-o", "loop", disks[0]):
        shutil.copytree(root, at / "zod")
        adopt(at / "zod")
        start(at / "zod")
    # The spare takes the loop device that was used (if nobody else's test does).
    with (
        mounted_disk(other, "-o", "loop", disks[2]),
        mounted_disk(at, "-o", "loop", disks[0]),
    ):
        start(at / "zod")
        with mounted_disk(other, "-o", "loop", disks[1]):
            shutil.copytree(at / "zod", other / "zod")
            there, here = observe(Layout(other / "zod")), observe(Layout(at / "zod"))
            numbers = [
                [number for number, _ in place.marks.values()]
                for place in (there, here)
            ]
            assert refused(other / "zod").code == "pier-copied", numbers


# --- memory -------------------------------------------------------------------


def test_a_memory_that_is_none_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = b"i" * 16
    for base in ("/dev/null/none", "/proc", str(tmp_path)):
        monkeypatch.setenv("XDG_STATE_HOME", base)
        assert recall(identity) is None
        remember(identity, Memory(1, 2, "/p"))
    assert recall(identity) == Memory(1, 2, "/p")
    path = tmp_path / "treadle" / "ships" / f"{identity.hex()}.json"
    assert path.stat().st_mode & 0o777 == 0o600
    for data in (b"", b"{}", b"[1]", b"\xff", b'{"generation": "x"}'):
        path.write_bytes(data)
        assert recall(identity) is None
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "")
    assert recall(identity) is None


def test_what_is_stale() -> None:
    memory = Memory(5, 100, "/p")
    assert why_stale(None, 0, 0) is None
    assert why_stale(memory, 5, 100) is None
    assert why_stale(memory, 6, 1) is None
    assert why_stale(memory, 5, 99)
    assert why_stale(memory, 4, 1000)


# --- formats ------------------------------------------------------------------


def test_formats_are_those_that_are_written() -> None:
    header = (ROOT / "native" / "image.h").read_text()
    found = re.search(r"#define NK_IMAGE_FORMAT (\d+)u", header)
    assert found is not None
    assert int(found[1]) == IMAGE_FORMAT
    assert chain._MAGIC == CHAIN_MAGIC


@pytest.mark.parametrize(
    ("name", "at", "data", "code"),
    [
        (".urb/treadle.json", 0, b'{"format": 2}', "pier-newer"),
        (".urb/log/0i0/epoc.txt", 0, b"3", "log-newer"),
        (".urb/log/0i0/treadle.chain", 0, b"trchain2", "log-newer"),
        (".urb/chk/treadle.image", 0, b"nkimage\n\x03\0\0\0", "image-newer"),
        (".urb/chk/treadle.image", 3 << 14, b"nkimage\n\x09\0\0\0", "image-newer"),
    ],
)
def test_newer_formats_are_refused_by_name(
    root: Path, name: str, at: int, data: bytes, code: str
) -> None:
    path = root / name
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        file.seek(at)
        file.write(data)
    for run in (True, False):
        before = tree(root)
        locks = {p: p.stat().st_mtime_ns for p in root.rglob("*lock*")}
        with pytest.raises(TreadleError) as caught:
            open_pier(root, run=run, map_size=MAP_SIZE)
        assert caught.value.code == code
        assert str(path.parent) in caught.value.message
        assert tree(root) == before
        assert {p: p.stat().st_mtime_ns for p in root.rglob("*lock*")} == locks


def test_damage_is_not_taken_for_a_newer_format(root: Path) -> None:
    image = struct.pack("<8sI", b"nkimagE\n", 7)
    (root / ".urb/chk").mkdir(exist_ok=True)
    (root / ".urb/chk/treadle.image").write_bytes(image)
    (root / ".urb/log/0i0/treadle.chain").write_bytes(b"xxchain9")
    start(root)


# --- the command ----------------------------------------------------------------


def test_adopt_on_the_command_line(tmp_path: Path) -> None:
    from tests.support.ship import boot, treadle

    pier, copy = tmp_path / "zod", tmp_path / "copy"
    boot(pier)
    done = treadle("adopt", str(pier))
    assert done.stdout == f"{pier} is ~zod already, at event 8\n", done.stderr
    shutil.copytree(pier, copy)
    run = treadle("run", str(copy), "--headless", TREADLE_ADOPT="")
    assert run.returncode == 3
    assert "treadle: pier-copied:" in run.stderr
    done = json.loads(treadle("adopt", str(copy), "--json").stdout)
    assert done["adopted"] is True
    assert done["ship"] == "~zod"
    assert json.loads(treadle("adopt", str(copy), "--json").stdout)["adopted"] is False
    assert os.listdir(copy / ".urb").count("conn.sock") == 0
