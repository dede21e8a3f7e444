"""A plain format for data of one's own: pictures, one JSON Lines file, and the skeleton.

    SOURCE/skeleton.json          see `jointdetr.formats.skeletons`; left out, Human3.6M's 17 joints
    SOURCE/annotations.jsonl      one person in one picture a line; docs/data.md says what a line may have
    SOURCE/...                    pictures, wherever the lines say

Without `image` in the first line the data are skeletons alone, for the refinement network.

Shape vocabulary: `joints` (J) of the skeleton.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..data.rows import project
from ..formats.skeletons import read_skeleton
from ..skeleton_jointdetr import HUMAN36M, Skeleton
from .conversion import Converter, Recording, RowLabels, Skipped
from .reading import Fields

ANNOTATIONS, SKELETON = "annotations.jsonl", "skeleton.json"
ROWS_PER_RECORDING = 1000
SPLIT = r"\w+(\.\w+)*"  # what `datasets` takes for the name of one
TEXTS = ("subject", "action", "camera")
ARRAYS = ("joints_3d", "joints_2d", "intrinsics", "extrinsics", "box")
KEYS = {*ARRAYS, *TEXTS, "image", "visible", "frame", "split", "nobody"}


@dataclass(frozen=True)
class Folder(Converter):
    """A folder in the plain format."""

    source: Path  # the folder with `annotations.jsonl`
    images: Path | None = None  # what pictures are relative to; `source` if None

    @cached_property
    def skeleton(self) -> Skeleton:
        """The folder's own skeleton, or Human3.6M's."""
        path = self.source / SKELETON
        return read_skeleton(path) if path.exists() else HUMAN36M

    @cached_property
    def skeletons_only(self) -> bool:
        """Whether the first line has no picture."""
        with open(self._file, "rb") as file:
            return "image" not in self._parse(1, file.readline()).values

    @cached_property
    def shows_nobody(self) -> bool:
        """Whether any line says so."""
        with open(self._file, "rb") as file:
            return any(b'"nobody"' in line for line in file)

    @property
    def _file(self) -> Path:
        return self.source / ANNOTATIONS

    def recordings(self) -> list[Recording]:
        """Lines of each split by the thousand; `data` are their numbers and where they begin in the file."""
        if not self._file.is_file():
            raise ValueError(f"{self.source} must hold {ANNOTATIONS}, got none")
        places: dict[str, list[tuple[int, int]]] = {}
        start = 0
        with open(self._file, "rb") as file:
            for number, line in enumerate(file, start=1):
                values = self._parse(number, line)
                split = values.text("split", "train")
                if not re.fullmatch(SPLIT, split):
                    raise values.error("split", "a word, such as train")
                places.setdefault(split, []).append((number, start))
                start += len(line)
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
                try:
                    yield self._row(self._parse(number, file.readline()), number)
                except ValueError as error:
                    yield Skipped("a line that is not as docs/data.md says", str(error))

    def _parse(self, number: int, line: bytes) -> Fields:
        where = f"{self._file}, line {number}"
        try:
            return Fields(where, json.loads(line.decode("utf-8-sig")))  # Windows' editors begin a file with a mark
        except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"{where}: expected a JSON object, got {line[:60]!r}: {error}") from error

    def _row(self, values: Fields, number: int) -> RowLabels:
        """Make the row of a line: 3D joints are taken to the camera, and projected where there is no 2D label."""
        if unknown := sorted(set(values.values) - KEYS):
            raise ValueError(f"{values.where}: the keys must be of {sorted(KEYS)}, got {unknown}")
        joints, given = len(self.skeleton.joints), values.values
        row = {name: values.text(name, "") for name in TEXTS} | {"frame": values.whole("frame", number - 1)}
        if self.skeletons_only:
            return row | {"joints_3d": values.array("joints_3d", (joints, 3))}
        if (flags := given.get("visible")) is not None:
            if not isinstance(flags, list) or not all(flag in (False, True) for flag in flags):
                raise values.error("visible", "a list of true and false")
            row["visible"] = flags
        if (nobody := given.get("nobody", False)) not in (False, True):
            raise values.error("nobody", "true or false")
        row |= {"nobody": nobody, "image": (self.images or self.source) / values.text("image")}
        to_camera = given.get("extrinsics")
        height = 4 if isinstance(to_camera, list) and len(to_camera) == 4 else 3
        shapes = dict(zip(ARRAYS, ((joints, 3), (joints, 2), (3, 3), (height, 4), (4,)), strict=True))
        row |= {name: values.array(name, shape) for name, shape in shapes.items() if name in given}
        to_camera = row.pop("extrinsics", None)
        if to_camera is not None and "joints_3d" in row:
            row["joints_3d"] = row["joints_3d"] @ to_camera[:3, :3].T + to_camera[:3, 3]
        if "joints_2d" not in row and {"joints_3d", "intrinsics"} <= set(row):
            row["joints_2d"] = project(row["joints_3d"], row["intrinsics"])
        return row
