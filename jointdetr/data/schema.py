"""The row of a pose dataset: one picture, one person, everything that is known about the joints.

Shape vocabulary: `joints` (J), `height` and `width` of a picture in pixels. Absolute camera space is stored;
root-relative positions are derived. Camera axes: x right, y down, z forward.
"""

import datasets

NOBODY = "nobody"
"""Name of the column that says that a row shows no person."""


def pose_features(num_joints: int = 17, nobody: bool = False) -> datasets.Features:
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

    Args:
        num_joints: number of joints J of the skeleton.
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
    return datasets.Features(columns)


def _matrix(rows: int) -> datasets.List:
    """float32 matrix: nested lists are read ten times faster than `datasets.Array2D`.

    Only the outer list has a fixed length: of two in one another, pyarrow (21 to 26) takes the values of other rows
    when it gathers from a slice, as `IterableDataset.shuffle` does.
    """
    return datasets.List(datasets.List(datasets.Value("float32")), length=rows)
