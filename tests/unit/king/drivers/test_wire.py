"""The helpers that all drivers share."""

import pytest

from king.drivers import eyre
from king.drivers.wire import (
    effect_wire,
    knot_text,
    octs_bytes,
    octs_jam,
    ovum,
    ovum_of_jam,
    read_small,
)
from king.event import Effect, Jam
from proto.jam import cue, jam
from proto.noun import noun


def test_ovum_is_target_path_tag_data():
    event = ovum(("b", "behn", "0v1"), "born", 7)
    assert cue(event.jam) == noun(("b", "behn", "0v1", 0), "born", 7)
    assert event.wire == ("b", "behn", "0v1")


def test_ovum_of_jam_is_the_same_noun():
    data = noun(1, ("a", "b"), 1 << 999)
    event = ovum_of_jam(("k", "x"), "tag", jam(1), jam(noun("a", "b")), jam(1 << 999))
    assert event.jam == ovum(("k", "x"), "tag", data).jam


def test_knot_text_tells_bytes_apart():
    knots = [b"", b"a", b"\xff", b"\xfe", "é".encode(), b"\xc3"]
    assert len({knot_text(knot) for knot in knots}) == len(knots)


def test_effect_wire_drops_a_leading_empty_knot():
    assert effect_wire(Effect((b"", b"behn"), b"x", jam(0))) == (b"behn",)
    assert effect_wire(Effect((), b"x", jam(0))) == ()


@pytest.mark.parametrize("data", [b"", b"a", b"a\0\0", b"\0" * 9, bytes(range(256))])
def test_octs_round_trip(data):
    pair = cue(octs_jam(data))
    assert octs_bytes(jam(pair.head), jam(pair.tail), 1000) == data


def test_limits_octs_and_small_nouns():
    with pytest.raises(ValueError, match="longer"):
        octs_bytes(jam(1001), jam(0), 1000)
    with pytest.raises(ValueError, match="cell"):
        octs_bytes(jam(1), jam(noun(1, 2)), 1000)
    with pytest.raises(ValueError, match="enough"):
        read_small(jam(1 << 800), 100)
    with pytest.raises(ValueError, match="jam"):
        read_small(b"\x07")


@pytest.mark.parametrize(
    ("start", "method", "length", "bodied"),
    [
        (
            eyre.Start(200, [(b"content-length", b"99")], b"four", True),
            b"GET",
            b"4",
            True,
        ),
        (eyre.Start(200, [], b"four", True), b"GET", None, True),
        (
            eyre.Start(200, [(b"content-length", b"99")], b"x", False),
            b"GET",
            b"99",
            True,
        ),
        (
            eyre.Start(200, [(b"content-length", b"-1")], b"x", False),
            b"GET",
            None,
            True,
        ),
        (
            eyre.Start(200, [(b"content-length", b"9")], b"x", True),
            b"HEAD",
            b"9",
            False,
        ),
        (eyre.Start(204, [(b"content-length", b"9")], b"x", True), b"GET", None, False),
        (eyre.Start(205, [], b"x", True), b"GET", b"0", False),
        (eyre.Start(304, [(b"content-length", b"9")], b"", True), b"GET", b"9", False),
        (
            eyre.Start(200, [(b"transfer-encoding", b"x")], b"", True),
            b"GET",
            None,
            True,
        ),
    ],
)
def test_framed(start, method, length, bodied):
    headers, may = eyre.framed(start, method)
    assert dict(headers).get(b"content-length") == length
    assert may is bodied
    assert b"transfer-encoding" not in dict(headers)


@pytest.mark.parametrize(
    "config",
    [0, noun(0, 1), noun(0, 1, 1), noun(7, 1, 1, 1), noun(0, (1, 1), 1, 1)],
)
def test_strange_config_is_refused(config):
    with pytest.raises(ValueError, match=r"http-config|certificate"):
        eyre.read_config(config)


def test_config_with_a_key():
    config = eyre.read_config(noun((0, ["key"], ["cert"]), 0, 1, 1))
    assert config.secure
    assert config.proxy


def test_read_event_refuses_what_is_no_jam():
    with pytest.raises(ValueError, match="jam"):
        eyre.read_event(Jam(b"\x07"), 100)
