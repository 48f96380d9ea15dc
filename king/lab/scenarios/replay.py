"""The log is replayed from its first event, and the ship goes on from there."""

from king.lab.pair import Hand


def play(hand: Hand) -> None:
    hand.replay("--from-scratch")
    hand.start()
    hand.poke(2)
    hand.stop()
