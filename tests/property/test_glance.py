"""A look at the head of a job tells what cueing all of it tells."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from proto import fast
from proto.jam import cue, jam
from proto.noun import Cell, Noun, listed

ATOMS = st.integers(0, 1 << 80) | st.sampled_from([0, 1, 0x6F767261, 1 << 63, 1 << 64])
NOUNS = st.recursive(ATOMS, lambda part: st.builds(Cell, part, part), max_leaves=12)


def bytes_of(atom: int) -> bytes:
    return atom.to_bytes((atom.bit_length() + 7) // 8, "little")


def plainly(job: Noun) -> Any:
    """What `fast.glance` should say, from the noun; None: it is no job."""
    match job:
        case Cell(head=int(now), tail=Cell(head=wire, tail=Cell(head=int(tag)))):
            pass
        case _:
            return None
    text = b""
    while isinstance(wire, Cell):
        if isinstance(wire.head, Cell):
            return None
        text += b"/" + bytes_of(wire.head)
        wire = wire.tail
    if wire != 0 or now >= 1 << 128:
        return None
    return (
        now,
        text.decode("utf-8", "replace") or "/",
        bytes_of(tag).decode("utf-8", "replace"),
    )


@given(ATOMS, st.lists(ATOMS, max_size=6), NOUNS, NOUNS)
def test_a_job_is_told_by_its_head(
    now: int, wire: list[int], tag: Noun, data: Noun
) -> None:
    job = Cell(now, Cell(listed(wire), Cell(tag, data)))
    want = plainly(job)
    ((at, names, more),) = fast.glance([jam(job)])
    assert not more
    if want is None:
        assert names is None
    elif names is not None:  # it may refer to a later cell: then it is strange
        assert (at, *names) == want
    else:
        assert len({*wire, now}) < len(wire) + 1


@given(NOUNS)
def test_any_noun_is_looked_at(noun: Noun) -> None:
    ((at, names, more),) = fast.glance([jam(noun)])
    assert not more
    if names is not None:
        assert (at, *names) == plainly(noun)


@given(st.lists(st.binary(max_size=40), max_size=8))
def test_any_bytes_are_looked_at(heads: list[bytes]) -> None:
    looks = fast.glance(heads)
    assert len(looks) == len(heads)
    for head, (at, names, _) in zip(heads, looks, strict=True):
        if names is not None and len(head) < 30:
            try:
                noun = cue(head + bytes(64))
            except ValueError:
                continue
            assert (at, *names) == plainly(noun)


def test_a_head_is_enough_and_less_is_told() -> None:
    wire = listed([0x65, 0x7265767265732D70747468, 0x31])
    big = Cell(1 << 127, Cell(wire, Cell(0x74736575716572, (1 << 80_000) - 1)))
    job = jam(big)
    head = next(n for n in range(len(job)) if fast.glance([job[:n]])[0][1] is not None)
    assert head < 64
    for size in range(head):
        assert fast.glance([job[:size]]) == [(0, None, True)]
    assert fast.glance([job[:head], job[: head + 9], job])[2][1] == (
        "/e/http-server/1",
        "request",
    )


def test_long_wires_and_tags_are_strange() -> None:
    for wire, tag in (([1 << 5000], 5), ([7] * 600, 5), ([7], 1 << 2000)):
        job = jam(Cell(5, Cell(listed(wire), Cell(tag, 0))))
        assert fast.glance([job]) == [(0, None, False)]
