"""What became of a conversion: what was left out and why, in words and as a dataset's card; and pictures to look at.

In these pictures filled joints are the 2D labels, hollow ones with dashed bones the 3D labels as the camera sees them;
where the conversion is right the two fall together.

Shape vocabulary: `joints` (J).
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
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
ROWS_AT_ONCE = 64  # in a row group of the files
SKELETON_FILE, CHECK_FOLDER = "skeleton.json", "check"
VIEW_SIZE_PX, VIEW_HEIGHT_MM = 480, 2400.0


@dataclass
class Refusals:
    """Rows left out for one reason: how many, and the first of them."""

    count: int = 0
    examples: list[str] = field(default_factory=list)


@dataclass
class ConversionReport:
    """What a recording, or a whole folder, holds, and what was left out of it."""

    rows: dict[str, int] = field(default_factory=dict)  # number of each split
    skipped: dict[str, Refusals] = field(default_factory=dict)  # by the reason
    failed: dict[str, str] = field(default_factory=dict)  # what is wrong with each recording without rows
    errors_px: list[float] = field(default_factory=list)  # of each row: mean distance of 2D and projected 3D labels
    notes: list[str] = field(default_factory=list)  # what else there is to say, each once

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ConversionReport":
        """Undo `asdict`."""
        skipped = {reason: Refusals(**refusals) for reason, refusals in values["skipped"].items()}
        return cls(**values | {"skipped": skipped})

    @property
    def reprojection_px(self) -> dict[str, float]:
        """Median and largest of the rows' errors; empty if no row has both kinds of labels."""
        errors = self.errors_px
        return {"median": float(np.median(errors)), "max": max(errors)} if errors else {}

    def skip(self, reason: str, examples: list[str], count: int = 1) -> None:
        """Count rows that are left out."""
        refusals = self.skipped.setdefault(reason, Refusals())
        refusals.count += count
        refusals.examples = (refusals.examples + examples)[:MOST_EXAMPLES]

    def add(self, other: "ConversionReport") -> None:
        """Add what became of a recording."""
        for split, count in other.rows.items():
            self.rows[split] = self.rows.get(split, 0) + count
        for reason, refusals in other.skipped.items():
            self.skip(reason, refusals.examples, refusals.count)
        self.failed |= other.failed
        self.errors_px += other.errors_px
        self.notes = list(dict.fromkeys(self.notes + other.notes))

    def summary(self) -> dict[str, Any]:
        """Return what `conversion.json` keeps."""
        kept = {name: value for name, value in asdict(self).items() if name != "errors_px"}
        return kept | {"reprojection_px": self.reprojection_px}

    def lines(self) -> Iterator[str]:
        """Say it in words."""
        for split, count in self.rows.items():
            yield f"{split}: {count} rows"
        if self.errors_px:
            median, largest = self.reprojection_px.values()
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


def write_card(settings: Mapping[str, Any], report: ConversionReport) -> str:
    """Return the README that tells `load_dataset` where the splits are, and people what was converted and how."""
    splits = [split for split, count in report.rows.items() if count]
    files = "".join(f"  - split: {split}\n    path: data/{split}-*.parquet\n" for split in splits)
    configs = f"configs:\n- config_name: default\n  data_files:\n{files}" if files else ""
    options = ", ".join(f"{name} {value}" for name, value in settings.items() if value is not None)
    said = "\n".join(f"    {line}" for line in report.lines())
    return (
        f"---\nlicense: other\n{configs}---\n"
        f"# Converted by jointdetr\n\n{options}. The licence of the source holds.\n\n{said}\n"
    )


def write_check_pictures(folder: Path, count: int) -> list[Path]:
    """Draw so many rows, spread evenly over a converted folder, into its subfolder `check`; returns the files."""
    shards = sorted((folder / "data").glob("*.parquet"))
    starts = np.cumsum([0, *(pq.read_metadata(shard).num_rows for shard in shards)])
    skeleton = read_skeleton(folder / SKELETON_FILE)
    (folder / CHECK_FOLDER).mkdir(exist_ok=True)
    written = []
    for position in np.unique(np.linspace(0, starts[-1] - 1, min(count, starts[-1])).round().astype(int)):
        shard = np.searchsorted(starts, position, side="right") - 1
        number = int(position - starts[shard])
        with pq.ParquetFile(shards[shard]) as file:
            (row,) = file.read_row_group(number // ROWS_AT_ONCE).slice(number % ROWS_AT_ONCE, 1).to_pylist()
        written.append(folder / CHECK_FOLDER / f"{shards[shard].stem}-{number:06d}.png")
        draw_row(row, skeleton).save(written[-1])
    return written


def draw_row(row: dict[str, Any], skeleton: Skeleton) -> Image.Image:
    """Draw the labels of one row over its picture, or a skeleton without one from the front and from the side."""
    from ..visualization.figures import draw_overlay  # which conversion itself has no need of

    arrays = {name: np.array(value) for name, value in row.items() if isinstance(value, list)}
    if "image" not in row:
        relative = (arrays["joints_3d"] - arrays["joints_3d"][skeleton.root]) * VIEW_SIZE_PX / VIEW_HEIGHT_MM
        centres = VIEW_SIZE_PX * np.array([[0.5, 0.5], [1.5, 0.5]])
        points = np.stack([relative[:, [0, 1]], relative[:, [2, 1]]]) + centres[:, None]  # (2, joints, 2)
        blank = Image.new("RGB", (2 * VIEW_SIZE_PX, VIEW_SIZE_PX), "white")
        return draw_overlay(blank, points, np.ones(points.shape[:2], bool), skeleton)
    image = load_picture(Image.open(BytesIO(row["image"]["bytes"])), "image")
    points = np.stack([arrays["joints_2d"], project_row(arrays)])  # labels, then projected: (2, joints, 2)
    drawn_as_label = np.repeat([[True], [False]], points.shape[1], axis=1)
    return draw_overlay(image, points, drawn_as_label, skeleton)
