"""A ship starts from the snapshot that Vere left, for its log alone is not enough."""

import shutil

from king.lab.judge import AWAY
from king.lab.loom import Loom
from king.lab.pair import Hand
from king.log.epoch import find_epochs
from proto.jam import cue
from proto.noun import Cell


def ready(hand: Hand) -> None:
    """Nothing of ours has the state: the log begins with its second epoch."""
    chk = hand.layout.image.parent
    rock = hand.pier.parent / "rock"
    hand.start()
    hand.stop()
    hand.roll()
    hand.command("export", str(hand.pier), str(rock))
    state = cue(rock.read_bytes())  # [%arvo kernel %hashboard cold]
    assert isinstance(state, Cell)
    assert isinstance(state.tail, Cell)
    (first, second), _ = find_epochs(hand.layout.log_dir)
    loom = Loom()
    loom.write(chk / "image.bin", loom.put(state.tail.head), second.start)
    hand.start()
    hand.stop()
    hand.layout.image.unlink()
    for name in ("treadle.image", "treadle.json"):
        (second.path / name).unlink()
    away = hand.pier.parent / AWAY
    away.mkdir()
    shutil.move(first.path, away / first.path.name)
    rock.unlink()
    rock.with_name("rock.json").unlink()
    hand.told.snapshot_event = 0


def play(hand: Hand) -> None:
    hand.start()
    hand.poke(2)
    hand.stop()
