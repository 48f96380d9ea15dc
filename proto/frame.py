"""Frames on the pipe: `u32 length (LE)`, then that many bytes. Pure.

Invariants: a length over the cap is refused before anything is buffered for
it; bytes may come in any fragments. A frame's body is never empty.
Limits: FRAME_SIZE_MAX bytes of body.
"""

from __future__ import annotations

from proto.errors import FrameError

__all__ = ["FRAME_SIZE_MAX", "FrameReader", "frame"]

FRAME_SIZE_MAX = 1 << 30
_HEADER = 4


def frame(body: bytes) -> bytes:
    """Put a length before a body: one buffer, one write.

    :raises FrameError: if it is empty or too large.
    """
    size = len(body)
    if not 0 < size <= FRAME_SIZE_MAX:
        raise FrameError(f"frame of {size} bytes; 1 to {FRAME_SIZE_MAX} allowed")
    return size.to_bytes(_HEADER, "little") + body


class FrameReader:
    """Cut a byte stream into bodies."""

    def __init__(self, size_max: int = FRAME_SIZE_MAX) -> None:
        self._buffer = bytearray()
        self._size_max = size_max
        self._broken = False

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes, give the bodies that are now complete.

        :raises FrameError: on a length that is 0 or over the cap, now and ever
            after.
        """
        if self._broken:
            raise FrameError("the stream was broken before")
        self._buffer += data
        bodies: list[bytes] = []
        at = 0
        held = len(self._buffer)
        while held - at >= _HEADER:
            size = int.from_bytes(self._buffer[at : at + _HEADER], "little")
            if not 0 < size <= self._size_max:
                self._broken = True
                raise FrameError(
                    f"frame of {size} bytes; 1 to {self._size_max} allowed"
                )
            end = at + _HEADER + size
            if end > held:
                break
            bodies.append(bytes(self._buffer[at + _HEADER : end]))
            at = end
        if at:
            del self._buffer[:at]
        return bodies

    @property
    def partial(self) -> int:
        """Bytes of an unfinished frame: not 0 at the end of a stream is a cut."""
        return len(self._buffer)
