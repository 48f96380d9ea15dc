"""The terminal: keys and blits as Vere's golden trace has them, and more."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from king.drivers.keys import KeyReader
from king.drivers.screen import Screen
from king.drivers.term import term
from king.event import Effect, Fact, Outcome, Ovum
from proto.cord import path_values
from proto.jam import cue, jam
from proto.noun import Cell, Noun, items, noun, slot
from proto.tank import tank_lines

TRACE = Path(__file__).parents[2] / "conformance/vere/traces/term.json"
STEPS: list[dict[str, Any]] = json.loads(TRACE.read_text())["steps"]


class FakeConsole:
    """Keys in, screen out."""

    def __init__(self) -> None:
        self.keys, self._keys = trio.open_memory_channel[bytes](100)
        self.written = b""
        self.rows, self.cols = 24, 80
        self.resized = trio.Event()

    def size(self) -> tuple[int, int]:
        return self.rows, self.cols

    async def read(self) -> bytes:
        return await self._keys.receive()

    async def write(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.written += data

    async def wait_resized(self) -> None:
        await self.resized.wait()
        self.resized = trio.Event()


class FakeInject:
    """Remember what was offered."""

    def __init__(self) -> None:
        self.ova: list[Ovum] = []

    async def __call__(self, ovum: Ovum) -> Outcome:
        self.ova.append(ovum)
        return Fact(len(self.ova), 1, False)

    async def submit(self, ovum: Ovum, done: Any = None) -> None:
        outcome = await self(ovum)
        if done is not None:
            done(outcome)


class Rig:
    """A term driver with fakes around it."""

    def __init__(self) -> None:
        self.console = FakeConsole()
        self.inject = FakeInject()
        self.effects, self._effects = trio.open_memory_channel[tuple[int, Effect]](100)
        self.files: dict[str, bytes] = {}
        self.left: list[int] = []
        self.lines: list[str] = []
        self.label: str | None = None

    async def put(self, path: tuple[bytes, ...], data: bytes) -> None:
        self.files["/".join(p.decode() for p in path)] = data

    async def start(self, nursery: trio.Nursery, headless: bool = False) -> Any:
        from functools import partial

        async def maintain(what: str) -> None:
            self.lines.append(what)

        return await nursery.start(
            partial(
                term,
                inject=self.inject,
                effects=self._effects,
                console=None if headless else self.console,
                log=lambda text, *, priority=0: self.lines.append(text),
                put=self.put,
                leave=self.left.append,
                maintain=maintain,
                hung_up=lambda: self.lines.append("hung up"),
                working=lambda: self.label,
            )
        )

    async def push(self, effects: bytes) -> None:
        for index, effect in enumerate(items(cue(effects))):
            assert isinstance(effect, Cell)
            assert isinstance(effect.tail, Cell)
            tag = effect.tail.head
            assert isinstance(tag, int)
            name = tag.to_bytes((tag.bit_length() + 7) // 8, "little")
            wire = path_values(effect.head)
            await self.effects.send((index, Effect(wire, name, jam(effect.tail.tail))))
        await trio.testing.wait_all_tasks_blocked()


def injected(ova: list[Ovum]) -> list[str]:
    return [bytes(ovum.jam).hex() for ovum in ova]


async def test_term_follows_the_golden_trace() -> None:
    rig = Rig()
    async with trio.open_nursery() as nursery:
        printer = await rig.start(nursery)
        await trio.testing.wait_all_tasks_blocked()
        assert [ovum.tag for ovum in rig.inject.ova] == ["born", "blew", "hail"]
        for step in STEPS:
            rig.inject.ova.clear()
            rig.console.written = b""
            rig.files.clear()
            name = step["step"]
            if "keys" in step and name == "keys":
                await rig.console.keys.send(bytes.fromhex(step["keys"]))
                await trio.sleep(0)
                await trio.testing.wait_all_tasks_blocked()
            elif "resize" in step:
                rig.console.rows, rig.console.cols = step["resize"]
                rig.console.resized.set()
                await trio.testing.wait_all_tasks_blocked()
                rig.console.written = b""
            elif name == "^C":
                printer.interrupt()
                await trio.testing.wait_all_tasks_blocked()
                assert b"interrupt" in rig.console.written
                rig.console.written = bytes.fromhex(step["terminal"])
            elif name.startswith("a log line"):
                printer.print("kick: lost %blah on zod")
                await trio.testing.wait_all_tasks_blocked()
                # Vere's terminal is cooked here: \n comes out as \r\n.
                rig.console.written = rig.console.written.replace(b"\r\n", b"\n")
            else:
                await rig.push(bytes.fromhex(step["effects"]))
            expected = [row["ovum"] for row in step.get("log", [])]
            assert injected(rig.inject.ova) == expected, name
            if "terminal" in step:
                assert rig.console.written.hex() == step["terminal"], name
            if "files" in step:
                assert set(rig.files.values()) <= {
                    bytes.fromhex(data) for data in step["files"].values()
                }, name
                assert rig.files, name
            if "exit_code" in step:
                assert rig.left == [step["exit_code"]]
        nursery.cancel_scope.cancel()
    assert rig.lines == []


def test_keys_may_come_in_any_pieces() -> None:
    data = b"a\xc3\xa9\x1b[A\x1b[3~\x1bOD\x1bf\x7f\r"
    whole = KeyReader().feed(data)
    reader = KeyReader()
    pieces = [belt for i in range(len(data)) for belt in reader.feed(data[i : i + 1])]
    assert [b for b in pieces if slot_tag(b) != "txt"] == [
        b for b in whole if slot_tag(b) != "txt"
    ]
    assert text_of(pieces) == text_of(whole) == "a\u00e9"
    assert not reader.waiting


def slot_tag(belt: Noun | None) -> str:
    if belt is None:
        return "bell"
    tag = slot(belt, 2)
    assert isinstance(tag, int)
    return tag.to_bytes(3, "little").decode()


def text_of(belts: list[Noun | None]) -> str:
    return "".join(
        chr(c)
        for belt in belts
        if belt is not None and slot_tag(belt) == "txt"
        for c in items(slot(belt, 3))
    )


def test_a_lone_escape_ends_with_a_bell() -> None:
    reader = KeyReader()
    assert reader.feed(b"\x1b") == []
    assert reader.waiting
    assert reader.flush() == [None]
    assert not reader.waiting


@given(st.binary(max_size=60))
def test_any_keys_become_belts(data: bytes) -> None:
    for belt in KeyReader().feed(data):
        assert slot_tag(belt) in {"txt", "bac", "ret", "mod", "aro", "del", "bell"}


NOUNS = st.recursive(
    st.integers(0, 300)
    | st.sampled_from(["hop", "put", "klr", "mor", "lin", "clr"]).map(
        lambda s: int.from_bytes(s.encode(), "little")
    ),
    lambda inner: st.builds(Cell, inner, inner),
    max_leaves=20,
)


@given(NOUNS)
def test_malformed_blits_raise_value_error_only(blit: Noun) -> None:
    screen = Screen()
    try:
        out = screen.draw(blit)
    except ValueError:
        return
    assert isinstance(out, str)


def test_guest_text_cannot_steer_the_terminal() -> None:
    screen = Screen()
    out = screen.draw(noun("put", list(b"a\x1b]0;x\x07b\x9b")))
    assert "\x1b]" not in out
    assert "\x9b" not in out
    assert out.startswith("a?]0;x?b?")


def test_spinner_is_taken_away() -> None:
    screen = Screen(10, 40)
    prompt = noun("mor", ("hop", 0), ("put", [62, 32]), ("hop", 2), 0)
    screen.draw(prompt)
    assert "«clay»" in screen.spin("clay")
    assert "> " in screen.unspin()
    assert screen.unspin() == ""


async def test_spinner_shows_only_long_events(autojump_clock: Any) -> None:
    rig = Rig()
    async with trio.open_nursery() as nursery:
        await rig.start(nursery)
        rig.label = "khan"
        await trio.sleep(0.3)
        assert b"khan" not in rig.console.written
        await trio.sleep(1)
        assert "«khan»".encode() in rig.console.written
        nursery.cancel_scope.cancel()


async def test_malformed_effects_are_told_and_dropped() -> None:
    rig = Rig()
    async with trio.open_nursery() as nursery:
        await rig.start(nursery)
        for wire, tag, data in [
            ((b"term", b"x"), b"blit", noun([0])),
            ((b"term", b"1"), b"frob", 0),
            ((b"term", b"1"), b"blit", 7),
            ((b"term", b"1"), b"blit", noun([("sav", ["..", "x"], 5)])),
            ((b"term", b"1"), b"blit", noun([("sav", 0, 5)])),
            ((), b"", 0),
        ]:
            await rig.effects.send((1, Effect(wire, tag, jam(data))))
        await rig.effects.send((1, Effect((b"term", b"1"), b"blit", b"\x00")))
        await trio.testing.wait_all_tasks_blocked()
        assert len(rig.lines) == 7
        assert rig.files == {}
        nursery.cancel_scope.cancel()


async def test_headless_still_leaves_and_writes_files() -> None:
    rig = Rig()
    async with trio.open_nursery() as nursery:
        assert await rig.start(nursery, headless=True) is None
        blits = jam(noun([("put", [65]), ("sav", ["a", "txt"], "hello")]))
        await rig.effects.send((1, Effect((b"term", b"1"), b"blit", blits)))
        await rig.effects.send((1, Effect((b"term", b"1"), b"logo", jam(3))))
        await trio.testing.wait_all_tasks_blocked()
        assert rig.files == {"a/txt": b"hello"}
        assert rig.left == [3]
        nursery.cancel_scope.cancel()


def test_tanks_are_laid_out() -> None:
    rose = noun("rose", (" ", "(", ")"), ["abc", ("leaf", list(b"def"))])
    assert tank_lines(rose) == ["(abc def)"]
    palm = noun("palm", ("|", "", "{", "}"), ["a", "b"])
    assert tank_lines(palm) == ["{a|b}"]
    long = noun("rose", (" ", "[", "]"), ["x" * 15, "y" * 15])
    assert tank_lines(long, 24) == ["[", "  " + "x" * 15, "  " + "y" * 15, "]"]
    deep: Noun = noun("leaf")
    for _ in range(100_000):
        deep = noun("rose", (0, 0, 0), [deep])
    assert tank_lines(deep, 20)


@given(NOUNS)
def test_any_noun_is_shown_as_a_tank(tank: Noun) -> None:
    assert all(isinstance(line, str) for line in tank_lines(tank, 40))
