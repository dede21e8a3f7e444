"""Tables in files: poses as JSON that explains itself, NPZ, CSV and Parquet; plain columns as CSV and Parquet.

Shape vocabulary: people, joints. Positions are millimetres in camera axes (x right, y down, z forward), pixels in 2D.
"""

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from ..skeleton_jointdetr import Skeleton
from .motions import NPZ_SKELETON, PoseMotion, motion_rows, motion_schema, motions_from_rows, rows_table

FIELDS = {
    "frame": "number of the film's frame, from 0",
    "time_s": "seconds since the film began",
    "person": "number of the person, the same in all frames",
    "joints": "mm, relative to the root joint, camera axes: x right, y down, z forward",
    "joints_camera": "mm, from the camera's centre, camera axes: x right, y down, z forward",
    "joints_world": "mm, in the world that the camera's extrinsics come from",
    "joints_2d": "px of the picture, from its top left corner",
    "scores": "probability, 0 to 1, of the joint to be found and, if its error is known, within 150 mm of the truth",
    "detected": "false: the joint was not found or is probably far off, its position is a guess or missing (null)",
    "sigmas": "mm, how far off the joint is expected to be",
    "visible": "probability that the joint is in the picture and not hidden, 0 to 1",
    "inside": "true: the joint lies within the picture, as far as its position is right",
    "residual_px": "px, root mean square distance between the joints projected by the camera and `joints_2d`",
    "intrinsics_guessed": "true: `joints_camera` stands on a guessed field of view, depths are off by its factor",
    "box": "px of the picture: x, y, width, height; where the person was looked for",
}

DECIMALS = 6  # of numbers in CSV

CSV_COLUMNS = (
    *("frame", "time_s", "person", "joint", "x_mm", "y_mm", "z_mm"),
    *("camera_x_mm", "camera_y_mm", "camera_z_mm", "x_px", "y_px", "score", "error_mm", "detected"),
)


def write_json(
    people: Sequence[Mapping[str, Any]], path: str | Path, skeleton: Skeleton, about: Mapping[str, Any] | None = None
) -> None:
    """Write poses as JSON, with units, axes and skeleton beside the numbers; NaN becomes null.

    `people` are one mapping a person, with the keys of `FIELDS` as far as they are there; of a film one for each
    person in each frame, as [`motion_rows`] gives them. `about` are more entries for the head of the file.
    """
    fields = [name for name in FIELDS if any(name in person for person in people)]
    document = {
        **(about or {}),
        "fields": {name: FIELDS[name] for name in fields},
        "skeleton": asdict(skeleton),
        "people": [{name: _to_json(person[name]) for name in fields if name in person} for person in people],
    }
    Path(path).write_text(_layout(document) + "\n", encoding="utf-8")


def write_npz(people: Sequence[Mapping[str, Any]], path: str | Path, skeleton: Skeleton) -> None:
    """Write poses as a NumPy archive, which `numpy.load` reads without pickle; `people` as for [`write_json`].

    Each field is stacked over the people, beside the joints' names and parents. Numbers that only some have are NaN
    for the others; ValueError where only some have a field that cannot be NaN, such as `inside`.
    """
    fields = [name for name in FIELDS if any(name in person for person in people)]
    arrays = {name: np.stack(_column([person.get(name) for person in people], name)) for name in fields}
    described = {name: np.array(getattr(skeleton, key)) for name, key in NPZ_SKELETON.items()}
    with open(path, "wb") as file:
        np.savez_compressed(file, **described, **arrays)


def write_csv(people: Sequence[Mapping[str, Any]], path: str | Path, skeleton: Skeleton) -> None:
    """Write poses as CSV: one row for each joint of each person in each frame; what is not known is left empty.

    Columns: `frame`, `time_s`, `person`, `joint`; `x_mm`, `y_mm`, `z_mm` relative to the root joint; `camera_x_mm`,
    `camera_y_mm`, `camera_z_mm` from the camera's centre; `x_px`, `y_px`; `score`; `error_mm`, how far off the joint
    is expected to be; `detected`, 1 or 0. `people` as for [`write_json`]; ValueError if a row does not fit `skeleton`.
    """
    blocks = [_joint_columns(motion) for motion in motions_from_rows(people, skeleton)]
    _write_blocks(CSV_COLUMNS, blocks, path)


def write_parquet(people: Sequence[Mapping[str, Any]], path: str | Path, skeleton: Skeleton) -> None:
    """Write poses as Parquet, by [`motion_schema`]; `people` and ValueError as for [`write_csv`]."""
    from pyarrow import parquet

    rows = motion_rows(motions_from_rows(people, skeleton))
    parquet.write_table(rows_table(rows, motion_schema(skeleton)), path)


def write_columns(columns: Mapping[str, np.ndarray], path: str | Path) -> None:
    """Write columns of numbers as .csv or .parquet, by the suffix; NaN is an empty field in CSV, null in Parquet."""
    from pyarrow import parquet

    suffix = Path(path).suffix.lower()
    if suffix == ".parquet":
        arrays = {name: pa.array(values, from_pandas=True) for name, values in columns.items()}
        parquet.write_table(pa.table(arrays), path)
    elif suffix == ".csv":
        _write_blocks(columns, [[values.round(DECIMALS) for values in columns.values()]], path)
    else:
        raise ValueError(f"{path}: expected a table ending in .csv or .parquet, got {Path(path).suffix!r}")


def _column(values: Sequence[Any], name: str) -> list[np.ndarray]:
    """One field of all people as arrays, NaN for those who do not have it."""
    arrays = {row: torch.as_tensor(value).numpy(force=True) for row, value in enumerate(values) if value is not None}
    example = next(iter(arrays.values()))
    if len(arrays) < len(values) and example.dtype.kind != "f":
        raise ValueError(f"all people must have `{name}`, or none of them, got {len(arrays)} of {len(values)}")
    return [arrays[row] if row in arrays else np.full_like(example, np.nan) for row in range(len(values))]


def _joint_columns(motion: PoseMotion) -> list[np.ndarray]:
    """Columns of one person's joints, in the order of `CSV_COLUMNS`."""
    frames, joints = motion.detected.shape
    unknown = np.full(motion.joints.shape, np.nan)
    places = [motion.joints, motion.joints_camera, motion.joints_2d, motion.scores, motion.sigmas]
    widths = [3, 3, 2, 1, 1]
    known = [unknown[..., :width] if place is None else place for place, width in zip(places, widths, strict=True)]
    numbers = np.concatenate([place.reshape(frames * joints, -1) for place in known], axis=1).round(4)
    times_s = np.repeat(motion.times_s, joints).round(DECIMALS)
    names, person = np.tile(np.array(motion.skeleton.joints), frames), np.full(frames * joints, motion.person)
    detected = motion.detected.ravel().astype(int)
    return [np.repeat(motion.frames, joints), times_s, person, names, *numbers.T, detected]


def _write_blocks(names: Iterable[str], blocks: Iterable[Sequence[np.ndarray]], path: str | Path) -> None:
    """Write blocks of columns below each other as CSV, NaN as an empty field."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        for block in blocks:
            fields = [["" if value != value else value for value in column.tolist()] for column in block]
            writer.writerows(zip(*fields, strict=True))


def _to_json(values: Any) -> Any:
    """Nested lists with numbers rounded to what the model can mean, and None for NaN."""
    if isinstance(values, float):
        return None if math.isnan(values) else round(values, 4)
    if isinstance(values, (list, tuple)):
        return [_to_json(value) for value in values]
    if isinstance(values, (bool, int)):
        return values
    return _to_json(torch.as_tensor(values).tolist())


def _layout(value: Any, indent: str = "") -> str:
    """JSON with one line per entry of a mapping and per row of a table, readable and still small."""
    inner = indent + "  "
    if isinstance(value, Mapping) and value:
        rows = [f"{inner}{json.dumps(key)}: {_layout(item, inner)}" for key, item in value.items()]
        return "{\n" + ",\n".join(rows) + f"\n{indent}}}"
    if isinstance(value, list) and value and isinstance(value[0], (list, Mapping)):
        return "[\n" + ",\n".join(inner + _layout(item, inner) for item in value) + f"\n{indent}]"
    return json.dumps(value, allow_nan=False, ensure_ascii=False)
