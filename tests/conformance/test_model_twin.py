"""king/lab/protocol.py and proto/model/Treadle.tla are the same relation.

The names of their actions agree; and in every state that the model reaches in
its small configuration, both allow the same steps to the same states.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from king.lab.protocol import RULES, Broken, State
from proto.model.check import STEPS
from proto.record import Action

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "proto" / "model" / "Treadle.tla"
MUTANTS_ONLY = {"ReleaseEarly"}
TITLES = {action.title: action for action in Action}

# scripts/model's small configuration.
OFFERS, CAP, BAD, LANES = 3, 1, {2}, 2
SPENDS = {
    Action.SERF_DIE: "serf",
    Action.KING_DIE: "king",
    Action.DISK_ERROR: "disk",
    Action.ASK_SAVE: "save",
    Action.SAVE_IN_REPLAY: "save",
    Action.GIVE_UP: "drop",
}


def test_the_actions_have_the_same_names() -> None:
    text = MODEL.read_text()
    following = re.search(r"^Next ==\n((?: .*\n)+)", text, re.MULTILINE)
    assert following is not None
    names = set(re.findall(r"\w+", following[1]))
    assert names == set(STEPS), "scripts/model has words for each"
    names -= MUTANTS_ONLY
    assert names == set(TITLES) == {action.title for action in RULES}


# --- the model's states as TLC writes them ----------------------------------

_TOKEN = re.compile(r'<<|>>|\|->|[\[\]{},]|"\w*"|-?\d+|\w+')


def value(text: str) -> Any:
    """A TLA+ value: numbers, strings, sequences, sets, records."""
    tokens = deque(_TOKEN.findall(text))
    return _value(tokens)


def _value(tokens: deque[str]) -> Any:
    token = tokens.popleft()
    if token in ("<<", "{"):
        end = ">>" if token == "<<" else "}"
        items = []
        while tokens[0] != end:
            items.append(_value(tokens))
            if tokens[0] == ",":
                tokens.popleft()
        tokens.popleft()
        return items if token == "<<" else frozenset(items)
    if token == "[":
        record = {}
        while tokens[0] != "]":
            name = tokens.popleft()
            assert tokens.popleft() == "|->"
            record[name] = _value(tokens)
            if tokens[0] == ",":
                tokens.popleft()
        tokens.popleft()
        return record
    return token[1:-1] if token.startswith('"') else int(token)


def state_of(label: str) -> tuple[State, dict[str, int]]:
    """TLC's words for a state; and what is left of its budgets."""
    found = {}
    for part in label.removeprefix("/\\ ").split("\n/\\ "):
        name, text = part.split(" = ", 1)
        found[name] = value(text)

    def messages(name: str) -> deque[tuple[str, int, int]]:
        return deque(
            (m["kind"], m.get("num", 0), m.get("event", 0)) for m in found[name]
        )

    state = State(
        offered=found["offered"],
        queue=found["queue"],
        again=deque(found["again"]),
        flight=deque(found["flight"]),
        to=messages("to"),
        back=messages("from"),
        computed=messages("computed"),
        pending=deque(found["pending"]),
        arena=found["arena"],
        frozen=found["frozen"],
        serf=found["serf"],
        king=found["king"],
        log=found["log"],
        snap=found["snap"],
        out=[(number, event) for number, event in found["out"]],
        reported=set(found["reported"]),
        lane={event: event % LANES for event in range(1, OFFERS + 1)},
    )
    return state, found["budget"]


def key(state: State, budget: dict[str, int]) -> str:
    return f"{state} {sorted(budget.items())}"


# --- what the twin can do ---------------------------------------------------


def choices(state: State, action: Action) -> Iterable[tuple[Any, ...]]:
    """Arguments worth trying; the bounds of the configuration are kept here."""
    events = range(1, OFFERS + 1)
    match action:
        case Action.OFFER:
            return [(e, e % LANES) for e in events]
        case Action.SEND if len(state.to) < CAP:
            return [(e,) for e in events]
        case Action.GIVE_UP:
            return [(e,) for e in events]
        case Action.COMMIT | Action.LOAD | Action.DISK_ERROR | Action.SERF_DIE:
            return [(k,) for k in range(OFFERS + 2)]
        case Action.APPLY if len(state.back) < CAP and state.to:
            return [(state.to[0][2] in BAD,)]
        case Action.FREEZE | Action.DO_SAVE if len(state.back) < CAP:
            return [(True,), (False,)]
        case Action.ASK_SAVE if len(state.to) < CAP:
            return [()]
        case (
            Action.SEND
            | Action.APPLY
            | Action.FREEZE
            | Action.DO_SAVE
            | Action.ASK_SAVE
        ):
            return []
        case _:
            return [()]


def steps(state: State, budget: dict[str, int]) -> set[tuple[Action, str]]:
    found = set()
    for action, rule in RULES.items():
        purse = SPENDS.get(action)
        if purse is not None and not budget[purse]:
            continue
        left = budget if purse is None else {**budget, purse: budget[purse] - 1}
        for arguments in choices(state, action):
            if action is Action.SERF_DIE and arguments[0] > len(state.back):
                continue  # to hear more than was said is to hear all
            after = state.copy()
            try:
                rule(after, *arguments)
            except Broken:
                continue
            after.lane = state.lane
            found.add((action, key(after, left)))
    return found


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> str:
    if shutil.which("java") is None:
        pytest.skip("no Java here")
    path = tmp_path_factory.mktemp("model") / "graph.dot"
    done = subprocess.run(
        [sys.executable, "-m", "proto.model.check", "--dump", path],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if done.returncode == 3:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    return path.read_text()


def compare(graph: str) -> None:
    states: dict[str, tuple[State, dict[str, int]]] = {}
    edges: dict[str, set[tuple[Action, str]]] = {}
    for node, label in re.findall(r'^(-?\d+) \[label="((?:[^"\\]|\\.)*)"', graph, re.M):
        text = label.replace("\\n", "\n").replace("\\\\", "\\").replace('\\"', '"')
        states[node] = state_of(text)
    for source, target, name in re.findall(
        r'^(-?\d+) -> (-?\d+) \[label="(\w+)"', graph, re.M
    ):
        edges.setdefault(source, set()).add((TITLES[name], target))
    assert len(states) > 10_000
    keys = {node: key(*state) for node, state in states.items()}
    seen: set[Action] = set()
    for node, (state, budget) in states.items():
        model = {(action, keys[target]) for action, target in edges.get(node, ())}
        twin = steps(state, budget)
        assert twin == model, f"in {state}: model {model - twin}, twin {twin - model}"
        seen |= {action for action, _ in model}
    assert seen == set(Action), "an action that never happens is not compared"


@pytest.mark.slow
def test_both_take_the_same_steps_from_every_state(graph: str) -> None:
    compare(graph)


def _save_anywhere(state: State) -> None:
    state.to.append(("save", len(state.log), 0))


def _forget_flight(state: State) -> None:
    if state.king != "up" or state.serf != "down" or state.back or state.computed:
        raise Broken("as it should")
    state.serf = "spawned"
    state.to.clear()
    state.flight.clear()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("action", "rule"),
    [(Action.ASK_SAVE, _save_anywhere), (Action.RESTART, _forget_flight)],
)
def test_a_wrong_rule_is_found(
    graph: str, monkeypatch: pytest.MonkeyPatch, action: Action, rule: Any
) -> None:
    monkeypatch.setitem(RULES, action, rule)
    with pytest.raises(AssertionError, match="twin"):
        compare(graph)
