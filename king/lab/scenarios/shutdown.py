"""Nothing but starts and stops."""

from king.lab.pair import Hand


def play(hand: Hand) -> None:
    for _ in range(2):
        hand.start()
        hand.stop()
