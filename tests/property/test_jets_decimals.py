"""Floats, @uc and @c as text (scot, scow) and back (slaw): each jet against a
model in Python, and against a real kernel's own Nock.

Numbers are read and printed by exact fractions: the nearest float of a decimal,
and the shortest decimal of a float, laid out as the Hoon does. The checksum of
@uc is hashlib's.
"""

from __future__ import annotations

import random
import re
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from fractions import Fraction
from hashlib import sha256

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proto.cord import cord
from proto.noun import Cell, Noun, noun
from tests.property.test_jets_floats import FORMATS, Model
from tests.property.test_jets_rounding import Shape, drg
from tests.support.jets import CRASH, PUNT, Jets, real_kernel

TILDES = {"rs": "", "rd": "~", "rh": "~~", "rq": "~~~"}
MODELS = {aura: Model(aura, "n") for aura in FORMATS}
DIGITS = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
WIDE = Context(prec=MAX_PREC, Emin=MIN_EMIN, Emax=MAX_EMAX)  # exact
LIMIT = 100_000  # of powers of ten

auras = st.sampled_from(sorted(FORMATS))


@pytest.fixture(scope="module")
def jets() -> Jets:
    return Jets()


# --- the model -----------------------------------------------------------------


def _layout(digits: int, exponent: int) -> str:
    power = len(str(digits)) + exponent - 1
    if exponent < 3 and power >= -2:
        return f"{Decimal(digits).scaleb(exponent, WIDE):f}"
    first, *rest = str(digits)
    return first + "." * bool(rest) + "".join(rest) + f"e{power}"


def printed(aura: str, bits: int) -> str:
    model = MODELS[aura]
    number = model.decode(bits)
    if number is None:
        return "." + TILDES[aura] + "nan"
    minus, size = number
    sign = "." + TILDES[aura] + "-" * minus
    if size is None:
        return sign + "inf"
    if size == 0:
        return sign + "0"
    width, fraction = FORMATS[aura]
    least = 2 - (1 << (width - 1)) - fraction
    steps = int(size / Fraction(2) ** least)
    shift = max(0, steps.bit_length() - fraction - 1)
    made = drg(
        Shape(fraction + 1, least, (1 << width) - 3, "d"),
        least + shift,
        steps >> shift,
    )
    assert isinstance(made, Cell)
    assert isinstance(made.head, int)
    assert isinstance(made.tail, int)
    half = (made.head + 1) // 2
    return sign + _layout(made.tail, -half if made.head % 2 else half)


FLOAT = (
    r"\.(~{0,3})(?:(-?)(?:(0|[1-9]\d*)(?:\.(\d+))?(?:e(-?)(0|[1-9]\d*))?|(inf))|(nan))"
)


def read(aura: str, text: str) -> int | None:
    match = re.fullmatch(FLOAT, text, re.ASCII)
    if not match or match[1] != TILDES[aura]:
        return None
    _, sign, whole, part, below, power, endless, none = match.groups()
    model = MODELS[aura]
    if none:
        return model.encode(None)
    if endless:
        return model.encode((bool(sign), None))
    size = Fraction(Decimal(f"{whole}.{part or 0}e{below or ''}{power or 0}"))
    return model.encode(model.round(bool(sign), size))


def base58(value: int) -> str:
    data = value.to_bytes(max(21, (value.bit_length() + 7) // 8), "big")
    check = sha256(sha256(data).digest()).digest()[:4]
    number = value << 32 | int.from_bytes(check, "big")
    text = ""
    while number:
        text = DIGITS[number % 58] + text
        number //= 58
    size = (value.bit_length() + 7) // 8
    return "0c" + "1" * (21 - size) + text


def tape(text: str) -> Noun:
    return noun(list(text.encode()))


def shows(jets: Jets, aura: str, value: int) -> Noun:
    """What scow gives; scot gives the same."""
    sample = noun(cord(aura), value)
    got = jets("qua/scow", sample)
    text = jets("qua/scot", sample)
    if isinstance(text, int):
        assert got == noun(list(text.to_bytes((text.bit_length() + 7) // 8, "little")))
    else:
        assert got == text
    return got


def slaw(jets: Jets, aura: str, text: str) -> Noun:
    return jets("qua/slaw", noun(cord(aura), cord(text)))


# --- floats --------------------------------------------------------------------


@st.composite
def floats(draw: st.DrawFn) -> tuple[str, int]:
    """An aura and bits: any, or near a power of two or the format's ends."""
    aura = draw(auras)
    width, fraction = FORMATS[aura]
    size = width + fraction + 1
    if draw(st.booleans()):
        return aura, draw(st.integers(0, (1 << size) - 1))
    top = draw(st.sampled_from([0, 1, 2, (1 << width) // 2, (1 << width) - 2]))
    around = (top << fraction) + draw(st.integers(-3, 3))
    return aura, (around + (draw(st.integers(0, 1)) << (size - 1))) % (1 << size)


@given(floats())
def test_floats_print_and_read_back(jets: Jets, case: tuple[str, int]) -> None:
    aura, bits = case
    text = printed(aura, bits)
    assert shows(jets, aura, bits) == tape(text)
    model = MODELS[aura]
    assert slaw(jets, aura, text) == noun(0, model.encode(model.decode(bits)))


@pytest.mark.parametrize(
    ("aura", "bits", "text"),
    [
        ("rs", 0, ".0"),
        ("rs", 0x80000000, ".-0"),
        ("rs", 0x3F800000, ".1"),
        ("rs", 0x447A0000, ".1e3"),
        ("rs", 0x42C80000, ".100"),
        ("rs", 0x4640E400, ".12345"),
        ("rs", 0x7F7FFFFF, ".3.4028235e38"),
        ("rs", 1, ".1e-45"),
        ("rs", 0xFF800000, ".-inf"),
        ("rs", 0xFF800001, ".nan"),
        ("rd", 0x3FB999999999999A, ".~0.1"),
        ("rd", 0x3F847AE147AE147B, ".~0.01"),
        ("rd", 0x3F50624DD2F1A9FC, ".~1e-3"),
        ("rd", 0x7FEFFFFFFFFFFFFF, ".~1.7976931348623157e308"),
        ("rd", 0x0010000000000000, ".~2.2250738585072014e-308"),
        ("rd", 1, ".~5e-324"),
        ("rh", 0x7BFF, ".~~65500"),
        ("rh", 0x3555, ".~~0.3333"),
        ("rq", 0x3FFF << 112, ".~~~1"),
        ("rq", 1, ".~~~6e-4966"),
    ],
)
def test_floats_that_we_know(jets: Jets, aura: str, bits: int, text: str) -> None:
    assert shows(jets, aura, bits) == tape(text)
    assert printed(aura, bits) == text


def test_bits_above_the_format_do_not_show(jets: Jets) -> None:
    for aura, (width, fraction) in FORMATS.items():
        high = 5 << (width + fraction + 1)
        assert shows(jets, aura, high + 1) == shows(jets, aura, 1)


def halfway(aura: str, bits: int) -> str:
    """The decimal between two neighbours, to its last digit."""
    model = MODELS[aura]
    low, high = model.decode(bits), model.decode(bits + 1)
    assert low is not None
    assert high is not None
    below, above = low[1], high[1]
    assert below is not None
    if above is None:  # the largest number, and where the next would be
        less = model.decode(bits - 1)
        assert less is not None
        assert less[1] is not None
        above = 2 * below - less[1]
    middle = (below + above) / 2
    twos = middle.denominator.bit_length() - 1
    return f"{Decimal(middle.numerator * 5**twos).scaleb(-twos, WIDE):f}"


@given(floats(), st.sampled_from(["", "0", "01", "000000001e0", "e0", "e-0"]))
def test_halfway_cases_round_to_even(
    jets: Jets, case: tuple[str, int], more: str
) -> None:
    aura, bits = case
    width, fraction = FORMATS[aura]
    bits &= (1 << (width + fraction)) - 1
    if bits >= ((1 << width) - 1) << fraction:
        bits = (((1 << width) - 1) << fraction) - 1
    text = halfway(aura, bits)
    if "." not in text and more[:1] == "0":
        text += "."
    elif more[:1] == "0" and text.endswith("5") is False:
        return
    text = "." + TILDES[aura] + text + more
    want = read(aura, text)
    assert want is not None
    assert slaw(jets, aura, text) == noun(0, want)
    assert want - bits in (0, 1)
    assert "1" in more or want % 2 == 0


@given(
    auras,
    st.from_regex(
        r"\A-?(0|[1-9][0-9]{0,40})(\.[0-9]{1,40})?(e-?(0|[1-9][0-9]{0,3}))?\Z"
    ),
)
def test_decimals(jets: Jets, aura: str, text: str) -> None:
    text = "." + TILDES[aura] + text
    want = read(aura, text)
    assert want is not None
    if aura != "rs" or not re.fullmatch(r"\.\d\.\d", text):
        assert slaw(jets, aura, text) == noun(0, want)


@given(auras, st.text("0159.-~einfa", max_size=9))
@example("rs", "1e")
@example("rs", "1.e5")
@example("rs", "01")
@example("rd", "-nan")
@example("rd", "-inf")
@example("rq", "infx")
@example("rh", "0e5")
@example("rh", "1e05")
def test_what_is_a_float(jets: Jets, aura: str, text: str) -> None:
    text = "." + TILDES[aura] + text
    got = slaw(jets, aura, text)
    if got == PUNT:  # a power of ten that is too large
        assert re.search(r"e-?\d{6}", text), text
        return
    want = read(aura, text)
    assert got == (0 if want is None else noun(0, want))


def test_powers_of_ten(jets: Jets) -> None:
    for text, zero in ((f"1e{LIMIT}", False), (f"1e-{LIMIT}", True)):
        for aura in FORMATS:
            got = slaw(jets, aura, f".{TILDES[aura]}{text}")
            endless = MODELS[aura].encode((False, None))
            assert got == noun(0, 0 if zero else endless)
    for text in (f"1e{LIMIT + 1}", f"0.1e-{LIMIT}", "0e9999999999", "1e-12345678901"):
        assert slaw(jets, "rs", "." + text) == PUNT
    assert slaw(jets, "rs", "." + "7" * 5000 + f"e-{LIMIT}") == noun(0, 0)
    assert slaw(jets, "rd", ".~0." + "0" * 5000 + "1e5001") == slaw(jets, "rd", ".~1")


# --- base58check ---------------------------------------------------------------


@given(
    st.one_of(st.integers(0, 70000), st.integers(0, 1 << 168), st.integers(0, 1 << 400))
)
@example(0)
@example((1 << 168) - 1)
@example(1 << 168)
def test_base58(jets: Jets, value: int) -> None:
    text = base58(value)
    assert shows(jets, "uc", value) == tape(text)
    assert slaw(jets, "uc", text) == noun(0, value)
    # The ones before it are digits like others, and may be left out.
    assert slaw(jets, "uc", "0c" + text[2:].lstrip("1")) == noun(0, value)
    assert slaw(jets, "uc", "0c111" + text[2:]) == noun(0, value)
    assert shows(jets, "sc", 2 * value) == tape("--" + text)
    assert slaw(jets, "sc", "--" + text) == noun(0, 2 * value)


def test_an_address_of_the_first_block(jets: Jets) -> None:
    address = "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa"
    value = 0x62E907B15CBF27D5425399EBF6F0FB50EBB88F18
    assert shows(jets, "uc", value) == tape("0c" + address)
    assert slaw(jets, "uc", "0c" + address) == noun(0, value)


@given(st.integers(0, 1 << 168), st.integers(2, 40), st.sampled_from(DIGITS + "0OIl."))
def test_base58_with_an_error(jets: Jets, value: int, at: int, digit: str) -> None:
    text = base58(value)
    wrong = text[:at] + digit + text[at + 1 :]
    if wrong != text:
        assert slaw(jets, "uc", wrong) == 0


def test_what_is_no_base58(jets: Jets) -> None:
    for text in ("0c", "0c1", "0c11111111", "0c0", "0cl", "c", "0", "0C1"):
        assert slaw(jets, "uc", text) == 0


# --- characters ----------------------------------------------------------------


@given(st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=6))
@example("a\U0010ffff ")
def test_characters(jets: Jets, text: str) -> None:
    value = int.from_bytes(text.encode("utf-32-le"), "little")
    shown = shows(jets, "c", value)
    plain = jets("qua/scow", noun(cord("t"), cord(text)))
    assert isinstance(plain, Cell)
    assert isinstance(shown, Cell)
    # ~-text for ~~text
    assert shown == noun(ord("~"), ord("-"), 0 if text == "" else _tail(_tail(plain)))
    cord_of = jets("qua/scot", noun(cord("c"), value))
    assert jets("qua/slaw", noun(cord("c"), cord_of)) == noun(0, value)


def _tail(cell: Noun) -> Noun:
    assert isinstance(cell, Cell)
    return cell.tail


def test_characters_that_are_none(jets: Jets) -> None:
    # Between two characters a zero is left out; what follows is not.
    assert shows(jets, "c", (ord("b") << 64) + ord("a")) == tape("~-ab")
    for value in (9, 1, (1 << 32) + ord("a")):
        assert shows(jets, "c", value) == CRASH
    assert shows(jets, "c", 10) == tape("~-~a.")
    for value in (0x200000, (0x200000 << 32) + 65):
        assert shows(jets, "c", value) == PUNT
    assert slaw(jets, "c", "~-a.~41.b~~") == noun(
        0, int.from_bytes("a Ab~".encode("utf-32-le"), "little")
    )
    assert slaw(jets, "c", "~-") == noun(0, 0)
    for text in ("~-A", "~-~", "~-~41", "~a"):
        assert slaw(jets, "c", text) == 0
    for text in ("~-~1.", "~-~9.x", "~-~1ffffff."):
        assert slaw(jets, "c", text) == PUNT


# --- a real kernel -------------------------------------------------------------

TEXTS = (
    *("", "1", "1.", "1e", "1e-", "1e5", "1e05", "1.5", "1.50", "-1.5e-3", "01", "00"),
    *("0", "-0", "0.0", "0e5", "-0e-5", "--1", "-", "e5", "i", "inf", "-inf", "infx"),
    *("nan", "-nan", "nann", "n", "y", "in", "1.2.3", "1.2.3.4", "1.2.3.4e5", ".5"),
    *("1e400", "1e-400", "1e5000", "1e-5000", "5e-324", "2e-324", "3e-324", "zod"),
    *("1.7976931348623159e308", "1.7976931348623158e308", "65520", "65519.99", "1e5.5"),
    *(
        "3.4028236e38",
        "3.40282357e38",
        "1e39",
        "6e-8",
        "2.98e-8",
        "2.9802322387695313e-8",
    ),
    *("179769313486231570" + "0" * 291, "0." + "0" * 330 + "3", "9" * 60, "1e1e1"),
    *("16777217", "16777219", "9007199254740993", "9007199254740992.5", "2049", "2051"),
)


@pytest.mark.timeout(1200)
def test_real_hoon_agrees() -> None:
    kernel, jets = real_kernel(), Jets()
    dice = random.Random(58)

    def check(path: str, samples: list[Noun]) -> int:
        """How many samples the jet declined."""
        declined = 0
        wants: list[Noun] = []
        for at in range(0, len(samples), 200):
            wants += kernel(path, samples[at : at + 200])
        for sample, want in zip(samples, wants, strict=True):
            got = jets(path, sample)
            declined += got == PUNT
            assert got in (want, PUNT), (path, sample, got, want)
        return declined

    shown: list[Noun] = []
    spoken: list[Noun] = []
    for aura, (width, fraction) in FORMATS.items():
        size = width + fraction + 1
        ends = [
            top << fraction for top in (0, 1, 2, (1 << width) - 2, (1 << width) - 1)
        ]
        values = [
            end + near for end in ends for near in (-2, -1, 0, 1, 2) if end + near >= 0
        ]
        values += [value | 1 << (size - 1) for value in values[:12]]
        values += [dice.getrandbits(size) for _ in range(50)]
        bias = (1 << (width - 1)) - 1  # numbers of everyday size
        values += [
            (bias + dice.randrange(-9, 15) << fraction) + dice.getrandbits(fraction)
            for _ in range(40)
        ]
        for power in range(-5, 8):
            bits = read(aura, f".{TILDES[aura]}{dice.choice([1, 12, 25])}e{power}")
            assert bits is not None
            values.append(bits)
        shown += [noun(cord(aura), value) for value in values]
        texts = [f".{TILDES[aura]}{text}" for text in TEXTS]
        texts += [printed(aura, value) for value in values]
        for value in values:
            value &= (1 << (size - 1)) - 1
            if value < ((1 << width) - 1) << fraction and aura != "rq":
                texts.append(f".{TILDES[aura]}{halfway(aura, value)}")
                texts.append(texts[-1] + "0e0" if "." in texts[-1][5:] else texts[-1])
        for text in texts[:]:
            at = dice.randrange(1, len(text) + 1)
            texts.append(text[:at] + dice.choice("0159.-~eif") + text[at:])
        for text in texts:
            if re.search(r"e-?\d{6}", text):
                continue  # a power of five that the Hoon has no room for
            asked = aura if dice.random() < 0.9 else dice.choice(["rs", "rd", "f", "q"])
            spoken.append(noun(cord(asked), cord(text)))
    numbers = [
        dice.getrandbits(dice.choice([1, 8, 60, 159, 160, 167, 168, 169, 300]))
        for _ in range(150)
    ]
    for value in (0, 1, 57, 58, 1 << 160, (1 << 168) - 1, 1 << 168, *numbers):
        shown.append(noun(cord("uc"), value))
        shown.append(noun(cord("sc"), value))
        text = base58(value)
        at = dice.randrange(2, len(text))
        spoken += [
            noun(cord("uc"), cord(each))
            for each in (
                text,
                "0c" + text[2:].lstrip("1"),
                text[:at] + "2" + text[at + 1 :],
            )
        ]
        spoken.append(noun(cord("sc"), cord(f"-{text}")))
    for text in ("0c", "0c1", "0c0", "0cl", "0c1111", "-0c", "0", "0d1"):
        spoken += [noun(cord(each), cord(text)) for each in ("uc", "sc", "ud")]
    for text in ("", "a", "\u00e9", "a\U0001f600 b", "\n", "~", "\x7f", "\u0800\uffff"):
        value = int.from_bytes(text.encode("utf-32-le"), "little")
        shown.append(noun(cord("c"), value))
    for text in (
        "~-",
        "~-a",
        "~-~e9.",
        "~-~1f600.x",
        "~-A",
        "~-~41",
        "~-~41.~~~.",
        "~-~0.a",
        "~-~d800.",
    ):
        spoken.append(noun(cord("c"), cord(text)))
    for value in (
        1,
        9,
        0x200000,
        0x1FFFFF,
        0x110000,
        (1 << 32) + 65,
        (65 << 64) + 66,
        0x1000041,
    ):
        shown.append(noun(cord("c"), value))
    spoken += [noun(cord("c"), cord(text)) for text in ("~-~1.", "~-~9.x", "~-a~7.")]
    assert check("qua/scow", shown) < 8
    assert check("qua/scot", shown) < 8
    assert check("qua/slaw", spoken) < len(spoken) // 100
