"""Kill the pair at random under load: nothing acknowledged is lost.

People PUT over HTTP without a pause; king, serf or both are killed with
SIGKILL at random moments; the next start must need no help.
The oracle: what the clients were told, `treadle check`, the log as LMDB has
it, and a replay from the first event.

TREADLE_KILL_ROUNDS: how many kills (10). TREADLE_KILL_SEED: the same again.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest

from proto.cord import cord_text
from proto.jam import cue
from proto.noun import Cell, atom_bytes, noun, slot
from tests.support.whole_ship import STRETCH, WholeShip, boot, treadle, wait_for

ROUNDS = int(os.environ.get("TREADLE_KILL_ROUNDS", "10"))
SEED = int(os.environ.get("TREADLE_KILL_SEED", str(random.randrange(1 << 32))))
WRITERS = 4


class Writer(threading.Thread):
    """PUTs 1, 2, 3... under its own key, and remembers what it was told."""

    def __init__(self, key: str, ship: WholeShip, over: threading.Event) -> None:
        super().__init__(daemon=True)
        self.key = key
        self.tried = 0
        self.acknowledged = 0
        self.all_acknowledged: list[int] = []
        self.refused: list[int] = []
        self._ship = ship
        self._over = over

    def run(self) -> None:
        while not self._over.is_set():
            with contextlib.suppress(OSError, http.client.HTTPException):
                self._talk(self._ship.live_port)
            time.sleep(0.02)

    def _talk(self, port: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20 * STRETCH)
        try:
            while not self._over.is_set():
                self.tried += 1
                value = self.tried
                connection.request("PUT", f"/kv/{self.key}", str(value).encode())
                response = connection.getresponse()
                response.read()
                if response.status in (201, 204):
                    self.all_acknowledged.append(value)
                    self.acknowledged = value
                else:
                    self.refused.append(response.status)
        finally:
            connection.close()


def look(ship: WholeShip, writers: list[Writer], floors: list[int]) -> None:
    """Each key holds its newest acknowledged value, or a later one."""
    for writer, floor in zip(writers, floors, strict=True):
        status, body = ship.http("GET", f"/kv/{writer.key}")
        if floor == 0 and status == 404:
            continue
        assert status == 200, (writer.key, status, body)
        value = int(body)
        assert floor <= value <= writer.tried, (
            f"{writer.key}: {floor} was acknowledged, {value} is there"
        )


@pytest.mark.slow
@pytest.mark.timeout(60 + 20 * ROUNDS)
def test_random_kills_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    print(f"TREADLE_KILL_SEED={SEED} TREADLE_KILL_ROUNDS={ROUNDS}")
    rng = random.Random(SEED)
    over = threading.Event()
    kills = {"king": 0, "serf": 0, "both": 0}
    with boot(tmp_path / "zod") as ship:
        # Frequent snapshots, so that kills fall into saves as well.
        options = ("--snapshot-every", "0.4")
        ship.start(*options)
        writers = [Writer(f"w{index}", ship, over) for index in range(WRITERS)]
        ship.live_port = ship.port
        for writer in writers:
            writer.start()
        for round_number in range(ROUNDS):
            time.sleep(rng.random() ** 2 * 1.5)
            # Every kind early on, then any.
            kinds = list(kills)
            victim = kinds[round_number] if round_number < 3 else rng.choice(kinds)
            kills[victim] += 1
            where = f"round {round_number}, {victim}, seed {SEED}"
            serf = ship.serf_pid()
            floors = [writer.acknowledged for writer in writers]
            if victim == "serf":
                king = ship.pid
                if serf:
                    os.kill(serf, signal.SIGKILL)
                # The king lives on, raises another, and takes PUTs again.
                for writer in writers:
                    wait_for(
                        lambda w=writer, f=floors: w.acknowledged > f[writers.index(w)],
                        f"{where}: PUTs go on\n{ship.words[-2000:]}",
                    )
                assert ship.pid == king
                assert ship.king is not None
                assert ship.king.poll() is None, where
            else:
                if victim == "both" and serf:
                    first, second = rng.sample([serf, ship.pid], 2)
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(first, signal.SIGKILL)
                        os.kill(second, signal.SIGKILL)
                ship.kill()
                floors = [writer.acknowledged for writer in writers]
                # At once, with no help: the orphan may still be leaving.
                ship.start(*options)
                ship.live_port = ship.port
            look(ship, writers, floors)
        over.set()
        for writer in writers:
            writer.join(30)
        floors = [writer.acknowledged for writer in writers]
        look(ship, writers, floors)
        assert ship.stop() == 0
        assert sum(writer.acknowledged > 0 for writer in writers) == WRITERS
        check_log(ship, writers)
        ship.check()
        ran = treadle("replay", ship.pier, "--from-scratch", "--json", timeout=300)
        assert ran.code == 0, ran.err
        last = ship.log()[-1]
        assert (ran.json["event"], int(ran.json["mug"], 16)) == (last.number, last.mug)
        counts = [len(writer.all_acknowledged) for writer in writers]
        print(f"{kills}, {sum(counts)} PUTs acknowledged, {last.number} events")


def check_log(ship: WholeShip, writers: list[Writer]) -> None:
    """Each acknowledged PUT is in the log once, and in order."""
    logged: dict[str, list[int]] = {writer.key: [] for writer in writers}
    stamp = 0
    for row in ship.log():
        if row.mug == 0:
            continue  # of the boot
        job = cue(row.job)
        assert isinstance(job, Cell)
        assert isinstance(job.head, int)
        assert job.head > stamp, f"event {row.number} turns the clock back"
        stamp = job.head
        if row.tag != noun("request"):
            continue
        request = slot(row.ovum, 31)  # [method url headers body]
        if slot(request, 2) != noun("PUT"):
            continue
        key = cord_text(slot(request, 6)).rsplit("/", 1)[1]
        body = slot(request, 15)
        assert isinstance(body, Cell)
        logged[key].append(int(atom_bytes(slot(body, 7))))
    for writer in writers:
        values = logged[writer.key]
        assert values == sorted(set(values)), f"{writer.key}: doubled or out of order"
        missing = set(writer.all_acknowledged) - set(values)
        assert not missing, f"{writer.key}: acknowledged, not in the log: {missing}"
