"""A copy whose log is older than its snapshot is adopted, and goes on from its log."""

import shutil
from dataclasses import replace

from king.lab.pair import Hand
from king.manifest import read_manifest, write_manifest


def ready(hand: Hand) -> None:
    """More is lost of the log than the snapshots before the newest cover."""
    log, older = hand.layout.log_dir, hand.pier.parent / "older"
    hand.start()
    hand.stop()
    shutil.copytree(log, older)
    for _ in range(2):
        hand.start()
        hand.stop()
    shutil.rmtree(log)
    older.rename(log)
    manifest = read_manifest(hand.layout.manifest)
    assert manifest is not None
    write_manifest(hand.layout.manifest, replace(manifest, copy="it is a snapshot"))
    hand.told.adopted = False


def play(hand: Hand) -> None:
    hand.adopt()
    hand.start()
    hand.poke(2)
    hand.stop()
