"""A plain format for data of one's own: pictures, one JSON Lines file, and the skeleton.

    SOURCE/skeleton.json          see `jointdetr.formats.skeletons`; left out, Human3.6M's 17 joints
    SOURCE/annotations.jsonl      one person in one picture a line
    SOURCE/...                    pictures, wherever the lines say

A line is an object. All keys are optional but `joints_3d`, `joints_2d` or `nobody`; without `image` in any line the
data are skeletons alone, for the refinement network.

| key          | value                                                                                             |
|--------------|---------------------------------------------------------------------------------------------------|
| `image`      | path of the picture, relative to SOURCE                                                           |
| `joints_3d`  | for each joint `[x, y, z]` in mm, or null where it is not known                                    |
| `joints_2d`  | for each joint `[x, y]` in px of the picture, or null; left out, `joints_3d` are projected          |
| `visible`    | for each joint true or false; left out, what lies inside the picture                              |
| `intrinsics` | 3x3 camera matrix, px                                                                             |
| `extrinsics` | 3x4 or 4x4 matrix from the axes of `joints_3d` to the camera's (x right, y down, z forward), mm;   |
|              | left out, `joints_3d` are in the camera's axes already                                            |
| `box`        | `[x, y, width, height]` of the person, px; left out, around `joints_2d`                           |
| `subject`, `action`, `camera` | texts                                                                            |
| `frame`      | number of the frame; left out, the number of the line, from 0                                     |
| `nobody`     | true if `box` is known to show no person; then there are no joints                                |
| `split`      | "train" if left out                                                                               |

Shape vocabulary: `joints` (J) of the skeleton.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..data.rows import project
from ..formats.skeletons import read_skeleton
from ..skeleton_jointdetr import HUMAN36M, Skeleton
from .conversion import Converter, Recording, RowLabels, Skipped
from .reading import numbers, shown, whole_number

ANNOTATIONS, SKELETON = "annotations.jsonl", "skeleton.json"
ROWS_PER_RECORDING = 1000
SPLIT = r"\w+(\.\w+)*"  # what `datasets` takes for the name of one
TEXTS = ("subject", "action", "camera")
ARRAYS = ("joints_3d", "joints_2d", "visible", "intrinsics", "extrinsics", "box")
KEYS = {*ARRAYS, *TEXTS, "image", "frame", "split", "nobody"}


@dataclass(frozen=True)
class Folder(Converter):
    """A folder in the plain format.

    Args:
        source: the folder with `annotations.jsonl`.
        images: the folder that pictures are relative to; `source` if None.
    """

    source: Path
    images: Path | None = None

    @cached_property
    def skeleton(self) -> Skeleton:
        """The folder's own skeleton, or Human3.6M's."""
        path = self.source / SKELETON
        return read_skeleton(path) if path.exists() else HUMAN36M

    @cached_property
    def skeletons_only(self) -> bool:
        """Whether the first line has no picture."""
        with open(self._file, encoding="utf-8", errors="replace") as file:
            return "image" not in _parse(self._file, 1, file.readline())

    @cached_property
    def shows_nobody(self) -> bool:
        """Whether any line says so."""
        with open(self._file, encoding="utf-8") as file:
            return any('"nobody"' in line for line in file)

    @property
    def _file(self) -> Path:
        return self.source / ANNOTATIONS

    def recordings(self) -> list[Recording]:
        """Lines of each split by the thousand; `data` is where they begin in the file, and their numbers."""
        if not self._file.is_file():
            raise ValueError(f"{self.source} must hold {ANNOTATIONS}, got none")
        places: dict[str, list[tuple[int, int]]] = {}
        with open(self._file, "rb") as file:
            while True:
                start, number = file.tell(), 1 + sum(map(len, places.values()))
                line = file.readline()
                if not line:
                    break
                values = _parse(self._file, number, line.decode("utf-8", errors="replace"))
                places.setdefault(values.get("split", "train"), []).append((number, start))
        if not places:
            raise ValueError(f"{self._file} must have at least one line, got none")
        return [
            Recording(f"{part // ROWS_PER_RECORDING:04d}", split, self._file, lines[part:][:ROWS_PER_RECORDING])
            for split, lines in sorted(places.items())
            for part in range(0, len(lines), ROWS_PER_RECORDING)
        ]

    def rows(self, recording: Recording) -> Iterator[RowLabels | Skipped]:
        """One row for each line."""
        with open(self._file, "rb") as file:
            for number, start in recording.data:
                file.seek(start)
                line = file.readline().decode("utf-8", errors="replace")
                yield self._row(_parse(self._file, number, line), number)

    def _row(self, values: dict[str, Any], number: int) -> RowLabels | Skipped:
        """Make the row of a line; what is wrong with its numbers leaves it out, with its number."""
        where = f"line {number}"
        if ("image" in values) == self.skeletons_only:
            expected = "no `image`" if self.skeletons_only else "an `image`"
            raise ValueError(f"{self._file}, line {number}: must have {expected}, as the first line has")
        arrays = {}
        for name, shape in _shapes(len(self.skeleton.joints)).items():
            if name in values:
                array = _array(values[name], name)
                if array is None or array.shape != shape:
                    found = "something else" if array is None else f"{array.shape}"
                    return Skipped(f"`{name}` of the wrong shape", f"{where}: expected {shape}, got {found}")
                arrays[name] = array
        labels = _place(arrays, values) | {name: values[name] for name in TEXTS if name in values}
        labels["frame"] = whole_number(values.get("frame", number - 1))
        labels["nobody"] = values.get("nobody", False)
        if self.skeletons_only:
            return {name: value for name, value in labels.items() if name in ("joints_3d", *TEXTS[:2], "frame")}
        picture = (self.images or self.source) / values["image"]
        if not picture.is_file():
            return Skipped("the picture does not exist", f"{where}: {picture}")
        return labels | {"image": picture}


def _shapes(num_joints: int) -> dict[str, tuple[int, ...]]:
    """Shape of each array of a line; `extrinsics` come without their last row."""
    flags = {"visible": (num_joints,), "intrinsics": (3, 3), "extrinsics": (3, 4), "box": (4,)}
    return {"joints_3d": (num_joints, 3), "joints_2d": (num_joints, 2), **flags}


def _array(values: Any, name: str) -> np.ndarray | None:
    """Turn lists into an array, null joints into NaN; None if they have no common shape."""
    if not isinstance(values, list):
        return None
    if name == "visible":
        return np.array(values, dtype=bool) if all(flag in (False, True) for flag in values) else None
    if name.startswith("joints"):
        values = [[None] * int(name[7]) if joint is None else joint for joint in values]
    array = numbers(values)
    return array[:3] if name == "extrinsics" and array is not None and array.shape == (4, 4) else array


def _place(arrays: Mapping[str, np.ndarray], values: Mapping[str, Any]) -> dict[str, Any]:
    """Take 3D joints to the camera, and project them where there is no 2D label."""
    labels = {name: array for name, array in arrays.items() if name != "extrinsics"}
    if "extrinsics" in arrays and "joints_3d" in arrays:
        rotation, translation = arrays["extrinsics"][:, :3], arrays["extrinsics"][:, 3]
        labels["joints_3d"] = arrays["joints_3d"] @ rotation.T + translation
    if "joints_2d" not in arrays and {"joints_3d", "intrinsics"} <= set(arrays):
        labels["joints_2d"] = project(labels["joints_3d"], arrays["intrinsics"])
    return labels


def _parse(path: Path, number: int, line: str) -> dict[str, Any]:
    """Read a line, and check its keys and what is no array."""
    try:
        values = json.loads(line.removeprefix("\ufeff"))  # Windows' editors begin a file with this mark
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path}, line {number}: expected a JSON object, got {line.strip()[:60]!r}: {error}"
        ) from error
    needed = {"joints_3d", "joints_2d", "nobody"}
    if not isinstance(values, dict) or not needed & set(values) or not set(values) <= KEYS:
        found = sorted(values) if isinstance(values, dict) else type(values).__name__
        raise ValueError(
            f"{path}, line {number}: expected `joints_3d` or `joints_2d` (or `nobody`) and keys of {sorted(KEYS)}, "
            f"got {found}"
        )
    if not isinstance(values.get("nobody", False), bool):
        raise ValueError(f"{path}, line {number}: `nobody` must be true or false, got {values['nobody']!r}")
    for name in ("image", "split", *TEXTS):
        if not isinstance(values.get(name, ""), str) or "\0" in values.get(name, ""):
            raise ValueError(f"{path}, line {number}: `{name}` must be a text, got {shown(values[name])}")
    if whole_number(values.get("frame", 0)) is None:
        raise ValueError(f"{path}, line {number}: `frame` must be a whole number, got {shown(values['frame'])}")
    if not re.fullmatch(SPLIT, values.get("split", "train")):
        raise ValueError(f"{path}, line {number}: `split` must be a word, such as train, got {shown(values['split'])}")
    return values
