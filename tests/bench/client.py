"""A client of conn.sock that costs little: frames made beforehand, replies
compared as bytes.

    python -m tests.bench.client SOCKET WINDOW SECONDS WARM KIND

Keeps WINDOW ova in flight for SECONDS, after WARM seconds that do not count.
Prints JSON: events, seconds, latencies in nanoseconds (p50 p99 p999 max).
KIND: `nothing` (an ovum that the kernel only counts) or `key` (a keystroke).
Every reply must be [rid %news %done]: anything else ends it with a message.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from collections import deque

from proto.jam import jam
from proto.noun import noun
from tests.bench.figure import percentile

__all__ = ["ask_one", "frame", "ovum_frame", "summary"]

_RID = 7
_FRAMES = 4_096
_DONE = jam(noun(_RID, "news", "done"))


def frame(body: bytes) -> bytes:
    return b"\0" + len(body).to_bytes(4, "little") + body


def ovum_frame(kind: str, number: int) -> bytes:
    """A request for one event; `number` keeps them apart."""
    if kind == "key":
        # A letter, then back again: the line stays short.
        key = ("bac", 0) if number % 2 else 97 + number % 26
        request = noun(_RID, "ovum", "d", ["term", "1"], "belt", key)
    else:
        request = noun(_RID, "ovum", 0, ["bench"], "nothing", number)
    return frame(jam(request))


_REPLY = frame(_DONE)


def ask_one(stream: socket.socket, number: int = 1) -> None:
    """One event, acknowledged."""
    stream.sendall(ovum_frame("nothing", number))
    data = b""
    while len(data) < len(_REPLY):
        part = stream.recv(1 << 16)
        if not part:
            raise EOFError("the ship hung up")
        data += part
    if data != _REPLY:
        raise ValueError(f"not done: {data.hex()}")


def summary(count: int, seconds: float, laps: list[int]) -> dict[str, float]:
    return {
        "events": count,
        "seconds": seconds,
        "rate": count / seconds,
        "p50": percentile(laps, 0.5),
        "p99": percentile(laps, 0.99),
        "p999": percentile(laps, 0.999),
        "max": max(laps),
    }


def main(words: list[str]) -> int:
    path, window, seconds, warm, kind = words
    frames = [ovum_frame(kind, number) for number in range(_FRAMES)]
    doubled = frames + frames
    # Any run of neighbouring frames is a slice of these bytes.
    stream_bytes = b"".join(doubled)
    starts = [0]
    for each in doubled:
        starts.append(starts[-1] + len(each))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
        stream.connect(path)
        stream.settimeout(60)
        keep = _Window(stream, int(window), memoryview(stream_bytes), starts)
        keep.run(float(warm))
        keep.laps.clear()
        before = keep.answered
        begun = time.perf_counter()
        keep.run(float(seconds))
        passed = time.perf_counter() - begun
        count = keep.answered - before
        keep.drain()
    print(json.dumps(summary(count, passed, keep.laps)))
    return 0


class _Window:
    """So many requests in flight, always."""

    def __init__(
        self, stream: socket.socket, size: int, data: memoryview, starts: list[int]
    ) -> None:
        self.stream = stream
        self.size = size
        self.data = data
        self.starts = starts
        self.sent: deque[list[int]] = deque()  # [count, when], oldest first
        self.answered = 0
        self.in_flight = 0
        self.laps: list[int] = []
        self._at = 0
        self._rest = b""

    def run(self, seconds: float) -> None:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            if self.in_flight < self.size:
                self._send(self.size - self.in_flight)
            self._receive()

    def drain(self) -> None:
        while self.in_flight:
            self._receive()

    def _send(self, count: int) -> None:
        at = self._at
        piece = self.data[self.starts[at] : self.starts[at + count]]
        self._at = (at + count) % _FRAMES
        self.sent.append([count, time.perf_counter_ns()])
        self.in_flight += count
        self.stream.sendall(piece)

    def _receive(self) -> None:
        data = self._rest + self.stream.recv(1 << 20)
        now = time.perf_counter_ns()
        count, rest = divmod(len(data), len(_REPLY))
        if data[: count * len(_REPLY)] != _REPLY * count or not data:
            raise SystemExit(f"client: not done: {data[:200].hex()}")
        self._rest = data[len(data) - rest :]
        self.answered += count
        self.in_flight -= count
        while count:
            oldest = self.sent[0]
            taken = min(count, oldest[0])
            self.laps += [now - oldest[1]] * taken
            oldest[0] -= taken
            count -= taken
            if not oldest[0]:
                self.sent.popleft()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
