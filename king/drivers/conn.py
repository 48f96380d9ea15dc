"""The control socket: requests from local programs, in newt frames.

Wires: out /k/khan/<sev> %born, /k/khan/<sev>/<conn> %done,
/k/khan/<sev>/<conn>/<rid> %fyrd, and whatever an %ovum says; in
/khan/<sev>/<conn>/<rid> %avow.

    [rid %ovum tar wir card]   [rid %news %done | %drop], [rid %bail goofs];
                               refused for now: a goof of that name, %disk-low
    [rid %peek nom]            [rid %peek (unit)]
    [rid %peel path]           [rid (unit fact)], the slow ones [rid %peel fact]
    [rid %fyrd args]           [rid %avow (each page goof)], [rid %bail goofs]
    [rid %urth %pack | %meld]  [rid &] at once
    [rid %urth %stop ~]        [rid &], then the ship stops (our own)
    [rid %care verb json]      [rid %step json] while it goes on, [rid %care json]
                               or [rid %bail code json] at its end (our own; the
                               king's user and root only)
    anything else              [0 %bail code why], and the connection closes

Requests are read as they come and answered when their answer is there. After
the client's end of file the connection stays while answers are owed to a
client that still listens, then closes. The kernel hears %done of a
connection that it has heard of (%fyrd), or that broke the protocol.

The %ovum path is the hot one: no noun is built in Python; the request is cut
by the codec, heads of wires are remembered, and replies are joined into few
writes.

Limits, per connection: REQUESTS_MAX and BYTES_MAX outstanding (then we stop
reading), OUTPUT_MAX unread by the client (then it is dropped), WRITE_S for a
stalled write; for all: CONNECTIONS_MAX (more wait in the backlog) and
HELD_MAX bytes of unfinished frames.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import trio

from king.drivers.base import Effects, Inject, Instance, Log, Peek, Tally
from king.drivers.newt import SIZE_MAX, NewtReader, newt
from king.drivers.wire import (
    DONE_NOTHING,
    NO,
    NULL,
    YES,
    effect_wire,
    goof_jams,
    knot_text,
    off_thread,
    ovum,
    ovum_of_jam,
    read_small,
    refusal,
)
from king.errors import TreadleError
from king.event import Effect, Fact, Failure, Jam, Outcome, Ovum, Refused
from proto import fast
from proto.cord import cord, cord_text, path_from_text, path_values, ud_text, uv_text
from proto.errors import CueError, ProtoError
from proto.jam import cue, jam
from proto.noun import Cell, Noun, atom_bytes, listed

__all__ = ["Care", "Limits", "RuntimeFact", "SlowRuntimeFact", "Urth", "conn"]

RuntimeFact = Callable[[], Noun]
"""One of the runtime's facts, for %peel: computed when asked, at once."""
SlowRuntimeFact = Callable[[], Awaitable[Noun]]
"""One that takes a while."""
Urth = Callable[[str], None]
"""Maintenance: "pack" or "stop". Begins it, and returns at once."""
Care = Callable[
    [trio.socket.SocketType, str, str, Callable[[str], None]], Awaitable[str]
]
"""For whoever is at the other end of a socket, carry out a verb; its arguments,
words of progress and result are JSON. It raises TreadleError."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds, each with what happens at it."""

    frame: int = SIZE_MAX
    """Bytes of one request; above, newt-decode."""
    connections: int = 512
    """At once; more wait in the listener's backlog."""
    requests: int = 4096
    """Outstanding on one connection; then we stop reading from it."""
    request_bytes: int = 128 << 20
    """The same, in bytes."""
    output_pause: int = 1 << 20
    """Bytes of replies not yet taken; then we stop reading requests."""
    output: int = 64 << 20
    """The same, where we drop the connection (one reply may be larger)."""
    write_s: float = 60.0
    """Without a byte taken; then we drop the connection."""
    held: int = 512 << 20
    """Bytes of unfinished frames, on all connections together."""
    rid_bits: int = 2048
    """Of a %fyrd: its request id becomes part of a wire."""
    wire_knots: int = 64
    wire_bytes: int = 4096
    """Of an %ovum, as jam."""
    care_bytes: int = 1 << 16
    """Of a %care: verb and arguments, as jam."""


DEFAULT: Final = Limits()

_FAULTS: Final = {
    "newt-decode": 1,
    "cue-none": 1,
    "jar-bad": 2,
    "tag-unknown": 3,
    "handle-unknown": 4,
    "ovum-bad": 6,
    "urth-bad": 7,
    "khan-miss": 8,
    "care-bad": 9,
}
_AXES: Final = (2, 6, 14, 30, 31, 62)
"""Of `[rid tag tar wir card]`: rid, tag, tar, wir, card, the card's tag."""
_ARGUMENTS: Final = (7,)
_TAGS: Final = {
    name: jam(cord(name)) for name in ("ovum", "peek", "peel", "fyrd", "urth", "care")
}
_OVUM: Final = _TAGS["ovum"]
_NEWS_DONE: Final = jam(Cell(cord("news"), cord("done")))
_NEWS_DROP: Final = jam(Cell(cord("news"), cord("drop")))
_BAIL: Final = jam(cord("bail"))
_PEEK: Final = jam(cord("peek"))
_PEEL: Final = jam(cord("peel"))
_AVOW: Final = jam(cord("avow"))
_STEP: Final = jam(cord("step"))
_PRIVILEGED: Final = jam(Cell(0, 0))
_READ_SIZE: Final = 65536
_TURN: Final = 64
"""Requests of one client, until others (the serf first of all) have a turn."""
_WRITE_SIZE: Final = 1 << 18
_FLUSH_S: Final = 5.0
_GONE_CHECK_S: Final = 1.0
_BORN_AGAIN_S: Final = 1.0
_HEADS_MAX: Final = 1024
_KNOT_BYTES_MAX: Final = 1024


class _Fault(Exception):
    """The client broke the protocol: say so and close."""


@dataclass(slots=True)
class _Shared:
    """What all connections of one run have in common."""

    inject: Inject
    peek: Peek
    instance: Instance
    log: Log
    urth: Urth
    care: Care
    facts: Mapping[str, RuntimeFact]
    slow_facts: Mapping[str, SlowRuntimeFact]
    limits: Limits
    refused: Tally
    khan: bool = False
    held: int = 0
    heads: dict[tuple[bytes, bytes], tuple[tuple[str, ...], bytes]] = field(
        default_factory=dict
    )
    tags: dict[bytes, str] = field(default_factory=dict)
    connections: dict[bytes, _Connection] = field(default_factory=dict)

    def head(self, tar: bytes, wir: bytes) -> tuple[tuple[str, ...], bytes]:
        """The wire of an %ovum as text, and the jam of `[tar wir]`.

        :raises ValueError: if it is not a target and a path that has a knot.
        """
        limits = self.limits
        if len(tar) + len(wir) > limits.wire_bytes:
            raise ValueError("wire too long")
        target, knots = atom_bytes(cue(tar)), path_values(cue(wir))
        if not 0 < len(knots) <= limits.wire_knots or len(target) > 16:
            raise ValueError("no wire, or too many knots")
        if any(len(knot) > _KNOT_BYTES_MAX for knot in knots):
            raise ValueError("knot too long")
        wire = tuple(knot_text(knot) for knot in (target, *knots))
        if len(self.heads) >= _HEADS_MAX:
            self.heads.clear()
        head = self.heads[tar, wir] = (wire, fast.tuple_([tar, wir]))
        return head

    def tag(self, tag: bytes) -> str:
        """The tag of a card as text.

        :raises ValueError: if it is a cell, or longer than any name.
        """
        if len(tag) > 256:
            raise ValueError("tag too long")
        text = knot_text(atom_bytes(cue(tag)))
        if len(self.tags) >= _HEADS_MAX:
            self.tags.clear()
        self.tags[tag] = text
        return text


class _Connection:
    """One client: a reader (the caller's task) and a writer."""

    def __init__(self, shared: _Shared, stream: trio.SocketStream, number: int) -> None:
        self.shared = shared
        self.stream = stream
        self.name = ud_text(number)
        self.outstanding = 0
        self.outstanding_bytes = 0
        self.fyrds: dict[bytes, Jam] = {}
        self.closed = False
        self.told = False
        """The kernel has heard of this connection."""
        self.out: list[bytes] = []
        self.unsent = 0
        self.whole = trio.CancelScope()
        self.work = trio.Event()
        """Set: there is output, or the connection is closed."""
        self.room = trio.Event()
        """Set: something was answered or taken."""

    async def run(self) -> None:
        """Serve until either side has had enough; leaves nothing behind."""
        try:
            async with trio.open_nursery() as nursery:
                self.whole = nursery.cancel_scope
                nursery.start_soon(self._write)
                try:
                    await self._read(nursery)
                    await self._wait_answered()
                except _Fault as fault:
                    await self._say_fault(str(fault))
                except trio.BrokenResourceError:
                    pass
                nursery.cancel_scope.cancel()
        finally:
            self.closed = True
            self.out.clear()
            self.stream.socket.close()
        if self.told:
            wire = ("k", "khan", self.shared.instance.knot, self.name)
            await self.shared.inject.submit(ovum(wire, "done"), DONE_NOTHING)

    # --- reading --------------------------------------------------------------

    async def _read(self, nursery: trio.Nursery) -> None:
        """Take requests until the client's end of file.

        :raises _Fault: when it says what makes no sense.
        """
        shared, limits = self.shared, self.shared.limits
        reader = NewtReader(limits.frame)
        receive = self.stream.receive_some
        held = 0
        try:
            while True:
                data = await receive(max(_READ_SIZE, min(reader.missing, 1 << 20)))
                if not data:
                    return
                bodies, broken = reader.feed(data)
                shared.held += reader.size - held
                held = reader.size
                for count, body in enumerate(bodies, 1):
                    if (
                        self.outstanding >= limits.requests
                        or self.outstanding_bytes >= limits.request_bytes
                        or self.unsent > limits.output_pause
                    ):
                        await self._wait_room()
                    await self._take(body, nursery)
                    if count % _TURN == 0:
                        await trio.lowlevel.checkpoint()
                if broken is not None or shared.held > limits.held:
                    raise _Fault("newt-decode")
        finally:
            shared.held -= held

    async def _wait_room(self) -> None:
        limits = self.shared.limits
        while (
            self.outstanding >= limits.requests
            or self.outstanding_bytes >= limits.request_bytes
            or self.unsent > limits.output_pause
        ):
            self.room = trio.Event()
            await self.room.wait()

    async def _wait_answered(self) -> None:
        """After the client's end of file: wait while answers are owed to it."""
        while self.outstanding or self.unsent:
            self.room = trio.Event()
            # A client that has gone altogether refuses even nothing.
            try:
                await self.stream.socket.send(b"")
            except OSError:
                return
            with trio.move_on_after(_GONE_CHECK_S):
                await self.room.wait()

    async def _take(self, body: bytes, nursery: trio.Nursery) -> None:
        try:
            cut = partial(fast.slots, body, _AXES)
            rid, tag, tar, wir, card, name = await off_thread(cut, len(body))
        except CueError:
            raise _Fault("cue-none") from None
        # The first bit of a jam tells an atom (0) from a cell.
        if rid is None or rid[0] & 1 or tag is None:
            raise _Fault("jar-bad")
        if tag == _OVUM:
            await self._ovum(rid, tar, wir, card, name, len(body))
            return
        arguments = fast.slots(body, _ARGUMENTS)[0]
        assert arguments is not None
        if tag == _TAGS["peek"]:
            self._begin(len(body))
            nursery.start_soon(self._peek, rid, arguments, len(body))
        elif tag == _TAGS["peel"]:
            self._peel(rid, arguments, nursery)
        elif tag == _TAGS["fyrd"]:
            await self._fyrd(rid, arguments, len(body))
        elif tag == _TAGS["urth"]:
            await self._urth(rid, arguments)
        elif tag == _TAGS["care"]:
            self._begin_care(rid, arguments, nursery)
        else:
            raise _Fault("tag-unknown")

    # --- requests -------------------------------------------------------------

    async def _ovum(
        self,
        rid: Jam,
        tar: Jam | None,
        wir: Jam | None,
        card: Jam | None,
        name: Jam | None,
        size: int,
    ) -> None:
        shared = self.shared
        if tar is None or wir is None or card is None or name is None:
            raise _Fault("ovum-bad")
        try:
            wire, head = shared.heads.get((tar, wir)) or shared.head(tar, wir)
            tag = shared.tags.get(name)
            if tag is None:
                tag = shared.tag(name)
            join = partial(fast.tuple_, (head, card))
            event = Ovum(wire, tag, await off_thread(join, size))
        except ValueError:
            raise _Fault("ovum-bad") from None
        self.outstanding += 1
        self.outstanding_bytes += size
        await shared.inject.submit(event, partial(self._news, rid, size))

    def _news(self, rid: Jam, size: int, outcome: Outcome) -> None:
        self._end(size)
        if self.closed:
            return
        if type(outcome) is Fact:
            self._reply(fast.tuple_((rid, _NEWS_DONE)))
        elif type(outcome) is Refused:
            if outcome.again:
                self._reply(_bail(rid, refusal(outcome)))
            else:
                self._reply(fast.tuple_((rid, _NEWS_DROP)))
        else:
            assert isinstance(outcome, Failure)
            self._reply(_bail(rid, outcome))

    async def _peek(self, rid: Jam, nom: Jam, size: int) -> None:
        try:
            unit = await self.shared.peek(fast.tuple_((_PRIVILEGED, nom)))
            join = partial(fast.tuple_, (rid, _PEEK, unit))
            reply = await off_thread(join, len(unit))
        except (TreadleError, ProtoError) as error:
            self.shared.log(f"conn: peek: {error}")
            reply = fast.tuple_((rid, _PEEK, NULL))
        self._end(size)
        self._reply(reply)

    def _peel(self, rid: Jam, arguments: Jam, nursery: trio.Nursery) -> None:
        shared = self.shared
        try:
            knots = path_values(read_small(arguments, 4096))
        except ValueError:
            knots = ()
        path = "/" + "/".join(knot_text(knot) for knot in knots)
        slow = shared.slow_facts.get(path)
        if slow is not None:
            self._begin(0)
            nursery.start_soon(self._peel_slow, rid, slow)
            return
        if path == "/help":
            paths = sorted({"/help", "/khan", *shared.facts, *shared.slow_facts})
            fact = listed(path_from_text(text) for text in paths)
        elif path == "/khan":
            fact = YES if shared.khan else NO
        elif path in shared.facts:
            fact = shared.facts[path]()
        else:
            self._reply(fast.tuple_((rid, NULL)))
            return
        self._reply(fast.tuple_((rid, NULL, jam(fact))))

    async def _peel_slow(self, rid: Jam, slow: SlowRuntimeFact) -> None:
        try:
            fact = jam(await slow())
        except TreadleError as error:
            self.shared.log(f"conn: peel: {error}")
            fact = NULL
        self._end(0)
        self._reply(fast.tuple_((rid, _PEEL, fact)))

    async def _fyrd(self, rid: Jam, arguments: Jam, size: int) -> None:
        shared = self.shared
        if not shared.khan:
            raise _Fault("khan-miss")
        number = cue(rid)
        if isinstance(number, Cell) or number.bit_length() > shared.limits.rid_bits:
            raise _Fault("jar-bad")
        name = uv_text(number)
        key = name.encode()
        if key in self.fyrds:
            raise _Fault("jar-bad")  # its answer could not be told from the first
        wire = ("k", "khan", shared.instance.knot, self.name, name)
        event = ovum_of_jam(wire, "fyrd", arguments)
        self.fyrds[key] = rid
        self.told = True
        self._begin(size)
        await shared.inject.submit(event, partial(self._fyrd_done, key, size))

    def _fyrd_done(self, key: bytes, size: int, outcome: Outcome) -> None:
        """The request is an event; its answer, if any, comes as an effect."""
        self.outstanding_bytes -= size
        if type(outcome) is Fact:
            return
        rid = self.fyrds.pop(key, None)
        if rid is None:
            return
        self._end(0)
        if type(outcome) is Refused:
            outcome = refusal(outcome)
        assert isinstance(outcome, Failure)
        self._reply(_bail(rid, outcome))

    def avow(self, key: bytes, data: Jam) -> bool:
        """The kernel answers a %fyrd. False: it was not waiting for one."""
        rid = self.fyrds.pop(key, None)
        if rid is None:
            return False
        self._end(0)
        try:
            reply = fast.tuple_((rid, _AVOW, data))
        except CueError:  # the serf is not believed
            reply = _bail(rid, Failure(()))
        self._reply(reply)
        return True

    async def _urth(self, rid: Jam, arguments: Jam) -> None:
        verb = _urth_verb(arguments)
        if verb is None:
            raise _Fault("urth-bad")
        self._reply(fast.tuple_((rid, NULL)))
        if verb == "stop":
            await self._flush()
        self.shared.urth(verb)

    def _begin_care(self, rid: Jam, arguments: Jam, nursery: trio.Nursery) -> None:
        try:
            words = read_small(arguments, self.shared.limits.care_bytes)
            if not isinstance(words, Cell):
                raise ValueError("an atom")
            verb, text = cord_text(words.head), cord_text(words.tail)
        except ValueError:
            raise _Fault("care-bad") from None
        self._begin(0)
        nursery.start_soon(self._care, rid, verb, text)

    async def _care(self, rid: Jam, verb: str, text: str) -> None:
        """It ends with its connection, if not by itself."""
        try:
            result = await self.shared.care(
                self.stream.socket, verb, text, partial(self._step, rid)
            )
            reply = fast.tuple_((rid, _TAGS["care"], jam(cord(result))))
        except TreadleError as error:
            why = jam(cord(json.dumps(error.as_json())))
            reply = fast.tuple_((rid, _BAIL, jam(cord(error.code)), why))
        self._end(0)
        self._reply(reply)

    def _step(self, rid: Jam, text: str) -> None:
        if not self.unsent:  # a slow reader misses some
            self._reply(fast.tuple_((rid, _STEP, jam(cord(text)))))

    # --- accounts and replies -------------------------------------------------

    def _begin(self, size: int) -> None:
        self.outstanding += 1
        self.outstanding_bytes += size

    def _end(self, size: int) -> None:
        self.outstanding -= 1
        self.outstanding_bytes -= size
        self.room.set()

    def _reply(self, body: bytes) -> None:
        if self.closed:
            return
        out = self.out
        if self.unsent > self.shared.limits.output:
            self.shared.log(f"conn: client {self.name} reads too slowly")
            self.shared.refused("slow")
            self.closed = True
            self.whole.cancel()
            return
        out.append(newt(body))
        self.unsent += len(body) + 5
        if len(out) == 1:
            self.work.set()

    async def _write(self) -> None:
        """Send what is there, until cancelled; end the connection if we cannot."""
        stream, write_s = self.stream, self.shared.limits.write_s
        while True:
            if not self.out:
                self.work = trio.Event()
                await self.work.wait()
            data = memoryview(b"".join(self.out))
            self.out.clear()
            for at in range(0, len(data), _WRITE_SIZE):
                piece = data[at : at + _WRITE_SIZE]
                try:
                    with trio.fail_after(write_s):
                        await stream.send_all(piece)
                except trio.BrokenResourceError:
                    self.whole.cancel()
                    return
                except trio.TooSlowError:
                    self.shared.refused("slow")
                    self.whole.cancel()
                    return
                self.unsent -= len(piece)
                self.room.set()

    async def _flush(self) -> None:
        with trio.move_on_after(_FLUSH_S):
            while self.unsent:
                self.room = trio.Event()
                await self.room.wait()

    async def _say_fault(self, why: str) -> None:
        code = (1 << 32) - _FAULTS[why]
        self.shared.refused(why)
        self.told = True
        self._reply(fast.tuple_((NULL, _BAIL, jam(code), jam(cord(why)))))
        self.closed = True
        await self._flush()


def _bail(rid: Jam, failure: Failure) -> Jam:
    return fast.tuple_([rid, _BAIL, *goof_jams(failure)])


def _urth_verb(arguments: Jam) -> str | None:
    """What `%pack`, `%meld`, `[%meld args]` and `[%stop ~]` ask for."""
    try:
        verb = read_small(arguments, 4096)
    except ValueError:
        return None
    if verb == cord("pack") or verb == cord("meld"):
        return "pack"
    if isinstance(verb, Cell):
        if verb.head == cord("meld"):
            return "pack"
        if verb.head == cord("stop") and verb.tail == 0:
            return "stop"
    return None


async def conn(
    *,
    inject: Inject,
    effects: Effects,
    peek: Peek,
    listener: trio.SocketListener,
    instance: Instance,
    log: Log,
    facts: Mapping[str, RuntimeFact],
    slow_facts: Mapping[str, SlowRuntimeFact],
    urth: Urth,
    care: Care,
    refused: Tally = lambda why: None,
    limits: Limits = DEFAULT,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `listener` until the effects end; closes it. Live once %born is on its way.

    `facts` and `slow_facts` map %peel paths ("/port/http") to what answers
    them; /help and /khan are conn's own. `refused` counts clients that were
    told off or dropped.
    """
    shared = _Shared(
        inject, peek, instance, log, urth, care, facts, slow_facts, limits, refused
    )

    later, again = trio.open_memory_channel[None](1)

    def born(outcome: Outcome) -> None:
        if isinstance(outcome, Refused) and outcome.again:
            later.send_nowait(None)
            return
        shared.khan = isinstance(outcome, Fact)
        if not shared.khan:
            log("conn: %born failure; %fyrd not supported", priority=1)

    async def start() -> None:
        event = ovum(("k", "khan", instance.knot), "born")
        await inject.submit(event, born)
        task_status.started()
        async for _ in again:
            await trio.sleep(_BORN_AGAIN_S)
            await inject.submit(event, born)

    async with listener, trio.open_nursery() as nursery:
        nursery.start_soon(start)
        nursery.start_soon(_accept, shared, listener)
        async for event, effect in effects:
            why = _handle(shared, effect)
            if why:
                log(f"conn: event {event}: {why}")
        nursery.cancel_scope.cancel()


def _handle(shared: _Shared, effect: Effect) -> str:
    """Pass an answer on to its connection; say why not."""
    wire = effect_wire(effect)
    if len(wire) != 4 or wire[0] != b"khan" or effect.tag != b"avow":
        return f"lost %{knot_text(effect.tag)[:40]}"
    if wire[1] != shared.instance.knot.encode():
        return "%avow for an earlier run"
    client = shared.connections.get(wire[2])
    if client is None or not client.avow(wire[3], effect.data):
        return "%avow for a request that is gone"
    return ""


async def _accept(shared: _Shared, listener: trio.SocketListener) -> None:
    """One task a client, as many as there is room for."""
    room = trio.Semaphore(shared.limits.connections)
    count = 0

    async def serve(stream: trio.SocketStream, number: int) -> None:
        client = _Connection(shared, stream, number)
        key = client.name.encode()
        shared.connections[key] = client
        try:
            await client.run()
        finally:
            del shared.connections[key]
            room.release()

    async with trio.open_nursery() as nursery:
        while True:
            await room.acquire()
            try:
                stream = await listener.accept()
            except OSError as error:  # out of descriptors: some will close
                room.release()
                shared.log(f"conn: cannot accept: {error}")
                await trio.sleep(0.1)
                continue
            count += 1
            nursery.start_soon(serve, stream, count)
