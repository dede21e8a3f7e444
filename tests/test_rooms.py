"""The rooms of the package: imports go one way, and what travels with a checkpoint stands alone."""

import ast
from collections.abc import Iterator
from pathlib import Path

import jointdetr

PACKAGE = Path(jointdetr.__file__).parent
FLOORS = (
    {"flat"},
    {"data", "formats"},
    {"people", "synthesis", "motion"},
    {"visualization"},
    {"converters", "evaluation"},
    {"training", "hub"},
    {"demo"},
    {"cli"},
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def rooms_imported(path: Path) -> Iterator[str]:
    """Rooms that a file of the package imports from; a flat file is of the room "flat"."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        folder = path.parents[node.level - 1].relative_to(PACKAGE).parts
        parts = (*folder, *(node.module or "").split("."))
        if parts[0]:
            yield "flat" if parts[0].endswith("_jointdetr") else parts[0]


def test_every_room_has_its_floor() -> None:
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert rooms | {"flat"} == set(FLOOR)


def test_imports_go_one_way() -> None:
    upwards = []
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).parts[0]
        room = "flat" if room.endswith("_jointdetr.py") else room
        if room in FLOOR:
            wrong = {other for other in rooms_imported(path) if FLOOR[other] > FLOOR[room]}
            upwards += [f"{path.relative_to(PACKAGE)} imports from {other}" for other in sorted(wrong)]
    assert not upwards
