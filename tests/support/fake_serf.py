"""A serf in pure Python that speaks the protocol and misbehaves on command.

Its "kernel" is a number: mug' = murmur of (mug, job). It answers each Work
with one effect `[/fake %echo event]`. The tag of an ovum commands it:

  %boom   bails; nothing changed
  %swap   replaces the job, as a %crud event
  %die    SIGKILLs itself, each time; %die1 once (a file remembers), %die2
          twice
  %exit   exits with code 3 after words on stderr
  %hang   spins until interrupted (then bails %intr); %deaf ignores even that
  %flood  prints 10,000 slogs first
  %lie-number %lie-request %lie-mug %lie-kind %garbage  as they say
  %slow   sleeps 20 ms

Its image is a JSON file, replaced atomically. `--verify` is honoured by being
noted in the image's neighbour `verified`. Environment: FAKE_SERF_RIPE=silent
(never speaks), wrong-ship, wrong-log, wrong-protocol, future, wide-mug;
FAKE_SERF_SKEW=N makes replay
diverge at event N; FAKE_SERF_PLAY_DIE=N dies replaying event N.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import signal
import sys
import time
import zlib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from proto.codec import WritReader, pack_pleas
from proto.cord import cord_text
from proto.jam import cue, jam
from proto.message import (
    PROTOCOL,
    Bail,
    Done,
    Effect,
    Exit,
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
    Save,
    Saved,
    Slog,
    Stuck,
    Work,
    Writ,
)
from proto.noun import Cell

NULL = jam(0)
LOUD = jam(1 << (8 << 20))
"""A megabyte."""


def step(mug: int, job: bytes) -> int:
    """The fake kernel."""
    return zlib.crc32(job, mug) & 0x7FFFFFFF


class Serf:
    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.image = Path(args.image)
        self.event = 0
        self.mug = 0
        self.fell_back = 0
        self.generation = 0
        self.out: list[Plea] = []
        self.word = mmap.mmap(args.interrupt, mmap.PAGESIZE)
        self.skew = int(os.environ.get("FAKE_SERF_SKEW", "0"))
        self.play_die = int(os.environ.get("FAKE_SERF_PLAY_DIE", "0"))
        if args.verify:
            self.image.with_name("verified").write_text("yes")
        try:
            state = json.loads(self.image.read_text())
            self.event, self.mug = state["event"], state["mug"]
            self.generation = state["generation"]
        except FileNotFoundError:
            pass

    def flush(self) -> None:
        if not self.out:
            return
        data = memoryview(pack_pleas(self.out))
        self.out = []
        while data:
            data = data[os.write(self.args.write, data) :]

    def interrupted(self, request: int) -> bool:
        return int.from_bytes(self.word[:4], "little") == request

    def work(self, writ: Work) -> None:
        tag = ""
        if writ.job != b"" and len(writ.job) < 4096 and not self.args.fast:
            tag = self.tag(writ.job)
        request = writ.request
        event, mug, job = self.event + 1, step(self.mug, writ.job), None
        if tag:
            if tag in ("boom", "hang", "deaf"):
                mote = "exit" if tag == "boom" else self.hang(tag, request)
                self.out.append(Bail(request, (Goof(mote, NULL), Goof(mote, NULL))))
                return
            if tag == "swap":
                job = self.crud(writ.job)
                mug = step(self.mug, job)
            self.misbehave(tag)
            if tag == "lie-number":
                event += 1
            elif tag == "lie-request":
                request += 7
            elif tag == "lie-mug":
                mug = 1 << 31
            elif tag == "lie-kind":
                self.out.append(Packed(request, 0, 0))
                return
        self.event, self.mug = self.event + 1, mug & 0x7FFFFFFF
        data = LOUD if tag == "loud" else jam(event)
        effect = Effect((b"fake",), b"echo", data)
        self.out.append(Done(request, event, mug, (effect,), job))
        if tag == "loud":
            self.flush()

    def tag(self, job: bytes) -> str:
        noun = cue(job)
        if isinstance(noun, Cell) and isinstance(noun.tail, Cell):
            card = noun.tail.tail
            if isinstance(card, Cell) and isinstance(card.head, int):
                return cord_text(card.head)
        return ""

    def crud(self, job: bytes) -> Jam:
        noun = cue(job)
        assert isinstance(noun, Cell)
        return jam(Cell(noun.head, Cell(Cell(0, 0), Cell(1685418595, 0))))

    def hang(self, tag: str, request: int) -> str:
        self.flush()
        if tag == "deaf":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while tag == "deaf" or not self.interrupted(request):
            time.sleep(0.005)
        self.word[:4] = bytes(4)
        return "intr"

    def misbehave(self, tag: str) -> None:
        if tag == "slow":
            time.sleep(0.02)
        elif tag == "flood":
            for _ in range(10_000):
                self.out.append(Slog(0, self.event, NULL))
        elif tag == "exit":
            print("the fake serf leaves on command", file=sys.stderr, flush=True)
            os._exit(3)
        elif tag == "garbage":
            os.write(self.args.write, b"\x05\0\0\0hello")
        elif tag.startswith("die"):
            times = int(tag[3:] or "1000000")
            memory = self.image.with_name(f"{tag}.count")
            count = int(memory.read_text()) if memory.exists() else 0
            if count < times:
                memory.write_text(str(count + 1))
                self.flush()
                os.kill(os.getpid(), signal.SIGKILL)

    def play(self, writ: Play) -> None:
        if self.event + 1 != writ.first:
            os._exit(4)
        for number, row in enumerate(writ.rows, writ.first):
            if number == self.play_die:
                os.kill(os.getpid(), signal.SIGKILL)
            mug = step(self.mug, row.job)
            if number == self.skew:
                mug ^= 1
            if row.mug and row.mug != mug:
                self.out.append(Stuck(writ.request, number, row.mug, mug, None))
                return
            self.event, self.mug = number, mug
        self.out.append(Played(writ.request, self.event, self.mug))

    def save(self, writ: Save) -> None:
        if writ.event != self.event:
            self.out.append(Bail(writ.request, (Goof("fail", NULL),)))
            return
        self.generation += 1
        state = {"event": self.event, "mug": self.mug, "generation": self.generation}
        temporary = self.image.with_suffix(".new")
        temporary.write_text(json.dumps(state))
        temporary.replace(self.image)
        self.out.append(
            Saved(writ.request, self.event, self.mug, self.generation, 1, 64, 10)
        )

    def hear(self, writ: Writ) -> None:
        if isinstance(writ, Work):
            self.work(writ)
        elif isinstance(writ, Play):
            self.play(writ)
        elif isinstance(writ, Save):
            self.save(writ)
        elif isinstance(writ, Peek):
            if writ.sample == jam(0xDEAD):
                os.kill(os.getpid(), signal.SIGKILL)
            if writ.sample == NULL:
                self.out.append(Bail(writ.request, (Goof("exit", NULL),)))
            else:
                self.out.append(Peeked(writ.request, jam(self.event)))
        elif isinstance(writ, Pack):
            self.out.append(Packed(writ.request, 2, 1))
        elif isinstance(writ, Hash):
            self.out.append(
                Hashed(writ.request, self.event, self.mug.to_bytes(32, "little"))
            )
        elif isinstance(writ, Gauge):
            self.out.append(Gauged(writ.request, (("home_bytes", 1 << 20),)))
        elif isinstance(writ, Exit):
            self.flush()
            os._exit(writ.code)

    def run(self) -> None:
        mode = os.environ.get("FAKE_SERF_RIPE", "")
        if mode == "silent":
            time.sleep(600)
        ship = bytes.fromhex(self.args.ship)
        self.out.append(
            Ripe(
                PROTOCOL + (mode == "wrong-protocol"),
                "fake-serf",
                bytes(16) if mode == "wrong-ship" else ship,
                bytes(16) if mode == "wrong-log" else bytes.fromhex(self.args.log),
                self.event + (mode == "future"),
                self.mug | (mode == "wide-mug") << 31,
                self.generation,
                self.fell_back,
                "",
            )
        )
        self.flush()
        reader = WritReader()
        while True:
            data = os.read(self.args.read, 1 << 20)
            if not data:
                os._exit(0)
            for writ in reader.feed(data):
                self.hear(writ)
            self.flush()


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("--read", "--write", "--interrupt", "--lock"):
        parser.add_argument(name, type=int)
    parser.add_argument("--event-max", type=int, default=0)
    for name in ("--image", "--ship", "--log"):
        parser.add_argument(name, required=True)
    parser.add_argument("--verify", action="store_true")
    parser.add_argument("--fast", action="store_true", help="never look at tags")
    args, _ = parser.parse_known_args()
    Serf(args).run()


if __name__ == "__main__":
    main()
