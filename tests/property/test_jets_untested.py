"""No arm without a property test: each was reached by a file of this folder in this
very run, or is named here with the test that reaches it."""

from __future__ import annotations

from pathlib import Path

import pytest

from serf.engine import Engine
from tests.support.jets import HITS

TESTS = Path(__file__).parents[1]
FILES = {path.name for path in Path(__file__).parent.glob("test_jets_*.py")}

# They run a guest's own code, or a compiler's.
MACHINE = TESTS / "unit/native/jets_test.c"
COMPILER = TESTS / "integration/test_hoon_compiler.py"
ELSEWHERE = {
    "qua/mink": MACHINE,
    "qua/mole": MACHINE,
    "qua/mule": MACHINE,
    "qua/vi/mole": MACHINE,
    "qua/vi/mule": MACHINE,
    "pen/ut/nest/nest-in/nest-dext": COMPILER,
}


def test_every_arm_is_reached(request: pytest.FixtureRequest) -> None:
    chosen = request.config.option
    missing = FILES - set(HITS) - {Path(__file__).name}
    if missing or chosen.keyword or chosen.markexpr or chosen.deselect:
        pytest.skip("only a run of all of tests/property knows")
    arms = {arm.path for arm in Engine(home_size=1 << 24).arms()}
    reached = set().union(*HITS.values())
    assert arms - reached == set(ELSEWHERE)


@pytest.mark.parametrize("path", ELSEWHERE)
def test_the_others_are_named_where_they_are_reached(path: str) -> None:
    assert path.rsplit("/", 1)[-1] in ELSEWHERE[path].read_text()
