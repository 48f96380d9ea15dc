"""Small events, one after the other, each awaited until it is durable."""

from king.lab.pair import Hand


def play(hand: Hand) -> None:
    hand.start()
    hand.poke(12)
    hand.stop()
