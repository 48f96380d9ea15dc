"""Frozen options: what the user asked for, once it has been understood.

Owns: defaults and their reasons. Only the CLI builds these from text.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

__all__ = [
    "KELVINS",
    "RUNTIME",
    "SCRUB_DAYS",
    "BootOptions",
    "Limits",
    "ReplayOptions",
    "RollLimits",
    "RunOptions",
    "SaveGoals",
    "runtime_version",
]

RUNTIME = "treadle-0.1.0"
"""What `vere.txt` of our epochs says. Distinct from every Vere version, so
that Vere asks for a snapshot of its own before it goes on with our log."""

SCRUB_DAYS = 7.0
"""In so many days an idle ship reads all of its image again."""

KELVINS: tuple[tuple[str, int], ...] = (
    ("zuse", 408),
    ("lull", 320),
    ("arvo", 234),
    ("hoon", 135),
    ("nock", 4),
)
"""The kernel interface that %wyrd announces (specification 3.7)."""


def runtime_version() -> str:
    """The version alone: `0.1.0`."""
    return RUNTIME.removeprefix("treadle-")


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on one event and the whole ship."""

    event_deadline_ms: int = 600_000
    """Live events; a %crud gets a fresh one. Replay has none: what is logged
    has once succeeded."""

    disk_low_water_bytes: int = 64 << 20
    """With less free than this, new events are refused; reading goes on."""

    disk_reserve_bytes: int = 32 << 20
    """Kept on the disk for the last commits, the last snapshot and maintenance
    of a ship whose disk is full: what can be in flight, twice."""

    shutdown_s: float = 30.0
    """From the request to stop until the serf is killed."""


@dataclass(frozen=True, slots=True)
class RollLimits:
    """When an epoch of the log has lasted long enough; 0: never by this."""

    events: int = 1_000_000
    """A replay from an epoch's start takes a minute or so then."""
    bytes: int = 4 << 30
    days: float = 30.0
    runtime: bool = True
    """Whether another runtime, or another version, begins an epoch of its own."""


@dataclass(frozen=True, slots=True)
class SaveGoals:
    """When to save a snapshot: king/maintain.py."""

    recovery_s: float = 20.0
    """A start, with its replay, is to take no longer."""
    write_bytes_per_day: int = 0
    """What saves may write; 0: as much as the goal asks for."""
    interval_s: float = 0.0
    """Also so long after the first event that is not saved; 0: no timer."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """`treadle run`."""

    pier: Path
    headless: bool = False
    http_host: str = "127.0.0.1"
    http_port: int | None = None
    """None: the port of the last run if free, else any; 0: any."""
    verify: bool = False
    """Verify every page of the image before it is used."""
    scrub_days: float = SCRUB_DAYS
    """0: never."""
    save_goals: SaveGoals = field(default_factory=SaveGoals)
    json: bool = False
    """Print reports as JSON lines."""
    kelvins: tuple[tuple[str, int], ...] = KELVINS
    limits: Limits = field(default_factory=Limits)
    reserve_bytes: int | None = None
    """None: as the limits say."""
    roll: RollLimits = field(default_factory=RollLimits)
    serf_options: tuple[str, ...] = ()
    """--jet-check, --no-jets: handed on as they are."""
    adopt: bool = False
    """Run it though it may be a copy."""
    record: Path | None = None
    """Where king and serf note what they do, for `king.lab.protocol`."""


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """`treadle replay`."""

    pier: Path
    from_scratch: bool = False
    until: int | None = None
    """Last event to replay; None: the end of the log."""
    json: bool = False
    serf_options: tuple[str, ...] = ()
    record: Path | None = None


@dataclass(frozen=True, slots=True)
class BootOptions:
    """`treadle boot`. `ship` is the @p as a number; only fakes for now."""

    pier: Path
    ship: int
    pill: Path | None = None
    """None: the embedded pill."""
    kelvins: tuple[tuple[str, int], ...] = KELVINS
