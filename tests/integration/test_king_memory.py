"""Nothing in the king may grow with the number of events: the whole path from
conn.sock to the log and back, traced, around the fake serf.

What the process takes from the system is no measure for this: it rises in steps
to a plateau, as bursts find the allocator's room in pieces.
"""

from __future__ import annotations

import gc
import tracemalloc
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from king.daemon import Instance, listen_unix
from king.drivers.conn import conn
from king.event import Effect
from king.log.store import LmdbStore, Meta, create_store
from king.released import ReleasedMark
from king.router import Channel
from king.status import Rate
from proto import fast
from proto.jam import jam
from proto.noun import noun
from tests.support.live_rig import LOG, Rig, open_rig

WINDOW = 256
EARLY, LATE = 20_000, 60_000
SLACK = 8 * (LATE - EARLY)
"""Not even a pointer an event. (Trio keeps up to 1,000 deadlines that passed.)"""


def newt(*words: Any) -> bytes:
    body = jam(noun(*words))
    return b"\0" + len(body).to_bytes(4, "little") + body


async def talk(stream: trio.abc.Stream, count: int) -> None:
    """`count` events, each acknowledged, WINDOW in flight."""
    request, answer = (
        newt(7, "ovum", 0, ["test"], "nothing", 1),
        newt(7, "news", "done"),
    )
    sent = heard = 0
    rest = b""
    while heard < count:
        size = min(WINDOW - (sent - heard), count - sent)
        sent += size
        if size:
            await stream.send_all(request * size)
        data = rest + await stream.receive_some(65_536)
        full, left = divmod(len(data), len(answer))
        assert data.startswith(answer * full)
        rest = data[len(data) - left :]
        heard += full


def traced() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


@pytest.mark.timeout(300)
async def test_the_king_does_not_grow_with_its_events(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    create_store(folder, Meta(0, True, 0), map_size=1 << 30)
    log = LmdbStore(folder, map_size=1 << 30)
    mark = ReleasedMark(tmp_path / "released", LOG)
    rate = Rate()
    channel = Channel()

    class Forgetful(Rig):
        def _released(self, event: int) -> None:
            mark.set(event)
            rate.add(event, 0)

        def _hand(self, event: int, effects: tuple[Effect, ...]) -> None:
            for effect in effects:
                channel.put(event, effect)

    taken = 0

    async def take() -> None:
        nonlocal taken
        async for _ in channel:
            taken += 1

    settings: dict[str, Any] = {"record": None, "stamp": fast.stamp}
    settings["options"] = ("--fast",)
    async with open_rig(tmp_path, log, kind=Forgetful, **settings) as rig:
        clients = Channel()
        serve: dict[str, Any] = {
            "inject": rig.inject,
            "effects": clients,
            "peek": rig.spine.peek,
            "listener": listen_unix(tmp_path / "conn.sock"),
            "instance": Instance(1),
            "log": rig.told.append,
            "facts": {},
            "slow_facts": {},
            "urth": rig.told.append,
            "care": None,
        }
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take)
            nursery.start_soon(partial(conn, **serve))
            stream = await trio.open_unix_socket(str(tmp_path / "conn.sock"))
            async with stream:
                await talk(stream, 1000)
                tracemalloc.start()
                try:
                    await talk(stream, EARLY - 1000)
                    early = traced()
                    await talk(stream, LATE - EARLY)
                    late = traced()
                finally:
                    tracemalloc.stop()
            nursery.cancel_scope.cancel()
        assert log.last > LATE
        assert taken > LATE, "effects did not reach their driver"
        assert rate.total > LATE
    mark.close(log.last, clean=True)
    log.close()
    print(f"traced after {EARLY} events: {early}, after {LATE}: {late}")
    assert late - early < SLACK
