"""One HTTP connection: requests in, answers out, in h11's terms.

What the kernel is asked and what it answers is `eyre`'s; when, `exchange`'s.
Every way out of here closes the socket, and tells the kernel %cancel-request
if it may still know of a request that it has not had the last word on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from ipaddress import IPv4Address
from typing import Final

import h11
import trio

from king.drivers import eyre
from king.drivers.base import Clock, Inject, Instance, Log, Tally
from king.drivers.exchange import Exchange, Limits, http_date
from king.drivers.wire import DONE_NOTHING, motes, off_thread, ovum
from king.event import Failure, Refused
from proto.cord import da_to_unix, ud_text

__all__ = ["Shared", "Slogs", "Visitor"]

Slogs = Callable[[], trio.MemoryReceiveChannel[str]]
"""Subscribe to the lines of the log. Lines that do not fit are dropped."""


_READ_SIZE: Final = 1 << 16
_WRITE_SIZE: Final = 1 << 18
_CLOSING_S: Final = 0.5
RETRY_S: Final = 30
"""What a client that is refused for now is asked to wait."""
_HEARTBEAT_S: Final = 20.0
_LAST_LINE: Final = "data:urbit shutting down\n\n"


@dataclass(slots=True)
class Shared:
    """What all connections of one run have in common."""

    inject: Inject
    clock: Clock
    instance: Instance
    log: Log
    busy: Callable[[], bool]
    slogs: Slogs | None
    cookie: bytes
    server: bytes
    limits: Limits
    refused: Tally
    exchanges: dict[tuple[bytes, ...], Exchange] = field(default_factory=dict)
    sessions: frozenset[bytes] = frozenset()
    idle: dict[Visitor, trio.CancelScope] = field(default_factory=dict)
    bodies: int = 0
    crowded: bool = False
    date: tuple[int, bytes] = (-1, b"")

    def date_now(self) -> bytes:
        seconds = int(da_to_unix(self.clock.now()))
        if self.date[0] != seconds:
            self.date = (seconds, http_date(seconds).encode())
        return self.date[1]


class _Refusal(Exception):
    """This request is answered without the kernel, and the connection closed."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class _Hangup(Exception):
    """The client is gone, or takes nothing: nobody to say anything to."""


class Visitor:
    """One connection: its requests, one after another."""

    def __init__(
        self,
        shared: Shared,
        stream: trio.SocketStream,
        server: str,
        number: int,
        *,
        local: bool,
    ) -> None:
        self.shared = shared
        self.stream = stream
        self.server = server
        self.number = number
        self.local = local
        self.requests = 0
        self.method = b""
        self.bodied = True
        """May the response at hand have a body?"""
        self.parser = h11.Connection(
            h11.SERVER, max_incomplete_event_size=shared.limits.header
        )
        self.ahead = 0
        """Bytes of later requests that were read already, at most."""
        try:
            self.address = int(IPv4Address(stream.socket.getpeername()[0]))
        except (OSError, ValueError):
            self.address = 0

    async def run(self) -> None:
        """Serve until either side has had enough; leaves nothing behind."""
        try:
            while await self._serve_one():
                self.parser.start_next_cycle()
        except _Hangup:
            pass
        except _Refusal as refusal:
            await self._refuse(refusal)
        finally:
            self.stream.socket.close()

    async def _serve_one(self) -> bool:
        """One request and its answer; True if another may follow."""
        request = await self._head()
        if request is None:
            return False
        body = await self._body(request)
        try:
            await self._route(request, body)
        finally:
            self.shared.bodies -= len(body)
        parser = self.parser
        return (
            parser.our_state is h11.DONE
            and parser.their_state is h11.DONE
            and not self.shared.crowded
        )

    # --- reading a request ----------------------------------------------------

    async def _receive(self) -> None:
        """Give the parser what the client sends next; b"" is its end."""
        try:
            data = await self.stream.receive_some(_READ_SIZE)
        except trio.BrokenResourceError:
            raise _Hangup from None
        self.parser.receive_data(data)

    def _event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        try:
            return self.parser.next_event()
        except h11.RemoteProtocolError as error:
            status = error.error_status_hint
            raise _Refusal(status, "bad request") from None

    async def _head(self) -> h11.Request | None:
        """The next request's head, or None when the client has no more."""
        shared, parser = self.shared, self.parser
        self.ahead = 0
        self.method = b""  # a refusal of what follows answers no HEAD
        event = self._event()
        if event is h11.NEED_DATA and not parser.trailing_data[0]:
            with trio.move_on_after(shared.limits.idle_s) as scope:
                shared.idle[self] = scope
                try:
                    await self._receive()
                finally:
                    del shared.idle[self]
            if scope.cancelled_caught:
                return None
            event = self._event()
        with trio.move_on_after(shared.limits.header_s):
            while event is h11.NEED_DATA:
                await self._receive()
                event = self._event()
            if isinstance(event, h11.Request):
                self.method = event.method
                return event
            return None  # the end, or an upgrade that we never offered
        raise _Refusal(408, "too slow")

    async def _body(self, request: h11.Request) -> bytes:
        """The request's body, counted in `shared.bodies` until it is answered."""
        shared, parser, limits = self.shared, self.parser, self.shared.limits
        for name, value in request.headers:
            if name == b"content-length" and int(value) > limits.body:
                raise _Refusal(413, "too large")
        if parser.they_are_waiting_for_100_continue:
            go_on = h11.InformationalResponse(status_code=100, headers=[])
            await self._send(parser.send(go_on) or b"")
        parts: list[bytes] = []
        size = 0
        try:
            while True:
                event = self._event()
                if event is h11.NEED_DATA:
                    with trio.move_on_after(limits.body_s) as scope:
                        await self._receive()
                    if scope.cancelled_caught:
                        raise _Refusal(408, "too slow")
                elif isinstance(event, h11.Data):
                    data = bytes(event.data)
                    size += len(data)
                    shared.bodies += len(data)
                    parts.append(data)
                    if size > limits.body:
                        raise _Refusal(413, "too large")
                    if shared.bodies > limits.bodies:
                        raise _Refusal(503, "too much at once")
                elif isinstance(event, h11.EndOfMessage):
                    return b"".join(parts)
                else:
                    raise _Hangup
        except BaseException:
            shared.bodies -= size
            raise

    # --- answering without the kernel -----------------------------------------

    async def _route(self, request: h11.Request, body: bytes) -> None:
        path = request.target.partition(b"?")[0]
        if request.method not in eyre.METHODS:
            await self._plain(400, "bad request")
        elif path == b"/~_~/healthz":
            await self._plain(429 if self.shared.busy() else 204, "")
        elif path == b"/~_~/slog":
            await self._slog(request)
        elif path.startswith(b"/~_~/"):
            await self._plain(404, "no such page")
        else:
            await self._ask(request, body)

    async def _plain(
        self, status: int, text: str, *, close: bool = False, retry_s: int = 0
    ) -> None:
        """A short answer of our own."""
        if status >= 400 and text:
            self.shared.refused(str(status))
        data = text.encode()
        headers = [(b"content-type", b"text/plain; charset=utf-8")]
        if status != 204:
            headers.append((b"content-length", b"%d" % len(data)))
        if close:
            headers.append((b"connection", b"close"))
        if retry_s:
            headers.append((b"retry-after", b"%d" % retry_s))
        phrase = HTTPStatus(status).phrase.lower().encode()
        out = self._start(status, headers, phrase)
        if data and self.method != b"HEAD":
            out += self.parser.send(h11.Data(data=data)) or b""
        out += self.parser.send(h11.EndOfMessage()) or b""
        await self._send(out)

    async def _refuse(self, refusal: _Refusal) -> None:
        """Say why not, and give the client a moment to hear it."""
        if self.parser.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        try:
            await self._plain(refusal.status, refusal.text, close=True)
            with trio.move_on_after(1.0):
                # Closing with unread input would reset the connection, and the
                # answer with it.
                await self.stream.send_eof()
                while await self.stream.receive_some(_READ_SIZE):
                    pass
        except (_Hangup, trio.BrokenResourceError):
            pass

    async def _slog(self, request: h11.Request) -> None:
        """The log as it comes, for the owner's browser."""
        shared = self.shared
        if not self._authenticated(request):
            await self._plain(403, "", close=True)
            return
        if shared.slogs is None:
            await self._plain(404, "no log to show")
            return
        kind = [
            (b"content-type", b"text/event-stream"),
            (b"cache-control", b"no-cache"),
        ]
        reader = Exchange(0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, reader, nursery.cancel_scope)
            with shared.slogs() as lines:
                try:
                    await self._send(self._start(200, kind))
                    await self._slog_lines(lines)
                except _Hangup:
                    reader.gone = True
            nursery.cancel_scope.cancel()
        if reader.gone:
            raise _Hangup

    async def _slog_lines(self, lines: trio.MemoryReceiveChannel[str]) -> None:
        parser = self.parser
        text = ""
        while text != _LAST_LINE:
            text = "\n"
            with trio.move_on_after(_HEARTBEAT_S):
                try:
                    text = f"data:{await lines.receive()}\n\n"
                except trio.EndOfChannel:
                    text = _LAST_LINE
            await self._send(parser.send(h11.Data(data=text.encode())) or b"")
        await self._send(parser.send(h11.EndOfMessage()) or b"")

    def _authenticated(self, request: h11.Request) -> bool:
        for name, value in request.headers:
            if name == b"cookie":
                for crumb in value.split(b";"):
                    key, _, token = crumb.strip().partition(b"=")
                    if key == self.shared.cookie and token in self.shared.sessions:
                        return True
        return False

    # --- asking the kernel ----------------------------------------------------

    async def _ask(self, request: h11.Request, body: bytes) -> None:
        shared = self.shared
        self.requests += 1
        knots = (self.server, ud_text(self.number), ud_text(self.requests))
        wire = ("e", "http-server", *knots)
        key = tuple(knot.encode() for knot in knots)
        build = partial(
            eyre.request,
            wire,
            local=self.local,
            address=self.address,
            method=request.method,
            url=request.target,
            headers=list(request.headers),
            body=body,
        )
        event = await off_thread(build, len(body))
        exchange = Exchange(shared.limits.response)
        shared.exchanges[key] = exchange
        known = ended = False
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch, exchange, nursery.cancel_scope)
                try:
                    await shared.inject.submit(event, exchange.done)
                    known = True
                    ended = await self._respond(exchange, request.method)
                except _Hangup:
                    exchange.gone = True
                nursery.cancel_scope.cancel()
        finally:
            del shared.exchanges[key]
            if not exchange.gone and self.parser.our_state is h11.SEND_RESPONSE:
                # We are closing: the client is owed a word.
                with trio.CancelScope(shield=True), trio.move_on_after(_CLOSING_S):
                    await self._say_closing()
        if known and not ended and not exchange.crashed:
            await shared.inject.submit(ovum(wire, "cancel-request"), DONE_NOTHING)
        if exchange.gone:
            raise _Hangup

    async def _say_closing(self) -> None:
        with contextlib.suppress(_Hangup):
            await self._plain(503, "the ship is closing", close=True)

    async def _watch(self, exchange: Exchange, scope: trio.CancelScope) -> None:
        """Notice that the client has gone while its answer is being made."""
        limit = self.shared.limits.ahead
        while self.ahead < limit:
            try:
                data = await self.stream.receive_some(_READ_SIZE)
            except trio.BrokenResourceError:
                data = b""
            if not data:
                exchange.gone = True
                scope.cancel()
                return
            self.ahead += len(data)
            self.parser.receive_data(data)

    async def _respond(self, exchange: Exchange, method: bytes) -> bool:
        """Pass on what the kernel says; True when it has said its last word."""
        limits = self.shared.limits
        started = False
        deadline = trio.current_time() + limits.start_s
        while True:
            part = await exchange.next(deadline, started=started)
            if part is None:
                await self._respond_ourselves(exchange, started=started)
                return False
            read = partial(eyre.read_event, part, limits.response_part)
            try:
                said = await off_thread(read, len(part))
            except ValueError as error:
                self.shared.log(f"http: strange response: {error}")
                continue
            if isinstance(said, eyre.Cancel):
                if started:
                    exchange.gone = True  # the client sees the body cut short
                else:
                    await self._plain(500, "hosed")
                return True
            if isinstance(said, eyre.Start) == started:
                self.shared.log(
                    f"http: %{'start' if started else 'continue'} out of turn"
                )
                continue
            try:
                await self._pass_on(said, method)
            except h11.LocalProtocolError as error:
                # Not as long as the kernel said: all we can do is cut it off.
                self.shared.log(f"http: strange response: {error}")
                exchange.gone = True
                return said.complete
            started = True
            if said.complete:
                return True
            deadline = trio.current_time() + limits.continue_s

    async def _respond_ourselves(self, exchange: Exchange, *, started: bool) -> None:
        outcome = exchange.outcome
        if started:
            why = {"flood": "took too little", "late": "heard no more"}
            said = why.get(exchange.word or "", "lost its kernel")
            self.shared.log(f"http: a client {said}; cut off", priority=0)
            self.shared.refused("cut off")
            exchange.gone = True
        elif exchange.word == "late":
            await self._plain(504, "no answer in time")
        elif exchange.word == "flood":
            await self._plain(500, "the answer is too large")
        elif isinstance(outcome, Failure):
            await self._plain(500, f"the event failed: {motes(outcome)}")
        elif isinstance(outcome, Refused):
            retry_s = RETRY_S if outcome.again else 0
            text = f"not now: {outcome.why}"
            await self._plain(503, text, close=True, retry_s=retry_s)
        else:
            await self._plain(500, "the event crashed")

    # --- writing --------------------------------------------------------------

    def _start(self, status: int, headers: eyre.Headers, phrase: bytes = b"") -> bytes:
        ours = {name for name, _ in headers}
        first: eyre.Headers = []
        if b"date" not in ours:
            first.append((b"date", self.shared.date_now()))
        if b"server" not in ours:
            first.append((b"server", self.shared.server))
        if self.shared.crowded and b"connection" not in ours:
            first.append((b"connection", b"close"))
        head = h11.Response(
            status_code=status,
            reason=phrase or eyre.reason(status),
            headers=[*first, *headers],
        )
        return self.parser.send(head) or b""

    async def _pass_on(self, said: eyre.Start | eyre.Continue, method: bytes) -> None:
        """:raises h11.LocalProtocolError: if it breaks the length it promised."""
        out = b""
        if isinstance(said, eyre.Start):
            headers, self.bodied = eyre.framed(said, method)
            out = self._start(said.status, headers)
        if self.bodied and said.body:
            pieces = self.parser.send_with_data_passthrough(h11.Data(data=said.body))
            assert pieces is not None
            if len(said.body) > _WRITE_SIZE:
                for piece in (out, *pieces):
                    await self._send(piece)
                out = b""
            else:
                out += b"".join(pieces)
        if said.complete:
            out += self.parser.send(h11.EndOfMessage()) or b""
        await self._send(out)

    async def _send(self, data: bytes) -> None:
        """:raises _Hangup: if the client is gone or does not take it."""
        view = memoryview(data)
        try:
            for at in range(0, len(view), _WRITE_SIZE):
                with trio.fail_after(self.shared.limits.write_s):
                    await self.stream.send_all(view[at : at + _WRITE_SIZE])
        except trio.BrokenResourceError:
            raise _Hangup from None
        except trio.TooSlowError:
            self.shared.refused("slow")
            raise _Hangup from None
