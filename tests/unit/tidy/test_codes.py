"""Every code that is raised is explained, and every explained code is raised.

The sources are read, not run: what stands where a code belongs (the first
argument of an error, `code=`, the fault of a tool) must be in the tables of
king/errors.py and king/explain.py; and each entry of these must stand somewhere
in the code as a string of its own, not in comments or docstrings.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from king.errors import EXIT_CODES
from king.explain import WORDS

ROOT = Path(__file__).parents[3]
TABLES = {ROOT / "king/errors.py", ROOT / "king/explain.py"}
MAKERS = {
    "TreadleError",
    "LogFailed",
    "kind",  # king/disk.py: one of these two
    "_newer",  # king/formats.py
    "_report",  # serf/tool.py
}
"""What takes a code first."""
PASSED_ON = {
    "king/care/command.py": "what a live ship answered, if it is a code of ours",
    "king/steps.py": "what a child of ours answered, if it is a code of ours",
    "king/log_child.py": "the same",
    "king/log_verify.py": "the same, if it is a code of ours",
    "king/log/epoch.py": "an error of opening, as one of making an epoch",
}
"""Where the code is another error's, and not written out."""
NOT_CODES = {
    "king/cli.py": "_report prints an error",
    "king/lab/command.py": "_report makes a page",
    "king/formats.py": "_newer is given its codes",
}


def sources() -> list[Path]:
    rooms = ("king", "serf", "proto")
    return sorted(path for room in rooms for path in (ROOT / room).rglob("*.py"))


def codes_in(node: ast.expr) -> Iterator[str | None]:
    """The texts that an expression may be; None: it is not written out."""
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.IfExp(body=body, orelse=orelse):
            yield from codes_in(body)
            yield from codes_in(orelse)
        case _:
            yield None


def raised(path: Path) -> Iterator[tuple[int, str | None]]:
    """Lines and codes of the errors that a file makes."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name in MAKERS and node.args:
            for code in codes_in(node.args[0]):
                yield node.lineno, code
        for keyword in node.keywords:
            match keyword:
                case ast.keyword(arg="code", value=ast.Constant(value=str(code))):
                    yield node.lineno, code


def words_of(path: Path) -> set[str]:
    """The words of every string that a file computes with: no docstrings."""
    tree = ast.parse(path.read_text())
    docstrings = {
        id(statement.value)
        for statement in ast.walk(tree)
        if isinstance(statement, ast.Expr)
    }
    return {
        word
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in docstrings
        for word in re.findall("[a-z-]+", node.value)
    }


def test_every_code_that_is_raised_is_explained() -> None:
    count = 0
    unexplained = []
    for path in sources():
        name = str(path.relative_to(ROOT))
        for line, code in raised(path):
            count += 1
            if code is None:
                if name not in PASSED_ON | NOT_CODES and path not in TABLES:
                    unexplained.append(f"{name}:{line}: which code?")
            elif code not in WORDS or code not in EXIT_CODES:
                unexplained.append(f"{name}:{line}: {code}")
    assert unexplained == []
    assert count > 100, "the walk finds the errors no longer"
    names = {str(path.relative_to(ROOT)) for path in sources()}
    assert PASSED_ON.keys() | NOT_CODES.keys() <= names


def test_no_entry_is_dead() -> None:
    said: set[str] = set()
    for path in sources():
        if path not in TABLES:
            said |= words_of(path)
    # PeekFailed gives itself its code.
    errors = (ROOT / "king/errors.py").read_text()
    said |= {code for code in WORDS if f'super().__init__("{code}"' in errors}
    assert set(WORDS) - said == set()


def test_the_walk_sees_what_it_should(tmp_path: Path) -> None:
    """A check that cannot fail would be none."""
    path = tmp_path / "room.py"
    path.write_text(
        '"""jam-bad"""\n'
        'raise TreadleError("no-such", "x")\n'
        'LogFailed("a" if x else "b", y)\n'
        "TreadleError(code, text)\n"
        'Refused("why", True, code="c")\n'
        'f("not-a-code")\n'
    )
    assert sorted(raised(path), key=str) == [
        (2, "no-such"),
        (3, "a"),
        (3, "b"),
        (4, None),
        (5, "c"),
    ]
    assert "jam-bad" not in words_of(path)
    assert "no-such" in words_of(path)
