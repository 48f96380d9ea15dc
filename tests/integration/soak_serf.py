"""A serf over a million mixed events: bounded memory, no long pause.

    scripts/soak-serf [--events N] [--home MIB] [--seed N]

Runs the C core in this process on a kernel whose state is what it was last
given: small states, long lists, large atoms, states that keep their past for a
while, events that crash (so that their %crud follows), peeks, saves and packs.
Prints a line now and then; fails where home or this process outgrows its
bounds, or where the state is not what was given.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from pathlib import Path

from proto.jam import cue, jam
from proto.message import Done, Jam, Plea, Work
from proto.mug import mug
from proto.noun import Cell, Noun, listed, noun, slot
from serf.engine import Engine
from tests.support.serf_rig import boot_row, core, job

# The data is [crash? keep? value]: the state becomes value, or [value state].
DATA = 55
POKE = noun(
    (1, 0),
    6,
    (0, DATA * 2),
    (0, 0),
    10,
    (3, 6, (0, (DATA * 2 + 1) * 2), (noun(0, DATA * 4 + 3), 0, 15), 0, DATA * 4 + 3),
    0,
    7,
)
PEEK = noun((1, 0), 0, 15)
BATCH = 64
SAVE_EVERY = 150 * BATCH
PACK_EVERY = 1024 * BATCH
LOOK_EVERY = 64 * BATCH
TELL_EVERY = 512 * BATCH
PAST_MAX = 200
SHOWN = (
    "home_bytes",
    "home_percent",
    "home_collections",
    "collect_step_us_p50",
    "collect_step_us_p99",
    "collect_step_us_max",
    "collect_waits",
)


class Ship:
    """The jobs to come, and the state that they lead to."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.state: Noun = 0
        self._past = 0
        self._now = 1 << 64

    def next_job(self) -> Jam:
        """A job; `state` is what it leads to."""
        draw = self._random
        self._now += 1 << 48
        crash = draw.random() < 0.02
        keep = self._past < PAST_MAX and draw.random() < 0.9
        data = noun(0 if crash else 1, 0 if keep else 1, self._value())
        value = slot(data, 7)
        if not crash:
            self.state = noun(value, self.state) if keep else value
            self._past = self._past + 1 if keep else 0
        return job(self._now, ["soak"], "give", data)

    def _value(self) -> Noun:
        draw = self._random
        kind = draw.random()
        if kind < 0.80:
            return draw.getrandbits(draw.randrange(1, 400))
        if kind < 0.98:
            return listed([draw.getrandbits(40) for _ in range(draw.randrange(60))])
        if kind < 0.999:
            return draw.getrandbits(8 * draw.randrange(1000, 20_000))
        return draw.getrandbits(8 * draw.randrange(100_000, 1_000_000))


def resident_mib() -> float:
    """What this process has in memory, image mappings included."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / (1 << 20)


def main() -> int:
    """0 where all went well."""
    parser = argparse.ArgumentParser(prog="scripts/soak-serf", description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--home", type=int, default=256, help="MiB")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        soak(Ship(options.seed), options.events, options.home, f"{folder}/image")
    return 0


def soak(ship: Ship, events: int, home_mib: int, image: str) -> None:
    """Feed the events; look at the state and the gauges.

    :raises AssertionError: where either is wrong.
    """
    engine = Engine(home_mib << 20, 64 << 20)
    engine.open_image(image)
    engine.load(0, False, bytes(16), bytes(16))
    assert engine.play(1, [boot_row(core(POKE, 0, peek=PEEK))]) is None
    wake_fd = os.eventfd(0)  # told of each save's end, which we ask for instead
    start = time.monotonic()
    early = peak = 0.0
    done = cruds = 0
    is_saving = False
    while done < events:
        works = [Work(done + n, 0, ship.next_job()) for n in range(1, BATCH + 1)]
        answers: list[Plea] = [plea for many in engine.work(works) for plea in many]
        cruds += sum(not isinstance(answer, Done) for answer in answers)
        done += BATCH
        if is_saving and engine.save_is_done():
            engine.end_save()
            is_saving = False
        if done % SAVE_EVERY == 0 and not is_saving:
            engine.begin_save(wake_fd)
            is_saving = True
        if done % PACK_EVERY == 0:
            engine.pack()
        if done % LOOK_EVERY == 0:
            assert cue(engine.peek(jam(0), 0)) == Cell(0, ship.state)
            kernel = core(POKE, ship.state, peek=PEEK)
            assert engine.mug == mug(kernel), "the state is not what was given"
            peak = max(peak, resident_mib())
            if done <= max(LOOK_EVERY, events // 5):
                early = peak
        if done % TELL_EVERY == 0 or done >= events:
            gauges = dict(engine.gauges())
            print(
                f"{done} events, {time.monotonic() - start:.0f} s, "
                f"resident {resident_mib():.0f} MiB (at most {peak:.0f}), "
                f"{cruds} refused;",
                *(f"{name}={gauges[name]}" for name in SHOWN),
                flush=True,
            )
            assert gauges["home_percent"] <= 100
    if is_saving:
        engine.end_save()
    os.close(wake_fd)
    assert peak < 2 * early + 64, f"memory grows: {early:.0f} to {peak:.0f} MiB"


if __name__ == "__main__":
    sys.exit(main())
