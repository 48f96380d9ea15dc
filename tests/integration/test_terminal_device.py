"""The terminal device is given back as it was found, on every way out."""

from __future__ import annotations

import os
import signal
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.terminal import Terminal
from tests.support.whole_ship import WholeShip, boot, wait_for


@pytest.fixture
def ship(tmp_path: Path) -> Iterator[WholeShip]:
    with boot(tmp_path / "zod") as ship:
        yield ship


def typed(text: bytes) -> Callable[[Terminal], None]:
    return lambda terminal: os.write(terminal.master, text) and None


def signalled(number: int) -> Callable[[Terminal], None]:
    return lambda terminal: terminal.king.send_signal(number)


def two_interrupts(terminal: Terminal) -> None:
    os.write(terminal.master, b"\x03")
    terminal.expect(b"interrupt", "the first ^C")
    os.write(terminal.master, b"\x03")


@pytest.mark.parametrize(
    ("way", "code"),
    [
        pytest.param(typed(b"exit\r"), 0, id="exit"),
        pytest.param(signalled(signal.SIGTERM), 0, id="term"),
        pytest.param(signalled(signal.SIGHUP), 0, id="hup"),
        pytest.param(two_interrupts, 0, id="two interrupts"),
    ],
)
def test_terminal_is_given_back(
    ship: WholeShip, way: Callable[[Terminal], None], code: int
) -> None:
    terminal = Terminal(ship)
    try:
        terminal.expect(b": live on", "start")
        assert terminal.is_raw()
        way(terminal)
        assert terminal.wait_exit() == code
        assert not terminal.is_raw()
        assert termios.tcgetattr(terminal.master) == terminal.found
    finally:
        terminal.close()


def test_terminal_is_given_back_after_a_fault(ship: WholeShip) -> None:
    terminal = Terminal(ship, TREADLE_FAILPOINTS="commit.before=raise@12")
    try:
        terminal.expect(b": live on", "start")
        wait_for(
            lambda: (
                os.write(terminal.master, b"x") and terminal.king.poll() is not None
            ),
            "the fault",
        )
        assert terminal.wait_exit() == 4
        assert b"log-failed" in terminal.read()
        assert not terminal.is_raw()
    finally:
        terminal.close()


def test_a_stop_by_the_keyboard_lends_the_terminal(ship: WholeShip) -> None:
    terminal = Terminal(ship)
    try:
        terminal.expect(b": live on", "start")
        terminal.king.send_signal(signal.SIGTSTP)
        stat = Path(f"/proc/{terminal.king.pid}/stat")
        wait_for(lambda: ") T " in stat.read_text(), "a stopped king", 60)
        assert not terminal.is_raw()
        terminal.king.send_signal(signal.SIGCONT)
        wait_for(terminal.is_raw, "raw mode again", 60)
        os.write(terminal.master, b"exit\r")
        assert terminal.wait_exit() == 0
        assert not terminal.is_raw()
    finally:
        terminal.close()
