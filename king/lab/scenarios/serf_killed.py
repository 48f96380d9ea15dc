"""The serf is killed under way, twice; the king raises another."""

from king.lab.pair import Hand


def play(hand: Hand) -> None:
    hand.start("--snapshot-every", "0.05")
    hand.poke(3)
    hand.kill_serf()
    hand.poke(3)
    hand.wait_saved()
    hand.kill_serf()
    hand.poke(2)
    hand.stop()
