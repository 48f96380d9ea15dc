"""The log on disk against the log in memory, through random lives."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
)

from king.log.chain import check_rows, read_chain
from king.log.epoch import Log, create_log, open_log, sweep
from king.log.store import MemoryLog, Meta
from proto.message import Jam, Row

META = Meta(who=1 << 40, fake=True, life=1)
MAP_SIZE = 1 << 22
ROWS = st.lists(
    st.builds(
        Row,
        st.integers(0, (1 << 31) - 1),
        st.binary(min_size=1, max_size=9000).map(Jam),
    ),
    min_size=1,
    max_size=40,
)


class LogMachine(RuleBasedStateMachine):
    """Append, read, settle, close and open again, roll, chop; the map overflows."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "log"
        boot = [Row(0, Jam(b"boot"))]
        create_log(self.path, META, boot, "treadle-test", map_size=MAP_SIZE)
        self.model = MemoryLog(META, boot)
        self.real: Log = open_log(self.path, map_size=MAP_SIZE)

    def teardown(self) -> None:
        self.real.close()
        shutil.rmtree(self.folder)

    @rule(rows=ROWS)
    def append(self, rows: list[Row]) -> None:
        first = self.model.last + 1
        self.model.append(first, rows)
        self.real.append(first, rows)

    @rule(back=st.integers(0, 60), rows_max=st.integers(1, 30), kib=st.integers(1, 64))
    def read(self, back: int, rows_max: int, kib: int) -> None:
        first = max(self.model.starts[0] + 1, self.model.last - back)
        if first > self.model.last:
            return
        wanted = self.model.read(first, rows_max, kib << 10)
        found = self.real.read(first, rows_max, kib << 10)
        # A batch of the real log also ends where an epoch ends.
        assert found
        assert found == wanted[: len(found)]
        ends = {epoch.start for epoch in self.real.epochs}
        assert len(found) == len(wanted) or first + len(found) - 1 in ends

    @rule()
    def read_beyond(self) -> None:
        assert self.real.read(self.model.last + 1) == []

    @rule()
    def settle(self) -> None:
        self.real.settle()

    @rule()
    def reopen(self) -> None:
        self.real.close()
        self.real = open_log(self.path, map_size=MAP_SIZE)

    @rule()
    def look_from_aside(self) -> None:
        self.real.close()
        aside = open_log(self.path, read_only=True)
        assert (aside.first, aside.last) == (self.model.first, self.model.last)
        aside.close()
        self.real = open_log(self.path, map_size=MAP_SIZE)

    @precondition(lambda self: self.model.last > self.real.epochs[-1].start)
    @rule()
    def roll(self) -> None:
        self.real.prepare_roll("treadle-test")
        assert self.real.roll() == self.model.roll() == self.model.last

    @rule()
    def roll_again(self) -> None:
        """An epoch without events is not rolled."""
        if self.model.last == self.model.starts[-1]:
            assert self.real.roll() is self.model.roll() is None

    @precondition(lambda self: len(self.real.epochs) > 2)
    @rule()
    def chop(self) -> None:
        self.real.take_oldest()
        self.model.take_oldest()
        sweep(self.path)

    @precondition(lambda self: self.model.last > self.real.epochs[0].start)
    @rule()
    def verify(self) -> None:
        """The chain agrees with the rows, and reaches from epoch to epoch."""
        self.real.close()
        aside = open_log(self.path, read_only=True)
        link = None
        for epoch, store in zip(aside.epochs, aside.stores, strict=True):
            found = read_chain(epoch.chain_path)
            if found is None:
                assert link is None  # nothing was chained before this epoch
                continue
            assert link in (None, found.base)
            checked = check_rows(found, store.last, store.read)
            assert not checked.faults
            if store is not aside.stores[-1]:
                assert found.last == store.last
            link = found.link
        aside.close()
        self.real = open_log(self.path, map_size=MAP_SIZE)

    @invariant()
    def ends_agree(self) -> None:
        assert (self.real.first, self.real.last) == (self.model.first, self.model.last)
        assert [epoch.start for epoch in self.real.epochs] == self.model.starts
        assert self.real.meta == self.model.meta


LogMachine.TestCase.settings = settings(
    max_examples=20, stateful_step_count=25, deadline=None
)
TestLogModel = LogMachine.TestCase
