"""Epochs begin while the ship runs, and while it rests; each keeps a state."""

from king.lab.pair import Hand


def play(hand: Hand) -> None:
    hand.start()
    hand.poke(2)
    hand.roll()
    hand.poke(2)
    hand.stop()
    hand.roll()
    hand.start()
    hand.poke()
    hand.stop()
