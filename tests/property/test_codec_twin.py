"""proto.fast (C) says what proto.jam and proto.mug (Python) say."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto import fast
from proto.errors import CueError
from proto.jam import cue, jam
from proto.mug import mug
from proto.noun import Cell, Noun, noun, slot

NOUNS = st.recursive(
    st.integers(0, 9) | st.integers(0, 1 << 300),
    lambda inner: st.builds(Cell, inner, inner),
    max_leaves=50,
)


@given(NOUNS)
def test_rejam_and_mug_agree(value: Noun) -> None:
    data = jam(value)
    assert fast.rejam(data) == data
    assert fast.mug(data) == mug(value)


@given(st.binary(max_size=60))
def test_both_refuse_the_same_bytes(data: bytes) -> None:
    answers: list[object] = []
    for rejam in (lambda data: jam(cue(data)), fast.rejam):
        try:
            answers.append(rejam(data))
        except CueError as error:
            answers.append(error.why.replace("size", "meme"))
    assert answers[0] == answers[1]


@given(NOUNS, st.lists(st.integers(0, 300), min_size=1, max_size=8))
def test_slots_agree(value: Noun, axes: list[int]) -> None:
    for axis, part in zip(axes, fast.slots(jam(value), axes), strict=True):
        try:
            expected = jam(slot(value, axis))
        except ValueError:
            assert part is None
        else:
            assert part == expected


@given(st.lists(NOUNS, min_size=1, max_size=6))
def test_tuple_and_list_agree(values: list[Noun]) -> None:
    parts = [jam(value) for value in values]
    assert fast.tuple_(parts) == jam(noun(*values))
    assert fast.jam_list(jam(Cell(7, noun(list(values)))), 3) == parts


@given(NOUNS, st.integers(0, (1 << 128) - 1))
def test_stamp_agrees(value: Noun, now: int) -> None:
    assert fast.stamp(now, jam(value)) == jam(Cell(now, value))


def test_refusals() -> None:
    with pytest.raises(CueError):
        fast.tuple_([jam(1), b"\x00"])
    with pytest.raises(CueError):
        fast.jam_list(jam(noun(1, 2)))
    with pytest.raises(CueError):
        fast.jam_list(jam(5), 3)


def test_each_thread_has_its_own() -> None:
    wrong: list[int] = []

    def work(seed: int) -> None:
        for i in range(300):
            value = noun(seed, i, (seed, i), "x" * seed)
            if fast.rejam(jam(value)) != jam(value):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_long_chains_of_equal_cells_stay_linear() -> None:
    left: Noun = 0
    right: Noun = 0
    for i in range(200_000):
        left, right = Cell(left, i & 7), Cell(i & 7, right)
    data = jam(Cell(left, right))
    assert fast.rejam(data) == data
