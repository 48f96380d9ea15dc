"""The serf's command line."""

from __future__ import annotations

import pytest

from serf.__main__ import parse
from serf.engine import HOME_SIZE, NURSERY_SIZE
from serf.errors import SerfError, Usage

NEEDED = [
    *("--read", "3", "--write", "4", "--image", "/x/y"),
    *("--ship", "00" * 16, "--log", "0f" * 16),
    *("--event-max", "18446744073709551615"),
]


def test_parse_fills_in_what_is_not_given() -> None:
    options = parse(NEEDED)
    assert (options.read_fd, options.write_fd, options.image) == (3, 4, "/x/y")
    assert (options.ship, options.log) == (bytes(16), b"\x0f" * 16)
    assert options.event_max == (1 << 64) - 1
    assert (options.interrupt_fd, options.lock_fd, options.verify) == (-1, -1, False)
    assert (options.home_size, options.nursery_size) == (HOME_SIZE, NURSERY_SIZE)


def test_parse_takes_all_options() -> None:
    extra = ["--verify", "--interrupt", "5", "--lock", "6"]
    options = parse([*extra, *NEEDED, "--home-size", "7", "--nursery-size", "8"])
    assert (options.verify, options.interrupt_fd, options.lock_fd) == (True, 5, 6)
    assert (options.home_size, options.nursery_size) == (7, 8)


@pytest.mark.parametrize("name", NEEDED[::2])
def test_parse_names_what_is_missing(name: str) -> None:
    at = NEEDED.index(name)
    with pytest.raises(Usage, match=f"{name} is missing"):
        parse(NEEDED[:at] + NEEDED[at + 2 :])


@pytest.mark.parametrize("number", ["", "-1", "1.0", "x", "٣", "1_0"])
def test_parse_refuses_what_is_no_number(number: str) -> None:
    with pytest.raises(Usage, match="--lock needs a number"):
        parse([*NEEDED, "--lock", number])


def test_exit_codes_differ() -> None:
    kinds = SerfError.__subclasses__()
    assert len({kind.code for kind in kinds}) == len(kinds) >= 6
