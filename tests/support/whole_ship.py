"""A whole ship in a directory of its own: boot, start, talk, kill, look.

What it is: what a person has who has the command line, `kill`, a web client
    and `conn.sock`, and nothing else. Blocking; any number in parallel.
Owns: the processes it started, and the directory of boots (one boot for each
    pill and name in a test run; ships are copies of it).
Limits: TREADLE_TEST_STRETCH, a factor, stretches every deadline here.

Run as a program it is `treadle` with bounds that the command line has no
words for: whole_ship.py '{"event_deadline_ms": 900}' '["serf", "--home-size", "1"]' ...
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lmdb

from king.adopt import adopt
from king.client import Client, connect_unix
from king.pier import Layout, who_locks
from proto.cord import cord_text
from proto.jam import cue, jam
from proto.noun import Cell, Noun, noun, slot
from tests.support.recorded import check_recording, recording_of

__all__ = [
    "ROOT",
    "STRETCH",
    "Conn",
    "Logged",
    "Ran",
    "WholeShip",
    "alive",
    "boot",
    "children",
    "connect",
    "memory_kib",
    "open_files",
    "treadle",
    "wait_for",
]

ROOT = Path(__file__).resolve().parents[2]
STRETCH = float(os.environ.get("TREADLE_TEST_STRETCH", "1"))


def _environment(**more: str) -> dict[str, str]:
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **more}


def wait_for(true: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    """Poll until `true()` is; its value."""
    end = time.monotonic() + seconds * STRETCH
    while True:
        value = true()
        if value:
            return value
        assert time.monotonic() < end, f"waited {seconds} s in vain: {what}"
        time.sleep(0.01)


# --- the command line -------------------------------------------------------


@dataclass(frozen=True)
class Ran:
    """How a command went."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The last line of its output."""
        return json.loads(self.out.splitlines()[-1])

    @property
    def fault(self) -> str:
        """The code of the one fault it told, as people are told it."""
        told = [line for line in self.err.splitlines() if line.startswith("treadle: ")]
        assert len(told) == 1, f"not one clear message: {self}"
        return told[0].split(": ")[1]


def treadle(*words: object, data: bytes | None = None, timeout: float = 120) -> Ran:
    """Run a command to its end. A traceback is never an answer."""
    given: dict[str, Any] = {"input": data}
    if data is None:
        given = {"stdin": subprocess.DEVNULL}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "king", *map(str, words)],
        capture_output=True,
        timeout=timeout * STRETCH,
        env=_environment(),
        **given,
    )
    ran = Ran(
        done.returncode,
        done.stdout.decode("utf-8", "replace"),
        done.stderr.decode("utf-8", "replace"),
    )
    assert "Traceback" not in ran.err + ran.out, ran.err
    assert ran.code >= 0, f"treadle {words} died of signal {-ran.code}: {ran.err}"
    return ran


@functools.cache
def _boots() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="treadle-boots-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@functools.cache
def _booted(ship: str, pill: Path | None) -> Path:
    pier = _boots() / f"{ship}-{pill.stem if pill else 'own'}"
    words = ["boot", pier, "--fake", ship, "--no-run"]
    ran = treadle(*words, *(["--pill", pill] if pill else []))
    assert ran.code == 0, ran.err
    return pier


def boot(target: Path, *, ship: str = "zod", pill: Path | None = None) -> WholeShip:
    """A fresh ship at `target`, which must not exist yet."""
    shutil.copytree(_booted(ship, pill), target)
    adopt(target)
    return WholeShip(target)


@contextlib.contextmanager
def running(target: Path) -> Iterator[WholeShip]:
    """A fresh ship that runs; at the end it must stop well, and be whole."""
    with boot(target) as made:
        yield made.start()
        assert made.stop() == 0
        made.check()


# --- a ship -----------------------------------------------------------------


@dataclass(frozen=True)
class Logged:
    """One event as the log has it."""

    number: int
    mug: int
    job: bytes

    @property
    def ovum(self) -> Noun:
        """`[wire tag data]`, wire with its target."""
        return slot(cue(self.job), 3)

    @property
    def wire(self) -> Noun:
        return slot(cue(self.job), 6)

    @property
    def tag(self) -> Noun:
        return slot(cue(self.job), 14)


class NoStart(AssertionError):
    """A king ended before it was live."""


class WholeShip:
    """A pier, and the king that we started on it, if any."""

    def __init__(self, pier: Path) -> None:
        self.pier = pier
        self.layout = Layout(pier)
        self.king: subprocess.Popen[bytes] | None = None
        self.recovery: dict[str, Any] = {}
        self.live: dict[str, Any] = {}
        self.live_port = 0  # where clients go; set by whoever has them
        self.judged = True  # its recording; not where a test changes the pier
        self._words: list[str] = []
        self._said: list[dict[str, Any]] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> WholeShip:
        return self

    def __exit__(self, *_: object) -> None:
        if self.king is not None:
            self.kill()
        # A traceback in what the ship said is a bug, whatever else passed.
        if sys.exc_info()[0] is None:
            assert "Traceback" not in self.words, self.words
            if self.judged:
                check_recording(self.pier)

    # --- start and stop -----------------------------------------------------

    def launch(
        self,
        *options: str,
        limits: dict[str, int] | None = None,
        serf: Sequence[str] = (),
        serf_module: str = "serf",
        failpoints: str = "",
        cwd: Path | None = None,
    ) -> None:
        """Start the king; do not wait."""
        assert self.king is None
        command = [sys.executable, "-P"]
        if limits is None and not serf and serf_module == "serf":
            command += ["-m", "king"]
        else:
            words = [serf_module, *serf]
            command += [__file__, json.dumps(limits or {}), json.dumps(words)]
        command += ["run", str(self.pier), "--headless", "--json", *options]
        if "--http-port" not in options:
            command += ["--http-port", "0"]
        if "--reserve" not in options:
            command += ["--reserve", "1M"]  # hundreds of piers lie about
        self.king = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env=_environment(
                TREADLE_FAILPOINTS=failpoints,
                TREADLE_RECORD=str(recording_of(self.pier)),
            ),
            cwd=cwd,
        )
        self._said = said = []
        self.recovery, self.live = {}, {}
        streams = ((self.king.stdout, True), (self.king.stderr, False))
        self._threads = [
            threading.Thread(target=self._hear, args=(*s, said), daemon=True)
            for s in streams
        ]
        for thread in self._threads:
            thread.start()

    def _hear(self, stream: Any, as_json: bool, said: list[dict[str, Any]]) -> None:
        with stream:
            for raw in stream:
                line = raw.decode("utf-8", "replace").rstrip("\n")
                self._words.append(line[:1000])
                if as_json:
                    said.append(json.loads(line))

    def start(self, *options: str, seconds: float = 60, **more: Any) -> WholeShip:
        """Start the king, and wait until it is live."""
        self.launch(*options, **more)
        said, king = self._said, self.king
        assert king is not None

        def told(key: str) -> dict[str, Any]:
            return next((line[key] for line in list(said) if key in line), {})

        def is_live() -> bool:
            if king.poll() is not None:
                raise NoStart(f"no start (exit {king.returncode}): {self.words}")
            return bool(told("live"))

        wait_for(is_live, f"{self.pier} live: {self.words}", seconds)
        self.recovery, self.live = told("recovery"), told("live")
        return self

    def try_to_start(self, seconds: float = 60) -> bool:
        """Start the king; whether it came to live, else `wait_exit` tells."""
        try:
            self.start(seconds=seconds)
        except NoStart:
            return False
        return True

    @property
    def words(self) -> str:
        """All that its kings said so far."""
        return "\n".join(self._words)

    def wait_exit(self, seconds: float = 60) -> int:
        assert self.king is not None
        code = self.king.wait(seconds * STRETCH)
        for thread in self._threads:
            thread.join(10)
        self.king = None
        return code

    def signal(self, number: int) -> None:
        assert self.king is not None
        self.king.send_signal(number)

    def stop(self, seconds: float = 60) -> int:
        """SIGTERM; the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait_exit(seconds)

    def kill(self) -> None:
        """SIGKILL to the king alone; its serf must leave by itself."""
        assert self.king is not None
        with contextlib.suppress(ProcessLookupError):
            self.king.kill()
        self.wait_exit()

    def wait_free(self, seconds: float = 60) -> None:
        """Until no process holds the pier."""
        wait_for(lambda: who_locks(self.layout) is None, "the pier is let go", seconds)

    # --- talk ---------------------------------------------------------------

    @property
    def pid(self) -> int:
        assert self.king is not None
        return self.king.pid

    def status(self) -> dict[str, Any]:
        with Client(self.layout, 10 * STRETCH) as client:
            reply = client.ask("peel", noun(["treadle", "status"]))
        assert isinstance(reply, Cell)
        value: dict[str, Any] = json.loads(cord_text(reply.tail))
        return value

    def serf_pid(self) -> int:
        """The serf's, by the process table: the king need not answer. Or 0."""
        return next(iter(children(self.pid)), 0)

    @property
    def port(self) -> int:
        """The page's port; the kernel may open it a little after the start."""
        live = self.live
        if not live.get("http"):
            live["http"] = wait_for(lambda: self.status()["http"], "an open port")
        return int(live["http"].rsplit(":", 1)[1])

    def http(
        self, method: str, path: str, body: bytes | None = None, timeout: float = 30
    ) -> tuple[int, bytes]:
        """One request on a connection of its own: status and body."""
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.port, timeout=timeout * STRETCH
        )
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def conn(self, timeout: float = 30) -> Conn:
        return Conn(self.layout, timeout)

    def poke(self, target: str, wire: Sequence[str], *card: object) -> Noun:
        """Inject an ovum through conn.sock; the reply after its rid."""
        with self.conn() as conn:
            return conn.ask("ovum", target, list(wire), noun(*card))

    def type(self, line: str) -> Noun:
        """Type a line at the kernel's terminal."""
        self.poke("d", ["term", "1"], "belt", "txt", [ord(c) for c in line])
        return self.poke("d", ["term", "1"], "belt", "ret", 0)

    # --- look ---------------------------------------------------------------

    def check(self) -> dict[str, Any]:
        """`treadle check` finds nothing wrong; its report."""
        ran = treadle("check", self.pier, "--json")
        assert ran.code == 0, (ran.out, ran.err)
        report: dict[str, Any] = ran.json
        assert report["ok"]
        return report

    def log(self) -> list[Logged]:
        """Every event, read from the files by LMDB alone; no holes."""
        found: list[Logged] = []
        epochs = sorted(
            (int(path.name[2:]), path) for path in self.layout.log_dir.glob("0i*")
        )
        for _, path in epochs:
            for number, value in _rows(path):
                assert number == len(found) + 1, f"event {number} after {len(found)}"
                mug = int.from_bytes(value[:4], "little")
                found.append(Logged(number, mug, value[4:]))
        return found


def _rows(path: Path) -> Iterator[tuple[int, bytes]]:
    with lmdb.open(
        str(path), readonly=True, lock=False, max_dbs=2, create=False
    ) as environment:
        events = environment.open_db(b"EVENTS", integerkey=True, create=False)
        with environment.begin(db=events) as transaction:
            for key, value in transaction.cursor():
                yield int.from_bytes(key, "little"), value


class Conn:
    """A client of conn.sock that may be rude: it can send anything."""

    def __init__(self, layout: Layout, timeout: float = 30) -> None:
        self.socket = connect_unix(str(layout.conn_socket), timeout * STRETCH)
        self._rid = 0

    def __enter__(self) -> Conn:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, *request: object) -> None:
        """`[rid ...]` as one frame; rid included in `request`."""
        body = jam(noun(*request))
        self.socket.sendall(b"\0" + len(body).to_bytes(4, "little") + body)

    def hear_bytes(self) -> bytes | None:
        """The next reply's jam; None where the king closed."""
        head = self._take(5)
        if head is None:
            return None
        assert head[0] == 0
        return self._take(int.from_bytes(head[1:], "little"))

    def hear(self) -> Noun | None:
        body = self.hear_bytes()
        return None if body is None else cue(body)

    def ask(self, *request: object) -> Noun:
        """A request and its reply, without the rid."""
        self._rid += 1
        self.send(self._rid, *request)
        reply = self.hear()
        assert isinstance(reply, Cell), reply
        assert reply.head == self._rid, reply
        return reply.tail

    def _take(self, size: int) -> bytes | None:
        data = b""
        while len(data) < size:
            try:
                part = self.socket.recv(size - len(data))
            except ConnectionResetError:
                part = b""
            if not part:
                return None
            data += part
        return data


# --- what a process holds ---------------------------------------------------


def open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def children(pid: int) -> list[int]:
    """Of all its threads; those of one, by age."""
    kids: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            text = (task / "children").read_text()
            kids += [int(word) for word in text.split()]
    return kids


def alive(pid: int) -> bool:
    """Whether it runs: a zombie does not, whoever is to bury it."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text.rsplit(")", 1)[1].split()[0] not in ("Z", "X")


def memory_kib(pid: int) -> int:
    """Anonymous memory: what nobody can take back."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1])
    raise AssertionError("no RssAnon")


def connect(port: int, timeout: float = 30) -> socket.socket:
    """A plain TCP connection to a ship's page."""
    return socket.create_connection(("127.0.0.1", port), timeout * STRETCH)


# --- as a program -----------------------------------------------------------


def _main() -> int:
    from king import child, cli
    from king.config import Limits, RunOptions

    limits, options = json.loads(sys.argv[1]), json.loads(sys.argv[2])
    cli.RunOptions = functools.partial(RunOptions, limits=Limits(**limits))
    child.SERF_COMMAND = (*child.SERF_COMMAND[:-1], *options)
    return cli.main(sys.argv[3:])


if __name__ == "__main__":
    sys.exit(_main())
