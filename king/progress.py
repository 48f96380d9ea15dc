"""A bar for what takes long.

What it is: pure drawing on a stream that is given; a terminal gets a bar with
    rate and time left, ten times a second at most.
Invariants: what is not a terminal gets nothing, unless `lines` asks for a line
    every LINE_S: logs of supervisors want to see a long start.
"""

from __future__ import annotations

import sys
import time
from typing import TextIO

__all__ = ["Bar"]

BAR_S = 0.1
LINE_S = 5.0
_WIDTH = 30
_UNITS = (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))


class Bar:
    """One operation's."""

    def __init__(
        self, label: str, out: TextIO | None = None, *, lines: bool = False
    ) -> None:
        self._label = label
        self._out = sys.stderr if out is None else out
        self._tty = self._out.isatty()
        self._lines = lines
        self._began: float | None = None
        self._first = 0
        self._shown_at = 0.0
        self._shown = False

    def show(
        self,
        done: int,
        total: int,
        unit: str,
        note: str = "",
        rate: float | None = None,
    ) -> None:
        """Where it stands; `total` 0: nobody knows. `rate`: units a second, if the
        caller knows better than what was seen here."""
        now = time.monotonic()
        if self._began is None:
            self._began, self._first = now, done
            if not self._tty:
                self._shown_at = now  # what is short says nothing
        ended = 0 < total <= done
        wait = BAR_S if self._tty else LINE_S
        if now - self._shown_at < wait and not (ended and self._shown):
            return
        if not (self._tty or self._lines):
            return
        self._shown_at, self._shown = now, True
        if rate is None:
            spent = now - self._began
            rate = (done - self._first) / spent if spent > 0 else 0.0
        text = self._text(done, total, unit, note, rate)
        if self._tty:
            share = min(done / total, 1.0) if total else 0.0
            bar = ("#" * int(share * _WIDTH)).ljust(_WIDTH, "-")
            head = f"[{bar}] " if total else ""
            self._out.write(f"\r\x1b[K{head}{text}" + ("\n" if ended else ""))
            self._shown = not ended
        else:
            self._out.write(text + "\n")
        self._out.flush()

    def close(self) -> None:
        """Leave the terminal's line to others."""
        if self._tty and self._shown:
            self._out.write("\r\x1b[K")
            self._out.flush()
            self._shown = False

    def _text(self, done: int, total: int, unit: str, note: str, rate: float) -> str:
        parts = [self._label]
        if total:
            parts[0] += f" {_amount(done, unit)}/{_amount(total, unit)}"
        elif done:
            parts[0] += f" {_amount(done, unit)} {unit if unit != 'bytes' else ''}"
        if rate > 0:
            parts.append(f"{_amount(int(rate), unit)}{_per(unit)}")
            if total:
                parts.append(f"ETA {_clock(max(total - done, 0) / rate)}")
        if note:
            parts.append(note)
        return "  ".join(part.rstrip() for part in parts)


def _per(unit: str) -> str:
    return "/s" if unit == "bytes" else f" {unit}/s"


def _amount(count: int, unit: str) -> str:
    if unit == "bytes":
        for name, size in _UNITS:
            if count >= size:
                return f"{count / size:,.1f} {name}"
    return f"{count:,}"


def _clock(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
