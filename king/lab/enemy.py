"""A serf that lies: between king and serf, one frame comes out wrong.

    python -m king.lab.enemy KIND AT MARK --read FD --write FD ...

Starts a real serf with the rest of the words, and hands on what both say,
frame by frame; the AT-th frame of the serf is corrupted in the way of KIND.
MARK is a file that is made then: a second enemy, who finds it, is honest.

Owns: the serf's process and the two pipes to it.
Limits: what a king cannot know, it cannot refuse: a wrong mug or a wrong
    effect in a well-formed answer is not among the lies.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from king.child import SERF_COMMAND
from proto.codec import PleaReader, pack_pleas
from proto.message import Bail, Done, Plea, Saved

__all__ = ["KINDS", "command"]


def command(kind: str, at: int, mark: Path) -> tuple[str, ...]:
    """For `king.child.SERF_COMMAND`."""
    words = (sys.executable, "-P", "-m", "king.lab.enemy", kind, str(at), str(mark))
    assert kind in KINDS
    return words


# --- lies -------------------------------------------------------------------------


def _garbage(frame: bytes) -> list[bytes]:
    body = bytes((byte * 7 + 3) % 256 for byte in frame[4:])
    return [frame[:4] + body]


def _huge(frame: bytes) -> list[bytes]:
    return [b"\xf0\xff\xff\xff" + frame[4:]]


def _empty(frame: bytes) -> list[bytes]:
    return [bytes(4), frame]


def _twice(frame: bytes) -> list[bytes]:
    return [frame, frame]


def _half(frame: bytes) -> list[bytes]:
    """And then nothing: the pipe is closed in the middle of a frame."""
    return [frame[: len(frame) // 2], b""]


def _pleas(frame: bytes) -> list[Plea]:
    return PleaReader().feed(frame)


def _number(frame: bytes) -> list[bytes]:
    """Another event's number, or another request's."""
    return [pack_pleas([_other(plea) for plea in _pleas(frame)])]


def _other(plea: Plea) -> Plea:
    if isinstance(plea, Done | Saved):
        return plea._replace(event=plea.event + 1)
    if isinstance(plea, Bail):
        return plea._replace(request=plea.request + 1)
    return plea


def _request(frame: bytes) -> list[bytes]:
    pleas = [
        plea._replace(request=plea.request + 1) if isinstance(plea, Done) else plea
        for plea in _pleas(frame)
    ]
    return [pack_pleas(pleas)]


def _backwards(frame: bytes) -> list[bytes]:
    """All that one frame says, in the reverse order; and once more."""
    return [pack_pleas([*reversed(_pleas(frame)), *_pleas(frame)])]


KINDS: dict[str, Callable[[bytes], list[bytes]]] = {
    "garbage": _garbage,
    "huge": _huge,
    "empty": _empty,
    "twice": _twice,
    "half": _half,
    "number": _number,
    "request": _request,
    "backwards": _backwards,
}


# --- the middle man -----------------------------------------------------------------


def _frames(buffer: bytearray) -> Iterator[bytes]:
    while len(buffer) >= 4:
        size = 4 + int.from_bytes(buffer[:4], "little")
        if len(buffer) < size:
            return
        yield bytes(buffer[:size])
        del buffer[:size]


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def main(words: list[str]) -> int:
    """Be in the middle until one side hangs up; the serf's exit code."""
    kind, at, mark, *rest = words
    lie = KINDS[kind]
    from_king, to_king = (int(rest[rest.index(name) + 1]) for name in _ENDS)
    their_read, to_serf = os.pipe()
    from_serf, their_write = os.pipe()
    for name, fd in zip(_ENDS, (their_read, their_write), strict=True):
        rest[rest.index(name) + 1] = str(fd)
    kept = [their_read, their_write]
    for name in ("--interrupt", "--lock"):
        if name in rest:
            kept.append(int(rest[rest.index(name) + 1]))
    serf = subprocess.Popen([*SERF_COMMAND, *rest], pass_fds=kept)
    os.close(their_read)
    os.close(their_write)
    number = 0
    buffer = bytearray()
    while True:
        ready, _, _ = select.select([from_king, from_serf], [], [])
        if from_king in ready:
            data = os.read(from_king, 1 << 16)
            if not data:
                break
            _write(to_serf, data)
        if from_serf not in ready:
            continue
        data = os.read(from_serf, 1 << 16)
        if not data:
            break
        buffer += data
        for frame in _frames(buffer):
            number += 1
            pieces = [frame]
            if number == int(at) and not os.path.exists(mark):
                Path(mark).touch()
                pieces = lie(frame)
            for piece in pieces:
                if not piece:
                    serf.kill()
                    return 0
                _write(to_king, piece)
    os.close(to_serf)
    return serf.wait()


_ENDS = ("--read", "--write")

if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except BrokenPipeError:
        sys.exit(0)
