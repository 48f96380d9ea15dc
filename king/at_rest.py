"""What a ship that does not run looks like: `treadle status` of its files.

What it is: a reader; it writes nothing and takes no lock.
Limits: of the image a serf reads the superblocks only; `treadle check`
    verifies all. If that cannot be done, `snapshot_event` is None.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from king.copies import why_a_copy
from king.errors import TreadleError
from king.log.epoch import open_log
from king.manifest import read_manifest
from king.pier import check_is_pier
from proto.cord import ship_text

__all__ = ["rest_status"]


def rest_status(root: Path) -> dict[str, Any]:
    """The same keys as a live ship's status, from its files, and `copy`: why it
    is one, and will not run before it is adopted; None if it is not.

    :raises TreadleError: pier-missing, pier-bad, log-*, meta-bad, ...
    """
    layout = check_is_pier(root)
    manifest = read_manifest(layout.manifest)
    log = open_log(layout.log_dir, read_only=True)
    try:
        rows = log.read(log.last, 1) if log.first else []
        value: dict[str, Any] = {
            "state": "stopped",
            "copy": why_a_copy(layout, manifest) if manifest else None,
            "ship": ship_text(log.meta.who),
            "event": log.last,
            "mug": f"{rows[0].mug:08x}" if rows and rows[0].mug else None,
            "snapshot_event": None,
            "pins": {},
            "log_bytes": log.size_bytes(),
            "epochs": [epoch.path.name for epoch in log.epochs],
            "http": None,
            "pid_king": None,
            "pid_serf": None,
            "runtime": manifest.created_by if manifest else log.epochs[0].runtime,
            "starts": manifest.generation if manifest else 0,
        }
    finally:
        log.close()
    if layout.image.exists():
        # Imported late: most calls of `status` are for live ships.
        from king.check import image_info

        try:
            image = image_info(layout.image)
        except TreadleError:
            return value
        if image["good"]:
            value["snapshot_event"] = image["event"]
            value["pins"] = {pin["name"]: pin["event"] for pin in image["pins"]}
            # The rows of a boot carry no mugs; the snapshot knows.
            if value["mug"] is None and image["event"] == log.last:
                value["mug"] = image["mug"]
    return value
