"""Sets, maps, digests, tapes and single characters: each jet against a model
in Python, and against the Nock of a real kernel where one is given.

A treap is determined by what it holds: the model sorts by gor and takes the
least by mor for a root, and knows nothing of how put, del and uni go about it.
"""

from __future__ import annotations

import hashlib
import random
from functools import cmp_to_key

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from proto.mug import mug
from proto.noun import Cell, Noun, noun, slot
from tests.support.jets import CRASH, PUNT, Jets, real_kernel

FEW = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

atoms = st.one_of(st.integers(0, 40), st.integers(0, 1 << 80))
keys = st.recursive(atoms, lambda parts: st.builds(Cell, parts, parts), max_leaves=4)
key_lists = st.lists(keys, max_size=24)
pair_lists = st.lists(st.tuples(keys, atoms), max_size=24)


@pytest.fixture(scope="module")
def jets() -> Jets:
    return Jets()


# --- the model ---------------------------------------------------------------


def dor(a: Noun, b: Noun) -> bool:
    while a != b:
        if isinstance(a, int):
            return not isinstance(b, int) or a < b
        if isinstance(b, int):
            return False
        a, b = (a.tail, b.tail) if a.head == b.head else (a.head, b.head)
    return True


def gor(a: Noun, b: Noun) -> bool:
    c, d = mug(a), mug(b)
    return dor(a, b) if c == d else c < d


def mor(a: Noun, b: Noun) -> bool:
    c, d = mug(mug(a)), mug(mug(b))
    return dor(a, b) if c == d else c < d


def treap(held: dict[Noun, Noun]) -> Noun:
    """The tree of items by key."""

    def compare(a: Noun, b: Noun) -> int:
        return -1 if gor(a, b) else 1

    order = sorted(held, key=cmp_to_key(compare))

    def build(some: list[Noun]) -> Noun:
        if not some:
            return 0
        root = some[0]
        for other in some[1:]:
            root = other if mor(other, root) else root
        at = some.index(root)
        return noun(held[root], build(some[:at]), build(some[at + 1 :]))

    return build(order)


def set_of(some: list[Noun]) -> Noun:
    return treap({key: key for key in some})


def map_of(pairs: list[tuple[Noun, Noun]]) -> Noun:
    return treap({key: Cell(key, value) for key, value in pairs})


# --- sets and maps -----------------------------------------------------------


@FEW
@given(key_lists, key_lists, keys)
def test_sets(jets: Jets, some: list[Noun], more: list[Noun], key: Noun) -> None:
    door = set_of(some)
    assert jets("two/in/gas", noun(more), door) == set_of(some + more)
    assert jets("two/in/put", key, door) == set_of([*some, key])
    assert jets("two/in/uni", set_of(more), door) == set_of(some + more)
    for one in (key, *some[:3]):
        rest = [other for other in some if other != one]
        assert jets("two/in/del", one, door) == set_of(rest)
        assert jets("two/in/has", one, door) == (0 if one in some else 1)


@FEW
@given(pair_lists, pair_lists, keys)
def test_maps(
    jets: Jets,
    some: list[tuple[Noun, Noun]],
    more: list[tuple[Noun, Noun]],
    key: Noun,
) -> None:
    door, held = map_of(some), dict(some)
    pairs = noun([Cell(k, v) for k, v in more])
    assert jets("two/by/gas", pairs, door) == map_of(some + more)
    assert jets("two/by/put", noun(key, 7), door) == map_of([*some, (key, 7)])
    assert jets("two/by/uni", map_of(more), door) == map_of(some + more)
    for one in (key, *(k for k, _ in some[:3])):
        rest = [pair for pair in some if pair[0] != one]
        found = noun(0, held[one]) if one in held else 0
        assert jets("two/by/del", one, door) == map_of(rest)
        assert jets("two/by/has", one, door) == (0 if one in held else 1)
        assert jets("two/by/get", one, door) == found


def test_what_is_no_tree_declines(jets: Jets) -> None:
    for door in (5, noun(1, 2), noun((1, 2), 3)):
        assert jets("two/by/get", 9, door) == PUNT
        assert jets("two/by/put", noun(9, 9), door) == PUNT
        assert jets("two/in/del", 9, door) in (PUNT, door)
    assert jets("two/by/put", 9, 0) == PUNT
    assert jets("two/in/gas", 9, 0) == PUNT
    deep: Noun = 0
    for _ in range(600):
        deep = noun((1, 1), deep, deep)
    assert jets("two/by/get", 2, deep) in (0, PUNT)
    assert jets("two/by/put", noun(2, 2), deep) == PUNT
    assert jets("two/by/uni", deep, deep) == PUNT


@FEW
@given(key_lists, key_lists, keys)
def test_sets_as_wholes(
    jets: Jets, some: list[Noun], more: list[Noun], key: Noun
) -> None:
    door, sample = set_of(some), set_of(more)
    both = [one for one in some if one in more]
    assert jets("two/in/int", sample, door) == set_of(both)
    rest = [one for one in some if one not in more]
    assert jets("two/in/dif", sample, door) == set_of(rest)
    left = [one for one in some if one != key and gor(one, key)]
    right = [one for one in some if one != key and not gor(one, key)]
    assert jets("two/in/bif", key, door) == Cell(set_of(left), set_of(right))
    assert jets("two/in/apt", noun(0, 0), door) == 0


@FEW
@given(pair_lists, pair_lists, keys)
def test_maps_as_wholes(
    jets: Jets,
    some: list[tuple[Noun, Noun]],
    more: list[tuple[Noun, Noun]],
    key: Noun,
) -> None:
    door, sample = map_of(some), map_of(more)
    both = [pair for pair in more if pair[0] in dict(some)]
    assert jets("two/by/int", sample, door) == map_of(both)
    rest = [pair for pair in some if pair[0] not in dict(more)]
    assert jets("two/by/dif", sample, door) == map_of(rest)
    left = [pair for pair in some if pair[0] != key and gor(pair[0], key)]
    right = [pair for pair in some if pair[0] != key and not gor(pair[0], key)]
    assert jets("two/by/bif", key, door) == Cell(map_of(left), map_of(right))
    assert jets("two/by/apt", noun(0, 0), door) == 0


def loose_tree(dice: random.Random, size: int, pairs: bool) -> Noun:
    """A tree in any order; of equal keys often."""
    if size == 0:
        return 0
    left = dice.randrange(size)
    key = dice.randrange(12)
    return noun(
        (key, dice.randrange(3)) if pairs else key,
        loose_tree(dice, left, pairs),
        loose_tree(dice, size - 1 - left, pairs),
    )


def is_apt(tree: Noun, pairs: bool) -> bool:
    """Is it the one treap of what it holds?"""
    held: dict[Noun, Noun] = {}
    todo, count = [tree], 0
    while todo:
        node = todo.pop()
        if isinstance(node, Cell):
            item = node.head
            held[slot(item, 2) if pairs else item] = item
            todo += [slot(node, 6), slot(node, 7)]
            count += 1
    return count == len(held) and treap(held) == tree


def test_apt(jets: Jets) -> None:
    dice, seen = random.Random(5), set()
    for _ in range(2000):
        pairs = dice.random() < 0.5
        tree = loose_tree(dice, dice.randrange(5), pairs)
        want = is_apt(tree, pairs)
        seen.add(want)
        path = f"two/{'by' if pairs else 'in'}/apt"
        assert jets(path, noun(0, 0), tree) == (0 if want else 1)
    assert seen == {True, False}
    # Bounds: what a key must be before, and after.
    one = set_of([5])
    for bound in range(12):
        before, after = (gor(5, bound), gor(bound, 5)) if bound != 5 else (False, False)
        assert jets("two/in/apt", noun((0, bound), 0), one) == (0 if before else 1)
        assert jets("two/in/apt", noun(0, 0, bound), one) == (0 if after else 1)


def test_what_is_no_tree_declines_as_a_whole(jets: Jets) -> None:
    good = set_of([1, 2, 3])
    for bad in (5, noun(1, 2), noun((1, 2), 3)):
        for door in ("in", "by"):
            assert jets(f"two/{door}/apt", noun(0, 0), bad) == PUNT
            assert jets(f"two/{door}/bif", 9, bad) == PUNT
            for arm in ("dif", "int"):
                assert jets(f"two/{door}/{arm}", good, bad) == PUNT
                assert jets(f"two/{door}/{arm}", bad, good) == PUNT
    for arm in ("apt", "bif", "dif", "int"):
        assert jets(f"two/by/{arm}", noun(0, 0), noun(7, 0, 0)) == PUNT
    for state in (5, noun(5, 0), noun(0, 5)):
        assert jets("two/in/apt", state, 0) == PUNT
    deep: Noun = 0
    for _ in range(600):
        deep = noun((1, 1), deep, deep)
    assert jets("two/by/apt", noun(0, 0), deep) == 1
    assert jets("two/by/dif", deep, deep) == PUNT
    assert jets("two/by/int", deep, deep) == PUNT


# --- digests -----------------------------------------------------------------

texts = st.binary(max_size=300)


@FEW
@given(texts, st.integers(0, 400), texts)
@example(b"", 0, b"")
@example(b"\0" * 40, 64, b"\0")
@example(b"a" * 300, 300, b"b" * 64)
def test_digests(jets: Jets, data: bytes, length: int, salt: bytes) -> None:
    atom = int.from_bytes(data, "little")
    wide = data[:length].ljust(length, b"\0")
    bare = data.rstrip(b"\0")

    def low(digest: bytes) -> int:
        return int.from_bytes(digest, "little")

    sha256, sha512 = hashlib.sha256, hashlib.sha512
    assert jets("tri/shax", atom) == low(sha256(bare).digest())
    assert jets("tri/shay", noun(length, atom)) == low(sha256(wide).digest())
    assert jets("tri/shal", noun(length, atom)) == low(sha512(wide).digest())
    big = int.from_bytes(hashlib.sha1(wide[::-1]).digest(), "big")
    assert jets("tri/sha/sha1", noun(length, atom)) == big
    salty = low(salt)
    mixed = salty ^ low(sha256(bare).digest())
    size = max(32, len(salt.rstrip(b"\0")))
    want = low(sha256(mixed.to_bytes(max(size, 32), "little")).digest())
    assert jets("tri/shas", noun(salty, atom)) == want


def test_digests_of_what_is_no_message_decline(jets: Jets) -> None:
    assert jets("tri/shax", noun(1, 2)) == PUNT
    assert jets("tri/shay", noun(1 << 70, 2)) == PUNT
    assert jets("tri/shal", noun((1, 1), 2)) == PUNT


# --- text --------------------------------------------------------------------


@FEW
@given(texts)
def test_trip(jets: Jets, data: bytes) -> None:
    cord = int.from_bytes(data, "little")
    assert jets("qua/trip", cord) == noun(list(data.rstrip(b"\0")))


def step(line: int, column: int, tape: bytes, good: bool) -> Noun:
    """What a parser of one character makes of it."""
    if not tape or not good:
        return noun((line, column), 0)
    hair = noun(line + 1, 1) if tape[:1] == b"\n" else noun(line, column + 1)
    return noun(hair, 0, tape[0], hair, list(tape[1:]))


@FEW
@given(st.integers(1, 99), st.integers(1, 99), st.binary(max_size=3), st.data())
@example(1, 1, b"\nx", None)
def test_leaf_parsers(
    jets: Jets, line: int, column: int, tape: bytes, data: st.DataObject | None
) -> None:
    nail = noun((line, column), list(tape))
    first = tape[0] if tape else 0
    one = data.draw(st.sampled_from([first, first ^ 1])) if data else first
    assert jets("qua/just/fun", nail, one) == step(line, column, tape, one == first)
    some = [one, one ^ 6]
    made = step(line, column, tape, first in some)
    assert jets("qua/mask/fun", nail, noun(some)) == made
    low, high = sorted((one, one ^ 9))
    made = step(line, column, tape, low <= first <= high)
    assert jets("qua/shim/fun", nail, noun(low, high)) == made
    easy = noun((line, column), 0, one, nail)
    assert jets("qua/easy/fun", nail, one) == easy


# --- a real kernel -----------------------------------------------------------


def test_jets_agree_with_a_real_kernel(jets: Jets) -> None:
    kernel = real_kernel()
    some = [noun(n * n, n) for n in range(9)]
    tree, items = set_of(some), [some[3], 5, noun(1, 2, 3), some[8]]
    for path in ("has", "put", "del"):
        want = kernel(f"two/in/{path}", items, tree)
        got = [jets(f"two/in/{path}", item, tree) for item in items]
        assert got == want
        assert CRASH not in want
    others = [set_of(items), 0, tree, set_of([*some, 77])]
    got = [jets("two/in/uni", other, tree) for other in others]
    assert got == kernel("two/in/uni", others, tree)
    pairs: list[tuple[Noun, Noun]] = [(n, Cell(n, n)) for n in range(9)]
    tree = map_of(pairs)
    puts: list[Noun] = [noun(3, 1), noun(50, 50), noun(4, 4, 4)]
    got = [jets("two/by/put", item, tree) for item in puts]
    assert got == kernel("two/by/put", puts, tree)
    for path in ("get", "del"):
        got = [jets(f"two/by/{path}", n, tree) for n in (0, 8, 9)]
        assert got == kernel(f"two/by/{path}", [0, 8, 9], tree)
    got = [jets("two/by/uni", map_of([(3, 1), (60, 1)]), tree)]
    assert got == kernel("two/by/uni", [map_of([(3, 1), (60, 1)])], tree)
    dice = random.Random(8)
    for door in ("in", "by"):
        trees = [loose_tree(dice, dice.randrange(9), door == "by") for _ in range(60)]
        trees.append(set_of([1, 5, 7]) if door == "in" else map_of(pairs))
        twos: list[tuple[Noun, Noun]]
        marks: list[tuple[Noun, Noun]]
        twos = [(tree, dice.choice(trees)) for tree in trees for _ in range(4)]
        marks = [(tree, dice.randrange(14)) for tree in trees for _ in range(4)]
        bounds: list[Noun] = [noun(0, 0), noun((0, 4), 0), noun(0, 0, 7)]
        checks = [(tree, bound) for tree in trees for bound in bounds]
        arms = {"dif": twos, "int": twos, "uni": twos, "bif": marks, "apt": checks}
        for arm, cases in arms.items():
            path = f"two/{door}/{arm}"
            got = [jets(path, sample, tree) for tree, sample in cases]
            assert got == kernel.in_doors(path, cases), path
    digests: list[Noun] = [noun(0, 0), noun(3, 0x636261), noun(70, 5)]
    for path in ("tri/shay", "tri/shal"):
        assert [jets(path, d) for d in digests] == kernel(path, digests)
    salts: list[Noun] = [noun(0, 0), noun(1 << 300, 3)]
    assert [jets("tri/shas", s) for s in salts] == kernel("tri/shas", salts)
    cords: list[Noun] = [0, 97, 0x610061]
    assert [jets("qua/trip", c) for c in cords] == kernel("qua/trip", cords)
    shapes: dict[str, list[Noun]] = {
        "pen/cell": [noun(1, 2), noun("void", 2), noun(1, "void")],
        "pen/core": [noun(1, 2), noun("void", 2)],
        "pen/face": [noun("a", 2), noun("a", "void")],
        "pen/fork": [
            noun([1, "void", noun("fork", set_of(some))]),
            noun(["void"]),
            0,
            noun([noun(5, 6)]),
        ],
        "pen/comb": [
            noun((0, 5), 0, 6),
            noun((0, 5), 2, (0, 2), 0, 3),
            noun((0, 5), 1, 6),
            noun(((1, 3), 0, 1), 0, 6),
            noun((1, 3), 0, 1),
            noun((0, 0), 0, 1),
            noun((0, 0), 1, 1),
        ],
        "pen/cons": [noun((1, 2), 1, 3), noun((0, 2), 0, 3)],
        "pen/cond": [
            noun((1, 0), (0, 2), 0, 3),
            noun((1, 1), (0, 2), 0, 3),
            noun((0, 0), (0, 2), 0, 3),
            noun((0, 6), (0, 2), 0, 3),
        ],
        "pen/fitz": [
            noun(a, b)
            for a in ("", "ta", "tas", "ud", "uxD", "uxE", "A")
            for b in ("", "t", "tas", "ux", "uxD", "uxF", "A")
        ],
        "pen/look": [noun(n, tree) for n in (*range(10), "a")],
    }
    for path, samples in shapes.items():
        got = [jets(path, sample) for sample in samples]
        assert got == kernel(path, samples), path
