"""Jets of bits and lists against Python's integers, and against real Hoon.

Most arms of these families are in test_jets_numbers.py and test_jets_lists.py; here
are those of parts of lists, and aor clz ctz fil ham hew muk pow rig sew.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto.jam import cue, jam
from proto.mug import mug
from proto.noun import Cell, Noun, noun
from serf.engine import Crashed
from tests.support.jets import PUNT, Jets, real_kernel

NUMBERS = (
    st.integers(0, 9)
    | st.integers(0, (1 << 64) + 3)
    | st.integers(0, 1 << 300)
    | st.builds(lambda at, low: (1 << at) + low, st.integers(0, 200), st.integers(0, 2))
)
BLOQS = st.integers(0, 7)
SMALL = st.integers(0, 20)
CELL = noun(1, 2)


@pytest.fixture(scope="module")
def jets() -> Jets:
    return Jets()


def _low(value: int, bits: int) -> int:
    return value & ((1 << bits) - 1)


@given(a=st.integers(0, 1 << 70), b=st.integers(0, 40))
def test_pow(jets: Jets, a: int, b: int) -> None:
    assert jets("two/pow", noun(a, b)) == a**b


def test_pow_of_small_bases_and_huge_exponents(jets: Jets) -> None:
    assert jets("two/pow", noun(0, 1 << 80)) == 0
    assert jets("two/pow", noun(1, 1 << 80)) == 1
    assert jets("two/pow", noun(0, 0)) == 1
    assert jets("two/pow", noun(1 << 80, 1)) == 1 << 80
    assert jets("two/pow", noun(CELL, 1)) == PUNT
    formula = noun(7, jets.gate("two/pow", noun(2, 1 << 62)), 9, 2, 0, 1)
    answer = jets.engine.nock(jam(Cell(0, formula)), True)
    assert isinstance(answer, Crashed)
    assert answer.mote == "meme"


@given(a=BLOQS, b=SMALL, c=SMALL, d=NUMBERS, e=NUMBERS)
def test_sew(jets: Jets, a: int, b: int, c: int, d: int, e: int) -> None:
    start, size = b << a, c << a
    want = _low(e, start) | _low(d, size) << start
    want |= e >> (start + size) << (start + size)
    assert jets("two/sew", noun(a, (b, c, d), e)) == want


@given(a=st.integers(0, 90), c=NUMBERS, b=st.integers(0, 90))
def test_rig(jets: Jets, a: int, c: int, b: int) -> None:
    want = c << (a - b) if a >= b else -(-c >> (b - a))
    assert jets("two/rig", noun((a, c), b)) == want
    assert jets("two/rig", noun(a, b)) == 0


@given(a=BLOQS, step=SMALL, b=NUMBERS)
def test_counts(jets: Jets, a: int, step: int, b: int) -> None:
    size = step << a
    want = size - _low(b, size).bit_length()
    assert jets("two/clz", noun((a, step), b)) == want
    one = noun((a, 1), b)
    assert jets("two/clz", noun(a, b)) == jets("two/clz", one)
    assert jets("two/ham", b) == b.bit_count()
    assert jets("two/ctz", b) == (b & -b).bit_length() - (b > 0)


def _murmur(seed: int, data: bytes) -> int:
    def turn(x: int, by: int) -> int:
        return (x << by | x >> (32 - by)) & 0xFFFFFFFF

    def scramble(block: int) -> int:
        return turn(block * 0xCC9E2D51 & 0xFFFFFFFF, 15) * 0x1B873593 & 0xFFFFFFFF

    whole = len(data) // 4 * 4
    for at in range(0, whole, 4):
        seed ^= scramble(int.from_bytes(data[at : at + 4], "little"))
        seed = (turn(seed, 13) * 5 + 0xE6546B64) & 0xFFFFFFFF
    seed ^= scramble(int.from_bytes(data[whole:], "little"))
    seed ^= len(data)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        seed = (seed ^ seed >> shift) * factor & 0xFFFFFFFF
    return seed


@given(seed=NUMBERS, key=st.binary(max_size=40), more=st.integers(0, 9))
def test_muk(jets: Jets, seed: int, key: bytes, more: int) -> None:
    value = int.from_bytes(key, "little")
    used = (value.bit_length() + 7) // 8
    size = used + more
    want = _murmur(seed & 0xFFFFFFFF, value.to_bytes(size, "little"))
    got = jets("two/muk", noun(seed, size, value))
    # Kelvins differ where whole blocks of the key are zeros at its end.
    assert got == (want if (used + 3) // 4 >= size // 4 else PUNT)
    if used:
        assert jets("two/muk", noun(seed, used - 1, value)) == PUNT


def test_muk_makes_mugs(jets: Jets) -> None:
    for value in (1, 0xFF, 1 << 40, 1 << 100):
        size = (value.bit_length() + 7) // 8
        hashed = jets("two/muk", noun(0xCAFEBABE, size, value))
        assert isinstance(hashed, int)
        assert hashed >> 31 ^ hashed & 0x7FFFFFFF == mug(value)


SHAPES = st.recursive(SMALL, lambda inner: st.builds(Cell, inner, inner), max_leaves=20)


def _hew(bloq: int, step: int, shape: Noun, c: int) -> tuple[Noun, int]:
    if isinstance(shape, int):
        return _low(c >> (step << bloq), shape << bloq), step + shape
    head, step = _hew(bloq, step, shape.head, c)
    tail, step = _hew(bloq, step, shape.tail, c)
    return Cell(head, tail), step


def _call_hew(jets: Jets, bite: Noun, shape: Noun, c: Noun) -> Noun:
    """The gate `fun` within the gate `hew`, whose context holds the bite."""
    hew = jets.gate("two/hew", sample=Cell(5, c))
    fun = noun((1, 11, noun("fun"), 1, PUNT), (1, 0), (1, bite), 0, 1)
    hint = noun(11, (noun("fast"), 1, noun("fun"), (0, 15), 0), fun)
    formula = noun(7, hew, 7, hint, 9, 2, 10, (6, 1, shape), 0, 1)
    answer = jets.engine.nock(jam(Cell(0, formula)), True)
    assert not isinstance(answer, Crashed)
    return cue(answer.jam)


@given(bloq=BLOQS, step=SMALL, shape=SHAPES, c=NUMBERS)
def test_hew(jets: Jets, bloq: int, step: int, shape: Noun, c: int) -> None:
    tree, after = _hew(bloq, step, shape, c)
    assert _call_hew(jets, Cell(bloq, step), shape, c) == noun(tree, bloq, after)


def test_hew_is_not_deep(jets: Jets) -> None:
    left: Noun = 1
    right: Noun = 1
    for _ in range(20_000):
        left, right = Cell(left, 1), Cell(1, right)
    made = _call_hew(jets, noun(0, 0), Cell(left, right), (1 << 40_002) - 1)
    assert made == noun((left, right), 0, 40_002)
    assert _call_hew(jets, noun(0, 0), noun(1, 1 << 70), 5) == PUNT
    assert _call_hew(jets, noun(0, 0), 1, CELL) == PUNT
    assert _call_hew(jets, 3, 1, 5) == PUNT


FEW = st.lists(st.integers(0, 2), max_size=8)


@given(needle=st.lists(st.integers(0, 2), max_size=3), hay=FEW)
def test_find(jets: Jets, needle: list[Noun], hay: list[Noun]) -> None:
    size = len(needle)
    places = [at for at in range(len(hay)) if hay[at : at + size] == needle]
    want = noun(0, places[0]) if needle and places and size <= len(hay) else 0
    assert jets("two/find", noun(needle, hay)) == want


def test_find_need_mate_welp(jets: Jets) -> None:
    assert jets("two/find", noun([CELL], [1, CELL])) == noun(0, 1)
    assert jets("two/find", noun((1, 2), [1, 2])) == PUNT
    assert jets("two/find", noun([1], (1, 2))) == PUNT
    assert jets("two/need", noun(0, CELL)) == CELL
    assert jets("two/need", 0) == PUNT
    assert jets("two/need", 5) == PUNT
    assert jets("two/mate", noun(0, (0, 4))) == noun(0, 4)
    assert jets("two/mate", noun((0, 4), 0)) == noun(0, 4)
    assert jets("two/mate", noun((0, 4), (1, 4))) == noun(0, 4)
    assert jets("two/mate", noun((0, 4), (0, 5))) == PUNT
    assert jets("two/mate", noun(5, (0, 5))) == PUNT
    assert jets("two/welp", noun([1, 2], 3, 4)) == noun(1, 2, 3, 4)
    assert jets("two/welp", noun(0, 3)) == 3
    assert jets("two/welp", noun((1, 2), 3)) == PUNT


ITEMS = st.lists(SMALL | st.just(CELL), max_size=6)
PLACES = st.integers(0, 8) | st.just(1 << 70)


@given(few=st.lists(st.integers(0, 1), max_size=3), hay=FEW)
def test_fand(jets: Jets, few: list[Noun], hay: list[Noun]) -> None:
    size = len(few)
    ends = range(len(hay) - size + 1)
    places: list[Noun] = [at for at in ends if size and hay[at : at + size] == few]
    assert jets("two/fand", noun(few, hay)) == noun(places)


@given(items=ITEMS, at=PLACES, count=PLACES)
def test_parts_of_lists(jets: Jets, items: list[Noun], at: int, count: int) -> None:
    made = [*items[:at], *items[at + count :]]
    assert jets("two/oust", noun((at, count), items)) == noun(made)
    made = [*items[:at], 7, *items[at:]]
    assert jets("two/into", noun(items, at, 7)) == noun(made)
    made = [*items[:at], CELL, *items[at + 1 :]]
    assert jets("two/snap", noun(items, at, CELL)) == noun(made)
    assert jets("two/snip", noun(items)) == noun(items[:-1])
    assert jets("two/rear", noun(items)) == (items[-1] if items else PUNT)


def test_parts_of_what_is_no_list(jets: Jets) -> None:
    for bad in (7, noun(1, 2)):
        assert jets("two/fand", noun(bad, 0)) == PUNT
        assert jets("two/fand", noun([1], bad)) == PUNT
        assert jets("two/oust", noun((0, 1), bad)) == PUNT
        assert jets("two/into", noun(bad, 0, 1)) == PUNT
        assert jets("two/snap", noun(bad, 0, 1)) == PUNT
        assert jets("two/snip", bad) == PUNT
        assert jets("two/rear", bad) == PUNT
    for place in (7, noun(CELL, 1), noun(1, CELL)):
        assert jets("two/oust", noun(place, [1])) == PUNT
    assert jets("two/into", noun(0, CELL, 1)) == PUNT
    assert jets("two/snap", noun(0, CELL, 1)) == PUNT


@given(bloq=st.integers(0, 9), step=st.integers(0, 70), c=NUMBERS)
def test_fil(jets: Jets, bloq: int, step: int, c: int) -> None:
    block = _low(c, 1 << bloq)
    want = sum(block << (at << bloq) for at in range(step))
    assert jets("two/fil", noun(bloq, step, c)) == want


def test_fil_at_the_ends(jets: Jets) -> None:
    assert jets("two/fil", noun(0, 10**6, 1)) == (1 << 10**6) - 1
    assert jets("two/fil", noun(3, 1 << 80, 256)) == 0
    for sample in (noun(CELL, 1, 1), noun(1, CELL, 1), noun(1, 1, CELL), noun(1, 2)):
        assert jets("two/fil", sample) == PUNT


def _aor(a: Noun, b: Noun) -> bool:
    if isinstance(a, int) and isinstance(b, int):
        left, right = (each.to_bytes(40, "little") for each in (a, b))
        return left <= right
    if isinstance(a, int) or isinstance(b, int):
        return isinstance(a, int)
    return _aor(a.tail, b.tail) if a.head == b.head else _aor(a.head, b.head)


WORDS = st.sampled_from([0, 1, 255, 256, 97, 98, 0x6261, 0x6162]) | NUMBERS
NOUNS = st.recursive(WORDS, lambda inner: st.builds(Cell, inner, inner), max_leaves=6)


@given(a=NOUNS, b=NOUNS)
def test_aor(jets: Jets, a: Noun, b: Noun) -> None:
    assert jets("two/aor", Cell(a, b)) == int(not _aor(a, b))
    assert jets("two/aor", Cell(a, a)) == 0


@pytest.mark.timeout(600)
def test_real_hoon_agrees(jets: Jets) -> None:
    """On samples of all kinds: the same product, crash for crash."""
    kernel = real_kernel()
    dice = random.Random(5)

    def number() -> int:
        return dice.getrandbits(dice.choice([1, 3, 8, 60, 90]))

    def few(count: int) -> list[Noun]:
        return [dice.randrange(3) for _ in range(dice.randrange(count))]

    def unit() -> Noun:
        return dice.choice([0, noun(0, 1), noun(0, 2), noun(0, 1)])

    def muk() -> Noun:
        key = number()
        size = (key.bit_length() + 7) // 8 + dice.choice([0, 0, 0, 1, 2, 9])
        return noun(number(), size, key)

    kinds: dict[str, Callable[[], Noun]] = {
        "pow": lambda: noun(number(), dice.randrange(9)),
        "sew": lambda: noun(
            dice.randrange(5),
            (dice.randrange(9), dice.randrange(9), number()),
            number(),
        ),
        "muk": muk,
        "find": lambda: noun(few(3), few(8)),
        "need": unit,
        "welp": lambda: noun(few(4), dice.choice([number(), CELL])),
        "fand": lambda: noun(few(3), few(8)),
        "oust": lambda: noun((dice.randrange(5), dice.randrange(5)), few(6)),
        "into": lambda: noun(few(6), dice.randrange(8), number()),
        "snap": lambda: noun(few(6), dice.randrange(8), number()),
        "snip": lambda: noun(few(4)),
        "rear": lambda: noun(few(4)),
        "fil": lambda: noun(dice.randrange(7), dice.randrange(9), number()),
        "aor": lambda: noun(
            dice.choice([number(), noun(few(3)), CELL]),
            dice.choice([number(), noun(few(3)), CELL]),
        ),
        "sqt": number,
        "swp": lambda: noun(dice.randrange(5), number()),
        "can": lambda: noun(
            dice.randrange(5),
            [noun(dice.randrange(6), number()) for _ in range(3)],
        ),
    }
    for name, kind in kinds.items():
        samples = [kind() for _ in range(40)]
        for sample, want in zip(samples, kernel(f"two/{name}", samples), strict=True):
            got = jets(f"two/{name}", sample)
            assert got in (want, PUNT), (name, sample)
