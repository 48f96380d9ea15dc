"""A serf that tries to get out, and then goes on as a serf.

    python -m tests.support.escaping_serf CALLS --read FD --write FD ...

CALLS is JSON: what an act is called, and the number and arguments of its system
call: integers, or text that becomes a C string, or "@buffer" (4 KiB of zeros),
"@king", "@self" (process ids), "@page" (the address of a page of ours). When
the real serf is confined and about to speak its first words, every call is
made (by the gate of 32-bit programs, where the number is negative; x86-64 only),
and what came of it is told in one line on stderr: `tried {name: fault}`,
where a call that succeeded has the fault "none".
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import sys
from collections.abc import Callable

from serf import __main__ as entry
from serf import loop
from serf.engine import Loaded

TRIED = "tried "


def old_gate() -> Callable[[int], int]:
    """System calls of 32-bit programs, in a page of code of our own."""
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=7)
    page.write(b"\x89\xf8\xcd\x80\xc3")  # mov eax, edi; int 0x80; ret
    place = ctypes.addressof(ctypes.c_char.from_buffer(page))
    code = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(place)

    def call(number: int) -> int:
        assert not page.closed  # it lives as long as this function
        return int(code(number))

    return call


class _Acts:
    """Prepared before the confinement: nothing can be imported after it."""

    def __init__(self, calls: dict[str, list[int | str]]) -> None:
        self._calls = calls
        self._syscall = ctypes.CDLL(None, use_errno=True).syscall
        self._syscall.restype = ctypes.c_long
        if any(int(number) < 0 for number, *_ in calls.values()):
            self._gate = old_gate()
        self._page = mmap.mmap(-1, mmap.PAGESIZE)
        self._buffer = ctypes.create_string_buffer(4096)
        page = ctypes.addressof(ctypes.c_char.from_buffer(self._page))
        self._known = {"@king": os.getppid(), "@self": os.getpid(), "@page": page}

    def try_all(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, (number, *values) in self._calls.items():
            if int(number) < 0:
                answer = self._gate(-int(number))
                found[name] = errno.errorcode[-answer] if answer < 0 else "none"
                continue
            ctypes.set_errno(0)
            result = self._syscall(
                ctypes.c_long(int(number)), *map(self._argument, values)
            )
            fault = ctypes.get_errno()
            found[name] = errno.errorcode[fault] if result == -1 else "none"
        return found

    def _argument(self, value: int | str) -> object:
        if value == "@buffer":
            return self._buffer
        if isinstance(value, int) or value in self._known:
            return ctypes.c_long(
                value if isinstance(value, int) else self._known[value]
            )
        return value.encode()


def main(words: list[str]) -> int:
    """Be a serf, after what is in `words[0]`; its exit code."""
    acts = _Acts(json.loads(words[0]))

    class Escaping(loop.Loop):
        def run(self, loaded: Loaded) -> int:
            print(TRIED + json.dumps(acts.try_all()), file=sys.stderr, flush=True)
            return super().run(loaded)

    loop.Loop = Escaping
    return entry.main(words[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
