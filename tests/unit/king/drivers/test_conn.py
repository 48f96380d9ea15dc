"""The control socket against the golden trace, strangers and storms."""

import contextlib
import json
import os
import random

import pytest
import trio

from king.drivers.conn import Limits, conn
from king.drivers.newt import NewtReader, newt
from king.errors import PeekFailed, TreadleError
from king.event import Effect, Fact, Failure, Refused
from proto.cord import cord, cord_text
from proto.jam import cue, jam
from proto.message import Goof
from proto.noun import Cell, noun

TOO_MUCH = 20


class Rig:
    """A conn driver on a real socket, and clients for it."""

    def __init__(self, world, path):
        self.world = world
        self.path = str(path)
        self.verbs = []
        self.cares = []
        self.peeks = []
        self.peek_answer = jam(noun(0, "omen", 0, "noun", 33))
        self.slow = trio.Event()
        self.clients = []

    async def peek(self, sample, *, deadline_ms=10_000):
        self.peeks.append(sample)
        await trio.lowlevel.checkpoint()
        if isinstance(self.peek_answer, Exception):
            raise self.peek_answer
        return self.peek_answer

    async def care(self, peer, verb, text, step):
        assert peer.family == trio.socket.AF_UNIX
        self.cares.append((verb, text))
        try:
            step('{"done": 1}')
            await self.slow.wait()
        except trio.Cancelled:
            self.cares.append("cancelled")
            raise
        if verb == "fail":
            raise TreadleError("care-busy", "no", "later")
        return '{"event": 5}'

    async def start(self, nursery, **more):
        world = self.world
        self.socket = trio.socket.socket(trio.socket.AF_UNIX)
        await self.socket.bind(self.path)
        self.socket.listen(4096)

        async def slow():
            await self.slow.wait()
            return 7

        async def run(*, task_status):
            await conn(
                inject=world.inject,
                effects=world.effects,
                peek=self.peek,
                listener=trio.SocketListener(self.socket),
                instance=world.instance,
                log=world.log,
                facts={
                    "/live": lambda: 0,
                    "/who": lambda: 1,
                    "/port/http": lambda: 0,
                    "/port/htls": lambda: 0,
                },
                slow_facts={"/mass": slow},
                urth=self.verbs.append,
                care=self.care,
                task_status=task_status,
                **more,
            )

        await nursery.start(run)

    async def client(self):
        client = Client(await trio.open_unix_socket(self.path))
        self.clients.append(client)
        return client


class Client:
    def __init__(self, stream):
        self.stream = stream
        self.reader = NewtReader()
        self.frames = []

    async def say(self, *nouns):
        await self.stream.send_all(b"".join(newt(jam(noun(*n))) for n in nouns))

    async def hear(self, raw=False):
        """The next reply, or None when the driver has closed."""
        while not self.frames:
            try:
                data = await self.stream.receive_some()
            except trio.BrokenResourceError:
                return None
            if not data:
                return None
            bodies, error = self.reader.feed(data)
            assert error is None
            self.frames += bodies
        body = self.frames.pop(0)
        return body if raw else cue(body)


@pytest.fixture
def rig(world, tmp_path):
    rig = Rig(world, tmp_path / "conn.sock")
    yield rig
    for client in rig.clients:
        client.stream.socket.close()


@pytest.fixture
async def live(rig, nursery):
    """A running driver; cancelled at the end of the test."""
    async with trio.open_nursery() as inner:
        await rig.start(inner)
        await rig.world.settled()
        rig.world.take()
        yield rig
        inner.cancel_scope.cancel()


OVUM = ("ovum", "b", ["t"], "foo", 1)

# Where the trace shows what is not ours to copy.
VARIES = {"peel /help", "peel /v", "peel /port/ames", "peel /info", "peel /quic"}
VARIES |= {"peel /mass"}


async def test_conn_follows_the_golden_trace(live, kit):
    world = live.world
    compared = 0
    for step in kit.trace("conn"):
        name = step["step"]
        if name in VARIES:
            continue
        replies = [row["frame"] for row in step["recv"] if "frame" in row]
        goofs = ()
        if name == "ovum whose replacement crashes too":
            tail = cue(bytes.fromhex(replies[0])).tail.tail
            goofs = tuple(
                Goof(mote, jam(tang))
                for mote, tang in (
                    ("exit", tail.head.tail),
                    ("exit", tail.tail.head.tail),
                )
            )

        def policy(ovum, goofs=goofs):
            return Failure(goofs) if goofs else Fact(1, 0, ovum.tag == "boom")

        world.inject.policy = policy
        if "peek" in name:
            live.peek_answer = jam(cue(bytes.fromhex(replies[0])).tail.tail)
        client = await live.client()
        for piece in step["send"]:
            await client.stream.send_all(bytes.fromhex(piece))
        if "half close" in name:
            await client.stream.send_eof()
        if name.startswith("fyrd, answered"):
            await world.settled()
            wire = tuple(k.encode() for k in world.inject.ova[0].wire[1:])
            data = cue(bytes.fromhex(replies[0])).tail.tail
            world.push(Effect(wire, b"avow", jam(data)))
        for reply in replies:
            with trio.fail_after(TOO_MUCH):
                assert await client.hear(raw=True) == bytes.fromhex(reply), name
        if {"end": "closed"} in step["recv"] and "fyrd" not in name:
            with trio.fail_after(TOO_MUCH):
                assert await client.hear() is None, name
        await client.stream.aclose()
        await world.settled()
        got = world.take()
        rows = step["log"]
        if name == "ovum that crashes and is replaced":
            rows = [{"ovum": jam(noun(("b", ["t"]), "boom", 7)).hex()}]
        if name == "fyrd, never answered":
            rows = [*rows, {"ovum": None}]  # our %done, once the client is gone
            await world.settled(1.2)
            got += world.take()
        if name in ("ovum whose replacement crashes too",):
            got = got[1:]  # offered, failed, in no log
        assert len(got) == len(rows), (name, [o.wire for o in got])
        for ovum, row in zip(got, rows, strict=True):
            if row["ovum"] is None:
                assert ovum.tag == "done"
                continue
            vary = row.get("vary", [])
            want = kit.masked(bytes.fromhex(row["ovum"]), vary)
            assert kit.masked(ovum.jam, vary) == want, name
            if vary:
                assert ovum.wire[2] == world.instance.knot
        compared += 1
    assert compared >= 35


async def test_conn_care_tells_its_steps_and_its_end(live):
    client = await live.client()
    await client.say((1, "care", "save", "{}"), (2, "care", "fail", "{}"))
    with trio.fail_after(TOO_MUCH):
        steps = [await client.hear() for _ in range(1)]
        live.slow.set()
        ends = [await client.hear() for _ in range(2)]
    assert [cord_text(step.tail.head) for step in steps] == ["step"]
    by_rid = {end.head: end.tail for end in ends}
    assert by_rid[1] == noun("care", '{"event": 5}')
    assert cord_text(by_rid[2].head) == "bail"
    assert cord_text(by_rid[2].tail.head) == "care-busy"
    why = json.loads(cord_text(by_rid[2].tail.tail))
    assert why["message"] == "no"
    assert why["exit_code"] == 8
    assert sorted(live.cares) == [("fail", "{}"), ("save", "{}")]


@pytest.mark.parametrize("words", [("save",), (["save"], "{}"), ("save", "x" * 70000)])
async def test_conn_care_without_sense_is_refused(live, words):
    client = await live.client()
    await client.say((1, "care", *words))
    with trio.fail_after(TOO_MUCH):
        reply = await client.hear()
        assert cord_text(reply.tail.tail.tail) == "care-bad"
        assert await client.hear() is None
    assert not live.cares


async def test_conn_care_ends_with_its_client(live):
    """At once: who interrupts a verb may want another."""
    client = await live.client()
    await client.say((1, "care", "save", "{}"))
    with trio.fail_after(TOO_MUCH):
        await client.hear()
    await client.stream.aclose()
    await live.world.settled()
    assert "cancelled" in live.cares


async def test_conn_born_then_live(rig, nursery, world):
    await rig.start(nursery)
    assert [o.wire for o in world.take()] == [("k", "khan", world.instance.knot)]
    nursery.cancel_scope.cancel()


async def test_conn_without_khan_refuses_fyrd(rig, nursery, world, kit):
    world.inject.policy = lambda ovum: kit.failure("exit", "exit")
    await rig.start(nursery)
    await world.settled()
    assert any("%fyrd not supported" in line for line in world.lines)
    client = await rig.client()
    await client.say((1, "peel", ["khan"]))
    assert await client.hear() == noun(1, 0, 1)
    await client.say((1, "fyrd", "base", "hi", "noun", "noun", 0))
    assert await client.hear() == noun(0, "bail", (1 << 32) - 8, "khan-miss")
    assert await client.hear() is None
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "arguments",
    [
        ("b", 0, "foo", 1),  # an empty wire: the one that kills Vere
        ("b", "t", "foo", 1),
        ("b", ["t"], 7),
        ("b", ["t"], ("a", "b"), 1),
        (("b", "c"), ["t"], "foo", 1),
        ("b", [("t", "u")], "foo", 1),
        ("b", ["t"]),
        ("b", ["t"] * 65, "foo", 1),
        ("b", ["t" * 2000], "foo", 1),
        ("b" * 17, ["t"], "foo", 1),
        ("b", ["t"], "f" * 400, 1),
    ],
)
async def test_conn_bad_ovum_is_refused(live, arguments):
    client = await live.client()
    await client.say((9, "ovum", *arguments))
    with trio.fail_after(TOO_MUCH):
        assert await client.hear() == noun(0, "bail", (1 << 32) - 6, "ovum-bad")
        assert await client.hear() is None
    await live.world.settled()
    assert live.world.tags == ["done"]


async def test_conn_help_lists_what_it_answers(live):
    client = await live.client()
    await client.say((1, "peel", ["help"]))
    reply = await client.hear()
    for path in (["help"], ["khan"], ["live"], ["mass"], ["port", "http"]):
        assert f"{noun(path)!r}"  # a noun at all
    paths = set()
    rest = reply.tail.tail
    while rest:
        paths.add(jam(rest.head))
        rest = rest.tail
    want = (["help"], ["khan"], ["live"], ["mass"], ["who"], ["port", "http"])
    assert {jam(noun(path)) for path in want} <= paths


async def test_conn_slow_fact_comes_when_it_is_ready(live):
    client = await live.client()
    await client.say((1, "peel", ["mass"]), (2, "peel", ["who"]))
    assert await client.hear() == noun(2, 0, 1)
    live.slow.set()
    assert await client.hear() == noun(1, "peel", 7)


async def test_conn_peek_asks_with_privilege_and_failure_is_null(live):
    client = await live.client()
    nom = noun(1, "once", "x", "base", 0)
    await client.say((1, "peek", nom))
    assert await client.hear() == noun(1, "peek", cue(live.peek_answer))
    assert live.peeks == [jam(noun((0, 0), nom))]
    live.peek_answer = PeekFailed(())
    await client.say((2, "peek", nom))
    assert await client.hear() == noun(2, "peek", 0)


async def test_conn_urth(live):
    client = await live.client()
    await client.say(
        (1, "urth", "pack"), (2, "urth", "meld", 1), (3, "urth", "stop", 0)
    )
    for rid in (1, 2, 3):
        assert await client.hear() == noun(rid, 0)
    await live.world.settled()
    assert live.verbs == ["pack", "pack", "stop"]


async def test_conn_outcomes(live, kit):
    world = live.world
    client = await live.client()
    outcomes = [Fact(1, 0, False), Refused("stopping"), kit.failure("meme", "intr")]
    world.inject.policy = lambda ovum: outcomes.pop(0)
    await client.say(*((rid, *OVUM) for rid in (1, 2, 1 << 3000)))
    assert await client.hear() == noun(1, "news", "done")
    assert await client.hear() == noun(2, "news", "drop")
    assert await client.hear() == noun(1 << 3000, "bail", [("meme", 0), ("intr", 0)])


async def test_conn_a_refusal_for_now_is_told_by_name(live):
    world = live.world
    client = await live.client()
    low = Refused("the disk is low", again=True, code="disk-low")
    world.inject.policy = lambda ovum: low
    await client.say((1, *OVUM))
    tang = [noun("leaf", [*b"the disk is low"])]
    assert await client.hear() == noun(1, "bail", [("disk-low", tang)])


async def test_conn_is_born_when_there_is_room_again(rig, world, nursery):
    world.inject.policy = lambda ovum: Refused("low", again=True, code="disk-low")
    await rig.start(nursery)
    client = await rig.client()
    await client.say((1, "peel", ["khan"]))
    assert await client.hear() == noun(1, 0, 1)
    assert world.lines == []
    world.inject.policy = lambda ovum: Fact(1, 0, False)
    with trio.fail_after(TOO_MUCH):
        while not world.tags[1:]:
            await trio.sleep(0.01)
    await client.say((2, "peel", ["khan"]))
    assert await client.hear() == noun(2, 0, 0)
    nursery.cancel_scope.cancel()


async def test_conn_answers_come_as_they_are_ready(live):
    world = live.world
    client = await live.client()
    world.inject.policy = lambda ovum: None
    await client.say((1, *OVUM), (2, "peel", ["who"]))
    assert await client.hear() == noun(2, 0, 1)
    world.inject.settle(Fact(5, 0, False))
    assert await client.hear() == noun(1, "news", "done")


async def test_conn_half_closed_client_gets_its_answer(live):
    world = live.world
    world.inject.policy = lambda ovum: None
    client = await live.client()
    await client.say((1, *OVUM))
    await client.stream.send_eof()
    await world.settled(1.5)
    world.inject.settle(Fact(5, 0, False))
    with trio.fail_after(TOO_MUCH):
        assert await client.hear() == noun(1, "news", "done")
        assert await client.hear() is None


async def test_conn_client_gone_with_a_request_unanswered(live):
    """This kills Vere's king."""
    world = live.world
    world.inject.policy = lambda ovum: None
    client = await live.client()
    await client.say((1, *OVUM), (2, "fyrd", "base", "hi", "noun", "noun", 0))
    await world.settled()
    await client.stream.aclose()
    await world.settled(1.5)
    world.inject.settle(Fact(5, 0, False))
    world.inject.policy = lambda ovum: Fact(1, 0, False)
    await world.settled()
    assert world.tags[-1] == "done"
    wire = tuple(k.encode() for k in world.inject.ova[1].wire[1:])
    world.push(Effect(wire, b"avow", jam(0)))
    await world.settled()
    assert any("gone" in line for line in world.lines)
    other = await live.client()
    await other.say((1, *OVUM))
    assert await other.hear() == noun(1, "news", "done")


async def test_conn_pipeline_of_many_sizes(live):
    """Fragments of any size, frames of any size, all answered in order."""
    rng = random.Random(7)
    client = await live.client()
    sizes = [rng.choice((1, 30, 500, 70_000, 400_000)) for _ in range(60)]
    data = b"".join(
        newt(jam(noun(rid, "ovum", "b", ["t"], "foo", 1 << size)))
        for rid, size in enumerate(sizes)
    )

    async def send():
        at = 0
        while at < len(data):
            size = rng.choice((1, 3, 1000, 65536, 300_000))
            await client.stream.send_all(data[at : at + size])
            at += size

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            for rid in range(len(sizes)):
                assert await client.hear() == noun(rid, "news", "done")
    for ovum, size in zip(live.world.take(), sizes, strict=True):
        assert cue(ovum.jam) == noun(("b", ["t"]), "foo", 1 << size)


async def test_limits_conn_frame(rig, nursery, world):
    await rig.start(nursery, limits=Limits(frame=1000))
    client = await rig.client()
    await client.stream.send_all(b"\0" + (1001).to_bytes(4, "little"))
    assert await client.hear() == noun(0, "bail", (1 << 32) - 1, "newt-decode")
    assert await client.hear() is None
    nursery.cancel_scope.cancel()


async def test_limits_conn_held(rig, nursery, world):
    await rig.start(nursery, limits=Limits(held=100_000))
    first, second = await rig.client(), await rig.client()
    head = b"\0" + (90_000).to_bytes(4, "little")
    await first.stream.send_all(head + bytes(60_000))
    await world.settled()
    await second.stream.send_all(head + bytes(60_000))
    assert (await second.hear()).tail.head == cord("bail")
    await first.stream.aclose()
    await world.settled()
    third = await rig.client()
    await third.stream.send_all(head + bytes(60_000))
    await third.say()
    await world.settled()
    assert await _still_open(third)
    nursery.cancel_scope.cancel()


async def _still_open(client):
    with trio.move_on_after(0.05):
        return await client.hear() is not None
    return True


async def test_limits_conn_requests_stop_the_reader(rig, nursery, world):
    await rig.start(nursery, limits=Limits(requests=10))
    await world.settled()
    world.take()
    world.inject.policy = lambda ovum: None
    client = await rig.client()
    await client.say(*((rid, *OVUM) for rid in range(100)))
    await world.settled()
    assert len(world.inject.ova) == 10
    world.inject.policy = lambda ovum: Fact(1, 0, False)
    world.inject.settle(Fact(1, 0, False))
    for rid in range(100):
        assert await client.hear() == noun(rid, "news", "done")
    nursery.cancel_scope.cancel()


async def test_limits_conn_output_drops_a_client_that_does_not_read(
    rig, nursery, world
):
    limits = Limits(output=1 << 20)
    await rig.start(nursery, limits=limits)
    rig.peek_answer = jam(1 << 3_000_000)
    client = await rig.client()
    await client.say(*((rid, "peek", 0) for rid in range(40)))
    await world.settled(0.2)
    assert any("reads too slowly" in line for line in world.lines)
    other = await rig.client()
    await other.say((1, *OVUM))
    assert await other.hear() == noun(1, "news", "done")
    nursery.cancel_scope.cancel()


async def test_limits_conn_stalled_write(rig, nursery, world):
    await rig.start(nursery, limits=Limits(write_s=0.2))
    rig.peek_answer = jam(1 << 30_000_000)
    client = await rig.client()
    await client.say((1, "peek", 0))
    await world.settled(2)
    with trio.fail_after(TOO_MUCH):
        assert await client.hear() is None
    nursery.cancel_scope.cancel()


async def test_limits_conn_connections_wait_their_turn(rig, nursery, world):
    await rig.start(nursery, limits=Limits(connections=3))
    clients = [await rig.client() for _ in range(5)]
    for client in clients:
        await client.say((1, "peel", ["who"]))
    for client in clients[:3]:
        assert await client.hear() == noun(1, 0, 1)
    assert await _still_open(clients[3])
    await clients[0].stream.aclose()
    with trio.fail_after(TOO_MUCH):
        assert await clients[3].hear() == noun(1, 0, 1)
    nursery.cancel_scope.cancel()


def open_files():
    return len(os.listdir("/proc/self/fd"))


async def test_conn_storm_of_dropped_clients_leaks_nothing(live):
    """2,000 connections dropped at random points of a conversation."""
    world, rng = live.world, random.Random(11)
    rid = 3
    talk = b"".join(
        newt(jam(noun(*words)))
        for words in (
            (rid, "peel", ["live"]),
            (rid, *OVUM),
            (rid, "peek", 0),
            (rid, "fyrd", "base", "hi", "noun", "noun", 0),
            (rid, "ovum", "b", ["t"], "foo", 1 << 5000),
            (rid, "zzzz", 0),
        )
    )
    files = open_files()
    tasks = trio.lowlevel.current_statistics().tasks_living

    async def drop(gate):
        async with gate:
            client = await live.client()
            cut = rng.randrange(len(talk) + 1)
            await client.stream.send_all(talk[:cut]) if cut else None
            if rng.random() < 0.3:
                await trio.sleep(rng.random() * 0.01)
            if rng.random() < 0.3:
                with trio.move_on_after(0.005):
                    await client.hear()
            if rng.random() < 0.2:
                await client.stream.send_eof()
            await client.stream.aclose()

    gate = trio.CapacityLimiter(100)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for _ in range(2000):
                nursery.start_soon(drop, gate)
        while open_files() > files:
            await trio.sleep(0.05)
        await world.settled(0.1)
        assert trio.lowlevel.current_statistics().tasks_living == tasks
        client = await live.client()
        await client.say((1, *OVUM))
        assert await client.hear() == noun(1, "news", "done")
    assert len(world.take()) > 100


async def test_conn_fuzz_of_frames(live, kit):
    """Thousands of malformed frames: an error or an answer, never a death."""
    rng = random.Random(23)
    good = [
        jam(noun(1, "peel", ["live"])),
        jam(noun(2, *OVUM)),
        jam(noun(3, "peek", 1, "once", "x", "base", 0)),
        jam(noun(4, "fyrd", "base", "hi", "noun", "noun", 5)),
        jam(noun(5, "urth", "pack")),
        jam(noun(6, "ovum", ("a", "b"), 5, 6)),
    ]
    answers = 0
    live.world.inject.policy = lambda ovum: (
        kit.failure("exit") if ovum.tag == "fyrd" else Fact(1, 0, False)
    )
    for _ in range(400):
        client = await live.client()
        for _ in range(10):
            body = bytearray(rng.choice(good))
            for _ in range(rng.choice((0, 1, 1, 2, 8))):
                body[rng.randrange(len(body))] ^= 1 << rng.randrange(8)
            if rng.random() < 0.2:
                del body[rng.randrange(1, len(body) + 1) :]
            frame = bytearray(newt(bytes(body)))
            if rng.random() < 0.03:
                frame[rng.randrange(5)] ^= 1 << rng.randrange(8)
            try:
                await client.stream.send_all(frame)
            except trio.BrokenResourceError:
                break
        with contextlib.suppress(trio.BrokenResourceError):
            await client.stream.send_eof()
        with trio.fail_after(TOO_MUCH):
            while await client.hear() is not None:
                answers += 1
        await client.stream.aclose()
    await live.world.settled()
    live.world.take()
    assert answers > 400
    client = await live.client()
    await client.say((1, "peel", ["who"]))
    assert await client.hear() == noun(1, 0, 1)


async def test_conn_deep_and_wide_nouns(live):
    deep = 0
    for _ in range(200_000):
        deep = Cell(deep, 0)
    client = await live.client()
    await client.say((1, "ovum", "b", ["t"], "foo", deep), (2, "peel", deep))
    with trio.fail_after(TOO_MUCH):
        replies = [await client.hear(), await client.hear()]
    assert noun(1, "news", "done") in replies
    assert noun(2, 0) in replies


async def test_conn_is_a_driver(rig, world, kit):
    await kit.check_driver(world, rig.start, b"khan", (b"avow",))
