"""The judge of recordings: it takes real runs, and no mutilated ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from king.lab.protocol import judge
from king.lab.recorder import make_file, open_notes, read_recording
from proto.record import RECORD_SIZE, Action, Note, Notes, read_notes

Step = tuple[Action, int, int]


def run(*steps: Step) -> list[Note]:
    return [Note(at, *step, 0) for at, step in enumerate(steps)]


A = Action
START: list[Step] = [(A.KING_START, 0, 0), (A.LOAD, 0, 0), (A.LIVE, 0, 0)]
EVENT: list[Step] = [
    (A.OFFER, 1, 0),
    (A.SEND, 1, 1),
    (A.APPLY, 1, 1),
    (A.RECEIVE, 1, 1),
    (A.COMMIT, 1, 1),
    (A.RELEASE, 1, 0),
]
SAVE: list[Step] = [
    (A.ASK_SAVE, 2, 1),
    (A.FREEZE, 2, 1),
    (A.DO_SAVE, 2, 1),
    (A.RECEIVE, 2, 1),
]
DEATH: list[Step] = [
    (A.OFFER, 2, 1),
    (A.OFFER, 3, 1),
    (A.OFFER, 4, 0),
    (A.SEND, 2, 3),
    (A.SEND, 4, 4),
    (A.SEND, 3, 5),
    (A.APPLY, 3, 2),
    (A.RECEIVE, 3, 2),
    (A.APPLY, 4, 3),  # never heard of
    (A.SERF_DIE, 0, 0),
    (A.COMMIT, 2, 2),
    (A.RELEASE, 2, 0),
    (A.RESTART, 0, 0),
    (A.LOAD, 1, 0),
    (A.REPLAY, 2, 0),
    (A.LIVE, 2, 0),
    (A.SEND, 4, 6),
    (A.APPLY, 6, 3),
    (A.RECEIVE, 6, 3),
    (A.SEND, 3, 7),
    (A.APPLY, 7, 0),
    (A.RECEIVE, 7, 0),
    (A.COMMIT, 3, 3),
    (A.RELEASE, 3, 0),
]
SECOND_KING: list[Step] = [
    (A.KING_START, 3, 0),
    (A.LOAD, 1, 0),
    (A.REPLAY, 3, 0),
    (A.LIVE, 3, 0),
    (A.OFFER, 1, 0),
    (A.OFFER, 2, 0),
    (A.GIVE_UP, 2, 0),
    (A.SEND, 1, 1),
    (A.APPLY, 1, 4),
    (A.RECEIVE, 1, 4),
    (A.COMMIT, 4, 4),
    (A.RELEASE, 4, 0),
]
WHOLE = [*START, *EVENT, *SAVE, *DEATH, *SECOND_KING]


def test_a_whole_life_is_accepted() -> None:
    assert judge(run(*WHOLE)) is None


def test_serfs_without_notes_are_filled_in() -> None:
    serfs = {A.LOAD, A.REPLAY, A.APPLY, A.FREEZE, A.DO_SAVE}
    assert judge(run(*(step for step in WHOLE if step[0] not in serfs))) is None


def test_a_death_between_commit_and_its_note_is_accepted() -> None:
    cut = [*START, *EVENT[:4], (A.KING_START, 1, 0), (A.LOAD, 0, 0), (A.REPLAY, 1, 0)]
    assert judge(run(*cut, (A.LIVE, 1, 0))) is None


def test_a_failed_commit_may_be_durable_or_not() -> None:
    failed = [*START, *EVENT[:4], (A.DISK_ERROR, 0, 0)]
    for last in (0, 1):
        assert judge(run(*failed, (A.KING_START, last, 0), (A.LOAD, 0, 0))) is None
    assert "nobody made" in str(judge(run(*failed, (A.KING_START, 2, 0))))
    assert "went on" in str(judge(run(*failed, (A.COMMIT, 1, 1))))


def test_a_failed_save_may_be_there_or_not() -> None:
    """The sync of its superblock failed, and the superblock was written."""
    failed = [*START, *EVENT, *SAVE[:2], (A.DO_SAVE, 2, 0), (A.RECEIVE, 2, 0)]
    for snapshot in (0, 1):
        ending = [(A.KING_START, 1, 0), (A.LOAD, snapshot, 0)]
        assert judge(run(*failed, *ending)) is None
    declined = [*START, *EVENT, SAVE[0], (A.FREEZE, 2, 0), (A.RECEIVE, 2, 0)]
    assert "no snapshot" in str(judge(run(*declined, *ending)))


def test_a_save_cut_short_may_be_there_or_not() -> None:
    cut = [*START, *EVENT, SAVE[0], (A.SERF_DIE, 0, 0), (A.RESTART, 0, 0)]
    for event in (0, 1):
        assert judge(run(*cut, (A.LOAD, event, 0))) is None
    cut.remove(SAVE[0])
    assert "no snapshot" in str(judge(run(*cut, (A.LOAD, 1, 0))))


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        (EVENT, "begins with KingStart"),
        ([*START, *EVENT[:4], EVENT[5]], "nothing is durable"),
        ([*START, *EVENT, EVENT[5]], "nothing is durable"),
        ([*START, *EVENT[:2], EVENT[3]], "the serf has said nothing"),
        ([*START, EVENT[1]], "is not waiting"),
        ([*START, *EVENT[:2], EVENT[1]], "is not waiting"),
        ([*START, *EVENT[:2], (A.APPLY, 1, 2)], "applied as event 2"),
        ([*START, *EVENT[:2], (A.APPLY, 2, 1)], "request 2 was not sent"),
        ([*START, *EVENT[:3], (A.RECEIVE, 1, 2)], "heard event 2"),
        ([*START, *EVENT[:4], (A.COMMIT, 2, 2)], "1 is next"),
        ([*START, *EVENT[:4], (A.COMMIT, 1, 2)], "2 of 1 answers"),
        ([*START, *EVENT[:4], (A.ASK_SAVE, 2, 0)], "uncommitted"),
        ([*START, *EVENT[:2], (A.ASK_SAVE, 2, 0)], "unanswered"),
        ([*START, *EVENT, *SAVE[:2], (A.DO_SAVE, 2, 0), SAVE[3]], None),
        ([*START, *EVENT, SAVE[0], (A.FREEZE, 2, 0), (A.RECEIVE, 2, 0)], None),
        ([*START, *EVENT, SAVE[0], *SAVE[2:]], "frozen was 0"),
        ([*START, *EVENT, SAVE[0], SAVE[3]], "the serf has said nothing"),
        ([*START, *EVENT[:4], (A.SERF_DIE, 0, 0), (A.RESTART, 0, 0)], "not committed"),
        ([*START, *EVENT[:2], (A.GIVE_UP, 1, 0)], "at a living serf"),
        ([*START, *EVENT, (A.KING_START, 0, 0)], "gone from the log"),
        ([*START, *EVENT, (A.KING_START, 1, 0), (A.LOAD, 2, 0)], "no snapshot"),
        ([*START, *EVENT, (A.SERF_DIE, 0, 0), (A.RESTART, 0, 0), (A.LOAD, 0, 0),
          (A.LIVE, 1, 0)], "the serf is at event 0"),
        ([*START, (A.OFFER, 1, 0), (A.OFFER, 2, 0), (A.SEND, 2, 1)], "older"),
        ([*START, (A.KING_DIE, 0, 0)], "nobody can note"),
    ],
)  # fmt: skip
def test_a_broken_law_is_named(steps: list[Step], why: str | None) -> None:
    found = judge(run(*steps))
    assert found is None if why is None else why in str(found)


# --- mutilation -------------------------------------------------------------

Mutilation = Callable[[list[Step], int], list[Step]]


def _drop(steps: list[Step], at: int) -> list[Step]:
    return steps[:at] + steps[at + 1 :]


def _double(steps: list[Step], at: int) -> list[Step]:
    return steps[: at + 1] + steps[at:]


def _swap(steps: list[Step], at: int) -> list[Step]:
    return [*steps[:at], *steps[at : at + 2][::-1], *steps[at + 2 :]]


def _renumber(steps: list[Step], at: int) -> list[Step]:
    action, number, other = steps[at]
    return [*steps[:at], (action, number + 1, other + 1), *steps[at + 1 :]]


# What may be mutilated so, because another run of the model looks like that.
INNOCENT = {
    # a serf without notes; a send, an answer or a release that a death cut off;
    # a refusal of which nobody was told before the king's end
    _drop: {"Load", "Send", "Apply", "Receive", "Release", "GiveUp"},
    # starts that came to nothing, and a Play of no rows
    _double: {"KingStart", "Load", "Restart", "Replay"},
    # steps that touch different things
    _swap: {
        ("Live", "Offer"),
        ("Release", "AskSave"),
        ("Receive", "Offer"),
        ("Offer", "Send"),
        ("Send", "Apply"),
        ("Receive", "Apply"),
        ("SerfDie", "Commit"),
        ("Release", "Restart"),
        ("Receive", "Send"),
        ("Receive", "Commit"),
        ("GiveUp", "Send"),
    },
    # they have no numbers
    _renumber: {"SerfDie", "Restart"},
}


@pytest.mark.parametrize("mutilate", INNOCENT)
def test_a_mutilated_recording_is_rejected(mutilate: Mutilation) -> None:
    """At nearly every place; where not, it is the kind that can happen."""
    accepted = set()
    count = 0
    for at in range(len(WHOLE) - 1):
        if judge(run(*mutilate(WHOLE, at))) is None:
            count += 1
            names = (WHOLE[at][0].title, WHOLE[at + 1][0].title)
            accepted.add(names if mutilate is _swap else names[0])
    assert accepted == INNOCENT[mutilate]
    assert count <= 12


# --- the files --------------------------------------------------------------


def test_notes_are_read_back_in_the_order_of_time(tmp_path: Path) -> None:
    king = open_notes(make_file(tmp_path / "notes", "king"))
    serf = open_notes(make_file(tmp_path / "notes", "serf"))
    king(A.KING_START, 5)
    serf(A.LOAD, 5)
    king(A.LIVE, 5)
    king(A.OFFER, 1, (1 << 64) - 1)
    notes = read_recording(tmp_path / "notes")
    assert [note[1:4] for note in notes] == [
        (A.KING_START, 5, 0),
        (A.LOAD, 5, 0),
        (A.LIVE, 5, 0),
        (A.OFFER, 1, (1 << 64) - 1),
    ]
    assert judge(notes) is None


def test_a_full_recording_says_so() -> None:
    room = bytearray(3 * RECORD_SIZE)
    notes = Notes(room, 1)
    for number in range(3):
        notes(A.OFFER, number)
    assert [note.number for note in read_notes(room)] == [0, 1, 2]
    notes(A.OFFER, 3)
    with pytest.raises(ValueError, match="full"):
        list(read_notes(room))


def test_a_file_that_is_no_recording_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.notes").write_bytes(b"c" * 64)
    with pytest.raises(ValueError, match=r"a\.notes"):
        read_recording(tmp_path)
