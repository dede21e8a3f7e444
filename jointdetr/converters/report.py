"""What became of a conversion: what was left out and why, in words and as a dataset's card; and pictures to look at.

In these pictures filled joints are the 2D labels, hollow ones with dashed bones the 3D labels as the camera sees them;
where the conversion is right the two fall together.

Shape vocabulary: `joints` (J).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from ..data.rows import project_row
from ..formats.skeletons import read_skeleton
from ..picture_jointdetr import load_picture
from ..skeleton_jointdetr import Skeleton

MOST_EXAMPLES = 5
SKELETON_FILE, CHECK_FOLDER = "skeleton.json", "check"
VIEW_SIZE_PX, VIEW_HEIGHT_MM = 480, 2400.0


@dataclass
class Refusals:
    """Rows left out for one reason: how many, and the first of them."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, other: "Refusals") -> None:
        """Count more of them."""
        self.count += other.count
        self.examples = (self.examples + other.examples)[:MOST_EXAMPLES]


@dataclass
class RecordingReport:
    """What became of a recording: its rows, what was left out, and the error that stopped it.

    `reprojection_px` has the mean distance of 2D labels and projected 3D labels of each row that has both.
    """

    name: str
    split: str
    rows: int = 0
    skipped: dict[str, Refusals] = field(default_factory=dict)
    failed: str | None = None
    reprojection_px: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def skip(self, reason: str, example: str, count: int = 1) -> None:
        """Count rows that are left out."""
        self.skipped.setdefault(reason, Refusals()).add(Refusals(count, [example]))

    @classmethod
    def load(cls, path: Path) -> "RecordingReport":
        """Read what `json.dumps(asdict(report))` wrote."""
        values = json.loads(path.read_text())
        values["skipped"] = {reason: Refusals(**refusals) for reason, refusals in values["skipped"].items()}
        return cls(**values)


@dataclass(frozen=True)
class ConversionReport:
    """What a converted folder holds, and what was left out; saved as `conversion.json`.

    Args:
        rows: number of rows of each split.
        skipped: rows left out, by the reason.
        failed: what is wrong with each recording that could not be converted.
        reprojection_px: median and largest of the rows' mean distances of 2D labels and projected 3D labels; empty if
            no row has both.
        notes: what else there is to say, such as joints whose names are not known; each once.
    """

    rows: dict[str, int]
    skipped: dict[str, Refusals]
    failed: dict[str, str]
    reprojection_px: dict[str, float]
    notes: list[str] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """Say it in words."""
        for split, count in self.rows.items():
            yield f"{split}: {count} rows"
        if self.reprojection_px:
            median, largest = self.reprojection_px["median"], self.reprojection_px["max"]
            yield f"3D falls on 2D within {median:.2f} px (median of the rows), {largest:.2f} px (worst row)"
        for reason, refusals in self.skipped.items():
            yield f"skipped {refusals.count}: {reason}"
            yield from (f"    {example}" for example in refusals.examples)
        yield from self.notes
        yield from (f"failed {name}: {reason}" for name, reason in self.failed.items())

    def complaints(self) -> Iterator[str]:
        """Say what must be put right: recordings that failed, splits without a row."""
        if self.failed:
            name, reason = next(iter(self.failed.items()))
            yield f"{len(self.failed)} recordings failed, the others are converted; the first is {name}: {reason}"
        yield from (f"the split {split!r} has no row" for split, count in self.rows.items() if not count)


def gather(recordings: Sequence[RecordingReport]) -> ConversionReport:
    """Sum up what became of the recordings of a folder."""
    rows: dict[str, int] = {}
    skipped: dict[str, Refusals] = {}
    for recording in recordings:
        rows[recording.split] = rows.get(recording.split, 0) + recording.rows
        for reason, refusals in recording.skipped.items():
            skipped.setdefault(reason, Refusals()).add(refusals)
    failed: dict[str, str] = {}
    for recording in recordings:
        if recording.failed is not None:  # names differ within a split only
            name = f"{recording.split}-{recording.name}" if recording.name in failed else recording.name
            failed[name] = recording.failed
    errors = np.concatenate([recording.reprojection_px for recording in recordings])
    summary = {"median": float(np.median(errors)), "max": float(errors.max())} if len(errors) else {}
    notes = list(dict.fromkeys(note for recording in recordings for note in recording.notes))
    return ConversionReport(rows, skipped, failed, summary, notes)


def write_card(settings: Mapping[str, Any], report: ConversionReport) -> str:
    """Return the README that tells `load_dataset` where the splits are, and people what was converted and how."""
    files = "\n".join(
        f"  - split: {split}\n    path: data/{split}-*.parquet" for split, count in report.rows.items() if count
    )
    said = "\n".join(f"    {line}" for line in report.lines())
    short = {
        name: value.get("kind", "given") if isinstance(value, dict) else value for name, value in settings.items()
    }
    options = ", ".join(f"{name} {value}" for name, value in short.items() if value is not None and name != "target")
    return (
        f"---\nlicense: other\nconfigs:\n- config_name: default\n  data_files:\n{files}\n---\n"
        f"# Converted by jointdetr\n\n{options}. The licence of the source holds.\n\n{said}\n"
    )


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
    from ..visualization.figures import draw_overlay  # which conversion itself has no need of

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
