"""Which units of native/ a C test program links.

Its first line names them, `/* units: noun nursery mug */`. `jets` stands for
all of native/jets, `machine` for what runs Nock, `images` for what keeps home in a
file, `serf` for all but the codec.
"""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["LIBRARIES", "NATIVE", "units_of"]

NATIVE = Path(__file__).resolve().parents[2] / "native"
LIBRARIES = ["-lmpfr", "-lgmp", "-lnettle", "-lpthread", "-lm"]
MACHINE = (
    "noun nursery home freeze collect survey mug jam status atom big code memo jet "
    "listing probe stub nock jets"
)
IMAGES = (
    "image image_save image_pins image_copy freeze home collect nursery noun mug status"
)
SERF = " ".join({unit.stem for unit in NATIVE.glob("*.c")} - {"codec"} | {"jets"})


def units_of(source: Path) -> list[Path]:
    """The C files to link with `source`, which says `/* units: NAME... */`."""
    first = source.read_text().splitlines()[0]
    match = re.fullmatch(r"/\* units: ([\w/ ]+?) \*/", first)
    assert match, f"{source.name}: first line must name its units"
    names = match[1].replace("machine", MACHINE).replace("serf", SERF)
    names = names.replace("images", IMAGES).split()
    units: list[Path] = []
    for name in names:
        jets = sorted((NATIVE / "jets").glob("*.c"))
        units += jets if name == "jets" else [NATIVE / f"{name}.c"]
    return units
