"""Web requests with large bodies: what answers is an effect of its event."""

from king.lab.pair import Hand

NEEDS_PAGE = True


def play(hand: Hand) -> None:
    hand.start()
    hand.put(4, size=60_000)
    hand.get()
    hand.put(2)
    hand.stop()
