"""When the image is read again: by a clock of the test's own."""

from __future__ import annotations

from typing import Any

import pytest

from serf.engine import Scrubbed
from serf.errors import ImageUnusable
from serf.scrub import LONGEST_S, RETRY_S, Scrub

DAY_S = 86_400.0
PAGES = 100_000
STEP = 16


class PaperEngine:
    """Pages that are passed in steps, unless it is busy; one may be rotten."""

    def __init__(self, pages: int = PAGES) -> None:
        self.pages = pages
        self.at = 0
        self.passes = 0
        self.busy = False
        self.rotten: int | None = None

    def scrub(self) -> Scrubbed:
        if self.busy:
            return Scrubbed(0, 0, 0, self.passes)
        begin, self.at = self.at, min(self.at + STEP, self.pages)
        if self.rotten in range(begin, self.at):
            raise ImageUnusable("a page is damaged")
        stepped = self.at - begin
        if self.at == self.pages:
            self.at = 0
            self.passes += 1
        return Scrubbed(stepped, self.at, self.pages, self.passes)


class Rig:
    def __init__(self, period_s: float, pages: int = PAGES) -> None:
        self.now = 1_000.0
        self.engine: Any = PaperEngine(pages)
        self.scrub = Scrub(self.engine, period_s, lambda: self.now)
        self.steps = 0

    def idle(self) -> None:
        """Nothing is asked until the next step."""
        self.now += self.scrub.patience_s
        self.scrub.step()
        self.steps += 1


def test_a_pass_takes_the_period() -> None:
    rig = Rig(7 * DAY_S)
    begun = rig.now
    while rig.engine.passes < 2:
        rig.idle()
    assert rig.now - begun == pytest.approx(14 * DAY_S, rel=1e-3)
    assert rig.steps == 2 * PAGES / STEP


def test_requests_do_not_put_a_step_off() -> None:
    rig = Rig(7 * DAY_S)
    rig.idle()
    due = rig.scrub.patience_s
    rig.now += due - 1  # works came and went
    assert rig.scrub.patience_s == pytest.approx(1)
    rig.now += 100
    assert rig.scrub.patience_s == 0


def test_it_asks_again_after_a_save() -> None:
    rig = Rig(7 * DAY_S)
    rig.engine.busy = True
    rig.idle()
    assert rig.scrub.patience_s == pytest.approx(RETRY_S)
    rig.engine.busy = False
    rig.idle()
    assert rig.engine.at == STEP


def test_a_small_image_is_looked_at_every_hour() -> None:
    rig = Rig(7 * DAY_S, pages=10)
    rig.idle()
    assert rig.scrub.patience_s == pytest.approx(LONGEST_S)


def test_gauges_tell_how_far_it_is() -> None:
    rig = Rig(DAY_S, pages=100)
    assert dict(rig.scrub.gauges()) == {"scrub_passes": 0, "scrub_percent": 0}
    for _ in range(4):
        rig.idle()
    assert dict(rig.scrub.gauges()) == {"scrub_passes": 0, "scrub_percent": 64}
    for _ in range(3):
        rig.idle()
    rig.now += 77
    told = {"scrub_passes": 1, "scrub_percent": 0, "scrub_last_s": 77}
    assert dict(rig.scrub.gauges()) == told


def test_rot_is_not_survived() -> None:
    rig = Rig(DAY_S)
    rig.engine.rotten = 2 * STEP
    rig.idle()
    rig.idle()
    with pytest.raises(ImageUnusable, match="damaged"):
        rig.idle()
