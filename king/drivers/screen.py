"""Blits to terminal bytes (spec/king.md 7.3 to 7.5). Pure.

Keeps a mirror of the cursor and of the bottom line (the prompt), so that log
lines can be printed above it and the spinner erased. What the guest draws
cannot steer the terminal: control characters are shown as `?`.
Limits: TEXT_MAX characters in one piece of text, the rest is cut.
"""

from __future__ import annotations

from collections.abc import Callable

from proto.cord import cord
from proto.noun import Cell, Noun, items
from proto.tank import clean

__all__ = ["Screen"]

TEXT_MAX = 1 << 16
_PRIORITY = {3: "\x1b[31m>>> ", 2: "\x1b[33m>>  ", 1: "\x1b[32m>   "}
_GREY = "\x1b[38;5;244m"
_COLOURS = {cord(name): code for code, name in enumerate("krgybmcw")}
_DECOS = {cord("br"): "1", cord("un"): "4", cord("bl"): "5", 0: "0"}
_SPIN = "|/-\\"

_Styled = list[tuple[str, str]]  # character, SGR parameters ("" for none)


def _characters(n: Noun) -> str:
    """A (list @c) as text."""
    values = []
    for value in items(n):
        if isinstance(value, Cell) or value > 0x10FFFF or 0xD800 <= value <= 0xDFFF:
            raise ValueError("not a character")
        values.append(value)
        if len(values) > TEXT_MAX:
            break
    return clean("".join(map(chr, values)))


def _colour(n: Noun, base: str) -> str:
    if isinstance(n, Cell):
        if not isinstance(n.tail, Cell):
            raise ValueError("not a colour")
        parts = (n.head, n.tail.head, n.tail.tail)
        if any(isinstance(part, Cell) for part in parts):
            raise ValueError("not a colour")
        rgb = ";".join(str(part % 256) for part in parts if isinstance(part, int))
        return f"{base}8;2;{rgb}"
    if n == 0:
        return f"{base}9"
    return f"{base}{_COLOURS[n]}" if n in _COLOURS else f"{base}9"


def _members(treap: Noun) -> list[Noun]:
    """The members of a Hoon set."""
    found: list[Noun] = []
    stack: list[Noun] = [treap]
    while stack and len(found) < 16:
        node = stack.pop()
        if isinstance(node, Cell) and isinstance(node.tail, Cell):
            found.append(node.head)
            stack += [node.tail.head, node.tail.tail]
    return found


def _sgr(style: Noun) -> str:
    """`[deco bg fg]` as SGR parameters; "" where all three are empty."""
    if not isinstance(style, Cell) or not isinstance(style.tail, Cell):
        raise ValueError("not a style")
    deco, background, foreground = style.head, style.tail.head, style.tail.tail
    if deco == background == foreground == 0:
        return ""
    parts = [
        _DECOS[d] for d in _members(deco) if not isinstance(d, Cell) and d in _DECOS
    ]
    if background != 0:
        parts.append(_colour(background, "4"))
    if foreground != 0:
        parts.append(_colour(foreground, "3"))
    return ";".join(parts)


class Screen:
    """What to write to a terminal of `rows` x `cols` for each blit."""

    def __init__(self, rows: int = 24, cols: int = 80) -> None:
        self.rows, self.cols = rows, cols
        self._row, self._col = rows - 1, 0
        self._line: _Styled = []  # the bottom line
        self._spun = 0
        self._spinning = False
        self._blits: dict[int, Callable[[Noun], str]] = {
            cord("bel"): lambda _: "\x07",
            cord("clr"): lambda _: "\x1b[H\x1b[2J\x1b[u",
            cord("hop"): self._hop,
            cord("put"): lambda n: self._put([(c, "") for c in _characters(n)]),
            cord("klr"): self._klr,
            cord("nel"): lambda _: self._new_line(),
            cord("mor"): self._more,
            cord("wyp"): lambda _: self._wipe(),
            cord("lin"): self._lin,
        }

    def resize(self, rows: int, cols: int) -> None:
        """The terminal has another size now."""
        at_bottom = self._row == self.rows - 1
        self.rows, self.cols = max(rows, 1), max(cols, 1)
        self._row = self.rows - 1 if at_bottom else min(self._row, self.rows - 1)
        self._col = min(self._col, self.cols - 1)

    # --- blits ---------------------------------------------------------------

    def draw(self, blit: Noun) -> str:
        """One blit.

        :raises ValueError: if it is malformed. Unknown ones draw nothing.
        """
        out = ""
        stack = [blit]
        steps = 0
        while stack:
            item = stack.pop()
            steps += 1
            if steps > TEXT_MAX:
                raise ValueError("too many blits in one")
            if not isinstance(item, Cell) or isinstance(item.head, Cell):
                raise ValueError("not a blit")
            if item.head == cord("mor") and item.tail != 0:
                stack.extend(reversed(items(item.tail)))
                continue
            handler = self._blits.get(item.head)
            if handler is not None:
                out += handler(item.tail)
        return self.unspin() + out if self._spinning and out else out

    def _more(self, _: Noun) -> str:
        return self._new_line()

    def _hop(self, n: Noun) -> str:
        col, row = (n.head, n.tail) if isinstance(n, Cell) else (n, None)
        if isinstance(col, Cell) or isinstance(row, Cell):
            raise ValueError("not a place")
        self._col = min(col, self.cols - 1)
        self._row = self.rows - 1 if row is None else min(row, self.rows - 1)
        return f"\x1b[{self._row + 1};{self._col + 1}H\x1b[s"

    def _put(self, text: _Styled) -> str:
        if self._row == self.rows - 1:
            if len(self._line) < self._col:
                self._line += [(" ", "")] * (self._col - len(self._line))
            self._line[self._col : self._col + len(text)] = text
            del self._line[max(self.cols, 1) :]
        return _paint(text) + "\x1b[u"

    def _klr(self, n: Noun) -> str:
        text: _Styled = []
        for span in items(n):
            if not isinstance(span, Cell):
                raise ValueError("not a span")
            sgr = _sgr(span.head)
            text += [(c, sgr) for c in _characters(span.tail)]
        return self._put(text)

    def _new_line(self) -> str:
        if self._row < self.rows - 1:
            self._row += 1
        else:
            self._line = []
        self._col = 0
        return "\r\n\x1b[s"

    def _wipe(self) -> str:
        if self._row == self.rows - 1:
            self._line = []
        return "\r\x1b[K\x1b[u"

    def _lin(self, n: Noun) -> str:
        text = _characters(n)
        out = self._hop(0) + self._wipe()
        return out + self._put([(c, "") for c in text])

    # --- what the runtime itself shows -----------------------------------------

    def redraw(self) -> str:
        """The bottom line anew."""
        return f"\x1b[{self.rows};1H\x1b[K{_paint(self._line)}\x1b[u"

    def log(self, text: str, priority: int | None = None) -> str:
        """Lines above the prompt; `priority` colours a slog."""
        prefix = _GREY if priority == 0 else _PRIORITY.get(priority or -1, "")
        suffix = "\x1b[0m" if prefix else ""
        body = "\r\n".join(clean(line) for line in text.split("\n"))
        out = self.unspin() + f"\x1b[{self.rows};1H\x1b[K"
        return out + f"{prefix}{body}{suffix}\r\n" + self.redraw()

    def spin(self, label: str) -> str:
        """The next frame of the spinner, at the cursor of the bottom line."""
        text = _SPIN[self._spun % 4]
        self._spun += 1
        self._spinning = True
        if label:
            text += f"\u00ab{clean(label)[:8]}\u00bb"
        col = self._col if self._row == self.rows - 1 else 0
        col = max(0, min(col, self.cols - len(text)))
        return f"\x1b[{self.rows};{col + 1}H{text}\x1b[u"

    def unspin(self) -> str:
        """Take the spinner away, if one is shown."""
        if not self._spinning:
            return ""
        self._spinning = False
        return self.redraw()

    def leave(self) -> str:
        """The last words: the cursor below the bottom line."""
        return self.unspin() + f"\x1b[0m\x1b[{self.rows};1H\r\n"


def _paint(text: _Styled) -> str:
    """Text with a SGR at each change of style."""
    out: list[str] = []
    style = ""
    for c, wanted in text:
        if wanted != style:
            if style:
                out.append("\x1b[0m")
            if wanted:
                out.append(f"\x1b[{wanted}m")
            style = wanted
        out.append(c)
    if style:
        out.append("\x1b[0m")
    return "".join(out)
