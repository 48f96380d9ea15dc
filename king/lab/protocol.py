"""The protocol as a relation that runs: what may follow what.

What it is: proto/model/Treadle.tla in Python, action by action and variable
    by variable (a test walks the model's whole state graph in both and finds
    the same); and `Judge`, which follows a recorded run (proto/record.py) in
    it and rejects the first step that no run of the model can take.
Owns: nothing.
Invariants: the rules stand here once: `Judge` only finds out which action,
    with which arguments, a note means, and fills in what nobody could note
    (a killed king writes no farewell; a serf without notes of its own).
Limits: a recording begins with KING_START; what was in the log by then is
    taken as given, and so is that any snapshot of it may exist.

An event is a number, its identity: 1, 2, 3... in the order of offering, over
all kings; negative, what was in the log before the recording began.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import dataclass, field, fields
from typing import Any

from proto.record import Action, Note

__all__ = ["RULES", "Broken", "Judge", "Message", "State", "judge"]

Message = tuple[str, int, int]
"""Kind, number, event: work (0, e); save (n, 0); done (n, e); bail (0, e);
saved (0, 0)."""


class Broken(Exception):
    """A step that the protocol does not allow, in words."""


@dataclass(slots=True)
class State:
    """The model's variables, under its names."""

    offered: int = 0
    queue: list[int] = field(default_factory=list)
    again: deque[int] = field(default_factory=deque)
    flight: deque[int] = field(default_factory=deque)
    to: deque[Message] = field(default_factory=deque)
    back: deque[Message] = field(default_factory=deque)
    """`from` in the model: a word that Python needs."""
    computed: deque[Message] = field(default_factory=deque)
    pending: deque[int] = field(default_factory=deque)
    arena: list[int] = field(default_factory=list)
    frozen: list[list[int]] = field(default_factory=list)
    serf: str = "spawned"
    king: str = "up"
    log: list[int] = field(default_factory=list)
    snap: list[int] = field(default_factory=list)
    out: list[tuple[int, int]] = field(default_factory=list)
    reported: set[int] = field(default_factory=set)
    lane: dict[int, int] = field(default_factory=dict)
    """Event to lane: a function of the event in the model."""

    def copy(self) -> State:
        return State(*(copy(getattr(self, one.name)) for one in fields(self)))


def _need(condition: bool, why: str) -> None:
    if not condition:
        raise Broken(why)


def _king_lives(s: State) -> None:
    _need(s.king == "up", "there is no king")


# --- the king's actions -----------------------------------------------------


def _offer(s: State, event: int, lane: int) -> None:
    _king_lives(s)
    _need(event == s.offered + 1, f"event {event} is offered after {s.offered}")
    s.offered = event
    s.lane[event] = lane
    s.queue.append(event)


def _send(s: State, event: int) -> None:
    _king_lives(s)
    _need(s.serf == "live", "no serf is live")
    if s.again:
        _need(s.again[0] == event, f"event {s.again[0]} is to be sent again first")
        s.again.popleft()
    else:
        _need(event in s.queue, f"event {event} is not waiting")
        for other in s.queue:
            if other == event:
                break
            _need(
                s.lane[other] != s.lane[event],
                f"event {other} of the same lane is older than {event}",
            )
        s.queue.remove(event)
    s.to.append(("work", 0, event))
    s.flight.append(event)


def _give_up(s: State, event: int) -> None:
    _king_lives(s)
    if event in s.queue:
        s.queue.remove(event)
    elif event in s.again:
        s.again.remove(event)
    else:
        _need(event in s.flight, f"event {event} waits for nothing")
        _need(s.serf == "down", f"event {event} is at a living serf")
        _need(not s.back, "not all that the dead serf said was heard")
        s.flight.remove(event)
    s.reported.add(event)


def _receive(s: State) -> None:
    _king_lives(s)
    _need(bool(s.back), "the serf has said nothing")
    message = s.back.popleft()
    kind, _, event = message
    if kind == "done":
        s.computed.append(message)
    elif kind == "bail":
        s.reported.add(event)
    if kind != "saved" and s.flight:
        s.flight.popleft()


def _commit(s: State, count: int) -> None:
    _king_lives(s)
    _need(0 < count <= len(s.computed), f"{count} of {len(s.computed)} answers")
    for _ in range(count):
        _, number, event = s.computed.popleft()
        s.log.append(event)
        s.pending.append(number)


def _release(s: State) -> None:
    _king_lives(s)
    _need(bool(s.pending), "nothing is durable and not yet released")
    number = s.pending.popleft()
    s.out.append((number, s.log[number - 1]))


def _ask_save(s: State) -> None:
    _king_lives(s)
    _need(s.serf == "live", "no serf is live")
    saving = any(m[0] == "save" for m in s.to) or any(m[0] == "saved" for m in s.back)
    _need(not saving and not s.frozen, "a save is under way")
    _need(not s.flight and not s.again, "a save while something is unanswered")
    _need(not s.computed, "a save while something is uncommitted")
    s.to.append(("save", len(s.log), 0))


def _restart(s: State) -> None:
    _king_lives(s)
    _need(s.serf == "down", "the old serf lives")
    _need(not s.back, "not all that the dead serf said was heard")
    _need(not s.computed, "what the dead serf answered is not committed")
    s.serf = "spawned"
    s.to.clear()
    s.again.extendleft(reversed(s.flight))
    s.flight.clear()


def _king_start(s: State) -> None:
    _need(s.king == "down", "the old king lives")
    s.king, s.serf = "up", "spawned"
    s.pending.clear()


# --- the serf's -------------------------------------------------------------


def _load(s: State, count: int) -> None:
    _king_lives(s)
    _need(s.serf == "spawned", "the serf is no new one")
    _need(0 <= count <= len(s.snap), f"no snapshot of event {count} was made")
    s.arena = s.snap[:count]
    s.serf = "replay"


def _replay(s: State) -> None:
    _king_lives(s)
    _need(s.serf == "replay", "the serf is not replaying")
    _need(len(s.arena) < len(s.log), "the serf has the whole log")
    s.arena.append(s.log[len(s.arena)])


def _save_in_replay(s: State) -> None:
    _king_lives(s)
    _need(s.serf == "replay", "the serf is not replaying")
    s.snap = list(s.arena)


def _live(s: State) -> None:
    _king_lives(s)
    _need(s.serf == "replay", "the serf is not replaying")
    _need(
        len(s.arena) == len(s.log),
        f"the serf is at event {len(s.arena)}, the log at {len(s.log)}",
    )
    s.serf = "live"


def _apply(s: State, bails: bool) -> None:
    _king_lives(s)
    _need(s.serf == "live", "no serf is live")
    _need(bool(s.to) and s.to[0][0] == "work", "the serf was not given this work")
    event = s.to.popleft()[2]
    if bails:
        s.back.append(("bail", 0, event))
    else:
        s.arena.append(event)
        s.back.append(("done", len(s.arena), event))


def _freeze(s: State, freezes: bool) -> None:
    _king_lives(s)
    _need(s.serf == "live", "no serf is live")
    _need(bool(s.to) and s.to[0][0] == "save", "the serf was not told to save")
    if freezes:
        _need(s.to[0][1] == len(s.arena), f"froze {len(s.arena)}, not {s.to[0][1]}")
        s.frozen.append(list(s.arena))
    else:
        s.back.append(("saved", 0, 0))
    s.to.popleft()


def _do_save(s: State, saves: bool) -> None:
    _king_lives(s)
    _need(s.serf == "live", "no serf is live")
    _need(bool(s.frozen), "the serf is not saving")
    frozen = s.frozen.pop()
    if saves:
        s.snap = frozen
    s.back.append(("saved", 0, 0))


# --- misfortune -------------------------------------------------------------


def _serf_die(s: State, heard: int) -> None:
    """`heard`: how much of what it said can still be heard."""
    _king_lives(s)
    _need(s.serf != "down", "the serf is dead already")
    s.serf = "down"
    s.arena = []
    s.frozen = []
    s.to.clear()
    while len(s.back) > heard:
        s.back.pop()


def _king_die(s: State) -> None:
    _king_lives(s)
    s.king = s.serf = "down"
    s.arena = []
    s.frozen = []
    s.queue.clear()
    for gone in (s.again, s.flight, s.to, s.back, s.computed, s.pending):
        gone.clear()


def _disk_error(s: State, durable: int) -> None:
    """`durable`: how much of what was answered got into the log all the same."""
    _king_lives(s)
    _need(bool(s.computed), "there was nothing to commit")
    _need(0 <= durable <= len(s.computed), "more is durable than was answered")
    s.log += [event for _, _, event in list(s.computed)[:durable]]
    _king_die(s)


RULES: dict[Action, Callable[..., None]] = {
    Action.OFFER: _offer,
    Action.SEND: _send,
    Action.GIVE_UP: _give_up,
    Action.RECEIVE: _receive,
    Action.COMMIT: _commit,
    Action.RELEASE: _release,
    Action.ASK_SAVE: _ask_save,
    Action.RESTART: _restart,
    Action.KING_START: _king_start,
    Action.LOAD: _load,
    Action.REPLAY: _replay,
    Action.SAVE_IN_REPLAY: _save_in_replay,
    Action.LIVE: _live,
    Action.APPLY: _apply,
    Action.FREEZE: _freeze,
    Action.DO_SAVE: _do_save,
    Action.SERF_DIE: _serf_die,
    Action.KING_DIE: _king_die,
    Action.DISK_ERROR: _disk_error,
}
"""Each changes the state, or raises Broken and leaves it half changed."""


# --- judging a recording ----------------------------------------------------


class Judge:
    """Follows a run note by note; `step` raises at the first wrong one."""

    def __init__(self) -> None:
        self.state = State(king="down", serf="down")
        self.steps = 0
        self._begun = False
        self._base = 0  # what earlier kings were offered
        self._requests: dict[int, int] = {}  # of this king: to its event
        self._saves: dict[int, int] = {}  # requests, to the event to be saved
        self._serf_notes = False  # this serf keeps notes of its own
        self._perhaps_saved: set[int] = set()  # by serfs that died meanwhile
        self._failed = False  # a commit failed: what is durable is not known yet
        self._meanings: dict[Action, Callable[[int, int], None]] = {
            Action.KING_START: self._king_start,
            Action.OFFER: self._offer,
            Action.SEND: self._send,
            Action.GIVE_UP: self._give_up,
            Action.RECEIVE: self._receive,
            Action.COMMIT: self._commit,
            Action.RELEASE: self._release,
            Action.ASK_SAVE: self._ask_save,
            Action.RESTART: self._restart,
            Action.LIVE: self._live,
            Action.LOAD: self._load,
            Action.REPLAY: self._replay,
            Action.APPLY: self._apply,
            Action.FREEZE: self._freeze,
            Action.DO_SAVE: self._do_save,
            Action.SERF_DIE: self._serf_die,
            Action.DISK_ERROR: self._disk_error,
        }

    def step(self, note: Note) -> None:
        """Take one note.

        :raises Broken: if no run of the model goes on like this.
        """
        if not self._begun and note.action != Action.KING_START:
            raise Broken("a recording begins with KingStart")
        meaning = self._meanings.get(note.action)
        if meaning is None:
            raise Broken("nobody can note this")
        if self._failed and Action.OFFER <= note.action <= Action.LIVE:
            raise Broken("the king went on after a failed commit")
        meaning(note.number, note.other)
        self.steps += 1

    def _do(self, action: Action, *arguments: Any) -> None:
        RULES[action](self.state, *arguments)

    # the king's notes

    def _king_start(self, last: int, _: int) -> None:
        s = self.state
        if not self._begun:
            self._begun = True
            s.log = [-number for number in range(1, last + 1)]
            s.snap = list(s.log)
        elif s.king == "up":
            self._king_ends(last - len(s.log))
        _need(last == len(s.log), f"a log of {len(s.log)} events is now of {last}")
        self._do(Action.KING_START)
        self._base = s.offered
        self._requests.clear()
        self._saves.clear()
        self._serf_notes = False

    def _king_ends(self, more: int) -> None:
        """It was killed, or left; `more` events than it said are in the log."""
        s = self.state
        self._note_cut_save()
        _need(more >= 0, f"{-more} events are gone from the log")
        _need(more <= len(s.computed), f"{more} events in the log that nobody made")
        if self._failed:
            self._failed = False
            self._do(Action.DISK_ERROR, more)
            return
        if more:
            self._do(Action.COMMIT, more)
        self._do(Action.KING_DIE)

    def _note_cut_save(self) -> None:
        """A serf that dies in a save may have saved, and not noted it yet."""
        s = self.state
        if s.serf == "replay":
            self._perhaps_saved.add(len(s.arena))
        self._perhaps_saved.update(len(frozen) for frozen in s.frozen)
        self._perhaps_saved.update(n for kind, n, _ in s.to if kind == "save")

    def _offer(self, ticket: int, lane: int) -> None:
        self._do(Action.OFFER, self._base + ticket, lane)

    def _send(self, ticket: int, request: int) -> None:
        event = self._base + ticket
        self._do(Action.SEND, event)
        _need(request not in self._requests, f"request {request} twice")
        self._requests[request] = event

    def _give_up(self, ticket: int, _: int) -> None:
        self._do(Action.GIVE_UP, self._base + ticket)

    def _receive(self, request: int, number: int) -> None:
        s = self.state
        if not self._serf_notes and not s.back:
            # The serf kept no notes: what it must have done.
            if request in self._saves:
                if not s.frozen:
                    self._do(Action.FREEZE, True)
                self._do(Action.DO_SAVE, number > 0)
            else:
                if s.to and s.to[0][0] == "save":
                    self._do(Action.FREEZE, True)
                self._do(Action.APPLY, number == 0)
        _need(bool(s.back), "the serf has said nothing")
        heard = s.back[0]
        if request in self._saves:
            _need(heard[0] == "saved", f"{heard[0]} heard as an answer to a save")
            asked = self._saves[request]
            _need(number in (0, asked), f"event {number} is saved, not {asked}")
        else:
            event = self._requests.get(request)
            _need(event is not None, f"request {request} was not sent")
            _need(heard[2] == event, f"the answer is to event {heard[2]}, not {event}")
            said = heard[1] if heard[0] == "done" else 0
            _need(said == number, f"heard event {number}; the serf said {said}")
        self._do(Action.RECEIVE)

    def _commit(self, first: int, last: int) -> None:
        expected = len(self.state.log) + 1
        _need(first == expected, f"event {first} is committed, {expected} is next")
        self._do(Action.COMMIT, last - first + 1)

    def _release(self, number: int, _: int) -> None:
        pending = self.state.pending
        if pending:
            _need(pending[0] == number, f"event {pending[0]} is to be released next")
        self._do(Action.RELEASE)

    def _ask_save(self, request: int, number: int) -> None:
        last = len(self.state.log)
        _need(number == last, f"a save of event {number}, the log is at {last}")
        self._do(Action.ASK_SAVE)
        self._saves[request] = number

    def _restart(self, _: int, __: int) -> None:
        if self.state.serf in ("spawned", "replay"):
            self._serf_die(0, 0)  # it never got so far as to be heard
        self._do(Action.RESTART)
        self._serf_notes = False

    def _live(self, number: int, _: int) -> None:
        s = self.state
        if not self._serf_notes and s.serf == "spawned":
            self._do(Action.LOAD, len(s.snap))
            self._replay(len(s.log), 0)
        _need(number == len(s.log), f"live at {number}, the log is at {len(s.log)}")
        self._do(Action.LIVE)

    # the serf's notes

    def _load(self, number: int, _: int) -> None:
        s = self.state
        if s.serf == "replay":
            # The one before did not get through its replay.
            self._serf_die(0, 0)
            self._do(Action.RESTART)
        if number > len(s.snap) and number in self._perhaps_saved:
            s.snap = s.log[:number]
        self._do(Action.LOAD, number)
        self._serf_notes = True

    def _replay(self, number: int, _: int) -> None:
        while len(self.state.arena) < number:
            self._do(Action.REPLAY)
        at = len(self.state.arena)
        _need(at == number, f"replayed to event {number}, from {at}")

    def _apply(self, request: int, number: int) -> None:
        s = self.state
        event = self._requests.get(request)
        _need(event is not None, f"request {request} was not sent")
        if s.to:
            _need(s.to[0][2] == event, f"the next is event {s.to[0][2]}, not {event}")
        self._do(Action.APPLY, number == 0)
        at = len(s.arena)
        _need(number in (0, at), f"applied as event {number}, it is number {at}")

    def _freeze(self, request: int, number: int) -> None:
        s = self.state
        at = len(s.arena)
        _need(number in (0, at), f"froze event {number} at event {at}")
        if s.serf == "replay":
            return  # a save of its own, to be noted when it is made
        _need(request in self._saves, f"request {request} is no save")
        self._do(Action.FREEZE, number > 0)

    def _do_save(self, request: int, number: int) -> None:
        s = self.state
        if s.serf == "replay":
            at = len(s.arena)
            _need(number in (0, at), f"saved event {number} at event {at}")
            # (A replay from scratch saves beside what was saved before.)
            if number >= len(s.snap):
                self._do(Action.SAVE_IN_REPLAY)
            elif not number:
                self._perhaps_saved.add(at)
            return
        _need(request in self._saves, f"request {request} is no save")
        frozen = len(s.frozen[0]) if s.frozen else 0
        _need(number in (0, frozen), f"saved event {number}, frozen was {frozen}")
        if not number:  # it failed, and may be on the disk all the same
            self._perhaps_saved.add(frozen)
        self._do(Action.DO_SAVE, number > 0)

    # misfortune

    def _serf_die(self, _: int, __: int) -> None:
        self._note_cut_save()
        self._do(Action.SERF_DIE, 0)

    def _disk_error(self, _: int, __: int) -> None:
        _need(bool(self.state.computed), "there was nothing to commit")
        self._failed = True


def judge(notes: Iterable[Note]) -> str | None:
    """Why this run is none of the model's, or None if it is one."""
    judging = Judge()
    before: deque[Note] = deque(maxlen=8)
    for note in notes:
        try:
            judging.step(note)
        except Broken as error:
            told = ", ".join(map(str, before))
            return f"step {judging.steps + 1}, {note}: {error}; before it: {told}"
        before.append(note)
    return None
