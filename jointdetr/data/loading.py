"""Pose datasets from a folder, a file or the Hub, checked against the schema and the skeleton.

Rows whose box misses the labelled person are left out of training, and said. Converters leave such rows out by the
same rule; datasets that others have made may have some.

Shape vocabulary: `rows`, `joints` (J).
"""

import atexit
import io
import logging
import time
from collections.abc import Collection, Generator, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakSet

import datasets
import numpy as np
from datasets.exceptions import DatasetGenerationError
from PIL import Image

from ..picture_jointdetr import DECODING_ERRORS, upright_size
from ..skeleton_jointdetr import Skeleton
from .rows import Problem, box_problem, joints_not_finite
from .schema import pose_features

logger = logging.getLogger(__name__)

POSE_COLUMNS = tuple(pose_features())
BOX_COLUMNS = ("joints_3d", "joints_3d_valid", "joints_2d", "joints_2d_valid", "visible", "intrinsics", "box")
ROWS_AT_ONCE = 1000

PoseRows = datasets.Dataset | datasets.IterableDataset

SAVED_SHARDS = 64
"""Parts that a folder of `save_to_disk` is streamed in, for workers and processes to share."""

LAST_READS_S = 0.3
"""Time for reads of pyarrow's threads that have begun: they would abort as Python ends, and cannot be waited for."""

_readers: WeakSet[Generator] = WeakSet()


def load_pose_dataset(
    path_or_repo: str | Path, split: str = "train", streaming: bool = False, columns: Collection[str] = POSE_COLUMNS
) -> PoseRows:
    """Load a pose dataset.

    Args:
        path_or_repo: a parquet file, a folder of parquet files, a folder written by `Dataset.save_to_disk`, or the
            name of a dataset repository on the Hub.
        split: name of the split; a folder saved as one dataset has the split `train` alone.
        streaming: read the rows as they are asked for, from the disk or from the Hub, without a local copy;
            `PoseStream` takes them, `PoseDataset` needs random access.
        columns: what must be there; for skeletons without pictures `jointdetr.data.rows.SKELETON_COLUMNS`.

    Raises:
        ValueError: The split does not exist or is empty, or the columns are not those of `pose_features`.
    """
    try:
        rows = _load(path_or_repo, split, streaming)
    except DatasetGenerationError as error:
        raise ValueError(f"{path_or_repo} cannot be read: {error.__cause__ or error}") from error
    check_columns(rows, columns)
    if isinstance(rows, datasets.Dataset) and not len(rows):
        raise ValueError(f"split {split!r} of {path_or_repo} must have at least one row, got none")
    if isinstance(rows, datasets.Dataset) and streaming:
        return rows.to_iterable_dataset(num_shards=min(SAVED_SHARDS, len(rows)))
    return rows


def _load(path_or_repo: str | Path, split: str, streaming: bool) -> PoseRows:
    """Read whichever kind of place this is; a stream's files are closed when Python ends."""
    path = Path(path_or_repo)
    if (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():  # of `save_to_disk`
        if any((path / "data").glob("*.parquet")):
            raise ValueError(f"{path} must hold one dataset, got one of `save_to_disk` and Parquet files beside it")
        saved = datasets.load_from_disk(str(path))
        parts = {"train": saved} if isinstance(saved, datasets.Dataset) else saved
        _require_split(path, split, parts)
        return parts[split]
    name, files = str(path_or_repo), None
    if path.is_file():
        _require_split(path, split, ["train"])
        name, files = "parquet", name
    elif path.is_dir():  # by the paths of its files: by its name, it would be taken for another one in the cache
        found = datasets.load_dataset_builder(name).config.data_files
        _require_split(path, split, found)
        name, files = "parquet", {part: list(of_part) for part, of_part in found.items()}
        if others := [file for file in files[split] if not file.endswith(".parquet")]:
            raise ValueError(f"{path} must hold a dataset in Parquet files, got {others[0]}")
    if not streaming:
        return datasets.load_dataset(name, data_files=files, split=split)
    builder = datasets.load_dataset_builder(name, data_files=files)
    if isinstance(builder, datasets.ArrowBasedBuilder):
        builder._generate_tables = partial(_read_tables, builder)
    return builder.as_streaming_dataset(split=split)


def _require_split(path: Path, split: str, found: Collection[str]) -> None:
    if split not in found:
        raise ValueError(f"`split` must be one of {sorted(found)} for {path}, got {split!r}")


def _read_tables(builder: datasets.ArrowBasedBuilder, *args: Any, **kwargs: Any) -> Generator:
    """Read tables as a builder of `datasets` does, and remember the readers that have not come to their end."""
    # by its class: a method of the builder would be this function, once it has been sent to a worker
    reader = type(builder)._generate_tables(builder, *args, **kwargs)
    _readers.add(reader)
    return reader


@atexit.register
def close_readers() -> None:
    """Close the files of this module's streams that were not read to their end.

    Python does not end, or crashes at its end, while pyarrow reads ahead in a file that Python has opened; see
    https://github.com/apache/arrow/issues/45214.
    """
    left = list(_readers)
    for reader in left:
        reader.close()
    if left:
        time.sleep(LAST_READS_S)


def check_columns(rows: PoseRows, columns: Collection[str] = POSE_COLUMNS) -> None:
    """Raise `ValueError` unless every column is there."""
    if missing := sorted(set(columns) - set(rows.column_names or [])):
        raise ValueError(f"a pose dataset must have the columns {missing} too, got {rows.column_names}")


def check_rows(rows: PoseRows, skeleton: Skeleton) -> None:
    """Check that a dataset can be used for a skeleton, by its columns and its first row; else raise `ValueError`."""
    check_columns(rows)
    first = first_labels(rows)
    if first["skeleton"] != skeleton.name:
        raise ValueError(f"the dataset's skeleton must be {skeleton.name!r}, got {first['skeleton']!r}")
    for name in ("joints_3d", "joints_2d"):
        if (count := len(first[name])) != len(skeleton.joints):
            expected = f"the {len(skeleton.joints)} joints of skeleton {skeleton.name!r}"
            raise ValueError(f"`{name}` must have {expected}, got {count}")


def first_labels(rows: PoseRows) -> dict[str, Any]:
    """Skeleton and joints of the first row; an empty dataset raises `ValueError`."""
    labels = rows.select_columns(["skeleton", "joints_3d", "joints_2d"])
    for row in labels.take(1):
        return row
    raise ValueError("a pose dataset must have at least one row, got none")


def check_row(row: Mapping[str, Any], skeleton: Skeleton) -> None:
    """Raise `ValueError` for a row that cannot be trained on or evaluated."""
    if row["skeleton"] != skeleton.name:
        raise ValueError(f"the row's skeleton must be {skeleton.name!r}, got {row['skeleton']!r}")
    box = np.asarray(row["box"], dtype=np.float64)
    if not (np.isfinite(box).all() and (box[2:] > 0).all()):
        raise ValueError(f"`box` must be finite x, y, width, height of positive size, got {row['box']}")
    for name in ("joints_3d", "joints_2d"):
        if len(wrong := joints_not_finite(row, name)):
            names = ", ".join(skeleton.joints[joint] for joint in wrong)
            raise ValueError(f"`{name}` must be finite where `{name}_valid` is true, got NaN or infinity for {names}")


def describe_row(row: Mapping[str, Any]) -> str:
    """Say which row this is, for messages."""
    return ", ".join(f"{name} {row[name]!r}" for name in ("subject", "action", "camera", "frame"))


def fitting_rows(rows: datasets.Dataset) -> datasets.Dataset:
    """Leave out rows whose box misses the picture or holds none of the labelled joints, with one warning for all."""
    stored = undecoded(rows.with_format(None))
    labels = stored.select_columns(["box", "joints_2d", "visible"])
    problems: dict[int, Problem] = {}
    for start in range(0, len(labels), ROWS_AT_ONCE):
        batch = labels[start : start + ROWS_AT_ONCE]
        points, boxes = np.array(batch["joints_2d"], np.float64), np.array(batch["box"], np.float64)[:, None]
        inside = ((points >= boxes[..., :2]) & (points <= boxes[..., :2] + boxes[..., 2:])).all(axis=-1)
        is_seen = (inside & np.array(batch["visible"], bool)).any(axis=-1)
        for number in (start + np.flatnonzero(~is_seen)).tolist():  # only of these must the picture be opened
            if (problem := misfit(stored[number])) is not None:
                problems[number] = problem
    if not problems:
        return rows
    first, problem = next(iter(problems.items()))
    said = f"row {first} ({describe_row(stored[first])}): {': '.join(problem)}"
    logger.warning("%d of %d rows are left out; the first is %s", len(problems), len(rows), said)
    return rows.select([number for number in range(len(rows)) if number not in problems])


def misfit(row: Mapping[str, Any]) -> Problem | None:
    """Return what is wrong with the box of a row whose picture is not decoded; None, too, if it cannot be read."""
    try:
        size = upright_size(open_stored(row["image"]))
    except DECODING_ERRORS:
        return None  # said when the picture is decoded
    return box_problem({name: np.array(row[name]) for name in BOX_COLUMNS}, size)


def undecoded(rows: PoseRows) -> PoseRows:
    """Keep pictures as bytes: whoever crops them decodes them faster."""
    for name, feature in rows.features.items():
        if isinstance(feature, datasets.Image):
            rows = rows.cast_column(name, datasets.Image(decode=False))
    return rows


def open_stored(stored: Mapping[str, Any]) -> Image.Image:
    """Open an undecoded `datasets.Image`: bytes, or the path of a file."""
    if stored["bytes"] is None:
        return Image.open(stored["path"])
    return Image.open(io.BytesIO(stored["bytes"]))
