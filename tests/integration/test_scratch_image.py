"""A replay from scratch builds its snapshot aside, and leaves none behind."""

from __future__ import annotations

from pathlib import Path

import lmdb

from tests.support.whole_ship import WholeShip, boot, treadle


def leftovers(ship: WholeShip) -> list[str]:
    image = ship.layout.image
    return [path.name for path in image.parent.iterdir() if path != image]


def test_a_replay_that_diverges_leaves_no_half_snapshot(tmp_path: Path) -> None:
    with boot(tmp_path / "zod") as ship:
        ship.start()
        assert ship.stop() == 0
        last = ship.log()[-1].number
        with lmdb.open(str(ship.layout.log_dir / "0i0"), max_dbs=2) as environment:
            events = environment.open_db(b"EVENTS", integerkey=True, create=False)
            key = (last - 1).to_bytes(8, "little")
            with environment.begin(db=events, write=True) as transaction:
                value = bytearray(transaction.get(key) or b"")
                value[0] ^= 1
                transaction.put(key, bytes(value))
        before = ship.layout.image.read_bytes()
        ran = treadle("replay", ship.pier, "--from-scratch")
        assert ran.fault == "replay-diverged"
        assert leftovers(ship) == []
        assert ship.layout.image.read_bytes() == before


def test_what_a_killed_replay_left_is_cleared_at_a_start(tmp_path: Path) -> None:
    with boot(tmp_path / "zod") as ship:
        left = ship.layout.image.with_name("treadle.image.replay")
        left.write_bytes(bytes(1 << 20))
        ship.start()
        assert leftovers(ship) == []
        assert ship.stop() == 0
        ran = treadle("replay", ship.pier, "--from-scratch")
        assert ran.code == 0
        assert leftovers(ship) == []
        ship.check()
