"""Poses through time: one person's motion in memory, the table that holds several, and reading it from files.

A table has one row for each person in each frame, in the same words wherever it lies (Parquet, JSON, NPZ): `frame`,
`time_s`, `person`, `box`, `joints`, `joints_2d`, `scores`, `detected`, `joints_camera`, `sigmas`. A picture is a film
of one frame: where `frame`, `time_s` and `person` are left out, the rows are the people of frame 0.

Shape vocabulary: rows, frames, joints. Positions are millimetres in camera axes (x right, y down, z forward), pixels
in 2D. NaN is a position that is not known.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, is_zipfile

import numpy as np
import pyarrow as pa
import torch

from ..skeleton_jointdetr import Skeleton
from .skeletons import skeleton_from_dict

SKELETON_KEY = b"jointdetr.skeleton"  # where the metadata of a Parquet file say the skeleton, as JSON

NPZ_SKELETON = {"skeleton_name": "name", "joint_names": "joints"}
NPZ_SKELETON |= {name: name for name in ("parents", "flip_pairs", "root")}
"""Arrays of an NPZ file that describe the skeleton, and what a skeleton's file calls each."""

OPTIONAL = ("name", "flip_pairs")  # what other programs may leave out of a skeleton
REQUIRED = ("frame", "time_s", "person", "joints", "detected")
MOTION_FIELDS = {"frame": "frames", "time_s": "times_s", "box": "boxes"}
MOTION_FIELDS |= {name: name for name in ("joints", "joints_2d", "scores", "detected", "sigmas")}
"""Columns that a motion has as they are, and what it calls them."""

EVEN = 0.02  # share by which steps of time may differ and still count as equal
LONGEST_GAP = 2  # median steps of time, over which is interpolated
SINGLE_FRAME_S = 0.04

Columns = dict[str, np.ndarray]


@dataclass
class PoseMotion:
    """One person through time. Frames in which the person was not seen at all may be left out.

    Args:
        skeleton: Names and parents of the joints.
        times_s: `(frames,)`, seconds since the beginning of the film, rising.
        joints: `(frames, joints, 3)`, millimetres relative to the root joint; NaN where missing.
        detected: `(frames, joints)` bool, False where a joint is a guess or missing.
        scores: `(frames, joints)`, probabilities, if known.
        joints_2d: `(frames, joints, 2)`, pixels of the picture, if known.
        root_camera: `(frames, 3)`, the root's place from the camera's centre in millimetres, if known.
        person: Number of the person in the film.
        frames: `(frames,)`, numbers of the frames in the film; 0, 1, 2 ... if left out.
        boxes: `(frames, 4)`, x, y, width, height in pixels, if known.
        sigmas: `(frames, joints)`, millimetres that each joint is expected to be off, if known; NaN where it is not.

    Raises:
        ValueError: There is no frame, the shapes do not fit the skeleton and each other, or the times do not rise.
    """

    skeleton: Skeleton
    times_s: np.ndarray
    joints: np.ndarray
    detected: np.ndarray
    scores: np.ndarray | None = None
    joints_2d: np.ndarray | None = None
    root_camera: np.ndarray | None = None
    person: int = 0
    frames: np.ndarray | None = None
    boxes: np.ndarray | None = None
    sigmas: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Take everything as arrays and refuse what does not fit."""
        count, joints = len(self.times_s), len(self.skeleton.joints)
        if count == 0:
            raise ValueError("`times_s` must have at least one frame, got none.")
        self.times_s = _checked("times_s", self.times_s, (count,), np.float64)
        self.frames = _checked("frames", range(count) if self.frames is None else self.frames, (count,), np.int64)
        self.joints = _checked("joints", self.joints, (count, joints, 3), np.float64)
        self.detected = _checked("detected", self.detected, (count, joints), np.bool_)
        of_joints = {"scores": (joints,), "joints_2d": (joints, 2), "sigmas": (joints,)}
        for name, shape in (of_joints | {"root_camera": (3,), "boxes": (4,)}).items():
            if getattr(self, name) is not None:
                setattr(self, name, _checked(name, getattr(self, name), (count, *shape), np.float64))
        if not np.isfinite(self.times_s).all() or (np.diff(self.times_s) <= 0).any():
            raise ValueError(f"`times_s` of person {self.person} must rise from frame to frame, got {self.times_s}.")

    def __len__(self) -> int:
        return len(self.times_s)

    @property
    def joints_camera(self) -> np.ndarray | None:
        """Joints from the camera's centre `(frames, joints, 3)`, millimetres; None without `root_camera`."""
        return None if self.root_camera is None else self.joints + self.root_camera[:, None]

    @property
    def missing(self) -> np.ndarray:
        """`(frames, joints)` bool, True where a joint has no position."""
        return ~np.isfinite(self.joints).all(-1)


def motion_schema(skeleton: Skeleton) -> pa.Schema:
    """Columns of a Parquet file of poses, one row for each person in each frame; the skeleton is in the metadata.

    Rows are ordered by frame. `box`, `joints_2d`, `scores`, `joints_camera` and `sigmas` may be null; a position that
    is not known is NaN.
    """
    numbers = {1: pa.list_(pa.float32()), 2: pa.list_(pa.list_(pa.float32()))}
    kinds = {"frame": pa.int64(), "time_s": pa.float64(), "person": pa.int64(), "detected": pa.list_(pa.bool_())}
    fields = [
        pa.field(name, kinds.get(name) or numbers[len(shape)], nullable=name not in REQUIRED)
        for name, shape in _row_shapes(skeleton).items()
    ]
    return pa.schema(fields, metadata={SKELETON_KEY: json.dumps(asdict(skeleton)).encode()})


def motions_from_rows(rows: Iterable[Mapping[str, Any]], skeleton: Skeleton) -> list[PoseMotion]:
    """Gather the people of a picture or of a film into one motion a person, in the order of their numbers.

    A row is a mapping for one person in one frame, with `joints` `(joints, 3)`, `detected` `(joints,)` and, if known,
    `frame`, `time_s`, `person`, `box`, `joints_2d`, `scores`, `joints_camera` and `sigmas`: arrays, tensors or lists.
    The people of one picture, as the pipeline returns them, are such rows.

    Raises:
        ValueError: A row does not fit the skeleton, or several frames have no times; it names the row.
    """
    rows = list(rows)
    columns: Columns = {}
    for name, shape in _row_shapes(skeleton).items():
        values = [row.get(name) for row in rows]
        if any(value is not None for value in values):
            columns[name] = np.stack([_row_value(value, name, shape, row) for row, value in enumerate(values)])
    return _motions_from_columns(columns, skeleton)


def motion_rows(motions: Iterable[PoseMotion]) -> list[dict[str, Any]]:
    """The table of several people's motions: one mapping for each person in each frame, ordered by frame.

    The keys are the columns of [`motion_schema`]; what is not known is left out.
    """
    rows = []
    for motion in motions:
        columns = {name: getattr(motion, field) for name, field in MOTION_FIELDS.items()}
        columns = {"joints_camera": motion.joints_camera} | columns
        known = {name: values for name, values in columns.items() if values is not None}
        for frame, time_s in enumerate(motion.times_s.tolist()):
            row = {name: values[frame] for name, values in known.items()}
            rows.append(row | {"frame": int(row["frame"]), "time_s": time_s, "person": motion.person})
    return sorted(rows, key=lambda row: (row["frame"], row["person"]))


def load_motions(path: str | Path) -> list[PoseMotion]:
    """Read what the package wrote, poses as .parquet, .json or .npz: one motion a person, ordered by their numbers.

    Raises:
        ValueError: The file is none of these, or is damaged; it names the file and the row.
    """
    path = Path(path)
    readers = {".parquet": _read_parquet, ".json": _read_json, ".npz": _read_npz}
    if path.suffix.lower() not in readers:
        raise ValueError(f"{path}: expected a file of poses ending in {', '.join(readers)}, got {path.suffix!r}")
    try:
        return readers[path.suffix.lower()](path)
    except (ValueError, KeyError, TypeError, EOFError, BadZipFile, pa.ArrowException) as error:
        raise ValueError(f"{path}: {error}") from error


def _checked(name: str, values: Any, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    array = np.asarray(values, dtype=dtype)
    if array.shape != shape:
        raise ValueError(f"`{name}` must have the shape {shape}, got {array.shape}.")
    return array


def _row_shapes(skeleton: Skeleton) -> dict[str, tuple[int, ...]]:
    """Columns of a table, and the shape of each one's entry in a row."""
    joints = len(skeleton.joints)
    return {
        **{"frame": (), "time_s": (), "person": (), "box": (4,)},
        **{"joints": (joints, 3), "joints_2d": (joints, 2), "scores": (joints,), "detected": (joints,)},
        **{"joints_camera": (joints, 3), "sigmas": (joints,)},
    }


def _row_value(value: Any, name: str, shape: tuple[int, ...], number: int) -> np.ndarray:
    """One entry of a row as numbers, NaN where it is not known."""
    if value is None and name in REQUIRED:
        raise ValueError(f"row {number} has no `{name}`")
    if value is None:
        return np.full(shape, np.nan)
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    try:
        array = np.asarray(value, dtype=np.float64)  # None inside becomes NaN
    except (TypeError, ValueError):
        array = None
    if array is None or array.shape != shape:
        raise ValueError(f"row {number}: `{name}` must be numbers of the shape {shape}, got {value!r:.60}")
    return array


def _motions_from_columns(columns: Columns, skeleton: Skeleton) -> list[PoseMotion]:
    """Split a table by person and bring each one's rows into the order of time."""
    shapes = {name: shape for name, shape in _row_shapes(skeleton).items() if name in columns}
    count = max((len(columns[name]) for name in shapes), default=0)
    if not count:
        return []
    columns = {name: _checked(name, columns[name], (count, *shape), np.float64) for name, shape in shapes.items()}
    if "frame" not in columns:
        columns |= {"frame": np.zeros(count), "time_s": np.zeros(count), "person": np.arange(count)}
    for name in REQUIRED:
        if name not in columns:
            raise ValueError(f"expected `{name}`, got only {sorted(columns)}")
        unknown = np.isnan(columns[name]).reshape(count, -1).any(1)
        if unknown.any() and name != "joints":
            row = unknown.argmax()
            raise ValueError(f"row {row}: `{name}` must be known, got {columns[name][row]}")
    order = np.argsort(columns["time_s"], kind="stable")
    columns = {name: values[order] for name, values in columns.items()}
    motions = []
    for person in np.unique(columns["person"]):
        mine = {name: values[columns["person"] == person] for name, values in columns.items()}
        known = {name: values for name, values in mine.items() if name in REQUIRED or np.isfinite(values).any()}
        root_camera = None
        if "joints_camera" in known:
            offsets = mine["joints_camera"] - mine["joints"]  # (frames, joints, 3), the same for every joint
            root_camera = np.ma.median(np.ma.masked_invalid(offsets), axis=1).filled(np.nan)  # (frames, 3)
        fields = {field: known[name] for name, field in MOTION_FIELDS.items() if name in known}
        motions.append(PoseMotion(skeleton, root_camera=root_camera, person=int(person), **fields))
    return motions


def _read_json(path: Path) -> list[PoseMotion]:
    document = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(document, dict) or not {"people", "skeleton"} <= set(document):
        raise ValueError("expected an object with `people` and `skeleton`")
    return motions_from_rows(document["people"], skeleton_from_dict(document["skeleton"], OPTIONAL))


def _read_npz(path: Path) -> list[PoseMotion]:
    if not is_zipfile(path):
        raise ValueError("expected an archive of NumPy arrays (NPZ)")
    with np.load(path, allow_pickle=False) as archive:
        arrays = dict(archive)
    described = {key: arrays[name].tolist() for name, key in NPZ_SKELETON.items() if name in arrays}
    return _motions_from_columns(arrays, skeleton_from_dict(described, OPTIONAL))


def _read_parquet(path: Path) -> list[PoseMotion]:
    from pyarrow import parquet

    schema = parquet.read_schema(path)
    if SKELETON_KEY not in (schema.metadata or {}):
        raise ValueError(f"expected the skeleton in the file's metadata, under {SKELETON_KEY.decode()!r}")
    skeleton = skeleton_from_dict(json.loads(schema.metadata[SKELETON_KEY]), OPTIONAL)
    shapes = {name: shape for name, shape in _row_shapes(skeleton).items() if name in schema.names}
    table = parquet.read_table(path, columns=list(shapes))
    columns = {name: _column(table.column(name).combine_chunks(), name, shape) for name, shape in shapes.items()}
    return _motions_from_columns(columns, skeleton)


def _column(column: pa.Array, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A column of (nested) lists as numbers `(rows, *shape)`, NaN in rows that are null."""
    values = column.drop_null()
    for _ in shape:
        values = values.flatten()
    numbers = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
    filled = np.full((len(column), *shape), np.nan)
    rows = np.flatnonzero(np.asarray(column.is_valid()))
    if numbers.size != len(rows) * int(np.prod(shape)):
        raise ValueError(f"column `{name}` must have the shape {shape} in every row")
    filled[rows] = numbers.reshape(len(rows), *shape)
    return filled


def rows_table(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Rows of numbers and arrays as a table; what a row does not have is null."""
    columns = {
        name: [None if row.get(name) is None else np.asarray(row[name]).tolist() for row in rows]
        for name in schema.names
    }
    return pa.table(columns, schema=schema)


def interpolated(values: np.ndarray, times_s: np.ndarray) -> np.ndarray:
    """Values `(frames, axes)` without the NaN: in between, or held at both ends; as they are if none is known."""
    known = np.isfinite(values).all(-1)
    if not known.any():
        return values
    return np.stack([np.interp(times_s, times_s[known], axis) for axis in values[known].T], axis=-1)


def at_even_times(motion: PoseMotion) -> PoseMotion:
    """The motion in equal steps of time: itself if it has them, else as many as its median step makes.

    Nothing is known between frames that are more than `LONGEST_GAP` apart.
    """
    times_s = motion.times_s
    steps_s = np.diff(times_s)
    if len(steps_s) == 0 or np.abs(steps_s / np.median(steps_s) - 1).max() < EVEN:
        return motion
    duration_s = times_s[-1] - times_s[0]
    even_s = times_s[0] + np.linspace(0, duration_s, round(duration_s / np.median(steps_s)) + 1)
    joints, root = _resample(motion.joints, times_s, even_s), motion.root_camera
    if root is not None:
        root = _resample(root[:, None], times_s, even_s)[:, 0]
    known = np.isfinite(joints).all(-1)
    return PoseMotion(motion.skeleton, even_s, joints, known, root_camera=root, person=motion.person)


def step_of(times_s: np.ndarray) -> float:
    """Seconds from frame to frame of even times; what one picture alone is taken to last."""
    return (times_s[-1] - times_s[0]) / (len(times_s) - 1) if len(times_s) > 1 else SINGLE_FRAME_S


def _resample(values: np.ndarray, times_s: np.ndarray, at_s: np.ndarray) -> np.ndarray:
    """Interpolate `(frames, points, 3)` to `(times,)`; NaN where one of the two frames around is NaN or far away."""
    after = np.clip(np.searchsorted(times_s, at_s), 1, len(times_s) - 1)
    before = after - 1
    span_s = times_s[after] - times_s[before]
    share = ((at_s - times_s[before]) / span_s)[:, None, None]
    early, late = values[before], values[after]
    between = (1 - share) * early + share * late
    between[span_s > LONGEST_GAP * np.median(np.diff(times_s))] = np.nan
    # at a frame itself its neighbour need not be known
    return np.where(share < 1e-6, early, np.where(share > 1 - 1e-6, late, between))
