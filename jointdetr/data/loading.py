"""Pose datasets from a folder, a file or the Hub, checked against the schema and the skeleton."""

from collections.abc import Collection
from pathlib import Path

import datasets

from ..skeleton_jointdetr import Skeleton
from .schema import pose_features

POSE_COLUMNS = tuple(pose_features())


def load_pose_dataset(
    path_or_repo: str | Path, split: str = "train", streaming: bool = False, columns: Collection[str] = POSE_COLUMNS
) -> datasets.Dataset | datasets.IterableDataset:
    """Load a pose dataset.

    Args:
        path_or_repo: a parquet file, a folder of parquet files, a folder written by `Dataset.save_to_disk`, or the
            name of a dataset repository on the Hub.
        split: name of the split; a folder saved as one dataset has the split `train` alone.
        streaming: read the rows as they are asked for; `Trainer` and `PoseDataset` need it to be False.
        columns: what must be there; for skeletons without pictures `jointdetr.data.rows.SKELETON_COLUMNS`.

    Raises:
        ValueError: The split does not exist, or a column is missing.
    """
    path = Path(path_or_repo)
    if (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():
        rows = _load_saved(path, split)
        rows = rows.to_iterable_dataset() if streaming else rows
    elif path.is_file():
        if split != "train":
            raise ValueError(f'`split` must be "train" for the single file {path}, got {split!r}')
        rows = datasets.load_dataset("parquet", data_files=str(path), split=split, streaming=streaming)
    else:
        rows = datasets.load_dataset(str(path_or_repo), split=split, streaming=streaming)
    check_columns(rows, columns)
    return rows


def check_columns(rows: datasets.Dataset | datasets.IterableDataset, columns: Collection[str] = POSE_COLUMNS) -> None:
    """Raise `ValueError` unless every column is there."""
    missing = set(columns) - set(rows.column_names or [])
    if missing:
        raise ValueError(f"a pose dataset must have the columns {sorted(missing)} too, got {rows.column_names}")


def check_rows(rows: datasets.Dataset, skeleton: Skeleton) -> None:
    """Check that a dataset can be used for a skeleton, by its columns and its first row.

    Raises:
        ValueError: The dataset is empty, a column is missing, or its joints are not the skeleton's.
    """
    check_columns(rows)
    if len(rows) == 0:
        raise ValueError("a pose dataset must have at least one row, got none")
    first = rows.select_columns(["skeleton", "joints_3d", "joints_2d"])[0]
    if first["skeleton"] != skeleton.name:
        raise ValueError(f"the dataset's skeleton must be {skeleton.name!r}, got {first['skeleton']!r}")
    for name in ("joints_3d", "joints_2d"):
        if len(first[name]) != len(skeleton.joints):
            raise ValueError(
                f"`{name}` must have the {len(skeleton.joints)} joints of skeleton {skeleton.name!r}, "
                f"got {len(first[name])}"
            )


def _load_saved(path: Path, split: str) -> datasets.Dataset:
    """Read what `save_to_disk` wrote: one dataset, or one for each split."""
    saved = datasets.load_from_disk(str(path))
    if isinstance(saved, datasets.Dataset):
        saved = datasets.DatasetDict({"train": saved})
    if split not in saved:
        raise ValueError(f"`split` must be one of {sorted(saved)} for {path}, got {split!r}")
    return saved[split]
