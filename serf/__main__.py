"""Entry: `python -m serf`, as the king starts it.

    serf --read FD --write FD --image PATH --ship HEX --log HEX --event-max N
         [--interrupt FD] [--lock FD] [--verify] [--record FILE]
         [--scrub MILLISECONDS]
         [--home-size BYTES] [--nursery-size BYTES] [--jet-check] [--no-jets]
    serf --early FD                      the same, its words to come over a socket
    serf noun|nock|jets|check-image|image-info|image-copy ...   see serf/tool.py
    serf hoon ...                                    see serf/hoon.py
    serf rock-out|rock-in|vere-in ...                see serf/rock.py
    serf lab                                         see serf/lab.py

Ship and log are the 16 bytes of the ship's identity that the king expects.
The lock's descriptor is only held, so that an orphan still keeps others out.
FILE is where it notes what it does, for tests and the lab. With --scrub, idle
times are used to read all of the image once in so long; see serf/scrub.py.

Exit codes: 0 the king hung up; otherwise what the king's Exit said, or
serf/errors.py. The cause is one line on stderr.

Start-up is on the way to every restart, so nothing is imported here that is
not needed.
"""

from __future__ import annotations

import mmap
import os
import resource
import signal
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from serf.errors import ImageForeign, SerfError, Usage

if TYPE_CHECKING:
    from proto.record import Notes

__all__ = ["main"]

_TOOLS = ("noun", "nock", "check-image", "image-info", "image-copy", "jets")
_IDENTITY_SIZE = 16
_WORDS_SIZE = 1 << 16
_DESCRIPTORS = 4


class Options(NamedTuple):
    """What the king told us."""

    read_fd: int
    write_fd: int
    image: str
    ship: bytes
    log: bytes
    event_max: int
    interrupt_fd: int
    lock_fd: int
    verify: bool
    home_size: int
    nursery_size: int
    jet_check: bool
    jets: bool
    record: str
    scrub_ms: int


def parse(args: list[str]) -> Options:
    """Read the command line.

    :raises Usage: naming the option.
    """
    from serf.engine import HOME_SIZE, NURSERY_SIZE

    given: dict[str, str] = {}
    rest = iter(args)
    for name in rest:
        if name not in _OPTIONS:
            raise Usage(f"unknown option {name}")
        value = "" if name in _FLAGS else next(rest, None)
        if value is None:
            raise Usage(f"{name} needs a value")
        given[name] = value
    return Options(
        read_fd=_number(given, "--read"),
        write_fd=_number(given, "--write"),
        image=_text(given, "--image"),
        ship=_identity(given, "--ship"),
        log=_identity(given, "--log"),
        event_max=_number(given, "--event-max"),
        interrupt_fd=_number(given, "--interrupt", -1),
        lock_fd=_number(given, "--lock", -1),
        verify="--verify" in given,
        home_size=_number(given, "--home-size", HOME_SIZE),
        nursery_size=_number(given, "--nursery-size", NURSERY_SIZE),
        jet_check="--jet-check" in given,
        jets="--no-jets" not in given,
        record=given.get("--record", ""),
        scrub_ms=_number(given, "--scrub", 0),
    )


_FLAGS = {"--verify", "--jet-check", "--no-jets"}
_OPTIONS = _FLAGS | {
    "--read",
    "--write",
    "--image",
    "--ship",
    "--log",
    "--event-max",
    "--interrupt",
    "--lock",
    "--home-size",
    "--nursery-size",
    "--record",
    "--scrub",
}


def _text(given: dict[str, str], name: str) -> str:
    if name not in given:
        raise Usage(f"{name} is missing")
    return given[name]


def _number(given: dict[str, str], name: str, default: int | None = None) -> int:
    if default is not None and name not in given:
        return default
    text = _text(given, name)
    if not (text.isascii() and text.isdigit()):
        raise Usage(f"{name} needs a number, not {text!r}")
    return int(text)


def _identity(given: dict[str, str], name: str) -> bytes:
    try:
        value = bytes.fromhex(_text(given, name))
    except ValueError:
        value = b""
    if len(value) != _IDENTITY_SIZE:
        raise Usage(f"{name} needs {_IDENTITY_SIZE} bytes in hex")
    return value


def _isolate() -> None:
    """Take no signals of the terminal's, and leave no large cores."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))


def serve(hear: Callable[[], list[str] | None]) -> int:
    """Be a serf until the king says otherwise; the exit code. `hear` waits for the
    command line, with all loaded meanwhile; None, and the king has no use for us."""
    _isolate()
    from serf.engine import Engine
    from serf.loop import Loop
    from serf.scrub import Scrub

    words = hear()
    if words is None:
        return 0
    options = parse(words)
    engine = Engine(options.home_size, options.nursery_size, options.interrupt_fd)
    engine.enable_jets(options.jets)
    if options.jet_check:
        engine.probe(check=True)
    engine.open_image(options.image)
    wake_fd = os.eventfd(0, os.EFD_CLOEXEC)
    notes = _notes(options.record) if options.record else None
    # Nothing can be opened or imported after this.
    weakness = engine.confine(
        [0, 1, 2, options.read_fd, options.write_fd, options.lock_fd, wake_fd]
    )
    if weakness:
        print(f"serf: {weakness}", file=sys.stderr, flush=True)
    engine.watch(options.read_fd)
    loaded = engine.load(options.event_max, options.verify, options.ship, options.log)
    if loaded.good:
        for what, found, wanted in (
            ("ship", loaded.ship, options.ship),
            ("log", loaded.log, options.log),
        ):
            if found != wanted:
                raise ImageForeign(
                    f"{options.image} belongs to {what} {found.hex()},"
                    f" not to {what} {wanted.hex()}"
                )
        engine.start_verification()
    scrub = Scrub(engine, options.scrub_ms / 1e3) if options.scrub_ms else None
    loop = Loop(engine, options.read_fd, options.write_fd, wake_fd, notes, scrub)
    return loop.run(loaded)


def _hear_words(door: int) -> list[str] | None:
    """A command line over a socket, whose last words are given a descriptor each;
    None: the other end has gone."""
    import socket

    with socket.socket(fileno=door) as stream:
        data, descriptors, _, _ = socket.recv_fds(stream, _WORDS_SIZE, _DESCRIPTORS)
    if not data:
        return None
    words = os.fsdecode(data).split("\0")
    cut = len(words) - len(descriptors)
    words, names = words[:cut], words[cut:]
    for name, descriptor in zip(names, descriptors, strict=True):
        words += [name, str(descriptor)]
    return words


def _notes(path: str) -> Notes:
    """Notes in a file that the king has made."""
    from proto.record import Notes

    with open(path, "r+b") as file:
        return Notes(mmap.mmap(file.fileno(), 0), os.getpid())


def main(args: list[str]) -> int:
    """Dispatch; turn an error into one line and an exit code."""
    try:
        if sys.flags.optimize:
            raise Usage("refuses to run under python -O, which strips its asserts")
        if args and args[0] == "hoon":
            from serf.hoon import run as run_hoon

            return run_hoon(args[1:])
        if args and args[0] in ("rock-out", "rock-in", "vere-in"):
            from serf.rock import run_rock

            return run_rock(args)
        if args == ["lab"]:
            from serf.lab import run as run_lab

            return run_lab()
        if args and args[0] in _TOOLS:
            from serf.tool import run

            return run(args)
        if args[:1] == ["--early"] and len(args) == 2:
            door = _number({args[0]: args[1]}, "--early")
            return serve(partial(_hear_words, door))
        return serve(lambda: args)
    except SerfError as error:
        print(f"serf: {error}", file=sys.stderr, flush=True)
        return error.code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
