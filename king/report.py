"""What a start found and did; what a death left behind.

Owns: `.urb/recovery.json`, the last report; `.urb/bug/`, repro bundles of
    quarantined events.
Invariants: the report is told to people at every start.
Limits: none of these files is needed to start; losing them loses words.
"""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from king.config import RUNTIME
from king.lord import Death
from king.pipeline import Poke
from king.replay import Replayed
from proto.cord import path_text

__all__ = ["Recovery", "keep_repro", "write_beside"]


@dataclass(slots=True)
class Recovery:
    """The report of one start. Numbers of events; None is "not known"."""

    runtime: str = RUNTIME
    started: float = field(default_factory=time.time)
    log_first: int = 0
    log_last: int = 0
    log_bytes: int = 0
    snapshot_event: int = 0
    snapshot_generation: int = 0
    fell_back: int = 0
    snapshot_note: str = ""
    replayed: int = 0
    replay_seconds: float = 0.0
    clean: bool = False
    released: int | None = None
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def unsure(self) -> tuple[int, int] | None:
        """The events whose effects may not have left; None if there are none."""
        if self.released is None:
            return (self.log_first, self.log_last) if self.log_last else None
        if self.released >= self.log_last:
            return None
        return self.released + 1, self.log_last

    def add_replay(self, replayed: Replayed) -> None:
        self.replayed = replayed.count
        self.replay_seconds = replayed.elapsed_s

    def as_json(self) -> dict[str, Any]:
        unsure = self.unsure
        return {
            "runtime": self.runtime,
            "started": self.started,
            "clean": self.clean,
            "log": {
                "first": self.log_first,
                "last": self.log_last,
                "bytes": self.log_bytes,
            },
            "snapshot": {
                "event": self.snapshot_event,
                "generation": self.snapshot_generation,
                "fell_back": self.fell_back,
                "note": self.snapshot_note,
            },
            "replayed": {"events": self.replayed, "seconds": self.replay_seconds},
            "discarded": {"snapshots": self.fell_back},
            "effects_unsure": list(unsure) if unsure else None,
            "effects_known": self.released is not None,
            "notes": self.notes,
            "seconds": self.seconds,
        }

    def lines(self) -> list[str]:
        """For people: what they need, no more."""
        found = f"found {self.log_last:,} events in the log"
        if self.log_first > 1:
            found = f"found events {self.log_first:,} to {self.log_last:,} in the log"
        if self.snapshot_event:
            found += f", a snapshot of event {self.snapshot_event:,}"
        else:
            found += ", no snapshot"
        out = [found]
        if self.fell_back:
            one = self.fell_back == 1
            out.append(
                f"refused {self.fell_back} newer snapshot{'' if one else 's'}"
                + (f": {self.snapshot_note}" if self.snapshot_note else "")
            )
        elif self.snapshot_note:
            out.append(self.snapshot_note)
        if self.replayed:
            out.append(
                f"replayed {self.replayed:,} event{'' if self.replayed == 1 else 's'} "
                f"in {self.replay_seconds:.1f} s; every mug agrees"
            )
        unsure = self.unsure
        if unsure and self.released is not None:
            first, last = unsure
            which = f"event {first:,}" if first == last else f"{first:,} to {last:,}"
            out.append(
                f"the last run ended without a goodbye: effects of {which} may not "
                "have left (they are not repeated)"
            )
        elif unsure:
            out.append(
                "how far the effects of earlier runs got is not known (they are "
                "not repeated)"
            )
        elif not self.clean and self.released is not None:
            out.append("the last run ended without a goodbye; nothing was lost")
        return out + self.notes


def write_beside(path: Path, value: dict[str, Any]) -> None:
    """Replace a file of words. A full disk must not keep a ship from starting."""
    temporary = path.with_name(path.name + ".new")
    try:
        temporary.write_text(json.dumps(value, indent=2) + "\n")
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def keep_repro(folder: Path, poke: Poke, death: Death, event: int, mug: int) -> Path:
    """Write what is needed to see a quarantined event kill a serf again.

    `event`, `mug`: the state that it was offered to.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    tag = "".join(c if c.isalnum() else "-" for c in poke.ovum.tag)[:32]
    bundle = folder / f"{stamp}-{tag or 'event'}"
    count = 1
    while bundle.exists():
        count += 1
        bundle = folder / f"{stamp}-{tag or 'event'}-{count}"
    with contextlib.suppress(OSError):
        bundle.mkdir(parents=True)
        (bundle / "job.jam").write_bytes(poke.job)
        cause = {
            "runtime": RUNTIME,
            "after_event": event,
            "after_mug": f"{mug:08x}",
            "wire": path_text(poke.ovum.wire),
            "tag": poke.ovum.tag,
            "deaths": poke.deaths,
            "cause": death.cause,
            "exit_code": death.code,
            "signal": death.signal,
            "memory_peak_bytes": death.memory_peak_bytes,
            "oom_kills": death.oom_kills,
            "stderr": list(death.stderr),
            "how": "job.jam is the event that was being computed on the state "
            "after `after_event`; it is in no log and was never computed",
        }
        (bundle / "cause.json").write_text(json.dumps(cause, indent=2) + "\n")
    return bundle
