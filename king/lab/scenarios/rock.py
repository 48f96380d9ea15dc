"""A ship's state is exported while it runs, and a pier made of it: whole, or not."""

from king.lab.pair import Hand


def play(hand: Hand) -> None:
    hand.start()
    hand.poke(3)
    hand.roll()
    hand.carry_state()
    hand.poke(2)
    hand.stop()
