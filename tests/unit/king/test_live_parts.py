"""Log thread, failpoints, the recovery report, the rate, the progress."""

from __future__ import annotations

import io
import json
import threading
from pathlib import Path

import pytest
import trio

from king import failpoint
from king.event import Ovum
from king.log_thread import LogThread
from king.lord import Death
from king.pipeline import Lane, Poke
from king.replay import Progress, show_progress
from king.report import Recovery, keep_repro, write_beside
from king.status import Growth, Rate
from proto.message import Jam


async def test_the_log_thread_is_one_and_keeps_order() -> None:
    thread = LogThread()
    seen: list[tuple[int, int]] = []
    for number in range(50):
        thread.submit(
            lambda number=number: seen.append((number, threading.get_ident())),
            lambda *_: None,
        )
    assert await thread.run(lambda: len(seen)) == 50
    assert [number for number, _ in seen] == [*range(50)]
    assert len({ident for _, ident in seen}) == 1
    with pytest.raises(ZeroDivisionError):
        await thread.run(lambda: 1 // 0)
    assert await thread.run(lambda: 5) == 5
    await thread.close()


async def test_log_work_is_awaited_even_when_cancelled() -> None:
    thread = LogThread()
    gate = threading.Event()
    ended: list[bool] = []
    with trio.move_on_after(0.05) as scope:
        async with trio.open_nursery() as nursery:

            async def open_later() -> None:
                with trio.CancelScope(shield=True):
                    await trio.sleep(0.1)
                gate.set()

            nursery.start_soon(open_later)

            def work() -> None:
                gate.wait(5)
                ended.append(True)

            await thread.run(work)
    assert ended == [True]
    assert scope.cancelled_caught
    await thread.close()


def test_failpoints_count_their_passes() -> None:
    try:
        failpoint.arm("commit.before=raise@3")
        failpoint.hit("commit.after")
        failpoint.hit("commit.before")
        failpoint.hit("commit.before")
        with pytest.raises(failpoint.FailpointError):
            failpoint.hit("commit.before")
        failpoint.hit("commit.before")
        with pytest.raises(ValueError, match="no failpoint"):
            failpoint.arm("nowhere=kill")
        with pytest.raises(ValueError, match="no action"):
            failpoint.arm("commit.before=explode")
    finally:
        failpoint.disarm()


def report(**fields: object) -> Recovery:
    recovery = Recovery(log_first=1, log_last=100)
    for name, value in fields.items():
        setattr(recovery, name, value)
    return recovery


def test_a_clean_start_says_one_line() -> None:
    lines = report(released=100, clean=True, snapshot_event=100).lines()
    assert lines == ["found 100 events in the log, a snapshot of event 100"]
    lines = report(log_first=41, released=100, clean=True, snapshot_event=100).lines()
    assert lines == ["found events 41 to 100 in the log, a snapshot of event 100"]


def test_the_report_names_effects_that_may_not_have_left() -> None:
    one = report(released=99)
    assert one.unsure == (100, 100)
    assert "effects of event 100 may not have left" in one.lines()[-1]
    many = report(released=90, replayed=10, replay_seconds=1.0)
    assert many.unsure == (91, 100)
    assert "91 to 100" in many.lines()[-1]
    assert many.as_json()["effects_unsure"] == [91, 100]
    assert report(released=None).as_json()["effects_known"] is False
    assert report(released=100).unsure is None


def test_the_report_says_what_was_refused() -> None:
    lines = report(
        released=100, clean=True, fell_back=1, snapshot_note="page 3 is rotten"
    ).lines()
    assert lines[1] == "refused 1 newer snapshot: page 3 is rotten"
    assert json.dumps(report().as_json())


def test_a_repro_bundle_holds_the_job(tmp_path: Path) -> None:
    poke = Poke(1, Lane("x"), Ovum(("c", "sync"), "in/to", Jam(b"ovum")), None)
    poke.job = Jam(b"job")
    poke.deaths = 3
    death = Death("killed by SIGSEGV", None, "SIGSEGV", 5, 41, 1 << 20, 0, ("oh",))
    first = keep_repro(tmp_path, poke, death, 41, 0xABC)
    second = keep_repro(tmp_path, poke, death, 41, 0xABC)
    assert first != second
    assert (first / "job.jam").read_bytes() == b"job"
    cause = json.loads((first / "cause.json").read_text())
    assert cause["signal"] == "SIGSEGV"
    assert cause["after_event"] == 41
    assert cause["wire"] == "/c/sync"


def test_words_that_cannot_be_written_are_let_go(tmp_path: Path) -> None:
    write_beside(tmp_path / "no" / "such" / "folder", {})
    write_beside(tmp_path / "a.json", {"b": 1})
    assert json.loads((tmp_path / "a.json").read_text()) == {"b": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_the_rate_counts_this_run() -> None:
    rate = Rate()
    rate.add(150, 100)
    assert rate.total == 50
    assert rate.per_second() > 0


def test_growth_is_that_of_the_last_day(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("king.status.time.monotonic", lambda: now)
    growth = Growth()
    now = 3600.0
    growth.add(1000)
    assert growth.status(1000) == {"bytes_per_day": 24_000, "seconds": 3600}
    # Two days later nothing is known but what came since.
    for hour in range(2, 50):
        now = 3600.0 * hour
        growth.add(1000 + hour)
    seen = growth.status(1000 + 49)
    assert 24 <= seen["bytes_per_day"] <= 25
    assert seen["seconds"] <= 86_400 + 3600


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_a_bar_on_a_terminal_only() -> None:
    tty = Tty()
    show = show_progress(tty)
    show(Progress(50, 7322 + 50, 2.0))
    assert "\r" in tty.getvalue()
    assert "ETA 1:01:01" in tty.getvalue()
    tty = Tty()
    show_progress(tty)(Progress(50, 100, 1000.0))
    assert "[###############---------------]" in tty.getvalue()
    plain = io.StringIO()
    show = show_progress(plain)
    show(Progress(50, 100, 1000.0))
    show(Progress(100, 100, 1000.0))
    assert plain.getvalue() == "", "a short replay says nothing"
