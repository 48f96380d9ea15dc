"""`treadle check`: golden piers pass; each kind of damage is found and named."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import lmdb
import pytest

from king import check
from king.check import Report, check_pier
from king.errors import TreadleError
from king.manifest import Manifest, write_manifest
from king.pier import Layout, identity_bytes, open_pier
from proto.jam import cue
from tests.support.golden import PIERS, expected, unpack

IDENTITY = bytes(range(16))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return unpack("plain", tmp_path)


def bad(report: Report) -> str:
    found = [f"{f.name}: {f.text}" for f in report.findings if f.state == "bad"]
    return "\n".join(found)


def open_events(root: Path) -> lmdb.Environment:
    return lmdb.open(str(root / ".urb/log/0i0"), max_dbs=2, map_size=1 << 30)


def change_event(root: Path, number: int, change: Callable[[bytes], bytes]) -> None:
    with open_events(root) as env:
        events = env.open_db(b"EVENTS", integerkey=True)
        with env.begin(write=True, db=events) as txn:
            key = struct.pack("<Q", number)
            txn.put(key, change(txn.get(key)))


@pytest.mark.parametrize("case", PIERS)
def test_golden_piers_are_whole_and_stay_untouched(case: str, tmp_path: Path) -> None:
    root = unpack(case, tmp_path)
    before = {p: p.read_bytes() for p in root.rglob("*") if p.is_file()}
    report = check_pier(root)
    known = expected(case)
    assert report.ok, report.text()
    assert report.facts["log_sha256"] == known["log_sha256"]
    assert report.facts["last"] == known["events"]
    assert report.facts["mug"] == known["final_mug"]
    assert report.facts["epochs"] == [epoch["name"] for epoch in known["epochs"]]
    assert {p: p.read_bytes() for p in root.rglob("*") if p.is_file()} == before
    value = json.loads(json.dumps(report.as_json()))
    assert value["ok"] is True
    assert str(root) in report.text()


def test_hole_is_found(root: Path) -> None:
    with open_events(root) as env:
        events = env.open_db(b"EVENTS", integerkey=True)
        with env.begin(write=True, db=events) as txn:
            txn.delete(struct.pack("<Q", 30))
    report = check_pier(root)
    assert not report.ok
    assert "expected event 30, found event 31" in bad(report)


def test_bytes_that_are_no_noun_are_found(root: Path) -> None:
    change_event(root, 20, lambda value: value[:4] + b"\x07")
    assert "event 20: it is not a noun" in bad(check_pier(root))


def test_jam_that_is_not_canonical_is_found(root: Path) -> None:
    def pad(value: bytes) -> bytes:
        assert cue(value[4:] + b"\0") == cue(value[4:])
        return value + b"\0"

    change_event(root, 21, pad)
    assert "event 21: its jam is not canonical" in bad(check_pier(root))


def test_meta_that_differs_between_directories_is_found(root: Path) -> None:
    with lmdb.open(str(root / ".urb/log"), max_dbs=2, map_size=1 << 30) as env:
        meta = env.open_db(b"META")
        with env.begin(write=True, db=meta) as txn:
            txn.put(b"who", b"\x05")
    assert "meta: the top directory differs" in bad(check_pier(root))


def test_life_beyond_the_log_is_found(root: Path) -> None:
    with open_events(root) as env:
        meta = env.open_db(b"META")
        with env.begin(write=True, db=meta) as txn:
            txn.put(b"life", b"\xff")
    assert "life is 255" in bad(check_pier(root))


def test_torn_log_is_found_and_the_report_outlives_it(root: Path) -> None:
    data = root / ".urb/log/0i0/data.mdb"
    with data.open("r+b") as file:
        file.truncate(5 * 4096)
    report = check_pier(root)
    assert not report.ok
    assert "torn" in bad(report)


def test_flipped_page_of_the_log_never_kills_the_checker(tmp_path: Path) -> None:
    root = unpack("crud", tmp_path)
    data = root / ".urb/log/0i0/data.mdb"
    good = data.read_bytes()
    faults = 0
    for page in range(2, len(good) // 4096, 3):
        raw = bytearray(good)
        raw[page * 4096 : page * 4096 + 64] = b"\xff" * 64
        data.write_bytes(raw)
        faults += not check_pier(root).ok
    # A page that is on LMDB's free list may be damaged without harm.
    assert faults >= 1


def test_manifest_of_another_ship_is_found(root: Path) -> None:
    manifest = Manifest(77, IDENTITY, "treadle-0.1.0", "0.9.36", False)
    write_manifest(Layout(root).manifest, manifest)
    assert "identity: the manifest says 0x4d" in bad(check_pier(root))


def test_newer_manifest_is_found(root: Path) -> None:
    Layout(root).manifest.write_text('{"format": 9}')
    assert "pier-newer" in bad(check_pier(root))


def good_image(**change: object) -> dict[str, object]:
    return {
        "fault": "",
        "good": True,
        "generations": 2,
        "event": 66,
        "mug": expected("plain")["final_mug"],
        "ship": identity_bytes(0).hex(),
        "log": IDENTITY.hex(),
        **change,
    }


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({}, ""),
        ({"event": 40, "mug": "00000001"}, "its mug is 00000001"),
        ({"event": 67}, "beyond the log's last, 66"),
        ({"log": bytes(16).hex()}, "belongs to another log"),
        ({"ship": identity_bytes(9).hex()}, "belongs to another ship"),
        ({"fault": "page 3: checksum"}, "page 3: checksum"),
        ({"good": False}, "no generation in it is usable"),
    ],
)
def test_image_must_belong_to_the_log(
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, object],
    text: str,
) -> None:
    manifest = Manifest(0, IDENTITY, "treadle-0.1.0", "0.9.36", True)
    write_manifest(Layout(root).manifest, manifest)
    Layout(root).image.write_bytes(b"verified by a serf, which is not here")
    monkeypatch.setattr(check, "inspect_image", lambda *_: good_image(**change))
    report = check_pier(root)
    if text:
        assert f"image: {text}" in bad(report) or text in bad(report)
        assert not report.ok
    else:
        assert report.ok, report.text()
        assert report.facts["snapshot_event"] == 66


def test_live_ship_is_checked_but_for_its_image(root: Path) -> None:
    with open_pier(root) as pier:
        pier.layout.image.write_bytes(b"being saved")
        report = check_pier(root)
    assert report.ok, report.text()
    assert report.facts["live"] is True
    (skipped,) = [f for f in report.findings if f.name == "image"]
    assert skipped.state == "skipped"


def test_what_is_no_pier_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TreadleError) as caught:
        check_pier(tmp_path)
    assert caught.value.code == "pier-bad"
