"""A whole copy is taken while the ship runs: it is whole, or has no name."""

from king.lab.pair import Hand


def play(hand: Hand) -> None:
    hand.start()
    hand.poke(3)
    hand.snapshot()
    hand.poke(2)
    hand.stop()
