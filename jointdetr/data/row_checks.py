"""What makes a labelled picture unfit for a pose dataset: the checks that every converted row passes.

A row that fails is left out and said, with what was found. What one row cannot tell, such as left and right traded in
2D and in 3D alike, is judged over a whole recording.

Shape vocabulary: `joints` (J) of the skeleton. Millimetres in camera axes (x right, y down, z forward), px of the
picture.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..crops_jointdetr import misses_picture
from ..geometry_jointdetr import flip_permutation
from ..skeleton_jointdetr import Skeleton
from .rows import Problem, is_inside

SHORTEST_LONGEST_BONE_MM, LONGEST_BONE_MM = 60.0, 1500.0
REPROJECTION_TOLERANCE = 0.05  # of the longer side of the joints' extent in the picture
REPROJECTION_FLOOR_PX = 3.0
KNEES_BACKWARD_MM = -20.0
FEWEST_POSES_TO_JUDGE = 20


def find_problem(row: Mapping[str, Any], skeleton: Skeleton) -> Problem | None:
    """Return what is wrong with a row, None if nothing is found.

    Args:
        row: what `complete_row` or `complete_skeleton_row` returns.
        skeleton: the skeleton of its joints.
    """
    problem = _finite_problem(row) or _size_problem(row, skeleton)
    if problem is None and "joints_2d" in row:
        problem = _camera_problem(row) or box_problem(row, row["picture_size"]) or _reprojection_problem(row, skeleton)
    return problem


def box_problem(row: Mapping[str, Any], picture_size: tuple[int, int]) -> Problem | None:
    """Return what is wrong with a row's box if no crop of it could show the labelled person.

    Args:
        row: columns of `pose_features`, arrays; where no joint has a 2D label, the 3D labels are projected.
        picture_size: width and height in px of the upright picture.
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


def reprojection_errors(row: Mapping[str, Any]) -> np.ndarray:
    """Distance in px of each joint's 2D label and its projected 3D label: `(joints,)`, NaN where either is missing."""
    known = row["joints_3d_valid"] & row["joints_2d_valid"]
    projected = project_row(row)
    return np.where(known, np.linalg.norm(projected - row["joints_2d"], axis=-1), np.nan)


def project_row(row: Mapping[str, Any]) -> np.ndarray:
    """Project the 3D labels of a row: `(joints, 2)` px, NaN where they are missing or the camera is unknown."""
    joints = np.where(row["joints_3d_valid"][:, None], row["joints_3d"], np.nan).astype(np.float64)
    homogeneous = joints @ np.asarray(row["intrinsics"], np.float64).T  # (joints, 3)
    return homogeneous[:, :2] / homogeneous[:, 2:]


def knee_bend(joints: np.ndarray, skeleton: Skeleton) -> float:
    """How far the knees stand forward of the straight legs, in mm: people's are positive, a mirrored skeleton's not.

    Forward is where the body faces, by its left and right hip and its shoulders, so a skeleton that is mirrored, or
    whose left and right names are traded, walks with its knees bent backwards.

    Args:
        joints: `(joints, 3)` mm, NaN where missing.
        skeleton: names the joints; without hips, knees, ankles and shoulders of both sides the result is NaN.
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


def recording_problem(knee_bends_mm: Sequence[float]) -> Problem | None:
    """Return what is wrong with a recording as a whole, judged by the `knee_bend` of its poses."""
    known = np.array([bend for bend in knee_bends_mm if np.isfinite(bend)])
    if len(known) >= FEWEST_POSES_TO_JUDGE and known.mean() < KNEES_BACKWARD_MM:
        return Problem(
            "left and right are traded, or an axis is mirrored",
            f"the knees of {len(known)} poses bend backwards, by {-known.mean():.0f} mm on average",
        )
    return None


def _finite_problem(row: Mapping[str, Any]) -> Problem | None:
    """Find numbers that are not finite where a value is claimed to be known, and rows without a label."""
    for name in ("joints_3d", "joints_2d"):
        if name in row and not np.isfinite(row[name][row[f"{name}_valid"]]).all():
            joints = np.flatnonzero(row[f"{name}_valid"] & ~np.isfinite(row[name]).all(axis=-1))
            return Problem(f"NaN or infinity in `{name}`", f"joints {joints.tolist()}")
    labelled = any(row[f"{name}_valid"].any() for name in ("joints_3d", "joints_2d") if name in row)
    if labelled == row.get("nobody", False):
        return Problem("joints of nobody" if labelled else "no joint is labelled")
    if "box" in row and (not np.isfinite(row["box"]).all() or min(row["box"][2:]) < 2):
        return Problem("a box without an area", f"x, y, width, height {np.round(row['box'], 1).tolist()} px")
    return None


def _size_problem(row: Mapping[str, Any], skeleton: Skeleton) -> Problem | None:
    """Find bones of no person's length, which mostly means another unit."""
    ends = [(joint, parent) for joint, parent in enumerate(skeleton.parents) if parent >= 0]
    known = np.array([row["joints_3d_valid"][[joint, parent]].all() for joint, parent in ends], bool)
    if known.sum() < max(len(ends) / 2, 1):
        return None
    lengths = np.array([np.linalg.norm(row["joints_3d"][joint] - row["joints_3d"][parent]) for joint, parent in ends])
    longest = lengths[known].max()
    if SHORTEST_LONGEST_BONE_MM <= longest <= LONGEST_BONE_MM:
        return None
    joint = skeleton.joints[ends[int(np.where(known, lengths, -1).argmax())][0]]
    return Problem("bones of no person's length", f"{longest:.4g} mm to {joint}{_unit_hint(longest)}")


def _unit_hint(longest_bone: float) -> str:
    """Name the unit in which a longest bone would be a thigh's."""
    for unit, factor in (("metres", 1000.0), ("centimetres", 10.0), ("micrometres", 0.001)):
        if 250 <= longest_bone * factor <= 700:
            return f"; these look like {unit}"
    return ""


def _camera_problem(row: Mapping[str, Any]) -> Problem | None:
    """Find people who are behind the camera or outside of the picture, and cameras of no finite numbers."""
    depths = row["joints_3d"][row["joints_3d_valid"], 2]
    if len(depths) and depths.min() <= 0:
        detail = f"z = {depths.min():.0f} mm; are these world instead of camera coordinates?"
        return Problem("3D joints behind the camera", detail)
    if not (np.isnan(row["intrinsics"]).all() or np.isfinite(row["intrinsics"]).all()):
        return Problem("NaN or infinity in `intrinsics`", f"got {row['intrinsics'].tolist()}")
    points = row["joints_2d"][row["joints_2d_valid"]]
    if len(points) and not is_inside(points, row["picture_size"]).any():
        width, height = row["picture_size"]
        detail = f"around {np.round(points.mean(axis=0)).tolist()} px in {width} x {height} px"
        return Problem("no joint inside the picture", detail)
    return None


def _reprojection_problem(row: Mapping[str, Any], skeleton: Skeleton) -> Problem | None:
    """Find 3D labels that do not fall on their 2D labels."""
    if np.isnan(row["intrinsics"]).any():
        return None
    error = _mean_error(row)
    points = row["joints_2d"][row["joints_2d_valid"]]
    if np.isnan(error) or error <= max(REPROJECTION_TOLERANCE * np.ptp(points, axis=0).max(), REPROJECTION_FLOOR_PX):
        return None
    order = flip_permutation(skeleton.flip_pairs, len(skeleton.joints))
    traded = {**row, "joints_2d": row["joints_2d"][order], "joints_2d_valid": row["joints_2d_valid"][order]}
    traded_error = _mean_error(traded)
    if traded_error < 0.5 * error:
        detail = f"{error:.1f} px apart on average, {traded_error:.1f} px after trading left and right"
        return Problem("left and right of 2D and 3D disagree", detail)
    detail = f"{error:.1f} px apart on average; another camera, frame or unit, or world coordinates?"
    return Problem("3D does not fall on 2D", detail)


def _mean_error(row: Mapping[str, Any]) -> float:
    """Mean of a row's reprojection errors in px; NaN if no joint has both labels."""
    errors = reprojection_errors(row)
    return float(np.nanmean(errors)) if np.isfinite(errors).any() else float("nan")
