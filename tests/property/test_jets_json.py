"""JSON to and from cords: the jets against Python's json, and against the Nock
of the real zuse where its sources are given."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proto.mug import mug
from proto.noun import Cell, Noun, noun
from tests.support.jets import PUNT, Jets
from tests.support.oracle import Library, library

DE, EN = "hex/json/de", "hex/json/en"
COMPILES = pytest.mark.timeout(900)  # with nothing kept yet


@pytest.fixture(scope="module")
def jets() -> Jets:
    return Jets()


@pytest.fixture(scope="module")
def zuse() -> Library:
    return library()


def _cord(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _tag(tag: str, held: Noun) -> Noun:
    return Cell(ord(tag), held)


@dataclass(frozen=True)
class Number:
    """A number as it was written."""

    text: str


def _tree(pairs: dict[int, Noun]) -> Noun:
    """A map: by gor from left to right, the least by mor on top."""
    if not pairs:
        return 0
    top = min(pairs, key=lambda key: mug(mug(key)))
    left = {key: pairs[key] for key in pairs if mug(key) < mug(top)}
    right = {key: pairs[key] for key in pairs if mug(key) > mug(top)}
    return noun((top, pairs[top]), _tree(left), _tree(right))


def _noun(value: Any) -> Noun:
    match value:
        case None:
            return 0
        case bool():
            return _tag("b", 0 if value else 1)
        case Number():
            return _tag("n", _cord(value.text.encode()))
        case str():
            return _tag("s", _cord(value.encode()))
        case list():
            return _tag("a", noun([_noun(each) for each in value]))
        case _:
            return _tag(
                "o",
                _tree({_cord(key.encode()): _noun(value[key]) for key in value}),
            )


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8).filter(
    lambda text: not text.endswith("\0")
)
PLAIN = st.text("abcdefgh é→🐟", max_size=6)
NUMBERS = st.one_of(
    st.integers().map(lambda value: Number(str(value))),
    st.from_regex(
        r"-?(0|[1-9][0-9]{0,6})(\.[0-9]{1,4})?([eE][+-]?[0-9]{1,3})?",
        fullmatch=True,
        alphabet="-+.eE0123456789",
    ).map(Number),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXT),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5), st.dictionaries(PLAIN, inner, max_size=6)
    ),
    max_leaves=12,
)


def _written(value: Any, rng: random.Random) -> str:
    """One of the many ways to write it."""

    def space() -> str:
        return rng.choice(["", "", " ", "\n\t", "\r "])

    match value:
        case Number():
            text = value.text
        case list():
            inner = ",".join(_written(each, rng) for each in value)
            text = f"[{inner or space()}]"
        case dict():
            inner = ",".join(
                f"{space()}{json.dumps(key, ensure_ascii=rng.random() < 0.5)}"
                f"{space()}:{_written(value[key], rng)}"
                for key in value
            )
            text = f"{{{inner or space()}}}"
        case _:
            text = json.dumps(value, ensure_ascii=rng.random() < 0.5)
    return f"{space()}{text}{space()}"


@given(value=VALUES, seed=st.integers(0, 1 << 30))
@example(value={"a": [None, True, {"": []}], "é": {}}, seed=0)
def test_what_python_writes_is_read(jets: Jets, value: Any, seed: int) -> None:
    text = _written(value, random.Random(seed)).encode()
    assert jets(DE, _cord(text)) == Cell(0, _noun(_unzeroed(value)))


def _unzeroed(value: Any) -> Any:
    """Characters of code 0 vanish from strings."""
    match value:
        case Number():
            return value
        case str():
            return value.replace("\0", "")
        case list():
            return [_unzeroed(each) for each in value]
        case dict():
            return {key: _unzeroed(value[key]) for key in value}
        case _:
            return value


@given(value=VALUES)
def test_what_is_written_python_reads(jets: Jets, value: Any) -> None:
    text = jets(EN, _noun(value))
    assert isinstance(text, int)
    data = text.to_bytes((text.bit_length() + 7) // 8, "little")
    got = json.loads(data, parse_int=Number, parse_float=Number)
    assert got == value
    assert jets(DE, text) == Cell(0, _noun(_unzeroed(value)))


GOOD = {
    b"0": "0",
    b"-0": "-0",
    b"1e9": "1e9",
    b"1.50E+07": "1.50E+07",
    b"9" * 99: "9" * 99,
}
BAD = [
    b"", b" ", b"nul", b"nulll", b"True", b"01", b"1.", b".5", b"+1", b"-", b"1e",
    b"1e+", b"0x1", b"NaN", b"Infinity", b"[", b"[1", b"[1,", b"[1,]", b"[,1]",
    b"[1 2]", b"{", b"{}}", b'{"a"}', b'{"a":}', b'{"a":1,}', b"{a:1}", b"{1:2}",
    b'"', b'"a', b'"\n"', b'"\t"', b'"a\0b"', b'"\\x"', b'"\\u12"', b'"\\u12g4"',
    b'"\\ud800"', b'"\\udc00"', b'"\\ud800\\u0041"', b'"\\ud800x"', b'"\xff"',
    b'"\xc0\x80"', b'"\xc3"', b'"\xed\xa0\x80"', b'"\xf4\x90\x80\x80"',
    b"\xef\xbb\xbf1", b"1 1", b"[]]", b"[1}", b'{"a":1]', b"\x0c1", b"'a'", b"[1]\0x",
    b'"\\',
]  # fmt: skip
ODD = {
    b'"\\u0000"': 0,
    b'"\\b\\f\\n\\r\\t\\/\\\\\\""': _cord(b'\b\f\n\r\t/\\"'),
    b'"\\uD83D\\udc1F"': _cord("\N{FISH}".encode()),
    b'"\x7f\\u007F"': _cord(b"\x7f\x7f"),
    b'"\xc3\\u0000\xa9"': _cord("é".encode()),
    b'"a\\u0000"': _cord(b"a"),
}


def test_numbers_and_strings_to_the_letter(jets: Jets) -> None:
    for data, text in GOOD.items():
        assert jets(DE, _cord(data)) == noun(0, ord("n"), _cord(text.encode())), data
    for data, value in ODD.items():
        assert jets(DE, _cord(data)) == noun(0, ord("s"), value), data


@pytest.mark.parametrize("data", BAD)
def test_what_is_not_json_is_nothing(jets: Jets, data: bytes) -> None:
    assert jets(DE, _cord(data)) == 0


def test_the_last_of_equal_keys_counts(jets: Jets) -> None:
    want = _noun({"a": Number("3"), "b": Number("2")})
    assert jets(DE, _cord(b'{"a":1,"b":2,"a":3}')) == Cell(0, want)


def test_depth_costs_memory_only(jets: Jets) -> None:
    depth = 100_000
    text = _cord(b"[" * depth + b'{"a":0}' + b"]" * depth)
    got = jets(DE, text)
    assert isinstance(got, Cell)
    assert jets(EN, got.tail) == text
    assert jets(DE, _cord(b"[" * depth)) == 0


def test_what_is_no_json_is_left_to_nock(jets: Jets) -> None:
    assert jets(DE, noun(1, 2)) == PUNT
    b, n, s, a, o = (ord(tag) for tag in "bnsao")
    for sample in (
        *(5, noun(b, 2), noun(n, 1, 2), noun(s, 1, 2), noun(a, 3), noun(a, 0, 3)),
        *(noun(o, 3), noun(o, 1, 2, 3), noun(o, ((1, 2), 0), 0, 0), noun(1, 2)),
        noun(a, (s, 5), (s, 1, 2), 0),
    ):
        assert jets(EN, sample) == PUNT


def test_cords_that_are_no_numbers_are_written_as_they_are(jets: Jets) -> None:
    brace = _tag("n", _cord(b"{"))
    sample = _tag("a", noun([_tag("n", 0), brace, _tag("o", _tree({1: brace}))]))
    assert jets(EN, sample) == _cord(b'[,{,{"\\u0001":{}]')


# --- against the Nock of zuse --------------------------------------------------


def _mutants(rng: random.Random, count: int) -> list[bytes]:
    """Documents, most of them damaged."""
    seeds = [
        b'{"a": [1, -2.5e+3, null], "b\\n": {"c": "\\u00e9\\ud83d\\udc1f"}}',
        b'[true,false,"\xc3\xa9\xf0\x9f\x90\x9f",[[[]]],{},{"":{"":0}}]',
        b' {"k":"v", "k":"w", "long key with spaces" : [ ] } ',
        b'"\\b\\f\\n\\r\\t\\/\\\\\\u0000\\u001f\x7f"',
    ]
    made = []
    alphabet = b'[]{},:" \\utfn0123456789.eE+-\n\t\0\x7f\x80\xc3\xa9\xed\xa0\xff'
    for _ in range(count):
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.choice([0, 1, 1, 2, 4])):
            at = rng.randrange(len(data) + 1)
            end = at + rng.choice([0, 1, 1, 3])
            data[at:end] = bytes(rng.choices(alphabet, k=rng.choice([0, 1, 1, 2])))
        made.append(bytes(data))
    return made


@COMPILES
def test_de_is_what_its_nock_says(jets: Jets, zuse: Library) -> None:
    rng = random.Random(1)
    texts = [*GOOD, *BAD, *ODD, *_mutants(rng, 300)]
    texts += [rng.randbytes(rng.randrange(6)) for _ in range(50)]
    texts.append(b"[" * 300 + b"]" * 300)
    cords: list[Noun] = [_cord(text) for text in texts]
    for text, cord, want in zip(
        texts, cords, zuse.nock("de:json:html", cords), strict=True
    ):
        assert jets(DE, cord) == want, text


@COMPILES
def test_en_is_what_its_nock_says(jets: Jets, zuse: Library) -> None:
    values: list[Noun] = []
    for text in [*GOOD, *ODD, *_mutants(random.Random(2), 200)]:
        got = jets(DE, _cord(text))
        if isinstance(got, Cell):
            values.append(got.tail)
    values += [_tag("s", value) for value in range(300)]
    values.append(_tag("a", noun([_tag("n", 0), _tag("n", _cord(b"{"))])))
    assert len(values) > 350
    for value, want in zip(values, zuse.nock("en:json:html", values), strict=True):
        assert jets(EN, value) == want, value


@COMPILES
def test_the_jets_are_those_of_zuse(zuse: Library) -> None:
    text = _cord(b'{"a":[1,null]}')
    path, value = zuse.jet("de:json:html", text)
    assert path == DE
    assert isinstance(value, Cell)
    assert zuse.jet("en:json:html", value.tail) == (EN, text)


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(jets: Jets, data: bytes) -> None:
    got = jets(DE, _cord(data))
    assert got == 0 or isinstance(got, Cell)
