"""A ship is booted, started and stopped: there is a whole pier, or none."""

from king.lab.pair import Hand

FRESH = True


def play(hand: Hand) -> None:
    hand.boot()
    hand.start()
    hand.poke(2)
    hand.stop()
