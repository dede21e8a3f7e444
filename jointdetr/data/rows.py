"""From what a source says about a person to a whole row of a pose dataset, and the checks that every such row passes.

What a source does not say is filled in: defaults, masks, NaN, the encoded picture. A row that fails a check is left
out and said, with what was found. What one row cannot tell, such as left and right traded in 2D and in 3D alike, is
judged over a whole recording.

Shape vocabulary: `joints` (J) of the skeleton. Millimetres in camera axes (x right, y down, z forward), px of the
picture.
"""

from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ..formats.skeletons import bones
from ..picture_jointdetr import DECODING_ERRORS, load_picture, misses_picture, upright_size
from ..skeleton_jointdetr import Skeleton
from .schema import NOBODY

SKELETON_COLUMNS = ("joints_3d", "joints_3d_valid", "skeleton", "subject", "action", "frame")
"""Columns of a dataset of skeletons without pictures, the food of the refinement network; those of `pose_features`.
Positions are mm relative to the skeleton's root, in the axes of a level camera: y down. Which way a person faces is of
no meaning, as training turns skeletons about the vertical."""

BOX_PADDING = 0.1
JPEG_QUALITY = 90

SHORTEST_LONGEST_BONE_MM, LONGEST_BONE_MM = 60.0, 1500.0
REPROJECTION_TOLERANCE = 0.05  # of the longer side of the joints' extent in the picture
REPROJECTION_FLOOR_PX = 3.0
KNEES_BACKWARD_MM = -20.0
FEWEST_POSES_TO_JUDGE = 20


class Problem(NamedTuple):
    """Why a row is left out: `reason` is the same for all rows with it, `detail` says what this one has."""

    reason: str
    detail: str = ""


class RowError(ValueError):
    """A row that cannot be used; `problem` says why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(": ".join(problem))
        self.problem = problem


def complete_row(labels: Mapping[str, Any], skeleton: Skeleton) -> dict[str, Any]:
    """Fill in what a source does not say.

    Args:
        labels: columns of `pose_features`, all optional but `image`, in any array type. Left out, `joints_3d` and
            `joints_2d` are unknown, their `_valid` masks are where they are finite, `visible` is where a 2D label lies
            inside the picture, `intrinsics` is NaN (unknown), `box` is the extent of the 2D labels widened by a tenth,
            texts are empty, `frame` is -1 and `nobody` is false.
        skeleton: of the joints.

    Returns:
        All columns of `pose_features` as arrays, `nobody` too, NaN where a label is not valid, and `picture_size`
        (width, height).

    Raises:
        RowError: A column is of the wrong shape, or the picture cannot be read.
    """
    image = encode_picture(labels["image"])
    try:
        with Image.open(BytesIO(image["bytes"])) as picture:
            row = {"image": image, "picture_size": upright_size(picture)}
    except DECODING_ERRORS as error:
        raise RowError(Problem("the picture cannot be read", str(error))) from error
    row |= _joints(labels, skeleton, "joints_3d", 3) | _joints(labels, skeleton, "joints_2d", 2)
    inside = row["joints_2d_valid"] & is_inside(row["joints_2d"], row["picture_size"])
    visible = _array(labels, "visible", inside)
    row["visible"] = visible & (inside | ~row["joints_2d_valid"])  # nobody sees what lies beside the picture
    row["intrinsics"] = _array(labels, "intrinsics", np.full((3, 3), np.nan, np.float32))
    row["box"] = _array(labels, "box", _extent(row))
    row[NOBODY] = bool(labels.get(NOBODY, False))
    return row | _texts(labels, skeleton) | {"camera": str(labels.get("camera", ""))}


def complete_skeleton_row(labels: Mapping[str, Any], skeleton: Skeleton) -> dict[str, Any]:
    """Fill in what a source of skeletons does not say, as `complete_row` does; the root becomes the origin."""
    row = _joints(labels, skeleton, "joints_3d", 3)
    row["joints_3d"] = row["joints_3d"] - row["joints_3d"][skeleton.root]
    return row | _texts(labels, skeleton)


def is_inside(points: np.ndarray, picture_size: tuple[int, int]) -> np.ndarray:
    """Which points `(joints, 2)` px lie inside a picture of (width, height): `(joints,)`; NaN does not."""
    return ((points >= 0) & (points < picture_size)).all(axis=-1)


def project(joints_camera: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    """Project `(..., joints, 3)` in camera axes to `(..., joints, 2)` px; what lies at depth 0 has no finite place."""
    homogeneous = joints_camera @ intrinsics.T
    with np.errstate(divide="ignore", invalid="ignore"):
        return homogeneous[..., :2] / homogeneous[..., 2:]


def encode_picture(image: Image.Image | bytes | str | Path, quality: int = JPEG_QUALITY) -> dict[str, bytes | None]:
    """Return a picture as `datasets.Image` stores it: a file's bytes as they are, a `PIL` picture as upright JPEG.

    Raises:
        RowError: The file cannot be read.
    """
    if isinstance(image, Image.Image):
        stream = BytesIO()
        load_picture(image, "image").save(stream, "JPEG", quality=quality)
        image = stream.getvalue()
    try:
        return {"bytes": image if isinstance(image, bytes) else Path(image).read_bytes(), "path": None}
    except FileNotFoundError as error:
        raise RowError(Problem("the picture does not exist", str(image))) from error
    except OSError as error:
        raise RowError(Problem("the picture cannot be read", str(error))) from error


def find_problem(row: Mapping[str, Any], skeleton: Skeleton) -> Problem | None:
    """Return what is wrong with what `complete_row` or `complete_skeleton_row` gave, None if nothing is found."""
    of_picture = _picture_problems(row) if "joints_2d" in row else ()
    return next(chain(_label_problems(row, skeleton), of_picture), None)


def _label_problems(row: Mapping[str, Any], skeleton: Skeleton) -> Iterator[Problem]:
    """Find numbers that are not finite where a value is known, rows without a label, bones of no person's length."""
    names = [name for name in ("joints_3d", "joints_2d") if name in row]
    for name in names:
        if len(joints := joints_not_finite(row, name)):
            yield Problem(f"NaN or infinity in `{name}`", f"joints {joints.tolist()}")
    labelled = any(row[f"{name}_valid"].any() for name in names)
    if labelled == row.get(NOBODY, False):
        yield Problem("joints of nobody" if labelled else "no joint is labelled")
    if "box" in row and (not np.isfinite(row["box"]).all() or min(row["box"][2:]) < 2):
        yield Problem("a box without an area", f"x, y, width, height {np.round(row['box'], 1).tolist()} px")
    ends = np.array(bones(skeleton), dtype=int).reshape(-1, 2)
    known = ends[row["joints_3d_valid"][ends].all(axis=1)]  # (bones, 2)
    lengths = np.linalg.norm(row["joints_3d"][known[:, 1]] - row["joints_3d"][known[:, 0]], axis=-1)
    if len(known) >= max(len(ends) / 2, 1) and not SHORTEST_LONGEST_BONE_MM <= lengths.max() <= LONGEST_BONE_MM:
        joint = skeleton.joints[known[lengths.argmax(), 1]]
        yield Problem("bones of no person's length", f"{lengths.max():.4g} mm to {joint}; are these millimetres?")


def _picture_problems(row: Mapping[str, Any]) -> Iterator[Problem]:
    """Find people behind the camera or outside of the picture or box, cameras of no numbers, 3D that is not on 2D."""
    depths = row["joints_3d"][row["joints_3d_valid"], 2]
    if len(depths) and depths.min() <= 0:
        detail = f"z = {depths.min():.0f} mm; are these world instead of camera coordinates?"
        yield Problem("3D joints behind the camera", detail)
    if not (np.isnan(row["intrinsics"]).all() or np.isfinite(row["intrinsics"]).all()):
        yield Problem("NaN or infinity in `intrinsics`", f"got {row['intrinsics'].tolist()}")
    points = row["joints_2d"][row["joints_2d_valid"]]
    if len(points) and not is_inside(points, row["picture_size"]).any():
        width, height = row["picture_size"]
        detail = f"around {np.round(points.mean(axis=0)).tolist()} px in {width} x {height} px"
        yield Problem("no joint inside the picture", detail)
    if problem := box_problem(row, row["picture_size"]):
        yield problem
    error = reprojection_error(row)
    if error > REPROJECTION_FLOOR_PX and error > REPROJECTION_TOLERANCE * np.ptp(points, axis=0).max():
        causes = "another camera, frame or unit, world coordinates, or left for right?"
        yield Problem("3D does not fall on 2D", f"{error:.1f} px apart on average; {causes}")


def box_problem(row: Mapping[str, Any], picture_size: tuple[int, int]) -> Problem | None:
    """Return what is wrong with a row's box if no crop of it could show the labelled person.

    Where no joint has a 2D label, the 3D labels are projected. `picture_size` is that of the upright picture, px.
    """
    box = np.asarray(row["box"], np.float64)
    said = f"x, y, width, height {np.round(box, 1).tolist()} px"
    if misses_picture(box, picture_size):
        width, height = picture_size
        return Problem("the box misses the picture", f"{said} in {width} x {height} px")
    points = row["joints_2d"][row["joints_2d_valid"]] if row["joints_2d_valid"].any() else project_row(row)
    points = points[np.isfinite(points).all(axis=-1)]
    if len(points) and not ((points >= box[:2]) & (points <= box[:2] + box[2:])).all(axis=-1).any():
        return Problem("no labelled joint in the box", f"{said}, joints around {np.round(points.mean(0)).tolist()} px")
    return None


def reprojection_error(row: Mapping[str, Any]) -> float:
    """Mean distance in px of 2D labels and projected 3D labels; NaN if no joint has both."""
    known = row["joints_3d_valid"] & row["joints_2d_valid"]
    distances = np.linalg.norm(project_row(row) - row["joints_2d"], axis=-1)[known]
    distances = distances[np.isfinite(distances)]
    return float(distances.mean()) if len(distances) else float("nan")


def project_row(row: Mapping[str, Any]) -> np.ndarray:
    """Project the 3D labels of a row: `(joints, 2)` px, NaN where they are missing or the camera is unknown."""
    joints = np.where(row["joints_3d_valid"][:, None], row["joints_3d"], np.nan).astype(np.float64)
    return project(joints, np.asarray(row["intrinsics"], np.float64))


def joints_not_finite(row: Mapping[str, Any], name: str) -> np.ndarray:
    """Indices of joints whose label, in the column `name`, is said to be known and is not finite."""
    joints, valid = np.asarray(row[name], dtype=np.float64), np.asarray(row[f"{name}_valid"], dtype=bool)
    return np.flatnonzero(valid & ~np.isfinite(joints).all(axis=-1))


def knee_bend(joints: np.ndarray, skeleton: Skeleton) -> float:
    """How far the knees stand forward of the straight legs, in mm: people's are positive, a mirrored skeleton's not.

    Forward is where the body faces, by its left and right hip and its shoulders, so a skeleton that is mirrored, or
    whose left and right names are traded, walks with its knees bent backwards. `joints` are `(joints, 3)` mm, NaN
    where missing; without hips, knees, ankles and shoulders of both sides the result is NaN.
    """
    names = [f"{side}_{part}" for part in ("hip", "knee", "ankle", "shoulder") for side in ("left", "right")]
    if not set(names) <= set(skeleton.joints):
        return float("nan")
    hips, knees, ankles, shoulders = joints[[skeleton.joints.index(name) for name in names]].reshape(4, 2, 3)
    up = shoulders.mean(axis=0) - hips.mean(axis=0)
    forward = np.cross(hips[0] - hips[1], up)
    length = np.linalg.norm(forward)
    bends = (knees - (hips + ankles) / 2) @ forward  # (2,)
    return float(bends.mean() / length) if length > 0 else float("nan")


def recording_problem(knee_bends_mm: Sequence[float]) -> str | None:
    """Return what is wrong with a recording as a whole, judged by the `knee_bend` of its poses."""
    known = np.array([bend for bend in knee_bends_mm if np.isfinite(bend)])
    if len(known) < FEWEST_POSES_TO_JUDGE or known.mean() >= KNEES_BACKWARD_MM:
        return None
    bent = f"the knees of {len(known)} poses bend backwards, by {-known.mean():.0f} mm on average"
    return f"left and right are traded, or an axis is mirrored: {bent}"


def _array(labels: Mapping[str, Any], name: str, default: np.ndarray) -> np.ndarray:
    """Return a column as an array of the shape and kind of its default."""
    reason = f"`{name}` is of the wrong shape"
    try:
        array = np.asarray(labels.get(name, default), dtype=default.dtype)
    except ValueError as error:
        raise RowError(Problem(reason, f"expected {default.shape}, got {error}")) from error
    if array.shape != default.shape:
        raise RowError(Problem(reason, f"expected {default.shape}, got {array.shape}"))
    return array


def _joints(labels: Mapping[str, Any], skeleton: Skeleton, name: str, channels: int) -> dict[str, np.ndarray]:
    """Labels and their mask; what is not valid is NaN."""
    joints = _array(labels, name, np.full((len(skeleton.joints), channels), np.nan, np.float32))
    valid = _array(labels, f"{name}_valid", np.isfinite(joints).all(axis=-1))
    return {name: np.where(valid[:, None], joints, np.float32(np.nan)), f"{name}_valid": valid}


def _extent(row: Mapping[str, Any]) -> np.ndarray:
    """Box around the 2D labels, widened on each side by a tenth of its longer one: x, y, width, height."""
    points = row["joints_2d"][row["joints_2d_valid"]]
    if not len(points):
        return np.full(4, np.nan, np.float32)
    low, high = points.min(axis=0), points.max(axis=0)
    margin = BOX_PADDING * (high - low).max()
    return np.concatenate([low - margin, high - low + 2 * margin])


def _texts(labels: Mapping[str, Any], skeleton: Skeleton) -> dict[str, str | int]:
    """Where the row comes from."""
    texts = {name: str(labels.get(name, "")) for name in ("subject", "action")}
    return texts | {"skeleton": skeleton.name, "frame": int(labels.get("frame", -1))}
