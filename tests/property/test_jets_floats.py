"""The float doors' jets against rational arithmetic, and against real Hoon.

`Model` is IEEE 754 with Hoon's own rules (native/jets/floats.c names them),
on exact fractions: half precision is checked through and through, the wider
formats on random and special numbers.
"""

from __future__ import annotations

import math
import os
import random
import struct
from fractions import Fraction
from math import isqrt

import pytest

from proto.noun import Noun, noun
from tests.support.jets import PUNT, Jets, real_kernel

FORMATS = {"rh": (5, 10), "rs": (8, 23), "rd": (11, 52), "rq": (15, 112)}
MODES = ("n", "u", "d", "z")
OPERATIONS = {"add": 2, "sub": 2, "mul": 2, "div": 2, "sqt": 1, "fma": 3}
COMPARISONS = ("lth", "lte", "equ", "gte", "gth")

# A number is (is it negative, its magnitude); None is the NaN.
INFINITE = None
Number = tuple[bool, Fraction | None] | None


class Model:
    """One format in one mode."""

    def __init__(self, door: str, mode: str) -> None:
        self.width, self.fraction = FORMATS[door]
        self.mode = mode
        self.all = (1 << self.width) - 1
        self.bias = self.all >> 1
        self.unit = Fraction(1, 1 << (self.bias + self.fraction - 1))

    def decode(self, bits: int) -> Number:
        low = bits & ((1 << self.fraction) - 1)
        top = bits >> self.fraction & self.all
        minus = bool(bits >> (self.fraction + self.width) & 1)
        if top == self.all:
            return None if low else (minus, INFINITE)
        if top == 0:
            return minus, low * self.unit
        return minus, ((1 << self.fraction) + low) * self.unit * (1 << (top - 1))

    def encode(self, value: Number) -> int:
        if value is None:
            return ((self.all << 1) + 1) << (self.fraction - 1)
        minus, size = value
        sign = int(minus) << (self.fraction + self.width)
        if size is INFINITE:
            return sign | self.all << self.fraction
        steps = size / self.unit
        shift = max(0, int(steps).bit_length() - self.fraction - 1)
        steps /= 1 << shift
        assert steps.denominator == 1
        return sign | (int(steps) + (shift << self.fraction))

    def round(self, minus: bool, size: Fraction, below: bool = False) -> Number:
        """`below`: the true size is less than a hair above `size`."""
        steps = size / self.unit
        shift = max(0, int(steps).bit_length() - self.fraction - 1)
        steps /= 1 << shift
        whole = int(steps)
        rest = steps - whole
        if rest or below:
            half = Fraction(1, 2)
            away = {
                "n": rest > half or (rest == half and (below or whole % 2 == 1)),
                "u": not minus,
                "d": minus,
                "z": False,
            }[self.mode]
            whole += away
        size = whole * self.unit * (1 << shift)
        if size >= (1 << (self.all - 1 + self.fraction)) * self.unit:
            return minus, INFINITE
        return minus, size

    def add(self, a: Number, b: Number, fused: bool = False) -> Number:
        if a is None or b is None:
            return None
        if a[1] is INFINITE or b[1] is INFINITE:
            if a[1] is INFINITE and b[1] is INFINITE:
                return a if a == b else None
            return a if a[1] is INFINITE else b
        if a[1] == 0 and b[1] == 0:
            both = a[0] and b[0]
            return (a[0] or b[0] if self.mode == "d" else both), Fraction(0)
        total = (-a[1] if a[0] else a[1]) + (-b[1] if b[0] else b[1])
        if total == 0:
            return self.mode == "d", Fraction(0)
        rounded = self.round(total < 0, abs(total))
        if a[1] and b[1] and rounded is not None and rounded[1] == 0:
            return self.mode == "d", Fraction(0)
        return rounded

    def product(self, a: Number, b: Number) -> Number:
        """Exact."""
        if a is None or b is None:
            return None
        minus = a[0] != b[0]
        if a[1] is INFINITE or b[1] is INFINITE:
            return None if a[1] == 0 or b[1] == 0 else (minus, INFINITE)
        return minus, a[1] * b[1]

    def compute(self, arm: str, *bits: int) -> int:
        values = [self.decode(each) for each in bits]
        a = values[0]
        b = values[-1]
        if arm == "add":
            return self.encode(self.add(a, b))
        if arm == "sub":
            return self.encode(self.add(a, b and (not b[0], b[1])))
        if arm == "fma":
            return self.encode(self.add(self.product(a, values[1]), b))
        if arm == "sqt":
            return self.encode(self.root(a))
        exact = self.product(a, b) if arm == "mul" else self.quotient(a, b)
        if exact is None or exact[1] is INFINITE:
            return self.encode(exact)
        return self.encode(self.round(exact[0], exact[1]))

    def quotient(self, a: Number, b: Number) -> Number:
        if a is None or b is None:
            return None
        minus = a[0] != b[0]
        if a[1] is INFINITE:
            return None if b[1] is INFINITE else (minus, INFINITE)
        if b[1] is INFINITE:
            return minus, Fraction(0)
        if b[1] == 0:
            return None if a[1] == 0 else (minus, INFINITE)
        return minus, a[1] / b[1]

    def root(self, a: Number) -> Number:
        if a is None or a[1] == 0:
            return a
        if a[0]:
            return None
        if a[1] is INFINITE:
            return a
        # To many more bits than the format has; what is cut off is a hair.
        scale = 1 << (2 * self.bias + 4 * self.fraction)
        square = a[1] * scale * scale
        assert square.denominator == 1
        whole = isqrt(int(square))
        return self.round(False, Fraction(whole, scale), whole * whole != square)

    def compare(self, arm: str, x: int, y: int) -> bool:
        a, b = self.decode(x), self.decode(y)
        if a is None or b is None:
            return False
        top = Fraction(1 << (2 << self.width))
        c, d = (
            (-1 if minus else 1) * (top if size is INFINITE else size)
            for minus, size in (a, b)
        )
        return {
            "lth": c < d,
            "lte": c <= d,
            "equ": c == d,
            "gte": c >= d,
            "gth": c > d,
        }[arm]


@pytest.fixture(scope="module")
def jets() -> Jets:
    return Jets()


def random_bits(door: str, dice: random.Random) -> int:
    """Special numbers, near-special ones, and numbers near one."""
    width, fraction = FORMATS[door]
    top = (1 << width) - 1
    sign = dice.getrandbits(1) << (width + fraction)
    low = dice.choice(
        [0, 1, 2, 3, (1 << fraction) - 1, 1 << (fraction - 1)]
        + [dice.getrandbits(fraction)] * 6
    )
    middle = top >> 1
    exponent = dice.choice(
        (
            *(0, 0, 1, 2, top, top - 1, fraction, dice.getrandbits(width)),
            *(middle, middle + fraction, middle - fraction),
            middle + dice.randrange(-9, 9),
            (top >> 2) + dice.randrange(-3, 3),
        )
    )
    return sign | (exponent & top) << fraction | low


def random_sample(door: str, count: int, dice: random.Random) -> list[int]:
    numbers = [random_bits(door, dice) for _ in range(count)]
    width, fraction = FORMATS[door]
    if count > 1 and dice.random() < 0.3:  # neighbours: cancellation and ties
        near = numbers[0] + dice.randrange(-2, 3)
        near ^= dice.getrandbits(1) << (width + fraction)
        numbers[-1] = near % (1 << (1 + width + fraction))
    return numbers


@pytest.mark.parametrize("door", FORMATS)
def test_jets_agree_with_fractions(jets: Jets, door: str) -> None:
    dice = random.Random(door)
    rounds = 40 if door == "rq" else 100
    for mode in MODES:
        model = Model(door, mode)
        for arm, count in OPERATIONS.items():
            for _ in range(rounds):
                sample = random_sample(door, count, dice)
                got = jets(f"tri/{door}/{arm}", noun(*sample), noun(mode))
                want = model.compute(arm, *sample)
                assert got == want, (mode, arm, [hex(each) for each in sample])
    for arm in COMPARISONS:
        for _ in range(rounds):
            a, b = random_sample(door, 2, dice)
            got = jets(f"tri/{door}/{arm}", noun(a, b), noun("n"))
            assert got == (0 if model.compare(arm, a, b) else 1), (arm, a, b)


# --- half precision, through and through -----------------------------------------

SWEEP = bool(os.environ.get("TREADLE_HALF_SWEEP"))
"""By hand: every root in every mode, every pair of edges and a million more."""
EDGES = (0, 1, 2, 0x155, 0x1FF, 0x200, 0x201, 0x2AA, 0x3FE, 0x3FF)
HALF_MAX = 0x7BFF
HALF_VALUES = [
    struct.unpack("<e", struct.pack("<H", bits))[0] for bits in range(1 << 16)
]


def half_of(value: float, mode: str, error: float) -> int:
    """A double as the nearest half in the mode, by Python's own conversion.
    `error`: below zero where the true value is less than this double."""
    try:
        bits = int.from_bytes(struct.pack("<e", value), "little")
    except OverflowError:
        if abs(value) >= 65536:
            return 0xFC00 if value < 0 else 0x7C00
        bits = 0x8000 * (value < 0) + (0x7C00 if mode == "n" else HALF_MAX)
    size, near = bits & 0x7FFF, abs(HALF_VALUES[bits])
    minus = bool(bits >> 15)
    beyond = abs(value) - near or (-error if minus else error)
    if mode == "n" or beyond == 0:
        return bits
    away = (mode == "u" and not minus) or (mode == "d" and minus)
    if beyond > 0 and away:
        size += 1
    elif beyond < 0 and not away:
        size -= 1
    return 0x8000 * minus + size


def half_computed(model: Model, arm: str, a: int, b: int) -> int:
    """Of finite numbers other than zero doubles suffice: a sum or a product of
    two halves is exact, and what a quotient or a root lacks is too little to
    lead to another half but for its sign. The model does the rest."""
    x, y = HALF_VALUES[a], HALF_VALUES[b]
    plain = all(1 <= bits & 0x7FFF <= HALF_MAX for bits in (a, b))
    if not plain or (arm == "add" and x + y == 0) or (arm == "sub" and x == y):
        return model.compute(arm, a, b)
    if arm == "div":
        made = x / y
        # Exactly: what the quotient lacks, seen from its own sign.
        rest = Fraction(x) - Fraction(made) * Fraction(y)
        return half_of(made, model.mode, float(rest / Fraction(y)) if rest else 0.0)
    value = {"add": x + y, "sub": x - y, "mul": x * y}[arm]
    return half_of(value, model.mode, 0.0)


def half_root(model: Model, bits: int) -> int:
    if not 1 <= bits <= HALF_MAX:
        return model.compute("sqt", bits)
    made = math.sqrt(HALF_VALUES[bits])
    rest = Fraction(HALF_VALUES[bits]) - Fraction(made) ** 2
    return half_of(made, model.mode, (rest > 0) - (rest < 0))


def half_edges(fractions: tuple[int, ...]) -> list[int]:
    """Of each sign and exponent some: zeros, infinities and NaNs among them."""
    return [
        sign << 15 | exponent << 10 | fraction
        for sign in (0, 1)
        for exponent in range(32)
        for fraction in fractions
    ]


@pytest.mark.parametrize("mode", MODES)
def test_half_every_root(jets: Jets, mode: str) -> None:
    model = Model("rh", mode)
    # Every number is in one mode's share; by hand in each.
    first, step = (0, 1) if SWEEP else (MODES.index(mode), 4)
    share: list[Noun] = list(range(first, 1 << 16, step))
    got = jets.many("tri/rh/sqt", share, noun(mode))
    for bits, made in zip(share, got, strict=True):
        assert isinstance(bits, int)
        assert made == half_root(model, bits), hex(bits)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("mode", MODES)
def test_half_every_edge(jets: Jets, mode: str) -> None:
    """Pairs of numbers at the edges of every exponent; by hand far more."""
    model, dice = Model("rh", mode), random.Random(mode)
    edges = half_edges(EDGES)
    pairs = [(a, b) for a in edges for b in edges]
    if SWEEP:
        pairs += [(dice.getrandbits(16), dice.getrandbits(16)) for _ in range(1 << 18)]
    else:
        pairs = dice.sample(pairs, 1500)
    for arm in ("add", "sub", "mul", "div"):
        for at in range(0, len(pairs), 1 << 17):
            some = pairs[at : at + (1 << 17)]
            got = jets.many(f"tri/rh/{arm}", [noun(a, b) for a, b in some], noun(mode))
            for (a, b), made in zip(some, got, strict=True):
                assert made == half_computed(model, arm, a, b), (arm, hex(a), hex(b))
    triples = [
        tuple(dice.choices(edges, k=3)) for _ in range(200_000 if SWEEP else 300)
    ]
    got = jets.many("tri/rh/fma", [noun(*each) for each in triples], noun(mode))
    for triple, made in zip(triples, got, strict=True):
        assert made == model.compute("fma", *triple), [hex(each) for each in triple]


def test_what_declines(jets: Jets) -> None:
    for door in FORMATS:
        assert jets(f"tri/{door}/add", noun(1, 2), noun("a")) == PUNT
        assert jets(f"tri/{door}/add", noun(1, 2), noun(1, 2)) == PUNT
        assert jets(f"tri/{door}/add", noun((1, 2), 3), noun("n")) == PUNT
        assert jets(f"tri/{door}/sqt", noun(1, 2), noun("n")) == PUNT
        assert jets(f"tri/{door}/fma", noun(1, 2), noun("n")) == PUNT
        assert jets(f"tri/{door}/lth", 7, noun("n")) == PUNT
    # Bits that the format does not have do not count.
    wide = noun(0x3C00 + (9 << 200), 0x4000 + (5 << 16))
    assert jets("tri/rh/add", wide, noun("n")) == 0x4200


@pytest.mark.timeout(1200)
def test_real_hoon_agrees() -> None:
    kernel, jets = real_kernel(), Jets()
    dice = random.Random(4)
    for door in FORMATS:
        for arm, count in OPERATIONS.items():
            for mode in MODES:
                samples: list[Noun] = [
                    noun(*random_sample(door, count, dice)) for _ in range(60)
                ]
                path = f"tri/{door}/{arm}"
                wants = kernel(path, samples, noun(mode))
                for sample, want in zip(samples, wants, strict=True):
                    got = jets(path, sample, noun(mode))
                    assert got == want, (path, mode, sample)
        for arm in COMPARISONS:
            samples = [noun(*random_sample(door, 2, dice)) for _ in range(60)]
            path = f"tri/{door}/{arm}"
            wants = kernel(path, samples, noun("n"))
            assert [jets(path, each, noun("n")) for each in samples] == wants
