"""A log against its hash chain, without a serf: is every job the one that was
committed?

What it is: a reader of a whole log, or of one epoch wherever it lies (in an
    archive, say). Run as a program it is a child that may die of a torn file.
Invariants: it writes nothing (but LMDB's reader table, where the ship is live).
Limits: it vouches for what is anchored; the tail after the last anchor, at most
    a stretch, is told of and not vouched for. Logs that another runtime made and
    that we never continued have no chain.

    python -m king.log.verify PATH [--live] [--first N] [--last N]

prints JSON lines: {"event": N} now and then, and at the end what `verify` gives.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from king.errors import TreadleError
from king.log.chain import check_rows, head_is_damaged, read_chain
from king.log.epoch import Epoch, Log, open_epoch, open_log
from king.log.start import read_start
from king.log.store import LmdbStore

__all__ = ["EVENT_MAX", "verify_epoch", "verify_log"]

EVENT_MAX = (1 << 64) - 1
_TELL_S = 0.1

Facts = dict[str, Any]
Advance = Callable[[int], None]


def verify_log(
    log: Log,
    first: int = 1,
    last: int = EVENT_MAX,
    advance: Advance | None = None,
    *,
    live: bool = False,
) -> Facts:
    """Verify the stretches that reach into first..last, and that each epoch goes
    on where the one before it ended.

    The answer: `ok`; `epochs`, oldest first, as `verify_epoch` gives them;
    `loose`, how many events after the last anchor nothing vouches for yet.
    """
    epochs: list[Facts] = []
    before: str | None = None
    for epoch, store in zip(log.epochs, log.stores, strict=True):
        growing = live and epoch is log.epochs[-1]
        facts = verify_epoch(epoch, store, first, last, advance, growing=growing)
        if before is not None:
            if facts["link"] is None:
                facts["faults"].append("its chain is missing")
            elif facts["base"] != before:
                facts["faults"].append("its chain is not that of the epoch before it")
        if epoch is not log.epochs[-1] and facts["link"] and facts["loose"]:
            facts["faults"].append(f"its last {facts['loose']} events are not chained")
        before = facts["link"] or before
        epochs.append(facts)
    ok = not any(facts["faults"] for facts in epochs)
    return {"ok": ok, "epochs": epochs, "loose": epochs[-1]["loose"]}


def verify_epoch(
    epoch: Epoch,
    store: LmdbStore,
    first: int = 1,
    last: int = EVENT_MAX,
    advance: Advance | None = None,
    *,
    growing: bool = False,
) -> Facts:
    """`name`; `first` and `last` event of it; `vouched`, the stretch that was
    verified, or None; `loose`, how many are after the last anchor; `base` and
    `link`, of its start and its last anchor in hex, None where there is no
    chain; `faults` in words; `bad_events`. `growing`: somebody adds to it, who
    was not looked at any more."""
    facts: Facts = {
        "name": epoch.path.name,
        "first": store.first,
        "last": store.last,
        "vouched": None,
        "loose": store.last - epoch.start,
        "base": None,
        "link": None,
        "faults": [],
        "bad_events": [],
    }
    try:
        found = read_chain(epoch.chain_path)
    except OSError as error:
        facts["faults"].append(f"its chain cannot be read: {error.strerror}")
        return facts
    if found is None:
        if head_is_damaged(epoch.chain_path):
            facts["faults"].append("its chain is damaged from the beginning")
        return facts
    if found.damaged and not growing:
        facts["faults"].append(
            f"its chain is damaged after event {found.last}, at byte {found.size}"
        )
    if growing:
        found = found.until(store.last)
    facts.update(
        base=found.base.hex(),
        link=found.link.hex(),
        loose=max(store.last - found.last, 0),
    )
    if found.start != epoch.start:
        facts["faults"].append(f"its chain begins after event {found.start}")
        return facts
    kept = read_start(epoch)
    if kept is not None and kept.chain not in ("", facts["base"]):
        facts["faults"].append("its chain does not begin as its record says")
    if found.last > store.last:
        facts["faults"].append(
            f"its chain vouches for events up to {found.last}, and it ends with "
            f"{store.last}: events were lost (treadle explain log-behind)"
        )
    checked = check_rows(found, last, store.read, first=first, advance=advance)
    if checked.last:
        facts["vouched"] = [checked.first, checked.last]
    facts["faults"] += checked.faults
    facts["bad_events"] += checked.bad_events
    return facts


def _verify_path(path: Path, live: bool, first: int, last: int) -> Facts:
    """A log directory, or an epoch's."""
    told = time.monotonic()

    def advance(event: int) -> None:
        nonlocal told
        if time.monotonic() - told >= _TELL_S:
            told = time.monotonic()
            print(json.dumps({"event": event}), flush=True)

    if not path.name.startswith("0i"):
        log = open_log(path, read_only=True, live=live)
        try:
            return verify_log(log, first, last, advance, live=live)
        finally:
            log.close()
    epoch, store = open_epoch(path)
    try:
        facts = verify_epoch(epoch, store, first, last, advance)
        return {
            "ok": not facts["faults"],
            "epochs": [facts],
            "loose": facts["loose"],
        }
    finally:
        store.close()


def _main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("path", type=Path)
    parser.add_argument("--live", action="store_true")
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--last", type=int, default=EVENT_MAX)
    args = parser.parse_args()
    try:
        answer = _verify_path(args.path, args.live, args.first, args.last)
    except TreadleError as error:
        answer = error.as_json()
    print(json.dumps(answer), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(_main())
