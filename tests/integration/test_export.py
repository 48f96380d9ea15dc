"""Rocks and logs out of a ship and into another; states that Vere left."""

from __future__ import annotations

import contextlib
import json
import shutil
import types
from pathlib import Path
from typing import Any

import pytest
import trio

from king.care.export import facts_of
from king.care.verbs import VERBS
from king.log.chain import read_chain
from king.pier import Layout
from proto import fast
from tests.support import golden
from tests.support.whole_ship import WholeShip, boot, treadle

ROCK = golden.GOLDEN / "piers" / "crud.rock-58.jam"


@pytest.fixture(scope="module")
def ship(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """At rest, with some events and a snapshot of the last."""
    pier = tmp_path_factory.mktemp("export") / "zod"
    with boot(pier) as made:
        made.start()
        for number in range(20):
            assert made.http("PUT", f"/kv/k{number}", b"v" * 500)[0] == 201
        assert made.stop() == 0
    return pier


def facts(pier: Path) -> dict[str, Any]:
    report: dict[str, Any] = treadle("check", pier, "--json").json
    assert report["ok"], report
    return report


def runs_on(pier: Path, value: bytes = b"v" * 500) -> None:
    """It is no ship until it is adopted; then it has its state."""
    assert treadle("run", pier, "--headless").fault == "pier-copied"
    assert treadle("adopt", pier).code == 0
    with WholeShip(pier) as again:
        again.start()
        if value:
            assert again.http("GET", "/kv/k7")[1] == value
            assert again.http("PUT", "/kv/more", b"1")[0] == 201
        assert again.stop() == 0
    facts(pier)


def test_a_log_goes_out_and_comes_in(ship: Path, tmp_path: Path) -> None:
    before = facts(ship)
    file, pier = tmp_path / "zod.log", tmp_path / "again"
    out = treadle("export", ship, file, "--log", "--json")
    assert out.json["sha256"] == before["log_sha256"], out.err
    assert (out.json["first"], out.json["last"]) == (1, before["last"])
    done = treadle("import", pier, file, "--json")
    assert done.code == 0, done.err
    assert done.json["mug"] == before["mug"]
    assert done.json["replayed"] == before["last"]
    after = facts(pier)
    for name in ("who", "fake", "life", "last", "log_sha256", "snapshot_event"):
        assert after[name] == before[name]
    runs_on(pier)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "zod.log"]


def test_a_rock_goes_out_and_comes_in(ship: Path, tmp_path: Path) -> None:
    before = facts(ship)
    rock, pier = tmp_path / "zod.jam", tmp_path / "again"
    out = treadle("export", ship, rock, "--json")
    assert out.json["mug"] == before["mug"], out.err
    kernel = fast.slots(rock.read_bytes(), (6,))[0]
    assert kernel is not None
    assert f"{fast.mug(kernel):08x}" == before["mug"]
    done = treadle("import", pier, rock, "--json")
    assert done.json["event"] == before["last"], done.err
    assert done.json["mug"] == before["mug"]
    after = facts(pier)
    assert after["epochs"] == [f"0i{before['last']}"]
    assert after["snapshot_event"] == before["last"]
    assert f"goes on from event {before['last']}" in treadle("check", pier).out
    runs_on(pier)
    # Its snapshot is lost: the epoch keeps the state at its start.
    (pier / ".urb/chk/treadle.image").unlink()
    with WholeShip(pier) as again:
        again.start()
        assert again.http("GET", "/kv/k7")[0] == 200
        assert again.stop() == 0


def test_a_rock_and_the_events_after_it(ship: Path, tmp_path: Path) -> None:
    before = facts(ship)
    middle = before["last"] - 9
    whole, first = tmp_path / "whole.log", tmp_path / "first.log"
    assert treadle("export", ship, whole, "--log").code == 0
    assert treadle("export", ship, first, "--log", "--last", middle).code == 0
    rest = tmp_path / "rest.log"
    words = ("export", ship, rest, "--log", "--first", middle - 3)
    assert treadle(*words).code == 0
    young, pier, rock = tmp_path / "young", tmp_path / "old", tmp_path / "young.jam"
    done = treadle("import", young, first, "--json")
    assert done.json["event"] == middle, done.err
    assert treadle("export", young, rock).code == 0
    alone = treadle("import", pier, rest)
    assert alone.fault == "usage"
    assert "alone it is no ship" in alone.err
    done = treadle("import", pier, rest, "--rock", rock, "--json")
    assert done.code == 0, done.err
    assert done.json["mug"] == before["mug"]
    assert done.json["replayed"] == 9
    after = facts(pier)
    assert (after["first"], after["last"]) == (middle + 1, before["last"])
    assert after["epochs"] == [f"0i{middle}"]
    runs_on(pier)


async def test_a_rock_that_is_given_up_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = trio.Event()

    async def writing(*words: str, **_: object) -> None:
        Path(words[-1]).write_bytes(b"half of it")
        begun.set()
        await trio.sleep_forever()

    async def value(_: object = None) -> int:
        return 5

    ground: Any = types.SimpleNamespace(
        layout=Layout(tmp_path),
        hold_saves=contextlib.AsyncExitStack,
        save=value,
        in_log=value,
    )
    monkeypatch.setattr("king.care.export.run_steps", writing)
    verb = VERBS["export"]
    arguments = verb.check({"file": str(tmp_path / "out")})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(verb.load(), ground, arguments, lambda now: None)
        await begun.wait()
        nursery.cancel_scope.cancel()
    assert list(tmp_path.iterdir()) == []


def test_the_hash_chain_goes_on_where_the_file_carries_it(
    ship: Path, tmp_path: Path
) -> None:
    """Right after a roll, the chain says something of just what was before."""
    old = Path(shutil.copytree(ship, tmp_path / "old"))
    assert treadle("adopt", old).code == 0
    rock, some = tmp_path / "rock", tmp_path / "some.log"
    early = tmp_path / "early"
    assert treadle("export", old, early).code == 0
    with WholeShip(old) as made:
        made.start()
        assert made.http("PUT", "/kv/last", b"1")[0] == 201
        assert made.stop() == 0
    assert treadle("roll", old).code == 0
    assert treadle("export", old, rock).code == 0
    sealed = facts(old)
    start = sealed["last"]
    with WholeShip(old) as made:
        made.start()
        assert made.stop() == 0
    words = ("export", old, some, "--log", "--first", start + 1)
    assert treadle(*words).code == 0
    (link,) = {json.loads(facts_of(rock).read_bytes())["link"], sealed["chain"]}
    for name, rest in (("alone", [rock]), ("both", [some, "--rock", rock])):
        pier = tmp_path / name
        done = treadle("import", pier, *rest, "--json")
        assert done.json["chain_continued"], done.err
        found = read_chain(pier / f".urb/log/0i{start}/treadle.chain")
        assert found is not None
        assert found.base.hex() == link
        assert treadle("adopt", pier).code == 0
        with WholeShip(pier) as again:
            again.start()
            assert again.stop() == 0
        assert treadle("log", pier, "verify").code == 0
    # Of an event that no anchor ends with nothing is known; and that is said.
    value = json.loads(facts_of(early).read_bytes())
    facts_of(early).write_text(json.dumps(value | {"link": None}))
    done = treadle("import", tmp_path / "anew", early)
    assert "its hash chain begins anew" in done.out, done.err


def test_a_live_ship_is_exported(ship: Path, tmp_path: Path) -> None:
    pier = tmp_path / "zod"
    shutil.copytree(ship, pier)
    assert treadle("adopt", pier).code == 0
    rock, log = tmp_path / "rock", tmp_path / "log"
    with WholeShip(pier) as live:
        live.start()
        assert live.http("PUT", "/kv/late", b"1")[0] == 201
        made = treadle("export", pier, rock, "--json")
        assert made.json["event"] == live.status()["event"], made.err
        assert treadle("export", pier, log, "--log").code == 0
        assert treadle("export", pier, rock).fault == "pier-exists"
        assert treadle("export", pier, tmp_path / "x", "--log", "--last", 9999).fault
        assert live.http("PUT", "/kv/later", b"1")[0] == 201
        assert live.stop() == 0
    names = {"zod", "rock", "rock.json", "log"}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert treadle("import", tmp_path / "one", rock, "--json").code == 0
    done = treadle("import", tmp_path / "two", log, "--json")
    assert done.json["mug"] == made.json["mug"], done.err


# --- Vere's -------------------------------------------------------------------


def test_veres_rock_runs_and_goes_back_byte_for_byte(tmp_path: Path) -> None:
    pier, rock = tmp_path / "marzod", tmp_path / "58.jam"
    alone = treadle("import", pier, ROCK)
    assert alone.fault == "usage"
    assert "--event" in alone.err
    words = ("--ship", "~marzod", "--event", 58)
    done = treadle("import", pier, ROCK, *words, "--json")
    assert done.json["mug"] == golden.expected("crud")["final_mug"], done.err
    assert treadle("status", pier, "--json").json["event"] == 58
    assert treadle("export", pier, rock).code == 0
    assert rock.read_bytes() == ROCK.read_bytes()
    runs_on(pier, b"")


@pytest.mark.parametrize("case", golden.PIERS)
def test_veres_piers_go_out(case: str, tmp_path: Path) -> None:
    pier, expected = golden.unpack(case, tmp_path), golden.expected(case)
    rock, log = tmp_path / "rock", tmp_path / "log"
    out = treadle("export", pier, log, "--log", "--json")
    assert out.json["sha256"] == expected["log_sha256"], out.err
    out = treadle("export", pier, rock, "--json")
    assert out.json["mug"] == expected["final_mug"], out.err
    if case == "crud":
        assert rock.read_bytes() == ROCK.read_bytes()


def chopped(tmp_path: Path) -> Path:
    """A pier of Vere's whose first epoch is gone."""
    pier = golden.unpack("epochs", tmp_path)
    shutil.rmtree(pier / ".urb/log/0i0")
    return pier


def of_vere(pier: Path) -> dict[str, bytes]:
    names = ("image.bin", "vere.txt", "epoc.txt")
    return {
        str(path): path.read_bytes()
        for path in pier.rglob("*")
        if path.name in names or (path.parent.name == "log" and path.is_file())
    }


@pytest.mark.parametrize("lost", ["nothing", "newest", "head", "both"])
def test_a_chopped_pier_of_veres_starts_from_its_snapshots(
    tmp_path: Path, lost: str
) -> None:
    pier, expected = chopped(tmp_path), golden.expected("epochs")
    newest = pier / ".urb/chk/image.bin"
    if lost in ("newest", "both"):
        newest.unlink()
    if lost == "head":
        raw = bytearray(newest.read_bytes())
        raw[24:28] = b"\xff" * 4  # the kernel's reference
        newest.write_bytes(raw)
    if lost == "both":
        (pier / ".urb/log/0i47/image.bin").unlink()
    before = of_vere(pier)
    done = treadle("replay", pier, "--json")
    assert of_vere(pier) == before
    if lost == "both":
        assert done.fault == "log-gap"
        return
    assert done.code == 0, done.err
    assert done.json["mug"] == expected["final_mug"]
    start = 76 if lost == "nothing" else 47
    assert done.json["replayed"] == expected["events"] - start
    assert f"Vere's snapshot of event {start}" in done.err
    if lost == "head":
        assert "image.bin is no help" in done.err
    assert not list(pier.rglob("*.part"))
    with WholeShip(pier) as ship:
        ship.start()
        assert ship.stop() == 0
    assert facts(pier)["last"] > expected["events"]


def test_a_state_of_another_history_is_refused(tmp_path: Path) -> None:
    """An image.bin that is whole, and not of this log: the mugs tell."""
    pier = chopped(tmp_path / "one")
    other = golden.unpack("plain", tmp_path / "two")
    raw = bytearray((other / ".urb/chk/image.bin").read_bytes())
    (pier / ".urb/chk/image.bin").write_bytes(raw)
    done = treadle("replay", pier)
    assert done.fault == "replay-diverged"
    assert "event 66" in done.err


# --- what does not fit ----------------------------------------------------------


def test_strange_files_make_no_pier(ship: Path, tmp_path: Path) -> None:
    log, rock = tmp_path / "log", tmp_path / "rock"
    assert treadle("export", ship, log, "--log").code == 0
    assert treadle("export", ship, rock).code == 0
    whole = log.read_bytes()
    pier = tmp_path / "pier"
    log.write_bytes(whole[:-1])
    done = treadle("import", pier, log)
    assert done.fault == "log-file-bad"
    assert "it was cut" in done.err
    raw = bytearray(whole)
    raw[len(raw) // 2] ^= 1
    log.write_bytes(raw)
    assert treadle("import", pier, log).fault == "log-file-bad"
    told = json.loads(facts_of(rock).read_text())
    for change, code in (
        ({"mug": "00000001"}, "rock-bad"),
        ({"event": 0}, "usage"),
        ({"life": -1}, "rock-bad"),
        ({"ship": "~nonsense"}, "ship-bad"),
    ):
        facts_of(rock).write_text(json.dumps(told | change))
        assert treadle("import", pier, rock).fault == code, change
    facts_of(rock).unlink()
    words = ("--ship", "~zod", "--event", 5)
    for data in (b"", b"\xff" * 100, rock.read_bytes()[:1000], b"\x02"):
        rock.write_bytes(data)
        assert treadle("import", pier, rock, *words).fault == "rock-bad"
    assert treadle("import", pier, tmp_path / "none", *words).fault == "file-bad"
    assert not pier.exists()
    assert {path.name for path in tmp_path.iterdir()} == {"log", "rock"}


def test_a_log_that_does_not_compute_makes_no_pier(ship: Path, tmp_path: Path) -> None:
    """Whole by every checksum, and not a history of this kernel."""
    from king.log_file import LogFileReader, LogFileWriter

    log, bad = tmp_path / "log", tmp_path / "bad"
    assert treadle("export", ship, log, "--log").code == 0
    with log.open("rb") as old, bad.open("wb") as new:
        reader = LogFileReader(old, "log")
        writer = LogFileWriter(new, reader.head)
        for _, rows in reader.blocks():
            last = rows[-1]._replace(mug=1)
            writer.rows([*rows[:-1], last])
        writer.end()
    done = treadle("import", tmp_path / "pier", bad)
    assert done.fault == "replay-diverged"
    assert {path.name for path in tmp_path.iterdir()} == {"log", "bad"}
