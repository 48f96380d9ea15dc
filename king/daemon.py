"""A ship, from its pier's lock to its last word.

What it is: the one place that opens everything, in order, and closes it, in
    order; and the wiring: which driver holds which capabilities.
Owns: one nursery tree; the reason why the ship stops, and its exit code.
Invariants, order of start: pier locks, log settled, serf, replay, report,
    %wyrd, drivers with their born events, live. Order of the end: admission
    closed, work drained, snapshot, serf, drivers, log, locks. Every step of
    the end has a deadline; what is late is cut off, which is always safe.
Limits: see king.config.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import socket
import sys
import time
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import trio

from king import failpoint
from king.boot import wyrd_card
from king.care.live import Caretaker, LiveGround
from king.child import spawn_process
from king.config import RUNTIME, ReplayOptions, RunOptions, runtime_version
from king.console import Console, has_terminal
from king.costs import Costs
from king.disk import free_bytes
from king.drivers.behn import behn
from king.drivers.conn import conn
from king.drivers.http import Port, http
from king.drivers.term import Printer, term
from king.drivers.wire import ovum, ovum_of_jam, read_small
from king.early import EarlySerf
from king.epochs import roll_is_due, start_from_epochs
from king.errors import TreadleError
from king.event import Effect, Fact, Failure, Outcome, Ovum
from king.groups import first_fault, run_trio
from king.lab.recorder import make_file, open_notes
from king.log.start import read_start
from king.log_thread import LogThread
from king.lord import Death, Lord, SerfSpec, handshake_s
from king.maintain import Cadence, keep_saving
from king.pier import Pier, open_pier
from king.pipeline import Ask, Limits, Pipeline, Poke, head_time
from king.released import ReleasedMark
from king.replay import (
    HALT_S,
    Replayed,
    check_far_rows,
    raise_serf,
    raise_serf_once,
    replay_pier,
    show_progress,
)
from king.replay import replay as play_log
from king.report import Recovery, keep_repro, write_beside
from king.reserve import Reserve
from king.router import ORDER, Channel, Injector, Router
from king.scrub import Scrub
from king.spine import LogWriter, Spine, World
from king.status import (
    DAY_S,
    Growth,
    Rate,
    pipeline_status,
    scrub_status,
    split_gauges,
)
from proto import fast
from proto.cord import cord, da_from_unix, path_text, ship_text, uv_text
from proto.message import Gauge, Gauged, Pack, Packed, Saved, Slog
from proto.mug import mug
from proto.noun import Cell, Noun, noun
from proto.record import Action, Notes
from proto.tank import clean, tank_lines

__all__ = ["listen_unix", "replay", "run"]

DRIVERS_S = 5.0
SAVE_EVENTS = 10_000
"""A replay longer than this ends in a snapshot."""
BORN_S = 2.0
QUIET_S = 0.25  # after which a kernel that could open its page will not
SECOND_INTERRUPT_S = 2.0
INTERRUPT_AFTER_S = 0.2  # ^C means an event only if one can be seen to run
ROLL_AGAIN_S = 600.0
"""After a roll that was due and could not be."""
LOST_MAX = 100
WORDS_MAX = 200
"""Of the guest's words, in a line about what is wrong with them."""


class Clock:
    """Wall time as @da."""

    def now(self) -> int:
        return da_from_unix(time.time_ns())


class Instance:
    """This run of the king ("sev" in the specification)."""

    def __init__(self, now: int) -> None:
        self._number = mug(now)

    @property
    def number(self) -> int:
        return self._number

    @property
    def knot(self) -> str:
        return uv_text(self._number)


def run(options: RunOptions, early: EarlySerf | None = None) -> int:
    """Run a ship until it stops, at first on the serf that is there already, if one
    is; the exit code.

    :raises TreadleError: where it could not start, or had to stop.
    """
    return run_trio(_run, options, early)


def replay(options: ReplayOptions) -> int:
    """`treadle replay`: the log through a serf, and a snapshot of the end.

    :raises TreadleError: replay-diverged, replay-crashed, ...
    """
    return run_trio(replay_pier, options)


# --- the ship ---------------------------------------------------------------


async def _run(options: RunOptions, early: EarlySerf | None) -> int:
    if not options.headless and not has_terminal():
        options = replace(options, headless=True)
    with open_pier(options.pier, adopt=options.adopt) as pier:
        ship = _Ship(options, pier, early)
        return await ship.live()


class _Ship:
    """One run of one ship."""

    def __init__(
        self, options: RunOptions, pier: Pier, early: EarlySerf | None = None
    ) -> None:
        self.options = options
        self._spawn_child = partial(spawn_process, early=early)
        self.pier = pier
        self.layout = pier.layout
        self.clock = Clock()
        self.instance = Instance(self.clock.now())
        self.state = "starting"
        self.recovery = Recovery(notes=list(pier.notes))
        self.http: str | None = None
        self.http_port = 0
        self.snapshot_event = 0
        self.rate = Rate()
        self.growth = Growth()
        self.began = 0  # the event at which this run began
        self.memory: dict[str, int] = {}
        self.jets: dict[str, dict[str, int]] = {}
        self.pins: dict[str, int] = {}
        self.code = 0
        self.fault: TreadleError | None = None
        self.live_drivers: set[str] = set()
        self.console: Console | None = None
        self.terminal: Printer | None = None
        self.slogs = _Slogs()
        self._stop = trio.Event()
        self._lost = 0
        self._refused: dict[str, Counter[str]] = {"conn": Counter(), "http": Counter()}
        self._muted = 0
        self._gauging = False
        self._packing = False
        self._trimming = False
        self._rolling = False
        self._roll_not_before = 0.0
        self.rolls: dict[str, Any] = {"last": None, "fault": None}
        self._opening = False  # a listener of the page, since it was asked for
        self._running: set[str] = set()
        self._interrupted_at = -10.0
        self._replaying = False
        self._startup: trio.CancelScope | None = None
        self._channels: list[Channel] = []
        self.notes: Notes | None = None
        if options.record is not None:
            self.notes = open_notes(make_file(options.record, "king"))
        self.mark: ReleasedMark
        self.reserve: Reserve
        self.costs: Costs
        self.thread: LogThread
        self.spine: Spine
        self.cadence: Cadence
        self.care: Caretaker
        self.scrub: Scrub
        self.router: Router
        self.serfs: trio.Nursery

    # --- words ----------------------------------------------------------------

    def log(self, text: str, *, priority: int = 0) -> None:
        """Tell people: above the prompt, or on stderr."""
        if self.terminal is not None:
            self.terminal.print(text, priority)
        else:
            _print_error(text, priority)

    def tell(self, text: str) -> None:
        self.log(text)

    def stop(self, why: str, code: int = 0) -> None:
        """Begin to stop, once. Returns at once."""
        if self._stop.is_set():
            return
        self.code = code
        if why:
            self.log(why)
        self._stop.set()
        if self._startup is not None:
            # A replay may save what it has; nothing else needs the time.
            grace = HALT_S if self._replaying else 0.0
            self._startup.deadline = trio.current_time() + grace

    def fail(self, error: TreadleError) -> None:
        """Stop because of a fault: its code is the exit code."""
        if self.fault is None:
            self.fault = error
        self.stop("", error.exit_code)

    # --- from start to end ----------------------------------------------------

    async def live(self) -> int:
        self.thread = LogThread()
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(self._signals)
                async with trio.open_nursery() as self.serfs:
                    with trio.CancelScope() as self._startup:
                        await self._start()
                    started = not (
                        self._startup.cancelled_caught or self._stop.is_set()
                    )
                    self._startup = None
                    if started:
                        await self._work()
                    self.serfs.cancel_scope.cancel()
                nursery.cancel_scope.cancel()
        finally:
            await self.thread.close()
        if self.fault is not None:
            raise self.fault
        return self.code

    async def _start(self) -> None:
        """Up to a serf that has caught up, and the report of it."""
        began = time.monotonic()
        pier, report = self.pier, self.recovery
        await self.thread.run(pier.log.settle)
        log = pier.log
        report.notes += [note for note in log.notes if note not in report.notes]
        if self.notes is not None:
            self.notes(Action.KING_START, log.last)
        self.mark = ReleasedMark(self.layout.urb / "released", pier.identity)
        report.released, report.clean = self.mark.before, self.mark.clean
        report.log_first, report.log_last = log.first, log.last
        report.log_bytes = log.size_bytes()
        lord, replayed = await raise_serf(
            self._spawn,
            partial(self._catch_up, halt=self._stop.is_set),
            verify=self.options.verify,
            tell=self.tell,
            halt=self._stop.is_set,
        )
        assert lord.ripe is not None
        report.snapshot_event = lord.ripe.event
        report.snapshot_generation = lord.ripe.generation
        report.fell_back = lord.ripe.fell_back
        report.snapshot_note = lord.ripe.note
        report.add_replay(replayed)
        if self._stop.is_set():
            return
        report.seconds = time.monotonic() - began
        self.snapshot_event = replayed.snapshot
        self.cadence = Cadence(
            self.options.save_goals,
            event=replayed.snapshot,
            start_s=max(report.seconds - replayed.elapsed_s, 0.0),
            now=trio.current_time(),
        )
        self._tell_report()
        rows = log.read(log.last, 1) if log.first else []
        last_time = (head_time(rows[0].job) or 0) if rows else 0
        self.began = log.last
        self.mark.begin(log.last)
        self._wire_spine(log.last, last_time, replayed.mug)
        self.spine.adopt(lord, log.last)

    def _tell_report(self) -> None:
        report = self.recovery
        write_beside(self.layout.urb / "recovery.json", report.as_json())
        if self.options.json:
            print(json.dumps({"recovery": report.as_json()}), flush=True)
        for line in report.lines():
            self.log(f"recovery: {line}")

    def _spec(self, verify: bool) -> SerfSpec:
        options = self.options.serf_options
        if self.options.record is not None:
            options += ("--record", str(make_file(self.options.record, "serf")))
        if self.options.scrub_days:
            milliseconds = max(round(self.options.scrub_days * DAY_S * 1e3), 1)
            options += ("--scrub", str(milliseconds))
        return SerfSpec(
            image=self.layout.image,
            ship=self.pier.ship,
            log=self.pier.identity,
            event_max=self.pier.log.last,
            verify=verify,
            lock_fd=self.pier.lock_descriptor,
            handshake_s=handshake_s(self.layout.image),
            options=options,
        )

    async def _spawn(self, verify: bool) -> Lord:
        return await start_from_epochs(
            self._spawn_one,
            verify,
            image=self.layout.image,
            scratch=self.layout.restored_image,
            identity=self.pier.identity,
            epochs=self.pier.log.epochs,
            last=self.pier.log.last,
            tell=self._tell_recovery,
        )

    def _tell_recovery(self, text: str) -> None:
        self.recovery.notes.append(text)
        if self.state != "starting":  # else the report will
            self.tell(text)

    async def _spawn_one(self, verify: bool) -> Lord:
        return await Lord.start(
            self.serfs,
            self._spec(verify),
            spawn=self._spawn_child,
            on_slog=self._slog,
            on_line=lambda line: self.log(f"serf: {line}"),
        )

    async def _catch_up(
        self, lord: Lord, halt: Callable[[], bool] | None = None
    ) -> Replayed:
        assert lord.ripe is not None
        self._replaying = True
        try:
            await check_far_rows(self.pier, lord.ripe.event)
            return await play_log(
                lord,
                self.pier.log,
                self.thread,
                life=self.pier.meta.life,
                on_progress=None if self.options.json else show_progress(),
                save_at_end=self.pier.log.last - lord.ripe.event > SAVE_EVENTS,
                halt=halt,
            )
        finally:
            self._replaying = False

    async def _revive(self, verify: bool) -> tuple[Lord, int]:
        """For the spine: another serf, caught up, and the event it is at."""
        self.state = "recovering"
        lord, replayed = await raise_serf_once(self._spawn, self._catch_up, verify)
        self.snapshot_event = replayed.snapshot
        self.state = "live"
        return lord, replayed.event

    def _wire_spine(self, event: int, last_time: int, kernel_mug: int) -> None:
        limits = self.options.limits
        pipeline = Pipeline(
            ORDER,
            event=event,
            last_time=last_time,
            stamp=fast.stamp,
            mug=kernel_mug,
            limits=Limits(deadline_ms=limits.event_deadline_ms),
            record=self.notes,
        )
        self.router = Router(self._lost_effect)
        world = World(
            now=self.clock.now,
            hand=self._hand,
            released=self._released,
            revive=self._revive,
            buried=self._buried,
            quarantine=self._quarantine,
            tell=self.tell,
        )
        log = self.pier.log
        folder = self.layout.log_dir
        size = self.options.reserve_bytes
        self.costs = Costs(self.layout.costs, self.pier.identity)
        self.reserve = Reserve(
            self.layout.reserve, limits.disk_reserve_bytes if size is None else size
        )
        writer = LogWriter(
            log.append,
            lambda: free_bytes(folder),
            limits.disk_low_water_bytes,
            self.reserve,
            self.costs.note,
        )
        self.spine = Spine(pipeline, writer, self.thread, world)
        ground = LiveGround(
            self.pier,
            self.spine,
            self.thread,
            snapshot_event=lambda: self.snapshot_event,
            saved=self._saved,
            tell=self.tell,
        )
        self.care = Caretaker(ground)
        self.scrub = Scrub(
            self.layout.image,
            lambda: self.pier.log.epochs,
            self.options.scrub_days * DAY_S,
            busy=self._is_busy,
            lost=self._consider_roll,
            tell=self.tell,
        )
        self.lanes = {lane.name: lane for lane in pipeline.lanes}
        self.fore = self._injector("fore")
        self.hind = self._injector("hind")

    async def _work(self) -> None:
        """From a caught-up serf to the end."""
        with contextlib.ExitStack() as stack:
            if not self.options.headless:
                self.console = stack.enter_context(Console.opened())
            await self._work_in_order()

    async def _work_in_order(self) -> None:
        async with trio.open_nursery() as spine_nursery:
            if self.console is not None:
                spine_nursery.start_soon(self.console.watch)
            spine_nursery.start_soon(self.spine.run)
            spine_nursery.start_soon(self._watch_faults)
            async with trio.open_nursery() as drivers:
                self._drivers = drivers
                drivers.start_soon(self._bring_up)
                await self._stop.wait()
                await self._shut_down()
                drivers.cancel_scope.cancel()
            spine_nursery.cancel_scope.cancel()

    async def _bring_up(self) -> None:
        """%wyrd, drivers with their born events, and then live."""
        # A born event that is refused is not told again: not before there is room.
        # But who asks how the ship is gets an answer.
        self.spine.look_at_disk()
        if self.spine.disk_is_low:
            await self._launch("conn", self._conn())
        await self.spine.wait_admission()
        if self._stop.is_set():
            return
        await self._roll_before_events()
        await self._wyrd()
        await self._start_drivers()
        await self._wait_page()
        self._drivers.start_soon(
            partial(
                keep_saving,
                self.spine,
                self.cadence,
                saved=self._saved,
                tell=self.tell,
            )
        )
        if self.options.scrub_days:
            self._drivers.start_soon(self.scrub.keep)
        if self._stop.is_set():
            return
        # What lives now lives long: leave it out of collections.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 50)
        self.state = "live"
        self._consider_roll()
        if self.terminal is not None:
            # The kernel has drawn its screen over what was said before.
            for line in self.recovery.lines():
                self.log(f"recovery: {line}")
        name = ship_text(self.pier.manifest.ship)
        page = f" on {self.http}" if self.http else ""
        self.log(f"{name} ({self.pier.log.last}): live{page}")
        if self.options.json:
            print(json.dumps({"live": self.status()}), flush=True)
        _notify("READY=1")

    async def _watch_faults(self) -> None:
        await self.spine.failed.wait()
        assert self.spine.fault is not None
        self.fail(self.spine.fault)

    async def _shut_down(self) -> None:
        """The order of the end. Every step may be late, none may hang."""
        failpoint.hit("stop.before")
        self.state = "stopping"
        _notify("STOPPING=1")
        await self.care.close()
        drained = await self.spine.wind_down(
            self.options.limits.shutdown_s,
            snapshot_event=lambda: self.snapshot_event,
            saved=self._saved,
        )
        with contextlib.suppress(OSError):  # of a disk that turned read-only
            self.layout.conn_socket.unlink(missing_ok=True)
        # Drivers see the end of their effects, and have a moment to flush.
        for channel in self._channels:
            channel.close()
        with trio.move_on_after(DRIVERS_S):
            while self._running:
                await trio.sleep(0.01)
        self.mark.close(
            self.router.watermark(self.spine.pipeline.released),
            clean=self.fault is None and drained,
        )
        if not self.options.adopt:
            self.pier.remember()

    # --- signals --------------------------------------------------------------

    async def _signals(self, task_status: trio.TaskStatus[None]) -> None:
        wanted = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
        with trio.open_signal_receiver(*wanted) as signals:
            task_status.started()
            async for number in signals:
                if number == signal.SIGINT:
                    self._on_interrupt()
                elif self._stop.is_set():
                    if self._startup is not None:
                        self._startup.cancel()
                    self.log("already stopping")
                else:
                    self.stop(f"{signal.Signals(number).name}: stopping")

    def _on_interrupt(self) -> None:
        """First ^C: the event that runs, or the guest's business; a second
        one soon after, or nothing to interrupt: stop."""
        now = trio.current_time()
        again = now - self._interrupted_at < SECOND_INTERRUPT_S
        self._interrupted_at = now
        if again or self.state != "live":
            self.stop("interrupt: stopping")
        elif self.spine.interrupt(INTERRUPT_AFTER_S):
            self.log("interrupting the event that runs")
        elif self.terminal is not None:
            self.terminal.interrupt()
        else:
            self.stop("interrupt: stopping")

    # --- what the spine tells -------------------------------------------------

    def _hand(self, event: int, effects: tuple[Effect, ...]) -> None:
        if event == self._muted:
            self._hand_wyrd(effects)
        else:
            self.router.hand(event, effects)

    def _released(self, event: int) -> None:
        self.mark.set(self.router.watermark(event))
        self.rate.add(event, self.began)
        self.growth.add(self.spine.bytes_logged)

    def _drained(self) -> None:
        self.mark.set(self.router.watermark(self.spine.pipeline.released))

    def _saved(self, saved: Saved) -> None:
        self.snapshot_event = saved.event
        self.cadence.saved(saved, trio.current_time())
        self._consider_roll()

    def _buried(self, death: Death, suspect: Poke | Ask | None) -> None:
        for line in death.lines():
            self.log(line, priority=2)
        if type(suspect) is Poke:
            what = f"%{suspect.ovum.tag} on {path_text(suspect.ovum.wire)}"
            self.log(f"  it was at {what}, after event {death.event}", priority=2)
        self.recovery.notes.append(f"serf died: {death.cause}")

    def _quarantine(self, poke: Poke, death: Death) -> str:
        pipeline = self.spine.pipeline
        folder = self.layout.bundles
        bundle = keep_repro(folder, poke, death, pipeline.computed, pipeline.mug)
        self.log(
            f"quarantined %{poke.ovum.tag} on {path_text(poke.ovum.wire)}, which "
            f"killed the serf three times; to look into it: {bundle}",
            priority=3,
        )
        return str(bundle)

    def _slog(self, slog: Slog) -> None:
        try:
            lines = tank_lines(read_small(slog.tank))
        except ValueError:
            lines = ["%slog-bad-tank"]
        if self.terminal is not None:
            self.terminal.slog(slog.priority, slog.tank)
        else:
            for line in lines:
                _print_error(line, slog.priority)
        self.slogs.publish(lines)

    def _lost_effect(self, effect: Effect) -> None:
        self._lost += 1
        if self._lost <= LOST_MAX:
            knots = (k.decode("utf-8", "replace") for k in effect.wire[:WORDS_MAX])
            tag = effect.tag[:WORDS_MAX].decode("utf-8", "replace")
            self.log(f"kick: lost %{tag} on {path_text(tuple(knots))[:WORDS_MAX]}")
            if self._lost == LOST_MAX:
                self.log("kick: further lost effects are only counted")

    def _count_refused(self, driver: str, why: str) -> None:
        self._refused[driver][why] += 1

    # --- drivers --------------------------------------------------------------

    def _injector(self, name: str, targets: frozenset[str] | None = None) -> Injector:
        lane = self.lanes[name]
        return Injector(self.spine.pipeline, lane, self.spine.pump, targets)

    def _channel(self, name: str, *heads: bytes) -> Channel:
        """A channel for the effects whose wire begins with one of `heads`."""
        channel = Channel(self.lanes[name])
        channel.on_drained = self._drained
        self._channels.append(channel)
        self.router.add(name, _takes(frozenset(heads)), channel.put, channel)
        return channel

    async def _start_drivers(self) -> None:
        """In the fixed order; the born event of one before that of the next."""
        self._add_own_routes()
        arvo = ("", "arvo")
        entropy = int.from_bytes(os.urandom(64), "little")
        await self.fore.submit(ovum(arvo, "wack", entropy))
        await self.fore.submit(ovum(arvo, "verb", noun(0, 1)))
        await self._launch("term", self._term())
        await self._launch("http", self._http())
        if "conn" not in self._running:
            await self._launch("conn", self._conn())
        await self._launch("behn", self._behn())

    async def _launch(self, name: str, driver: Callable[..., Awaitable[None]]) -> None:
        """Start a driver; wait until it is live, or has offered its born event
        (some are live only when the kernel has configured them)."""
        if self._stop.is_set():
            return  # the end of its effects has been told to those before it
        lane = self.lanes[name]
        live = trio.Event()
        self._drivers.start_soon(self._run_driver, name, driver, live)
        with trio.move_on_after(BORN_S):
            while not lane.offered and not live.is_set():
                await trio.sleep(0.002)

    async def _wait_page(self) -> None:
        """Wait until the page is open: the kernel configures it in answer to
        %born. One that has nothing left to say, and did not, has no page."""
        quiet_since = trio.current_time()
        with trio.move_on_after(BORN_S):
            while self.http is None and not self._stop.is_set():
                now = trio.current_time()
                idle = self.spine.pipeline.is_idle and not any(self._channels)
                if self._opening or not idle:
                    quiet_since = now
                elif now - quiet_since > QUIET_S:
                    return
                await trio.sleep(0.005)

    async def _run_driver(
        self, name: str, driver: Callable[..., Awaitable[None]], live: trio.Event
    ) -> None:
        self._running.add(name)
        try:
            async with trio.open_nursery() as nursery:
                try:
                    started = await nursery.start(driver)
                except RuntimeError:
                    # So trio says that it ended before it was live.
                    if self.spine.fault is None and not self._stop.is_set():
                        raise
                    return
                if name == "term" and started is not None:
                    self.terminal = started
                self.live_drivers.add(name)
                live.set()
        except Exception as group:
            error = first_fault(group)
            if not isinstance(error, TreadleError):
                for line in traceback.format_exception(group):
                    self.log(line.rstrip(), priority=3)
                error = TreadleError(
                    "failed",
                    f"the {name} driver crashed: {_first_cause(group)!r}",
                    "this is a bug of treadle; the log is whole: start it again",
                )
            self.fail(error)
        else:
            if not self._stop.is_set():
                self.stop(f"{name}: the end; stopping")
        finally:
            if name == "term":
                self.terminal = None
            self.live_drivers.discard(name)
            self._running.discard(name)

    def _term(self) -> Callable[..., Awaitable[None]]:
        return partial(
            term,
            inject=self._injector("term", frozenset("d")),
            effects=self._channel("term", b"term"),
            console=self.console,
            log=self.log,
            put=self._put,
            leave=lambda code: self.stop("<<<goodbye>>>", code),
            maintain=self._maintain,
            hung_up=lambda: self.stop("end of input: stopping"),
            working=self._working,
        )

    def _http(self) -> Callable[..., Awaitable[None]]:
        return partial(
            http,
            inject=self._injector("http", frozenset("e")),
            effects=self._channel("http", b"http-server"),
            listen=self._listen_http,
            ports=self._note_ports,
            clock=self.clock,
            instance=self.instance,
            log=self.log,
            busy=lambda: bool(self.spine.pipeline.flight),
            ship=ship_text(self.pier.manifest.ship),
            slogs=self.slogs.subscribe,
            refused=partial(self._count_refused, "http"),
        )

    def _behn(self) -> Callable[..., Awaitable[None]]:
        return partial(
            behn,
            inject=self._injector("behn", frozenset("b")),
            effects=self._channel("behn", b"behn"),
            clock=self.clock,
            instance=self.instance,
            log=self.log,
        )

    def _conn(self) -> Callable[..., Awaitable[None]]:
        return partial(
            conn,
            inject=self._injector("conn"),
            effects=self._channel("conn", b"khan"),
            peek=self.spine.peek,
            listener=listen_unix(self.layout.conn_socket),
            instance=self.instance,
            log=self.log,
            facts=self._facts(),
            slow_facts={"/mass": self._mass},
            urth=self._urth,
            care=self.care.serve,
            refused=partial(self._count_refused, "conn"),
        )

    # --- effects that are the daemon's own --------------------------------------

    def _add_own_routes(self) -> None:
        add = self.router.add
        add("fore", _is(b"arvo", b"mass"), _ignore)
        add("hind", _tagged(b"exit"), lambda _e, _f: self.stop("<<<goodbye>>>"))
        add("hind", _tagged(b"vega"), lambda _e, _f: self.log("<<<reset>>>"))
        add("hind", _tagged(b"wend"), _ignore)
        add("hind", _tagged(b"trim"), self._on_trim)

    def _on_trim(self, _: int, effect: Effect) -> None:
        """The kernel asks to be told: answered from a task of its own, one at a
        time (a kernel that asks again in its answer must not flood us)."""
        if self._trimming:
            return
        try:
            trim = ovum_of_jam(("", "arvo"), "trim", effect.data)
        except ValueError as error:
            self.log(f"kick: strange %trim: {error}")
            return
        self._trimming = True
        self._drivers.start_soon(self._trim, trim)

    async def _trim(self, trim: Ovum) -> None:
        await self.hind.submit(trim)
        self._trimming = False

    def _urth(self, what: str) -> None:
        """Maintenance that someone outside asked for."""
        if what in ("pack", "meld"):
            self._drivers.start_soon(self._maintain, what)
        elif what == "stop":
            self.stop("asked to stop")

    async def _maintain(self, _: str) -> None:
        """Collect now. (There is nothing to meld: nouns are shared as they come.)
        Whoever asks while it is asked for already, has what he wants."""
        if self._packing:
            return
        self._packing = True
        try:
            plea = await self.spine.ask("pack", Pack, Packed)
        except TreadleError as error:
            self.log(f"pack: {error.message}")
            return
        finally:
            self._packing = False
        if isinstance(plea, Packed):
            gained = plea.bytes_before - plea.bytes_after
            self.log(f"pack: gained {gained:,} bytes, {plea.bytes_after:,} remain")

    # --- epochs -----------------------------------------------------------------

    def _roll_reason(self) -> str:
        log = self.pier.log
        epoch, size = log.epochs[-1], log.stores[-1].size_bytes()
        return roll_is_due(epoch, log.last, size, self.options.roll)

    async def _roll_before_events(self) -> None:
        """Events of another runtime stay in an epoch of their own."""
        why = self._roll_reason()
        if not why:
            return
        log = self.pier.log
        self._begin_roll(why)
        while self._rolling and log.last > log.epochs[-1].start:
            await trio.sleep(0.002)

    def _consider_roll(self) -> None:
        """After each save; the copy of a state that is missing is made up for."""
        busy = self._rolling or self.care.status() is not None
        if self.state != "live" or busy or trio.current_time() < self._roll_not_before:
            return
        why = self._roll_reason()
        epoch = self.pier.log.epochs[-1]
        if why:
            self._begin_roll(why)
        elif epoch.start and read_start(epoch) is None:
            self._begin_roll("")

    def _is_busy(self) -> bool:
        spine = self.spine
        return bool(spine.pipeline.flight) or self.care.status() is not None

    def _begin_roll(self, why: str) -> None:
        self._rolling = True
        self._drivers.start_soon(self._roll, why)

    async def _roll(self, why: str) -> None:
        """Roll for this reason, or ("") finish the roll before."""
        try:
            text = json.dumps({"finish": not why})
            found = json.loads(await self.care.do("roll", text, _hear_nothing))
        except TreadleError as error:
            self.rolls["fault"] = str(error)
            self._roll_not_before = trio.current_time() + ROLL_AGAIN_S
            if error.code not in ("care-busy", "care-stopped"):
                self.log(f"epochs: {error.message}")
        else:
            self.rolls["fault"] = None
            if found["rolled"]:
                self.rolls["last"] = {"epoch": found["epoch"], "why": why}
                self.log(f"epochs: {why}; {found['epoch']} begins")
        finally:
            self._rolling = False

    # --- what drivers are given -------------------------------------------------

    async def _put(self, path: tuple[bytes, ...], data: bytes) -> None:
        """A file below .urb/put: /a/b/c is a/b.c."""
        *folders, last = [part.decode("utf-8", "surrogateescape") for part in path]
        name = f"{folders.pop()}.{last}" if folders else f".{last}"
        folder = self.layout.put.joinpath(*folders)

        def write() -> None:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)

        try:
            await trio.to_thread.run_sync(write)
        except OSError as error:
            self.log(f"term: cannot write {folder / name}: {error.strerror}")

    def _working(self) -> str | None:
        """What the event that runs is about, in a word; None if none runs."""
        flight = self.spine.pipeline.flight
        if not flight:
            return None
        head = flight[0]
        if not isinstance(head, Poke) or head.lane.name == "term":
            return ""
        return head.ovum.wire[1] if len(head.ovum.wire) > 1 else head.ovum.tag

    async def _listen_http(self, *, loopback: bool) -> trio.SocketListener:
        """A listener on the port that was asked for; else on that of the last
        run, or on the first that is free from 8080 on, or on any."""
        self._opening = True
        host = "127.0.0.1" if loopback else self.options.http_host
        fixed = self.options.http_port
        if fixed is not None and not loopback:
            choices = [fixed]
        elif loopback:
            choices = [12321, 0]
        else:
            choices = [*self._last_port(), *range(8080, 8090), 0]
        reason = ""
        for port in choices:
            try:
                listeners = await trio.open_tcp_listeners(port, host=host)
            except OSError as error:
                reason = error.strerror or str(error)
                continue
            for extra in listeners[1:]:
                await extra.aclose()
            return listeners[0]
        raise TreadleError(
            "port-busy",
            f"cannot listen on {host} port {choices[0]}: {reason}",
            "choose another with --http-port, or 0 for any",
        )

    @property
    def _port_file(self) -> Path:
        return self.layout.urb / "http.port"

    def _last_port(self) -> list[int]:
        with contextlib.suppress(OSError, ValueError):
            port = int(self._port_file.read_text())
            return [port] if 0 < port < 65536 else []
        return []

    def _note_ports(self, ports: tuple[Port, ...]) -> None:
        """For `.http.ports`, the status, and the next run."""
        with contextlib.suppress(OSError):
            if not ports:
                self.layout.http_ports.unlink(missing_ok=True)
            else:
                lines = [
                    f"{port.number} {'secure' if port.secure else 'insecure'} "
                    f"{'loopback' if port.loopback else 'public'}\n"
                    for port in ports
                ]
                self.layout.http_ports.write_text("".join(lines))
        self.http, self.http_port = None, 0
        for port in ports:
            if not port.loopback:
                host = self.options.http_host
                shown = f"[{host}]" if ":" in host else host
                if host in ("0.0.0.0", "::", "127.0.0.1"):
                    shown = "localhost"
                self.http, self.http_port = f"http://{shown}:{port.number}", port.number
                with contextlib.suppress(OSError):
                    self._port_file.write_text(f"{port.number}\n")

    # --- %wyrd ----------------------------------------------------------------

    async def _wyrd(self) -> None:
        """Who runs you, and what it offers. A kernel may refuse to hear it."""
        card = wyrd_card(self.instance.knot, self.options.kelvins)
        assert isinstance(card, Cell)
        over = trio.Event()

        def done(outcome: Outcome) -> None:
            if isinstance(outcome, Fact):
                self._muted = outcome.event  # its effects come next
            elif isinstance(outcome, Failure):
                motes = ", ".join(f"%{goof.mote}" for goof in outcome.goofs)
                self.log(f"wyrd: the kernel does not negotiate versions ({motes})")
            over.set()

        await self.fore.submit(ovum(("", "arvo"), "wyrd", card.tail), done)
        await over.wait()

    def _hand_wyrd(self, effects: tuple[Effect, ...]) -> None:
        """Effects of %wyrd are dropped, but for a kernel that is too new."""
        for effect in effects:
            if effect.tag == b"wend":
                self.log("wyrd: the kernel asks for an older interface", priority=2)

    # --- facts ----------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """All that people and programs may want to know, at once."""
        pipeline = self.spine.pipeline
        lord = self.spine.lord
        self._refresh_gauge()
        return {
            "state": self.state,
            "ship": ship_text(self.pier.manifest.ship),
            "event": pipeline.committed,
            "mug": f"{pipeline.mug:08x}",
            "snapshot_event": self.snapshot_event,
            "saves": self.cadence.status(trio.current_time()),
            "pins": self.pins,
            "log_bytes": self.pier.log.size_bytes(),
            "epochs": [epoch.path.name for epoch in self.pier.log.epochs],
            "rolls": self.rolls,
            "chain_fault": self.pier.log.chain_fault,
            "http": self.http,
            "pid_king": os.getpid(),
            "pid_serf": lord.pid if lord is not None else None,
            "runtime": RUNTIME,
            "starts": self.pier.manifest.generation,
            "uptime_seconds": round(time.time() - self.recovery.started, 1),
            "drivers": sorted(self.live_drivers),
            "effects_lost": self._lost,
            "clients_refused": self._refused,
            "slogs_missed": self.slogs.missed,
            "care": self.care.status(),
            "scrub": scrub_status(self.memory, self.options.scrub_days)
            | {"others": self.scrub.status()},
            "memory": self.memory,
            "jets": self.jets,
            **pipeline_status(pipeline, self.rate),
            "log_growth": self.growth.status(self.spine.bytes_logged),
            "disk": {
                "free_bytes": free_bytes(self.layout.log_dir),
                "low_water_bytes": self.options.limits.disk_low_water_bytes,
                "reserve_bytes": self.reserve.held,
                "low": self.spine.disk_is_low,
            },
            "recovery": self.recovery.as_json(),
        }

    def _refresh_gauge(self) -> None:
        """The next status will know the memory of now; this one does not wait."""
        if not self._gauging and self.spine.lord is not None and self.state == "live":
            self._gauging = True
            self._drivers.start_soon(self._gauge)

    async def _gauge(self) -> None:
        try:
            plea = await self.spine.ask("gauge", Gauge, Gauged)
            if isinstance(plea, Gauged):
                self.memory, self.jets, self.pins = split_gauges(plea.values)
        except TreadleError:
            pass
        finally:
            self._gauging = False

    async def _mass(self) -> Noun:
        """`[%quac (list [name bytes kids])]`."""
        await self._gauge()
        rows = [noun(name, value, 0) for name, value in self.memory.items()]
        return noun("quac", rows)

    def _facts(self) -> Mapping[str, Callable[[], Noun]]:
        return {
            "/treadle/status": lambda: cord(json.dumps(self.status())),
            "/live": lambda: 0 if self.state == "live" else 1,
            "/who": lambda: self.pier.manifest.ship,
            "/v": lambda: cord(runtime_version()),
            "/port/ames": lambda: 0,
            "/port/http": lambda: self.http_port,
            "/port/htls": lambda: 0,
            "/info": self._info,
        }

    def _info(self) -> Noun:
        """The status as a mass: `[name & value]`, or `[name | masses]`."""
        status = self.status()
        numbers = [
            noun(name, 0, value)
            for name, value in status.items()
            if isinstance(value, int) and not isinstance(value, bool) and value >= 0
        ]
        return noun("treadle", 1, numbers)


# --- small parts --------------------------------------------------------------


def listen_unix(path: Path) -> trio.SocketListener:
    """Listen on a socket file, however long its path; a stale one is replaced.

    :raises TreadleError: conn-failed
    """
    try:
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # An address has room for 108 bytes: go by way of a descriptor.
        folder = os.open(path.parent, os.O_PATH | os.O_CLOEXEC)
        try:
            listener.bind(f"/proc/self/fd/{folder}/{path.name}")
        finally:
            os.close(folder)
        path.chmod(0o600)
        listener.listen(1024)
    except OSError as error:
        raise TreadleError(
            "conn-failed", f"cannot listen on {path}: {error.strerror}"
        ) from error
    return trio.SocketListener(trio.socket.from_stdlib_socket(listener))


def _takes(heads: frozenset[bytes]) -> Callable[[Effect], bool]:
    def takes(effect: Effect) -> bool:
        wire = effect.wire
        if wire and not wire[0]:
            wire = wire[1:]
        return bool(wire) and wire[0] in heads

    return takes


def _is(head: bytes, *tags: bytes) -> Callable[[Effect], bool]:
    on_wire = _takes(frozenset([head]))
    return lambda effect: effect.tag in tags and on_wire(effect)


def _tagged(tag: bytes) -> Callable[[Effect], bool]:
    return lambda effect: effect.tag == tag


def _ignore(_: int, effect: Effect) -> None:
    pass


def _hear_nothing(_: str) -> None:
    pass


def _first_cause(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


_PREFIX = {1: ">   ", 2: ">>  ", 3: ">>> "}


def _print_error(text: str, priority: int) -> None:
    """The printer of a ship without a terminal; it may have one all the same."""
    text = "\n".join(map(clean, text.split("\n")))
    with contextlib.suppress(OSError):
        print(_PREFIX.get(priority, "") + text, file=sys.stderr, flush=True)


class _Slogs:
    """Rendered slogs, for whoever listens on the web. Never waits."""

    def __init__(self) -> None:
        self._sinks: list[trio.MemorySendChannel[str]] = []
        self.missed = 0  # times that a listener was too slow

    def subscribe(self) -> trio.MemoryReceiveChannel[str]:
        sink, source = trio.open_memory_channel[str](256)
        self._sinks.append(sink)
        return source

    def publish(self, lines: list[str]) -> None:
        for sink in list(self._sinks):
            try:
                for line in lines:
                    sink.send_nowait(line)
            except trio.WouldBlock:
                self.missed += 1  # a slow listener misses lines
            except trio.BrokenResourceError:
                self._sinks.remove(sink)


def _notify(state: str) -> None:
    """Tell systemd, if it listens."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out,
    ):
        out.connect("\0" + address[1:] if address[0] == "@" else address)
        out.send(state.encode())
