"""Old epochs are archived and chopped while the ship runs: nothing is lost."""

from king.lab.pair import Hand


def play(hand: Hand) -> None:
    hand.start()
    for _ in range(3):
        hand.poke()
        hand.roll()
    hand.poke()
    hand.archive()
    hand.poke()
    hand.stop()
