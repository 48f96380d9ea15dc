"""What http and the kernel's Eyre say to each other, as nouns. Pure.

Out, on /e/http-server/<server>/<conn>/<seq>:
    [%request secure=? [%ipv4 @] [method url headers (unit octs)]]
    [%request-local ...] for the loopback listener, [%cancel-request ~]
In: [%set-config (unit [key cert]) proxy=? log=? redirect=?],
    [%sessions (set @t)], and [%response http-event] with
    [%start [status headers] (unit octs) complete=?],
    [%continue (unit octs) complete=?] or [%cancel ~].

The readers take the guest's words: ValueError for all that is not this, and
a bound on everything that could grow (a small jam can stand for a large tree).
Bodies pass at the codec's speed, whatever their size.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from king.drivers.wire import (
    NO,
    NULL,
    YES,
    knot_text,
    octs_bytes,
    octs_jam,
    ovum_of_jam,
    read_small,
)
from king.event import Jam, Ovum
from proto import fast
from proto.cord import cord
from proto.jam import jam
from proto.noun import Cell, Noun, atom_bytes, items, listed

__all__ = [
    "METHODS",
    "Cancel",
    "Config",
    "Continue",
    "Headers",
    "Start",
    "framed",
    "read_config",
    "read_event",
    "read_sessions",
    "reason",
    "request",
]

Headers = list[tuple[bytes, bytes]]

METHODS: Final = frozenset(
    (b"GET", b"PUT", b"POST", b"HEAD", b"DELETE", b"OPTIONS", b"TRACE")
)
"""What a kernel may be asked. (Vere also passes CONNECT on, which nothing can
come of.)"""

_NOT_PASSED: Final = frozenset((b"host", b"content-length", b"transfer-encoding"))
_NO: Final = jam(NO)
_START: Final = jam(cord("start"))
_CONTINUE: Final = jam(cord("continue"))
_CANCEL: Final = jam(cord("cancel"))
_HEADERS_BYTES_MAX: Final = 1 << 18
_SESSIONS_MAX: Final = 10_000
_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE: Final = re.compile(rb"[^\x00-\x08\x0a-\x1f\x7f]*")


@dataclass(frozen=True, slots=True)
class Start:
    status: int
    headers: Headers
    body: bytes
    complete: bool


@dataclass(frozen=True, slots=True)
class Continue:
    body: bytes
    complete: bool


@dataclass(frozen=True, slots=True)
class Cancel:
    pass


@dataclass(frozen=True, slots=True)
class Config:
    """Of %set-config, what could matter to us."""

    secure: bool
    proxy: bool


# --- to the kernel ----------------------------------------------------------


def request(
    wire: tuple[str, ...],
    *,
    local: bool,
    address: int,
    method: bytes,
    url: bytes,
    headers: Headers,
    body: bytes,
) -> Ovum:
    """A request as an ovum. As in Vere, `host` leads the headers, and those that
    framed the body are left out: its length is in the octs."""
    hosts = [pair for pair in headers if pair[0] == b"host"]
    rest = [pair for pair in headers if pair[0] not in _NOT_PASSED]
    pairs = [*(hosts or [(b"host", b"default")]), *rest]
    return ovum_of_jam(
        wire,
        "request-local" if local else "request",
        _NO,
        _address_jam(address),
        jam(cord(method)),
        jam(cord(url)),
        _headers_jam(tuple(pairs)),
        fast.tuple_([NULL, octs_jam(body)]) if body else NULL,
    )


@lru_cache(maxsize=64)
def _address_jam(address: int) -> Jam:
    return jam(Cell(cord("ipv4"), address))


@lru_cache(maxsize=64)
def _headers_jam(pairs: tuple[tuple[bytes, bytes], ...]) -> Jam:
    """A client says the same headers with each of its requests."""
    return jam(listed(Cell(cord(name), cord(value)) for name, value in pairs))


# --- from the kernel --------------------------------------------------------


def read_event(data: Jam, size_max: int) -> Start | Continue | Cancel:
    """What a %response effect says; no part's body is over `size_max` bytes.

    :raises ValueError: if it is none of the three.
    """
    kind, second, start_unit, start_end, more_end = fast.slots(data, (2, 6, 14, 15, 7))
    if kind == _START:
        if second is None or start_unit is None or start_end is None:
            raise ValueError("%start without its parts")
        head = read_small(second)
        if not isinstance(head, Cell) or isinstance(head.head, Cell):
            raise ValueError("%start without a status")
        if not 200 <= head.head <= 999:
            raise ValueError(f"status {str(head.head)[:20]}")
        body = _unit_octs(start_unit, size_max)
        return Start(head.head, _headers(head.tail), body, _flag(start_end))
    if kind == _CONTINUE:
        if second is None or more_end is None:
            raise ValueError("%continue without its parts")
        return Continue(_unit_octs(second, size_max), _flag(more_end))
    if kind == _CANCEL:
        return Cancel()
    name = atom_bytes(read_small(kind or b"", 64))
    raise ValueError(f"%{knot_text(name)}")


def _flag(data: bytes) -> bool:
    if data == NULL:
        return True
    if data == _NO:
        return False
    raise ValueError("no loobean")


def _unit_octs(data: bytes, size_max: int) -> bytes:
    if data == NULL:
        return b""
    unit, length, atom = fast.slots(data, (2, 6, 7))
    if unit != NULL or length is None or atom is None:
        raise ValueError("no unit of octs")
    return octs_bytes(length, atom, size_max)


def _headers(noun: Noun) -> Headers:
    """A list of pairs that may stand in a response, names in lower case."""
    headers: Headers = []
    size = 0
    for pair in items(noun):
        if not isinstance(pair, Cell):
            raise ValueError("a header that is no pair")
        name, value = atom_bytes(pair.head).lower(), atom_bytes(pair.tail)
        size += len(name) + len(value) + 4
        if size > _HEADERS_BYTES_MAX:
            raise ValueError(f"headers above {_HEADERS_BYTES_MAX} bytes")
        value = value.strip(b" \t")
        if not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
            raise ValueError(f"header {name[:40]!r}")
        headers.append((name, value))
    return headers


def read_config(noun: Noun) -> Config:
    """The data of %set-config.

    :raises ValueError: if it is not that.
    """
    if not isinstance(noun, Cell) or not isinstance(noun.tail, Cell):
        raise ValueError("no http-config")
    secure, proxy = noun.head, noun.tail.head
    if not isinstance(proxy, int) or not isinstance(noun.tail.tail, Cell):
        raise ValueError("no http-config")
    if secure != 0 and not (isinstance(secure, Cell) and isinstance(secure.tail, Cell)):
        raise ValueError("no key and certificate")
    return Config(secure != 0, proxy == YES)


def read_sessions(noun: Noun) -> frozenset[bytes]:
    """The tokens of a `(set @t)`: a treap, `[n l r]` or ~.

    :raises ValueError: if it is not one, or has too many.
    """
    tokens: set[bytes] = set()
    stack = [noun]
    for _ in range(4 * _SESSIONS_MAX):
        if not stack:
            return frozenset(tokens)
        node = stack.pop()
        if node == 0:
            continue
        if not isinstance(node, Cell) or not isinstance(node.tail, Cell):
            raise ValueError("no set")
        tokens.add(atom_bytes(node.head))
        stack += (node.tail.head, node.tail.tail)
    raise ValueError(f"more than {_SESSIONS_MAX} sessions")


# --- the head of a response -------------------------------------------------


def reason(status: int) -> bytes:
    """The words that Vere puts beside a status."""
    names = {2: b"ok", 3: b"moved", 4: b"missing", 5: b"hosed"}
    return names.get(status // 100, b"weird")


def framed(start: Start, method: bytes) -> tuple[Headers, bool]:
    """The headers to send, and whether a body may follow them.

    A length is sent only if the kernel gave one; for a complete body it is
    counted again. Framing is ours: transfer-encoding is not the kernel's to say.
    """
    bodyless = method == b"HEAD" or start.status in (204, 205, 304)
    headers: Headers = []
    length: bytes | None = None
    for name, value in start.headers:
        if name == b"content-length":
            length = value
        elif name != b"transfer-encoding":
            headers.append((name, value))
    if start.status == 205:
        length = b"0"
    elif start.status == 204:
        length = None
    elif length is not None and start.complete and not bodyless:
        length = b"%d" % len(start.body)
    elif length is not None and not (length.isdigit() and len(length) < 18):
        length = None
    if length is not None:
        headers.append((b"content-length", length))
    return headers, not bodyless
