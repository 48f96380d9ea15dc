"""Care verbs: the ground, one at a time, live and at rest."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import types
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from king.care.ground import Ground, Progress
from king.care.live import Caretaker, LiveGround
from king.care.verbs import VERBS, Argument, Kind, Verb
from king.config import SaveGoals
from king.errors import LogFailed, TreadleError
from king.maintain import Cadence, keep_saving
from king.pier import Layout
from tests.support.live_rig import Rig, open_rig, ovum
from tests.support.ship import ROOT, Ship, boot, treadle

Tell = Callable[[Progress], None]


class Desk:
    """A caretaker over a rig, with a verb `test` that does as it is told."""

    def __init__(self, rig: Rig, patch: pytest.MonkeyPatch) -> None:
        self.rig = rig
        self.saved: list[int] = []
        self.steps: list[dict[str, Any]] = []
        pier: Any = types.SimpleNamespace(
            log=rig.log, layout=Layout(rig.folder), ship=bytes(16), identity=b"L" * 16
        )
        self.ground = LiveGround(
            pier,
            rig.spine,
            rig.thread,
            snapshot_event=lambda: self.saved[-1] if self.saved else 0,
            saved=lambda plea: self.saved.append(plea.event),
            tell=rig.told.append,
        )
        self.care = Caretaker(self.ground)
        self._module = types.ModuleType("king.care.test")
        patch.setitem(sys.modules, "king.care.test", self._module)
        count = Argument("--count", Kind.NUMBER, "how many", 3)
        patch.setitem(VERBS, "test", Verb("test", "a test", str, (count,)))

    async def do(self, work: Any, text: str = "{}", name: str = "test") -> Any:
        vars(self._module)["test"] = work
        found = await self.care.do(
            name, text, lambda step: self.steps.append(json.loads(step))
        )
        return json.loads(found)


@asynccontextmanager
async def open_desk(folder: Path, patch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    async with open_rig(folder) as rig:
        yield Desk(rig, patch)


async def test_a_verb_is_given_its_arguments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(
        ground: Ground, arguments: Mapping[str, Any], progress: Tell
    ) -> dict[str, Any]:
        assert ground.live
        progress(Progress(1, 2, "bytes", "at it"))
        await trio.sleep(0.5)
        return dict(arguments)

    async with open_desk(tmp_path, monkeypatch) as desk:
        assert await desk.do(work) == {"count": 3}
        assert await desk.do(work, '{"count": 7}') == {"count": 7}
        assert {"done": 1, "total": 2, "unit": "bytes", "note": "at it"} in desk.steps
        for text in ('{"count": -1}', '{"count": true}', '{"more": 1}', "[]", "nil"):
            with pytest.raises(TreadleError, match="test: ") as caught:
                await desk.do(work, text)
            assert caught.value.code == "usage"
        with pytest.raises(TreadleError, match="no care by the name"):
            await desk.do(work, name="tidy")


async def test_one_verb_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def linger(*_: Any) -> dict[str, Any]:
        await trio.sleep_forever()
        raise AssertionError

    async with open_desk(tmp_path, monkeypatch) as desk, trio.open_nursery() as nursery:
        nursery.start_soon(desk.do, linger)
        await trio.testing.wait_all_tasks_blocked()
        status = desk.care.status()
        assert status is not None
        assert status["verb"] == "test"
        with pytest.raises(TreadleError) as caught:
            await desk.do(linger)
        assert caught.value.code == "care-busy"
        nursery.cancel_scope.cancel()
    assert desk.care.status() is None


async def test_a_stop_of_the_ship_ends_a_verb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tidied = []

    async def linger(*_: Any) -> dict[str, Any]:
        try:
            await trio.sleep_forever()
        finally:
            tidied.append(1)
        raise AssertionError

    async with open_desk(tmp_path, monkeypatch) as desk, trio.open_nursery() as nursery:
        codes: list[str] = []

        async def ask() -> None:
            try:
                await desk.do(linger)
            except TreadleError as error:
                codes.append(error.code)

        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        await desk.care.close()
        assert codes == ["care-stopped"]
        assert tidied == [1]
        with pytest.raises(TreadleError, match="the ship is stopping"):
            await desk.do(linger)


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (ZeroDivisionError("oops"), "failed"),
        (OSError(5, "bad disk"), "disk-error"),
        (TreadleError("log-bad", "so it is"), "log-bad"),
        (ExceptionGroup("two", [KeyError(1), TreadleError("log-gap", "")]), "log-gap"),
    ],
)
async def test_a_verb_that_fails_is_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: Exception, code: str
) -> None:
    async def fail(*_: Any) -> dict[str, Any]:
        raise raised

    async with open_desk(tmp_path, monkeypatch) as desk:
        with pytest.raises(TreadleError) as caught:
            await desk.do(fail)
        assert caught.value.code == code
        await desk.rig.inject(ovum("test"))  # the ship goes on
        assert desk.care.status() is None


async def test_what_fails_while_it_is_cancelled_is_no_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the client is gone, and tidying up meets a bad disk."""

    async def work(*_: Any) -> dict[str, Any]:
        async def stay() -> None:
            await trio.sleep_forever()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(stay)
            try:
                await trio.sleep_forever()
            finally:
                raise OSError(5, "bad disk")

    async with open_desk(tmp_path, monkeypatch) as desk:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_expect, desk.do, work)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()


async def _expect(function: Any, *args: Any) -> None:
    with pytest.raises(TreadleError):
        await function(*args)


async def test_care_is_not_for_other_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a king of another user would see this client."""
    ours, theirs = trio.socket.socketpair()
    with ours, theirs:
        async with open_desk(tmp_path, monkeypatch) as desk:
            assert await desk.care.serve(ours, "save", "{}", print)
            monkeypatch.setattr("king.care.live.ROOT", 4_000_001)
            monkeypatch.setattr(os, "geteuid", lambda: 4_000_000)
            with pytest.raises(TreadleError) as caught:
                await desk.care.serve(ours, "save", "{}", print)
        assert caught.value.code == "care-forbidden"


async def test_in_log_sees_a_wall_and_events_wait_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_desk(tmp_path, monkeypatch) as desk, trio.open_nursery() as nursery:
        rig = desk.rig
        pipeline = rig.spine.pipeline
        seen: list[tuple[int, ...]] = []

        def look(log: Any) -> int:
            time.sleep(0.05)
            at = (log.last, pipeline.computed, pipeline.committed, pipeline.released)
            seen.append(at)
            return int(log.last)

        async def flood() -> None:
            while True:
                await rig.inject(ovum("test"))

        for _ in range(4):
            nursery.start_soon(flood)
        walls = [0]
        for _ in range(6):
            with trio.fail_after(20):  # events go on between two walls
                while pipeline.committed == walls[-1]:
                    await trio.sleep(0.01)
            walls.append(await desk.ground.in_log(look))
        assert all(len(set(at)) == 1 for at in seen), seen
        assert walls == sorted(set(walls))
        wall = await desk.ground.in_log(look, save=True)
        assert desk.saved[-1] == wall, "the save is of the same wall"
        nursery.cancel_scope.cancel()


async def test_a_save_is_made_only_where_there_is_something_to_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_desk(tmp_path, monkeypatch) as desk:
        await desk.rig.inject(ovum("test"))
        assert await desk.ground.save() == 1
        assert await desk.ground.save() == 1
        assert desk.saved == [1]
        await desk.rig.inject(ovum("test"))
        assert await desk.ground.save() == 2


async def test_the_cadence_waits_while_saves_are_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("king.maintain.HELD_S", 0.02)
    async with open_desk(tmp_path, monkeypatch) as desk, trio.open_nursery() as nursery:
        rig = desk.rig
        keeper = {
            "saved": lambda plea: desk.saved.append(plea.event),
            "tell": rig.told.append,
        }
        cadence = Cadence(SaveGoals(interval_s=0.01))
        nursery.start_soon(lambda: keep_saving(rig.spine, cadence, **keeper))
        await trio.testing.wait_all_tasks_blocked()
        async with desk.ground.hold_saves():
            await rig.inject(ovum("test"))
            await trio.sleep(0.3)
            assert desk.saved == []
        with trio.fail_after(5):
            while not desk.saved:
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()


async def test_the_cadence_waits_for_a_hold_that_came_while_room_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("king.spine.HELD_S", 0.02)
    async with open_desk(tmp_path, monkeypatch) as desk, trio.open_nursery() as nursery:
        rig = desk.rig
        asked, made = trio.Event(), trio.Event()

        @asynccontextmanager
        async def slow_room() -> AsyncIterator[None]:
            asked.set()
            await made.wait()
            yield

        monkeypatch.setattr(rig.spine, "room", slow_room)
        await rig.inject(ovum("test"))
        nursery.start_soon(lambda: rig.spine.save(patient=True))
        await asked.wait()
        async with desk.ground.hold_saves():
            made.set()
            await trio.sleep(0.3)
            assert not rig.spine.pipeline.is_saving
            assert desk.rig.spine.saves_held == 1
            saved = await desk.ground.save()
        assert saved == 1
        nursery.cancel_scope.cancel()


async def test_a_failed_commit_in_a_verb_stops_the_ship(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_desk(tmp_path, monkeypatch) as desk:

        def fail(log: Any) -> None:
            raise LogFailed("log-failed", "a bad disk")

        with pytest.raises(LogFailed):
            await desk.ground.in_log(fail)
        assert desk.rig.spine.fault is not None
        assert desk.rig.spine.fault.code == "log-failed"
        with pytest.raises(TreadleError, match="stopping"):
            await desk.ground.in_log(lambda log: log.last)


# --- verbs and their arguments ----------------------------------------------


def test_paths_from_a_socket_are_absolute() -> None:
    argument = Argument("DEST", Kind.PATH, "where to")
    argument.check("/tmp/x")
    for value in ("x", "../x", "", "/a\0b", "/" + "x" * 5000, 5, None, ["/a"]):
        with pytest.raises(ValueError, match="DEST is not an absolute path"):
            argument.check(value)


@pytest.mark.parametrize("verb", VERBS.values(), ids=str)
def test_every_verb_is_there_and_documented(verb: Verb) -> None:
    operation = verb.load()
    assert operation.__doc__ or sys.modules[operation.__module__].__doc__
    keys = [argument.key for argument in verb.arguments]
    assert len(set(keys)) == len(keys)
    words = treadle(verb.name, "--help")
    assert words.returncode == 0
    for argument in verb.arguments:
        assert argument.name in words.stdout


# --- the whole pair -----------------------------------------------------------


def test_save_works_live_and_at_rest(tmp_path: Path) -> None:
    pier = tmp_path / "zod"
    boot(pier)
    with Ship(pier) as ship:
        treadle("poke", str(pier), "/d/term/1", "belt", "[%txt 104 105 0]")
        event = ship.status()["event"]
        done = treadle("save", str(pier), "--json")
        assert json.loads(done.stdout) == {"event": event}, done.stderr
        status = ship.status()
        assert status["snapshot_event"] == event
        assert status["care"] is None
        treadle("poke", str(pier), "/d/term/1", "belt", "[%txt 104 105 0]")
        ship.kill(serf=True)
    done = treadle("save", str(pier))
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"event {event + 1} is in the image\n"
    assert done.stderr == "", "only a terminal sees a bar"
    rest = json.loads(treadle("status", str(pier), "--json").stdout)
    assert rest["snapshot_event"] == rest["event"] == event + 1
    assert treadle("check", str(pier)).returncode == 0


def test_an_interrupted_client_ends_the_verb(tmp_path: Path) -> None:
    """A save that cannot reach its wall, for an event runs for ever."""
    pier = tmp_path / "zod"
    boot(pier)
    with Ship(pier) as ship:
        spin = [sys.executable, "-m", "king", "poke", str(pier), "/d/term/1"]
        belt = "[%txt " + " ".join(map(str, b"spin")) + " 0]"
        subprocess.run([*spin, "belt", belt], cwd=ROOT, check=True)
        with subprocess.Popen(
            [*spin, "belt", "[%ret 0]"], cwd=ROOT, stderr=subprocess.PIPE
        ) as poke:
            deadline = time.monotonic() + 60
            while ship.status()["in_flight"] == 0:  # the event runs
                assert time.monotonic() < deadline
            words = [sys.executable, "-m", "king", "save", str(pier)]
            with subprocess.Popen(words, cwd=ROOT) as save:
                while ship.status()["care"] is None:
                    assert time.monotonic() < deadline
                    time.sleep(0.1)
                save.send_signal(signal.SIGINT)
                assert save.wait(30) == 130
            while ship.status()["care"] is not None:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            os.kill(ship.status()["pid_king"], signal.SIGINT)  # the event
            poke.wait(20)
        assert json.loads(treadle("save", str(pier), "--json").stdout)
