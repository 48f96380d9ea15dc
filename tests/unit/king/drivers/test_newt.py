"""Newt framing: any fragments, any sizes; refusal before buffering."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from king.drivers.newt import NewtReader, newt


@given(
    st.lists(st.binary(min_size=1, max_size=400), max_size=8),
    st.lists(st.integers(1, 50), min_size=1),
)
def test_newt_survives_any_fragmentation(bodies, cuts):
    data = b"".join(newt(body) for body in bodies)
    reader = NewtReader()
    got = []
    at = turn = 0
    while at < len(data):
        size = cuts[turn % len(cuts)]
        turn += 1
        assert reader.missing > 0
        found, error = reader.feed(data[at : at + size])
        assert error is None
        got += found
        at += size
    assert got == bodies
    assert reader.size == 0


@pytest.mark.parametrize(
    "head", ["0100000000", "0000000000", "00ffffffff", "0065000000"]
)
def test_limits_newt_refuses_the_header(head):
    reader = NewtReader(size_max=100)
    bodies, error = reader.feed(newt(b"x" * 100) + bytes.fromhex(head))
    assert bodies == [b"x" * 100]
    assert error is not None


def test_newt_large_frame_is_linear():
    size = 40 << 20
    reader = NewtReader()
    data = newt(bytes(size))
    got = []
    for at in range(0, len(data), 65536):
        got += reader.feed(data[at : at + 65536])[0]
    assert [len(body) for body in got] == [size]
