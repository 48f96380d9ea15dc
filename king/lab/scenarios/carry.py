"""A ship's log is exported while it runs, and a pier made of it: whole, or not."""

from king.lab.pair import Hand


def play(hand: Hand) -> None:
    hand.start()
    hand.poke(3)
    hand.carry()
    hand.poke(2)
    hand.stop()
