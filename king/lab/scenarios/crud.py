"""Events that crash the kernel, between others that do not."""

from king.lab.pair import Hand


def play(hand: Hand) -> None:
    hand.start()
    hand.poke(2)
    hand.fail(3)
    hand.poke(2)
    hand.stop()
