"""One machine without a pipe, on the clock of its thread.

    python -m tests.bench.alone nock JAM ROUNDS     [subject formula], no jets
    python -m tests.bench.alone poke COUNT ROUNDS   small events, light kernel
    python -m tests.bench.alone save IMAGE BYTES    events beside a save

Prints JSON: seconds, one number a round, the first on memory that nobody has
touched yet; and for `nock` the product's mug. `save` goes on from the image of a
ship with the embedded kernel, grows it by BYTES, and gives, by the wall's clock,
how long the event thread needed to begin the save and to end it, and what small
events took before it and meanwhile.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from proto.message import Done, Work
from proto.noun import listed, noun
from serf.engine import Crashed, Engine
from tests.bench.client import summary
from tests.support.serf_rig import LOG, SHIP, job, pill_rows

FRAME = 256
_CELL = 24
_CELLS_AT_ONCE = 4_000_000
_PAGE = 16_384
_IDLE_EVENTS = 20_000
_SMALL = (("", "bench"), "nothing", 0)


def nock(path: Path, rounds: int) -> dict[str, Any]:
    engine = Engine()
    data = path.read_bytes()
    seconds: list[float] = []
    mugs: set[int] = set()
    for _ in range(rounds):
        done = engine.nock(data, False)
        if isinstance(done, Crashed):
            raise SystemExit(f"alone: {path}: crashed with %{done.mote}")
        seconds.append(done.thread_seconds)
        mugs.add(done.mug)
    (mug,) = mugs
    return {"seconds": seconds, "mug": f"{mug:08x}"}


def poke(count: int, rounds: int) -> dict[str, Any]:
    engine = Engine()
    boot = pill_rows("light")
    assert engine.play(len(boot), boot) is None
    seconds: list[float] = []
    for turn in range(rounds):
        frames = list(_frames(turn * count, count))
        begun = time.thread_time()
        for frame in frames:
            for _ in engine.work(frame):
                pass
        seconds.append(time.thread_time() - begun)
    return {"seconds": seconds}


def save(image: Path, size: int) -> dict[str, Any]:
    engine = Engine()
    engine.open_image(str(image))
    if not engine.load(1 << 40, True, SHIP, LOG).good:
        raise SystemExit(f"alone: {image}: no state")
    for begin in range(0, size // _CELL, _CELLS_AT_ONCE):
        cells = min(_CELLS_AT_ONCE, size // _CELL - begin)
        text = listed([*b"grow %d" % cells])
        line = noun("base", "line", "wain", "tape", text)
        _timed(engine, [["k", "khan", "bench"], "fyrd", line])
    dirty = dict(engine.gauges())["home_dirty_pages"] * _PAGE
    idle = [_timed(engine, _SMALL) for _ in range(_IDLE_EVENTS)]
    wake = os.eventfd(0, os.EFD_CLOEXEC)
    begun = time.perf_counter()
    engine.begin_save(wake)
    begin_s = time.perf_counter() - begun
    during: list[int] = []
    while not engine.save_is_done():
        during.append(_timed(engine, _SMALL))
    save_s = time.perf_counter() - begun
    ending = time.perf_counter()
    engine.end_save()
    end_s = time.perf_counter() - ending
    return {
        "dirty": dirty,
        "begin_s": begin_s,
        "end_s": end_s,
        "idle": summary(len(idle), sum(idle) / 1e9, idle),
        "during": summary(len(during), save_s, during),
    }


def _timed(engine: Engine, event: Sequence[Any]) -> int:
    """Nanoseconds of one event; whatever it is, it must go well."""
    number = engine.event + 1
    work = Work(number, 0, job((1 << 64) + number, *event))
    begun = time.perf_counter_ns()
    pleas = [plea for batch in engine.work([work]) for plea in batch]
    passed = time.perf_counter_ns() - begun
    if not isinstance(pleas[-1], Done):
        raise SystemExit(f"alone: an event failed: {pleas}")
    return passed


def _frames(first: int, count: int) -> Iterator[list[Work]]:
    for at in range(first, first + count, FRAME):
        yield [
            Work(n, 0, job((1 << 64) + n, ["d", "term", "1"], "belt", n))
            for n in range(at, min(at + FRAME, first + count))
        ]


def main(words: list[str]) -> int:
    match words:
        case ["nock", path, rounds]:
            print(json.dumps(nock(Path(path), int(rounds))))
        case ["poke", count, rounds]:
            print(json.dumps(poke(int(count), int(rounds))))
        case ["save", image, size]:
            print(json.dumps(save(Path(image), int(size))))
        case _:
            raise SystemExit(__doc__)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
