"""Newt framing: `00`, u32 length (LE), then that many bytes of jam. Pure.

The framing of conn.sock, for both of its ends. Invariants: a length over the
cap is refused before anything is kept for it; bytes may come in any
fragments, and a large frame costs time linear in its size.
Limits: SIZE_MAX bytes of body unless told otherwise.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from proto.errors import FrameError

__all__ = ["SIZE_MAX", "NewtReader", "newt"]

SIZE_MAX: Final = 64 << 20
_HEADER: Final = Struct("<BI")
_HEADER_SIZE: Final = 5


def newt(body: bytes) -> bytes:
    """One frame. The caller keeps bodies below 4 GiB."""
    return _HEADER.pack(0, len(body)) + body


class NewtReader:
    """Cut a byte stream into bodies."""

    __slots__ = ("_held", "_need", "_size_max", "size")

    def __init__(self, size_max: int = SIZE_MAX) -> None:
        self._held: list[bytes] = []
        self._need = _HEADER_SIZE
        self._size_max = size_max
        self.size = 0
        """Bytes of an unfinished frame: not 0 at the end of a stream is a cut."""

    @property
    def missing(self) -> int:
        """How many more bytes could be used at once."""
        return self._need - self.size

    def feed(self, data: bytes) -> tuple[list[bytes], FrameError | None]:
        """Take bytes; give the bodies that are now complete, and the error that
        follows them, if any: after that the stream is broken."""
        self._held.append(data)
        self.size += len(data)
        if self.size < self._need:
            return [], None
        if len(self._held) > 1:
            data = b"".join(self._held)
        bodies: list[bytes] = []
        error: FrameError | None = None
        at, size = 0, len(data)
        need = _HEADER_SIZE
        while at + _HEADER_SIZE <= size:
            zero, length = _HEADER.unpack_from(data, at)
            if zero or not 0 < length <= self._size_max:
                error = FrameError(f"newt: head {zero}, {length} bytes")
                break
            end = at + _HEADER_SIZE + length
            if end > size:
                need = end - at
                break
            bodies.append(data[at + _HEADER_SIZE : end])
            at = end
        rest = data[at:]
        self._held = [rest] if rest else []
        self.size = len(rest)
        self._need = need
        return bodies, error
