"""What the lab's tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from king.lab.trial import Lab


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Its ship is booted once a module."""
    with Lab() as made:
        yield made
