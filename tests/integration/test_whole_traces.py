"""Vere's golden driver traces, end to end: a whole ship with the echo kernel.

The kernel returns as effects what an ovum with target %x carries, and ova are
read back from the log, as the traces were made. What differs from run to run
(`vary`) is masked. The drivers' own tests follow the same traces in more
detail; here everything between the socket and the disk is real.
"""

from __future__ import annotations

import http.client
import io
import json
import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from proto.cord import SECOND, cord, cord_text, da_from_unix
from proto.jam import cue
from proto.noun import Cell, Noun, items, noun, slot
from tests.support.golden import GOLDEN, edit, pill
from tests.support.terminal import Terminal
from tests.support.whole_ship import (
    STRETCH,
    Logged,
    WholeShip,
    boot,
    connect,
    wait_for,
)

DONE = noun("news", "done")


def steps(name: str) -> list[dict[str, Any]]:
    trace = json.loads((GOLDEN / f"traces/{name}.json").read_text())
    return list(trace["steps"])


def masked(n: Noun, vary: list[dict[str, str]], *more: int) -> Noun:
    for axis in (*(int(row["axis"]) for row in vary), *more):
        n = edit(n, axis, 0)
    return n


def as_noun(text: str) -> Noun:
    return cue(bytes.fromhex(text))


STARTS = {
    *((cord("d"), cord(tag)) for tag in ("born", "blew", "hail")),
    *((cord(vane), cord("born")) for vane in "ebk"),
    (cord("e"), cord("live")),
}
"""What the drivers have to say at a start."""


class Echo:
    """A live ship with the echo kernel, and a mark in its log. Ova of the tags
    `unheard` are nobody's news."""

    unheard: tuple[Noun, ...] = ()

    def __init__(self, ship: WholeShip) -> None:
        self.ship = ship
        wait_for(lambda: self._drivers_told() >= STARTS, "all drivers")
        self.mark = ship.log()[-1].number

    def _drivers_told(self) -> set[tuple[Noun, Noun]]:
        """Who said what since the boot; logged, and so no news any more."""
        return {(slot(row.wire, 2), row.tag) for row in self.ship.log() if row.mug}

    def push(self, effects: Noun) -> None:
        assert self.ship.poke("x", ["t"], "fx", effects) == DONE

    def rows(self, count: int, seconds: float = 60) -> list[Logged]:
        """The next ova that are not our own; exactly so many."""

        def news() -> list[Logged]:
            rows = self.ship.log()[self.mark :]
            rows = [row for row in rows if slot(row.wire, 2) != cord("x")]
            return [row for row in rows if row.tag not in self.unheard]

        if count:
            wait_for(lambda: len(news()) >= count, f"{count} ova", seconds)
        found = news()
        self.mark = self.ship.log()[-1].number
        assert len(found) == count, [row.ovum for row in found]
        return found

    def knot(self, driver: str) -> str:
        """This run's instance id, as the wire of the driver's born event says."""
        for row in reversed(self.ship.log()):
            wire = row.wire
            if row.tag == cord("born") and slot(wire, 6) == cord(driver):
                return cord_text(slot(wire, 14))
        raise AssertionError(driver)


def echo_ship(tmp_path: Path, ship: str) -> WholeShip:
    return boot(tmp_path / ship, ship=ship, pill=pill("echo"))


@pytest.mark.slow
def test_behn_trace(tmp_path: Path) -> None:
    with echo_ship(tmp_path, "zod") as ship:
        echo = Echo(ship.start())
        for step in steps("behn"):
            effects = as_noun(step["effects"])
            offset = step.get("offset_s")
            if offset is not None:
                now = da_from_unix(time.time_ns())
                effects = doze_at(effects, now + int(offset * SECOND))
            began = time.monotonic()
            echo.push(effects)
            rows = step.get("log", [])
            if not rows and step.get("waited_s"):
                time.sleep(min(step["waited_s"], 1.2))
            found = echo.rows(len(rows))
            for row, want in zip(found, rows, strict=True):
                assert row.ovum == as_noun(want["ovum"]), step["step"]
                if offset and offset > 0:
                    late = time.monotonic() - began - offset
                    assert -0.05 < late < 3 * STRETCH, step["step"]
        assert ship.stop() == 0
        ship.check()


def doze_at(effects: Noun, when: int) -> Noun:
    """The list of one %doze, with another time."""
    assert isinstance(effects, Cell)
    effect = effects.head
    return noun([noun(slot(effect, 2), slot(effect, 6), 0, when)])


CONN_VARIES = {"peel /help", "peel /v", "peel /port/ames", "peel /info", "peel /quic"}
CONN_VARIES |= {"peel /mass", "peel /port/http", "fyrd, never answered"}
"""Where the driver's own test says how we differ, and why."""


def test_conn_trace(tmp_path: Path) -> None:
    compared = 0
    with echo_ship(tmp_path, "nec") as ship:
        echo = Echo(ship.start())
        for step in steps("conn"):
            name = step["step"]
            if name in CONN_VARIES:
                continue
            replies = [row["frame"] for row in step["recv"] if "frame" in row]
            closed = {"end": "closed"} in step["recv"]
            with ship.conn() as conn:
                for piece in step["send"]:
                    conn.socket.sendall(bytes.fromhex(piece))
                if "half close" in name:
                    conn.socket.shutdown(socket.SHUT_WR)
                if name.startswith("fyrd, answered"):
                    (row,) = echo.rows(1)
                    answer_fyrd(echo, row, as_noun(replies[0]))
                for reply in replies:
                    heard = conn.hear_bytes()
                    assert heard is not None, name
                    if not step.get("reply_varies"):
                        assert heard.hex() == reply, name
                if closed and "fyrd" not in name:
                    assert conn.hear() is None, name
            rows = step["log"]
            if name.startswith("fyrd, answered"):
                rows = rows[1:]  # the request; read already
            for row, want in zip(echo.rows(len(rows)), rows, strict=True):
                vary = want.get("vary", [])
                assert masked(row.ovum, vary) == masked(as_noun(want["ovum"]), vary)
            compared += 1
        assert compared >= 35
        assert ship.stop() == 0
        ship.check()


def answer_fyrd(echo: Echo, row: Logged, reply: Noun) -> None:
    """Let the kernel say `[wire %avow ...]` on the wire of the request."""
    avow = slot(reply, 7)  # [rid %avow data]
    echo.push(noun([noun(slot(row.wire, 3), "avow", avow)]))


HTTP_DIFFERS = {
    *("method CONNECT", "not http", "bad beam", "spin without cookie", "gzip asked"),
    *("client gone before the answer", "set-config again: servers restart"),
    *("slog stream with cookie", "two pipelined on one connection"),
    *("slog stream without cookie", "sessions"),
}
"""See the driver's own test."""


def test_http_trace(tmp_path: Path) -> None:
    """All requests on the public port: `%request`, never `%request-local`."""
    compared = 0
    with echo_ship(tmp_path, "per") as ship:
        echo = Echo(ship.start())
        # What a client's leaving makes of an open stream is not compared.
        echo.unheard = (cord("cancel-request"),)
        knot = echo.knot("http-server")
        wire = noun(["http-server", knot])
        echo.push(noun([noun(wire, "set-config", 0, 1, 1, 1)]))
        (live,) = echo.rows(1)
        assert live.tag == cord("live")
        port = ship.port
        assert slot(live.ovum, 14) == port
        for step in steps("http"):
            name = step["step"]
            if name in HTTP_DIFFERS:
                continue
            send = bytes.fromhex(step["send"])
            method = send.split(b" ")[0].decode()
            with connect(port) as client:
                client.sendall(send)
                rows = echo.rows(len(step["log"]))
                for row, want in zip(rows, step["log"], strict=True):
                    vary = want["vary"]
                    theirs = masked(as_noun(want["ovum"]), vary, 6)
                    assert masked(row.ovum, vary, 6) == theirs, name
                    assert row.tag == cord("request"), name
                for answer in step["respond"]:
                    (row,) = rows
                    echo.push(
                        noun(
                            [
                                noun(slot(row.wire, 3), slot(effect, 3))
                                for effect in items(as_noun(answer["effects"]))
                            ]
                        )
                    )
                want = response(io.BytesIO(bytes.fromhex(step["recv"])), method)
                got = response(client.makefile("rb"), method)
                assert got == want, name
            compared += 1
        assert compared >= 30
        assert ship.stop() == 0
        ship.check()


def response(file: Any, method: str) -> tuple[Any, ...]:
    """(status, body; or how it broke off)."""

    class Sock:
        def makefile(self, *_: object) -> Any:
            return file

    answer = http.client.HTTPResponse(Sock(), method=method)
    try:
        answer.begin()
    except (http.client.HTTPException, ConnectionResetError):
        return ("closed",)
    try:
        body = answer.read()
    except (http.client.IncompleteRead, ConnectionResetError):
        return (answer.status, "cut off")
    return (answer.status, body)


# --- the terminal -------------------------------------------------------------


@pytest.mark.slow
def test_term_trace(tmp_path: Path) -> None:
    compared = 0
    with echo_ship(tmp_path, "sut") as ship:
        terminal = Terminal(ship)
        try:
            terminal.expect(b"): live on http", "start")
            terminal.expect(b"\r\n", "start")
            echo = Echo(ship)
            for step in steps("term"):
                name = step["step"]
                text = bytes.fromhex(step.get("terminal", ""))
                if name.startswith("stdin") or "exit" in name or "logo" in name:
                    continue
                terminal.read()
                terminal.seen = b""
                if "keys" in step:
                    os.write(terminal.master, bytes.fromhex(step["keys"]))
                elif "resize" in step:
                    terminal.resize(*step["resize"])
                elif "effects" in step:
                    echo.push(as_noun(step["effects"]))
                else:
                    continue
                if text and "effects" in step and name.startswith("blit"):
                    terminal.expect(text, name)
                rows = step.get("log", [])
                for row, want in zip(echo.rows(len(rows)), rows, strict=True):
                    assert row.ovum == as_noun(want["ovum"]), name
                compared += 1
            assert compared >= 50
            terminal.king.terminate()
            assert terminal.wait_exit() == 0, terminal.read()
            assert b"Traceback" not in terminal.read()
        finally:
            terminal.close()
        ship.check()
