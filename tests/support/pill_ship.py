"""A ship of the embedded kernel on the plain Nock machine, and what it says.

Owns: one kernel noun and a clock that ticks a quarter of a second an event.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from king.pill.build import build
from proto.jam import cue
from proto.noun import Cell, Noun, atom_bytes, items, noun, slot
from tests.support.nock import Machine

__all__ = ["Response", "Ship", "path", "pill_noun", "printed"]

START = 0x8000_000D_42B0_0000 << 64
TICK = 1 << 62


def path(*knots: str) -> Noun:
    """A path, or a wire."""
    return noun(list(knots))


@cache
def pill_noun() -> Noun:
    """The embedded pill, built from its sources."""
    return cue(build())


@dataclass(frozen=True, slots=True)
class Response:
    """What the kernel answered to a request."""

    wire: Noun
    status: int
    headers: dict[str, str]
    body: bytes | None


class Ship:
    """Boots through the lifecycle formula, then pokes."""

    def __init__(self, *, jets: bool = True, ship: int | None = 0) -> None:
        self.machine = Machine(jets=jets)
        self.now = START
        rows = slot(pill_noun(), 14)
        formula = noun(2, (0, 3), 0, 2)
        self.kernel = slot(self.machine.nock(rows, formula), 7)
        self.cost = 0
        if ship is not None:
            self.poke(noun(0, path("arvo")), noun("whom", ship))

    def poke(self, wire: Noun, card: Noun) -> list[Noun]:
        """One event; its effects.

        :raises tests.support.nock.Crash: and the kernel is as before.
        """
        self.now += TICK
        gate = self.machine.nock(self.kernel, noun(9, 23, 0, 1))
        before = self.machine.steps
        product = self.machine.slam(gate, noun(self.now, wire, card))
        assert isinstance(product, Cell)
        self.kernel, self.cost = product.tail, self.machine.steps - before
        return items(product.head)

    def slam(self, axis: int, sample: Noun) -> Noun:
        """Call another arm: load 4, wish 10, peek 22."""
        gate = self.machine.nock(self.kernel, noun(9, axis, 0, 1))
        return self.machine.slam(gate, sample)

    # --- terminal ----------------------------------------------------------------

    def term(self, *card: object) -> list[Noun]:
        return self.poke(noun("d", path("term", "1")), noun(*card))

    def key(self, *key: object) -> list[Noun]:
        return self.term("belt", *key)

    def control(self, letter: str) -> list[Noun]:
        return self.key("mod", "ctl", letter)

    def write(self, text: str) -> list[Noun]:
        return self.key("txt", [ord(c) for c in text])

    def say(self, line: str) -> list[str]:
        """Type a line and return; the lines printed after it."""
        self.write(line)
        return printed(self.key("ret", 0))[1:]

    # --- web -----------------------------------------------------------------------

    def http(
        self,
        method: str,
        url: str,
        body: bytes | None = None,
        headers: Sequence[tuple[str, str]] = (),
    ) -> Response:
        unit = 0 if body is None else noun(0, len(body), body)
        card = noun(
            "request",
            1,
            ("ipv4", 0x7F000001),
            (method, url, [noun(k, v) for k, v in headers], unit),
        )
        wire = noun("e", path("http-server", "0v1", "7", "1"))
        (effect,) = self.poke(wire, card)
        return response(effect)


def response(effect: Noun) -> Response:
    """Read a complete `%response %start`."""
    wire, tag = slot(effect, 2), slot(effect, 6)
    assert tag == noun("response")
    start = slot(effect, 7)
    assert slot(start, 2) == noun("start")
    status, headers = slot(start, 12), items(slot(start, 13))
    unit, complete = slot(start, 14), slot(start, 15)
    assert complete == 0
    assert isinstance(status, int)
    pairs = {
        atom_bytes(slot(h, 2)).decode(): atom_bytes(slot(h, 3)).decode()
        for h in headers
    }
    body = None
    if unit != 0:
        length, data = slot(unit, 6), slot(unit, 7)
        assert isinstance(length, int)
        assert isinstance(data, int)
        body = data.to_bytes(length, "little")
        assert pairs["content-length"] == str(length)
    return Response(wire, status, pairs, body)


def blits(effects: list[Noun]) -> list[Noun]:
    """All blits among the effects."""
    found: list[Noun] = []
    for effect in effects:
        if slot(effect, 6) == noun("blit"):
            assert slot(effect, 2) == path("term", "1")
            found += items(slot(effect, 7))
    return found


def printed(effects: list[Noun]) -> list[str]:
    """The lines put above the prompt."""
    return [
        tape_text(slot(blit, 3))
        for blit in blits(effects)
        if slot(blit, 2) == noun("put")
    ]


def bottom(effects: list[Noun]) -> tuple[str, int]:
    """The bottom line as last drawn, and the cursor's column."""
    text, column = "", -1
    for blit in blits(effects):
        if slot(blit, 2) == noun("klr"):
            text = "".join(tape_text(slot(s, 3)) for s in items(slot(blit, 3)))
        elif slot(blit, 2) == noun("hop"):
            at = slot(blit, 3)
            assert isinstance(at, int)
            column = at
    return text, column


def tape_text(tape: Noun) -> str:
    return "".join(chr(c) for c in items(tape) if isinstance(c, int))
