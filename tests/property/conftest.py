"""What the jets' files were seen to reach: test_jets_untested.py asks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.jets import note_hits


@pytest.fixture(scope="module", autouse=True)
def _hits_of_the_file(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    note_hits(Path(str(request.path)).name)
