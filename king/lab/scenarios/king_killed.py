"""The king is killed with events that no snapshot has; the next one goes on."""

from king.lab.pair import Hand


def play(hand: Hand) -> None:
    hand.start()
    hand.poke(4)
    hand.crash()
    hand.start()
    hand.poke(2)
    hand.stop()
