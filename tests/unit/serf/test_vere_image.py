"""Vere's image.bin: what is honest is read, what is not is refused in words."""

from __future__ import annotations

import contextlib
import random
import struct
from pathlib import Path

import pytest

from king.lab.loom import Loom
from proto import fast
from proto.jam import cue, jam
from proto.mug import mug
from proto.noun import Cell, Noun, noun
from serf.vere_image import PAGE, BadImage, read_image
from tests.support import golden


def deep(size: int) -> Noun:
    n: Noun = 0
    for number in range(size):
        n = Cell(n, number) if number % 2 else Cell(number, n)
    return n


@pytest.mark.parametrize(
    "kernel",
    [
        noun(1, 2, 3),
        noun((1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 1000),
        noun("a long cord with many letters", [1, 2, 3, "and so on"]),
        deep(50_000),
    ],
    ids=["small", "atoms", "texts", "deep"],
)
def test_a_written_loom_is_read(kernel: Noun, tmp_path: Path) -> None:
    loom = Loom()
    path = loom.write(tmp_path / "image.bin", loom.put(kernel))
    event, found = read_image(str(path))
    assert event == 7
    assert fast.rejam(found) == jam(kernel)
    assert fast.mug(found) == mug(kernel)


def test_what_is_shared_stays_shared(tmp_path: Path) -> None:
    """A tree of 2^60 leaves is sixty cells."""
    kernel: Noun = noun(1, 2)
    for _ in range(60):
        kernel = Cell(kernel, kernel)
    loom = Loom()
    path = loom.write(tmp_path / "image.bin", loom.put(kernel))
    found = read_image(str(path)).kernel
    assert len(found) < 1000
    assert fast.rejam(found) == jam(kernel)


@pytest.mark.parametrize("case", golden.PIERS)
def test_veres_own_are_read(case: str, tmp_path: Path) -> None:
    pier, facts = golden.unpack(case, tmp_path), golden.expected(case)
    event, kernel = read_image(str(pier / ".urb/chk/image.bin"))
    assert event == facts["snapshot_event"]
    assert f"{fast.mug(kernel):08x}" == facts["snapshot_kernel_mug"]
    for epoch in facts["epochs"]:
        if "image_event" not in epoch:
            continue
        found = read_image(str(pier / ".urb/log" / epoch["name"] / "image.bin"))
        assert found.event == epoch["image_event"]
        assert f"{fast.mug(found.kernel):08x}" == epoch["image_kernel_mug"]


def test_it_is_the_state_of_veres_rock(tmp_path: Path) -> None:
    pier = golden.unpack("crud", tmp_path)
    rock = (golden.GOLDEN / "piers" / "crud.rock-58.jam").read_bytes()
    (core,) = fast.slots(rock, (6,))
    kernel = read_image(str(pier / ".urb/chk/image.bin")).kernel
    assert core is not None
    assert fast.rejam(kernel) == fast.rejam(core)


# --- what is not honest -------------------------------------------------------


def refused(path: Path) -> str:
    with pytest.raises(BadImage) as caught:
        read_image(str(path))
    return str(caught.value)


def test_wrong_heads(tmp_path: Path) -> None:
    path = tmp_path / "image.bin"
    for data in (b"", b"x" * 100, bytes(PAGE + 1)):
        path.write_bytes(data)
        assert "no number of its pages" in refused(path)
    path.write_bytes(bytes(PAGE))
    assert "format is 0" in refused(path)
    loom = Loom()
    root = loom.put(noun(1, 2))
    assert "format is 4" in refused(loom.write(path, root, form=4))
    assert "its event is 0" in refused(loom.write(path, root, event=0))
    assert "no kernel" in refused(loom.write(path, 5))
    loom.write(path, root)
    data = bytearray(path.read_bytes())
    data[8] = 0x55
    path.write_bytes(data)
    assert "another kind of loom" in refused(path)


def test_references_beyond_the_end(tmp_path: Path) -> None:
    loom = Loom()
    bad = 0xC0000000 | loom.box(struct.pack("<4I", 1, 0, 0xC3FFFFFF, 1))
    assert "beyond its end" in refused(loom.write(tmp_path / "image.bin", bad))
    loom = Loom()
    atom = 0x80000000 | loom.box(struct.pack("<3I", 1, 0, 1 << 30))
    bad = 0xC0000000 | loom.box(struct.pack("<4I", 1, 0, atom, 1))
    assert "an atom of" in refused(loom.write(tmp_path / "image.bin", bad))
    loom = Loom()
    atom = 0x80000000 | loom.box(struct.pack("<4I", 1, 0, 1, 5))
    bad = 0xC0000000 | loom.box(struct.pack("<4I", 1, 0, atom, 1))
    assert "longer than its number" in refused(loom.write(tmp_path / "image.bin", bad))


def test_a_cell_within_itself(tmp_path: Path) -> None:
    loom = Loom()
    place = len(loom.data) >> 4
    bad = 0xC0000000 | loom.box(struct.pack("<4I", 1, 0, 3, 0xC0000000 | place))
    assert "part of itself" in refused(loom.write(tmp_path / "image.bin", bad))


def test_overlapping_atoms_cost_no_more_than_the_file(tmp_path: Path) -> None:
    """Ten thousand atoms, each of them nearly the whole file."""
    loom = Loom()
    count = 10_000
    root = 0
    places = [loom.box(struct.pack("<4I", 1, 1, 0, 0)) for _ in range(count)]
    for place in places:
        words = (len(loom.data) + (1 << 18)) // 4 - 4 * place - 3
        struct.pack_into("<I", loom.data, 16 * place + 8, words)
        cell = struct.pack("<4I", 1, 1, 0x80000000 | place, root)
        root = 0xC0000000 | loom.box(cell)
    loom.data += b"\1" * (1 << 19)
    refused(loom.write(tmp_path / "image.bin", root))


def test_flipped_bits_are_read_or_refused(tmp_path: Path) -> None:
    pier = golden.unpack("epochs", tmp_path)
    path = pier / ".urb/chk/image.bin"
    whole = path.read_bytes()
    dice = random.Random(5)
    used = [at for at in range(len(whole)) if whole[at]]
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(dice.choice((1, 1, 8))):
            data[dice.choice(used)] ^= 1 << dice.randrange(8)
        path.write_bytes(data)
        with contextlib.suppress(BadImage):
            cue(read_image(str(path)).kernel)
