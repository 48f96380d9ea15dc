"""How a process of our own is started: a module of this very tree."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

__all__ = ["module_command", "module_environment", "run_module"]


def module_command(module: str, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """Command and environment for `python -m module`, never from the current
    directory."""
    return [sys.executable, "-P", "-m", module, *arguments], module_environment()


def module_environment() -> dict[str, str]:
    """Ours, with the place that `king` was imported from first on the path."""
    root = str(Path(__file__).resolve().parent.parent)
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def run_module(module: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """What became of `python -m module`, and what it said.

    :raises OSError: there is no process to be had.
    """
    command, environment = module_command(module, *arguments)
    return subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
