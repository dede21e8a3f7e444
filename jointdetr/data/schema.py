"""The row of a pose dataset: one picture, one person, everything that is known about the joints.

Shape vocabulary: `joints` (J), `height` and `width` of a picture in pixels. Absolute camera space is stored;
root-relative positions are derived. Camera axes: x right, y down, z forward.
"""

import datasets
import numpy as np

PART_NAMES = (
    "background",
    "abdomen",
    "chest",
    "head",
    "left_upper_arm",
    "right_upper_arm",
    "left_forearm",
    "right_forearm",
    "left_hand",
    "right_hand",
    "left_thigh",
    "right_thigh",
    "left_shin",
    "right_shin",
    "left_foot",
    "right_foot",
)
"""Body parts of `part_map`, by value."""

PART_FLIP_PAIRS = ((4, 5), (6, 7), (8, 9), (10, 11), (12, 13), (14, 15))
"""Values of `part_map` that change places when a picture is mirrored."""

DEPTH_MAP_OFFSET = 32768
"""Value of `depth_map` for a surface exactly as deep as the root joint; 0 is kept for "no person here"."""

NOBODY = "nobody"
"""Name of the column that says that a row shows no person."""

DENSE_MAP_REDUCTION = 4
"""How many times smaller than the picture `part_map` and `depth_map` are stored."""


def pose_features(num_joints: int = 17, dense: bool = False, nobody: bool = False) -> datasets.Features:
    """Features of a pose dataset's row.

    | column            | type                   | meaning                                                          |
    |-------------------|------------------------|------------------------------------------------------------------|
    | `image`           | `Image`                | the picture                                                      |
    | `joints_3d`       | `(J, 3)` float32       | mm, camera axes, absolute (the camera is the origin)             |
    | `joints_3d_valid` | `(J,)` bool            | whether the 3D position is known                                 |
    | `joints_2d`       | `(J, 2)` float32       | px of `image`; pixel centres at `.5`                             |
    | `joints_2d_valid` | `(J,)` bool            | whether the 2D position is known                                 |
    | `visible`         | `(J,)` bool            | whether the joint is inside the picture and not occluded         |
    | `intrinsics`      | `(3, 3)` float32       | camera matrix, px of `image`                                     |
    | `box`             | `(4,)` float32         | x, y, width, height of the person, px of `image`                 |
    | `skeleton`        | string                 | name of the skeleton that gives the order of the joints          |
    | `subject`, `action`, `camera` | string     | where the picture comes from; empty when unknown                 |
    | `frame`           | int64                  | number of the frame in its recording                             |

    With `nobody=True` there is a column more, `nobody` (bool): the box is known to show no person. Without it every
    row shows one.

    With `dense=True` there are two more PNG columns, `DENSE_MAP_REDUCTION` times smaller than the picture:
    `part_map` (8-bit, values of `PART_NAMES`) and `depth_map` (16-bit, see `encode_depth_map`).

    Args:
        num_joints: number of joints J of the skeleton.
        dense: add the two dense maps.
        nobody: add the column for pictures of nobody.
    """
    flags = datasets.List(datasets.Value("bool"), length=num_joints)
    columns = {
        "image": datasets.Image(),
        "joints_3d": _matrix(num_joints),
        "joints_3d_valid": flags,
        "joints_2d": _matrix(num_joints),
        "joints_2d_valid": flags,
        "visible": flags,
        "intrinsics": _matrix(3),
        "box": datasets.List(datasets.Value("float32"), length=4),
        "skeleton": datasets.Value("string"),
        "subject": datasets.Value("string"),
        "action": datasets.Value("string"),
        "camera": datasets.Value("string"),
        "frame": datasets.Value("int64"),
    }
    if nobody:
        columns[NOBODY] = datasets.Value("bool")
    if dense:
        columns |= {"part_map": datasets.Image(), "depth_map": datasets.Image()}
    return datasets.Features(columns)


def encode_depth_map(depth_mm: np.ndarray, person: np.ndarray) -> np.ndarray:
    """16-bit picture of a root-relative depth: 0 where there is no person, else `DEPTH_MAP_OFFSET` + mm.

    Args:
        depth_mm: `(height, width)` depth of the surface minus depth of the root joint, mm; read where `person` only.
        person: `(height, width)` bool, where the person's surface is visible.

    Returns:
        `(height, width)` uint16.
    """
    depth = np.where(person, depth_mm, 0.0)
    stored = np.clip(np.rint(depth) + DEPTH_MAP_OFFSET, 1, 65535)
    return np.where(person, stored, 0).astype(np.uint16)


def decode_depth_map(stored: np.ndarray) -> np.ndarray:
    """Undo `encode_depth_map`: `(height, width)` float32 mm relative to the root, NaN where there is no person."""
    depth = stored.astype(np.float32) - DEPTH_MAP_OFFSET
    return np.where(stored == 0, np.float32(np.nan), depth)


def _matrix(rows: int) -> datasets.List:
    """float32 matrix: nested lists are read ten times faster than `datasets.Array2D`.

    Only the outer list has a fixed length: of two in one another, pyarrow (21 to 26) takes the values of other rows
    when it gathers from a slice, as `IterableDataset.shuffle` does.
    """
    return datasets.List(datasets.List(datasets.Value("float32")), length=rows)
