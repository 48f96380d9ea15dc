"""The embedded kernel, driven as the drivers drive it, on the plain machine."""

from __future__ import annotations

import json
import re
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from king.pill.build import PILL, build
from proto.cord import ship_text
from proto.noun import Cell, Noun, items, noun, slot
from tests.support.nock import Crash
from tests.support.pill_ship import (
    START,
    TICK,
    Ship,
    blits,
    bottom,
    path,
    pill_noun,
    printed,
)

PROMPT = "~zod:treadle> "


@pytest.fixture
def ship() -> Ship:
    return Ship()


def cord(text: str) -> int:
    return int.from_bytes(text.encode(), "little")


# --- pill and boot ---------------------------------------------------------------


def test_pill_is_what_the_sources_make_bit_for_bit() -> None:
    assert PILL.read_bytes() == build()


def test_pill_has_the_form_of_a_pill() -> None:
    pill = pill_noun()
    assert slot(pill, 2) == noun("pill")
    assert slot(pill, 6) == noun("treadle")
    assert len(items(slot(pill, 14))) == 3
    assert slot(pill, 30) == 0
    assert slot(pill, 31) == 0


def test_kernel_has_arvos_arms(ship: Ship) -> None:
    for axis in (4, 10, 22, 23):
        gate = ship.machine.nock(ship.kernel, noun(9, axis, 0, 1))
        assert isinstance(slot(gate, 2), Cell)


def test_lifecycle_folds_later_events_as_pokes_do() -> None:
    rows = slot(pill_noun(), 14)
    ova = [
        noun((0, path("arvo")), "whom", 0x1_0000),
        noun(("d", path("term", "1")), "belt", "txt", [97]),
        noun(("e", path("http-server", "0v1")), "born", 0),
    ]
    poked = Ship(ship=None)
    events: list[Noun] = []
    for ovum in ova:
        poked.poke(slot(ovum, 2), slot(ovum, 3))
        events.append(noun(poked.now, ovum))
    log = noun([*items(rows), *events])
    folded = poked.machine.nock(log, noun(2, (0, 3), 0, 2))
    assert slot(folded, 7) == poked.kernel


def test_jets_are_found_by_registration(ship: Ship) -> None:
    ship.machine.hits.clear()
    ship.say("2 * 21")
    assert ship.machine.hits["mul"]
    assert ship.machine.hits["weld"]


def test_without_jets_the_effects_and_the_state_are_equal() -> None:
    states = []
    for jets in (True, False):
        ship = Ship(jets=jets, ship=None)
        ship.term("blew", 24, 5)
        seen = [ship.write("ab"), ship.key("aro", "l"), ship.key("bac", 0)]
        states.append((seen, ship.kernel))
    assert states[0] == states[1]


def test_an_unknown_event_is_cheap_and_is_counted(ship: Ship) -> None:
    before = ship.kernel
    assert ship.poke(noun("x", path("t")), noun("ack", 5)) == []
    assert ship.cost < 60
    assert ship.kernel != before


@pytest.mark.parametrize(
    "card",
    [
        noun("wyrd", (cord("0v1"), ["vere"]), [("zuse", 408)]),
        noun("verb", 0, 1),
        noun("wack", 12345),
        noun("trim", 1),
        noun("vega", 0),
        noun("unheard-of", 1, 2),
    ],
)
def test_what_a_runtime_tells_arvo_is_accepted(ship: Ship, card: Noun) -> None:
    assert ship.poke(noun(0, path("arvo")), card) == []


def test_boot_event_is_accepted(ship: Ship) -> None:
    assert ship.term("boot", 1, "fake", 0) == []


@pytest.mark.parametrize("number", [0, 255, 256, 65535, 0x1_0000, 0x1234_5678, 1 << 40])
def test_prompt_names_the_ship(number: int) -> None:
    ship = Ship(ship=number)
    text, _ = bottom(ship.term("hail", 0))
    assert text == f"{ship_text(number)}:treadle> "


# --- the line editor ---------------------------------------------------------------


def test_born_prints_a_banner_and_the_prompt(ship: Ship) -> None:
    effects = ship.term("born", 0)
    assert printed(effects)[0].startswith("treadle: ~zod")
    assert bottom(effects) == (PROMPT, len(PROMPT))


def test_text_is_inserted_at_the_cursor(ship: Ship) -> None:
    ship.write("held")
    ship.key("aro", "l")
    assert bottom(ship.write("lo wor")) == (PROMPT + "hello word", len(PROMPT) + 9)


@pytest.mark.parametrize(
    ("keys", "line", "column"),
    [
        (["a"], "one two", 0),
        (["a", "d"], "ne two", 0),
        (["a", "e"], "one two", 7),
        (["b", "h"], "one to", 5),
        (["a", "f", "k"], "o", 1),
        (["u"], "", 0),
        (["w"], "one ", 4),
        (["w", "y"], "one two", 7),
        (["w", "w", "y", "y"], "one one ", 8),
        (["u", "y"], "one two", 7),
        (["t"], "one tow", 7),
    ],
)
def test_control_keys_edit(ship: Ship, keys: list[str], line: str, column: int) -> None:
    effects = ship.write("one two")
    for letter in keys:
        effects = ship.control(letter)
    assert bottom(effects) == (PROMPT + line, len(PROMPT) + column)


def test_meta_keys_move_by_words(ship: Ship) -> None:
    ship.write("one two")
    assert bottom(ship.key("mod", "met", "b"))[1] == len(PROMPT) + 4
    assert bottom(ship.key("mod", "met", "b"))[1] == len(PROMPT)
    assert bottom(ship.key("mod", "met", "f"))[1] == len(PROMPT) + 3
    assert bottom(ship.key("mod", "met", "d"))[0] == PROMPT + "one"


def test_keys_without_effect_ring_the_bell(ship: Ship) -> None:
    for effects in (
        ship.key("bac", 0),
        ship.key("del", 0),
        ship.key("aro", "u"),
        ship.key("aro", "d"),
        ship.key("aro", "l"),
        ship.key("aro", "r"),
        ship.control("q"),
    ):
        assert blits(effects) == [noun("bel", 0)]


def test_history_goes_up_and_down_and_keeps_the_draft(ship: Ship) -> None:
    ship.say("1")
    ship.say("2")
    ship.write("dra")
    assert bottom(ship.key("aro", "u"))[0] == PROMPT + "2"
    assert bottom(ship.control("p"))[0] == PROMPT + "1"
    assert bottom(ship.control("n"))[0] == PROMPT + "2"
    assert bottom(ship.key("aro", "d"))[0] == PROMPT + "dra"
    ship.key("aro", "u")
    ship.key("aro", "u")
    assert printed(ship.key("ret", 0))[1:] == ["1"]
    assert bottom(ship.key("aro", "u"))[0] == PROMPT + "1"
    assert bottom(ship.key("aro", "u"))[0] == PROMPT + "2"


def test_ctl_c_drops_the_line(ship: Ship) -> None:
    ship.write("junk")
    effects = ship.control("c")
    assert printed(effects) == [PROMPT + "junk^C"]
    assert bottom(effects)[0] == PROMPT


def test_ctl_l_clears(ship: Ship) -> None:
    assert noun("clr", 0) in blits(ship.control("l"))


def test_ctl_d_deletes_or_leaves(ship: Ship) -> None:
    ship.write("ab")
    ship.control("a")
    assert bottom(ship.control("d"))[0] == PROMPT + "b"
    ship.control("u")
    ship.key("del", 0)
    assert noun(path("term", "1"), "logo", 0) in ship.control("d")


def test_tab_completes(ship: Ship) -> None:
    ship.write("cr")
    assert bottom(ship.control("i"))[0] == PROMPT + "crash "
    ship.control("u")
    ship.write("time")
    assert printed(ship.control("i")) == ["  time  timer  timers"]
    ship.write("x")
    assert blits(ship.control("i")) == [noun("bel", 0)]


def test_wide_characters_take_two_columns(ship: Ship) -> None:
    assert bottom(ship.write("世é"))[1] == len(PROMPT) + 3


def test_a_long_line_scrolls_under_the_cursor(ship: Ship) -> None:
    ship.term("blew", 40, 10)
    text, column = bottom(ship.write("".join(chr(97 + i % 26) for i in range(100))))
    assert len(text) <= 40
    assert column < 40
    assert text.endswith("tuv")
    text, column = bottom(ship.control("a"))
    assert text.startswith(PROMPT + "abc")
    assert len(text) <= 40


def test_long_output_is_folded(ship: Ship) -> None:
    ship.term("blew", 40, 10)
    lines = ship.say("1" * 90)
    assert "".join(lines).endswith("1" * 90)
    assert all(len(line) <= 40 for line in lines)


# --- commands ---------------------------------------------------------------------


def test_help_names_every_command(ship: Ship) -> None:
    text = "\n".join(ship.say("help"))
    words = "set get del list mass grow drop crash spin timer timers events exit"
    for word in words.split():
        assert word in text


def test_an_unknown_command_says_so(ship: Ship) -> None:
    assert ship.say("fly away") == ["there is no command 'fly'; try help"]
    assert ship.say("") == []


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("1 / 0", "cannot compute: division by zero"),
        ("1 +", "cannot compute: a number is missing at the end"),
        ("(1", "cannot compute: a ')' is missing"),
        ("1)", "cannot compute: there is no '(' for this ')'"),
        ("1 x", "cannot compute: cannot make sense of 'x'"),
        ("1 + x", "cannot compute: expected a number, not 'x'"),
    ],
)
def test_arithmetic_explains_what_is_wrong(ship: Ship, line: str, answer: str) -> None:
    assert ship.say(line) == [answer]


SUMS = st.recursive(
    st.integers(0, 10**30).map(str),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*/%"), inner).map(" ".join),
        inner.map(lambda s: f"({s})"),
        inner.map(lambda s: f"-({s})"),
    ),
    max_leaves=6,
)
CALCULATOR = Ship()


@settings(max_examples=60, deadline=None)
@given(SUMS)
def test_arithmetic_agrees_with_python(text: str) -> None:
    assert wished(text) == python_value(text)


def python_value(text: str) -> str | None:
    try:
        return str(eval(text.replace("/", "//")))
    except ZeroDivisionError:
        return None


def wished(text: str) -> str | None:
    try:
        answer = CALCULATOR.slam(10, cord(text))
    except Crash:
        return None
    assert isinstance(answer, int)
    return answer.to_bytes((answer.bit_length() + 7) // 8, "little").decode()


def test_store_commands(ship: Ship) -> None:
    assert ship.say("list") == ["no keys yet; set one"]
    assert ship.say("set colour  dark blue ") == []
    assert ship.say("set a 1") == []
    assert ship.say("get colour") == ["dark blue"]
    assert ship.say("list") == ["a  1", "colour  dark blue"]
    assert ship.say("del a") == []
    assert ship.say("del a") == ["nothing under 'a'"]
    assert ship.say("get a") == ["nothing under 'a'"]
    assert ship.say("set grün ñ") == []
    assert ship.say("get grün") == ["ñ"]


def test_grow_mass_and_drop(ship: Ship) -> None:
    assert ship.say("grow 1000") == ["now 1000 cells"]
    assert ship.say("grow 5") == ["now 1005 cells"]
    assert "ballast  1005 cells" in ship.say("mass")
    assert ship.say("drop") == ["dropped 1005 cells"]
    assert ship.say("grow x") == ["grow N: how many cells to add"]
    assert ship.say("grow 100000001") == ["at most 100000000 cells at a time"]


def test_events_are_numbered_as_the_log_numbers_them(ship: Ship) -> None:
    # three boot rows, %whom, two keys
    assert ship.say("events") == ["6 events"]


def test_crash_crashes_with_a_trace(ship: Ship) -> None:
    before = ship.kernel
    ship.write("crash")
    typed = ship.kernel
    with pytest.raises(Crash) as caught:
        ship.key("ret", 0)
    assert (ship.kernel, typed != before) == (typed, True)
    trace = noun([noun(tag, clue) for tag, clue in caught.value.trace])
    gate = ship.slam(10, cord("mook"))
    tang = slot(ship.machine.slam(gate, noun(2, trace)), 3)
    ovum = noun(("d", path("term", "1")), "belt", "ret", 0)
    effects = ship.poke(noun(0, path("arvo")), noun("crud", ("exit", tang), ovum))
    assert printed(effects) == [
        PROMPT + "crash",
        "! %belt event crashed: %exit",
        "  you asked for a crash",
    ]
    assert bottom(effects)[0] == PROMPT


def test_crud_prints_strange_traces_safely(ship: Ship) -> None:
    tang = noun([cord("a cord"), ("leaf", [98, 99]), ("rose", 1, 2), ("leaf", (1, 2))])
    ovum = noun(("x", path("t")), "boom", 0)
    effects = ship.poke(noun(0, path("arvo")), noun("crud", ("meme", tang), ovum))
    assert printed(effects) == [
        "! %boom event crashed: %meme",
        "  a cord",
        "  bc",
        "  (a tank)",
        "  \x01",
    ]


def test_crud_answers_the_request_and_the_thread(ship: Ship) -> None:
    wire = path("http-server", "0v1", "7", "1")
    ovum = noun(("e", wire), "request", 1, ("ipv4", 1), ("GET", "/", 0, 0))
    effects = ship.poke(noun(0, path("arvo")), noun("crud", ("exit", 0), ovum))
    assert any(slot(e, 2) == wire and slot(e, 60) == 500 for e in effects[1:])
    wire = path("khan", "0v1", "1", "0v2")
    ovum = noun(("k", wire), "fyrd", "base", "eval", "txt", "txt", 1)
    effects = ship.poke(noun(0, path("arvo")), noun("crud", ("exit", 0), ovum))
    assert noun(wire, "avow", 1, "exit", 0) in effects


def test_spin_never_ends(ship: Ship) -> None:
    ship.write("spin")
    ship.machine.steps_max = ship.machine.steps + 100_000
    with pytest.raises(RuntimeError, match="too many"):
        ship.key("ret", 0)


# --- timers -----------------------------------------------------------------------


def doze(effects: list[Noun]) -> list[Noun]:
    return [slot(e, 7) for e in effects if slot(e, 6) == noun("doze")]


def test_timers_fire_in_order_and_only_when_due(ship: Ship) -> None:
    ship.write("timer 2 tea is ready")
    effects = ship.key("ret", 0)
    second = ship.now + (2 << 64)
    assert doze(effects) == [noun(0, second)]
    ship.write("timer 0.5")
    effects = ship.key("ret", 0)
    first = ship.now + (1 << 63)
    assert doze(effects) == [noun(0, first)]
    assert [line[:9] for line in ship.say("timers")] == ["timer 2: ", "timer 1: "]
    behn = noun("b", path("behn"))
    ship.now = first - TICK
    effects = ship.poke(behn, noun("wake", 0))
    assert printed(effects) == ["timer 2 is over"]
    assert doze(effects) == [noun(0, second)]
    assert printed(ship.poke(behn, noun("wake", 0))) == []
    ship.now = second
    effects = ship.poke(behn, noun("wake", 0))
    assert printed(effects) == ["timer 1: tea is ready"]
    assert doze(effects) == []
    assert ship.poke(behn, noun("wake", 0)) == []
    assert ship.say("timers") == ["no timers"]


def test_a_restarted_ship_asks_for_its_timers_again(ship: Ship) -> None:
    assert ship.poke(noun("b", path("behn", "0v1")), noun("born", 0)) == []
    ship.say("timer 9")
    effects = ship.poke(noun("b", path("behn", "0v1")), noun("born", 0))
    assert len(doze(effects)) == 1
    assert slot(effects[0], 2) == path("behn")


# --- web --------------------------------------------------------------------------


def test_born_sets_the_config(ship: Ship) -> None:
    effects = ship.poke(noun("e", path("http-server", "0v1")), noun("born", 0))
    wire = path("http-server", "0v1")
    assert effects == [noun(wire, "set-config", 0, 1, 1, 1)]


def test_live_is_remembered(ship: Ship) -> None:
    ship.poke(noun("e", path("http-server", "0v1")), noun("live", 8080, 0))
    assert json.loads(ship.http("GET", "/status").body or b"")["port"] == 8080


def test_put_get_delete(ship: Ship) -> None:
    assert ship.http("GET", "/kv/a").status == 404
    assert ship.http("PUT", "/kv/a", b"one").status == 201
    put = ship.http("PUT", "/kv/a", b"two", [("content-type", "image/png")])
    assert (put.status, put.body) == (204, None)
    got = ship.http("GET", "/kv/a?whatever")
    assert (got.status, got.body) == (200, b"two")
    assert got.headers["content-type"] == "image/png"
    assert got.wire == path("http-server", "0v1", "7", "1")
    assert ship.http("HEAD", "/kv/a").status == 200
    assert ship.http("DELETE", "/kv/a").status == 204
    assert ship.http("DELETE", "/kv/a").status == 404


@settings(max_examples=20, deadline=None)
@given(st.text(min_size=1, max_size=20), st.binary(max_size=40))
def test_any_key_and_any_bytes_come_back(key: str, value: bytes) -> None:
    good = "\0" not in key
    url = "/kv/" + quote(key, safe="")
    answer = WEB.http("PUT", url, value)
    assert (answer.status in (201, 204)) is good
    got = WEB.http("GET", url)
    assert (got.status, got.body) == (200, value) if good else got.status == 400
    if good:
        assert key in json.loads(WEB.http("GET", "/kv").body or b"")
        assert WEB.http("GET", "/").status == 200


WEB = Ship()


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("text/html", "text/html"),
        ("application/x-www-form-urlencoded", "application/octet-stream"),
        ("bad\nheader", "application/octet-stream"),
        ("x" * 201, "application/octet-stream"),
        ("", "application/octet-stream"),
    ],
)
def test_content_types_are_kept_if_they_say_something(
    ship: Ship, given: str, kept: str
) -> None:
    ship.http("PUT", "/kv/a", b"x", [("host", "h"), ("content-type", given)])
    assert ship.http("GET", "/kv/a").headers["content-type"] == kept


def test_a_put_without_a_body_is_empty(ship: Ship) -> None:
    assert ship.http("PUT", "/kv/a").status == 201
    assert ship.http("GET", "/kv/a").body == b""


@pytest.mark.parametrize(
    ("method", "url", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/kv/", 400),
        ("GET", "/kv/%", 400),
        ("GET", "/kv/%4", 400),
        ("GET", "/kv/%zz", 400),
        ("GET", "/kv/%00", 400),
        ("GET", "/kv/%ff", 400),
        ("GET", "/kv/%ed%a0%80", 400),
        ("GET", "/kv/" + "a" * 1025, 400),
        ("POST", "/kv/a", 405),
        ("PATCH", "/kv/a", 405),
        ("PUT", "/", 405),
        ("DELETE", "/kv", 405),
        ("GET", "/kv?x", 200),
        ("GET", "/?x", 200),
        ("GET", "/status", 200),
        ("GET", "", 404),
    ],
)
def test_statuses(ship: Ship, method: str, url: str, status: int) -> None:
    answer = ship.http(method, url)
    assert answer.status == status
    if status == 405:
        assert "GET" in answer.headers["allow"]
    if status >= 400:
        assert answer.body
        assert answer.body.endswith(b"\n")


def test_kv_json_escapes(ship: Ship) -> None:
    values = {
        'quote"back\\slash': "line\nfeed\ttab \x7f \x1f",
        "é 世 🌲": "häß",
        "plain": "plain",
        "": "",
    }
    for key, value in values.items():
        if key:
            ship.http("PUT", "/kv/" + quote(key, safe=""), value.encode())
    ship.http("PUT", "/kv/binary", b"\xff\x00\xfe")
    ship.http("PUT", "/kv/zeros", b"a\0\0")
    ship.http("PUT", "/kv/huge", b"x" * 70_000)
    ship.http("PUT", "/kv/large", b"x" * 60_000)
    answer = ship.http("GET", "/kv")
    assert answer.headers["content-type"] == "application/json"
    found = json.loads(answer.body or b"")
    for key, value in values.items():
        if key:
            assert found[key] == value
    assert found["binary"] == {"size": 3, "type": "application/octet-stream"}
    assert found["zeros"] == "a\0\0"
    assert found["huge"]["size"] == 70_000
    assert found["large"] == "x" * 60_000


def test_page_escapes_and_is_self_contained(ship: Ship) -> None:
    ship.http("PUT", "/kv/" + quote("<b>&\"'", safe=""), b"<script>x</script>")
    ship.http("PUT", "/kv/blob", bytes(300))
    answer = ship.http("GET", "/")
    assert answer.headers["content-type"] == "text/html;charset=utf-8"
    text = (answer.body or b"").decode()
    assert "<h1>~zod</h1>" in text
    assert "&lt;b&gt;&amp;&quot;&#39;" in text
    assert "<script>x" not in text
    assert "(300 bytes, application/octet-stream)" in text
    assert "as of event 7" in text
    links = re.findall(r"""(?:src|href)=["'](\w+:)""", text)
    assert set(links) <= {"data:"}


def test_a_page_of_many_keys_is_cut(ship: Ship) -> None:
    for i in range(205):
        ship.http("PUT", f"/kv/{i:03}", b"v")
    text = (ship.http("GET", "/").body or b"").decode()
    assert "and 5 more" in text
    assert text.index(">000<") < text.index(">001<") < text.index(">199<")
    assert ">200<" not in text


def test_the_cost_of_a_put_does_not_grow_with_the_value(ship: Ship) -> None:
    ship.http("PUT", "/kv/a", b"x")
    small = ship.cost
    ship.http("PUT", "/kv/a", b"x" * 1_000_000)
    assert ship.cost < small + 100
    assert ship.cost < 1000


def test_equal_contents_make_equal_stores(ship: Ship) -> None:
    other = Ship()
    for i in range(20):
        ship.http("PUT", f"/kv/{i}", b"v")
        other.http("PUT", f"/kv/{19 - i}", b"v")
    ship.http("PUT", "/kv/x", b"v")
    other.http("PUT", "/kv/x", b"w")
    ship.http("DELETE", "/kv/x")
    other.http("DELETE", "/kv/x")
    names = noun(0, 1, "once", "x", "base", path("kv"))
    assert ship.slam(22, names) == other.slam(22, names)
    assert len(items(slot(ship.slam(22, names), 31))) == 20


# --- the control socket, reading, the other arms -------------------------------------


def fyrd(ship: Ship, name: str, argument: Noun) -> Noun:
    wire = path("khan", "0v1", "3", "0v5")
    card = noun("fyrd", "base", name, "noun", "noun", argument)
    effects = ship.poke(noun("k", wire), card)
    assert slot(effects[0], 2) == wire
    assert slot(effects[0], 6) == noun("avow")
    return slot(effects[0], 7)


def test_threads(ship: Ship) -> None:
    assert fyrd(ship, "eval", cord("6*7")) == noun(0, "txt", "42")
    assert slot(fyrd(ship, "eval", cord("6*")), 2) == 1
    assert fyrd(ship, "set", noun("k", "v")) == noun(0, "loob", 1)
    assert fyrd(ship, "get", cord("k")) == noun(
        0, "noun", 0, "text/plain;charset=utf-8", 1, "v"
    )
    assert fyrd(ship, "list", 0) == noun(0, "noun", ["k"])
    assert fyrd(ship, "line", cord("1+1")) == noun(0, "wain", ["2"])
    assert fyrd(ship, "del", cord("k")) == noun(0, "loob", 0)
    assert fyrd(ship, "get", cord("k")) == noun(0, "noun", 0)
    assert slot(fyrd(ship, "no such", 0), 2) == 1
    assert slot(fyrd(ship, "set", 5), 2) == 1


@pytest.mark.parametrize(
    "name",
    [
        noun(0, path("events")),
        noun(0, path("x", "~zod", "base", "1", "events")),
        noun(1, "once", "x", "base", path("events")),
        noun(1, "beam", "x", (0, "base", 1), path("events")),
    ],
)
def test_peek_reads_events_whatever_the_name_looks_like(ship: Ship, name: Noun) -> None:
    product = ship.slam(22, noun(0, name))
    assert slot(product, 6) == noun("omen")
    assert slot(product, 15) == noun("noun", 4)


def test_peek_of_the_store_and_of_nothing(ship: Ship) -> None:
    ship.say("set k v")
    assert slot(ship.slam(22, noun(0, 0, path("kv", "k"))), 31) == cord("v")
    assert ship.slam(22, noun(0, 0, path("kv", "nothing"))) == 0
    assert ship.slam(22, noun(0, 0, path("nothing"))) == 0
    assert ship.slam(22, noun(0, 5)) == 0
    assert ship.slam(22, noun(0, 0)) == 0


def test_load_takes_an_older_state(ship: Ship) -> None:
    ship.say("set k v")
    state = slot(ship.kernel, 6)
    fresh = Ship()
    fresh.kernel = fresh.slam(4, state)
    assert fresh.say("get k") == ["v"]
    assert fresh.now > START
