"""Text and atoms: cords, terms, paths, @ud, @uv, @p, @da. Source: spec and Hoon's
aura syntax; the ship name scrambler is the public `ob` cipher (four rounds of
Murmur3 in a Feistel network over the planets).

Pure; raises TextError for text that is not what it should be.
"""

from __future__ import annotations

import time

from proto.errors import TextError
from proto.mug import murmur3
from proto.noun import Noun, atom_bytes, items, listed

__all__ = [
    "SECOND",
    "UNIX_EPOCH",
    "cord",
    "cord_text",
    "da_from_unix",
    "da_text",
    "da_to_unix",
    "is_knot",
    "is_term",
    "path_from_text",
    "path_noun",
    "path_text",
    "path_values",
    "ship_from_text",
    "ship_text",
    "ud_text",
    "uv_text",
]

UNIX_EPOCH = 0x8000000CCE9E0D80 << 64
"""1970-01-01 as @da."""
SECOND = 1 << 64
_KNOT = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-._~")
_TERM = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")


def cord(text: str | bytes) -> int:
    """Text as an atom."""
    data = text.encode() if isinstance(text, str) else text
    return int.from_bytes(data, "little")


def cord_text(n: Noun) -> str:
    """An atom as text; bytes that are not UTF-8 come as replacement marks.

    :raises ValueError: for a cell.
    """
    return atom_bytes(n).decode("utf-8", "replace")


def is_knot(text: str) -> bool:
    """Is this @ta?"""
    return all(c in _KNOT for c in text)


def is_term(text: str) -> bool:
    """Is this @tas: a letter, then letters, digits, hyphens?"""
    return bool(text) and "a" <= text[0] <= "z" and all(c in _TERM for c in text)


def path_noun(*knots: str | bytes) -> Noun:
    """A path: null-terminated list of cords."""
    return listed(cord(knot) for knot in knots)


def path_values(n: Noun) -> tuple[bytes, ...]:
    """The knots of a path noun, as bytes.

    :raises ValueError: if it is not a list of atoms.
    """
    return tuple(atom_bytes(knot) for knot in items(n))


def path_text(knots: tuple[bytes, ...] | tuple[str, ...]) -> str:
    """`/a/b` for people."""
    parts = [k.decode("utf-8", "replace") if isinstance(k, bytes) else k for k in knots]
    return "/" + "/".join(parts)


def path_from_text(text: str) -> Noun:
    """`/a/b/c` as a path; `/` is the empty one.

    :raises TextError: if it does not begin with a slash.
    """
    if not text.startswith("/"):
        raise TextError(f"{text!r} is not a path: it begins with /")
    return path_noun(*[] if text == "/" else text[1:].split("/"))


# --- numbers ----------------------------------------------------------------


def ud_text(value: int) -> str:
    """@ud: decimal with dots, `1.234`."""
    return f"{value:,}".replace(",", ".")


_UV = "0123456789abcdefghijklmnopqrstuv"


def uv_text(value: int) -> str:
    """@uv: `0v` and base-32 digits, dotted in groups of five."""
    digits = ""
    rest = value
    while True:
        digits = _UV[rest & 31] + digits
        rest >>= 5
        if not rest:
            break
    groups = []
    while digits:
        groups.append(digits[-5:])
        digits = digits[:-5]
    return "0v" + ".".join(reversed(groups))


# --- dates ------------------------------------------------------------------


def da_from_unix(nanoseconds: int) -> int:
    """Unix time in ns as @da; like Vere, only the top 16 fraction bits."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    fraction = (rest // 1000) * 65536 // 1_000_000
    return UNIX_EPOCH + (seconds << 64) + (fraction << 48)


def da_to_unix(da: int) -> float:
    """@da as Unix seconds (may be negative, or absurd)."""
    return (da - UNIX_EPOCH) / SECOND


def da_text(da: int) -> str:
    """`~2026.11.22..10.20.30` in UTC, with the fraction where there is one."""
    seconds = (da - UNIX_EPOCH) >> 64
    try:
        t = time.gmtime(seconds)
    except (ValueError, OverflowError, OSError):
        return f"@da {da}"
    text = (
        f"~{t.tm_year}.{t.tm_mon}.{t.tm_mday}"
        f"..{t.tm_hour:02}.{t.tm_min:02}.{t.tm_sec:02}"
    )
    fraction = da & SECOND - 1
    if fraction:
        words = [fraction >> shift & 0xFFFF for shift in (48, 32, 16, 0)]
        while words and words[-1] == 0:
            words.pop()
        text += ".." + ".".join(f"{word:04x}" for word in words)
    return text


# --- ships ------------------------------------------------------------------

_PREFIXES = (
    "dozmarbinwansamlitsighidfidlissogdirwacsabwissibrigsoldopmodfoglidhopdar"
    "dorlorhodfolrintogsilmirholpaslacrovlivdalsatlibtabhanticpidtorbolfosdot"
    "losdilforpilramtirwintadbicdifrocwidbisdasmidloprilnardapmolsanlocnovsit"
    "nidtipsicropwitnatpanminritpodmottamtolsavposnapnopsomfinfonbanmorworsip"
    "ronnorbotwicsocwatdolmagpicdavbidbaltimtasmalligsivtagpadsaldivdactansid"
    "fabtarmonranniswolmispallasdismaprabtobrollatlonnodnavfignomnibpagsopral"
    "bilhaddocridmocpacravripfaltodtiltinhapmicfanpattaclabmogsimsonpinlomric"
    "tapfirhasbosbatpochactidhavsaplindibhosdabbitbarracparloddosbortochilmac"
    "tomdigfilfasmithobharmighinradmashalraglagfadtopmophabnilnosmilfopfamdat"
    "noldinhatnacrisfotribhocnimlarfitwalrapsarnalmoslandondanladdovrivbacpol"
    "laptalpitnambonrostonfodponsovnocsorlavmatmipfip"
)
_SUFFIXES = (
    "zodnecbudwessevpersutletfulpensytdurwepserwylsunrypsyxdyrnuphebpeglupdep"
    "dysputlughecryttyvsydnexlunmeplutseppesdelsulpedtemledtulmetwenbynhexfeb"
    "pyldulhetmevruttylwydtepbesdexsefwycburderneppurrysrebdennutsubpetrulsyn"
    "regtydsupsemwynrecmegnetsecmulnymtevwebsummutnyxrextebfushepbenmuswyxsym"
    "selrucdecwexsyrwetdylmynmesdetbetbeltuxtugmyrpelsyptermebsetdutdegtexsur"
    "feltudnuxruxrenwytnubmedlytdusnebrumtynseglyxpunresredfunrevrefmectedrus"
    "bexlebduxrynnumpyxrygryxfeptyrtustyclegnemfermertenlusnussyltecmexpubrym"
    "tucfyllepdebbermughuttunbylsudpemdevlurdefbusbeprunmelpexdytbyttyplevmyl"
    "wedducfurfexnulluclennerlexrupnedlecrydlydfenwelnydhusrelrudneshesfetdes"
    "retdunlernyrsebhulrylludremlysfynwerrycsugnysnyllyndyndemluxfedsedbecmun"
    "lyrtesmudnytbyrsenwegfyrmurtelreptegpecnelnevfes"
)
_PREFIX = [_PREFIXES[i : i + 3] for i in range(0, 768, 3)]
_SUFFIX = [_SUFFIXES[i : i + 3] for i in range(0, 768, 3)]
_PREFIX_VALUE = {name: i for i, name in enumerate(_PREFIX)}
_SUFFIX_VALUE = {name: i for i, name in enumerate(_SUFFIX)}
_ROUND_SEEDS = (0xB76D5EED, 0xEE281300, 0x85BCAE01, 0x4B387AF7)
_A = 0xFFFF
_B = 0x10000
_K = _A * _B
_PLANETS = 0x10000
_MOONS = 1 << 32
_COMETS = 1 << 64


def _round(j: int, value: int) -> int:
    return murmur3((value & 0xFFFF).to_bytes(2, "little"), _ROUND_SEEDS[j])


def _encipher(m: int) -> int:
    left, right = m % _A, m // _A
    for j in range(4):
        modulus = _B if j & 1 else _A
        left, right = right, (left + _round(j, right)) % modulus
    return _A * left + right if right != _A else _A * right + left


def _decipher(c: int) -> int:
    # Inverse of `_encipher`: unwind the rounds from the last.
    right, left = c % _A, c // _A
    if left == _A:
        left, right = right, left
    for j in range(3, -1, -1):
        modulus = _B if j & 1 else _A
        left, right = (right - _round(j, left)) % modulus, left
    return _A * right + left


def _scramble(value: int) -> int:
    if _PLANETS <= value < _MOONS:
        c = _encipher(value - _PLANETS)
        while c >= _K:
            c = _encipher(c)
        return _PLANETS + c
    if _MOONS <= value < _COMETS:
        return value & ~0xFFFFFFFF | _scramble(value & 0xFFFFFFFF)
    return value


def _unscramble(value: int) -> int:
    if _PLANETS <= value < _MOONS:
        m = _decipher(value - _PLANETS)
        while m >= _K:
            m = _decipher(m)
        return _PLANETS + m
    if _MOONS <= value < _COMETS:
        return value & ~0xFFFFFFFF | _unscramble(value & 0xFFFFFFFF)
    return value


def ship_text(ship: int) -> str:
    """@p: `~zod`, `~marzod`, `~sampel-palnet`, ..."""
    value = _scramble(ship)
    if value < 256:
        return "~" + _SUFFIX[value]
    words = []
    while value:
        words.append(_PREFIX[value >> 8 & 255] + _SUFFIX[value & 255])
        value >>= 16
    text = ""
    for index, word in enumerate(words):
        dash = "" if index == 0 else "--" if index % 4 == 0 else "-"
        text = word + dash + text
    return "~" + text


def ship_from_text(text: str) -> int:
    """Parse @p; the tilde may be missing.

    :raises TextError: if it is not the name of a ship, spelt canonically.
    """
    body = text.removeprefix("~")
    value = 0
    try:
        for word in body.replace("--", "-").split("-"):
            if len(word) == 3:
                value = value << 16 | _SUFFIX_VALUE[word]
            else:
                pair = _PREFIX_VALUE[word[:3]] << 8 | _SUFFIX_VALUE[word[3:]]
                value = value << 16 | pair
        ship = _unscramble(value)
    except KeyError:
        raise TextError(f"{text!r} is not a ship") from None
    if ship >= 1 << 128 or ship_text(ship) != "~" + body:
        raise TextError(f"{text!r} is not a ship")
    return ship
