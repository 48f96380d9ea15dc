"""Epochs of a whole ship: rolled and chopped, live and at rest; and the way back
to a state when its own snapshot is lost."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import lmdb
import pytest

from king.adopt import adopt
from king.care.rest import carry_out
from king.care.verbs import VERBS
from king.config import RUNTIME
from king.errors import TreadleError
from king.groups import run_trio
from king.log.chain import NO_LINK, read_chain
from king.log.epoch import find_epochs, open_log
from king.log.start import read_start
from king.log_verify import verify_path
from proto.noun import noun
from tests.support.golden import expected, log_digest, unpack
from tests.support.whole_ship import (
    WholeShip,
    alive,
    boot,
    children,
    treadle,
    wait_for,
)

DONE = noun("news", "done")


def epochs_of(pier: Path) -> list[str]:
    return [epoch.path.name for epoch in find_epochs(pier / ".urb/log")[0]]


def ran(*words: object) -> dict[str, Any]:
    done = treadle(*words, "--json")
    assert done.code == 0, done.err
    value: dict[str, Any] = done.json
    return value


def care(pier: Path, name: str, **given: object) -> dict[str, Any]:
    """A verb on a ship at rest, without a command line around it."""
    verb = VERBS[name]
    return run_trio(carry_out, pier, verb, verb.check(given), lambda _: None)


def type_lines(ship: WholeShip, count: int) -> None:
    for number in range(count):
        assert ship.type(f"put key{number} value{number}") == DONE


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pier at rest of four epochs, with events in the last one."""
    pier = tmp_path_factory.mktemp("epochs") / "zod"
    with boot(pier) as ship:
        ship.start()
        for _ in range(3):
            type_lines(ship, 2)
            ran("roll", pier)
        type_lines(ship, 3)
        assert ship.stop() == 0
    return pier


def copy_of(many: Path, tmp_path: Path) -> WholeShip:
    pier = Path(shutil.copytree(many, tmp_path / "zod"))
    adopt(pier)
    return WholeShip(pier)


def test_a_live_ship_rolls_between_its_events(tmp_path: Path) -> None:
    with boot(tmp_path / "zod") as ship:
        ship.start()
        type_lines(ship, 3)
        found = ran("roll", ship.pier)
        assert found["rolled"]
        assert found["epoch"] == f"0i{found['event']}"
        start = found["start"]
        assert start["event"] == found["event"]  # the state at that very wall
        image = ship.layout.log_dir / found["epoch"] / "treadle.image"
        assert hashlib.sha256(image.read_bytes()).hexdigest() == start["sha256"]
        type_lines(ship, 2)
        assert ship.status()["epochs"] == ["0i0", found["epoch"]]
        assert ship.stop() == 0
        rows = ship.log()
        assert [row.number for row in rows] == list(range(1, len(rows) + 1))
        assert int(start["mug"], 16) == rows[found["event"] - 1].mug
        again = ran("replay", ship.pier, "--from-scratch")
        assert again["replayed"] == len(rows)
        ship.check()


@pytest.mark.parametrize("live", [False, True])
def test_chop_leaves_two_epochs_that_recover(
    live: bool, many: Path, tmp_path: Path
) -> None:
    ship = copy_of(many, tmp_path)
    names = epochs_of(ship.pier)
    with ship:
        if live:
            ship.start()
        found = ran("chop", ship.pier)
        assert found == {"removed": names[:2], "epochs": names[2:]}
        assert ran("chop", ship.pier)["removed"] == []
        if live:
            type_lines(ship, 1)
            assert ship.stop() == 0
        ship.check()
        ran("replay", ship.pier, "--from-scratch")
        early = treadle("replay", ship.pier, "--from-scratch", "--until", "3")
        assert early.fault == "usage"
        assert f"from event {names[2][2:]} on" in early.err
        assert "--from-scratch" not in early.err
        ship.layout.image.unlink()
        ship.start()
        (note,) = [n for n in ship.recovery["notes"] if "keeps" in n]
        assert names[-1] in note
        type_lines(ship, 1)
        assert ship.stop() == 0
        ship.check()


def test_chop_refuses_what_recovery_needs(many: Path, tmp_path: Path) -> None:
    ship = copy_of(many, tmp_path)
    names = epochs_of(ship.pier)
    image = ship.layout.log_dir / names[-2] / "treadle.image"
    data = image.read_bytes()
    for other in (
        b"",
        data[:-16384],
        data[: 5 * 16384] + bytes([data[5 * 16384] ^ 1]) + data[5 * 16384 + 1 :],
    ):
        image.write_bytes(other)
        with pytest.raises(TreadleError, match=names[-2]) as caught:
            care(ship.pier, "chop")
        assert caught.value.code == "chop-refused"
        assert epochs_of(ship.pier) == names
    with pytest.raises(TreadleError, match="2 epochs at least"):
        care(ship.pier, "chop", keep=1)


def test_epochs_of_vere_are_not_taken_for_ours(tmp_path: Path) -> None:
    """They keep no state that our serf could start from."""
    pier = unpack("epochs", tmp_path)
    assert care(pier, "roll")["rolled"]
    assert not care(pier, "roll")["rolled"]  # there is no event in it yet
    with pytest.raises(TreadleError) as caught:
        care(pier, "chop")
    assert caught.value.code == "chop-refused"
    assert len(epochs_of(pier)) == 3


@pytest.mark.parametrize("what", ["gone", "noise", "rot"])
def test_a_lost_snapshot_costs_what_its_epoch_holds(
    what: str, many: Path, tmp_path: Path
) -> None:
    """... and not a replay from the first event."""
    with copy_of(many, tmp_path) as ship:
        image = ship.layout.image
        data = image.read_bytes()
        if what == "gone":
            image.unlink()
        elif what == "noise":
            image.write_bytes(b"\x55" * len(data))
        else:
            image.write_bytes(data[:65536] + bytes(len(data) - 65536))
        names = epochs_of(ship.pier)
        ship.start()
        assert ship.recovery["snapshot"]["event"] == int(names[-1][2:])
        assert any(names[-1] in note for note in ship.recovery["notes"])
        type_lines(ship, 1)
        assert ship.stop() == 0
        ship.check()


def test_the_next_best_state_is_taken_where_one_is_bad(
    many: Path, tmp_path: Path
) -> None:
    with copy_of(many, tmp_path) as ship:
        ship.layout.image.unlink()
        names = epochs_of(ship.pier)
        bad = ship.layout.log_dir / names[-1] / "treadle.image"
        data = bytearray(bad.read_bytes())
        data[5 * 16384 + 77] ^= 1
        bad.write_bytes(data)
        ship.start()
        assert ship.recovery["snapshot"]["event"] == int(names[-2][2:])
        notes = " ".join(ship.recovery["notes"])
        assert f"{names[-1]} is no help" in notes
        assert ship.stop() == 0
        ship.check()


def test_a_missing_copy_is_made_up_for_by_the_next_start(
    many: Path, tmp_path: Path
) -> None:
    """A crash right after the roll: the epoch is there, its state is not."""
    with copy_of(many, tmp_path) as ship:
        newest = find_epochs(ship.layout.log_dir)[0][-1]
        for name in ("treadle.image", "treadle.json"):
            (newest.path / name).unlink()
        (newest.path / "treadle.image.part").write_bytes(b"half of it")
        ship.start()
        start = wait_for(lambda: read_start(newest), "the state is kept")
        assert start.event >= newest.start
        assert not (newest.path / "treadle.image.part").exists()
        assert ship.stop() == 0
        assert epochs_of(ship.pier)[-1] == newest.path.name
        ship.layout.image.unlink()
        ship.start()
        assert ship.recovery["snapshot"]["event"] == start.event
        assert ship.stop() == 0


def test_a_ship_rolls_by_itself_and_says_why(tmp_path: Path) -> None:
    with boot(tmp_path / "zod") as ship:
        ship.start("--roll-events", "12", "--snapshot-every", "0.2")
        type_lines(ship, 15)
        last = wait_for(lambda: ship.status()["rolls"]["last"], "a roll")
        assert "events" in last["why"]
        assert last["epoch"] == epochs_of(ship.pier)[-1]
        assert ship.stop() == 0
        assert f"{last['epoch']} begins" in ship.words
        ship.check()


def test_events_of_another_runtime_keep_an_epoch_of_their_own(tmp_path: Path) -> None:
    """A pier of Vere's goes on in a new epoch; what Vere made stays as it was."""
    pier = unpack("plain", tmp_path)
    known = expected("plain")
    with WholeShip(pier) as ship:
        ship.start()
        assert ship.poke("x", ["t"], "hello", 1) == DONE
        assert ship.status()["epochs"] == ["0i0", "0i66"]
        assert "Vere" in ship.words or "1.17" in ship.words
        newest = find_epochs(ship.layout.log_dir)[0][-1]
        assert newest.runtime == RUNTIME
        wait_for(lambda: read_start(newest), "the state is kept")
        assert ship.stop() == 0
        ship.check()
        ship.start()  # once
        assert ship.stop() == 0
        assert epochs_of(pier) == ["0i0", "0i66"]
    chain = read_chain(newest.chain_path)
    assert chain is not None
    assert chain.base != NO_LINK
    shutil.rmtree(newest.path)
    log = open_log(ship.layout.log_dir, read_only=True)
    assert log_digest(log) == known["log_sha256"]
    log.close()


def test_a_chopped_log_forgets_no_link(many: Path, tmp_path: Path) -> None:
    """The chain's link at an epoch's start is in its record, and durable."""
    ship = copy_of(many, tmp_path)
    care(ship.pier, "chop")
    for epoch in find_epochs(ship.layout.log_dir)[0]:
        start = read_start(epoch)
        chain = read_chain(epoch.chain_path)
        assert start is not None
        assert chain is not None
        assert start.chain == chain.base.hex() != NO_LINK.hex()


def test_no_event_waits_for_the_copy_of_a_roll(tmp_path: Path) -> None:
    """Pokes go on while the state is copied: here that stands still."""
    with boot(tmp_path / "zod") as ship:
        ship.start()
        for _ in range(10):  # until a copy was met
            type_lines(ship, 1)
            over: list[dict[str, Any]] = []
            roll = threading.Thread(
                target=lambda o=over: o.append(ran("roll", ship.pier))
            )
            roll.start()
            copier = stop_copier(ship, roll)
            if copier:
                try:
                    type_lines(ship, 10)
                    assert not over
                finally:
                    os.kill(copier, signal.SIGCONT)
            roll.join()
            assert over[0]["rolled"]
            if copier:
                break
        else:
            raise AssertionError("every copy was too quick")
        assert ship.stop() == 0
        ship.check()


def stop_copier(ship: WholeShip, roll: threading.Thread) -> int:
    """Stop the process that copies the state; its number, 0 if it has left."""
    while roll.is_alive():
        for pid in children(ship.pid):
            with contextlib.suppress(OSError):
                if b"image-copy" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(pid, signal.SIGSTOP)
                    return pid if alive(pid) else 0
        time.sleep(0.002)
    return 0


# --- archive --------------------------------------------------------------------


@pytest.mark.parametrize("live", [False, True])
def test_what_is_archived_can_be_put_back_and_replayed(
    live: bool, many: Path, tmp_path: Path
) -> None:
    away = tmp_path / "away"
    with copy_of(many, tmp_path) as ship:
        names = epochs_of(ship.pier)
        count = len(ship.log())
        if live:
            ship.start()
        found = ran("archive", ship.pier, away)
        assert [row["name"] for row in found["archived"]] == names[:2]
        assert found["removed"] == names[:2]
        if live:
            assert ship.stop() == 0
        assert sorted(path.name for path in away.iterdir()) == names[:2]
        assert epochs_of(ship.pier) == names[2:]
        for name in names[:2]:
            shutil.copytree(away / name, ship.layout.log_dir / name)
        assert ran("replay", ship.pier, "--from-scratch")["replayed"] >= count
        ship.check()


def test_an_interrupted_archive_goes_on(many: Path, tmp_path: Path) -> None:
    """Copies that are whole are verified and taken; parts are made anew."""
    ship = copy_of(many, tmp_path)
    away = tmp_path / "away"
    names = epochs_of(ship.pier)
    shutil.copytree(ship.layout.log_dir / names[0], away / names[0])
    (away / ".part" / names[1]).mkdir(parents=True)
    (away / ".part" / names[1] / "data.mdb").write_bytes(b"half")
    assert ran("archive", ship.pier, away)["removed"] == names[:2]
    assert sorted(path.name for path in away.iterdir()) == names[:2]


def test_an_archive_never_removes_what_it_did_not_verify(
    many: Path, tmp_path: Path
) -> None:
    ship = copy_of(many, tmp_path)
    names = epochs_of(ship.pier)
    away = tmp_path / "away"
    other = away / names[0]
    shutil.copytree(ship.layout.log_dir / names[0], other)
    data = bytearray((other / "data.mdb").read_bytes())
    data[-5000] ^= 1
    (other / "data.mdb").write_bytes(data)
    refused = treadle("archive", ship.pier, away)
    assert refused.fault == "archive-exists"
    assert treadle("archive", ship.pier, ship.pier / ".urb/log").fault == "usage"
    assert treadle("archive", ship.pier).fault == "usage"
    assert epochs_of(ship.pier) == names


def test_a_job_that_changed_is_not_archived(many: Path, tmp_path: Path) -> None:
    ship = copy_of(many, tmp_path)
    names = epochs_of(ship.pier)
    change_event(ship.layout.log_dir / names[1], int(names[1][2:]) + 1)
    refused = treadle("archive", ship.pier, tmp_path / "away")
    assert refused.fault == "log-bad"
    assert f"event {int(names[1][2:]) + 1}" in refused.err
    assert epochs_of(ship.pier) == names


def change_event(epoch: Path, event: int) -> None:
    """One byte of a job."""
    with lmdb.open(str(epoch), max_dbs=2) as environment:
        events = environment.open_db(b"EVENTS", integerkey=True, create=False)
        with environment.begin(db=events, write=True) as transaction:
            value = bytearray(transaction.get(event.to_bytes(8, "little")))
            value[7] ^= 1
            transaction.put(event.to_bytes(8, "little"), bytes(value))


def test_a_command_takes_epochs(many: Path, tmp_path: Path) -> None:
    ship = copy_of(many, tmp_path)
    names = epochs_of(ship.pier)
    failed = treadle("archive", ship.pier, "--cmd", "exit 3")
    assert failed.fault == "archive-failed"
    assert epochs_of(ship.pier) == names
    away = tmp_path / "away"
    away.mkdir()
    words = f'cp -r "$EPOCH_DIR" "{away}/$EPOCH" && echo took "$EPOCH"'
    found = ran("archive", ship.pier, "--cmd", words, "--keep", "3")
    assert found["removed"] == [names[0]]
    assert treadle("log", "verify", away / names[0]).code == 0


def test_check_and_verify_name_the_events_that_changed(
    many: Path, tmp_path: Path
) -> None:
    """In a sealed epoch, and in the newest."""
    ship = copy_of(many, tmp_path)
    names = epochs_of(ship.pier)
    changed = [(name, int(name[2:]) + 2) for name in (names[0], names[3])]
    for name, event in changed:
        change_event(ship.layout.log_dir / name, event)
    for words in (["check", ship.pier], ["log", "verify", ship.pier]):
        found = treadle(*words)
        assert found.code == 1
        for name, event in changed:
            assert f"{name}: event {event}:" in found.out
    newest = verify_path(ship.layout.log_dir, first=changed[1][1])
    bad = [event for epoch in newest["epochs"] for event in epoch["bad_events"]]
    assert bad == [changed[1][1]]
