"""Build the embedded pill: `python -m king.pill.build [--check]`.

Owns: treadle.pill beside it, `[%pill %treadle boot-ova ~ ~]`, jammed.
Invariants: the same sources give the same bytes (a test rebuilds it).
"""

from __future__ import annotations

import sys
from pathlib import Path

from king.pill.compiler import LoomError, boot_ova, load
from proto.jam import jam
from proto.noun import noun

__all__ = ["KERNEL", "PILL", "build", "main"]

HERE = Path(__file__).parent
KERNEL = HERE / "kernel.loom"
PILL = HERE / "treadle.pill"


def build(kernel: Path = KERNEL) -> bytes:
    """Compile a kernel to the bytes of a pill.

    :raises king.pill.compiler.LoomError: if its source is wrong.
    """
    return jam(noun("pill", "treadle", boot_ova(load(kernel)), 0, 0))


def main() -> int:
    """Write the pill, or with --check say whether it is up to date."""
    try:
        made = build()
    except LoomError as error:
        print(error, file=sys.stderr)
        return 1
    if sys.argv[1:] == ["--check"]:
        fresh = PILL.is_file() and PILL.read_bytes() == made
        print(f"{PILL.name}: {'up to date' if fresh else 'out of date'}")
        return 0 if fresh else 1
    PILL.write_bytes(made)
    print(f"{PILL.name}: {len(made)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
