"""`treadle log verify`: a ship's log, or an epoch in an archive, against its hash
chain.

What it is: a bar and words around `python -m king.log.verify`, a process that
    may die of a torn file.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from king.errors import EXIT_CODES, TreadleError
from king.modules import module_command

__all__ = ["show_verified", "verify_path"]

Facts = dict[str, Any]


def verify_path(
    path: Path,
    *,
    live: bool = False,
    first: int | None = None,
    last: int | None = None,
    advance: Callable[[int], None] | None = None,
) -> Facts:
    """As king.log.verify gives it, of a log directory or an epoch's.

    :raises TreadleError: what opening it raises; failed, if reading it kills
    """
    words = [str(path)]
    words += ["--live"] if live else []
    words += ["--first", str(first)] if first is not None else []
    words += ["--last", str(last)] if last is not None else []
    command, environment = module_command("king.log.verify", *words)
    value: Facts = {}
    with subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            for line in process.stdout:
                value = json.loads(line)
                if advance is not None and "event" in value:
                    advance(value["event"])
            said = process.stderr.read().decode(errors="replace").strip()
        except BaseException:
            process.kill()
            raise
    if value.get("error") in EXIT_CODES:
        raise TreadleError(value["error"], value["message"], value["hint"])
    if process.returncode or "ok" not in value:
        why = said.splitlines()[-1] if said else f"exit code {process.returncode}"
        raise TreadleError(
            "log-bad",
            f"reading {path} killed the reader: {why}",
            "restore it from a copy; nothing was changed",
        )
    return value


def show_verified(path: Path, found: Facts) -> str:
    """For people."""
    lines = []
    for epoch in found["epochs"]:
        name = epoch["name"]
        if epoch["faults"]:
            lines += [f"BAD  {name}: {fault}" for fault in epoch["faults"]]
        elif epoch["link"] is None:
            lines.append(f"-    {name}: no chain; treadle has not continued it")
        elif epoch["vouched"] is None:
            lines.append(f"-    {name}: nothing to verify")
        else:
            first, last = epoch["vouched"]
            lines.append(
                f"ok   {name}: events {first:,} to {last:,} are those that were "
                f"committed; link {epoch['link']}"
            )
    if found["loose"]:
        lines.append(f"-    {found['loose']:,} later events are not anchored yet")
    if not found["ok"]:
        verdict = "is NOT whole"
    elif any(epoch["vouched"] for epoch in found["epochs"]):
        verdict = "is whole"
    else:
        verdict = "has nothing to verify here"
    return "\n".join([*lines, f"{path} {verdict}"])
