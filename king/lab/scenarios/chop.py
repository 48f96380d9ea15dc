"""Old epochs are chopped, at rest and while the ship runs: what is left is whole."""

import shutil

from king.lab.judge import AWAY
from king.lab.pair import Hand
from king.log.epoch import find_epochs


def ready(hand: Hand) -> None:
    """Five epochs; copies of those that are to go."""
    for _ in range(4):
        hand.start()
        hand.stop()
        hand.roll()
    epochs, _ = find_epochs(hand.layout.log_dir)
    for epoch in epochs[:-2]:
        shutil.copytree(epoch.path, hand.pier.parent / AWAY / epoch.path.name)


def play(hand: Hand) -> None:
    hand.chop("--keep", "4")
    hand.start()
    hand.poke(2)
    hand.chop()
    hand.poke()
    hand.stop()
