"""Human3.6M from the files that mmpose's users have: an npz of annotations beside a folder of pictures.

Human3.6M may be used for research only and may not be passed on; this module reads a copy that the user has.

The npz holds `imgname` (N), `center` (N, 2) px, `scale` (N, the square box's side divided by 200 px), `part` (N, J, 3)
pixels with a confidence, `S` (N, J, 4) metres in absolute camera space with a confidence. The cameras come as a
pickle, which is never opened: a pickle runs code. A pinhole camera is fitted to each picture's own labels instead,
which explains them within 3 px (Human3.6M's lens distortion is left out).

Shape vocabulary: `pictures` (N), `joints` (J). Camera axes: x right, y down, z forward.
"""

from pathlib import Path

import datasets
import numpy as np

from ..skeleton_jointdetr import HUMAN36M, Skeleton
from .schema import pose_features

BOX_SIDE_PER_SCALE_PX = 200.0


def read_human36m(
    annotations: str | Path, images: str | Path, skeleton: Skeleton = HUMAN36M, limit: int | None = None
) -> datasets.Dataset:
    """Convert an mmpose npz and its pictures into a pose dataset.

    Args:
        annotations: the npz file.
        images: the folder that `imgname` is relative to; pictures are named `S1/S1_Directions_1.54138969/....jpg`.
        skeleton: the order of the joints; MPI-INF-3DHP has npz files of the same format.
        limit: read at most so many pictures.

    Returns:
        A dataset with `pose_features`; visibility is unknown there, and every labelled joint counts as visible.

    Raises:
        ValueError: A key is missing, the joints are not the skeleton's, or a picture does not exist.
    """
    arrays = _read_npz(Path(annotations), len(skeleton.joints))
    count = len(arrays["imgname"]) if limit is None else min(limit, len(arrays["imgname"]))
    features = pose_features(len(skeleton.joints))
    rows = [_row(arrays, index, Path(images), skeleton) for index in range(count)]
    return datasets.Dataset.from_list(rows, features=features)


def fit_intrinsics(joints_camera: np.ndarray, points_px: np.ndarray) -> np.ndarray:
    """Fit a pinhole camera without skew to points of one picture, by least squares.

    `u = fx x / z + cx` and `v = fy y / z + cy` are two lines.

    Args:
        joints_camera: `(joints, 3)` in camera space, any unit.
        points_px: `(joints, 2)` px.

    Returns:
        `(3, 3)` intrinsics in px.

    Raises:
        ValueError: Fewer than two points, or all in one row or one column.
    """
    slopes = joints_camera[:, :2] / joints_camera[:, 2:]  # (joints, 2)
    if len(slopes) < 2 or np.ptp(slopes, axis=0).min() < 1e-6:
        raise ValueError(f"a camera needs points that differ in x and in y, got {len(slopes)} that do not")
    focal_x, centre_x = np.polyfit(slopes[:, 0], points_px[:, 0], 1)
    focal_y, centre_y = np.polyfit(slopes[:, 1], points_px[:, 1], 1)
    return np.array([[focal_x, 0.0, centre_x], [0.0, focal_y, centre_y], [0.0, 0.0, 1.0]])


def _read_npz(path: Path, num_joints: int) -> dict[str, np.ndarray]:
    """Read the arrays once, without pickle, and check their shapes."""
    shapes = {"imgname": (), "center": (2,), "scale": (), "part": (num_joints, 3), "S": (num_joints, 4)}
    with np.load(path, allow_pickle=False) as file:
        missing = set(shapes) - set(file.files)
        if missing:
            raise ValueError(f"{path} must have the keys {sorted(shapes)}, got {sorted(file.files)}")
        arrays = {name: file[name] for name in shapes}
    for name, shape in shapes.items():
        if arrays[name].shape[1:] != shape:
            raise ValueError(f"`{name}` of {path} must have the shape (N, *{shape}), got {arrays[name].shape}")
    return arrays


def _row(arrays: dict[str, np.ndarray], index: int, images: Path, skeleton: Skeleton) -> dict:
    """Make one row of the schema."""
    name = str(arrays["imgname"][index])
    picture = images / name
    if not picture.is_file():
        raise ValueError(f"the picture {picture} of `imgname` must exist")
    joints_camera = arrays["S"][index, :, :3] * 1000.0  # (joints, 3) mm
    points = arrays["part"][index, :, :2]  # (joints, 2) px
    valid_3d, valid_2d = arrays["S"][index, :, 3] > 0, arrays["part"][index, :, 2] > 0
    both = valid_3d & valid_2d
    side = float(arrays["scale"][index]) * BOX_SIDE_PER_SCALE_PX
    corner = arrays["center"][index] - side / 2
    return {
        "image": {"path": None, "bytes": picture.read_bytes()},
        "joints_3d": joints_camera,
        "joints_3d_valid": valid_3d,
        "joints_2d": points,
        "joints_2d_valid": valid_2d,
        "visible": valid_2d,
        "intrinsics": fit_intrinsics(joints_camera[both], points[both]),
        "box": [*corner, side, side],
        "skeleton": skeleton.name,
        **_parse_name(picture),
    }


def _parse_name(picture: Path) -> dict[str, str | int]:
    """Read subject, action, camera and frame from a name such as `S1_Directions_1.54138969_000001.jpg`."""
    recording, _, frame = picture.stem.rpartition("_")
    scene, _, camera = recording.rpartition(".")
    subject, _, action = scene.partition("_")
    return {"subject": subject, "action": action, "camera": camera, "frame": int(frame) if frame.isdigit() else -1}
