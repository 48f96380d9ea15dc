"""Log to serf, until it has caught up.

Owns: nothing; borrows a lord that has said Ripe, and the log through its
    thread.
Invariants: every row of first..last is played once, in order; the first
    `life` rows share the Play with first = 1; the serf compares every mug,
    and we compare the last one of each Play. Nothing is skipped: a divergence
    or a crash stops with the event. A snapshot is saved every `save_s`, and
    at the end, so that an interrupted replay goes on from there.
Limits: FRAMES_MAX frames of ROWS_MAX rows or BYTES_MAX bytes are in flight.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TextIO

import trio

from king import failpoint
from king.config import ReplayOptions
from king.disk import explain_disk, sync_directory
from king.epochs import start_from_epochs, take_start
from king.errors import EXIT_FAULT, TreadleError
from king.lab.recorder import make_file, open_notes
from king.log.rehearsal import NEWEST_ROWS, check_readable
from king.log.start import read_start
from king.log_thread import LogThread
from king.lord import Lord, SerfSpec, StartFailed, handshake_s
from king.pier import Pier, open_pier
from king.progress import Bar
from king.released import ReleasedMark
from king.status import split_gauges
from proto.message import (
    Bail,
    Gauge,
    Gauged,
    Play,
    Played,
    Plea,
    Row,
    Save,
    Saved,
    Stuck,
    Writ,
)
from proto.record import Action

__all__ = [
    "Progress",
    "Replayed",
    "Rows",
    "ask",
    "check_far_rows",
    "may_be_rot",
    "not_saved",
    "play_through",
    "raise_serf",
    "raise_serf_once",
    "replay",
    "replay_pier",
    "run_boot",
    "save_again",
    "save_at_end",
    "show_progress",
]

ROWS_MAX = 2_048
BYTES_MAX = 8 << 20
FRAMES_MAX = 2
SAVE_S = 120.0
HALT_S = 5.0
"""From a request to halt until the serf is killed in the middle of an event."""
_LAST_REQUEST = 1 << 62


class Rows(Protocol):
    """What replay needs of a log."""

    @property
    def last(self) -> int: ...

    def read(
        self, first: int, rows_max: int = ..., bytes_max: int = ...
    ) -> Sequence[Row]: ...


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a replay stands."""

    event: int
    last: int
    events_per_second: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay did. `count` may be 0."""

    first: int
    event: int
    mug: int
    count: int
    elapsed_s: float
    snapshot: int

    @property
    def events_per_second(self) -> float:
        return self.count / self.elapsed_s if self.elapsed_s > 0 else 0.0


class _Serf:
    """Requests to a lord during replay: numbered, answered in order."""

    def __init__(self, lord: Lord, request: int = 0) -> None:
        self.lord = lord
        self.request = request
        self._answers: deque[Plea] = deque()
        self._bell = trio.Event()
        lord.receive = self._receive
        lord.on_dead = self._on_dead

    def _on_dead(self) -> None:
        self._bell.set()

    def _receive(self, pleas: Sequence[Plea]) -> None:
        self._answers.extend(pleas)
        self._bell.set()

    async def answer(self) -> Plea:
        """The next answer.

        :raises TreadleError: serf-died
        """
        while not self._answers:
            if self.lord.dead.is_set():
                raise died(self.lord)
            self._bell = trio.Event()
            await self._bell.wait()
        return self._answers.popleft()


def died(lord: Lord, doing: str = "") -> TreadleError:
    """The error for a serf that is gone."""
    cause = lord.death.cause if lord.death is not None else "unknown cause"
    return TreadleError("serf-died", f"the serf died{doing}: {cause}")


async def ask(lord: Lord, request: int, writ: Writ, kind: type) -> Plea:
    """One request outside the pipeline (hash, gauge, save at rest).

    :raises TreadleError: serf-died, serf-spoke-nonsense
    """
    serf = _Serf(lord, request)
    lord.send([writ])
    plea = await serf.answer()
    if getattr(plea, "request", None) != request or not isinstance(plea, kind | Bail):
        raise _nonsense(lord, f"{type(plea).__name__} for a {type(writ).__name__}")
    return plea


def _nonsense(lord: Lord, why: str) -> TreadleError:
    lord.kill(f"it spoke nonsense: {why}")
    return TreadleError("serf-spoke-nonsense", f"the serf answered {why}")


async def replay(
    lord: Lord,
    log: Rows,
    thread: LogThread,
    *,
    life: int,
    until: int | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    save_s: float = SAVE_S,
    save_at_end: bool = True,
    halt: Callable[[], bool] | None = None,
) -> Replayed:
    """Play the log from the serf's event up to `until` (default: its end).

    When `halt` says so, it stops early, and saves.

    :raises TreadleError: replay-diverged, replay-crashed, serf-died,
        serf-spoke-nonsense, log-gap, ...
    """
    assert lord.ripe is not None
    start = lord.ripe.event
    last = log.last if until is None else min(until, log.last)
    run = _Run(lord, log, thread, life, start, last, save_s, on_progress, halt)
    if start:
        await run.check_start()
    if last > start:
        await run.play()
    if (save_at_end or run.event < last) and run.saved < run.event:
        await run.save()
    elapsed = time.monotonic() - run.began
    return Replayed(
        start + 1, run.event, run.mug, run.event - start, elapsed, run.saved
    )


def may_be_rot(error: TreadleError) -> bool:
    """Whether a serf that failed so may have met a rotten page of its snapshot."""
    if isinstance(error, StartFailed):
        return error.is_rot
    return error.code in ("serf-died", "replay-diverged", "replay-crashed")


async def check_far_rows(pier: Pier, start: int) -> None:
    """The newest rows were read in a child when the log was opened; if more is to
    be replayed after event `start`, so is that.

    :raises TreadleError: log-bad
    """
    if pier.log.last - start > NEWEST_ROWS:
        log_dir = pier.layout.log_dir
        await trio.to_thread.run_sync(check_readable, log_dir, start + 1)


async def raise_serf(
    start: Callable[[bool], Awaitable[Lord]],
    catch_up: Callable[[Lord], Awaitable[Replayed]],
    *,
    verify: bool = False,
    tell: Callable[[str], None],
    halt: Callable[[], bool],
) -> tuple[Lord, Replayed]:
    """Start a serf (with --verify?) and let it catch up. If a rotten page may
    have kept it from that: once more, from a state that was verified wholly.

    :raises TreadleError: what the last one failed of
    """
    while True:
        try:
            return await raise_serf_once(start, catch_up, verify)
        except TreadleError as error:
            if verify or halt() or not may_be_rot(error):
                raise
            tell(f"{error.message}; once more, from a verified snapshot")
            verify = True


async def raise_serf_once(
    start: Callable[[bool], Awaitable[Lord]],
    catch_up: Callable[[Lord], Awaitable[Replayed]],
    verify: bool,
) -> tuple[Lord, Replayed]:
    """Start a serf and let it catch up, or bury it.

    :raises TreadleError: what it failed of
    """
    lord = await start(verify)
    try:
        return lord, await catch_up(lord)
    except BaseException:
        lord.kill("it could not catch up")
        with trio.CancelScope(shield=True):
            await lord.dead.wait()
        raise


class _Run:
    def __init__(
        self,
        lord: Lord,
        log: Rows,
        thread: LogThread,
        life: int,
        start: int,
        last: int,
        save_s: float,
        on_progress: Callable[[Progress], None] | None,
        halt: Callable[[], bool] | None,
    ) -> None:
        assert lord.ripe is not None
        self.serf = _Serf(lord)
        self.log = log
        self.thread = thread
        self.life = life
        self.start = self.event = start
        self.mug = lord.ripe.mug
        self.saved = start
        self.last = last
        self.save_s = save_s
        self.on_progress = on_progress
        self.halt = halt or _never
        self.began = self.save_time = time.monotonic()
        self.flight: deque[Play] = deque()

    async def check_start(self) -> None:
        """The snapshot must be of this history, also if nothing is replayed."""
        try:
            rows = await self.thread.run(lambda: self.log.read(self.start, 1))
        except TreadleError as error:
            if error.code == "log-gap":
                return  # the log begins later: nothing to compare with
            raise
        if rows and rows[0].mug and rows[0].mug != self.mug:
            raise _diverged(self.start, rows[0].mug, self.mug)

    async def play(self) -> None:
        following = self.start + 1
        rows = await self._read(following)
        while rows or self.flight:
            if self.halt():
                rows = []
            while rows and len(self.flight) < FRAMES_MAX:
                self._send(following, rows)
                following += len(rows)
                rows = []
                if following <= self.last:
                    rows = await self._read(following)
            if self.flight:
                self._take(await self.serf.answer())
            failpoint.hit("replay.frame")
            if time.monotonic() - self.save_time >= self.save_s and rows:
                while self.flight:
                    self._take(await self.serf.answer())
                await self.save()

    async def _read(self, first: int) -> list[Row]:
        """The next rows; the lifecycle rows never come apart."""
        count = min(ROWS_MAX, self.last - first + 1)
        size = BYTES_MAX
        if first == 1:
            count = max(count, self.life)
            if count > self.last:
                raise TreadleError(
                    "log-gap",
                    f"the log holds events 1 to {self.last}, but {self.life} "
                    "boot the ship",
                    "restore the pier from a copy; nothing was changed",
                )
            size = 1 << 40 if count == self.life else size
        rows = list(await self.thread.run(lambda: self.log.read(first, count, size)))
        if first == 1 and len(rows) < self.life:
            rows = list(
                await self.thread.run(lambda: self.log.read(1, self.life, 1 << 40))
            )
        return rows

    def _send(self, first: int, rows: list[Row]) -> None:
        self.serf.request += 1
        life = self.life if first == 1 else 0
        play = Play(self.serf.request, first, life, tuple(rows))
        self.flight.append(play)
        self.serf.lord.send([play])

    def _take(self, plea: Plea) -> None:
        play = self.flight.popleft()
        lord = self.serf.lord
        if isinstance(plea, Stuck) and plea.request == play.request:
            raise _stuck(plea, play)
        if not isinstance(plea, Played) or plea.request != play.request:
            raise _nonsense(lord, f"{type(plea).__name__} for a Play")
        event = play.first + len(play.rows) - 1
        if plea.event != event:
            raise _nonsense(lord, f"event {plea.event} for {event}")
        mug = play.rows[-1].mug
        if mug and plea.mug != mug:
            raise _diverged(event, mug, plea.mug)
        self.event = lord.last_event = event
        self.mug = plea.mug
        self._tell("")

    async def save(self) -> None:
        """Save at the event that stands; what was replayed is durable."""
        self._tell("saving")
        self.serf.request += 1
        self.serf.lord.send([Save(self.serf.request, self.event)])
        plea = await self.serf.answer()
        if isinstance(plea, Saved) and plea.event == self.event:
            self.saved = self.event
        elif not isinstance(plea, Bail):
            raise _nonsense(self.serf.lord, f"{type(plea).__name__} for a Save")
        self.save_time = time.monotonic()

    def _tell(self, note: str) -> None:
        if self.on_progress is None:
            return
        spent = max(time.monotonic() - self.began, 1e-6)
        rate = (self.event - self.start) / spent
        self.on_progress(Progress(self.event, self.last, rate, note))


def _too_late(event: int, until: int, first: int) -> TreadleError:
    """Why a replay cannot end at an event: its serf is beyond that."""
    if until < first - 1:
        return TreadleError(
            "usage",
            f"the log leads from event {first - 1} on; event {until} is before that",
            "older epochs of the log were chopped: put them back, if you kept them",
        )
    return TreadleError(
        "usage",
        f"the snapshot is at event {event} already, after event {until}",
        "give --from-scratch to replay from the start",
    )


def _never() -> bool:
    return False


def _stuck(plea: Stuck, play: Play) -> TreadleError:
    if plea.goof is None:
        return _diverged(plea.event, plea.expected, plea.actual)
    return TreadleError(
        "replay-crashed",
        f"replay stopped at event {plea.event}: it crashed with "
        f"%{plea.goof.mote}, though it succeeded when it was logged",
        f"the log and the state up to event {plea.event - 1} are intact; try "
        "`treadle replay --from-scratch`, then a machine with more memory, and "
        "keep a copy of the pier for whoever looks into it",
    )


def _diverged(event: int, expected: int, actual: int) -> TreadleError:
    return TreadleError(
        "replay-diverged",
        f"replay stopped at event {event}: the log says mug "
        f"{expected:08x}, we computed {actual:08x}",
        f"the log is untouched and the state up to event {event - 1} is good; "
        "try `treadle replay --from-scratch`; if it stops there again, the log "
        "or this runtime is wrong: keep a copy of the pier and report the event",
    )


def show_progress(out: TextIO | None = None) -> Callable[[Progress], None]:
    """A printer of progress: a bar on a terminal, else a line every 5 s."""
    bar = Bar("replay", out, lines=True)

    def show(now: Progress) -> None:
        bar.show(now.event, now.last, "events", now.note, now.events_per_second)

    return show


# --- replay and boot ----------------------------------------------------------


async def replay_pier(options: ReplayOptions) -> int:
    """`treadle replay`: the log through a serf, and a snapshot of the end.

    Returns the exit code: 1 where it was interrupted (and saved).
    """
    with open_pier(options.pier, run=False) as pier:
        image = pier.layout.image
        last = pier.log.last
        until = last if options.until is None else min(options.until, last)
        path = image
        if options.from_scratch:
            # The old snapshot stays until the new one is whole.
            path = pier.layout.scratch_image
            await _take_oldest_start(pier, path)
        shown = None if options.json else show_progress()
        jets: dict[str, dict[str, int]] = {}
        try:
            done, ended = await play_through(
                pier,
                path,
                until,
                shown,
                options.serf_options,
                jets.update,
                record=options.record,
            )
            if options.from_scratch and done.event == done.snapshot == last:
                try:
                    path.replace(image)
                    sync_directory(image.parent)
                except OSError as error:
                    doing = "putting the new snapshot in place of the old one"
                    raise explain_disk(error, image.parent, doing) from error
        finally:
            if options.from_scratch:
                # Where the disk refuses, what went wrong is the word that counts.
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)
        _print_replayed(options, done, last, jets)
        return 0 if ended else EXIT_FAULT


def _print_replayed(
    options: ReplayOptions,
    done: Replayed,
    last: int,
    jets: dict[str, dict[str, int]],
) -> None:
    total = {
        what: sum(row.get(what, 0) for row in jets.values())
        for what in ("hits", "checked", "unchecked", "wrong")
    }
    if options.json:
        value = {
            "event": done.event,
            "mug": f"{done.mug:08x}",
            "events_per_second": round(done.events_per_second, 1),
            "replayed": done.count,
            "seconds": round(done.elapsed_s, 3),
            "snapshot_event": done.snapshot,
            "last": last,
            "jets": jets,
        }
        print(json.dumps(value), flush=True)
        return
    print(
        f"replayed {done.count:,} events in {done.elapsed_s:.1f} s "
        f"({done.events_per_second:,.0f}/s): event {done.event:,} of {last:,}, "
        f"mug {done.mug:08x}",
        flush=True,
    )
    if "--jet-check" in options.serf_options:
        print(
            f"jet-check: {len(jets)} arms; {total['checked']:,} results equal to "
            f"their Nock's, {total['unchecked']:,} given up, {total['wrong']:,} wrong",
            flush=True,
        )


async def _take_oldest_start(pier: Pier, image: Path) -> None:
    """Older epochs were chopped: what is left begins with a state."""
    if pier.log.epochs[0].start:
        for epoch in pier.log.epochs:
            if read_start(epoch) is not None:
                await take_start(epoch, image, pier.layout.restored_image)
                return


async def run_boot(pier: Pier) -> tuple[int, int]:
    """All rows of a fresh pier's log through a serf; a snapshot of the end.

    :raises TreadleError: replay-crashed, serf-died, boot-failed, ...
    """
    done, ended = await play_through(pier, pier.layout.image, pier.log.last, None)
    if not ended or done.snapshot != pier.log.last:
        raise TreadleError("boot-failed", "there is no snapshot of the new ship")
    # Effects of the boot are nobody's: there is nothing to be unsure of.
    mark = ReleasedMark(pier.layout.urb / "released", pier.identity)
    mark.close(done.event, clean=True)
    return done.event, done.mug


async def save_at_end(pier: Pier) -> None:
    """A state of the log's last event is the newest one in the image; later ones are
    not in it any more.

    :raises TreadleError: as a replay, and snapshot-failed
    """
    last = pier.log.last

    async def save(lord: Lord) -> None:
        await save_again(lord, last)

    image = pier.layout.image
    _, ended = await play_through(pier, image, last, show_progress(), then=save)
    if not ended:
        raise KeyboardInterrupt


async def save_again(lord: Lord, event: int, pin: str = "", unpin: str = "") -> None:
    """Save the event at which a replay ended, though it may be saved already.

    :raises TreadleError: snapshot-failed, serf-died, serf-spoke-nonsense
    """
    writ = Save(_LAST_REQUEST, event, pin, unpin)
    if not isinstance(await ask(lord, _LAST_REQUEST, writ, Saved), Saved):
        raise not_saved()


def not_saved() -> TreadleError:
    """A serf declined to save."""
    return TreadleError(
        "snapshot-failed",
        "the serf could not save a snapshot; the older ones are whole",
        "is there room on the disk? the ship's own lines say more",
    )


async def play_through(
    pier: Pier,
    image: Path,
    until: int,
    on_progress: Callable[[Progress], None] | None,
    serf_options: tuple[str, ...] = (),
    on_jets: Callable[[dict[str, dict[str, int]]], None] | None = None,
    then: Callable[[Lord], Awaitable[None]] | None = None,
    record: Path | None = None,
    *,
    verify: bool = False,
) -> tuple[Replayed, bool]:
    """Serf (with --verify?), replay, snapshot, serf's end. Interrupted, it saves
    where it is. `then` is for the serf that has caught up. `record`: where both
    take their notes.

    Returns what was done, and whether it got to `until`.
    """
    thread = LogThread()
    halt = trio.Event()
    spec = SerfSpec(
        image=image,
        ship=pier.ship,
        log=pier.identity,
        event_max=pier.log.last,
        lock_fd=pier.lock_descriptor,
        options=serf_options,
    )

    lords: list[Lord] = []

    async def signals(task_status: trio.TaskStatus[None]) -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as numbers:
            task_status.started()
            async for _ in numbers:
                if halt.is_set():
                    _kill(lords)
                else:
                    halt.set()
                    nursery.start_soon(late)

    async def late() -> None:
        """One event may run for hours: do not wait for it."""
        await trio.sleep(HALT_S)
        _kill(lords)

    async def start_one(verify: bool) -> Lord:
        given = replace(spec, verify=verify, handshake_s=handshake_s(image))
        if record is not None:
            noted = ("--record", str(make_file(record, "serf")))
            given = replace(given, options=(*serf_options, *noted))
        lord = await Lord.start(nursery, given, on_line=_print_line)
        lords.append(lord)
        assert lord.ripe is not None
        if not verify and then is None and lord.ripe.event == until:
            # Nothing will be saved, and only a save waits for the serf's look at
            # every page: it is to look first.
            await lord.stop()
            return await start_one(verify=True)
        return lord

    async def start(verify: bool) -> Lord:
        from_scratch = image == pier.layout.scratch_image
        return await start_from_epochs(
            start_one,
            verify,
            image=image,
            scratch=pier.layout.restored_image,
            identity=pier.identity,
            epochs=() if from_scratch else pier.log.epochs,
            last=pier.log.last,
            tell=_print_line,
        )

    async def catch_up(lord: Lord) -> Replayed:
        assert lord.ripe is not None
        if lord.ripe.event > until:
            raise _too_late(lord.ripe.event, until, pier.log.first)
        await check_far_rows(pier, lord.ripe.event)
        done = await replay(
            lord,
            pier.log,
            thread,
            life=pier.meta.life,
            until=until,
            on_progress=on_progress,
            halt=halt.is_set,
        )
        # A serf that dies of what it is asked here has met a rotten page.
        if on_jets is not None:
            plea = await ask(lord, _LAST_REQUEST, Gauge(_LAST_REQUEST), Gauged)
            if isinstance(plea, Gauged):
                on_jets(split_gauges(plea.values)[1])
        if then is not None and done.event >= until:
            await then(lord)
        return done

    try:
        # What is visible in the log may not be durable yet: no snapshot may
        # be ahead of it.
        await thread.run(lambda: _sync_log(pier))
        if record is not None:
            note = open_notes(make_file(record, "king"))
            note(Action.KING_START, pier.log.last)
        async with trio.open_nursery() as nursery:
            await nursery.start(signals)
            lord, done = await raise_serf(
                start, catch_up, verify=verify, tell=_print_line, halt=halt.is_set
            )
            await lord.stop()
            nursery.cancel_scope.cancel()
    finally:
        await thread.close()
    return done, done.event >= until


def _kill(lords: list[Lord]) -> None:
    for lord in lords:
        lord.kill("interrupted")


def _sync_log(pier: Pier) -> None:
    for epoch in pier.log.epochs:
        descriptor = os.open(epoch.path / "data.mdb", os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fdatasync(descriptor)
        except OSError as error:
            raise explain_disk(error, epoch.path, "syncing the log") from error
        finally:
            os.close(descriptor)


def _print_line(text: str) -> None:
    print(f"serf: {text}", file=sys.stderr, flush=True)
