"""`treadle log`: on ships that live and rest, on Vere's piers, on strange jobs."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from king.cli import main
from king.log.epoch import create_log
from king.log.store import Meta
from king.log_view import Filter, Kinds, View
from proto import fast
from proto.cord import da_from_unix
from proto.jam import jam
from proto.message import Jam, Row
from proto.noun import Noun, noun
from tests.support.golden import unpack
from tests.support.whole_ship import ROOT, WholeShip, boot, treadle, wait_for

NOON = 1_700_000_000


def pier_of(root: Path, ova: list[Noun]) -> Path:
    """A pier without a manifest: event 1 is a boot's, event n the (n-1)th ovum,
    a second after the one before."""
    (root / ".urb").mkdir(parents=True)
    rows = [Row(0, jam(noun(1, 2, 3)))]
    for second, ovum in enumerate(ova):
        now = da_from_unix((NOON + second) * 10**9)
        rows.append(Row(second + 1, fast.stamp(now, jam(ovum))))
    create_log(root / ".urb/log", Meta(0, True, 1), rows, "vere-9", map_size=1 << 30)
    return root


def objects(*words: object) -> list[dict[str, Any]]:
    ran = treadle("log", *words, "--json")
    assert ran.code == 0, ran.err
    return [json.loads(line) for line in ran.out.splitlines()]


def contents(root: Path) -> dict[str, str]:
    """Every file, its bytes and its times."""
    found = {}
    for path in sorted(root.rglob("*")):
        if path.is_file():
            stat = path.stat()
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            found[str(path)] = f"{digest} {stat.st_mtime_ns} {stat.st_size}"
    return found


BELT = noun(["d", "term", "1"], "belt", "txt", [*b"grow up"])
REQUEST = noun(["e", "http-server", "0v3k", "17", "1"], "request", "a-body")


@pytest.fixture
def pier(tmp_path: Path) -> Path:
    large = noun(["a", "newt"], "hear", (1 << 900_000) - 1)
    evil = noun(["x\x1b[2J", "y"], "t\x07ag", "\x1b[31m", "one\nred")
    return pier_of(tmp_path / "pier", [BELT, REQUEST, BELT, large, evil, noun(5, 6)])


def test_list_tells_time_wire_tag_and_size(pier: Path) -> None:
    rows = objects(pier, "list")
    assert [row["event"] for row in rows] == [1, 2, 3, 4, 5, 6, 7]
    assert (rows[0]["driver"], rows[0]["wire"], rows[0]["time"]) == ("boot", None, None)
    assert rows[1] == {
        "event": 2,
        "time": "2023-11-14 22:13:20.000",
        "unix": float(NOON),
        "bytes": len(fast.stamp(da_from_unix(NOON * 10**9), jam(BELT))),
        "mug": "00000001",
        "driver": "term",
        "tag": "belt",
        "wire": "/d/term/1",
        "nanoseconds": None,
        "pages": None,
    }
    assert (rows[4]["driver"], rows[4]["bytes"] > 100_000) == ("ames", True)
    assert (rows[6]["tag"], rows[6]["driver"]) == (None, "?")


@pytest.mark.parametrize(
    ("words", "events"),
    [
        (["--first", "3", "--last", "5"], [3, 4, 5]),
        (["--first", "6"], [6, 7]),
        (["--last", "2"], [1, 2]),
        (["--first", "100", "--last", "200"], []),
        (["--tail", "2"], [6, 7]),
        (["--tag", "%belt"], [2, 4]),
        (["--tag", "belt", "--tail", "1"], [4]),
        (["--wire", "/e/http"], [3]),
        (["--driver", "term", "--first", "3"], [4]),
        (["--min-bytes", "10000"], [5]),
        (["--since", "2023-11-14T22:13:22", "--until", "2023-11-14T22:13:24"], [4, 5]),
        (["--since", "1h"], []),
    ],
)
def test_filters(pier: Path, words: list[str], events: list[int]) -> None:
    assert [row["event"] for row in objects(pier, "list", *words)] == events


def test_show_renders_within_bounds(pier: Path, tmp_path: Path) -> None:
    (shown,) = objects(pier, "show", 2)
    assert shown["text"] == '[%belt %txt "grow up"]'
    ran = treadle("log", pier, "show", 5, "--text", 50)
    assert ran.code == 0
    assert ran.out.rstrip().endswith("...")
    assert len(ran.out) < 1_000_000
    out = tmp_path / "job"
    assert treadle("log", pier, "show", 3, "--jam", out).code == 0
    assert out.read_bytes() == fast.stamp(
        da_from_unix((NOON + 1) * 10**9), jam(REQUEST)
    )
    for event in (0, 8):
        ran = treadle("log", pier, "show", event)
        assert (ran.code, ran.fault) == (2, "usage")


def test_control_characters_stay_out_of_the_terminal(pier: Path) -> None:
    for words in (["list"], ["top"], ["show", 6], ["grep", "red"]):
        ran = treadle("log", pier, *words)
        assert ran.code == 0
        assert "\x1b" not in ran.out
        assert "\x07" not in ran.out


def test_top_adds_up(pier: Path) -> None:
    rows = objects(pier, "top", "--sort", "events")
    by_tag = {row["tag"]: row for row in rows if row["by"] == "tag"}
    assert by_tag["%belt"]["events"] == 2
    assert by_tag["%belt"]["events_with_cost"] == 0
    wires = {row["wire"] for row in rows if row["by"] == "wire"}
    assert "/e/http-server/*/*/*" in wires
    (whole,) = [row for row in rows if row["by"] == "all"]
    assert whole["events"] == 7
    drivers = [row for row in rows if row["by"] == "driver"]
    assert sum(row["bytes"] for row in drivers) == whole["bytes"]
    ran = treadle("log", pier, "top", "--by", "driver", "--limit", 1)
    assert ran.code == 0
    assert "ames" in ran.out
    assert "term" not in ran.out


def test_names_beyond_a_bound_are_the_others(pier: Path) -> None:
    kinds = Kinds("tag")
    with View(pier) as view:
        (entry,) = view.entries(2, 2)
    for number in range(12_000):
        kinds.add(entry._replace(tag=f"t{number}"))
    assert len(kinds.table) == 10_001
    assert kinds.table["(others)"].events == 2_000


def test_grep_finds_words_in_jobs(pier: Path) -> None:
    assert [row["event"] for row in objects(pier, "grep", "grow up")] == [2, 4]
    assert [row["event"] for row in objects(pier, "grep", "a-b[oi]dy")] == [3]
    assert [row["event"] for row in objects(pier, "grep", "-i", "%REQUEST")] == [3]
    ran = treadle("log", pier, "grep", "nothing like it")
    assert (ran.code, ran.out) == (1, "")
    ran = treadle("log", pier, "grep", "a(b")
    assert (ran.code, ran.fault) == (2, "usage")


def test_jobs_too_large_to_search_are_counted(tmp_path: Path) -> None:
    huge = noun(["a", "newt"], "hear", 1 << (8 << 18))
    ran = treadle("log", pier_of(tmp_path / "p", [BELT, huge]), "grep", "grow")
    assert ran.code == 0
    assert "1 jobs of more than 262,144 bytes were not searched" in ran.err


@pytest.mark.parametrize("case", ["plain", "epochs", "crud", "long"])
def test_piers_of_vere_are_read_and_left_alone(case: str, tmp_path: Path) -> None:
    root = unpack(case, tmp_path)
    before = contents(root)
    rows = objects(root, "list")
    assert [row["event"] for row in rows] == list(range(1, len(rows) + 1))
    assert rows[-1]["wire"].startswith("/")
    assert rows[-1]["time"]
    objects(root, "top")
    objects(root, "show", len(rows))
    assert treadle("log", root, "grep", "no such words at all").code == 1
    assert contents(root) == before


def test_a_ship_that_vere_runs_is_not_read(pier: Path) -> None:
    script = (
        "import fcntl, sys, time; f = open(sys.argv[1], 'a+b');"
        "fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, 1); print(1, flush=True);"
        "time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(pier / ".vere.lock")],
        stdout=subprocess.PIPE,
    ) as vere:
        assert vere.stdout is not None
        vere.stdout.readline()
        ran = treadle("log", pier, "list")
        assert (ran.code, ran.fault) == (3, "pier-locked")
        vere.kill()


def test_a_ship_that_begins_to_run_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read without a place in the reader table is read again with one."""
    with boot(tmp_path / "zod") as ship, View(ship.pier) as view:
        assert not view.live
        ship.start()
        assert [entry.event for entry in view.entries(1, 8)] == list(range(1, 9))
        assert view.live


def follower(ship: WholeShip, *words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "king", "log", str(ship.pier), "follow", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_a_live_ship_is_listed_and_followed(tmp_path: Path) -> None:
    with boot(tmp_path / "zod") as ship:
        ship.start()
        rows = objects(ship.pier, "list")
        assert rows[-1]["event"] >= 10
        assert rows[0]["driver"] == "boot"
        with follower(ship, "--json", "--tail", "1", "--tag", "hello") as process:
            assert process.stdout is not None
            wait_for(lambda: _reads_log(process.pid), "a reader")
            for number in range(5):
                ship.poke("x", ["test"], "hello", number)
            lines = [json.loads(process.stdout.readline()) for _ in range(5)]
            assert [line["tag"] for line in lines] == ["hello"] * 5
            assert lines[-1]["event"] == lines[0]["event"] + 4
            # It follows into the next run of the ship.
            assert ship.stop() == 0
            ship.start()
            ship.poke("x", ["test"], "hello", 9)
            assert json.loads(process.stdout.readline())["tag"] == "hello"
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 130
        (shown,) = objects(ship.pier, "show", lines[0]["event"])
        assert shown["text"] == "[%hello 0]"
        assert shown["nanoseconds"] > 0
        assert ship.stop() == 0
        ship.check()


def _reads_log(pid: int) -> bool:
    kids = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return any("data.mdb" in Path(f"/proc/{kid}/maps").read_text() for kid in kids)


def test_costs_tell_who_dirties_pages(tmp_path: Path) -> None:
    with boot(tmp_path / "zod") as ship:
        ship.start()
        ship.poke("x", ["test"], "hello", 1)
        ship.type("grow 300000")
        rows = objects(ship.pier, "top", "--by", "driver", "--sort", "pages")
        # The line was typed on a wire of the terminal's.
        assert rows[0]["driver"] == "term"
        assert rows[0]["pages"] > 100
        assert rows[0]["nanoseconds"] > 1_000_000
        whole = rows[-1]
        assert whole["events_with_cost"] == whole["events"] - 8
        assert ship.stop() == 0


def test_a_filter_asks_nothing_by_itself(pier: Path) -> None:
    with View(pier) as view:
        entries = list(view.entries())
        assert len(entries) == 7
        assert all(Filter().takes(entry) for entry in entries)


def test_the_ship_may_be_named_first_or_last(pier: Path) -> None:
    lists = [treadle("log", *words) for words in ((pier, "list"), ("list", pier))]
    assert lists[0] == lists[1]
    assert lists[0].code == 0


def test_wrong_words(pier: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (
        ["list", "--first", "x"],
        ["list", "--last", "0"],
        ["list", "--since", "soon"],
    ):
        assert main(["log", words[0], str(pier), *words[1:]]) == 2
        assert capsys.readouterr().err.count("treadle: usage") == 1


def test_jobs_that_are_no_jams(tmp_path: Path) -> None:
    root = tmp_path / "p"
    (root / ".urb").mkdir(parents=True)
    rows = [Row(0, Jam(jam(1))), Row(1, Jam(b"\xff" * 40)), Row(2, Jam(b"\0" * 9))]
    create_log(root / ".urb/log", Meta(0, True, 1), rows, "vere-9", map_size=1 << 30)
    assert [row["driver"] for row in objects(root, "list")] == ["boot", "?", "?"]
    (shown,) = objects(root, "show", 2)
    assert "no jam" in shown["note"]
    assert treadle("log", root, "grep", "x").code == 1


def test_a_damaged_page_is_told_and_kills_nobody(tmp_path: Path) -> None:
    """LMDB trusts its pages; each is overwritten in turn."""
    root = pier_of(tmp_path / "p", [BELT] * 400)
    data = root / ".urb/log/0i0/data.mdb"
    whole = data.read_bytes()
    for page in range(2, len(whole) // 4096, 3):
        at = page * 4096
        data.write_bytes(whole[:at] + b"\xa5" * 4096 + whole[at + 4096 :])
        ran = treadle("log", root, "list")
        assert ran.code in (0, 4), ran
        if ran.code:
            assert ran.fault.startswith("log-")
