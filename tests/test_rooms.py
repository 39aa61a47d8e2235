"""The rooms of fr_lib: their order, what they give out, and the arrows between them."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from fr_lib.files import ROOT

PACKAGE = ROOT / "fr_lib"
ROOMS = ("corpus", "encode", "train", "runs", "evaluate", "release", "report")
GROUND = ("errors", "files", "system", "worker", "schema", "arms")
ABOVE_ALL = ("pipeline", "commands", "__main__")
MOST_LINES = 500
MOST_ARROWS = 30


def table() -> list[str]:
    """Return the files of the table in CONTRIBUTING, top to bottom."""
    page = (ROOT / "docs" / "CONTRIBUTING.md").read_text()
    section = page.split("## Rooms", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"^\| `([\w/]+)` \|", section, re.MULTILINE)


def files() -> dict[str, Path]:
    """Return every file that is no ``__init__``, by its name in the table."""
    return {
        path.relative_to(PACKAGE).with_suffix("").as_posix(): path
        for path in PACKAGE.rglob("*.py")
        if path.stem != "__init__"
    }


def room_of(name: str) -> str:
    return name.split("/")[0] if "/" in name else ""


def modules(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield what a file imports from the package: module below ``fr_lib``, as a path; names."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "fr_lib":
            below = node.module.split(".")[1:]
            names = [alias.name for alias in node.names]
            if below:
                yield "/".join(below), names
            else:
                yield from ((name, []) for name in names)


def arrows() -> dict[tuple[str, str], int]:
    """Return the arrows between rooms, and how many imports each stands for."""
    found: dict[tuple[str, str], int] = {}
    for name, path in files().items():
        for module, names in modules(path):
            pair = (room_of(name) or name, module.split("/")[0])
            if pair[0] != pair[1] and pair[1] in ROOMS:
                found[pair] = found.get(pair, 0) + max(1, len(names))
    return found


def test_the_table_names_every_file():
    assert sorted(table()) == sorted(files())


def test_the_table_has_the_rooms_in_their_order():
    assert list(dict.fromkeys(filter(None, map(room_of, table())))) == list(ROOMS)
    assert table()[: len(GROUND)] == list(GROUND)
    assert table()[-len(ABOVE_ALL) :] == list(ABOVE_ALL)


@pytest.mark.parametrize("name", sorted(files()))
def test_a_file_imports_only_what_stands_above_it(name):
    above = table()[: table().index(name)]
    rooms = {room_of(other) for other in above} - {room_of(name)}
    for module, _ in modules(files()[name]):
        inside = room_of(name) and module.startswith(f"{room_of(name)}/")
        if inside or module in GROUND or module in ABOVE_ALL:
            assert module in above, f"{name} imports {module}, which stands below it"
        else:
            # From another room, and not from one of its files.
            assert module in rooms, f"{name} imports {module}"


@pytest.mark.parametrize("room", [*ROOMS, "report/plots"])
def test_a_room_says_what_it_is_for_and_gives_out_what_it_names(room):
    package = importlib.import_module(f"fr_lib.{room.replace('/', '.')}")
    assert package.__doc__.strip()
    assert package.__all__
    for name in package.__all__:
        assert getattr(package, name) is not None


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_gives_out_nothing_that_nobody_outside_takes(room):
    package = importlib.import_module(f"fr_lib.{room}")
    outside = [path for name, path in files().items() if room_of(name) != room]
    outside += [*ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("benchmarks/*.py")]
    text = "\n".join(path.read_text() for path in outside)
    assert not [name for name in package.__all__ if not re.search(rf"\b{name}\b", text)]


def test_no_file_is_long():
    assert not {
        name: lines
        for name, path in files().items()
        if (lines := len(path.read_text().splitlines())) > MOST_LINES
    }


def test_there_are_few_arrows_between_rooms():
    found = arrows()
    for (room, other), names in sorted(found.items()):
        print(f"{room:>10} -> {other} ({names} names)")  # noqa: T201 - shown with pytest -s
    assert 0 < len(found) <= MOST_ARROWS
