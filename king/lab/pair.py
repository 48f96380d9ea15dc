"""A whole pair under the witness, and the hand that does to it what people do.

Owns: the stable (one `king.lab.zygote`) and the processes it started; the list
    of what people were told.
Invariants: a token is acknowledged only after an answer came, and the trace
    says so at that place; a process is killed by its number, never by name; a
    `Hand` that is closed has left nobody running.
Limits: blocking, one request at a time. A pair that does not go on for STEP_S
    seconds hangs, which is a finding.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from king.client import Client
from king.errors import TreadleError
from king.lab.judge import AWAY, CARRIED, ROCK, TAKEN
from king.lab.witness import Trace, environment
from king.modules import module_command
from king.pier import Layout, wait_unlocked
from proto.cord import cord, cord_text, path_from_text
from proto.noun import Cell, Noun, noun

__all__ = ["STEP_S", "Hand", "Hang", "Over", "Run", "Stable"]

STEP_S = 60.0
_POLL_S = 0.002


class Over(Exception):
    """The king is gone, or will not take more: the scenario ends here."""


class Hang(Exception):
    """Nothing happens any more, and nobody says why."""


# --- processes ------------------------------------------------------------------


class Run:
    """One run of the command line."""

    def __init__(self, stable: Stable, pid: int, out: Path, err: Path) -> None:
        self.pid = pid
        self._stable = stable
        self._out = out
        self._err = err

    def poll(self) -> int | None:
        """As Popen.poll."""
        status = self._stable.statuses.get(self.pid)
        return None if status is None else os.waitstatus_to_exitcode(status)

    def wait(self, seconds: float = STEP_S) -> int:
        """Its exit code, -N for signal N.

        :raises Hang: it did not end.
        """
        end = time.monotonic() + seconds
        while (code := self.poll()) is None:
            if time.monotonic() > end:
                raise Hang(f"the king did not end within {seconds:g} s")
            time.sleep(_POLL_S)
        return code

    def kill(self) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def children(self) -> list[int]:
        """By the process table: the king need not answer."""
        found: list[int] = []
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{self.pid}/task").iterdir():
                text = (task / "children").read_text(encoding="ascii")
                found += [int(word) for word in text.split()]
        return found

    def said(self) -> list[dict[str, Any]]:
        """Its lines of JSON so far."""
        lines = self._out.read_bytes().split(b"\n")[:-1] if self._out.exists() else []
        return [json.loads(line) for line in lines if line]

    @property
    def words(self) -> str:
        """What it said to people."""
        if not self._err.exists():
            return ""
        return self._err.read_text(encoding="utf-8", errors="replace")


class Stable:
    """Where kings come from. A context manager."""

    def __init__(self) -> None:
        command, variables = module_command("king.lab.zygote")
        # No core dumps of those that we kill, and no armed failpoints.
        variables.pop("TREADLE_FAILPOINTS", None)
        self.statuses: dict[int, int] = {}
        self._born: list[int] = []
        self._heard = threading.Condition()
        self._asking = threading.Lock()
        self._process = subprocess.Popen(
            command,
            env={**variables, **environment(), "TREADLE_ADOPT": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            value = json.loads(line)
            with self._heard:
                if "status" in value:
                    self.statuses[value["pid"]] = value["status"]
                else:
                    self.statuses.pop(value["pid"], None)  # an older one's
                    self._born.append(value["pid"])
                self._heard.notify_all()

    def launch(
        self,
        words: Sequence[str],
        out: Path,
        err: Path,
        *,
        trace: Trace | None = None,
        serf: Sequence[str] = (),
        variables: dict[str, str] | None = None,
    ) -> Run:
        """Run `treadle WORDS` in a process of its own."""
        assert self._process.stdin is not None
        job = {
            "words": list(words),
            "out": str(out),
            "err": str(err),
            "trace": str(trace.path) if trace else "",
            "root": str(trace.root) if trace else "",
            "serf": list(serf),
            "environment": variables or {},
        }
        with self._asking, self._heard:
            self._process.stdin.write(json.dumps(job).encode() + b"\n")
            self._process.stdin.flush()
            while not self._born:
                if not self._heard.wait(STEP_S):
                    raise Hang("the stable does not answer")
            pid = self._born.pop(0)
        return Run(self, pid, out, err)

    def __enter__(self) -> Stable:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._thread.join()
        self._process.stdout.close()


# --- the hand -------------------------------------------------------------------


@dataclass(slots=True)
class Told:
    """What people offered and what they were told, over all runs of a pier."""

    offered: set[str] = field(default_factory=set)
    acknowledged: set[str] = field(default_factory=set)
    snapshot_event: int = 0
    pins: dict[str, int] = field(default_factory=dict)
    taken: bool = False
    booted: bool = False
    adopted: bool | None = None
    """False: its log is behind, and nobody has said yet how to go on."""


class Noted(Protocol):
    """Takes notes of what people are told."""

    def write(self, text: str) -> None: ...


class Hand:
    """What a scenario is given: a ship, and what can be done to it."""

    def __init__(
        self,
        stable: Stable,
        pier: Path,
        folder: Path,
        *,
        pill: Path | None = None,
        trace: Trace | None = None,
        notes: Noted | None = None,
        serf: Sequence[str] = (),
        told: Told | None = None,
        record: Path | None = None,
    ) -> None:
        """`notes`: what people are told; `record`: what king and serf do."""
        self.pier = pier
        self.layout = Layout(pier)
        self.told = told or Told()
        self.exits: list[int] = []
        """How the kings ended that ended by themselves."""
        self.recoveries: list[dict[str, Any]] = []
        self.live_s: list[float] = []
        """From each start to live."""
        self.run: Run | None = None
        self._stable = stable
        self._folder = folder
        self._pill = pill
        self._trace = trace
        self._serf = tuple(serf)
        self._notes = notes
        self._record = record
        self._runs = 0
        self._words: list[Run] = []
        self._port = 0

    @property
    def words(self) -> str:
        """All that its kings said to people."""
        return "".join(run.words for run in self._words)

    def _launch(self, *words: str) -> Run:
        self._runs += 1
        stem = f"run{len(list(self._folder.glob('run*.out')))}"
        self.run = self._stable.launch(
            words,
            self._folder / f"{stem}.out",
            self._folder / f"{stem}.err",
            trace=self._trace,
            serf=self._serf,
            variables={"TREADLE_RECORD": str(self._record)} if self._record else None,
        )
        self._words.append(self.run)
        return self.run

    def _note(self, text: str) -> None:
        if self._notes is not None:
            self._notes.write(text)

    def _gone(self, run: Run) -> Over:
        self.exits.append(run.wait())
        self.run = None
        return Over(f"the king ended with {self.exits[-1]}")

    # --- start and stop ---------------------------------------------------------

    def start(self, *options: str) -> None:
        """`treadle run`, until it is live.

        :raises Over: it ended instead.
        :raises Hang: it did neither.
        """
        assert self.run is None
        began = time.monotonic()
        words = ("run", str(self.pier), "--headless", "--json")
        own = ("--http-port", "0", "--reserve", "64k")
        run = self._launch(*words, *own, *options)
        self._port = 0
        while True:
            said = run.said()
            if any("live" in line for line in said):
                break
            if run.poll() is not None:
                raise self._gone(run)
            if time.monotonic() - began > STEP_S:
                raise Hang(f"not live within {STEP_S:g} s: {run.words[-500:]}")
            time.sleep(_POLL_S)
        self.live_s.append(time.monotonic() - began)
        merged = {key: value for line in said for key, value in line.items()}
        self.recoveries.append(merged["recovery"])
        address = merged["live"]["http"]
        self._port = int(address.rsplit(":", 1)[1]) if address else 0
        self._note("live")

    @property
    def has_page(self) -> bool:
        """Whether this kernel serves HTTP."""
        return self._port != 0

    def stop(self) -> None:
        """SIGTERM, and wait until it has gone.

        :raises Over: it was gone before, or it failed.
        """
        run = self._running()
        self._note("stopping")
        with contextlib.suppress(ProcessLookupError):
            os.kill(run.pid, signal.SIGTERM)
        code = run.wait()
        self.run = None
        if code:
            self.exits.append(code)
            raise Over(f"the king ended with {code}")
        self._note("stopped")

    def crash(self) -> None:
        """SIGKILL for the king alone; the serf must leave by itself."""
        run = self._running()
        run.kill()
        run.wait()
        self.run = None
        self._wait_free()

    def kill_serf(self) -> None:
        """SIGKILL for the serf; returns when another is at work."""
        run = self._running()
        before = run.children()
        for pid in before:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._until(lambda: bool(set(run.children()) - set(before)), "another serf")

    def close(self) -> None:
        """Kill whoever is left, king and serf, and wait for the locks."""
        if self.run is not None:
            children = self.run.children()
            self.run.kill()
            for pid in children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.run.wait()
            self.run = None
        if self._trace is not None:
            self._trace.lift()
            self._trace.go_on()
        self._wait_free()

    def _wait_free(self) -> None:
        # (A disk that was shut down answers nothing, not even this.)
        there = os.path.exists(self.layout.lock)
        if there and not wait_unlocked(self.layout, STEP_S):
            raise Hang("somebody keeps the pier's lock")

    def _running(self) -> Run:
        if self.run is None:
            raise Over("no king runs")
        if self.run.poll() is not None:
            raise self._gone(self.run)
        return self.run

    def _until(self, true: Any, what: str, seconds: float = STEP_S) -> None:
        end = time.monotonic() + seconds
        while not true():
            self._running()
            if time.monotonic() > end:
                raise Hang(f"waited in vain for {what}")
            time.sleep(_POLL_S)

    # --- other commands -----------------------------------------------------------

    def boot(self) -> None:
        """`treadle boot --no-run`."""
        pill = ("--pill", str(self._pill)) if self._pill else ()
        words = ("boot", str(self.pier), "--fake", "~zod", "--no-run", "--json", *pill)
        self._finish(words)
        self.told.booted = True
        self._note("booted")
        self._saved(1)

    def replay(self, *options: str) -> None:
        """`treadle replay`."""
        self._finish(("replay", str(self.pier), "--json", *options))

    def check(self) -> None:
        """`treadle check` finds nothing wrong."""
        self._finish(("check", str(self.pier), "--json"))

    def command(self, *words: str) -> None:
        """`treadle WORDS` on a ship at rest."""
        self._finish((*words, "--json"))

    def roll(self) -> None:
        """`treadle roll`, beside the ship or at rest."""
        self._beside(("roll", str(self.pier), "--json"))

    def archive(self) -> None:
        """`treadle archive`, which chops: all but two epochs."""
        away = str(self.pier.parent / AWAY)
        self._beside(("archive", str(self.pier), away, "--json"))

    def chop(self, *options: str) -> None:
        """`treadle chop`, beside the ship or at rest."""
        self._beside(("chop", str(self.pier), "--json", *options))

    def adopt(self) -> None:
        """`treadle adopt`."""
        self._finish(("adopt", str(self.pier), "--json"))
        self.told.adopted = True
        self._note("adopted")

    def snapshot(self) -> None:
        """`treadle snapshot`, beside the ship or at rest; once."""
        taken = self.pier.parent / TAKEN
        if taken.exists():
            return
        if self._beside(("snapshot", str(self.pier), str(taken), "--json")):
            self.told.taken = True
            self._note("taken")

    def carry(self) -> None:
        """`treadle export --log`, and `treadle import` of that; once. A failed
        import of a whole file leaves no pier."""
        carried = self.pier.parent / CARRIED
        taken = self.pier.parent / TAKEN
        if carried.exists() or taken.exists():
            return
        self._carry(carried, "--log")

    def carry_state(self) -> None:
        """`treadle export` of the state at the start of an epoch, and `treadle
        import` of that; once. Right after a roll."""
        taken = self.pier.parent / TAKEN
        rock = self.pier.parent / ROCK
        if rock.exists() or taken.exists():
            return
        self._carry(rock)

    def _carry(self, file: Path, *options: str) -> None:
        taken = self.pier.parent / TAKEN
        out = ("export", str(self.pier), str(file), "--json", *options)
        back = ("import", str(taken), str(file), "--json")
        if self._beside(out) and self._beside(back):
            self.told.taken = True
            self._note("taken")

    def _beside(self, words: Sequence[str]) -> bool:
        """A command that may fail, if only it and the ship say why; the ship that
        runs goes on running. Whether it did what it was told.

        :raises Over: the ship is gone.
        """
        ship = self.run
        run = self._launch(*words)
        code = run.wait()
        self.run = ship
        if code:
            self.exits.append(code)
        if ship is not None:
            self._running()
        return not code

    def _finish(self, words: Sequence[str]) -> None:
        run = self._launch(*words)
        code = run.wait()
        self.run = None
        if code:
            self.exits.append(code)
            raise Over(f"{words[0]} ended with {code}: {run.words[-500:]}")

    # --- events ---------------------------------------------------------------------

    def poke(self, count: int = 1, *, size: int = 0) -> None:
        """Events of `size` bytes and more through conn.sock, each awaited until
        it is durable. Any kernel will do."""
        for _ in range(count):
            token = self._offer()
            text = f"tok{token};" + "x" * size
            tape = [ord(letter) for letter in text]
            wire = path_from_text("/d/term/1")
            assert isinstance(wire, Cell)
            ovum = noun(wire.head, wire.tail, "belt", "txt", tape)
            self._inject(token, ovum)

    def fail(self, count: int = 1) -> None:
        """Events that crash the kernel: each becomes a %crud, or fails."""
        for _ in range(count):
            token = self._offer()
            card = noun("belt", f"tok{token};")
            wire = path_from_text("/d/term/1")
            assert isinstance(wire, Cell)
            self._inject(token, noun(wire.head, wire.tail, card))

    def _inject(self, token: str, ovum: Noun) -> None:
        self._running()
        try:
            with Client(self.layout, STEP_S) as client:
                reply = client.ask("ovum", ovum)
        except TreadleError as error:
            if error.code == "conn-timeout":
                raise Hang(error.message) from error
            raise self._lost_touch(error) from error
        if reply == noun("news", "done"):
            self._acknowledge(token)

    def put(self, count: int = 1, *, size: int = 1) -> None:
        """PUTs over HTTP: what answers is an effect of the event. Of each it
        keeps `size` bytes.

        :raises Over: this kernel has no page.
        """
        for _ in range(count):
            token = self._offer()
            body = f"tok{token};".encode().ljust(size, b".")
            status, _ = self._http("PUT", f"/kv/{token}", body)
            if status in (200, 201, 204):
                self._acknowledge(token)

    def get(self) -> None:
        """GET the page and what the last PUT left: large effects."""
        self._http("GET", "/", b"")
        if self.told.acknowledged:
            token = max(self.told.acknowledged, key=int)
            self._http("GET", f"/kv/{token}", b"")

    def _http(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        self._running()
        if not self._port:
            raise Over("this kernel has no page")
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=STEP_S)
        try:
            connection.request(method, path, body or None)
            response = connection.getresponse()
            return response.status, response.read()
        except TimeoutError as error:
            raise Hang("no answer over HTTP") from error
        except (OSError, http.client.HTTPException) as error:
            raise self._lost_touch(error) from error
        finally:
            connection.close()

    def _lost_touch(self, error: Exception) -> Over:
        """Nobody answers: the king is gone, or on its way."""
        run = self.run
        if run is None:
            return Over("somebody closed this hand meanwhile")
        try:
            run.wait(STEP_S)
        except Hang:
            raise Hang(f"it lives, and does not answer: {error}") from error
        return self._gone(run)

    def _offer(self) -> str:
        token = str(len(self.told.offered) + 1)
        self.told.offered.add(token)
        self._note(f"offer {token}")
        return token

    def _acknowledge(self, token: str) -> None:
        self.told.acknowledged.add(token)
        self._note(f"ack {token}")

    # --- snapshots ------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        self._running()
        try:
            with Client(self.layout, STEP_S) as client:
                reply = client.ask("peel", noun(["treadle", "status"]))
        except TreadleError as error:
            raise self._lost_touch(error) from error
        assert isinstance(reply, Cell)
        value: dict[str, Any] = json.loads(cord_text(reply.tail))
        return value

    def wait_saved(self, seconds: float = 10.0) -> None:
        """Until a snapshot of the last event is there (start it with a short
        `--snapshot-every`); one that cannot be saved is not waited for."""
        end = time.monotonic() + seconds
        while True:
            status = self.status()
            if status["snapshot_event"] == status["event"]:
                self._saved(status["event"])
                return
            words = self.words
            put_off = "snapshot put off" in words or "declined to save" in words
            if put_off or time.monotonic() > end:
                return
            time.sleep(0.02)

    def pin(self, name: str) -> None:
        """`treadle pin`; what was pinned under this name goes first."""
        if name in self._care("pins")["pins"]:
            self.unpin(name)
        event = self._care("pin", name=name)["event"]
        self.told.pins[name] = event
        self._note(f"pinned {name} {event}")
        self._saved(event)

    def unpin(self, name: str) -> None:
        """`treadle unpin`."""
        self.told.pins.pop(name, None)
        self._note(f"unpinning {name}")
        self._care("unpin", name=name)

    def _care(self, verb: str, **arguments: object) -> dict[str, Any]:
        """A verb of care's result. One that fails is no fault of the pier's."""
        self._running()
        words = json.dumps(arguments)
        try:
            with Client(self.layout, STEP_S) as client:
                reply = client.follow("care", verb, words, step=lambda _: None)
        except TreadleError as error:
            if error.code == "conn-timeout":
                raise Hang(error.message) from error
            raise self._lost_touch(error) from error
        if not isinstance(reply, Cell) or reply.head != cord("care"):
            raise Over(f"{verb} was refused")
        value: dict[str, Any] = json.loads(cord_text(reply.tail))
        return value

    def _saved(self, event: int) -> None:
        self.told.snapshot_event = event
        self._note(f"saved {event}")
