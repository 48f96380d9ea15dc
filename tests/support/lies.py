"""What a hostile serf says instead of an answer, by name; and serfs that do.

    python lies.py --read FD --write FD ...                  the fake serf
    python -m tests.support.lies --read FD --write FD ...    the real one

An event whose data is the name of a lie (a cord) is answered with it: LIES has
those that a king must not believe, STRANGE those that are within the grammar,
and must do no harm. All else is answered as it should be. The fake serf tells a lie
once (a file beside its image remembers), unless FAKE_SERF_INSISTS is set.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import msgpack

from proto.codec import pack_pleas
from proto.cord import cord_text
from proto.errors import CueError
from proto.frame import frame
from proto.jam import cue, jam
from proto.message import (
    PROTOCOL,
    Done,
    Effect,
    Flog,
    Gauged,
    Jam,
    Packed,
    Peeked,
    Played,
    Ripe,
    Saved,
    Slog,
    Stuck,
    Work,
)
from proto.noun import Cell, Noun, noun

NO_JAM = Jam(b"\xff" * 9)
ESCAPES = "\x1b]0;stolen\x07\x1b[2J\x1b[31m\x9b1mred\r\n\x08"
EMPTY = jam(0)


def _raw(*values: Any) -> bytes:
    """Any msgpack as a frame of one message."""
    return frame(msgpack.packb([list(values)], use_bin_type=True))


BOMB = b"\x9f" + b"\x90" * 15
"""Sixteen bytes that take a kilobyte."""


def _million(done: Done) -> bytes:
    """A million effects, 18 MB of them."""
    effects = b"\xdd" + (10**6).to_bytes(4, "big") + msgpack.packb(ONE) * 10**6
    head = msgpack.packb(["done", done.request, done.event, done.mug])[1:]
    return frame(b"\x91\x98" + head + effects + b"\xc0\0\0")


def _deep(done: Done) -> bytes:
    return frame(b"\x91" * 100_000 + b"\xc0")


def _done(done: Done, **changes: Any) -> bytes:
    """The honest answer but for these."""
    return pack_pleas([done._replace(**changes)])


def _field(done: Done, index: int, value: Any) -> bytes:
    fields: list[Any] = ["done", done.request, done.event, done.mug, [], None, 0, 0]
    fields[index] = value
    return _raw(*fields)


ONE = Effect((b"nobody",), b"nothing", EMPTY)

LIES: dict[str, tuple[str, Callable[[Done], bytes]]] = {
    # Framing and grammar: what stands in the cause of death, and the bytes.
    "frame-4-gib": ("frame of 4294967295", lambda d: b"\xff\xff\xff\xff" + b"x" * 9),
    "frame-empty": ("frame of 0 bytes", lambda d: bytes(4)),
    "frame-noise": ("not msgpack", lambda d: frame(b"\xc1" * 1000)),
    "frame-cut": ("not msgpack", lambda d: frame(b"\x91\x96\xa4done")),
    "frame-more": ("not msgpack", lambda d: frame(b"\x90\x90")),
    "deep": ("not msgpack", _deep),
    "array-4-gib": ("not msgpack", lambda d: frame(b"\xdd\xff\xff\xff\xff\xc0")),
    "bytes-4-gib": ("not msgpack", lambda d: frame(b"\xc6\xff\xff\xff\xff\xc0")),
    "text-4-gib": ("not msgpack", lambda d: frame(b"\xdb\xff\xff\xff\xff\xc0")),
    "map": ("nonsense", lambda d: frame(b"\x81\xa1a\xa1b")),
    "map-of-all": ("nonsense", lambda d: frame(b"\xdf\xff\xff\xff\xff")),
    "atom": ("expected an array", lambda d: frame(b"\x07")),
    "no-tag": ("begins with its tag", lambda d: frame(b"\x91\x90")),
    "tag-number": ("begins with its tag", lambda d: _raw(7, d.request)),
    "tag-unknown": ("no message is called", lambda d: _raw("d" * 10**6)),
    "tag-writ": ("no message is called", lambda d: _raw("exit", 0)),
    "few": ("fields, expected", lambda d: _raw("done", d.request)),
    "many": ("fields, expected", lambda d: _raw("packed", *range(1000))),
    "text-no-utf8": ("not msgpack", lambda d: frame(b"\x91\x92\xa4flog\xa2\xff\xfe")),
    "negative": ("unsigned", lambda d: _field(d, 2, -1)),
    "float": ("expected an integer", lambda d: _field(d, 2, 1.0)),
    "yes": ("expected an integer", lambda d: _field(d, 2, True)),
    "nothing": ("expected an integer", lambda d: _field(d, 3, None)),
    "job-bin": ("ext type 1", lambda d: _field(d, 5, b"x")),
    "job-ext-2": ("ext type 1", lambda d: _field(d, 5, msgpack.ExtType(2, b"x"))),
    "time": ("ext type", lambda d: _field(d, 5, msgpack.Timestamp(1))),
    "effects-text": ("expected an array", lambda d: _field(d, 4, "effects")),
    "effect-short": ("Done.effects[0]", lambda d: _field(d, 4, [[[]]])),
    "knot-text": ("effects[0].wire[0]", lambda d: _field(d, 4, [[["x"], b"", 0]])),
    # The conversation.
    "event-next": ("Done says event", lambda d: _done(d, event=d.event + 1)),
    "event-last": ("Done says event", lambda d: _done(d, event=d.event - 1)),
    "event-huge": ("Done says event", lambda d: _done(d, event=(1 << 64) - 1)),
    "request-next": ("names request", lambda d: _done(d, request=d.request + 1)),
    "request-zero": ("names request", lambda d: _done(d, request=0)),
    "mug-wide": ("31 bits", lambda d: _done(d, mug=1 << 31)),
    "effects-many": ("100001 effects", lambda d: _done(d, effects=(ONE,) * 100_001)),
    "effects-million": ("4194304 items", lambda d: _million(d)),
    "bomb": ("4194304 items", lambda d: frame(b"\xdd\0\x10\0\0" + BOMB * (1 << 20))),
    "job-no-jam": ("replacing job", lambda d: _done(d, job=NO_JAM)),
    "job-empty": ("replacing job", lambda d: _done(d, job=Jam(b""))),
    "job-atom": ("replacing job", lambda d: _done(d, job=jam(1 << 200))),
    "job-late": ("another time", lambda d: _done(d, job=jam(noun(5, 0, 0, 0)))),
    "ripe": ("Ripe does not answer", lambda d: pack_pleas([_ripe()])),
    "saved": ("Saved does not", lambda d: pack_pleas([_saved(d)])),
    "played": ("Played does not", lambda d: pack_pleas([Played(d.request, 1, 1)])),
    "stuck": (
        "Stuck does not",
        lambda d: pack_pleas([Stuck(d.request, 1, 1, 2, None)]),
    ),
    "packed": ("Packed does not", lambda d: pack_pleas([Packed(d.request, 1, 1)])),
    "peeked": ("Peeked does not", lambda d: pack_pleas([Peeked(d.request, EMPTY)])),
    "gauged": ("Gauged does not", lambda d: pack_pleas([Gauged(d.request, ())])),
    "swapped": ("names request", lambda d: _ahead(d)),
}

TWICE = "twice"
"""Believed the first time; the second time is a lie."""


def _ripe() -> Ripe:
    return Ripe(PROTOCOL, "again", bytes(16), bytes(16), 0, 0, 0, 0, "")


def _saved(done: Done) -> Saved:
    return Saved(done.request, done.event, done.mug, 1, 1, 1, 1)


def _ahead(done: Done) -> bytes:
    """The next event's answer before this one's."""
    later = done._replace(request=done.request + 1, event=done.event + 1)
    return pack_pleas([later, done])


SLOGS = int(os.environ.get("TREADLE_HOSTILE_SLOGS", "20000"))


def _slogs(done: Done) -> bytes:
    """SLOGS lines before the answer, which would steer a terminal."""
    leaf = jam(noun("leaf", [ord(letter) for letter in ESCAPES]))
    strange = (
        Slog((1 << 64) - 1, done.event, NO_JAM),
        Slog(3, 0, jam(noun("leaf", [0xD800, 0xDFFF, 0x10FFFF]))),
        Slog(2, 1, jam(noun("rose", [1, 2], 0))),
        Slog(1, 1, jam(_nest(50_000))),
        Flog(ESCAPES),
        Flog("x" * 5_000_000),
    )
    lines = [Slog(0, done.event, leaf)] * 1000
    return b"".join(
        [
            pack_pleas(strange),
            *[pack_pleas(lines)] * (SLOGS // 1000),
            pack_pleas([done]),
        ]
    )


def _nest(depth: int) -> Noun:
    tank: Noun = 0
    for _ in range(depth):
        tank = Cell(tank, 0)
    return tank


def _on_all_wires(done: Done) -> bytes:
    """Every tag that a driver knows, on every wire, with data that is none."""
    wires = (
        *((), (b"",), (b"behn",), (b"", b"behn"), (b"term", b"1"), (b"term",)),
        *((b"term", b"9" * 5000), (b"http-server",), (b"http-server", b"0v1")),
        *((b"http-server", b"0v1", b"1", b"1"), (b"khan", b"0v1", b"1", b"0v1")),
        *((b"khan",), (b"arvo",), (b"sync", b"0v1"), (b"ames",), (b"\xff\0\n",)),
        *((b"x" * 9000,), (b"",) * 3000, (ESCAPES.encode(),)),
    )
    tags = (
        *(b"doze", b"blit", b"response", b"set-config", b"sessions", b"grow"),
        *(b"avow", b"trim", b"mass", b"ergo", b"send", b"turf", b"", b"\xff\0"),
        *(b"t" * 9000, ESCAPES.encode()),
    )
    data = (EMPTY, NO_JAM, Jam(b""), jam(noun(0, 1 << 300)), jam(noun(1, 2, 3)))
    files = jam(noun([("sav", ["..", "..", "escaped"], 7), ("sag", ["/tmp", "x"], 7)]))
    effects = [Effect(wire, tag, one) for wire in wires for tag in tags for one in data]
    effects.append(Effect((b"term", b"1"), b"blit", files))
    return _done(done, effects=tuple(effects))


STRANGE: dict[str, Callable[[Done], bytes]] = {
    "slogs": _slogs,
    "wires": _on_all_wires,
    "effects": lambda d: _done(d, effects=(ONE,) * 100_000),
    "crumbs": lambda d: pack_pleas([d]),  # written a byte at a time
}


GAUGES = (
    *(("jet:", 1), ("jet:x", 2), ("jet:a:b:c:d", 3), (ESCAPES, (1 << 64) - 1)),
    *(("", 0), ("x" * 1_000_000, 1), *((f"many {n}", n) for n in range(50_000))),
)
"""Counters that the real one adds to its own, always."""


def told(job: bytes) -> str:
    """The lie that an event commands, if it does."""
    try:
        value = cue(job)
        for _ in range(3):
            assert isinstance(value, Cell)
            value = value.tail
        if isinstance(value, Cell) or value.bit_length() > 256:
            return ""
        name = cord_text(value)
    except (CueError, AssertionError):
        return ""
    return name if name in LIES or name in STRANGE or name == TWICE else ""


def words(name: str, done: Done) -> list[bytes]:
    """What to write instead of `done`, piece by piece."""
    if name == TWICE:
        return [pack_pleas([done]), pack_pleas([done])]
    if name == "crumbs":
        return [bytes([byte]) for byte in pack_pleas([done])]
    return [LIES[name][1](done) if name in LIES else STRANGE[name](done)]


def write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def main_fake() -> None:
    from tests.support import fake_serf

    class Liar(fake_serf.Serf):
        def work(self, writ: Work) -> None:
            name = told(writ.job)
            super().work(writ)
            lied = self.image.with_name(f"lied-{name}")
            if name and not lied.exists():
                if "FAKE_SERF_INSISTS" not in os.environ:
                    lied.touch()
                done = self.out.pop()
                assert isinstance(done, Done)
                self.flush()
                for piece in words(name, done):
                    write(self.args.write, piece)

    fake_serf.Serf = Liar
    fake_serf.main()


def main_real(given: list[str]) -> int:
    from serf import __main__ as entry
    from serf import loop

    class Liar(loop.Loop):
        def _work(self, works: list[Work]) -> None:
            for work in works:
                self.name = told(work.job)
                super()._work([work])
                self.name = ""

        def _send(self, pleas: list[Any]) -> None:
            name = getattr(self, "name", "")
            for plea in pleas:
                if isinstance(plea, Done) and name:
                    for piece in words(name, plea):
                        write(self._write_fd, piece)
                elif isinstance(plea, Gauged):
                    values = plea.values + GAUGES
                    write(self._write_fd, pack_pleas([plea._replace(values=values)]))
                else:
                    super()._send([plea])

    loop.Loop = Liar
    return entry.main(given)


if __name__ == "__main__":
    if __spec__ is None:
        main_fake()
    else:
        sys.exit(main_real(sys.argv[1:]))
