"""Log files of strangers: read as they were written, or refused in words."""

from __future__ import annotations

import io
import os
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from king.errors import TreadleError
from king.log_file import LogFileReader, LogFileWriter, LogHead
from proto.message import Jam, Row

EXAMPLES = int(os.environ.get("TREADLE_FUZZ_EXAMPLES", "200"))

_rows = st.builds(
    Row, st.integers(0, (1 << 31) - 1), st.binary(min_size=1, max_size=40).map(Jam)
)
_blocks = st.lists(st.lists(_rows, min_size=1, max_size=4), max_size=4)


def written(blocks: list[list[Row]], first: int = 1) -> bytes:
    out = io.BytesIO()
    count = sum(map(len, blocks))
    head = LogHead(5, True, 1, b"i" * 16, first, first + count - 1, "test")
    writer = LogFileWriter(out, head)
    for rows in blocks:
        writer.rows(rows)
    writer.end()
    return out.getvalue()


def read(data: bytes) -> list[tuple[int, list[Row]]]:
    return list(LogFileReader(io.BytesIO(data), "it").blocks())


@settings(max_examples=EXAMPLES, deadline=None)
@given(_blocks, st.integers(1, 1 << 62))
def test_what_was_written_is_read(blocks: list[list[Row]], first: int) -> None:
    found = read(written(blocks, first))
    assert [rows for _, rows in found] == blocks
    following = first
    for at, rows in found:
        assert at == following
        following += len(rows)


@settings(max_examples=EXAMPLES, deadline=None)
@given(_blocks, st.data())
def test_every_change_is_told(blocks: list[list[Row]], data: st.DataObject) -> None:
    whole = written(blocks)
    at = data.draw(st.integers(0, len(whole) - 1))
    raw = bytearray(whole)
    kind = data.draw(st.sampled_from(["flip", "cut", "insert", "remove", "more"]))
    if kind == "flip":
        raw[at] ^= 1 << data.draw(st.integers(0, 7))
    elif kind == "cut":
        del raw[at:]
    elif kind == "insert":
        raw.insert(at, data.draw(st.integers(0, 255)))
    elif kind == "remove":
        del raw[at]
    else:
        raw += b"x"
    if bytes(raw) == whole:
        return
    with pytest.raises(TreadleError) as caught:
        read(bytes(raw))
    assert caught.value.code in ("log-file-bad", "log-newer")


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.binary(max_size=200))
def test_noise_is_told(noise: bytes) -> None:
    head = written([])[:80]
    for data in (noise, b"treadlog" + noise, head + noise):
        with pytest.raises(TreadleError):
            read(data)


def test_the_end_vouches_for_what_blocks_say_of_themselves() -> None:
    """Somebody changed a job, and the checksum of its block."""
    whole = written([[Row(7, Jam(b"job"))]])
    at = whole.index(b"job")
    rows = whole[at - 8 : at] + b"jab"
    forged = whole[: at - 8] + rows + struct.pack("<I", zlib.crc32(rows))
    with pytest.raises(TreadleError, match="SHA-256"):
        read(forged + whole[len(forged) :])


def test_lengths_are_not_believed() -> None:
    """A block of four gigabytes, of which nothing follows, with a good checksum."""
    whole = written([[Row(0, Jam(b"job"))]])
    at = whole.index(b"rows")
    head = struct.pack("<4sQII", b"rows", 1, 1, 0xFFFFFFFF)
    head += struct.pack("<I", zlib.crc32(head))
    with pytest.raises(TreadleError, match="it was cut"):
        read(whole[:at] + head + b"x")
    for value in ("[]", '{"ship": 5}', "[" * 30_000, "null"):
        text = value.encode()
        data = struct.pack("<8sII", b"treadlog", 1, len(text)) + text
        with pytest.raises(TreadleError, match="makes no sense"):
            read(data + struct.pack("<I", zlib.crc32(data)))
    data = struct.pack("<8sII", b"treadlog", 2, 0)
    with pytest.raises(TreadleError) as caught:
        read(data)
    assert caught.value.code == "log-newer"
