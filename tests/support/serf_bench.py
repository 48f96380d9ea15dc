"""How fast the serf is, alone: `python -m tests.support.serf_bench [--json]`.

Each figure stands beside a floor of the same run: what the same bytes cost
without the part that is measured.

  start    spawn to Ripe          floor: a Python that does nothing
  poke     small events over the pipe, 256 a frame; the king's side is encoded
           beforehand and decoded afterwards
                                  floor: the codec alone, both ways
  engine   the same without pipe and codec
  play     Vere's `long` log, 1,024 rows a frame
                                  floor: the codec alone
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from proto.codec import PleaReader, WritReader, pack_pleas, pack_writs
from proto.message import Done, Gauge, Play, Played, Work, Writ
from serf.engine import Engine
from tests.support.serf_rig import SerfProcess, job, pill_rows, vere_log

EVENTS = 20_000
FRAME = 256


def best(measure: Callable[[], float], rounds: int = 3) -> float:
    return min(measure() for _ in range(rounds))


def start_seconds() -> tuple[float, float]:
    def serf() -> float:
        with tempfile.TemporaryDirectory() as folder:
            begun = time.perf_counter()
            with SerfProcess(Path(folder) / "image") as process:
                process.ripe()
                return time.perf_counter() - begun

    def nothing() -> float:
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-c", ""], check=True)
        return time.perf_counter() - begun

    return best(serf, 8), best(nothing, 8)


def works() -> list[Work]:
    return [
        Work(n, 0, job((1 << 64) + n, ["d", "term", "1"], "belt", n))
        for n in range(EVENTS)
    ]


def frames_of(writs: list[Writ]) -> list[bytes]:
    return [pack_writs(writs[at : at + FRAME]) for at in range(0, len(writs), FRAME)]


def pump(process: SerfProcess, frames: list[bytes]) -> bytes:
    """Write all, read as it comes, until all Works are answered: the count of
    answers is not known without decoding, so wait for a last Gauge."""
    data = memoryview(b"".join(frames))
    heard = bytearray()
    os.set_blocking(process.write_fd, False)
    try:
        while True:
            writers = [process.write_fd] if data else []
            ready, room, _ = select.select([process.read_fd], writers, [], 60)
            if room:
                with contextlib.suppress(BlockingIOError):
                    data = data[os.write(process.write_fd, data[: 1 << 16]) :]
            if ready:
                heard += os.read(process.read_fd, 1 << 20)
                if heard[-4096:].find(b"gauged") >= 0:
                    return bytes(heard)
    finally:
        os.set_blocking(process.write_fd, True)


def poke_rate(pill: str) -> tuple[float, float, float]:
    """(over the pipe, codec alone, engine alone), events a second."""
    boot = pill_rows(pill)
    writs: list[Writ] = [*works()]
    frames = [*frames_of(writs), pack_writs([Gauge(1 << 30)])]
    with (
        tempfile.TemporaryDirectory() as folder,
        SerfProcess(Path(folder) / "image") as process,
    ):
        process.ripe()
        assert isinstance(process.ask(Play(0, 1, len(boot), boot)), Played)
        begun = time.perf_counter()
        heard = pump(process, frames)
        piped = time.perf_counter() - begun
    pleas = PleaReader().feed(heard)
    done = [plea for plea in pleas if isinstance(plea, Done)]
    assert len(done) == EVENTS

    def codec() -> float:
        begun = time.perf_counter()
        reader = WritReader()
        for at, frame in enumerate(frames[:-1]):
            reader.feed(frame)
            pack_pleas(done[at * FRAME : (at + 1) * FRAME])
        return time.perf_counter() - begun

    engine = Engine()
    assert engine.play(len(boot), boot) is None
    begun = time.perf_counter()
    for at in range(0, EVENTS, FRAME):
        for _ in engine.work(writs[at : at + FRAME]):
            pass
    alone = time.perf_counter() - begun
    return EVENTS / piped, EVENTS / best(codec), EVENTS / alone


def play_rate() -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        rows = vere_log("long", Path(folder))
        writs = [
            Play(at, at + 1, 2, tuple(rows[at : at + 1024]))
            for at in range(0, len(rows), 1024)
        ]
        frames = [pack_writs([writ]) for writ in writs]

        def codec() -> float:
            begun = time.perf_counter()
            reader = WritReader()
            for frame in frames:
                reader.feed(frame)
            return time.perf_counter() - begun

        def serf() -> float:
            with SerfProcess(Path(folder) / f"image{time.monotonic_ns()}") as process:
                process.ripe()
                begun = time.perf_counter()
                for frame in frames:
                    process.send_raw(frame)
                for _ in frames:
                    assert isinstance(process.hear(), Played)
                return time.perf_counter() - begun

        return len(rows) / best(serf), len(rows) / best(codec)


def main() -> None:
    started, floor = start_seconds()
    rows = [("start", started * 1000, "ms", floor * 1000)]
    for pill in ("light", "counter"):
        piped, codec, engine = poke_rate(pill)
        rows.append((f"poke_{pill}", piped, "events/s", codec))
        rows.append((f"engine_{pill}", engine, "events/s", codec))
    played, codec = play_rate()
    rows.append(("play", played, "events/s", codec))
    for name, value, unit, floor in rows:
        ratio = floor / value if unit == "ms" else value / floor
        row = {"name": name, "value": value, "unit": unit, "floor": floor}
        if "--json" in sys.argv:
            print(json.dumps({**row, "ratio": ratio}))
        else:
            print(f"{name:16} {value:12.1f} {unit:9} floor {floor:12.1f}  {ratio:.2f}")


if __name__ == "__main__":
    main()
