"""Atoms as text (scot, scow), text as atoms (slaw), names of ships (ob, po):
each jet against a model in Python, and against a real kernel's own Nock. Floats,
@uc and @c are test_jets_decimals.py's.

The model prints with Python's own formats and calendar, and reads with one
regular expression per aura; names of ships are proto/cord.py's.
"""

from __future__ import annotations

import random
import re
from datetime import date, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proto.cord import cord, ship_from_text, ship_text
from proto.noun import Cell, Noun, noun
from tests.support.jets import CRASH, PUNT, Jets, real_kernel

CELL = noun(1, 2)
ZERO_YEAR = 292277024400
ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-~"
# letter -> (base, digits in a group)
BASES = {"b": (2, 4), "x": (16, 4), "v": (32, 5), "w": (64, 5)}
AURAS = (
    *("ub", "ud", "ui", "ux", "uv", "uw", "u", "sb", "sd", "sx", "sv", "sw", "si"),
    *("da", "dr", "d", "f", "if", "is", "i", "n", "p", "q", "ta", "tas", "", "zz"),
)

numbers = st.one_of(
    st.integers(0, 300), st.integers(0, 1 << 70), st.integers(0, 1 << 300)
)
times = st.one_of(numbers, st.integers(0, (1 << 128) - 1)).map(lambda n: n % (1 << 128))


@pytest.fixture(scope="module")
def jets() -> Jets:
    return Jets()


# --- the model -----------------------------------------------------------------


def _digits(value: int, base: int) -> str:
    text = ""
    while value or not text:
        text = ALPHABET[value % base] + text
        value //= base
    return text


def _grouped(text: str, group: int) -> str:
    first = len(text) % group or group
    rest = [text[at : at + group] for at in range(first, len(text), group)]
    return ".".join([text[:first], *rest])


def _unsigned(form: str, value: int) -> str:
    if form in BASES:
        base, group = BASES[form]
        return f"0{form}" + _grouped(_digits(value, base), group)
    return f"0i{value}" if form == "i" else f"{value:,}".replace(",", ".")


def _fraction(value: int) -> str:
    words = [value >> shift & 0xFFFF for shift in (48, 32, 16, 0)]
    while words and words[-1] == 0:
        words.pop()
    return "." + "".join(f".{word:04x}" for word in words) if words else ""


def _date(value: int, pad: bool) -> str:
    seconds, fraction = divmod(value, 1 << 64)
    day, rest = divmod(seconds, 86400)
    cycles, day = divmod(day, 146097)
    when = date(2000, 1, 1) + timedelta(day)
    year = when.year - 2000 + 400 * cycles
    text = f"{year - ZERO_YEAR}" if year > ZERO_YEAR else f"{ZERO_YEAR - year + 1}-"
    width = 2 if pad else 1
    text = f"~{text}.{when.month:0{width}}.{when.day:0{width}}"
    if rest or fraction:
        hour, minute, second = rest // 3600, rest // 60 % 60, rest % 60
        text += f"..{hour:02}.{minute:02}.{second:02}"
    return text + _fraction(fraction)


def _span(value: int) -> str:
    seconds, fraction = divmod(value, 1 << 64)
    sizes = (seconds // 86400, seconds // 3600 % 24, seconds // 60 % 60, seconds % 60)
    parts = [f"{name}{size}" for name, size in zip("dhms", sizes, strict=True) if size]
    return "~" + (".".join(parts) or "s0") + _fraction(fraction)


def _words(value: int) -> list[str]:
    """Two syllables for each 16 bits, the highest first."""
    # A ship below 2^16 is its own name, of one syllable or two.
    words = [value >> at & 0xFFFF for at in range(0, value.bit_length() or 1, 16)]
    return [ship_text(word)[1:].rjust(6, "?").replace("???", "doz") for word in words][
        ::-1
    ]


def _phonetic(value: int) -> str:
    first, *rest = _words(value)
    short = value >> 16 * len(rest) < 256
    return ".~" + "-".join([first[3:] if short else first, *rest])


def _text(data: bytes) -> str:
    out = ""
    for char in data.decode():
        plain = char in "abcdefghijklmnopqrstuvwxyz0123456789-"
        out += {" ": ".", ".": "~.", "~": "~~"}.get(
            char, char if plain else f"~{ord(char):x}."
        )
    return out


def printed(aura: str, value: int, pad: bool = False) -> str:
    """An atom as text, where the aura is one of AURAS."""
    match aura[:1], aura[1:2]:
        case "u", form:
            return _unsigned(form, value)
        case "s", form:
            sign = "-" if value % 2 else "--"
            return sign + _unsigned(form, (value + 1) // 2)
        case "d", "a":
            return _date(value, pad)
        case "d", "r":
            return _span(value)
        case "f", _ if value < 2:
            return ".n" if value else ".y"
        case "i", "f":
            return "".join(f".{value >> at & 255}" for at in (24, 16, 8, 0))
        case "i", "s":
            return "".join(f".{value >> at & 0xFFFF:x}" for at in range(112, -1, -16))
        case "n", _:
            return "~"
        case "p", _:
            return ship_text(value)
        case "q", _:
            return _phonetic(value)
        case _:
            return f"0x{value:x}"


def _number(groups: str, base: int) -> int:
    value = 0
    for digit in groups.replace(".", ""):
        value = value * base + ALPHABET.index(digit)
    return value


def _hex(groups: str) -> int:
    return int(groups.replace(".", ""), 16)


DOTTED = {
    "ud": r"()(0|[1-9]\d{0,2}(?:\.\d{3})*)",
    "ui": r"(0i)(0|[1-9]\d*)",
    "ub": r"(0b)(0|1[01]{0,3}(?:\.[01]{4})*)",
    "ux": r"(0x)(0|[1-9a-f][0-9a-fA-F]{0,3}(?:\.[0-9a-f]{4})*)",
    "uv": r"(0v)(0|[1-9a-v][0-9a-v]{0,4}(?:\.[0-9a-v]{5})*)",
    "uw": r"(0w)(0|[1-9a-zA-Z~-][0-9a-zA-Z~-]{0,4}(?:\.[0-9a-zA-Z~-]{5})*)",
}


def read(aura: str, text: str) -> int | None:
    """Text as an atom of one of DOTTED, ta or tas; None: it is none."""
    if aura in DOTTED:
        match = re.fullmatch(DOTTED[aura], text, re.ASCII)
        if not match:
            return None
        digits = match[2]
        if aura in ("ud", "ui"):
            return int(digits.replace(".", ""))
        if aura == "ux":
            return _hex(digits)
        return _number(digits, BASES[aura[1]][0])
    shape = {"ta": r"~\.([a-z0-9.~_-]*)", "tas": r"([a-z][a-z0-9-]*)"}[aura]
    match = re.fullmatch(shape, text)
    return cord(match[1]) if match else None


def tape(text: str | bytes) -> Noun:
    data = text.encode() if isinstance(text, str) else text
    return noun(list(data))


def unit(value: int | None) -> Noun:
    return 0 if value is None else noun(0, value)


def slaw(jets: Jets, aura: str, text: str | bytes) -> Noun:
    return jets("qua/slaw", noun(cord(aura), cord(text)))


# --- printing ------------------------------------------------------------------


@pytest.mark.parametrize("aura", AURAS)
@given(value=numbers)
def test_printed(jets: Jets, aura: str, value: int) -> None:
    if aura in ("da", "dr"):
        value %= 1 << 128
    if aura.startswith("ta"):
        data = value.to_bytes(40, "little").rstrip(b"\0")
        want = (b"" if aura == "tas" else b"~.") + data
    else:
        want = printed(aura, value).encode()
    sample = noun(cord(aura), value)
    assert jets("qua/scow", sample) == tape(want)
    assert jets("qua/scot", sample) == cord(want.replace(b"\0", b""))


@given(value=times)
@example(0)
@example((1 << 128) - 1)
@example(ZERO_YEAR // 400 * 146097 * 86400 << 64)
def test_dates(jets: Jets, value: int) -> None:
    text = printed("da", value)
    assert jets("qua/scow", noun(cord("da"), value)) == tape(text)
    assert slaw(jets, "da", text) == noun(0, value)


@given(value=times)
def test_dates_of_135(value: int) -> None:
    text = printed("da", value, pad=True)
    assert NEWEST("qua/scow", noun(cord("da"), value)) == tape(text)
    assert slaw(NEWEST, "da", text) == noun(0, value)
    assert slaw(NEWEST, "da", printed("da", value)) == noun(0, value)


def test_dates_in_between() -> None:
    between = Jets(kelvin=136)
    assert slaw(between, "da", "~2020.10.10") != PUNT
    assert slaw(between, "da", "~2020.1.1") != PUNT
    assert slaw(between, "da", "~2020.01.10") == PUNT
    late, early = (slaw(NEWEST, "da", text) for text in ("~2020.10.10", "~2020.1.1"))
    assert isinstance(late, Cell)
    assert isinstance(early, Cell)
    assert between("qua/scow", noun(cord("da"), late.tail)) == tape("~2020.10.10")
    assert between("qua/scow", noun(cord("da"), early.tail)) == PUNT


NEWEST = Jets(kelvin=135)


@given(st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=12))
@example("a~b.c D")
def test_text(jets: Jets, text: str) -> None:
    data = text.encode()
    assert jets("qua/scow", noun(cord("t"), cord(data))) == tape("~~" + _text(data))
    assert slaw(jets, "t", "~~" + _text(data)) == noun(0, cord(data))


def test_characters_that_crash(jets: Jets) -> None:
    for data in (b"\x01", b"a\tb", b"a\0b"):
        assert jets("qua/scow", noun(cord("t"), cord(data))) == CRASH
    for data in (b"\x80", b"\xc3", b"\xc0\xaf", b"\xe0\x80\x80", b"\xff\xbf\xbf\xbf"):
        assert jets("qua/scow", noun(cord("t"), cord(data))) == PUNT


def test_printing_that_declines(jets: Jets) -> None:
    for arm in ("qua/scow", "qua/scot"):
        for sample in (5, noun((1, 2), 5), noun(cord("ud"), (1, 2))):
            assert jets(arm, sample) == PUNT
        for aura in ("da", "dr"):
            assert jets(arm, noun(cord(aura), 1 << 128)) == PUNT
        assert jets(arm, noun(cord("c"), 0x200000)) == PUNT
        assert Jets(kelvin=139)(arm, noun(cord("ux"), 5)) == PUNT
    assert Jets(kelvin=139)("qua/scot", noun(cord("ud"), 5)) == PUNT
    assert Jets(kelvin=139)("qua/slaw", noun(cord("ud"), cord("5"))) == PUNT
    # Small kernels rely on this one.
    assert Jets(kelvin=139)("qua/scow", noun(cord("ud"), 1234)) == tape("1.234")


# --- reading -------------------------------------------------------------------

ROUND = tuple(
    aura for aura in AURAS if aura not in ("", "zz", "d", "i", "u", "ta", "tas")
)


@pytest.mark.parametrize("aura", ROUND)
@given(value=numbers)
def test_what_was_printed_reads(jets: Jets, aura: str, value: int) -> None:
    size = {"da": 128, "dr": 128, "f": 1, "if": 32, "is": 128, "n": 0}.get(aura, 400)
    value %= 1 << size
    assert slaw(jets, aura, printed(aura, value)) == noun(0, value)


@pytest.mark.parametrize("aura", [*DOTTED, "ta", "tas"])
@given(text=st.text("01-~.abefvwxzAFZ_0", max_size=9), prefix=st.booleans())
@example(text="1.234", prefix=False)
@example(text="aF", prefix=True)
@example(text="Fa", prefix=True)
def test_what_reads(jets: Jets, aura: str, text: str, prefix: bool) -> None:
    if prefix:
        text = {"ud": "", "ta": "~.", "tas": ""}.get(aura, f"0{aura[1]}") + text
    got = slaw(jets, aura, text)
    if got != PUNT:
        assert got == unit(read(aura, text))
    else:  # another aura's text, that declines
        assert aura in ("ub", "ui", "uw"), text
        assert text[0] in ".~"


@pytest.mark.parametrize(
    ("aura", "text"),
    [
        *(
            ("ud", text)
            for text in ("", "01", "1.", "1.23", "1.2345", "1234", "-1", "x")
        ),
        *(("ux", text) for text in ("0x", "x5", "0x01", "0xabcde", "0x1.", "5")),
        *(("da", text) for text in ("~2020", "~2020.1", "~2020.13.1", "~2020.0.1")),
        *(
            ("da", text)
            for text in ("2020.1.1", "~2020.01.1", "~2020.1.01", "~2020.1.1..")
        ),
        *(("da", text) for text in ("~2020.1.1..1.2", "~2020.1.1..1.2.3..12")),
        *(("dr", text) for text in ("~x5", "~d", "~d1..", "~d1.", "~d01", "~d1.5")),
        *(("p", text) for text in ("~", "zod", "~doz", "~dozzod", "~zodzod-zod")),
        *(("p", text) for text in ("~dozzod-dozzod", "~marzod-", "~marzod--marzod")),
        *(("if", text) for text in (".1.2.3", "1.2.3.4")),
        *(("tas", text) for text in ("", "1a", "aB", "-a")),
        *(("f", text) for text in (".x", "y", ".yy")),
        *(("sd", text) for text in ("5", "---5", "-", "-0x5")),
        *(("ub", text) for text in ("0b2", "0b", "11", "0x1", "abc")),
        *(("q", text) for text in (".~doz", "~zod")),
        *(("foo", text) for text in ("5", "abc", "~zod")),
    ],
)
def test_what_does_not_read(jets: Jets, aura: str, text: str) -> None:
    assert slaw(jets, aura, text) == 0


def test_reading_that_declines(jets: Jets) -> None:
    for aura, text in (
        *(("rs", ".1e999999"), ("rd", ".~0.1e-1000000000000"), ("c", "~-~1.")),
        *(("t", "~0"), ("many", "._1__"), ("ud", "1. 000")),
        *(("da", "~0-.1.1"), ("da", "~999999999999-.1.1"), ("p", "~marzod-- x")),
        ("da", "~1.1.1..1.1.1..0001.0001.0001.0001.0001"),
        ("da", "~1111111111111111111.1.1"),
    ):
        assert slaw(jets, aura, text) == PUNT, (aura, text)
    for sample in (5, noun((1, 2), 5), noun(cord("ud"), (1, 2))):
        assert jets("qua/slaw", sample) == PUNT


def test_long_texts(jets: Jets) -> None:
    value = 7**4000
    for aura in ("ud", "ub", "ux", "uv", "uw", "sd", "p", "q"):
        text = printed(aura, value) if aura != "p" else ""
        got = jets("qua/scot", noun(cord(aura), value))
        assert isinstance(got, int)
        assert aura == "p" or got == cord(text)
        assert jets("qua/slaw", noun(cord(aura), got)) == noun(0, value)


# --- names ---------------------------------------------------------------------


@given(st.one_of(st.integers(0, 1 << 33), st.integers(0, 1 << 66)))
@example(0x10000)
@example(0xFFFFFFFF)
@example(0x100000000)
@example(0xFFFFFFFFFFFFFFFF)
def test_cipher(jets: Jets, ship: int) -> None:
    hidden = jets("tri/ob/fein", ship)
    assert isinstance(hidden, int)
    assert jets("tri/ob/fynd", hidden) == ship
    assert ship_from_text(printed("p", ship)) == ship
    if hidden >= 256:
        assert ship_text(ship)[1:].replace("--", "-").split("-") == _words(hidden)


def test_syllables(jets: Jets) -> None:
    for byte in range(256):
        name = ship_text(byte << 8 | 1)[1:] if byte else "doznec"
        assert jets("qua/po/tos", byte) == cord(name[:3])
        assert jets("qua/po/ins", cord(name[:3])) == noun(0, byte)
        suffix = ship_text(byte)[1:]
        assert jets("qua/po/tod", byte) == cord(suffix)
        assert jets("qua/po/ind", cord(suffix)) == noun(0, byte)
    for arm in ("ins", "ind"):
        for name in ("", "zo", "zodd", "xxx", "zodzod"):
            assert jets(f"qua/po/{arm}", cord(name)) == 0
    assert jets("qua/po/ins", cord("zod")) == 0
    assert jets("qua/po/ind", cord("doz")) == 0
    for arm in ("tos", "tod"):
        assert jets(f"qua/po/{arm}", 256) == CRASH
        assert jets(f"qua/po/{arm}", 1 << 80) == CRASH
    for path in ("tri/ob/fein", "tri/ob/fynd", "qua/po/ins", "qua/po/tos"):
        assert jets(path, CELL) == PUNT


# --- a real kernel -------------------------------------------------------------


def _random_value(dice: random.Random) -> int:
    return dice.getrandbits(
        dice.choice([1, 3, 8, 9, 16, 17, 32, 33, 63, 64, 65, 127, 200])
    )


def _random_text(dice: random.Random, aura: str) -> str:
    """An atom's text, often spoilt a little."""
    value = _random_value(dice)
    if aura in ("da", "dr"):
        value %= 1 << 128
        if dice.random() < 0.5:
            value = 0x8000000D000000000000000000000000 + (value >> 40)
    if aura == "t":
        text = "~~" + _text(bytes(dice.choices(b"abcXYZ .~-_9", k=6)))
    elif aura in ("ta", "tas"):
        text = "~." * (aura == "ta") + "".join(dice.choices("abz09-~_.", k=5))
    else:
        text = printed(aura, value)
    for _ in range(dice.choice([0, 0, 1, 1, 2])):
        at = dice.randrange(len(text) + 1)
        insert = "".join(
            dice.choices("0159abcdfhmsxvwzdozABF.-~_", k=dice.choice([0, 1, 1]))
        )
        text = text[:at] + insert + text[at + dice.choice([0, 1]) :]
    return text


READ = (
    *("ud", "ub", "ui", "ux", "uv", "uw", "sd", "sx", "da", "dr", "f", "if", "is"),
    *("n", "p", "q", "t", "ta", "tas"),
)


@pytest.mark.timeout(1200)
def test_real_hoon_agrees() -> None:
    kernel, jets = real_kernel(), Jets()
    dice = random.Random(6)

    def check(path: str, samples: list[Noun]) -> int:
        """How many samples the jet declined."""
        declined = 0
        for sample, want in zip(samples, kernel(path, samples), strict=True):
            got = jets(path, sample)
            declined += got == PUNT
            assert got in (want, PUNT), (path, sample, got, want)
        return declined

    shown = (*AURAS, "t")
    for arm in ("scot", "scow"):
        samples = [
            noun(cord(aura), value)
            for aura in shown
            for value in (0, 1, 2, *(_random_value(dice) for _ in range(12)))
            if aura != "t" or value == 0
        ]
        assert check(f"qua/{arm}", samples) < len(samples) // 6
        texts = ["a B~c.d", "\u00e9", "\n", "\x7f", "a\U0001f600"]
        check(
            f"qua/{arm}",
            [noun(cord(aura), cord(text)) for aura in ("t", "ta") for text in texts],
        )
    check("qua/scow", [noun(cord("t"), cord(text)) for text in ("\x01", "a\0b")])
    samples = []
    for aura in READ:
        for _ in range(60):
            text = _random_text(dice, aura)
            asked = dice.choice(AURAS) if dice.random() < 0.1 else aura
            samples.append(noun(cord(asked), cord(text)))
    assert check("qua/slaw", samples) < len(samples) // 5
    crashing = ("~0-.1.1", "~0-.1.1x", "~1.1.1..1.1.1..1111.1111.1111.1111.1111")
    check("qua/slaw", [noun(cord("da"), cord(text)) for text in crashing])
    for arm in ("fein", "fynd"):
        ships: list[Noun] = [_random_value(dice) for _ in range(150)]
        edges: list[Noun] = [
            0xFFFF,
            0x10000,
            0xFFFFFFFF,
            1 << 32,
            (1 << 64) - 1,
            1 << 64,
        ]
        assert check(f"tri/ob/{arm}", ships + edges) == 0
    names: list[Noun] = [
        cord(each) for each in ("zod", "doz", "mar", "fes", "", "zodd")
    ]
    bytes_: list[Noun] = [0, 1, 255, 256, 1 << 70]
    for arm, samples in (
        ("ins", names),
        ("ind", names),
        ("tos", bytes_),
        ("tod", bytes_),
    ):
        assert check(f"qua/po/{arm}", samples) == 0
