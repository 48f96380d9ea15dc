"""A log that has lost events which were acknowledged: an older one beside a newer
snapshot. Nothing runs on it until somebody has said how."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from king.adopt import adopt
from king.log.chain import read_chain
from king.pier import Layout
from tests.support.whole_ship import WholeShip, boot, treadle


@pytest.fixture(scope="module")
def torn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pier at rest whose log was put back after `first`; `second` is in no log
    any more, but in the snapshot. The newer log lies beside it, as `newer`."""
    folder = tmp_path_factory.mktemp("behind")
    pier = folder / "zod"
    with boot(pier) as ship:
        ship.judged = False
        ship.start()
        ship.type("set first yes")
        assert ship.stop() == 0
        shutil.copytree(ship.layout.log_dir, folder / "older")
        ship.start()
        ship.type("set second yes")
        assert ship.stop() == 0
        ship.layout.log_dir.rename(folder / "newer")
        (folder / "older").rename(ship.layout.log_dir)
    return pier


@pytest.fixture
def pier(torn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # Whether it is a copy, or older than this account knows, is not the question.
    monkeypatch.setenv("TREADLE_ADOPT", "1")
    return Path(shutil.copytree(torn, tmp_path / "zod"))


def tree(pier: Path) -> dict[str, bytes]:
    """All that counts; locks are emptied, reader tables are LMDB's."""
    return {
        str(path.relative_to(pier)): path.read_bytes()
        for path in sorted(pier.rglob("*"))
        if path.is_file()
        and path.suffix not in (".lock", ".sock")
        and path.name not in ("lock.mdb", "reserve")
    }


def kept(ship: WholeShip) -> list[bool]:
    """Of `first` and `second`."""
    return [ship.http("GET", f"/kv/{name}")[0] == 200 for name in ("first", "second")]


@pytest.mark.parametrize(
    "words",
    [
        ("run", "--headless"),
        ("replay",),
        ("replay", "--from-scratch"),
        ("save",),
        ("roll",),
        ("pin", "name"),
        ("snapshot", "copy"),
        ("export", "rock"),
    ],
)
def test_nothing_is_done_to_it(pier: Path, words: tuple[str, ...]) -> None:
    before = tree(pier)
    verb, *rest = words
    names = [str(pier.with_name(w)) if w in ("copy", "rock") else w for w in rest]
    ran = treadle(verb, pier, *names)
    assert (ran.code, ran.fault) == (4, "log-behind"), ran.err
    assert "its snapshot is of event" in ran.err
    assert "treadle check" in ran.err
    assert tree(pier) == before
    assert [path.name for path in pier.parent.iterdir()] == ["zod"]


def test_check_tells_it(pier: Path) -> None:
    before = tree(pier)
    ran = treadle("check", pier)
    assert ran.code == 1
    assert "beyond the log's last" in ran.out
    assert "log-behind" in ran.out
    assert tree(pier) == before
    assert "log's end" in treadle("explain", "log-behind").out


def test_the_newer_log_put_back_is_all_that_was_missing(torn: Path, pier: Path) -> None:
    layout = Layout(pier)
    shutil.rmtree(layout.log_dir)
    shutil.copytree(torn.parent / "newer", layout.log_dir)
    assert treadle("check", pier).code == 0
    adopt(pier)  # a copy of the pier, in this test
    with WholeShip(pier) as ship:
        ship.judged = False
        ship.start()
        assert ship.recovery["replayed"]["events"] == 0
        assert kept(ship) == [True, True]
        assert ship.stop() == 0


def test_the_state_that_was_saved_goes_on_elsewhere(pier: Path) -> None:
    rock, other = pier.with_name("rock"), pier.with_name("other")
    before = tree(pier)
    assert treadle("export", pier, rock, "--saved").code == 0
    assert tree(pier) == before
    assert treadle("import", other, rock).code == 0
    assert treadle("adopt", other).code == 0
    with WholeShip(other) as ship:
        ship.start()
        assert kept(ship) == [True, True]
        assert ship.stop() == 0
        ship.check()


def test_adopted_it_goes_on_from_the_end_of_its_log(pier: Path) -> None:
    ran = treadle("adopt", pier)
    assert ran.code == 0, ran.err
    assert "its snapshot is of event" in ran.out
    assert treadle("check", pier).code == 0
    with WholeShip(pier) as ship:
        ship.judged = False
        ship.start()
        assert kept(ship) == [True, False]
        # Past where the lost ones were: their state must not come back.
        for number in range(6):
            ship.type(f"set third{number} yes")
        ship.kill()
        ship.start()
        assert ship.recovery["discarded"]["snapshots"] == 0
        assert kept(ship) == [True, False]
        assert ship.stop() == 0
        ship.check()


def test_a_chain_that_knows_more_is_enough(torn: Path, pier: Path) -> None:
    """The image is as old as the log: only the chain is of later."""
    layout = Layout(pier)
    shutil.rmtree(layout.image.parent)
    shutil.copy(torn.parent / "newer/0i0/treadle.chain", layout.log_dir / "0i0")
    ran = treadle("run", pier, "--headless")
    assert ran.fault == "log-behind"
    assert "its hash chain vouches for events up to" in ran.err
    assert "log-behind" in treadle("check", pier).out
    assert treadle("adopt", pier).code == 0
    chain = read_chain(layout.log_dir / "0i0/treadle.chain")
    assert chain is not None
    report = treadle("check", pier, "--json")
    assert report.code == 0, report.out
    assert chain.last == report.json["last"]


def test_a_torn_superblock_that_says_so_is_not_believed(torn: Path, pier: Path) -> None:
    """Of the whole pier: a bit of an event's number is wrong."""
    layout = Layout(pier)
    shutil.rmtree(layout.log_dir)
    shutil.copytree(torn.parent / "newer", layout.log_dir)
    data = bytearray(layout.image.read_bytes())
    newest = max(range(4), key=lambda n: data[(n << 14) + 32 : (n << 14) + 40][::-1])
    data[(newest << 14) + 45] ^= 1  # 2^40 events more
    layout.image.write_bytes(data)
    adopt(pier)
    with WholeShip(pier) as ship:
        ship.judged = False
        ship.start()
        assert "damaged" in ship.recovery["snapshot"]["note"]
        assert kept(ship) == [True, True]
        assert ship.stop() == 0
