"""Is all of this pier of a format that we know?

What it is: a look at the first bytes of everything that carries a format, before
    anything in the pier is written.
Limits: what is damaged is for others to tell: they name it where they read it.
    The format of the log itself is LMDB's META, and `open_log`'s.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING

from king.errors import TreadleError
from king.log.chain import CHAIN_FILE
from king.log.epoch import find_epochs
from king.manifest import read_manifest

if TYPE_CHECKING:
    from king.pier import Layout

__all__ = [
    "CHAIN_MAGIC",
    "IMAGE_FORMAT",
    "IMAGE_MAGIC",
    "IMAGE_RING",
    "check_formats",
    "read_at",
]

IMAGE_FORMAT = 2
"""native/image.h; a test holds the two together, and the next one."""
CHAIN_MAGIC = b"trchain1"
_IMAGE_HEAD = struct.Struct("<8sI")
IMAGE_MAGIC = b"nkimage\n"
IMAGE_RING = (0, 1 << 14, 2 << 14, 3 << 14)
"""Where the superblocks are."""


def check_formats(layout: Layout) -> None:
    """Refuse by its name whatever a newer runtime wrote: the manifest, epochs and
    their chains, the image.

    :raises TreadleError: pier-newer, manifest-bad, log-newer, image-newer
    """
    read_manifest(layout.manifest)
    epochs, _ = find_epochs(layout.log_dir)
    for epoch in epochs:
        chain = epoch.path / CHAIN_FILE
        magic = read_at(chain, 0, len(CHAIN_MAGIC))
        if magic[:-1] == CHAIN_MAGIC[:-1] and magic > CHAIN_MAGIC:
            raise _newer("log-newer", chain, chr(magic[-1]), chr(CHAIN_MAGIC[-1]))
    for at in IMAGE_RING:
        head = read_at(layout.image, at, _IMAGE_HEAD.size)
        if len(head) < _IMAGE_HEAD.size:
            continue
        magic, form = _IMAGE_HEAD.unpack(head)
        if magic == IMAGE_MAGIC and form > IMAGE_FORMAT:
            raise _newer("image-newer", layout.image, form, IMAGE_FORMAT)


def _newer(code: str, path: Path, form: object, ours: object) -> TreadleError:
    return TreadleError(
        code,
        f"{path} has format {form}; this treadle knows up to {ours}",
        "start the pier with the newer treadle; nothing was changed",
    )


def read_at(path: Path, at: int, size: int) -> bytes:
    """Some bytes of a file; fewer or none where it has not so many."""
    try:
        with path.open("rb") as file:
            file.seek(at)
            return file.read(size)
    except OSError:
        return b""
