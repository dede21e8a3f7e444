"""Predicting whole data sets: one Parquet file of poses for each input shard, by any number of processes.

After a kill nothing is done twice or lost but what the killed processes had in hand, see `jointdetr.formats.shards`.

Shape vocabulary: `joints` (J). Millimetres in camera axes, px of the picture.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa

from ..camera_jointdetr import Camera
from ..formats.motions import motion_schema, rows_table
from ..formats.shards import fill, open_folder, parquet_aside
from ..picture_jointdetr import load_picture
from ..skeleton_jointdetr import Skeleton
from .loading import describe_row, open_stored, undecoded

SETTINGS_FILE = "prediction.json"
_TEXTS = ("subject", "action", "camera")

Item = dict[str, Any]
Person = Mapping[str, Any]
Estimator = Callable[[list[Item]], list[list[Person]]]
"""People of each picture; an item is what the pipeline takes: `image` and, where known, `boxes`, `intrinsics`."""


@dataclass
class PredictionReport:
    """What this process has done."""

    shards: int = 0  # files that it wrote
    pictures: int = 0  # rows that it read
    people: int = 0  # poses that it wrote
    unreadable: int = 0  # rows that could not be predicted; their `error` says why
    seconds: float = 0.0  # how long it took, waiting for other processes left out

    def __str__(self) -> str:
        rate = self.pictures / self.seconds if self.seconds else 0.0
        text = f"{self.shards} shards, {self.pictures} pictures, {self.people} people, {rate:.1f} pictures per second"
        return f"{text}; {self.unreadable} rows could not be read, see `error`" if self.unreadable else text


@dataclass(frozen=True)
class PredictionJob:
    """What is predicted, and where to."""

    rows: datasets.IterableDataset  # `image` and, where known, box, intrinsics, subject, action, camera and frame
    estimator: Estimator
    skeleton: Skeleton  # of the poses
    output: Path  # folder for the files
    settings: dict[str, Any]  # what the result depends on; a folder of other settings is refused
    batch_size: int = 32  # pictures that are predicted together
    boxes: list[list[float]] | None = None  # people's boxes in every picture; None takes those of the rows
    own_boxes: bool = True  # take the rows' boxes; otherwise the estimator looks for people itself
    focal_px: float | None = None  # of pictures whose rows have no intrinsics, the axis through the middle


def prediction_schema(skeleton: Skeleton) -> pa.Schema:
    """Columns of a file of predictions: those of `motion_schema`, and where a pose comes from.

    `row` is the number of the row in its shard, and `time_s` is the same number, as data sets have no clock; `frame`
    is the data set's, or `row` again. A row that could not be read has one line with an `error` and no pose.
    """
    schema = motion_schema(skeleton)
    fields = [
        pa.field("row", pa.int64(), nullable=False),
        *(pa.field(name, pa.string()) for name in _TEXTS),
        pa.field("visible", pa.list_(pa.float32())),
        pa.field("intrinsics_guessed", pa.bool_()),
        pa.field("error", pa.string()),
    ]
    return pa.schema([*schema, *fields], metadata=schema.metadata)


def predict_shards(job: PredictionJob, on_shard: Callable[[str], None] = lambda text: None) -> PredictionReport:
    """Predict every shard that has no file yet, until there is none; several processes may do so at once.

    A data set of a single shard is split by its row groups. `on_shard` is called with a line of text for each shard
    that this process has finished.
    """
    rows = undecoded(job.rows)
    rows = rows.reshard() if rows.num_shards == 1 else rows
    count = rows.num_shards
    open_folder(job.output, SETTINGS_FILE, {**job.settings, "shards": count})
    paths = [job.output / "data" / f"predictions-{number:05d}-of-{count:05d}.parquet" for number in range(count)]
    schema, report = prediction_schema(job.skeleton), PredictionReport()

    def write(number: int) -> None:
        started, before = time.monotonic(), report.pictures
        numbered = enumerate(rows.shard(num_shards=count, index=number))
        with parquet_aside(paths[number], schema) as writer:
            while batch := list(islice(numbered, job.batch_size)):
                lines = _predict_batch(job, batch)
                writer.write_table(rows_table(lines, schema))
                failed = sum("error" in line for line in lines)
                report.pictures += len(batch)
                report.unreadable += failed
                report.people += len(lines) - failed
        seconds, read = time.monotonic() - started, report.pictures - before
        report.shards += 1
        report.seconds += seconds
        on_shard(f"{paths[number].name}: {read} pictures, {read / seconds:.1f} per second")

    fill({path: number for number, path in enumerate(paths)}, write)
    return report


def _predict_batch(job: PredictionJob, batch: list[tuple[int, dict]]) -> list[dict[str, Any]]:
    """Lines of the file for some rows; where one cannot be read, the others are still predicted."""
    try:
        people = job.estimator([_item(job, row) for _, row in batch])
    except (OSError, ValueError) as error:
        if len(batch) > 1:
            return [line for one in batch for line in _predict_batch(job, [one])]
        ((number, row),) = batch
        known = {name: row.get(name) for name in (*_TEXTS, "frame")}
        count = len(job.skeleton.joints)
        nothing = {"joints": np.full((count, 3), math.nan), "detected": [False] * count}
        return [_line(number, row, nothing) | {"error": f"{describe_row(known)}: {error}"}]
    return [
        _line(number, row, person, index)
        for (number, row), found in zip(batch, people, strict=True)
        for index, person in enumerate(found)
    ]


def _item(job: PredictionJob, row: Mapping[str, Any]) -> Item:
    """What the pipeline is told of a row."""
    item: Item = {"image": load_picture(open_stored(row["image"]), "image")}
    box, intrinsics = row.get("box"), row.get("intrinsics")
    if job.boxes is not None:
        item["boxes"] = job.boxes
    elif job.own_boxes and box is not None and not all(map(math.isnan, box)):
        item["boxes"] = [box]
    if intrinsics is not None and np.isfinite(intrinsics).all():
        item["intrinsics"] = intrinsics
    elif job.focal_px is not None:
        item["intrinsics"] = Camera.from_focal_px(job.focal_px, item["image"].size).intrinsics
    return item


def _line(number: int, row: Mapping[str, Any], person: Person, index: int = 0) -> dict[str, Any]:
    frame = row.get("frame")
    origin = {"row": number, "frame": number if frame is None else frame, "time_s": number, "person": index}
    return {**person, **{name: row.get(name) for name in _TEXTS}, **origin}
