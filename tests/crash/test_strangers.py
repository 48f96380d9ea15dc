"""A stranger's faults, at a whole ship: the next client is served, and nothing
is left behind in the king: no descriptor, no memory, no task.

Two of these kill the king of Vere: a client that leaves with its request
unanswered, and an %ovum with an empty wire.
"""

from __future__ import annotations

import contextlib
import random
import socket
import time
from collections.abc import Iterator

import pytest

from proto.jam import jam
from proto.noun import Cell, noun
from tests.support.whole_ship import (
    STRETCH,
    WholeShip,
    connect,
    memory_kib,
    open_files,
    running,
    wait_for,
)

SEED = 20260
DONE = noun("news", "done")


@pytest.fixture(scope="module")
def ship(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeShip]:
    with running(tmp_path_factory.mktemp("strangers") / "zod") as made:
        yield made


@pytest.fixture(autouse=True)
def _serves_the_next_client(ship: WholeShip) -> Iterator[None]:
    """The same king, with no more descriptors than before, still serves."""
    assert ship.http("GET", "/kv")[0] == 200
    assert ship.poke("x", ["t"], "hello", 1) == DONE
    files = open_files(ship.pid)
    king, serf = ship.pid, ship.serf_pid()
    yield
    assert ship.king is not None
    assert ship.king.poll() is None, ship.words
    assert (ship.pid, ship.serf_pid()) == (king, serf)
    assert ship.poke("x", ["t"], "hello", 2) == DONE
    assert ship.http("GET", "/kv")[0] == 200
    wait_for(
        lambda: open_files(ship.pid) <= files,
        f"descriptors: {files} before, {open_files(ship.pid)} after",
    )


def frame(*request: object) -> bytes:
    body = jam(noun(*request))
    return b"\0" + len(body).to_bytes(4, "little") + body


def test_conn_client_leaves_with_a_request_unanswered(ship: WholeShip) -> None:
    for _ in range(20):
        with ship.conn() as conn:
            conn.send(1, "fyrd", "base", "hi", "noun", "noun", 0)
            conn.send(2, "ovum", "x", ["t"], "hello", 3)
            conn.send(3, "peek", 1, "once", "x", "base", 0)
            conn.send(4, "peel", ["mass"])


def test_conn_ovum_with_an_empty_wire(ship: WholeShip) -> None:
    with ship.conn() as conn:
        conn.send(1, "ovum", "x", 0, "hello", 3)
        answer = conn.hear()
        assert answer == noun(0, "bail", (1 << 32) - 6, "ovum-bad")
        assert conn.hear() is None


def test_conn_half_frames(ship: WholeShip) -> None:
    whole = frame(1, "ovum", "x", ["t"], "hello", 3)
    for cut in range(1, len(whole)):
        with ship.conn() as conn:
            conn.socket.sendall(whole[:cut])
    with ship.conn() as conn:  # a frame in crumbs is a frame
        for at in range(len(whole)):
            conn.socket.sendall(whole[at : at + 1])
        assert conn.hear() == noun(1, "news", "done")


@pytest.mark.parametrize(
    "data",
    [
        b"\1\0\0\0\0",  # another version
        b"\0\0\0\0\0",  # an empty frame
        b"\0\xff\xff\xff\xff",  # four gigabytes announced
        b"\0\4\0\0\0\xff\xff\xff\xff",  # no jam
        frame(5),
        frame(1, "zzzz", 0),
        frame(1, "ovum"),
        frame(1, "urth", "explode"),
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
def test_conn_nonsense_is_told_and_closed(ship: WholeShip, data: bytes) -> None:
    with ship.conn() as conn:
        conn.socket.sendall(data)
        answer = conn.hear()
        assert isinstance(answer, Cell)
        assert answer.head == 0
        assert isinstance(answer.tail, Cell)
        assert answer.tail.head == noun("bail")
        assert conn.hear() is None


def storm(ship: WholeShip, rng: random.Random, count: int) -> None:
    """Connections dropped at random points of a conversation, 40 at a time."""
    talks = (
        b"".join(
            frame(*words)
            for words in (
                (1, "peel", ["live"]),
                (2, "ovum", "x", ["t"], "hello", 1 << 5000),
                (3, "peek", 1, "once", "x", "base", 0),
                (4, "fyrd", "base", "hi", "noun", "noun", 0),
                (5, "zzzz", 0),
            )
        ),
        b"PUT /kv/storm HTTP/1.1\r\nHost: a\r\nContent-Length: 2000\r\n\r\n"
        + bytes(2000)
        + b"GET /kv/storm HTTP/1.1\r\nHost: a\r\n\r\n",
    )
    open_now: list[socket.socket] = []
    for number in range(count):
        web = number % 2
        one = connect(ship.port) if web else ship.conn().socket
        open_now.append(one)
        cut = rng.randrange(len(talks[web]) + 1)
        with contextlib.suppress(OSError):
            one.sendall(talks[web][:cut])
            if rng.random() < 0.2:
                one.shutdown(socket.SHUT_WR)
            if rng.random() < 0.3:
                one.settimeout(0.01)
                one.recv(1000)
        if rng.random() < 0.3:
            # With RST instead of FIN.
            linger = b"\1\0\0\0\0\0\0\0"
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        if len(open_now) >= 40:
            open_now.pop(rng.randrange(40)).close()
    for one in open_now:
        one.close()


@pytest.mark.slow
def test_2000_connections_dropped_at_random_leak_nothing(ship: WholeShip) -> None:
    rng = random.Random(SEED)
    print(f"seed {SEED}")
    storm(ship, rng, 500)  # so that every cache has its size
    settle(ship)
    before = memory_kib(ship.pid)
    storm(ship, rng, 2000)
    settle(ship)
    after = memory_kib(ship.pid)
    assert after < before + 8 * 1024, f"king: {before} KiB before, {after} after"
    assert ship.status()["queues"] == {}


def settle(ship: WholeShip) -> None:
    wait_for(lambda: not ship.status()["queues"] and open_files(ship.pid) < 60, "peace")


def test_http_slow_loris_does_not_keep_others_waiting(ship: WholeShip) -> None:
    slow = [connect(ship.port) for _ in range(100)]
    for one in slow:
        one.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ")
    for _ in range(5):
        for one in slow:
            one.sendall(b"a")
        began = time.monotonic()
        assert ship.http("GET", "/kv")[0] == 200
        assert time.monotonic() - began < 5 * STRETCH
    for one in slow:
        one.close()


def test_http_client_leaves_in_the_middle_of_a_request(ship: WholeShip) -> None:
    for size in (0, 1, 1000, 100_000):
        one = connect(ship.port)
        one.sendall(
            b"PUT /kv/half HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n"
            + bytes(size)
        )
        one.close()
    time.sleep(0.2)
    assert ship.http("GET", "/kv/half")[0] == 404


def test_http_client_leaves_before_the_answer(ship: WholeShip) -> None:
    for _ in range(50):
        one = connect(ship.port)
        one.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 5)
        one.close()


@pytest.mark.parametrize(
    "data",
    [
        b"hello\r\n\r\n",
        b"GET  HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PUT /kv/a HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"PUT /kv/a HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999\r\n\r\n",
        b"PUT /kv/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 200_000 + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
    ],
)
def test_http_nonsense_is_refused(ship: WholeShip, data: bytes) -> None:
    with connect(ship.port) as one:
        with contextlib.suppress(OSError):
            one.sendall(data)
            one.shutdown(socket.SHUT_WR)
        head = b""
        with contextlib.suppress(ConnectionResetError):
            while part := one.recv(65536):
                head += part
        assert head.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5")), head
