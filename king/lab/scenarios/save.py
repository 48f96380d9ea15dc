"""Snapshots while the ship lives: more than the ring of superblocks has."""

from king.lab.pair import Hand


def play(hand: Hand) -> None:
    hand.start("--snapshot-every", "0.02")
    for _ in range(6):
        hand.poke(2, size=400)
        hand.wait_saved()
    hand.poke()
    hand.stop()
