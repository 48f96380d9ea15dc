"""The loop over real pipes, with an engine made of paper."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from proto.codec import PleaReader, pack_writs
from proto.jam import jam
from proto.message import (
    PROTOCOL,
    Bail,
    Done,
    Exit,
    Flog,
    Gauge,
    Gauged,
    Goof,
    Hash,
    Hashed,
    Jam,
    Pack,
    Packed,
    Peek,
    Peeked,
    Play,
    Played,
    Plea,
    Ripe,
    Row,
    Save,
    Saved,
    Slog,
    Stuck,
    Work,
    Writ,
)
from serf.engine import Failed, Loaded, Scrubbed, StoppedPlay, Written
from serf.errors import BrokenPipeline, ImageUnusable
from serf.loop import Loop
from serf.scrub import Scrub

LOADED = Loaded(True, 1, 4, 10, 99, bytes(16), bytes(16), "one was torn")
GOOF = Goof("exit", Jam(jam(0)))


class PaperEngine:
    """Counts; fails where a job says so."""

    def __init__(self) -> None:
        self.event = 10
        self.mug = 99
        self.batches: list[int] = []
        self.waiting: list[Slog] = []
        self.saving: Written | None = None
        self.save_fails: bool | None = False  # None: at once

    def work(
        self, works: Sequence[Work], early: Callable[[list[Plea]], None]
    ) -> Iterator[list[Plea]]:
        self.batches.append(len(works))
        for work in works:
            if work.job == b"bail":
                yield [Bail(work.request, (GOOF,))]
            else:
                self.event += 1
                yield [Done(work.request, self.event, 1, (), None)]

    def play(
        self, life: int, rows: Sequence[Row], request: int = 0
    ) -> StoppedPlay | None:
        if rows and rows[0].job == b"stop":
            return StoppedPlay(11, 5, 6, None)
        self.event += len(rows)
        return None

    def notices(self) -> list[Flog]:
        return []

    def peek(self, sample: Jam, deadline_ms: int, request: int = 0) -> Jam:
        if sample == b"bail":
            raise Failed((GOOF,))
        self.waiting.append(Slog(1, 0, Jam(b"x")))
        return sample

    def kernel(self) -> memoryview:
        return memoryview(b"kernel")

    def slogs(self) -> list[Slog]:
        taken, self.waiting = self.waiting, []
        return taken

    def begin_save(self, wake_fd: int, pin: str, unpin: str, pace: int) -> None:
        assert self.saving is None
        self.saving = Written(self.event, self.mug, 5, 2, 32768, 17)
        if self.save_fails is None:
            raise Failed((GOOF,))
        os.eventfd_write(wake_fd, 1)

    def save_is_done(self) -> bool:
        return False  # as far as the loop can see before it waits

    def end_save(self) -> Written:
        saved, self.saving = self.saving, None
        assert saved is not None
        if self.save_fails:
            raise Failed((GOOF,))
        return saved

    def pack(self) -> tuple[int, int]:
        return 100, 50

    def gauges(self) -> tuple[tuple[str, int], ...]:
        return (("a", 1),)

    def check_rot(self) -> None:
        pass


def talk(
    *writs: Writ, raw: bytes = b"", save_fails: bool | None = False
) -> tuple[list[Plea], Any, PaperEngine]:
    """All that the loop answers to `writs`, its exit code, and its engine."""
    down, feed = os.pipe()
    hear, up = os.pipe()
    wake = os.eventfd(0)
    engine: Any = PaperEngine()
    engine.save_fails = save_fails
    try:
        os.write(feed, pack_writs(writs) + raw)
        os.close(feed)
        try:
            code: Any = Loop(engine, down, up, wake).run(LOADED)
        except BrokenPipeline as error:
            code = error
        os.close(up)
        pleas = PleaReader().feed(os.read(hear, 1 << 20))
    finally:
        os.close(down)
        os.close(hear)
        os.close(wake)
    return pleas, code, engine


def test_loop_greets_first() -> None:
    pleas, code, _ = talk()
    assert pleas == [
        Ripe(
            PROTOCOL,
            "treadle-0.1.0",
            bytes(16),
            bytes(16),
            event=10,
            mug=99,
            generation=4,
            fell_back=1,
            note="one was torn",
        )
    ]
    assert code == 0


def test_loop_answers_each_writ_in_order() -> None:
    pleas, code, engine = talk(
        Work(1, 0, Jam(b"a")),
        Work(2, 0, Jam(b"bail")),
        Peek(3, 0, Jam(b"sample")),
        Peek(4, 0, Jam(b"bail")),
        Work(5, 0, Jam(b"b")),
        Hash(6),
        Pack(7),
        Gauge(8),
        Play(9, 13, 0, (Row(0, Jam(b"x")), Row(0, Jam(b"y")))),
        Play(10, 15, 0, (Row(0, Jam(b"stop")),)),
        Exit(300),
        Gauge(99),
    )
    kinds = [type(plea) for plea in pleas[1:]]
    assert kinds == [
        *(Done, Bail, Slog, Peeked, Bail, Done, Hashed, Packed, Gauged),
        *(Played, Stuck),
    ]
    requests = [p.request for p in pleas[1:] if not isinstance(p, Slog)]
    assert requests == [*range(1, 11)]
    assert Hashed(6, 12, hashlib.sha256(b"kernel").digest()) in pleas
    assert Stuck(10, 11, 5, 6, None) in pleas
    assert engine.batches == [2, 1]
    assert code == 300 & 0xFF


def test_loop_answers_a_save_when_it_is_done() -> None:
    pleas, code, _ = talk(Save(1, 10), Work(2, 0, Jam(b"a")), Save(3, 11))
    done, refused, saved = pleas[1:]
    assert done == Done(2, 11, 1, (), None)
    assert isinstance(refused, Bail)
    assert refused.request == 3
    assert saved == Saved(1, 10, 99, 5, 2, 32768, 17)
    assert code == 0


@pytest.mark.parametrize("when", [None, True], ids=["at once", "later"])
def test_loop_tells_that_a_save_failed(when: bool | None) -> None:
    pleas, _, _ = talk(Save(1, 10), save_fails=when)
    assert pleas[1:] == [Bail(1, (GOOF,))]


def test_loop_saves_only_what_is_durable() -> None:
    pleas, _, _ = talk(Save(1, 9))
    bail = pleas[1]
    assert isinstance(bail, Bail)
    assert bail.goofs[0].mote == "fail"


def test_loop_replays_only_from_its_own_event() -> None:
    for first in (0, 10, 12):
        pleas, _, _ = talk(Play(1, first, 0, ()))
        assert isinstance(pleas[1], Bail)


@pytest.mark.parametrize("raw", [bytes(4), b"\x02\0\0\0\xc1\xc1"])
def test_loop_leaves_on_bad_frames(raw: bytes) -> None:
    pleas, code, _ = talk(Gauge(1), raw=raw)
    assert isinstance(code, BrokenPipeline)
    assert isinstance(pleas[-1], Flog)
    assert "bad frame" in pleas[-1].text


def test_loop_leaves_quietly_when_nobody_hears() -> None:
    down, feed = os.pipe()
    hear, up = os.pipe()
    os.close(hear)
    wake = os.eventfd(0)
    engine: Any = PaperEngine()
    assert Loop(engine, down, up, wake).run(LOADED) == 0
    for fd in (down, feed, up, wake):
        os.close(fd)


def test_an_idle_loop_scrubs_and_dies_of_rot() -> None:
    down, feed = os.pipe()
    hear, up = os.pipe()
    wake = os.eventfd(0)
    engine: Any = PaperEngine()
    steps: list[int] = []

    def scrub() -> Scrubbed:
        steps.append(len(steps))
        if len(steps) == 3:
            raise ImageUnusable("a page is damaged")
        return Scrubbed(1, len(steps), 10, 0)

    engine.scrub = scrub
    try:
        os.write(feed, pack_writs([Gauge(1)]))
        loop = Loop(engine, down, up, wake, scrub=Scrub(engine, 0.001))
        with pytest.raises(ImageUnusable, match="damaged"):
            loop.run(LOADED)
        _, gauged = PleaReader().feed(os.read(hear, 1 << 20))
    finally:
        for descriptor in (down, feed, hear, up, wake):
            os.close(descriptor)
    assert isinstance(gauged, Gauged)
    assert dict(gauged.values) == {"scrub_passes": 0, "scrub_percent": 0, "a": 1}
    assert len(steps) == 3
