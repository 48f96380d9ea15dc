"""Recordings of ships in tests, and their judgement by the protocol's model."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

from king.lab.protocol import judge
from king.lab.recorder import read_recording

__all__ = ["check_recording", "recording_of"]


@functools.cache
def recording_of(pier: Path) -> Path:
    """Where the runs of this pier are recorded: on no disk that a test fills."""
    folder = Path(tempfile.mkdtemp(prefix="treadle-recording-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def check_recording(pier: Path) -> None:
    """What was recorded of this pier is a run of the model."""
    why = judge(read_recording(recording_of(pier)))
    assert why is None, f"no run of proto/model: {why}"
