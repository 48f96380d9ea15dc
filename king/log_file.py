"""A stretch of an event log as one file, that can be streamed.

What it is: the format of `treadle export --log` and `treadle import`; a writer and
    a reader.
Invariants: what the reader yields is whole: every block has its checksum, events
    follow each other, and the end vouches for all of it (a file that was cut, or
    is still being written, is told). Nothing is believed for its length: memory
    goes with the bytes that came.
Limits: rows of 4 GiB at most (LMDB's).

Little-endian throughout. CRCs are zlib's crc32, of all before them in their part.

    head    "treadlog", u32 format (1), u32 size, JSON, u32 crc
            JSON: ship ("0x..."), fake, life, identity (hex), first, last,
            runtime; link: the chain's link before `first`, hex, or null
    block   "rows", u64 first event, u32 count, u32 size of the rows, u32 crc
            of these; rows; u32 crc of the rows
            row: u32 mug after it (0: not known), u32 size, job (a jam)
    end     "end.", u64 last event, u64 count, 32 bytes SHA-256, u32 crc

SHA-256 is over mug (4 bytes) and job of every row in order: `treadle check` prints
the same of a whole log (`log_sha256`).
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from struct import Struct
from typing import Any, BinaryIO

from king.errors import TreadleError
from proto.message import Jam, Row

__all__ = ["MAGIC", "LogFileReader", "LogFileWriter", "LogHead"]

MAGIC = b"treadlog"
FORMAT = 1
_HEAD = Struct("<8sII")
_BLOCK = Struct("<4sQII")
_ROW = Struct("<II")
_END = Struct("<4sQQ32s")
_CRC = Struct("<I")
_ROWS, _OVER = b"rows", b"end."
_HEAD_MAX = 1 << 16
_PIECE = 1 << 20
BLOCK_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class LogHead:
    """Whose log it is, and which stretch."""

    ship: int
    fake: bool
    life: int
    identity: bytes
    first: int
    last: int
    runtime: str
    link: bytes | None = None


def _head_json(head: LogHead) -> bytes:
    value = asdict(head) | {
        "ship": f"0x{head.ship:x}",
        "identity": head.identity.hex(),
        "link": head.link.hex() if head.link is not None else None,
    }
    return json.dumps(value).encode()


def _head_of(value: Any) -> LogHead:
    """:raises ValueError, KeyError, TypeError: it is none"""
    numbers = [value[name] for name in ("life", "first", "last")]
    if not all(type(number) is int and 0 <= number < 1 << 63 for number in numbers):
        raise ValueError("its numbers are none")
    ship, identity = int(value["ship"], 16), bytes.fromhex(value["identity"])
    link = None if value["link"] is None else bytes.fromhex(value["link"])
    if not 0 <= ship < 1 << 128 or len(identity) != 16:
        raise ValueError("it names no ship")
    if link is not None and len(link) != 32:
        raise ValueError("its link is none")
    if type(value["fake"]) is not bool or not 0 < value["first"] <= value["last"] + 1:
        raise ValueError("it names no stretch of a log")
    return LogHead(
        ship,
        value["fake"],
        value["life"],
        identity,
        value["first"],
        value["last"],
        str(value["runtime"])[:128],
        link,
    )


class LogFileWriter:
    """Writes one file to a stream."""

    def __init__(self, out: BinaryIO, head: LogHead) -> None:
        self._out = out
        self._next = head.first
        self._count = 0
        self._digest = hashlib.sha256()
        text = _head_json(head)
        self._put(_HEAD.pack(MAGIC, FORMAT, len(text)) + text)

    def _put(self, data: bytes) -> None:
        self._out.write(data + _CRC.pack(zlib.crc32(data)))

    def rows(self, rows: Sequence[Row]) -> int:
        """The next ones, as a block; its bytes."""
        parts: list[bytes] = []
        for row in rows:
            parts += (_ROW.pack(row.mug, len(row.job)), row.job)
            self._digest.update(row.mug.to_bytes(4, "little"))
            self._digest.update(row.job)
        data = b"".join(parts)
        self._put(_BLOCK.pack(_ROWS, self._next, len(rows), len(data)))
        self._put(data)
        self._next += len(rows)
        self._count += len(rows)
        return len(data)

    def end(self) -> str:
        """The last word; the SHA-256."""
        digest = self._digest.digest()
        self._put(_END.pack(_OVER, self._next - 1, self._count, digest))
        return digest.hex()


class LogFileReader:
    """Reads one from a stream, believing nothing."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        """Read the head.

        :raises TreadleError: log-file-bad, log-newer
        """
        self._stream = stream
        self._name = name
        self.sha256 = ""
        """After the last row: of all of them."""
        head = self._take(_HEAD.size)
        magic, form, size = _HEAD.unpack(head)
        if magic != MAGIC:
            raise self._bad("it is no event log of treadle's")
        if form > FORMAT:
            raise TreadleError(
                "log-newer",
                f"{name} has format {form}; this treadle knows up to {FORMAT}",
                "import it with the newer treadle",
            )
        if size > _HEAD_MAX:
            raise self._bad("its head is far too long")
        text = self._take(size)
        self._check(head + text)
        try:
            self.head = _head_of(json.loads(text))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise self._bad(f"its head makes no sense: {error}") from error

    def _bad(self, why: str) -> TreadleError:
        return TreadleError(
            "log-file-bad", f"{self._name}: {why}", "export it again, or fetch it again"
        )

    def _take(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            piece = self._stream.read(min(size - len(data), _PIECE))
            if not piece:
                raise self._bad("it ends in the middle: it was cut")
            data += piece
        return bytes(data)

    def _check(self, data: bytes) -> None:
        (crc,) = _CRC.unpack(self._take(_CRC.size))
        if crc != zlib.crc32(data):
            raise self._bad("a checksum in it does not match")

    def blocks(self) -> Iterator[tuple[int, list[Row]]]:
        """Each block's first event, and its rows; after the last one all is known
        to be there.

        :raises TreadleError: log-file-bad
        """
        following, digest = self.head.first, hashlib.sha256()
        while True:
            tag = self._take(len(_ROWS))
            if tag == _OVER:
                break
            if tag != _ROWS:
                raise self._bad(f"neither rows nor its end before event {following}")
            head = tag + self._take(_BLOCK.size - len(tag))
            self._check(head)
            _, first, count, size = _BLOCK.unpack(head)
            if first != following or count == 0 or count > size // _ROW.size:
                raise self._bad(f"a block of {count} rows of event {first} on")
            data = self._take(size)
            self._check(data)
            rows = self._rows(data, count)
            following += count
            if following > self.head.last + 1:
                raise self._bad(f"more events than to {self.head.last}")
            for row in rows:
                digest.update(row.mug.to_bytes(4, "little"))
                digest.update(row.job)
            yield first, rows
        data = tag + self._take(_END.size - len(tag))
        self._check(data)
        _, last, count, sha256 = _END.unpack(data)
        if last != following - 1 or count != following - self.head.first:
            raise self._bad("its end is that of another log")
        if last != self.head.last:
            raise self._bad(f"it ends with event {last}, not {self.head.last}")
        if sha256 != digest.digest():
            raise self._bad("its SHA-256 does not match")
        if self._stream.read(1):
            raise self._bad("there is more after its end")
        self.sha256 = sha256.hex()

    def _rows(self, data: bytes, count: int) -> list[Row]:
        rows: list[Row] = []
        at = 0
        while at < len(data) and len(rows) < count:
            if at + _ROW.size > len(data):
                break
            mug, size = _ROW.unpack_from(data, at)
            at += _ROW.size
            if mug >> 31 or not 0 < size <= len(data) - at:
                break
            rows.append(Row(mug, Jam(data[at : at + size])))
            at += size
        if at != len(data) or len(rows) != count:
            raise self._bad("a block in it is not made of rows")
        return rows
