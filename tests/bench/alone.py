"""One machine without a pipe, on the clock of its thread.

    python -m tests.bench.alone nock JAM ROUNDS     [subject formula], no jets
    python -m tests.bench.alone poke COUNT ROUNDS   small events, light kernel

Prints JSON: seconds, one number a round, the first on memory that nobody has
touched yet; and for `nock` the product's mug.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from proto.message import Work
from serf.engine import Crashed, Engine
from tests.support.serf_rig import job, pill_rows

FRAME = 256


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
        case _:
            raise SystemExit(__doc__)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
