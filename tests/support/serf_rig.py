"""A real serf on real pipes, driven without a king; and kernels to run in it.

Blocking and single-threaded: for tests and benchmarks of the serf alone.
"""

from __future__ import annotations

import mmap
import os
import select
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import lmdb

from proto.codec import PleaReader, pack_writs
from proto.cord import cord
from proto.jam import cue, jam
from proto.message import Flog, Jam, Plea, Ripe, Row, Slog, Writ
from proto.noun import Noun, items, listed, noun, slot

ROOT = Path(__file__).resolve().parents[2]
VERE = ROOT / "tests/conformance/vere"
SHIP = bytes(16)
LOG = bytes(range(16))


class SerfProcess:
    """Spawn `python -m serf`; write writs, read pleas."""

    def __init__(
        self,
        image: Path,
        *options: str,
        ship: bytes = SHIP,
        log: bytes = LOG,
        event_max: int = 1 << 40,
        command: Sequence[str] = (sys.executable, "-m", "serf"),
    ) -> None:
        down, self.write_fd = os.pipe2(os.O_CLOEXEC)
        self.read_fd, up = os.pipe2(os.O_CLOEXEC)
        word_fd = os.memfd_create("interrupt")
        os.ftruncate(word_fd, mmap.PAGESIZE)
        self.word = mmap.mmap(word_fd, mmap.PAGESIZE)
        self.process = subprocess.Popen(
            [
                *command,
                *("--read", str(down), "--write", str(up)),
                *("--interrupt", str(word_fd), "--image", str(image)),
                *("--ship", ship.hex(), "--log", log.hex()),
                *("--event-max", str(event_max), *options),
            ],
            pass_fds=[down, up, word_fd],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            text=True,
        )
        for fd in (down, up, word_fd):
            os.close(fd)
        self._reader = PleaReader()
        self.heard: list[Plea] = []
        self.slogs: list[Slog] = []
        self.flogs: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.hang_up()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self.word.close()
            if self.process.stdout:
                self.process.stdout.close()

    def hang_up(self) -> None:
        """Close the king's ends."""
        for name in ("write_fd", "read_fd"):
            fd = getattr(self, name)
            if fd >= 0:
                os.close(fd)
                setattr(self, name, -1)

    def ripe(self) -> Ripe:
        """Hear the first words."""
        plea = self.hear()
        assert isinstance(plea, Ripe), plea
        return plea

    def send(self, *writs: Writ) -> None:
        self.send_raw(pack_writs(writs))

    def send_raw(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self.write_fd, view) :]

    def ask(self, writ: Writ) -> Plea:
        self.send(writ)
        return self.hear()

    def hear(self, timeout: float = 60.0) -> Plea:
        """The next answer; slogs and flogs are put aside."""
        end = time.monotonic() + timeout
        while True:
            while self.heard:
                plea = self.heard.pop(0)
                if isinstance(plea, Slog):
                    self.slogs.append(plea)
                elif isinstance(plea, Flog):
                    self.flogs.append(plea.text)
                else:
                    return plea
            ready, _, _ = select.select([self.read_fd], [], [], end - time.monotonic())
            if not ready:
                raise TimeoutError("the serf says nothing")
            data = os.read(self.read_fd, 1 << 20)
            if not data:
                raise EOFError(f"serf left: {self.last_words()}")
            self.heard += self._reader.feed(data)

    def last_words(self) -> str:
        """Exit code and what it printed."""
        out, _ = self.process.communicate(timeout=10)
        return f"{self.process.returncode}: {out}"

    def interrupt(self, request: int) -> None:
        self.word[0:4] = request.to_bytes(4, "little")

    def await_obeyed(self, timeout: float = 60.0) -> None:
        """Until the interrupt's word is used up."""
        end = time.monotonic() + timeout
        while self.word[0:4] != bytes(4):
            assert time.monotonic() < end, "the interrupt is not obeyed"
            time.sleep(0.005)

    def await_busy(self, seconds: float = 0.2, timeout: float = 60.0) -> None:
        """Until it has computed for so long: then it is at what does not end,
        however loaded the machine."""
        end = time.monotonic() + timeout
        want = self._computed() + seconds
        while self._computed() < want:
            assert time.monotonic() < end, "the serf is idle"
            time.sleep(0.01)

    def _computed(self) -> float:
        """Seconds of its threads."""
        text = Path(f"/proc/{self.process.pid}/stat").read_text()
        user, system = text.rsplit(")", 1)[1].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


# --- kernels ------------------------------------------------------------------


def core(
    poke: object, state: object = 0, *, peek: object = 0, wish: object = 0
) -> Noun:
    """A kernel `[[load wish peek poke] state]` with gates at 10, 22 and 23,
    made of the bodies given. In a body: sample at 6, kernel at 7, state at
    15; a poke's sample is `[now wire tag data]`: data is at 55."""
    return noun((0, arm(wish), arm(peek), arm(poke)), state)


def arm(body: object) -> Noun:
    """A formula that makes a gate: `[body 0 kernel]`."""
    return noun((1, body), (1, 0), 0, 1)


KEEP = noun(0, 7)
"""In a poke's body: the kernel unchanged."""

COUNT = noun(10, (3, 4, 0, 15), 0, 7)
"""In a poke's body: the kernel with its state, a number, raised by one."""


def boot_row(kernel: Noun) -> Row:
    """One lifecycle event (life = 1) that makes `kernel` the ship's: a formula
    whose product has it at axis 7."""
    return Row(0, jam(noun(1, 0, 0, kernel)))


def job(now: int, wire: Sequence[str], tag: str, data: Noun = 0) -> Jam:
    """Jam of `[now wire tag data]`."""
    path = listed([cord(knot) for knot in wire])
    return jam(noun(now, path, cord(tag), data))


# --- logs written by Vere -----------------------------------------------------


def vere_log(name: str, folder: Path) -> list[Row]:
    """All rows of a golden pier's log, in order."""
    with tarfile.open(VERE / "piers" / f"{name}.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    rows: list[Row] = []
    epochs = sorted(
        (folder / name / ".urb/log").glob("0i*"), key=lambda p: int(p.name[2:])
    )
    for epoch in epochs:
        env = lmdb.open(str(epoch), max_dbs=2, readonly=True, lock=False)
        events = env.open_db(b"EVENTS", integerkey=True, create=False)
        with env.begin(db=events) as txn:
            for key, value in txn.cursor():
                assert int.from_bytes(key, "little") == len(rows) + 1
                rows.append(Row(int.from_bytes(value[:4], "little"), Jam(value[4:])))
        env.close()
    return rows


def pill_rows(name: str) -> tuple[Row, ...]:
    """The lifecycle events of a golden pill (which has no others)."""
    pill = cue((VERE / f"pills/{name}.pill").read_bytes())
    # [%pill name boot-events module-events userspace-events]
    return tuple(Row(0, jam(event)) for event in items(slot(pill, 14)))
