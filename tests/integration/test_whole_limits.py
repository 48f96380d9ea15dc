"""Bounds on a whole ship: deadline, memory, interrupt, stop, a frozen serf.

An event that will not end, or wants too much, is aborted; the ship lives on,
its state as before. The kernel is our own: `spin`, `grow` and the store.
TREADLE_SOAK_EVENTS: how many events overwrite the state (20,000).
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from proto.noun import Cell, noun, slot
from tests.support.whole_ship import (
    STRETCH,
    WholeShip,
    alive,
    boot,
    memory_kib,
    wait_for,
)

EVENTS = int(os.environ.get("TREADLE_SOAK_EVENTS", "20000"))
DONE = noun("news", "done")


def crud_motes(ship: WholeShip) -> list[object]:
    """The motes of the logged %crud events, in order."""
    return [
        slot(row.ovum, 7).head.head
        for row in ship.log()
        if row.mug and row.tag == noun("crud")
    ]


def start_spinning(ship: WholeShip) -> None:
    """Type `spin` and return; wait until the serf is at it."""
    ship.poke("d", ["term", "1"], "belt", "txt", [ord(c) for c in "spin"])
    with ship.conn() as conn:
        conn.send(1, "ovum", "d", ["term", "1"], "belt", "ret", 0)
        wait_for(lambda: ship.status()["in_flight"] == 1, "the event runs")
        time.sleep(0.2)


def put_get(ship: WholeShip, value: bytes) -> None:
    assert ship.http("PUT", "/kv/k", value)[0] in (201, 204)
    assert ship.http("GET", "/kv/k") == (200, value)


def test_an_endless_event_ends_at_its_deadline(tmp_path: Path) -> None:
    with boot(tmp_path / "zod") as ship:
        ship.start(limits={"event_deadline_ms": 700})
        serf = ship.serf_pid()
        put_get(ship, b"before")
        began = time.monotonic()
        assert ship.type("spin") == DONE  # as the %crud that replaced it
        assert 0.6 < time.monotonic() - began < 10 * STRETCH
        assert ship.http("GET", "/kv/k") == (200, b"before")
        put_get(ship, b"after")
        assert ship.serf_pid() == serf, "the serf must outlive an event"
        assert ship.stop() == 0
        assert crud_motes(ship) == [noun("intr")]
        ship.check()


def test_an_event_that_wants_too_much_memory_is_aborted(tmp_path: Path) -> None:
    with boot(tmp_path / "zod") as ship:
        sizes = ["--nursery-size", str(96 << 20), "--home-size", str(64 << 20)]
        ship.start(serf=sizes)
        serf = ship.serf_pid()
        put_get(ship, b"before")
        assert ship.type("grow 50000000") == DONE  # beyond the nursery
        assert ship.type("grow 3500000") == DONE  # fits there, but not in home
        assert ship.http("GET", "/kv/k") == (200, b"before")
        assert ship.serf_pid() == serf, "the serf must outlive an event"
        # What fits still fits, and can be let go and had again.
        for _ in range(4):
            assert ship.type("grow 200000") == DONE
            assert ship.type("drop") == DONE
        put_get(ship, b"after")
        assert ship.stop() == 0
        assert crud_motes(ship) == [noun("meme"), noun("meme")]
        ship.check()


def test_sigint_interrupts_the_event_and_not_the_ship(tmp_path: Path) -> None:
    with boot(tmp_path / "zod") as ship:
        ship.start()
        serf = ship.serf_pid()
        put_get(ship, b"before")
        start_spinning(ship)
        ship.signal(signal.SIGINT)
        wait_for(lambda: ship.status()["in_flight"] == 0, "the event was interrupted")
        put_get(ship, b"after")
        assert ship.serf_pid() == serf
        assert ship.stop() == 0
        assert crud_motes(ship) == [noun("intr")]


def test_sigterm_with_an_event_running_stops_within_its_budget(tmp_path: Path) -> None:
    with boot(tmp_path / "zod") as ship:
        ship.start(limits={"shutdown_s": 4})
        put_get(ship, b"before")
        start_spinning(ship)
        began = time.monotonic()
        assert ship.stop() == 0
        assert time.monotonic() - began < 15 * STRETCH
        ship.wait_free()
        ship.check()
        ship.start()
        assert ship.http("GET", "/kv/k") == (200, b"before")
        assert ship.stop() == 0


def test_sigterm_while_the_serf_is_frozen_stops_the_ship(tmp_path: Path) -> None:
    with boot(tmp_path / "zod") as ship:
        ship.start(limits={"shutdown_s": 4})
        put_get(ship, b"before")
        serf = ship.serf_pid()
        os.kill(serf, signal.SIGSTOP)
        began = time.monotonic()
        code = ship.stop()
        assert time.monotonic() - began < 20 * STRETCH
        assert code == 0
        ship.wait_free()
        ship.check()
        ship.start()
        assert ship.http("GET", "/kv/k") == (200, b"before")
        assert ship.stop() == 0


@pytest.mark.slow
def test_a_frozen_serf_is_replaced_and_its_event_done(tmp_path: Path) -> None:
    """Frozen with an event in it: interrupt, SIGTERM, SIGKILL, another serf."""
    with boot(tmp_path / "zod") as ship:
        ship.start(limits={"event_deadline_ms": 500})
        put_get(ship, b"before")
        serf = ship.serf_pid()
        os.kill(serf, signal.SIGSTOP)
        status, _ = ship.http("PUT", "/kv/k", b"during", timeout=90)
        assert status == 204
        assert ship.serf_pid() not in (0, serf)
        assert ship.http("GET", "/kv/k") == (200, b"during")
        assert ship.stop() == 0
        ship.check()


def test_a_frozen_king_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    """SIGSTOP, SIGKILL: the orphaned serf must leave, and the pier be free."""
    with boot(tmp_path / "zod") as ship:
        ship.start()
        start_spinning(ship)
        serf = ship.serf_pid()
        ship.signal(signal.SIGSTOP)
        ship.kill()
        wait_for(lambda: not alive(serf), "the orphan leaves in mid event")
        ship.wait_free()
        put_get(ship.start(), b"after")
        assert ship.stop() == 0
        ship.check()


@pytest.mark.slow
@pytest.mark.timeout(300 + EVENTS // 100)
def test_a_state_that_is_overwritten_for_long_stays_bounded(tmp_path: Path) -> None:
    """Every event replaces a value; garbage must not pile up anywhere."""
    value = int.from_bytes(os.urandom(4000), "little") | 1 << 31999
    with boot(tmp_path / "zod") as ship:
        ship.start("--snapshot-every", "2")
        sizes: list[tuple[int, int, int]] = []
        with ship.conn(120) as conn:
            sent = heard = 0
            while heard < EVENTS:
                while sent < EVENTS and sent - heard < 500:
                    sent += 1
                    conn.send(sent, "ovum", *put(sent, value + sent))
                assert isinstance(conn.hear(), Cell)
                heard += 1
                if heard % (EVENTS // 10) == 0:
                    image = ship.layout.image.stat().st_size >> 10
                    king, serf = memory_kib(ship.pid), memory_kib(ship.serf_pid())
                    sizes.append((king, serf, image))
        print(f"king, serf, image in KiB: {sizes}")
        half, end = sizes[4], sizes[-1]
        wide = (16_384, 65_536, 65_536)
        for name, early, late, slack in zip(
            ("king", "serf", "image"), half, end, wide, strict=True
        ):
            assert late < early * 1.3 + slack, f"{name} grows: {sizes}"
        status, body = ship.http("GET", "/kv/k7")
        assert status == 200
        assert len(body) == 4000
        assert ship.stop() == 0
        ship.check()


def put(number: int, value: int) -> tuple[object, ...]:
    """A PUT as the web driver words it, of a value of 4,000 bytes."""
    wire = ["http-server", "0v1", "1", "1"]
    octs = (0, 4000, value)
    request = ("PUT", f"/kv/k{number % 50}", 0, octs)
    return ("e", wire, "request", 1, ("ipv4", 1), request)
