"""Bytes of a keyboard to belts (spec/king.md 7.2). Pure.

A belt is given as a noun; `None` stands for a bell. Text accumulates and is
flushed before any other belt and at the end of each read. An escape sequence
or a character cut by the end of a read goes on with the next one; `flush`
says that nothing more came, so that a lone ESC does not wait for ever.
"""

from __future__ import annotations

from proto.noun import Noun, noun

__all__ = ["KeyReader"]

_ARROWS = {ord("A"): "u", ord("B"): "d", ord("C"): "r", ord("D"): "l"}
_ESC = 27


class KeyReader:
    """Turn what was read into belts."""

    def __init__(self) -> None:
        self._held = b""
        self._text: list[int] = []

    @property
    def waiting(self) -> bool:
        """Is there the beginning of something?"""
        return bool(self._held)

    def feed(self, data: bytes) -> list[Noun | None]:
        """Take bytes, give belts."""
        belts: list[Noun | None] = []
        data = self._held + data
        self._held = b""
        at = 0
        while at < len(data):
            used = self._one(data, at, belts)
            if used == 0:
                self._held = data[at:]
                break
            at += used
        self._flush_text(belts)
        return belts

    def flush(self) -> list[Noun | None]:
        """Give up on what was begun: a bell."""
        held, self._held = self._held, b""
        return [None] if held else []

    def _flush_text(self, belts: list[Noun | None]) -> None:
        if self._text:
            belts.append(noun("txt", list(self._text)))
            self._text.clear()

    def _say(self, belts: list[Noun | None], *parts: object) -> None:
        self._flush_text(belts)
        belts.append(noun(*parts) if parts else None)

    def _one(self, data: bytes, at: int, belts: list[Noun | None]) -> int:
        """Take one key; how many bytes it had, 0 if it is not whole yet."""
        c = data[at]
        if c == _ESC:
            return self._escape(data, at, belts)
        if c in (8, 127):
            self._say(belts, "bac", 0)
        elif c in (10, 13):
            self._say(belts, "ret", 0)
        elif 1 <= c <= 26:
            self._say(belts, "mod", "ctl", c + 96)
        elif c < 32:
            self._say(belts)
        elif c < 128:
            self._text.append(c)
        else:
            return self._character(data, at)
        return 1

    def _character(self, data: bytes, at: int) -> int:
        lead = data[at]
        size = 2 if lead < 224 else 3 if lead < 240 else 4
        if len(data) - at < size:
            return 0
        text = data[at : at + size].decode("utf-8", "replace")
        self._text.extend(map(ord, text))
        return size

    def _escape(self, data: bytes, at: int, belts: list[Noun | None]) -> int:
        if len(data) - at < 2:
            return 0
        c = data[at + 1]
        if ord("a") <= c <= ord("z"):
            self._say(belts, "mod", "met", c)
        elif c in (8, 127):
            self._say(belts, "mod", "met", "bac", 0)
        elif c in b"[O":
            return self._control(data, at, belts)
        else:
            self._say(belts)
        return 2

    def _control(self, data: bytes, at: int, belts: list[Noun | None]) -> int:
        if len(data) - at < 3:
            return 0
        c = data[at + 2]
        if c in _ARROWS:
            self._say(belts, "aro", _ARROWS[c])
            return 3
        if c == ord("M"):
            # A mouse report: never enabled, so only swallowed.
            return 6 if len(data) - at >= 6 else 0
        if not ord("0") <= c <= ord("9"):
            self._say(belts)
            return 3
        if len(data) - at < 4:
            return 0
        # One digit and one more byte, whatever it is. The tail of a modified
        # arrow (ESC [ 1 ; 5 C) is therefore typed as text, as in Vere: kernels
        # and golden traces know it so.
        if data[at + 2 : at + 4] == b"3~":
            self._say(belts, "del", 0)
        else:
            self._say(belts)
        return 4
