"""Pictures of converted rows to look at: the labels drawn on them, 2D as they are and 3D as the camera sees it.

Filled joints are the 2D labels, hollow ones with dashed bones the projected 3D labels; where the conversion is right
the two fall together.

Shape vocabulary: `joints` (J).
"""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from ...data.row_checks import project_row
from ...formats.skeletons import read_skeleton
from ...picture_jointdetr import load_picture
from ...skeleton_jointdetr import Skeleton
from ...visualization.figures import draw_overlay
from ..conversion import SKELETON_FILE

CHECK_FOLDER = "check"
VIEW_SIZE_PX, VIEW_HEIGHT_MM = 480, 2400.0


def write_check_pictures(folder: str | Path, count: int) -> list[Path]:
    """Draw rows spread evenly over a converted folder into its subfolder `check`.

    Args:
        folder: what `convert` wrote.
        count: number of pictures; fewer if there are fewer rows.

    Returns:
        The files.
    """
    written = []
    skeleton = read_skeleton(Path(folder) / SKELETON_FILE)
    for shard, number, row in _spread_rows(Path(folder), count):
        path = Path(folder) / CHECK_FOLDER / f"{shard.stem}-{number:06d}.png"
        path.parent.mkdir(exist_ok=True)
        draw_row(row, skeleton).save(path)
        written.append(path)
    return written


def draw_row(row: dict[str, Any], skeleton: Skeleton) -> Image.Image:
    """Draw the labels of one row over its picture, or a skeleton without one from the front and from the side."""
    arrays = {name: np.array(value) for name, value in row.items() if isinstance(value, list)}
    if "image" not in row:
        points = _two_views(arrays["joints_3d"], skeleton.root)
        blank = Image.new("RGB", (2 * VIEW_SIZE_PX, VIEW_SIZE_PX), "white")
        return draw_overlay(blank, points, np.ones(points.shape[:2], bool), skeleton)
    image = load_picture(Image.open(BytesIO(row["image"]["bytes"])), "image")
    points = np.stack([arrays["joints_2d"], project_row(arrays)])  # labels, then projected: (2, joints, 2)
    drawn_as_label = np.repeat([[True], [False]], points.shape[1], axis=1)
    return draw_overlay(image, points, drawn_as_label, skeleton)


def _two_views(joints: np.ndarray, root: int) -> np.ndarray:
    """Place a skeleton `(joints, 3)` mm twice on a canvas, from the front and from the side: `(2, joints, 2)` px."""
    scale = VIEW_SIZE_PX / VIEW_HEIGHT_MM
    relative = (joints - joints[root]) * scale
    centres = np.array([[VIEW_SIZE_PX / 2, VIEW_SIZE_PX / 2], [1.5 * VIEW_SIZE_PX, VIEW_SIZE_PX / 2]])
    return np.stack([relative[:, [0, 1]], relative[:, [2, 1]]]) + centres[:, None]


def _spread_rows(folder: Path, count: int) -> Iterator[tuple[Path, int, dict[str, Any]]]:
    """Yield (file, number in it, row) of rows spread over all files of a folder."""
    shards = sorted((folder / "data").glob("*.parquet"))
    ends = np.cumsum([pq.read_metadata(shard).num_rows for shard in shards])
    total = int(ends[-1]) if len(ends) else 0
    for position in np.unique(np.linspace(0, total - 1, min(count, total)).round().astype(int)):
        shard = int(np.searchsorted(ends, position, side="right"))
        number = int(position - (ends[shard - 1] if shard else 0))
        yield shards[shard], number, _read_row(shards[shard], number)


def _read_row(shard: Path, number: int) -> dict[str, Any]:
    """Read one row of a Parquet file, and of its groups only the one that has it."""
    with pq.ParquetFile(shard) as file:
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if number < rows:
                return file.read_row_group(group).slice(number, 1).to_pylist()[0]
            number -= rows
    raise ValueError(f"{shard} has too few rows by {number + 1}")
