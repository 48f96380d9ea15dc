"""The terminal: keys to belts, blits to the screen (dill's wires).

Wires: out /d/term/1 %born, %blew, %hail, %belt; in /term/1 %blit, %logo,
%mass, %pack, %meld. A driver without a console (`--headless`) still answers
%logo and the file blits.

Slogs and log lines go above the prompt through `Printer.print`; a spinner
shows, after a while, that an event runs. The console itself (raw mode, its
restoring) belongs to king/console.py and is a capability here.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import trio

from king.drivers.base import Effects, Inject, Log
from king.drivers.keys import KeyReader
from king.drivers.screen import Screen
from king.drivers.wire import DONE_NOTHING, effect_wire, ovum, read_small
from king.event import Effect, Jam, Outcome, Refused
from proto import fast
from proto.cord import cord, path_values
from proto.jam import jam
from proto.noun import Cell, Noun, atom_bytes, items, noun
from proto.tank import tank_lines

__all__ = ["Console", "Printer", "term"]

WIRE: Final = ("d", "term", "1")
BLITS_SIZE_MAX: Final = 1 << 20
FILE_SIZE_MAX: Final = 1 << 30
LAG_BYTES_MAX: Final = 4 << 20
ESCAPE_S: Final = 0.05
SPIN_AFTER_S: Final = 0.5
SPIN_EVERY_S: Final = 0.25
REFUSED_EVERY_S: Final = 5.0


class Console(Protocol):
    """A terminal in raw mode."""

    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        ...

    async def read(self) -> bytes:
        """Some bytes of keys; b"" at the end."""
        ...

    async def write(self, data: bytes) -> None:
        """Write all of it."""
        ...

    async def wait_resized(self) -> None:
        """Return at the next change of size."""
        ...


class Printer(Protocol):
    """What the driver gives its starter."""

    def print(self, text: str, priority: int = 0) -> None:
        """A line of the runtime, above the prompt."""
        ...

    def slog(self, priority: int, tank: Jam) -> None:
        """What the guest says, above the prompt."""
        ...

    def interrupt(self) -> None:
        """^C was pressed and no event ran: the guest's business."""
        ...


class _Terminal:
    """The screen, and the bytes on their way to it."""

    def __init__(self, console: Console, inject: Inject) -> None:
        rows, cols = console.size()
        self.console = console
        self.inject = inject
        self.screen = Screen(rows, cols)
        self.interrupts = trio.Event()
        self._out = bytearray()
        self._bell = trio.Event()
        self._idle = trio.Event()
        self._skipped = 0
        self._refused_at = -math.inf

    # --- Printer ---------------------------------------------------------------

    def print(self, text: str, priority: int = 0) -> None:
        self.show(self.screen.log(text, priority if priority > 0 else None))

    def slog(self, priority: int, tank: Jam) -> None:
        try:
            lines = tank_lines(read_small(tank), self.screen.cols)
        except ValueError:
            lines = ["%slog-bad-tank"]
        self.show(
            self.screen.log("\n".join(lines), priority if priority <= 3 else None)
        )

    def interrupt(self) -> None:
        self.print("interrupt")
        self.interrupts.set()

    def typed(self, outcome: Outcome) -> None:
        """Who types is told that it is not taken, but not for each key."""
        if isinstance(outcome, Refused) and outcome.again:
            now = trio.current_time()
            if now - self._refused_at > REFUSED_EVERY_S:
                self.print(f"not taken: {outcome.why}", 2)
                self._refused_at = now

    # --- output ----------------------------------------------------------------

    def show(self, text: str) -> None:
        """Queue text. A terminal that does not read loses lines, and is told
        how many once it reads again."""
        if not text:
            return
        if len(self._out) > LAG_BYTES_MAX:
            self._skipped += 1
            return
        if self._skipped:
            skipped, self._skipped = self._skipped, 0
            self.show(self.screen.log(f"({skipped} lines were not shown)"))
        self._out += text.encode("utf-8", "replace")
        self._bell.set()

    async def write_out(self) -> None:
        while True:
            while self._out:
                data, self._out = bytes(self._out), bytearray()
                await self.console.write(data)
            self._idle.set()
            self._bell = trio.Event()
            await self._bell.wait()
            self._idle = trio.Event()

    async def drain(self) -> None:
        if self._out:
            await self._idle.wait()


async def term(
    *,
    inject: Inject,
    effects: Effects,
    console: Console | None,
    log: Log,
    put: Callable[[tuple[bytes, ...], bytes], Awaitable[None]],
    leave: Callable[[int], None],
    maintain: Callable[[str], Awaitable[None]],
    hung_up: Callable[[], None],
    working: Callable[[], str | None],
    task_status: trio.TaskStatus[Printer | None],
) -> None:
    """Run the terminal until cancelled.

    `put` writes a file under .urb/put; `leave` stops the ship with an exit
    code; `maintain` does "pack" or "meld"; `hung_up` is called at the end of
    the console's input; `working` names what the running event is about, or
    is None where none runs. Starts with a Printer if there is a console.
    """
    terminal = _Terminal(console, inject) if console is not None else None
    await inject.submit(ovum(WIRE, "born"), DONE_NOTHING)
    rows, cols = console.size() if console is not None else (24, 80)
    await inject.submit(ovum(WIRE, "blew", noun(cols, rows)), DONE_NOTHING)
    await inject.submit(ovum(WIRE, "hail"), DONE_NOTHING)
    task_status.started(terminal)
    async with trio.open_nursery() as nursery:
        if terminal is not None:
            nursery.start_soon(terminal.write_out)
            nursery.start_soon(_read_keys, terminal, hung_up)
            nursery.start_soon(_watch_size, terminal)
            nursery.start_soon(_watch_interrupts, terminal)
            nursery.start_soon(_spin, terminal, working)
        async for _, effect in effects:
            try:
                await _handle(effect, terminal, log, put, leave, nursery, maintain)
            except ValueError as error:
                tag = effect.tag.decode("utf-8", "replace")
                log(f"term: strange %{tag}: {error}")
        if terminal is not None:
            terminal.show(terminal.screen.leave())
            with trio.move_on_after(1):
                await terminal.drain()
        nursery.cancel_scope.cancel()


# --- keys ---------------------------------------------------------------------


async def _read_keys(terminal: _Terminal, hung_up: Callable[[], None]) -> None:
    keys = KeyReader()
    while True:
        data: bytes | None = None
        with trio.move_on_after(ESCAPE_S if keys.waiting else math.inf):
            data = await terminal.console.read()
        if data == b"":
            hung_up()
            return
        for belt in keys.flush() if data is None else keys.feed(data):
            if belt is None:
                terminal.show("\x07")
            else:
                await terminal.inject.submit(ovum(WIRE, "belt", belt), terminal.typed)


async def _watch_size(terminal: _Terminal) -> None:
    while True:
        await terminal.console.wait_resized()
        rows, cols = terminal.console.size()
        terminal.screen.resize(rows, cols)
        terminal.show(terminal.screen.redraw())
        blew = ovum(WIRE, "blew", noun(cols, rows))
        await terminal.inject.submit(blew, DONE_NOTHING)


async def _watch_interrupts(terminal: _Terminal) -> None:
    while True:
        await terminal.interrupts.wait()
        terminal.interrupts = trio.Event()
        belt = ovum(WIRE, "belt", noun("mod", "ctl", ord("c")))
        await terminal.inject.submit(belt, DONE_NOTHING)


async def _spin(terminal: _Terminal, working: Callable[[], str | None]) -> None:
    waited = 0.0
    while True:
        await trio.sleep(SPIN_EVERY_S)
        label = working()
        if label is None:
            waited = 0.0
            terminal.show(terminal.screen.unspin())
            continue
        waited += SPIN_EVERY_S
        if waited >= SPIN_AFTER_S:
            terminal.show(terminal.screen.spin(label))


# --- effects --------------------------------------------------------------------


async def _handle(
    effect: Effect,
    terminal: _Terminal | None,
    log: Log,
    put: Callable[[tuple[bytes, ...], bytes], Awaitable[None]],
    leave: Callable[[int], None],
    nursery: trio.Nursery,
    maintain: Callable[[str], Awaitable[None]],
) -> None:
    wire = effect_wire(effect)
    if effect.tag == b"mass":
        return
    if wire[:1] != (b"term",) or len(wire) < 2 or not wire[1].isdigit():
        raise ValueError("bad tire")
    if effect.tag == b"blit":
        await _blits(effect.data, terminal, log, put)
    elif effect.tag == b"logo":
        code = read_small(effect.data, 64)
        leave(0 if isinstance(code, Cell) else code & 0xFF)
    elif effect.tag in (b"pack", b"meld"):
        nursery.start_soon(maintain, effect.tag.decode())
    else:
        raise ValueError("unknown")


async def _blits(
    data: Jam,
    terminal: _Terminal | None,
    log: Log,
    put: Callable[[tuple[bytes, ...], bytes], Awaitable[None]],
) -> None:
    """Draw a list of blits; one that is wrong does not take the rest along."""
    if len(data) > BLITS_SIZE_MAX:
        # Only a file can be as large as this; do not make nouns of it.
        for large in fast.jam_list(data):
            await _file_blit(large, put)
        return
    out = ""
    for blit in items(read_small(data, BLITS_SIZE_MAX)):
        try:
            if isinstance(blit, Cell) and blit.head in (cord("sav"), cord("sag")):
                await _write_file(blit, put)
            elif terminal is not None:
                out += terminal.screen.draw(blit)
        except ValueError as error:
            log(f"term: strange blit: {error}")
    if terminal is not None:
        terminal.show(out)


async def _file_blit(
    blit: Jam, put: Callable[[tuple[bytes, ...], bytes], Awaitable[None]]
) -> None:
    """%sav or %sag of something large, by jam surgery."""
    tag, path, content = fast.slots(blit, [2, 6, 7])
    if tag is None or path is None or content is None:
        raise ValueError("a large blit that is no file")
    name = read_small(tag, 64)
    if name not in (cord("sav"), cord("sag")):
        raise ValueError("a large blit that is no file")
    data = bytes(content)
    if name == cord("sav"):
        data = atom_bytes(read_small(content, FILE_SIZE_MAX))
    await put(_path(read_small(path, 4096)), data)


async def _write_file(
    blit: Cell, put: Callable[[tuple[bytes, ...], bytes], Awaitable[None]]
) -> None:
    if not isinstance(blit.tail, Cell):
        raise ValueError("a file without content")
    path, content = blit.tail.head, blit.tail.tail
    if blit.head == cord("sag"):
        data: bytes = jam(content)
    else:
        data = atom_bytes(content)
    await put(_path(path), data)


def _path(n: Noun) -> tuple[bytes, ...]:
    path = path_values(n)
    bad = {b"", b".", b".."}
    if not path or any(p in bad or b"/" in p or b"\0" in p for p in path):
        raise ValueError("bad file path")
    return path
