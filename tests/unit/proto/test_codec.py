"""Messages and frames: round trips, and everything a bad peer may send."""

from __future__ import annotations

from typing import Any, get_type_hints

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto import message
from proto.codec import PleaReader, WritReader, pack_pleas, pack_writs
from proto.errors import CodecError, FrameError, ProtoError
from proto.frame import FrameReader, frame
from proto.message import Bail, Done, Effect, Goof, Jam, Play, Row, Work


def strategy_of(hint: Any) -> st.SearchStrategy[Any]:
    if hint is message.Jam:
        return st.binary(max_size=40)
    if hint is int:
        return st.integers(0, (1 << 64) - 1)
    if getattr(hint, "__origin__", None) is tuple:
        args = hint.__args__
        if args[-1] is Ellipsis:
            return st.lists(strategy_of(args[0]), max_size=4).map(tuple)
        return st.tuples(*map(strategy_of, args))
    if hint in (str, bytes):
        return st.text(max_size=20) if hint is str else st.binary(max_size=20)
    if type(None) in getattr(hint, "__args__", ()):
        inner = next(a for a in hint.__args__ if a is not type(None))
        return st.none() | strategy_of(inner)
    return of_class(hint)


def of_class(kind: type) -> st.SearchStrategy[Any]:
    hints = get_type_hints(kind)
    return st.builds(kind, **{name: strategy_of(hints[name]) for name in kind._fields})


WRITS = st.one_of([of_class(kind) for kind in message.WRITS.values()])
PLEAS = st.one_of([of_class(kind) for kind in message.PLEAS.values()])


@given(st.lists(WRITS, max_size=6), st.integers(1, 50))
def test_writs_survive_any_fragmentation(writs: list[Any], size: int) -> None:
    data = pack_writs(writs)
    reader = WritReader()
    got: list[Any] = []
    for at in range(0, len(data), size):
        got += reader.feed(data[at : at + size])
    assert got == writs
    assert reader.partial == 0


@given(st.lists(PLEAS, max_size=6))
def test_pleas_come_back_as_sent(pleas: list[Any]) -> None:
    assert PleaReader().feed(pack_pleas(pleas)) == pleas


JAM = msgpack.ExtType(1, b"\x02")


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (7, "frame"),
        ({}, "frame"),
        ([7], "frame"),
        ([[]], "frame"),
        ([["no-such"]], "frame"),
        ([["work", 1, 0, JAM]], "frame"),
        ([["done", 1, 2]], "Done"),
        ([["done", 1, 2, 3, [], 5, 0, 0]], "Done.job"),
        ([["done", 1, 2, 3, [], msgpack.ExtType(2, b""), 0, 0]], "Done.job"),
        ([["done", 1, -2, 3, [], None, 0, 0]], "Done.event"),
        ([["done", 1, True, 3, [], None, 0, 0]], "Done.event"),
        (
            [["done", 1, 2, 3, [[[b"a", "b"], b"t", JAM]], None, 0, 0]],
            "Done.effects[0].wire",
        ),
        ([["done", 1, 2, 3, [[[b"a"], b"t"]], None, 0, 0]], "Done.effects[0]"),
        ([["done", 1, 2, 3, [], None, 0, -1]], "Done.pages"),
        ([["gauged", 1, [["a", 2], ["b"]]]], "Gauged.values[1]"),
        ([["slog", 1, 2, b"\x02"]], "Slog.tank"),
    ],
)
def test_bad_pleas_are_refused_by_name(body: Any, where: str) -> None:
    with pytest.raises(CodecError) as caught:
        PleaReader().feed(frame(msgpack.packb(body)))
    assert str(caught.value).startswith(where)


@given(st.binary(min_size=1, max_size=60))
def test_garbage_bodies_raise_proto_errors_only(body: bytes) -> None:
    with pytest.raises(ProtoError):
        PleaReader().feed(frame(body))


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(CodecError):
        PleaReader().feed(frame(b"\x91" * 100_000 + b"\x01"))


def test_claimed_sizes_are_not_believed() -> None:
    for head in (
        b"\xdd\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
    ):
        with pytest.raises(CodecError):
            PleaReader().feed(frame(head + b"\x00" * 10))


def test_limits_a_frame_of_small_items_is_refused() -> None:
    """Sixteen bytes of this take a kilobyte, all of it a gigabyte."""
    part = b"\x9f" + b"\x90" * 15
    bomb = b"\xdd" + (1 << 20).to_bytes(4, "big") + part * (1 << 20)
    with pytest.raises(CodecError, match="items"):
        PleaReader().feed(frame(bomb))
    effects = (Effect((b"a", b"b"), b"t", Jam(b"\x02")),) * 200_000
    done = Done(1, 2, 3, effects, None)
    assert PleaReader().feed(pack_pleas([done])) == [done]


@pytest.mark.parametrize("size", [0, 101, 0xFFFFFFFF])
def test_limits_frame_size_is_refused_before_the_body(size: int) -> None:
    reader = FrameReader(size_max=100)
    with pytest.raises(FrameError):
        reader.feed(size.to_bytes(4, "little"))
    with pytest.raises(FrameError):
        reader.feed(b"")


def test_packing_checks_types() -> None:
    with pytest.raises(CodecError):
        pack_writs([Work(1, -1, Jam(b""))])
    with pytest.raises(CodecError):
        pack_writs([Work(1, 1, "text")])


def test_tuples_nest() -> None:
    done = Done(1, 2, 3, (Effect((b"a", b"b"), b"t", Jam(b"\x02")),), Jam(b"\x0c"))
    bail = Bail(9, (Goof("exit", Jam(b"\x02")),) * 2)
    assert PleaReader().feed(pack_pleas([done, bail])) == [done, bail]
    play = Play(1, 1, 2, (Row(0, Jam(b"\x02")), Row(5, Jam(b"\x0c"))))
    assert WritReader().feed(pack_writs([play])) == [play]
