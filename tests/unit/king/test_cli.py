"""The command line: exit codes, one line of error, JSON, and a ship that talks."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from king import cli
from king.care.verbs import VERBS
from king.client import Client, connect_unix, poke_outcome, stop_ship
from king.config import RunOptions, SaveGoals
from king.errors import EXIT_CODES, TreadleError
from king.pier import Layout, lock_pier, open_pier
from proto.jam import cue, jam
from proto.noun import Noun, noun
from tests.support.golden import expected, unpack


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return unpack("plain", tmp_path)


class FakeShip:
    """Answers on conn.sock as it is told to."""

    def __init__(self, layout: Layout) -> None:
        self.heard: list[Noun] = []
        self.answers: list[Noun | bytes | None] = []
        self.then: Callable[[], None] = lambda: None
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        directory = os.open(layout.urb, os.O_PATH)
        self._listener.bind(f"/proc/self/fd/{directory}/conn.sock")
        os.close(directory)
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as file:
                head = file.read(5)
                if len(head) < 5:
                    continue
                self.heard.append(cue(file.read(int.from_bytes(head[1:], "little"))))
                answer = self.answers.pop(0)
                if isinstance(answer, bytes):
                    connection.sendall(answer)
                elif answer is not None:
                    body = jam(answer)
                    connection.sendall(b"\0" + len(body).to_bytes(4, "little"))
                    for at in range(0, len(body), 3):  # any fragmentation
                        connection.sendall(body[at : at + 3])
                self.then()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)


@pytest.fixture
def ship(root: Path) -> Iterator[FakeShip]:
    made = FakeShip(Layout(root))
    yield made
    made.close()


def run(*words: object) -> int:
    return cli.main([str(word) for word in words])


# --- usage and faults -------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["frobnicate"],
        ["run"],
        ["boot", "zod"],
        ["run", "zod", "--no-such-flag"],
        ["run", "zod", "--http-port", "65536"],
        ["run", "zod", "--http-port", "x"],
        ["replay", "zod", "--until", "0"],
        ["status", "zod", "--timeout", "nan"],
        ["status", "zod", "extra"],
        ["nock"],
        ["noun", "a", "b"],
    ],
)
def test_wrong_words_exit_2_with_usage(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*words) == 2
    said = capsys.readouterr()
    assert said.err.startswith("usage: treadle")
    assert "\ntreadle: usage: " in said.err
    assert not said.out


def test_fault_is_one_line_and_a_hint_and_a_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("status", tmp_path / "none") == EXIT_CODES["pier-missing"] == 3
    said = capsys.readouterr()
    first, second = said.err.splitlines()
    assert first.startswith("treadle: pier-missing: ")
    assert second.startswith("  hint: ")
    assert not said.out


def test_fault_in_json_is_an_object_on_stdout(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("check", "--json", tmp_path / "none") == 3
    value = json.loads(capsys.readouterr().out)
    assert value["error"] == "pier-missing"
    assert value["exit_code"] == 3
    assert value["hint"]


@pytest.mark.parametrize(
    ("option", "word", "says"),
    [
        ("--http-port", "x", "'x' is no number from 0 to 65535"),
        ("--http-port", "65536", "'65536' is no number from 0 to 65535"),
        ("--snapshot-every", "-3", "'-3' is no number of seconds"),
        ("--roll-events", "1.5", "'1.5' is no number from 0 on"),
        ("--roll-days", "long", "'long' is no number of days"),
        ("--reserve", "5X", "'5X' is no size such as 4096, 100k, 32M or 5G"),
        ("--http-host", "bad..host", "'bad..host' is no address"),
        ("--http-host", "192.0.2.1", "cannot listen on '192.0.2.1'"),
    ],
)
def test_a_bad_value_is_named_in_words(
    root: Path, option: str, word: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("run", root, option, word) == 2
    told = capsys.readouterr().err
    assert f"argument {option}: {says}" in told
    assert "_" not in told.splitlines()[-2], "no name of ours"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["log", "list", "P", "--since", "blah"], "--since: 'blah' is no time such as"),
        (["log", "show", "P", "x"], "EVENT: 'x' is no number from 1 on"),
        (["log", "list", "P", "--min-bytes", "-1"], "'-1' is no number from 0 on"),
        (["chop", "P", "--keep", "x"], "--keep: 'x' is no number from 0 on"),
        (["lab", "run", "steady", "--states", "-5"], "'-5' is no number from 0 on"),
    ],
)
def test_a_bad_word_is_named(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*words) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("name", ["zod-", "~zodd", "nope", "~", ""])
def test_bad_ship_names_are_refused(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("boot", tmp_path / "x", "--fake", name, "--no-run") == 6
    assert "treadle: ship-bad: " in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


def test_bad_pill_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.pill"
    bad.write_bytes(b"\x00")
    assert run("boot", tmp_path / "zod", "--fake", "zod", "--pill", bad) == 6
    assert "treadle: pill-bad: " in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["bad.pill"]


def test_optimised_python_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-O", "-m", "king", "--version"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "treadle: usage: " in done.stderr


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run("--version")
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("treadle ")


def test_run_options_are_what_was_typed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from king import daemon

    seen: list[RunOptions] = []

    def fake(options: RunOptions, early: object) -> int:
        assert early is None
        seen.append(options)
        return 7

    monkeypatch.setattr(daemon, "run", fake)
    words = [
        "--headless",
        "--http-port",
        "0",
        "--http-host",
        "::1",
        "--verify",
        "--json",
    ]
    assert (
        run(
            "run",
            tmp_path,
            *words,
            "--snapshot-every",
            "1.5",
            "--max-recovery",
            "5m",
            "--write-budget",
            "5G/day",
        )
        == 7
    )
    (options,) = seen
    assert options == RunOptions(
        pier=tmp_path,
        headless=True,
        http_host="::1",
        http_port=0,
        verify=True,
        save_goals=SaveGoals(
            recovery_s=300.0, write_bytes_per_day=5 << 30, interval_s=1.5
        ),
        json=True,
    )


def test_quick_commands_load_no_event_loop(root: Path) -> None:
    probe = (
        "import sys\nfrom king import cli\ncode = cli.main(sys.argv[1:])\n"
        "assert not {'trio', 'cffi', 'msgpack'} & set(sys.modules)\nsys.exit(code)\n"
    )
    for words in (["status", root], ["stop", root]):
        done = subprocess.run(
            [sys.executable, "-c", probe, *words], capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (("status", "zod", "more"), "treadle status"),
        (("log", "zod", "grep", "x", "--tail", "3"), "treadle log grep"),
    ],
)
def test_words_too_many_are_told_by_the_command_that_has_them(
    words: tuple[str, ...], command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*words) == 2
    assert f"see: {command} --help" in capsys.readouterr().err


# --- at rest ----------------------------------------------------------------


def test_status_at_rest_has_the_promised_keys(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("status", root, "--json") == 0
    value = json.loads(capsys.readouterr().out)
    known = expected("plain")
    assert value["state"] == "stopped"
    assert value["event"] == known["events"]
    assert value["mug"] == known["final_mug"]
    assert value["epochs"] == ["0i0"]
    assert value["log_bytes"] > 0
    assert {"snapshot_event", "http", "pid_king", "pid_serf"} <= set(value)
    assert run("status", root) == 0
    assert "stopped" in capsys.readouterr().out


def test_check_exits_1_for_a_fault(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("check", root) == 0
    assert "is whole" in capsys.readouterr().out
    (root / ".urb" / "treadle.json").write_text("{}")
    assert run("check", root, "--json") == 1
    assert json.loads(capsys.readouterr().out)["ok"] is False


def test_stop_of_an_idle_ship_is_done(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("stop", root, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"state": "stopped", "how": "idle"}


@pytest.mark.parametrize(
    "words", [["peek", "/x//kv"], ["poke", "/d/term/1", "hail"]], ids=["peek", "poke"]
)
def test_talking_to_an_idle_ship_says_so(
    root: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words[0], root, *words[1:]) == 8
    assert "treadle: not-running: " in capsys.readouterr().err


# --- live -------------------------------------------------------------------


def test_status_of_a_live_ship_is_its_own_word(
    root: Path, ship: FakeShip, capsys: pytest.CaptureFixture[str]
) -> None:
    text = json.dumps({"state": "live", "event": 5})
    ship.answers = [noun(1, 0, text)]
    locks = lock_pier(Layout(root))
    assert run("status", root, "--json") == 0
    locks.release()
    assert json.loads(capsys.readouterr().out) == {"state": "live", "event": 5}
    assert ship.heard == [noun(1, "peel", ["treadle", "status"])]


def test_status_of_a_ship_without_a_socket_is_busy(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_pier(root):
        assert run("status", root, "--json") == 0
    value = json.loads(capsys.readouterr().out)
    assert value["state"] == "busy"
    assert f"pid {os.getpid()}" in value["holder"]
    assert "starting" in value["note"]


def test_a_ship_that_does_not_answer_yet_is_not_to_be_started_again(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_pier(root):
        assert run("peek", root, "/x//kv/a") == 8
    said = capsys.readouterr().err
    assert "treadle: not-running: " in said
    assert f"pid {os.getpid()}" in said
    assert "treadle run" not in said


def test_peek_asks_once_and_prints_the_value(
    root: Path, ship: FakeShip, capsys: pytest.CaptureFixture[str]
) -> None:
    ship.answers = [noun(1, "peek", 0, "omen", 7)] * 2 + [noun(1, "peek", 0)]
    assert run("peek", root, "/x//kv/name") == 0
    assert capsys.readouterr().out == "[%omen 7]\n"
    assert run("peek", root, "/cx/~zod/base", "--beam", "--json") == 0
    value = json.loads(capsys.readouterr().out)
    assert cue(bytes.fromhex(value["jam"])) == noun("omen", 7)
    assert run("peek", root, "/x//none") == 8
    assert ship.heard == [
        noun(1, "peek", 1, "once", "x", "", ["kv", "name"]),
        noun(1, "peek", 0, ["cx", "~zod", "base"]),
        noun(1, "peek", 1, "once", "x", "", ["none"]),
    ]


def test_poke_sends_the_words_as_an_ovum(
    root: Path, ship: FakeShip, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ship.answers = [noun(1, "news", "done")] * 4
    assert run("poke", root, "/d/term/1", "belt", "[%txt 104 105 0]") == 0
    assert run("poke", root, "//arvo", "%verb") == 0
    file = tmp_path / "ovum.jam"
    file.write_bytes(jam(noun(("e", ["x"]), ("tag", 1, 2))))
    assert run("poke", root, "--jam", file, "--json") == 0
    assert ship.heard == [
        noun(1, "ovum", "d", ["term", "1"], "belt", "txt", 104, 105, 0),
        noun(1, "ovum", 0, ["arvo"], "verb", 0),
        noun(1, "ovum", "e", ["x"], "tag", 1, 2),
    ]
    assert capsys.readouterr().out == 'done\ndone\n{"outcome": "done"}\n'


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["/d/term/1"], 2),
        (["d/term", "belt"], 8),
        (["/", "belt"], 2),
        (["/d", "belt", "[1 2"], 8),
        (["--jam", "/nowhere"], 8),
        (["/d", "belt", "--jam", "x"], 2),
    ],
)
def test_poke_refuses_what_is_no_ovum(
    root: Path, words: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("poke", root, *words) == code
    assert capsys.readouterr().err.startswith("treadle: ")


def test_poke_outcomes_are_told_apart() -> None:
    assert poke_outcome(noun("news", "done")) == "done"
    goofs = [("exit", ["leaf", 1]), ("meme", 0)]
    for reply, code in (
        (noun("bail", goofs), "event-failed"),
        (noun("news", "drop"), "event-dropped"),
        (noun("what"), "conn-failed"),
    ):
        with pytest.raises(TreadleError) as caught:
            poke_outcome(reply)
        assert caught.value.code == code
    with pytest.raises(TreadleError, match=r"%exit .*; %meme"):
        poke_outcome(noun("bail", goofs))


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (noun(0, "bail", 0xFFFFFFFE, "jar-bad"), "jar-bad"),
        (noun(0, "bail", (1, 2), (3, 4)), "refuses"),
        (7, "atom"),
        (b"\x01\x01\0\0\0x", "language"),
        (b"\x00\0\0\0\0", "language"),
        (b"\x00\xff\xff\xff\xff", "language"),
        (b"\x00\x01\0\0\0\x07", "not a noun"),
        (b"\x00\x09\0\0\0\x07", "closed the connection"),
        (None, "closed the connection"),
    ],
)
def test_strange_answers_are_faults_not_crashes(
    root: Path, ship: FakeShip, answer: Noun | bytes | None, why: str
) -> None:
    ship.answers = [answer]
    with Client(Layout(root), 5) as client, pytest.raises(TreadleError) as caught:
        client.ask("peel", 0)
    assert caught.value.code == "conn-failed"
    assert why in caught.value.message


def test_silent_ship_is_a_timeout(root: Path, ship: FakeShip) -> None:
    ship.answers = [None]
    ship.then = lambda: time.sleep(0.5)
    began = time.monotonic()
    with Client(Layout(root), 0.2) as client, pytest.raises(TreadleError) as caught:
        client.ask("peel", 0)
    assert caught.value.code == "conn-timeout"
    assert time.monotonic() - began < 2


def test_long_socket_paths_connect(tmp_path: Path) -> None:
    root = tmp_path / ("long" * 30) / ("path" * 20)
    Layout(root).urb.mkdir(parents=True)
    assert len(str(Layout(root).conn_socket)) > 200
    ship = FakeShip(Layout(root))
    connect_unix(str(Layout(root).conn_socket), 1).close()
    ship.close()


# --- stop -------------------------------------------------------------------


def test_stop_asks_and_waits_for_the_lock(root: Path, ship: FakeShip) -> None:
    layout = Layout(root)
    locks = lock_pier(layout)
    ship.answers = [noun(1, 0)]
    ship.then = lambda: (time.sleep(0.2), locks.release())[0]
    assert stop_ship(layout, 10) == "asked"
    assert ship.heard == [noun(1, "urth", "stop", 0)]


def test_stop_of_a_ship_that_stays_is_told(root: Path, ship: FakeShip) -> None:
    ship.answers = [noun(1, 0)]
    with open_pier(root), pytest.raises(TreadleError) as caught:
        stop_ship(Layout(root), 0.2)
    assert caught.value.code == "still-running"


def test_stop_signals_a_king_that_has_no_socket_yet(root: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom king.pier import open_pier\n"
        "pier = open_pier(Path(sys.argv[1]))\nprint('ready', flush=True)\n"
        "sys.stdin.read()\n"
    )
    king = subprocess.Popen(
        [sys.executable, "-c", code, root],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert king.stdout is not None
    king.stdout.readline()
    assert stop_ship(Layout(root), 10) == "signalled"
    king.communicate()
    assert king.returncode == -15


def test_tools_run_from_this_tree_not_from_the_current_directory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Any] = []

    def execve(path: str, command: list[str], environment: dict[str, str]) -> None:
        seen.append((path, command, environment["PYTHONPATH"]))
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.os, "execve", execve)
    assert run("nock", "-", "--no-jets", "--time", "--out", "x", "--json") == 130
    assert run("noun", "f.jam") == 130
    root = str(Path(cli.__file__).resolve().parent.parent)
    nock = ["serf", "nock", "-", "--json", "--no-jets", "--time", "--out", "x"]
    assert [command for _, command, _ in seen] == [
        [sys.executable, "-P", "-m", *nock],
        [sys.executable, "-P", "-m", "serf", "noun", "f.jam"],
    ]
    assert all(path.split(os.pathsep)[0] == root for _, _, path in seen)


def test_every_code_that_is_raised_is_in_the_catalogue() -> None:
    import re

    raised = set()
    folder = Path(cli.__file__).parent
    for path in folder.rglob("*.py"):
        for match in re.finditer(
            r"(?:TreadleError|LogFailed|kind)\(\s*\"([a-z-]+)\"", path.read_text()
        ):
            raised.add(match[1])
    assert len(raised) > 25
    assert raised <= set(EXIT_CODES), raised - set(EXIT_CODES)


def test_boot_without_a_terminal_boots_and_ends(tmp_path: Path) -> None:
    """A script that boots a ship is not left with one that runs."""
    booted = subprocess.run(
        [sys.executable, "-m", "king", "boot", tmp_path / "zod", "--fake", "zod"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert booted.returncode == 0, booted.stderr
    assert "treadle run" in booted.stderr
    assert (tmp_path / "zod" / ".urb").is_dir()


def test_a_roll_that_keeps_no_state_says_why() -> None:
    found = {"rolled": False, "epoch": "0i0", "event": 0, "start": None}
    assert VERBS["roll"].show(found) == (
        "nothing to roll; 0i0 is the log's first, and needs no state at its start"
    )


def test_status_for_people_has_a_line_for_each_thing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    cli._print_status(
        tmp_path,
        {
            "state": "live",
            "event": 1234567,
            "log_bytes": 1234567,
            "epochs": ["0i0", "0i5"],
            "http": None,
            "queues": {},
            "clients_refused": {"conn": {}, "http": {"slow": 0}, "ames": {}},
            "drivers": {"conn": {}, "http": {}},
            "disk": {"free_bytes": 10**12, "reserve_bytes": 10**9, "low_bytes": 10**9},
            "jets": {"one/add": {"hits": 11, "misses": 2}},
            "recovery": {
                "clean": True,
                "snapshot": {"event": 5, "note": None},
                "notes": ["one thing", "another"],
                "seconds": 0.0871,
            },
        },
    )
    out = capsys.readouterr().out
    assert not set("{}[]'\"") & set(out)
    first, *lines = out.splitlines()
    assert first == f"{tmp_path}: live"
    assert [line.split(maxsplit=1) for line in lines] == [
        ["event", "1234567"],
        ["log_bytes", "1,234,567"],
        ["epochs", "0i0 0i5"],
        ["clients_refused"],
        ["http", "slow 0"],
        ["disk"],
        ["free_bytes", "1,000,000,000,000"],
        ["reserve_bytes", "1,000,000,000"],
        ["low_bytes", "1,000,000,000"],
        ["jets"],
        ["one/add", "hits 11, misses 2"],
        ["recovery"],
        ["clean", "yes"],
        ["snapshot", "event 5"],
        ["notes"],
        ["1", "one thing"],
        ["2", "another"],
        ["seconds", "0.087"],
    ]
    assert lines[10].startswith("    one/add")
