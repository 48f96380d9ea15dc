"""Messages to frames and back: msgpack, strict both ways.

A frame's body is a msgpack array of messages, each an array `[tag, field...]`
as proto/message.py lists them. Both ways every field is checked for its type,
integers for their range, tuples for their size; a failure names the field
(`Done.effects[2].wire`). The only importer of msgpack.

How: at import, one checker per field type is made from the records'
annotations, so that the grammar stands in message.py alone.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgpack

from proto import message
from proto.errors import CodecError
from proto.frame import FRAME_SIZE_MAX, FrameReader, frame
from proto.message import Plea, Writ

__all__ = ["JAM_EXT", "PleaReader", "WritReader", "pack_pleas", "pack_writs"]

JAM_EXT = 1
_INT_MAX = (1 << 64) - 1
_ARRAY_MAX = 1 << 22
_ITEMS_MAX = 1 << 22
"""Of all arrays of a frame: a byte can be an item, and an item takes 64."""
_SMALL = 1 << 20
"""A frame that cannot have so many, or is at worst a nuisance."""

_Decode = Callable[[Any, str], Any]
_Encode = Callable[[Any, str], Any]


def _type_error(where: str, wanted: str, value: object) -> CodecError:
    return CodecError(where, f"expected {wanted}, got {type(value).__name__}")


def _decode_int(value: Any, where: str) -> int:
    if type(value) is not int:
        raise _type_error(where, "an integer", value)
    if not 0 <= value <= _INT_MAX:
        raise CodecError(where, f"{value} is not an unsigned 64-bit integer")
    return value


def _decode_str(value: Any, where: str) -> str:
    if type(value) is not str:
        raise _type_error(where, "text", value)
    return value


def _decode_bytes(value: Any, where: str) -> bytes:
    if type(value) is not bytes:
        raise _type_error(where, "bytes", value)
    return value


def _decode_jam(value: Any, where: str) -> bytes:
    if type(value) is not msgpack.ExtType or value.code != JAM_EXT:
        raise _type_error(where, f"ext type {JAM_EXT}", value)
    data: bytes = value.data
    return data


def _encode_jam(value: Any, where: str) -> Any:
    if type(value) is not bytes:
        raise _type_error(where, "jam bytes", value)
    return msgpack.ExtType(JAM_EXT, value)


def _tuple_of(decode: _Decode) -> _Decode:
    def decode_tuple(value: Any, where: str) -> Any:
        if type(value) is not list and type(value) is not tuple:
            raise _type_error(where, "an array", value)
        try:
            return tuple([decode(item, where) for item in value])
        except CodecError:
            # Slow path, for the error message: which item was it?
            for index, item in enumerate(value):
                decode(item, f"{where}[{index}]")
            raise

    return decode_tuple


def _record_decoder(kind: Any) -> Callable[[Any, str, int], Any]:
    hints = get_type_hints(kind)
    names = kind._fields
    decoders = [_codec_of(hints[name])[0] for name in names]
    plain = [
        (decode, f"{kind.__name__}.{name}")
        for decode, name in zip(decoders, names, strict=True)
    ]
    count = len(names)
    make = kind._make

    def decode_record(value: Any, where: str, skip: int) -> Any:
        """Decode an array whose first `skip` items (the tag) are not fields."""
        if type(value) is not list and type(value) is not tuple:
            raise _type_error(where, "an array", value)
        if len(value) != count + skip:
            raise CodecError(
                where or kind.__name__,
                f"{len(value) - skip} fields, expected {count}",
            )
        rest = value[skip:] if skip else value
        try:
            return make(
                [
                    decode(item, spot)
                    for (decode, spot), item in zip(plain, rest, strict=True)
                ]
            )
        except CodecError:
            if where:
                # Slow path, for the error message: inside what was it?
                for decode, name, item in zip(decoders, names, rest, strict=True):
                    decode(item, f"{where}.{name}")
            raise

    return decode_record


def _record_encoder(kind: Any) -> _Encode:
    hints = get_type_hints(kind)
    encoders = [_codec_of(hints[name])[1] for name in kind._fields]

    def encode_record(value: Any, where: str) -> list[Any]:
        if type(value) is not kind:
            raise _type_error(where, kind.__name__, value)
        return [
            encode(item, where) for encode, item in zip(encoders, value, strict=True)
        ]

    return encode_record


def _codec_of(hint: Any) -> tuple[_Decode, _Encode]:
    """The (decoder, encoder) of a field's annotation."""
    if hint is int:
        return _decode_int, _decode_int
    if hint is str:
        return _decode_str, _decode_str
    if hint is bytes:
        return _decode_bytes, _decode_bytes
    if hint is message.Jam:
        return _decode_jam, _encode_jam
    if get_origin(hint) is tuple:
        args = get_args(hint)
        if len(args) == 2 and args[1] is Ellipsis:
            decode, encode = _codec_of(args[0])
            return _tuple_of(decode), _tuple_of(encode)
        pairs = [_codec_of(arg) for arg in args]
        return _fixed([p[0] for p in pairs]), _fixed([p[1] for p in pairs])
    if get_origin(hint) in (Union, types.UnionType):
        (inner,) = [arg for arg in get_args(hint) if arg is not type(None)]
        decode, encode = _codec_of(inner)
        return _optional(decode), _optional(encode)
    record_decoder = _record_decoder(hint)
    return lambda value, where: record_decoder(value, where, 0), _record_encoder(hint)


def _fixed(parts: list[_Decode]) -> _Decode:
    def decode_fixed(value: Any, where: str) -> Any:
        if type(value) is not list and type(value) is not tuple:
            raise _type_error(where, "an array", value)
        if len(value) != len(parts):
            raise CodecError(where, f"{len(value)} items, expected {len(parts)}")
        return tuple(part(item, where) for part, item in zip(parts, value, strict=True))

    return decode_fixed


def _optional(part: _Decode) -> _Decode:
    return lambda value, where: None if value is None else part(value, where)


_ENCODERS: dict[type, tuple[str, Callable[[Any, str], list[Any]]]] = {
    kind: (tag, _record_encoder(kind))
    for kind, tag in [
        (kind, tag)
        for table in (message.WRITS, message.PLEAS)
        for tag, kind in table.items()
    ]
}
_WRIT_DECODERS = {tag: _record_decoder(kind) for tag, kind in message.WRITS.items()}
_PLEA_DECODERS = {tag: _record_decoder(kind) for tag, kind in message.PLEAS.items()}


def _pack(messages: Iterable[Any]) -> bytes:
    rows = []
    for each in messages:
        tag, encode = _ENCODERS[type(each)]
        rows.append([tag, *encode(each, tag)])
    return frame(msgpack.packb(rows, use_bin_type=True))


def pack_writs(writs: Iterable[Writ]) -> bytes:
    """One frame, header and all.

    :raises CodecError: if a field is not of its type: our own bug.
    :raises FrameError: if it gets too large.
    """
    return _pack(writs)


def pack_pleas(pleas: Iterable[Plea]) -> bytes:
    """One frame, header and all. Raises as `pack_writs`."""
    return _pack(pleas)


def _count_items() -> Callable[[list[Any]], list[Any]]:
    """For msgpack, which calls it with each array."""
    left = _ITEMS_MAX

    def take(items: list[Any]) -> list[Any]:
        nonlocal left
        left -= 1 + len(items)
        if left < 0:
            raise ValueError(f"more than {_ITEMS_MAX} items")
        return items

    return take


def _unpack(body: bytes, decoders: dict[str, Callable[[Any, str, int], Any]]) -> Any:
    try:
        rows = msgpack.unpackb(
            body,
            raw=False,
            strict_map_key=True,
            max_array_len=min(len(body), _ARRAY_MAX),
            max_map_len=0,
            list_hook=_count_items() if len(body) > _SMALL else None,
        )
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise CodecError(
            "frame", f"not msgpack: {error or type(error).__name__}"
        ) from None
    if type(rows) is not list:
        raise _type_error("frame", "an array of messages", rows)
    messages = []
    for row in rows:
        if type(row) is not list or not row or type(row[0]) is not str:
            raise CodecError("frame", "a message is an array that begins with its tag")
        decode = decoders.get(row[0])
        if decode is None:
            raise CodecError("frame", f"no message is called {row[0][:40]!r}")
        messages.append(decode(row, "", 1))
    return messages


class _Reader:
    _decoders: dict[str, Callable[[Any, str, int], Any]]

    def __init__(self, size_max: int = FRAME_SIZE_MAX) -> None:
        self._frames = FrameReader(size_max)

    @property
    def partial(self) -> int:
        """Bytes of an unfinished frame."""
        return self._frames.partial

    def _feed(self, data: bytes) -> list[Any]:
        messages: list[Any] = []
        for body in self._frames.feed(data):
            messages += _unpack(body, self._decoders)
        return messages


class WritReader(_Reader):
    """The serf's ears."""

    _decoders = _WRIT_DECODERS

    def feed(self, data: bytes) -> list[Writ]:
        """Take bytes, give messages.

        :raises FrameError: bad framing.
        :raises CodecError: a frame that is not writs.
        """
        return self._feed(data)


class PleaReader(_Reader):
    """The king's ears."""

    _decoders = _PLEA_DECODERS

    def feed(self, data: bytes) -> list[Plea]:
        """Take bytes, give messages. Raises as `WritReader.feed`."""
        return self._feed(data)
