"""The inside of fl (cofl): lug and drg against exact fractions, and against a
real kernel's own Nock."""

from __future__ import annotations

import random
from fractions import Fraction
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto.cord import cord
from proto.noun import Noun, noun
from tests.support.jets import CRASH, PUNT, Jets, real_kernel

MODES = ("fl", "ce", "sm", "lg", "ne", "na", "nt")
HALF = Fraction(1, 2)
ZERO = noun("f", 0, 0, 0)


class Shape(NamedTuple):
    """fl's sample: precision, least exponent, width of exponents, denormals."""

    precision: int
    least: int
    width: int
    denormals: str

    def door(self) -> Noun:
        sizes = noun(self.precision, signed(self.least), self.width)
        return noun(sizes, cord("n"), cord(self.denormals))

    def unit(self, size: Fraction) -> int:
        """The exponent of a number's last bit."""
        top = size.numerator.bit_length() - size.denominator.bit_length()
        top -= size < Fraction(2) ** top
        unit = top - self.precision + 1
        return unit if self.denormals == "i" else max(unit, self.least)


FORMATS = (
    *(
        Shape(11, -24, 29, "d"),
        Shape(53, -1074, 2045, "d"),
        Shape(113, -16494, 32765, "d"),
    ),
    *(
        Shape(2, -3, 4, "d"),
        Shape(4, -5, 3, "f"),
        Shape(5, 2, 0, "i"),
        Shape(3, 3, 2, "d"),
    ),
)
shapes = st.sampled_from(FORMATS)
numbers = st.tuples(st.integers(-30, 30), st.integers(1, 1 << 16))


@pytest.fixture(scope="module")
def jets() -> Jets:
    return Jets()


def signed(value: int) -> int:
    return 2 * value if value >= 0 else -2 * value - 1


def lug(shape: Shape, mode: str, e: int, a: int, exact: bool) -> Noun:
    """a * 2^e, or a quarter of its last bit more, rounded."""
    precision, least, width, denormals = shape
    if a == 0 or (not exact and a.bit_length() <= precision):
        return CRASH
    size = Fraction(2) ** e * a
    unit = shape.unit(size)
    if not exact:
        size += Fraction(2) ** e / 4
    steps = size / Fraction(2) ** unit
    whole, rest = int(steps), steps - int(steps)
    if mode == "sm" and rest == 0:
        if whole == 1 << (precision - 1) and (denormals == "i" or unit != least):
            whole, unit = 2 * whole, unit - 1
        whole -= 1
    else:
        whole += {
            "fl": False,
            "sm": False,
            "ce": rest > 0,
            "lg": True,
            "ne": rest > HALF or (rest == HALF and whole % 2 == 1),
            "na": rest >= HALF,
            "nt": rest > HALF,
        }[mode]
    if whole == 1 << precision:
        whole, unit = whole // 2, unit + 1
    if whole and denormals != "i" and unit > least + width:
        return noun("i", 0)
    if whole == 0 or (denormals == "f" and whole.bit_length() != precision):
        return ZERO
    return noun("f", 0, signed(unit), whole)


def drg(shape: Shape, e: int, a: int) -> Noun:
    """The decimal of fewest digits, and of those the nearest, that lies between
    the points halfway to the neighbours; as far as a's last bit is the
    format's, or there is room to append zeros."""
    size = Fraction(2) ** e * a
    step = Fraction(2) ** min(e, shape.unit(size))
    below = above = step / 2
    power = size / step == 1 << (shape.precision - 1)
    if power and (shape.denormals == "i" or step != Fraction(2) ** shape.least):
        below /= 2
    bits = size.numerator.bit_length() - size.denominator.bit_length()
    exponent = int(bits * 0.30103) + 2
    while True:
        ten = Fraction(10) ** exponent
        low = int(size / ten)
        near = [
            (abs(digits * ten - size), digits)
            for digits in (low, low + 1)
            if size - below < digits * ten < size + above
        ]
        if near:
            return noun(signed(exponent), min(near)[1])
        exponent -= 1


def lug_sample(mode: str, e: int, a: int, exact: bool) -> Noun:
    return noun(mode, (signed(e), a), 0 if exact else 1)


@given(shapes, st.sampled_from(MODES), numbers, st.booleans())
def test_lug(
    jets: Jets, shape: Shape, mode: str, number: tuple[int, int], exact: bool
) -> None:
    want = lug(shape, mode, *number, exact)
    sample = lug_sample(mode, *number, exact)
    assert jets("tri/cofl/lug", sample, shape.door()) == want


def test_lug_of_all_small_numbers(jets: Jets) -> None:
    for shape in FORMATS[3:]:
        for mode in MODES:
            for e in range(-9, 8):
                for a in range(34):
                    for exact in (True, False):
                        got = jets(
                            "tri/cofl/lug", lug_sample(mode, e, a, exact), shape.door()
                        )
                        assert got == lug(shape, mode, e, a, exact), (
                            shape,
                            mode,
                            e,
                            a,
                            exact,
                        )


@given(shapes, numbers)
def test_drg(jets: Jets, shape: Shape, number: tuple[int, int]) -> None:
    want = drg(shape, *number)
    assert (
        jets("tri/cofl/drg", noun(signed(number[0]), number[1]), shape.door()) == want
    )


@given(st.floats(min_value=5e-324, allow_infinity=False))
def test_drg_of_doubles(jets: Jets, value: float) -> None:
    top, bottom = value.as_integer_ratio()
    e = 1 - bottom.bit_length()
    shift = max(0, top.bit_length() - 53)
    got = jets("tri/cofl/drg", noun(signed(e + shift), top >> shift), FORMATS[1].door())
    assert got == drg(FORMATS[1], e + shift, top >> shift)


def test_what_declines(jets: Jets) -> None:
    shape = FORMATS[0].door()
    for door in (5, noun((1, 0, 5), "n", "d"), noun((11, 0, 5), "n", "x")):
        assert jets("tri/cofl/lug", lug_sample("fl", 0, 5, True), door) == PUNT
        assert jets("tri/cofl/drg", noun(0, 5), door) == PUNT
    for sample in (5, noun("xx", (0, 5), 0), noun("fl", 5, 0), noun("fl", (0, 5), 2)):
        assert jets("tri/cofl/lug", sample, shape) == PUNT
    for number in (5, noun((1, 2), 5), noun(0, (1, 2)), noun(1 << 70, 1)):
        assert jets("tri/cofl/drg", number, shape) == PUNT
    assert jets("tri/cofl/drg", noun(0, 0), shape) == CRASH


@pytest.mark.timeout(1200)
def test_real_hoon_agrees() -> None:
    kernel, jets = real_kernel(), Jets()
    dice = random.Random(3)

    def number() -> tuple[int, int]:
        return dice.randrange(-12, 12), dice.getrandbits(dice.choice([2, 5, 9, 14])) + 1

    for path in ("tri/cofl/lug", "tri/cofl/drg"):
        cases: list[tuple[Noun, Noun]] = []
        for shape in FORMATS:
            for _ in range(40):
                e, a = number()
                if path.endswith("lug"):
                    exact = dice.random() < 0.5 or a.bit_length() <= shape.precision
                    sample = lug_sample(dice.choice(MODES), e, a, exact)
                else:
                    sample = noun(signed(e), a)
                cases.append((shape.door(), sample))
        got = [jets(path, sample, door) for door, sample in cases]
        assert got == kernel.in_doors(path, cases)
    door = FORMATS[0].door()
    crashing = [lug_sample("ne", 0, 0, True), lug_sample("fl", 3, 7, False)]
    assert kernel("tri/cofl/lug", crashing, door) == [CRASH, CRASH]
    assert [jets("tri/cofl/lug", each, door) for each in crashing] == [CRASH, CRASH]
