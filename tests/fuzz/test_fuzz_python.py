"""What reads bytes of strangers in Python: an answer, or its own error.

TREADLE_FUZZ_EXAMPLES says how many of each (200).
"""

from __future__ import annotations

import os

import msgpack
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from king.errors import TreadleError
from king.pill.formats import parse_pill
from king.pill.reader import Form, Group, LoomError, Tuple, read
from proto.codec import JAM_EXT, WritReader, pack_writs
from proto.errors import ProtoError
from proto.frame import frame
from proto.jam import jam
from proto.message import WRITS, Jam, Peek, Play, Row, Work, Writ
from proto.noun import Noun, noun

EXAMPLES = int(os.environ.get("TREADLE_FUZZ_EXAMPLES", "200"))
fuzzed = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

# --- loom -------------------------------------------------------------------------

WORDS = st.sampled_from(
    [*"()[]'\"\\; \n~%_", "'''", "0x", "\\x", "\\xff", "a", "if", "s:t.u"]
)
LITERALS = st.sampled_from(["%term", "12", "0x1f", '"tape"', "'cord'"])
TEXTS = st.one_of(
    st.lists(st.one_of(WORDS, LITERALS), max_size=30).map("".join),
    st.lists(st.one_of(WORDS, st.text(max_size=4)), max_size=20).map(" ".join),
    st.text(st.characters(exclude_categories=["Cs"])),
)


@fuzzed
@given(TEXTS)
@example("(" * 50_000)
@example("(" * 50_000 + ")" * 50_000)
@example("[0 " * 50_000 + "0" + "]" * 50_000)
@example('"\\xff"')
@example("9" * 5000)
@example("0x" + "f" * 50_000)
def test_loom_is_read_or_refused_with_its_place(text: str) -> None:
    lines = text.split("\n")
    try:
        todo: list[Form] = read(text, "here")
    except LoomError as error:
        place = error.place
        assert 1 <= place.line <= len(lines)
        assert 1 <= place.column <= len(lines[place.line - 1]) + 1
        return
    while todo:
        form = todo.pop()
        assert 1 <= form.place.line <= len(lines)
        assert 1 <= form.place.column <= len(lines[form.place.line - 1])
        if isinstance(form, Group | Tuple):
            todo += form.items


# --- frames -----------------------------------------------------------------------

VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(1 << 63), (1 << 64) - 1),
        st.floats(allow_nan=False),
        st.text(max_size=4),
        st.binary(max_size=8),
        st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=8)),
        st.binary(max_size=8).map(lambda data: msgpack.ExtType(JAM_EXT, data)),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=2), inner)
    ),
    max_leaves=20,
)
MESSAGES = st.builds(
    lambda tag, fields: [tag, *fields],
    st.sampled_from([*WRITS, "none", 0]),
    st.lists(VALUES, max_size=6),
)
GOOD = pack_writs(
    [
        Work(1, 1000, jam(noun(1, ["w"], "tag", 0))),
        Peek(2, 0, Jam(b"\2")),
        Play(3, 1, 1, (Row(5, Jam(b"\2")), Row(6, Jam(b"\x0c")))),
    ]
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A good frame, with some bytes changed, put in or left out."""
    data = bytearray(GOOD)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data) - 1))
        how = draw(st.integers(0, 2))
        if how == 0:
            data[at] = draw(st.integers(0, 255))
        elif how == 1:
            data[at:at] = draw(st.binary(max_size=4))
        else:
            del data[at : at + draw(st.integers(1, 3))]
    return bytes(data)


STREAMS = st.one_of(
    st.binary(max_size=200),
    damaged(),
    st.binary(min_size=1, max_size=100).map(frame),
    VALUES.map(lambda value: frame(msgpack.packb(value))),
    st.lists(MESSAGES, max_size=3).map(lambda rows: frame(msgpack.packb(rows))),
)


@fuzzed
@given(STREAMS, st.integers(1, 64))
@example(frame(b"\x91" * 100_000), 1000)  # arrays in arrays
@example(frame(b"\xdd\xff\xff\xff\xff"), 64)  # 2^32 items
@example(frame(b"\xc9\xff\xff\xff\xff\1"), 64)  # a jam of 4 GiB
@example(frame(b"\x81\xc0\xc0"), 64)
def test_frames_are_writs_or_refused(data: bytes, piece: int) -> None:
    """In pieces as at once; and what is a writ can be said again."""
    writs = writs_of(data, len(data) or 1)
    assert writs_of(data, piece) == writs
    if writs:
        assert WritReader().feed(pack_writs(writs)) == writs


def writs_of(data: bytes, piece: int) -> list[Writ] | None:
    """What comes of feeding it in pieces; None where it is refused."""
    reader = WritReader()
    writs: list[Writ] = []
    try:
        for at in range(0, len(data), piece):
            writs += reader.feed(data[at : at + piece])
    except ProtoError:
        return None
    return writs


# --- pills ------------------------------------------------------------------------

NOUNS: st.SearchStrategy[Noun] = st.recursive(
    st.one_of(st.integers(0, 5), st.sampled_from([noun("x"), 1 << 80])),
    lambda inner: st.one_of(st.builds(noun, inner, inner), st.lists(inner).map(noun)),
    max_leaves=6,
)
OVA = st.one_of(NOUNS, st.builds(lambda d: noun(("a", ["b"]), "tag", d), NOUNS))
LISTS = st.one_of(st.lists(OVA, max_size=3).map(noun), NOUNS)
CORES = st.one_of(
    NOUNS,
    st.builds(
        lambda name, boot, kernel, user: noun(name, boot, kernel, user),
        st.one_of(st.just(noun("pill")), NOUNS),
        st.one_of(st.lists(NOUNS, min_size=1, max_size=3).map(noun), NOUNS),
        LISTS,
        LISTS,
    ),
)
PILLS = st.one_of(
    st.builds(lambda core: noun("pill", core), CORES),
    st.builds(lambda core, cache: noun("cash", core, cache), CORES, NOUNS),
    st.builds(lambda core: noun("cash", core), CORES),
    st.builds(lambda tag, core: noun(tag, core), NOUNS, CORES),
    st.builds(lambda core: noun("ivory", core), CORES),
)


@fuzzed
@given(st.one_of(PILLS.map(jam), st.binary(max_size=64)), st.data())
def test_pills_are_parsed_or_refused(data: bytes, draw: st.DataObject) -> None:
    if data and draw.draw(st.booleans()):
        at = draw.draw(st.integers(0, len(data) - 1))
        data = data[:at] + bytes([draw.draw(st.integers(0, 255))]) + data[at + 1 :]
    fault = None
    try:
        pill = parse_pill(data, "here")
    except TreadleError as error:
        fault = error
    if fault is None:
        assert pill.boot
        assert pill.kind in ("pill", "cash")
    else:
        assert fault.code in ("pill-bad", "pill-ivory")
        assert "here" in str(fault)
