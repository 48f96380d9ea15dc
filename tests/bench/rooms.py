"""What is measured: one function a room, each giving figures beside floors.

Invariants: a floor and its figure take turns (`pairs`); a figure is the
median of its runs; nothing is taken from an earlier bench.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from tests.bench.figure import Aim, Figure, figure, pairs, percentile
from tests.bench.hoon import COMPILES, PROGRAMS, compiles, programs
from tests.bench.large import LARGE, large
from tests.bench.machine import (
    ROOT,
    Lmdb,
    Machine,
    append_rate,
    cursor_to_pipe_rate,
    python_start_s,
    write_s,
)
from tests.bench.plan import Plan
from tests.bench.ship import (
    Ship,
    alone,
    boot,
    drive,
    inside,
    running,
    treadle,
)
from tests.bench.start import IMPORTS, restart

__all__ = ["BY_HAND", "NAMES", "ROOMS", "write_inputs"]

GOLDEN = ROOT / "tests/conformance/vere"
WINDOWS = (1, 10, 256, 1_024)
MB = 1e6


Room = Callable[[Plan], Iterator[Figure]]

# --- events -------------------------------------------------------------------

_EVENT_AIMS = {1: Aim(0.5, of_ratio=True), 256: Aim(30_000), 1_024: Aim(30_000)}
_VERE_EVENTS = {1: 2_000.0, 10: 9_300.0, 256: 9_800.0, 1_024: 10_650.0}
_LOADS: dict[str, tuple[bool, str, str]] = {
    # prefix: (light kernel, ovum, words)
    "event": (False, "nothing", "through conn.sock, embedded kernel"),
    "light_event": (True, "nothing", "through conn.sock, light kernel"),
    "key_event": (False, "key", "keystrokes with their blits, embedded kernel"),
    "king_event": (False, "", "injected inside the king, embedded kernel"),
}
_LATENCIES = ("latency_p50", "latency_p99")
_COMMIT = "bare LMDB commits of as many events of as many bytes"


def events(plan: Plan) -> Iterator[Figure]:
    for prefix, (light, kind, about) in _LOADS.items():
        names = [f"{prefix}_{window}" for window in WINDOWS]
        if prefix == "event":
            names += _LATENCIES
        if not plan.wants(*names):
            continue
        place = plan.machine.place(prefix)
        pier = place / "zod"
        boot(pier, light=light)
        if kind:
            with running(pier) as ship:
                load = _Load(plan, place, pier, ship, kind)
                yield from _event_figures(plan, prefix, load, about)
        else:
            load = _Load(plan, place, pier, None, kind)
            yield from _event_figures(plan, prefix, load, about)
        plan.machine.drop(place)


class _Load:
    """One ship, one bare log beside it, and turns of both."""

    def __init__(
        self, plan: Plan, place: Path, pier: Path, ship: Ship | None, kind: str
    ) -> None:
        self.plan = plan
        self.pier = pier
        self.ship = ship
        self.kind = kind
        self.place = place
        (place / "bare").mkdir()
        self.bare = Lmdb(place / "bare")
        self.row_size = 52

    def events(self, window: int) -> dict[str, Any]:
        seconds = self.plan.seconds
        if self.ship is not None:
            return drive(self.ship, window, seconds, self.kind)
        words = (str(window), f"{seconds}", f"{seconds / 4}")
        return inside(self.pier, "inject", *words)

    def commits(self, window: int) -> tuple[float, list[int]]:
        return self.bare.commits(window, self.row_size, self.plan.seconds / 2)


def _event_figures(
    plan: Plan, prefix: str, load: _Load, about: str
) -> Iterator[Figure]:
    for window in WINDOWS:
        names = [f"{prefix}_{window}"]
        if prefix == "event" and window == 1:
            names += _LATENCIES
        if not plan.wants(*names):
            continue
        runs, floors = pairs(
            plan.runs,
            partial(load.events, window),
            partial(load.commits, window),
        )
        size = load.row_size * window
        synced = append_rate(load.place, size, plan.seconds / 2) * window
        seen = {
            "p50_us": _middle(runs, "p50") / 1e3,
            "p99_us": _middle(runs, "p99") / 1e3,
            "p999_us": _middle(runs, "p999") / 1e3,
            "fdatasync_appends": synced,
            "pipe_echoes": plan.machine.echo_rate(200, 0.1),
        }
        if "batch" in runs[0]:
            seen["events_a_commit"] = _middle(runs, "batch")
        if plan.wants(names[0]):
            yield figure(
                names[0],
                "events/s",
                [run["rate"] for run in runs],
                [rate for rate, _ in floors],
                _COMMIT,
                aim=None if prefix == "key_event" else _EVENT_AIMS.get(window),
                vere=_VERE_EVENTS[window],
                note=f"{window} in flight, {about}",
                seen=tuple(seen.items()),
            )
        for name in names[1:]:
            share = 0.5 if name == "latency_p50" else 0.99
            if plan.wants(name):
                yield figure(
                    name,
                    "us",
                    [run[f"p{int(share * 100)}"] / 1e3 for run in runs],
                    [percentile(laps, share) / 1e3 for _, laps in floors],
                    f"the same percentile of {_COMMIT}",
                    aim=Aim(0.5, of_ratio=True) if share == 0.5 else None,
                    vere=500.0 if share == 0.5 else 900.0,
                    note=f"1 in flight, {about}",
                )


def _middle(runs: list[dict[str, Any]], key: str) -> float:
    return statistics.median([float(run[key]) for run in runs])


# --- replay -------------------------------------------------------------------

_REPLAYS = ("replay", "replay_embedded", "replay_vere")


def replays(plan: Plan) -> Iterator[Figure]:
    count = 20_000 if plan.quick else 200_000
    for name in _REPLAYS:
        if not plan.wants(name):
            continue
        place = plan.machine.place(name)
        if name == "replay_vere":
            with tarfile.open(GOLDEN / "piers/long.tar.gz") as archive:
                archive.extractall(place, filter="data")
            pier, about = place / "long", "a log that Vere wrote"
        else:
            light = name == "replay"
            pier = place / "zod"
            boot(pier, light=light)
            inside(pier, "fill", str(count))
            about = f"{'light' if light else 'embedded'} kernel"
        with_start: list[float] = []

        def measure(pier: Path = pier, times: list[float] = with_start) -> Any:
            begun = time.perf_counter()
            done = treadle("replay", str(pier), "--from-scratch")
            times.append(done["event"] / (time.perf_counter() - begun))
            return done

        log = pier / ".urb/log/0i0"
        runs, floors = pairs(
            plan.runs,
            measure,
            partial(cursor_to_pipe_rate, plan.machine, log),
        )
        yield figure(
            name,
            "events/s",
            [run["events_per_second"] for run in runs],
            floors,
            "a bare LMDB cursor through a bare pipe",
            aim=Aim(100_000),
            vere=110_000.0,
            note=f"{runs[0]['event']:,} events, {about}, every mug compared",
            seen=(("with_start_and_save", statistics.median(with_start)),),
        )
        plan.machine.drop(place)


# --- states: save, restart, memory --------------------------------------------

_STATES = {
    "restart_10mb": (10, None),
    "restart_500mb": (500, Aim(400.0)),
}
_STATE_NAMES = (
    *_STATES,
    "save",
    "save_small",
    "save_stall",
    "serf_start_500mb",
    "memory_per_cell",
)


def states(plan: Plan) -> Iterator[Figure]:
    large = 50 if plan.quick else 500
    saves = plan.wants("save", "save_small", "save_stall", "memory_per_cell")
    if plan.wants("restart_10mb"):
        yield from _state(plan, "restart_10mb", 10, None, saves=False)
    if saves or plan.wants("restart_500mb", "serf_start_500mb"):
        yield from _state(plan, "restart_500mb", large, Aim(400.0), saves=saves)


def _state(
    plan: Plan, name: str, megabytes: int, aim: Aim | None, *, saves: bool
) -> Iterator[Figure]:
    place = plan.machine.place(name)
    pier = place / "zod"
    grown: list[dict[str, Any]] = []
    disk: list[float] = []
    # Only a first save writes all: each run needs a ship of its own.
    for turn in range(min(plan.runs, 3) if saves else 1):
        if turn:
            plan.machine.drop(pier)
        boot(pier)
        grown.append(inside(pier, "grow", str(megabytes * 1_000_000)))
        disk.append(write_s(place, grown[-1]["save"]["bytes"]) if saves else 0.0)
    if saves:
        yield from _save_figures(plan, grown, disk, place)
    size = os.path.getsize(pier / ".urb/chk/treadle.image")
    about = f"a state of {megabytes} MB, image of {size / MB:.0f} MB"
    if plan.wants(name):
        yield restart(plan, name, pier, aim, about)
    if megabytes != 10 and plan.wants("serf_start_500mb"):
        yield _serf_start(plan, pier, about)
    plan.machine.drop(place)


def _save_figures(
    plan: Plan, grown: list[dict[str, Any]], disk: list[float], place: Path
) -> Iterator[Figure]:
    written = grown[0]["save"]["bytes"]
    if plan.wants("save"):
        yield figure(
            "save",
            "ms",
            [run["save"]["seconds"] * 1e3 for run in grown],
            [seconds * 1e3 for seconds in disk],
            "one sequential write and fdatasync of as many bytes",
            note=f"first snapshot, {written / MB:.0f} MB",
            seen=(("serf_ms", grown[-1]["save"]["serf_s"] * 1e3),),
        )
    if plan.wants("save_stall"):
        yield figure(
            "save_stall",
            "ms",
            [run["save_stall_s"] * 1e3 for run in grown],
            [seconds * 1e3 for seconds in disk],
            "one sequential write and fdatasync of as many bytes",
            note="an event that comes while that snapshot is saved",
        )
    if plan.wants("save_small"):
        small = grown[0]["save_small"]["bytes"]
        yield figure(
            "save_small",
            "ms",
            [run["save_small"]["seconds"] * 1e3 for run in grown],
            [3e3 / append_rate(place, max(1, small // 3), 0.3) for _ in grown],
            "three bare fdatasync appends of as many bytes",
            note=f"the next snapshot, 256 events later, {small / MB:.2f} MB",
        )
    if plan.wants("memory_per_cell"):
        yield figure(
            "memory_per_cell",
            "bytes",
            [
                (run["after"]["home_bytes"] - run["before"]["home_bytes"])
                / run["cells"]
                for run in grown
            ],
            [24.0],
            "two references and a mug",
            note=f"{grown[0]['cells']:,} cells in {grown[0]['grow_s']:.2f} s",
        )


def _serf_start(plan: Plan, pier: Path, about: str) -> Figure:
    from king.manifest import read_manifest
    from king.pier import Layout
    from tests.support.serf_rig import SerfProcess

    manifest = read_manifest(Layout(pier).manifest)
    assert manifest is not None

    def measure() -> float:
        begun = time.perf_counter()
        image = Layout(pier).image
        ship = manifest.ship.to_bytes(16, "little")
        with SerfProcess(image, ship=ship, log=manifest.identity) as serf:
            if not serf.ripe().event:
                raise SystemExit("bench: the serf found no state")
            return (time.perf_counter() - begun) * 1e3

    values, floors = pairs(max(plan.runs, 5), measure, lambda: python_start_s() * 1e3)
    return figure(
        "serf_start_500mb",
        "ms",
        values,
        floors,
        "a bare Python",
        note=f"exec of the serf to Ripe, {about}",
    )


def boots(plan: Plan) -> Iterator[Figure]:
    if not plan.wants("boot"):
        return
    place = plan.machine.place("boot")
    number = iter(range(1_000))
    values, floors = pairs(
        max(plan.runs, 3),
        lambda: boot(place / f"zod{next(number)}") * 1e3,
        lambda: python_start_s(*IMPORTS) * 1e3,
    )
    yield figure(
        "boot",
        "ms",
        values,
        floors,
        f"a bare Python with {' '.join(IMPORTS[:5])}",
        vere=250.0,
        note="`treadle boot --no-run`, embedded pill, to a durable pier",
    )
    plan.machine.drop(place)


# --- Nock ---------------------------------------------------------------------

_NOCK = {
    # name: (file, loop in floors.c, iterations, unit, aim, Vere's)
    "decrement": ("dec1e6", "dec", 1_000_000, "ns", Aim(15.0), 97.0),
    "decrement_op2": ("dec1e6-op2", "dec", 1_000_000, "ns", Aim(25.0), 127.0),
    "tree": ("tree20", "tree", (1 << 21) - 1, "ns", Aim(15.6), 78.0),
    "deep": ("deep1e6", "deep", 1_000_000, "ns", Aim(11.4), 57.0),
    "list": ("list1e6", "list", 1_000_000, "ns", Aim(15.0), 88.0),
    "fib": ("fib25", "fib", 1_000, "us", Aim(30.0), 142.0),
    "ack": ("ack35", "ack", 1_000, "us", Aim(19.0), 95.0),
    "edit": ("edit10k", "edit", 1_000, "us", Aim(4.0), 20.0),
}
_NOCK_NOTES = {
    "decrement": "per turn of 9 2 10 [6 4 0 6] 0 1, in registers (counted loop)",
    "decrement_op2": "per turn, through opcode 2",
    "tree": "per call, 2^20 leaves built",
    "deep": "per level, not a tail call",
    "list": "per item of a list of 10^6",
    "fib": "fib(25) with naive dec and add, thousandth part",
    "ack": "ack(3,5) with naive dec, thousandth part",
    "edit": "opcode 10 on the last item of a list of 10,000 (Vere: in place)",
}
_EDIT_LENGTH = 10_000
_EDIT_MUG = "4659a4ca"
_ROUNDS = 4


def nock(plan: Plan) -> Iterator[Figure]:
    """Each run is a process; the figure is its best round on memory that was
    touched before, as Vere's is. `seen` has the first round."""
    expect = json.loads((GOLDEN / "bench/expect.json").read_text())["cases"]
    for name, (file, loop, turns, unit, aim, vere) in _NOCK.items():
        if not plan.wants(name):
            continue
        scale = (1e9 if unit == "ns" else 1e6) / turns
        path = GOLDEN / f"bench/{file}.jam"
        mug = expect[file]["mug"] if file in expect else _EDIT_MUG
        if name == "edit":
            path = plan.machine.folder / f"{file}.jam"
            plan.machine.write_noun("edit", _EDIT_LENGTH, path)
        firsts: list[float] = []

        def measure(
            path: Path = path,
            scale: float = scale,
            mug: str = mug,
            firsts: list[float] = firsts,
        ) -> float:
            done = alone("nock", str(path), str(_ROUNDS))
            if done["mug"] != mug:
                raise SystemExit(f"bench: {path}: wrong product, mug {done['mug']}")
            first, *others = (seconds * scale for seconds in done["seconds"])
            firsts.append(first)
            return min(others)

        def floor(loop: str = loop, scale: float = scale) -> float:
            return plan.machine.c_loop_s(loop) * scale

        values, floors = pairs(max(plan.runs, 5), measure, floor)
        yield figure(
            name,
            unit,
            values,
            floors,
            "the same in C, allocating and touching as many cells",
            aim=aim,
            vere=vere,
            note=f"{_NOCK_NOTES[name]}, no jets",
            seen=(("first_round", statistics.median(firsts)),),
        )


# --- the serf's core alone -----------------------------------------------------


def cores(plan: Plan) -> Iterator[Figure]:
    if plan.wants("poke_memory"):
        count = 4_096 if plan.quick else 40_960

        def measure() -> float:
            done = alone("poke", str(count), str(_ROUNDS))
            return count / min(done["seconds"][1:])

        def floor() -> float:
            command = [str(plan.machine.serial), "small", str(count), "1"]
            out = subprocess.run(command, check=True, capture_output=True, text=True)
            cue = int(out.stdout.splitlines()[1].split()[1])
            return count / cue * 1e9

        values, floors = pairs(max(plan.runs, 3), measure, floor)
        yield figure(
            "poke_memory",
            "events/s",
            values,
            floors,
            "cue of as many small ova",
            aim=Aim(500_000),
            vere=125_000.0,
            note="small events, light kernel, Python's calls of the core included",
        )
    if plan.wants("collect_pause"):
        cells = 1_000_000 if plan.quick else 16_000_000
        command = [str(plan.machine.collect), str(cells), "3"]
        runs: list[list[int]] = []
        for _ in range(max(plan.runs, 3)):
            out = subprocess.run(command, check=True, capture_output=True, text=True)
            runs.append([int(word) for word in out.stdout.split()])
        steps, p50, p99, most, wall, event = zip(*runs, strict=True)
        yield figure(
            "collect_pause",
            "us",
            [time / 1e3 for time in most],
            [time / 1e3 for time in event],
            "an event that replaces as many cells as a leaf has",
            aim=Aim(1_000.0),
            note=f"longest step of home's collector on the event thread's own "
            f"clock, {cells:,} cells alive",
            seen=(
                ("steps", statistics.median(steps)),
                ("p50_us", statistics.median(p50) / 1e3),
                ("p99_us", statistics.median(p99) / 1e3),
                ("longest_by_the_wall_us", max(wall) / 1e3),
            ),
        )


# --- jam, cue, mug --------------------------------------------------------------

_SERIAL = {
    # suffix: (noun in serial.c, count, words, Vere's jam, cue in MB/s, how many
    # times as fast we are to be)
    "": ("tree", 1_000_000, "a balanced tree of 10^6 distinct leaves", 3.8, 5.5, 5),
    "_list": ("list", 1_000_000, "the list 0..999999", 3.9, 7.0, 5),
    "_atom": ("atom", 10_000_000, "an atom of 10 MB", 14_000.0, 20_000.0, 1),
    "_small": ("small", 10_000, "ova of some 40 bytes, one by one", 49.0, 27.0, 2),
}
_SERIAL_NAMES = tuple(
    f"{verb}{suffix}" for suffix in _SERIAL for verb in ("jam", "cue")
)


_MUGS = {"": ("mug",), "_atom": ("mug_atom",)}


def serial(plan: Plan) -> Iterator[Figure]:
    for suffix, (what, count, about, vere_jam, vere_cue, times_as) in _SERIAL.items():
        if not plan.wants(f"jam{suffix}", f"cue{suffix}", *_MUGS.get(suffix, ())):
            continue
        rounds = max(plan.runs, 5)
        out = subprocess.run(
            [str(plan.machine.serial), what, str(count), str(rounds)],
            check=True,
            capture_output=True,
            text=True,
        )
        head, *lines = out.stdout.splitlines()
        data, cells = map(int, head.split())
        jam, cue, mug, allocate, walk, copy = zip(
            *(map(int, line.split()) for line in lines), strict=True
        )
        # Cue must make the cells, jam must visit them; both move the bytes.
        floors = {"jam": _sum(walk, copy), "cue": _sum(allocate, copy)}
        words = {
            "jam": "a C loop over as many cells, and memcpy",
            "cue": "a C loop that allocates as many cells, and memcpy",
        }
        for verb, times, vere in (("jam", jam, vere_jam), ("cue", cue, vere_cue)):
            if plan.wants(f"{verb}{suffix}"):
                yield figure(
                    f"{verb}{suffix}",
                    "MB/s",
                    [data / time * 1e3 for time in times],
                    [data / time * 1e3 for time in floors[verb]],
                    words[verb],
                    aim=Aim(vere * times_as),
                    vere=vere,
                    note=f"{about}, {data / MB:.2f} MB",
                    seen=(
                        (("ns_a_cell", statistics.median(times) / cells),)
                        if cells > 0
                        else ()
                    ),
                )
        if not suffix and plan.wants("mug"):
            yield figure(
                "mug",
                "ns",
                [time / cells for time in mug],
                [time / cells for time in walk],
                "a C loop over as many cells",
                vere=20.0,
                note=f"per cell, {about}",
            )
        if suffix == "_atom" and plan.wants("mug_atom"):
            yield figure(
                "mug_atom",
                "MB/s",
                [data / time * 1e3 for time in mug],
                [data / time * 1e3 for time in copy],
                "memcpy",
                aim=Aim(3_000.0),
                vere=3_800.0,
                note=about,
            )


def write_inputs(machine: Machine, folder: Path) -> list[Path]:
    """What Nock and jam are measured with, as files for another Nock."""
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for path in sorted((GOLDEN / "bench").glob("*.jam")):
        written.append(Path(shutil.copy(path, folder)))
    nouns = {f"data-{what}": (what, count) for what, count, *_ in _SERIAL.values()}
    nouns["edit10k"] = ("edit", _EDIT_LENGTH)
    for name, (what, count) in nouns.items():
        written.append(folder / f"{name}.jam")
        machine.write_noun(what, count, written[-1])
    return written


def _sum(*times: tuple[int, ...]) -> list[int]:
    return [sum(each) for each in zip(*times, strict=True)]


# --- the house ------------------------------------------------------------------

ROOMS: dict[Room, tuple[str, ...]] = {
    events: (
        *(f"{prefix}_{window}" for prefix in _LOADS for window in WINDOWS),
        *_LATENCIES,
    ),
    replays: _REPLAYS,
    states: _STATE_NAMES,
    large: LARGE,
    boots: ("boot",),
    nock: tuple(_NOCK),
    cores: ("poke_memory", "collect_pause"),
    serial: (*_SERIAL_NAMES, "mug", "mug_atom"),
    compiles: tuple(COMPILES),
    programs: tuple(PROGRAMS),
}
NAMES = tuple(name for names in ROOMS.values() for name in names)
BY_HAND = frozenset(LARGE)
"""Measured only where they are asked for."""
