"""Nonsense at the page of a whole ship: no client may end it.

Requests are put together from parts that are each plausible, so that the
parser gets far; they come in pieces, several on a connection, and their
clients leave in every way. TREADLE_FUZZ_SECONDS and TREADLE_FUZZ_SEED.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.whole_ship import WholeShip, boot, connect, open_files, wait_for

SECONDS = float(os.environ.get("TREADLE_FUZZ_SECONDS", "6"))
SEED = int(os.environ.get("TREADLE_FUZZ_SEED", "1"))
METHODS = (
    *(b"GET", b"PUT", b"POST", b"HEAD", b"DELETE", b"CONNECT", b"OPTIONS"),
    *(b"TRACE", b"FOO", b"get", b"\xff"),
)
TARGETS = (
    *(b"/", b"/kv", b"/kv/a", b"/~_~/slog", b"/~_~/healthz", b"/~_~/x", b"*"),
    *(b"http://a/b", b"a:1", b"//", b"/\xff\xfe", b"/" + b"x" * 3000, b"/kv/%00"),
)
HEADERS = (
    *(b"Host: b", b"Content-Length: 5", b"Content-Length: 0", b"Expect: x"),
    *(b"Content-Length: 99999999999999999999", b"Content-Length: 600000000000"),
    *(b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip", b"Upgrade: h2c"),
    *(b"Connection: close", b"Connection: upgrade", b"Expect: 100-continue"),
    *(b"Cookie: urbauth-~zod=0v1", b"X: \x01", b"X: \xff\xff", b" folded: x"),
)
BODIES = (
    *(b"", b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"5\r\nhel", b"zz\r\n"),
    *(b"ffffffffffffffffffff\r\n", b"0\r\nTrailer: x\r\n\r\n", bytes(70_000)),
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 50,
)
VERSIONS = (*(b"HTTP/1.1",) * 8, b"HTTP/1.0", b"HTTP/2.0", b"HTTP/0.9", b"")


@pytest.fixture
def ship(tmp_path: Path) -> Iterator[WholeShip]:
    with boot(tmp_path / "zod") as made:
        made.start()
        yield made


def nonsense(rng: random.Random) -> bytes:
    data = bytearray()
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        words = (rng.choice(METHODS), rng.choice(TARGETS), rng.choice(VERSIONS))
        lines = [b" ".join(words), *rng.choices(HEADERS, k=rng.randrange(5))]
        if rng.random() < 0.8:
            lines.insert(1, b"Host: a")
        data += b"\r\n".join((*lines, b"", rng.choice(BODIES)))
    if rng.random() < 0.1:
        for _ in range(3):
            data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data)


def visit(rng: random.Random, port: int) -> None:
    data = nonsense(rng)
    with contextlib.suppress(OSError), connect(port, 5) as client:
        cut = rng.randrange(len(data) + 1)
        client.sendall(data[:cut])
        client.sendall(data[cut:])
        how = rng.random()
        if how < 0.3:
            client.shutdown(socket.SHUT_WR)
        if how < 0.8:
            client.settimeout(0.03)
            while client.recv(65536):
                pass
        elif how < 0.9:  # a reset
            linger = (1).to_bytes(4, "little") + bytes(4)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


def test_nonsense_costs_nobody_else_anything(ship: WholeShip) -> None:
    rng = random.Random(SEED)
    port = ship.port
    before = open_files(ship.pid)
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        visit(rng, port)
        assert ship.king is not None
        assert ship.king.poll() is None, ship.words[-4000:]
    assert ship.http("PUT", "/kv/z", b"1")[0] == 201
    wait_for(lambda: open_files(ship.pid) <= before + 3, "all connections closed")
    assert ship.stop() == 0
    assert "cut off" not in ship.words, ship.words[-4000:]


def test_a_refusal_after_a_head_is_framed(ship: WholeShip) -> None:
    """What answers HEAD has no body; what refuses the next request has one."""
    with connect(ship.port, 5) as client:
        client.sendall(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\nnonsense\r\n\r\n")
        data = b""
        while piece := client.recv(65536):
            data += piece
    assert data.count(b"HTTP/1.1") == 2
    assert data.endswith(b"bad request")
    assert ship.http("GET", "/kv")[0] == 200
