"""The other end of `conn.sock`: how the CLI talks to a live ship.

What it is: blocking newt frames with a deadline (specification 4.1, 6.6).
Invariants: one connection, one request at a time; a reply is bounded.
Limits: no trio here, so that `status` and its like start at once.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack

from king.errors import TreadleError
from king.pier import Layout, lock_holder_pid, wait_unlocked, who_locks
from proto.cord import cord, cord_text
from proto.errors import CueError
from proto.jam import cue, jam
from proto.noun import Cell, Noun, items, noun
from proto.text import render

__all__ = ["SOCKET_PATH_MAX", "Client", "connect_unix", "poke_outcome", "stop_ship"]

SOCKET_PATH_MAX = 107
_REPLY_BYTES_MAX = 1 << 28
_REQUEST = 1
_STEP = cord("step")


def connect_unix(path: str, timeout_s: float) -> socket.socket:
    """Connect to a socket file, however long its path.

    :raises OSError: as connect
    """
    with ExitStack() as stack:
        if len(os.fsencode(path)) > SOCKET_PATH_MAX:
            # An address has room for 108 bytes: go by way of a descriptor.
            directory = os.open(os.path.dirname(path), os.O_PATH | os.O_CLOEXEC)
            stack.callback(os.close, directory)
            path = f"/proc/self/fd/{directory}/{os.path.basename(path)}"
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(timeout_s)
            connection.connect(path)
        except BaseException:
            connection.close()
            raise
        return connection


class Client:
    """A connection to a ship. A context manager."""

    def __init__(self, layout: Layout, timeout_s: float = 10.0) -> None:
        """Connect.

        :raises TreadleError: not-running, conn-failed, conn-timeout
        """
        self._root = layout.root
        self._deadline = time.monotonic() + timeout_s
        try:
            self._socket = connect_unix(str(layout.conn_socket), timeout_s)
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise _not_running(layout) from error
        except TimeoutError as error:
            raise self._timeout() from error
        except OSError as error:
            raise self._failed(str(error)) from error

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, *request: object) -> Noun:
        """Send `[rid request]`; what follows the rid in the reply.

        :raises TreadleError: conn-failed, conn-timeout
        """
        self._send(request)
        return self._hear()

    def follow(
        self, *request: object, step: Callable[[Noun], None], silence_s: float = 60.0
    ) -> Noun:
        """As `ask`, where any number of [rid %step noun] comes before the answer. The
        deadline is for a silence between two words, not for the whole.

        :raises TreadleError: conn-failed, conn-timeout
        """
        self._send(request)
        while True:
            self._deadline = time.monotonic() + silence_s
            reply = self._hear()
            if not isinstance(reply, Cell) or reply.head != _STEP:
                return reply
            step(reply.tail)

    def _send(self, request: tuple[object, ...]) -> None:
        body = jam(noun(_REQUEST, *request))
        frame = b"\0" + len(body).to_bytes(4, "little") + body
        try:
            self._socket.settimeout(self._left())
            self._socket.sendall(frame)
        except TimeoutError as error:
            raise self._timeout() from error
        except OSError as error:
            raise self._failed(str(error)) from error

    def _hear(self) -> Noun:
        try:
            head = self._receive(5)
            size = int.from_bytes(head[1:], "little")
            if head[0] != 0 or not 0 < size <= _REPLY_BYTES_MAX:
                raise self._failed("it answers in no language that we know")
            reply = cue(self._receive(size))
        except TimeoutError as error:
            raise self._timeout() from error
        except CueError as error:
            raise self._failed(f"its answer is not a noun: {error}") from error
        except OSError as error:
            raise self._failed(str(error)) from error
        if not isinstance(reply, Cell):
            raise self._failed("its answer is an atom")
        if reply.head != _REQUEST:
            raise self._failed(f"it refuses the request: {_refusal(reply.tail)}")
        return reply.tail

    def _receive(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            self._socket.settimeout(self._left())
            part = self._socket.recv(min(size - len(data), 1 << 20))
            if not part:
                raise self._failed("it closed the connection without an answer")
            data += part
        return bytes(data)

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def _failed(self, why: str) -> TreadleError:
        return TreadleError(
            "conn-failed",
            f"talking to the ship at {self._root} failed: {why}",
            f"how is it? treadle status {self._root}",
        )

    def _timeout(self) -> TreadleError:
        return TreadleError(
            "conn-timeout",
            f"the ship at {self._root} does not answer in time",
            "it may be busy with a long event; try again, or with a longer --timeout",
        )


def _not_running(layout: Layout) -> TreadleError:
    holder = who_locks(layout)
    if holder is None:
        why = f"no ship answers at {layout.root}"
        hint = f"start it: treadle run {layout.root}"
    else:
        why = f"{layout.root} is in use by {holder}, which answers nobody"
        hint = "it is starting, or stopping: its own lines say how far it is"
    return TreadleError("not-running", why, hint)


def _refusal(tail: Noun) -> str:
    """`[%bail code message]`, for people."""
    try:
        _, _, message = _triple(tail)
        return cord_text(message)
    except ValueError:
        return "and does not say why"


def _triple(n: Noun) -> tuple[Noun, Noun, Noun]:
    if isinstance(n, Cell) and isinstance(n.tail, Cell):
        return n.head, n.tail.head, n.tail.tail
    raise ValueError("not a triple")


# --- poke -------------------------------------------------------------------


def poke_outcome(reply: Noun) -> str:
    """`done`, from the reply to an %ovum.

    :raises TreadleError: event-failed, event-dropped, disk-low, conn-failed
    """
    # [%news %done], [%news %drop] or [%bail goofs]
    if isinstance(reply, Cell) and reply.head == cord("bail"):
        if _first_mote(reply.tail) == cord("disk-low"):
            raise TreadleError(
                "disk-low",
                "the ship did not take the event: its disk is nearly full",
                "free some space: it takes events again by itself",
            )
        why = "; ".join(_goof_lines(reply.tail)) or "it does not say why"
        raise TreadleError(
            "event-failed",
            f"the event crashed and is not in the log: {why}",
            "the ship is as before",
        )
    if reply == Cell(cord("news"), cord("done")):
        return "done"
    if reply == Cell(cord("news"), cord("drop")):
        raise TreadleError(
            "event-dropped",
            "the ship did not take the event",
            "is it stopping, or its disk full? treadle status tells",
        )
    raise TreadleError("conn-failed", "the ship answered in words we do not know")


def _first_mote(goofs: Noun) -> Noun:
    if isinstance(goofs, Cell) and isinstance(goofs.head, Cell):
        return goofs.head.head
    return 0


def _goof_lines(goofs: Noun) -> list[str]:
    """A line a goof: its mote, and its trace, cut."""
    lines: list[str] = []
    try:
        for goof in items(goofs):
            if isinstance(goof, Cell) and isinstance(goof.head, int):
                trace = "" if goof.tail == 0 else f" {render(goof.tail, 300)}"
                lines.append(f"%{cord_text(goof.head)}{trace}")
    except ValueError:
        lines.append("and its reasons are malformed")
    return lines


# --- stop -------------------------------------------------------------------


def stop_ship(layout: Layout, timeout_s: float) -> str:
    """Stop the ship, and wait until both locks are free: `idle` where none
    ran, `asked`, or `signalled` where it did not listen on its socket.

    :raises TreadleError: still-running, conn-failed
    """
    deadline = time.monotonic() + timeout_s
    holder = who_locks(layout)
    if holder is None:
        return "idle"
    how = "asked"
    try:
        with Client(layout, min(timeout_s, 5.0)) as client:
            client.ask("urth", "stop", 0)
    except TreadleError as error:
        # Starting, replaying, or too busy to answer: a signal says the same.
        pid = lock_holder_pid(layout)
        if pid is None:
            # It may have left between our two looks.
            if wait_unlocked(layout, 1.0):
                return how
            raise TreadleError(
                "still-running",
                f"{layout.root} is in use by {holder}, which we cannot stop",
                error.hint,
            ) from error
        os.kill(pid, signal.SIGTERM)
        how = "signalled"
    if not wait_unlocked(layout, max(deadline - time.monotonic(), 0.1)):
        raise TreadleError(
            "still-running",
            f"{layout.root} has not stopped in {timeout_s:g} s: it is in use by "
            f"{who_locks(layout) or holder}",
            "wait longer (--timeout), or kill -9 that pid: nothing that was "
            "acknowledged would be lost",
        )
    return how
