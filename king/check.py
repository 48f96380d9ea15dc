"""`treadle check`: is this pier whole? Operators' tool and the tests' oracle.

What it is: a reader of everything in a pier; it reports value by value.
Invariants: it writes nothing at all, unless the ship is live (then LMDB's
    reader table, so that the log's pages are not reused beneath us); what it
    cannot check it says it skipped.
Limits: it does not compute: that the log leads to the snapshot is for
    `treadle replay --from-scratch` to show.

The log is read in a child process: a torn or hostile file can kill whoever
maps it, and the report must outlive that. The image is verified by a serf.
"""

from __future__ import annotations

import hashlib
import json
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from king.errors import TreadleError
from king.log.epoch import Log, open_log
from king.log.store import FORMAT, LmdbStore
from king.log.verify import verify_log
from king.manifest import Manifest, read_manifest
from king.modules import run_module
from king.pier import Layout, check_is_pier, identity_bytes, who_locks
from proto import fast
from proto.errors import CueError

__all__ = [
    "Finding",
    "Report",
    "check_pier",
    "image_info",
    "inspect_image",
]

_BATCH_ROWS = 4096
_BATCH_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `state` is ok, bad or skipped."""

    name: str
    state: str
    text: str


@dataclass(frozen=True, slots=True)
class Report:
    """All findings, and the figures that scripts want."""

    pier: str
    findings: tuple[Finding, ...]
    facts: dict[str, Any]

    @property
    def ok(self) -> bool:
        return all(finding.state != "bad" for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        return {
            "pier": self.pier,
            "ok": self.ok,
            **self.facts,
            "findings": [asdict(finding) for finding in self.findings],
        }

    def text(self) -> str:
        marks = {"ok": "ok  ", "bad": "BAD ", "skipped": "-   "}
        lines = [
            f"{marks[finding.state]} {finding.name:<9} {finding.text}"
            for finding in self.findings
        ]
        bad = sum(finding.state == "bad" for finding in self.findings)
        verdict = "whole" if not bad else f"NOT whole: {_counted(bad, 'fault')}"
        return "\n".join([*lines, f"{self.pier} is {verdict}"])


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


# --- the whole --------------------------------------------------------------


def check_pier(root: Path, deep: bool = False) -> Report:
    """Look at everything. Faults are findings, not exceptions. `deep`: also at each
    noun of each state that is kept, the epochs' too.

    :raises TreadleError: pier-missing, pier-bad, no-permission
    """
    layout = check_is_pier(root)
    holder = who_locks(layout)
    findings: list[Finding] = []
    facts: dict[str, Any] = {"live": holder is not None}
    if holder is not None:
        findings.append(Finding("lock", "ok", f"held by {holder}: a live ship"))
    manifest = _check_manifest(layout, findings)
    log = _check_log(layout, holder is not None, findings)
    facts.update(log)
    if manifest is not None and "who" in log:
        same = int(log["who"], 16) == manifest.ship
        text = "manifest and log name the same ship"
        if not same:
            text = f"the manifest says 0x{manifest.ship:x}, the log {log['who']}"
        findings.append(Finding("identity", "ok" if same else "bad", text))
    if holder is not None and layout.image.exists():
        text = "not verified: the ship is live and may be saving; stop it first"
        findings.append(Finding("image", "skipped", text))
    else:
        _check_image(layout, manifest, log, findings, facts, deep)
    if deep:
        _check_epoch_images(layout, findings)
    return Report(str(root), tuple(findings), facts)


def _check_manifest(layout: Layout, findings: list[Finding]) -> Manifest | None:
    try:
        manifest = read_manifest(layout.manifest)
    except TreadleError as error:
        findings.append(Finding("manifest", "bad", str(error)))
        return None
    if manifest is None:
        text = "none: made by another runtime, not yet adopted by treadle"
        findings.append(Finding("manifest", "skipped", text))
    else:
        kind = "adopted by" if manifest.adopted else "made by"
        text = (
            f"format {manifest.format}, {kind} {manifest.created_by}, started "
            f"{_counted(manifest.generation, 'time')}"
        )
        findings.append(Finding("manifest", "ok", text))
    return manifest


# --- children ---------------------------------------------------------------


def _ask_child(module: str, *arguments: str) -> dict[str, Any]:
    """The last line of a child's output, a JSON object.

    :raises TreadleError: failed (it died, or said something else)
    """
    done = run_module(module, *arguments)
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise TreadleError("failed", f"reading it killed the reader ({name})")
    try:
        value = json.loads(done.stdout.splitlines()[-1])
        if isinstance(value, dict):
            return value
    except (ValueError, IndexError):
        pass
    said = done.stderr.decode(errors="replace").strip().splitlines()
    why = said[-1] if said else f"exit code {done.returncode}"
    raise TreadleError("failed", f"the reader failed: {why}")


# --- the log ----------------------------------------------------------------


def _check_log(layout: Layout, live: bool, findings: list[Finding]) -> dict[str, Any]:
    """What the child found; {} where there is nothing to know."""
    arguments = ["--log", str(layout.log_dir), *(["--live"] if live else [])]
    try:
        value = _ask_child("king.check", *arguments)
    except TreadleError as error:
        findings.append(Finding("log", "bad", error.message))
        return {}
    findings.extend(Finding(*finding) for finding in value.pop("findings"))
    return value


def _inspect_log(log_dir: Path, live: bool) -> dict[str, Any]:
    """In the child: read all of it."""
    findings: list[tuple[str, str, str]] = []
    facts: dict[str, Any] = {}
    try:
        log = open_log(log_dir, read_only=True, live=live)
    except TreadleError as error:
        name = "meta" if error.code == "meta-bad" else "log"
        findings.append((name, "bad", str(error)))
        return {"findings": findings}
    try:
        findings.extend(("log", "skipped", note) for note in log.notes)
        _inspect_meta(log_dir, log, live, findings, facts)
        _inspect_rows(log, findings, facts)
        _inspect_chain(log, live, findings, facts)
    finally:
        log.close()
    return {**facts, "findings": findings}


def _inspect_meta(
    log_dir: Path,
    log: Log,
    live: bool,
    findings: list[tuple[str, str, str]],
    facts: dict[str, Any],
) -> None:
    meta = log.meta
    facts.update(who=f"0x{meta.who:x}", fake=meta.fake, life=meta.life)
    faults: list[str] = []
    if not 0 < meta.life <= max(log.last, 1):
        faults.append(f"life is {meta.life}, and the log ends at {log.last}")
    for store in log.stores:
        if (store.meta.who, store.meta.fake, store.meta.life) != (
            meta.who,
            meta.fake,
            meta.life,
        ):
            faults.append(f"{store.path} differs: {store.meta}")
    if log.epochs[0].path != log_dir:
        try:
            top = LmdbStore(log_dir, read_only=True, live=live, events=False)
        except TreadleError as error:
            faults.append(str(error))
        else:
            with_top = (top.meta.who, top.meta.fake, top.meta.life, top.meta.version)
            top.close()
            if with_top != (meta.who, meta.fake, meta.life, FORMAT):
                faults.append(f"the top directory differs: {top.meta}")
    text = "; ".join(faults) or (
        f"ship {facts['who']}, {'fake' if meta.fake else 'real'}, life {meta.life}, "
        f"version {meta.version}"
    )
    findings.append(("meta", "bad" if faults else "ok", text))


def _inspect_rows(
    log: Log, findings: list[tuple[str, str, str]], facts: dict[str, Any]
) -> None:
    digest = hashlib.sha256()
    number = log.epochs[0].start + 1
    mug = 0
    faults = 0
    facts.update(
        first=log.first,
        last=log.last,
        epochs=[epoch.path.name for epoch in log.epochs],
        log_bytes=log.size_bytes(),
    )
    if not log.last:
        findings.append(("log", "bad", "there are no events: the boot never ended"))
        return
    try:
        while rows := log.read(number, _BATCH_ROWS, _BATCH_BYTES):
            for row in rows:
                digest.update(row.mug.to_bytes(4, "little"))
                digest.update(row.job)
                why = _job_fault(row.job)
                if why:
                    faults += 1
                    if faults <= 10:
                        findings.append(("log", "bad", f"event {number}: {why}"))
                number += 1
                mug = row.mug
    except TreadleError as error:
        findings.append(("log", "bad", str(error)))
        return
    facts.update(mug=f"{mug:08x}", log_sha256=digest.hexdigest())
    if faults > 10:
        findings.append(("log", "bad", f"and {faults - 10} more such events"))
    if not faults:
        epochs = _counted(len(log.epochs), "epoch")
        text = f"events {log.first} to {log.last} in {epochs}, without holes, "
        text += "every jam canonical"
        if not log.first:
            text = f"no event yet in {epochs}: it goes on from event {log.last}"
        text += f"; {log.size_bytes():,} bytes"
        findings.append(("log", "ok", text))


def _inspect_chain(
    log: Log, live: bool, findings: list[tuple[str, str, str]], facts: dict[str, Any]
) -> None:
    """Are the jobs those that were committed?"""
    if not log.last:
        return
    verified = verify_log(log, live=live)
    links = [epoch for epoch in verified["epochs"] if epoch["link"]]
    facts.update(chain=links[-1]["link"] if links else None, loose=verified["loose"])
    for epoch in verified["epochs"]:
        findings += [
            ("chain", "bad", f"{epoch['name']}: {fault}") for fault in epoch["faults"]
        ]
    if not links:
        text = "none yet: it begins when treadle starts the ship"
        findings.append(("chain", "skipped", text))
    elif verified["ok"]:
        vouched = [epoch["vouched"] for epoch in links if epoch["vouched"]]
        first, last = (vouched[0][0], vouched[-1][1]) if vouched else (0, 0)
        text = f"events {first} to {last} are those that were committed"
        if verified["loose"]:
            text += f"; {verified['loose']} later ones are not anchored yet"
        findings.append(("chain", "ok", text))


def _job_fault(job: bytes) -> str:
    """What is wrong with a logged jam; "" if nothing."""
    try:
        canonical = fast.rejam(job)
    except CueError as error:
        return f"it is not a noun ({error.text})"
    return "" if canonical == job else "its jam is not canonical"


# --- the image --------------------------------------------------------------


def inspect_image(path: Path, deep: bool = False) -> dict[str, Any]:
    """Let a serf verify an image file, all of it; `deep`: and every noun.

    :raises TreadleError: failed
    """
    more = ["--deep"] if deep else []
    return _ask_child("serf", "check-image", str(path), *more, "--json")


def image_info(path: Path) -> dict[str, Any]:
    """What an image's newest superblock says; quick, whatever its size.

    :raises TreadleError: failed
    """
    return _ask_child("serf", "image-info", str(path), "--json")


def _check_image(
    layout: Layout,
    manifest: Manifest | None,
    log: dict[str, Any],
    findings: list[Finding],
    facts: dict[str, Any],
    deep: bool,
) -> None:
    if not layout.image.exists():
        text = "none: the next start replays the log"
        findings.append(Finding("image", "skipped", text))
        return
    try:
        image = inspect_image(layout.image, deep)
    except TreadleError as error:
        findings.append(Finding("image", "bad", error.message))
        return
    event = int(image["event"])
    mug = int(image["mug"], 16)
    facts.update(snapshot_event=event, snapshot_mug=f"{mug:08x}")
    faults = [str(image["fault"])] if image["fault"] else []
    if not image["good"]:
        faults = faults or ["no generation in it is usable"]
    elif manifest is not None:
        faults += _image_faults(image, event, mug, manifest, layout, log)
    text = "; ".join(faults) or (
        f"snapshot of event {event}, {_counted(image['generations'], 'generation')}, "
        "every checksum good"
    )
    findings.append(Finding("image", "bad" if faults else "ok", text))


def _check_epoch_images(layout: Layout, findings: list[Finding]) -> None:
    """The states that epochs begin with."""
    for path in sorted(layout.log_dir.glob("0i*/treadle.image")):
        name = f"the state at the start of {path.parent.name}"
        try:
            fault = str(inspect_image(path, True)["fault"])
        except TreadleError as error:
            fault = error.message
        text = f"{name}: {fault or 'every checksum good, every noun well-formed'}"
        findings.append(Finding("epoch", "bad" if fault else "ok", text))


def _image_faults(
    image: dict[str, Any],
    event: int,
    mug: int,
    manifest: Manifest,
    layout: Layout,
    log: dict[str, Any],
) -> list[str]:
    """Does the image belong to this log?"""
    faults: list[str] = []
    if image["log"] != manifest.identity.hex():
        faults.append("it belongs to another log")
    if image["ship"] != identity_bytes(manifest.ship).hex():
        faults.append("it belongs to another ship")
    last = log.get("last")
    if last is None:
        return faults
    if event > last:
        faults.append(
            f"its event {event} is beyond the log's last, {last}: events were lost "
            "(treadle explain log-behind)"
        )
    else:
        logged = _logged_mug(layout, event)
        if logged and logged != mug:
            faults.append(
                f"its mug is {mug:08x}, the log's at event {event} is {logged:08x}"
            )
    return faults


def _logged_mug(layout: Layout, event: int) -> int:
    """Safe here: the child has read this log through."""
    try:
        log = open_log(layout.log_dir, read_only=True)
    except TreadleError:
        return 0
    try:
        rows = log.read(event, 1) if 0 < log.first <= event else []
        return rows[0].mug if rows else 0
    finally:
        log.close()


def _main(arguments: list[str]) -> int:
    assert arguments[0] == "--log"
    found = _inspect_log(Path(arguments[1]), "--live" in arguments[2:])
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
