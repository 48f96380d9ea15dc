"""States that are pinned and let go while the ship saves."""

from king.lab.pair import Hand


def play(hand: Hand) -> None:
    hand.start("--snapshot-every", "0.02")
    hand.poke(2, size=300)
    hand.pin("first")
    for _ in range(3):
        hand.poke(2, size=300)
        hand.wait_saved()
    hand.pin("second")
    hand.poke()
    hand.unpin("first")
    for _ in range(3):
        hand.poke(size=300)
        hand.wait_saved()
    hand.stop()
