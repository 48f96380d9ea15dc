"""The HTTP server: requests become events, %response effects become answers.

Wires: out /e/http-server/<sev> %born and %live, and requests as `eyre` has
them; in /http-server/<sev> %set-config, %sessions, %grow, and
/http-server/<sev>/<conn>/<seq> %response. The loopback listener, where there
is one, is server sev+1 and says %request-local.

Listeners open at the first valid %set-config and stay; a later one only says
%live again, since nothing that we honour in it can change them.

HTTP/1.1 with keep-alive and pipelining (one request at a time a connection),
parsed by h11. A client that closes, or that only closes its writing side,
is taken to be gone: at once, also while the kernel thinks. Whatever ends a
request that the kernel may still know, short of its own last word, sends
%cancel-request.

Answers without the kernel: 400 method or syntax, 408 slow body, 413, 431,
500 when the event failed, 503 when it was refused (with Retry-After, if only
for now) or we are closing, 504 without a %start in START_S. Runtime pages:
/~_~/healthz, /~_~/slog.

Limits: see `Limits`. Effects are only put into the request's queue by the
driver's task, and parsed by the connection's own, so that a slow client never
holds the release of effects; a queue above its bound ends the request.

Missing: https (a key in %set-config is logged), HTTP/2, compression, the
%grow cache and /_~_/ scries; requests for these two go to the kernel.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import h11
import trio

from king.drivers import eyre
from king.drivers.base import Clock, Effects, Inject, Instance, Log, Tally
from king.drivers.exchange import DEFAULT, Limits
from king.drivers.visitor import Shared, Slogs, Visitor
from king.drivers.wire import (
    DONE_NOTHING,
    effect_wire,
    knot_text,
    ovum,
    read_small,
)
from king.event import Effect, Fact, Outcome
from proto.cord import uv_text
from proto.noun import noun

__all__ = ["DEFAULT", "Limits", "Listen", "Port", "Slogs", "http"]


class Listen(Protocol):
    async def __call__(self, *, loopback: bool) -> trio.SocketListener:
        """Open the public listener, or the one for local programs.

        :raises king.errors.TreadleError: if a fixed port is busy; ends the ship.
        """
        ...


@dataclass(frozen=True, slots=True)
class Port:
    """One line of `.http.ports`."""

    number: int
    secure: bool
    loopback: bool


@dataclass(slots=True)
class _Servers:
    """The listeners, once there are any, and what each is called."""

    shared: Shared
    listen: Listen
    ports: Callable[[tuple[Port, ...]], None]
    loopback: bool
    room: trio.Semaphore
    listeners: list[trio.SocketListener] = field(default_factory=list)

    async def run(self, configs: trio.MemoryReceiveChannel[eyre.Config]) -> None:
        """Open at the first config; say %live at each."""
        shared = self.shared
        try:
            async with trio.open_nursery() as nursery:
                async for config in configs:
                    if config.secure:
                        shared.log("http: https is not offered yet; key not used")
                    if not self.listeners:
                        await self._open(nursery)
                    await self._announce()
        finally:
            for listener in self.listeners:
                listener.socket.close()
            if self.listeners:
                self.ports(())

    async def _open(self, nursery: trio.Nursery) -> None:
        instance = self.shared.instance
        for loopback in (False, True) if self.loopback else (False,):
            listener = await self.listen(loopback=loopback)
            self.listeners.append(listener)
            server = uv_text(instance.number + 1) if loopback else instance.knot
            nursery.start_soon(self._accept, nursery, listener, server, loopback)

    async def _announce(self) -> None:
        shared = self.shared
        numbers = [each.socket.getsockname()[1] for each in self.listeners]
        ports = tuple(
            Port(number, False, loopback)
            for number, loopback in zip(numbers, (False, True), strict=False)
        )
        self.ports(ports)
        for port, listener in zip(ports, self.listeners, strict=True):
            what = "loopback" if port.loopback else "web interface"
            shared.log(f"http: {what} live on {_address(listener)}")
        wire = ("e", "http-server", shared.instance.knot)
        live = ovum(wire, "live", noun(numbers[0], None))
        await shared.inject.submit(live, DONE_NOTHING)

    async def _accept(
        self,
        nursery: trio.Nursery,
        listener: trio.SocketListener,
        server: str,
        local: bool,
    ) -> None:
        """One task a client, as many as there is room for."""
        shared, room = self.shared, self.room
        number = 0
        while True:
            if not room.value:
                # Whoever waits idly makes room; whoever is served, afterwards.
                shared.crowded = True
                for scope in list(shared.idle.values())[:1]:
                    scope.cancel()
            await room.acquire()
            shared.crowded = False
            try:
                stream = await listener.accept()
            except OSError as error:  # out of descriptors: some will close
                room.release()
                shared.log(f"http: cannot accept: {error}")
                await trio.sleep(0.1)
                continue
            number += 1
            client = Visitor(shared, stream, server, number, local=local)
            nursery.start_soon(self._serve, client)

    async def _serve(self, client: Visitor) -> None:
        try:
            await client.run()
        except* h11.ProtocolError as group:
            # A mistake in framing, ours: it costs one client, not the ship.
            self.shared.log(f"http: {group.exceptions[0]!r}; cut off", priority=2)
        finally:
            self.room.release()


def _address(listener: trio.SocketListener) -> str:
    """For people: where a browser on this machine finds it."""
    host, number = listener.socket.getsockname()[:2]
    if host in ("0.0.0.0", "::", "127.0.0.1", "::1"):
        host = "localhost"
    return f"http://[{host}]:{number}" if ":" in host else f"http://{host}:{number}"


async def http(
    *,
    inject: Inject,
    effects: Effects,
    listen: Listen,
    ports: Callable[[tuple[Port, ...]], None],
    clock: Clock,
    instance: Instance,
    log: Log,
    busy: Callable[[], bool],
    ship: str,
    slogs: Slogs | None = None,
    loopback: bool = False,
    refused: Tally = lambda why: None,
    server: str = "treadle",
    limits: Limits = DEFAULT,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run until the effects end. Live once %born is on its way; listeners open
    when the kernel says %set-config.

    `ports` is told what is open (the `.http.ports` file, the status), and of
    nothing at the end; `busy` says whether an event runs now; `ship` is the
    name with its tilde, as in the session cookie; `server` is what answers say
    in the header of that name; `refused` counts answers of our own that are
    errors, by status, and clients that were cut off.
    """
    shared = Shared(
        inject=inject,
        clock=clock,
        instance=instance,
        log=log,
        busy=busy,
        slogs=slogs,
        cookie=f"urbauth-{ship}".encode(),
        server=server.encode(),
        limits=limits,
        refused=refused,
    )
    room = trio.Semaphore(limits.connections)
    servers = _Servers(shared, listen, ports, loopback, room)
    say_config, configs = trio.open_memory_channel[eyre.Config](1)

    def born(outcome: Outcome) -> None:
        if not isinstance(outcome, Fact):
            log("http: %born failed; the kernel may not open the web interface")

    async def start() -> None:
        await inject.submit(ovum(("e", "http-server", instance.knot), "born"), born)
        task_status.started()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(start)
        nursery.start_soon(servers.run, configs)
        async for event, effect in effects:
            why = _handle(shared, say_config, effect)
            if why:
                log(f"http: event {event}: {why}")
        nursery.cancel_scope.cancel()


def _handle(
    shared: Shared, say_config: trio.MemorySendChannel[eyre.Config], effect: Effect
) -> str:
    """Do, or pass on, what the kernel says; say why not."""
    wire = effect_wire(effect)
    if wire[:1] != (b"http-server",):
        return f"lost %{knot_text(effect.tag)[:40]}"
    if effect.tag == b"response":
        exchange = shared.exchanges.get(wire[1:])
        if exchange is not None:
            exchange.put(effect.data)
        return "" if len(wire) == 4 else "%response on a strange wire"
    try:
        if effect.tag == b"set-config":
            config = eyre.read_config(read_small(effect.data))
            # One that waits to be announced already says as much.
            with contextlib.suppress(trio.WouldBlock):
                say_config.send_nowait(config)
        elif effect.tag == b"sessions":
            shared.sessions = eyre.read_sessions(read_small(effect.data, 1 << 22))
        elif effect.tag != b"grow":  # only a cache; Eyre answers as well
            return f"lost %{knot_text(effect.tag)[:40]}"
    except ValueError as error:
        return f"strange %{effect.tag.decode()}: {error}"
    return ""
