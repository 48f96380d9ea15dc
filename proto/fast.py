"""Jam surgery at C speed, for jams that the king passes on unread.

The C twin is native/codec.c; proto/jam.py says what is right. Each thread
has a codec of its own. Everything raises CueError where bytes are not a jam
(or are one too large for the codec's arena: why = meme).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import lru_cache
from struct import Struct
from typing import Any

from proto._codec import ffi, lib
from proto.errors import CueError
from proto.message import Jam

__all__ = [
    "Glance",
    "glance",
    "jam_list",
    "mug",
    "rejam",
    "slots",
    "stamp",
    "tuple_",
]

_NURSERY_SIZE = 8 << 30
_NONE = (1 << 64) - 1
_SIZES = ffi.typeof("uint64_t[]")
_GLANCE = Struct("<QQIIII")
_SHORT = 2
_local = threading.local()


def _codec() -> Any:
    codec = getattr(_local, "codec", None)
    if codec is None:
        raw = lib.nk_codec_new(_NURSERY_SIZE)
        if raw == ffi.NULL:
            raise MemoryError("no address space for the jam codec")
        codec = _local.codec = ffi.gc(raw, lib.nk_codec_free)
    return codec


def _refused(codec: Any) -> CueError:
    return CueError(ffi.string(lib.nk_codec_why(codec)).decode())


def _out(codec: Any) -> Jam:
    return Jam(ffi.buffer(lib.nk_codec_out(codec), lib.nk_codec_out_size(codec))[:])


def rejam(data: bytes) -> Jam:
    """The canonical jam of the noun that `data` cues to."""
    codec = _codec()
    if lib.nk_codec_rejam(codec, data, len(data)):
        raise _refused(codec)
    return _out(codec)


def mug(data: bytes) -> int:
    """The mug of a jammed noun."""
    codec = _codec()
    out = ffi.new("uint32_t *")
    if lib.nk_codec_mug(codec, data, len(data), out):
        raise _refused(codec)
    return int(out[0])


def slots(data: bytes, axes: Sequence[int]) -> list[Jam | None]:
    """Jams of the nouns at `axes` (below 2^64); None where there is none."""
    codec = _codec()
    count = len(axes)
    sizes = ffi.new(_SIZES, count)
    if lib.nk_codec_slots(codec, data, len(data), _axes(tuple(axes)), count, sizes):
        raise _refused(codec)
    out = _out(codec)
    result: list[Jam | None] = []
    at = 0
    for size in ffi.unpack(sizes, count):
        if size == _NONE:
            result.append(None)
            continue
        result.append(Jam(out[at : at + size]))
        at += size
    return result


@lru_cache(64)
def _axes(axes: tuple[int, ...]) -> Any:
    """Callers ask for the same few again and again."""
    return ffi.new(_SIZES, axes)


def tuple_(parts: Sequence[bytes]) -> Jam:
    """Jam of `[p0 p1 ... pn]`, from the jams of its parts."""
    codec = _codec()
    sizes = [len(part) for part in parts]
    if lib.nk_codec_tuple(codec, b"".join(parts), sizes, len(sizes)):
        raise _refused(codec)
    return _out(codec)


def stamp(now: int, ovum: bytes) -> Jam:
    """Jam of `[now ovum]`; `now` has at most 128 bits."""
    codec = _codec()
    low, high = now & _NONE, now >> 64
    if lib.nk_codec_stamp(codec, low, high, ovum, len(ovum)):
        raise _refused(codec)
    return _out(codec)


Glance = tuple[int, tuple[str, str] | None, bool]
"""What the first bytes of a job tell: now; wire and tag, or None where it is no job,
or one with a longer wire or tag than any; whether more bytes would tell."""


def glance(heads: Sequence[bytes]) -> list[Glance]:
    """Look at jobs `[now [wire [tag data]]]`, of which the first few hundred bytes
    are enough; at thousands a call, for a call costs more than a look."""
    codec = _codec()
    sizes = [len(head) for head in heads]
    if lib.nk_codec_glance(codec, b"".join(heads), sizes, len(sizes)):
        raise _refused(codec)
    out = _out(codec)
    found: list[Glance] = []
    at = 0
    for _ in sizes:
        low, high, kind, wire_size, tag_size, _ = _GLANCE.unpack_from(out, at)
        at += _GLANCE.size
        end = at + wire_size + tag_size
        if kind:
            found.append((0, None, kind == _SHORT))
        else:
            names = _names(out[at:end], wire_size)
            found.append((high << 64 | low, names, False))
        at = end
    return found


@lru_cache(4096)
def _names(data: bytes, wire_size: int) -> tuple[str, str]:
    wire = data[:wire_size].decode("utf-8", "replace")
    return wire or "/", data[wire_size:].decode("utf-8", "replace")


def jam_list(data: bytes, axis: int = 1) -> list[Jam]:
    """The items of the null-terminated list at `axis`, each jammed."""
    codec = _codec()
    count = ffi.new("uint64_t *")
    if lib.nk_codec_list_load(codec, data, len(data), axis, count):
        raise _refused(codec)
    result = []
    for _ in range(count[0]):
        if lib.nk_codec_list_next(codec):
            raise _refused(codec)
        result.append(_out(codec))
    return result
