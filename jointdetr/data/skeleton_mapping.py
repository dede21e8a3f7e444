"""Joints of one skeleton as those of another: by the place on the body they name, and by stated formulas.

Data sets use the same word for different places and different words for the same one. So every joint stands for a
*point* of the body: the one of its own name, unless `POINT_OF_JOINT` says otherwise. A joint of the target is the
source's joint at the same point; failing that, a weighted mean of points by the first of `FORMULAS` the source can
fill; failing that, it cannot be had.

Shape vocabulary: `source` and `target` joints, `axes` (2 px or 3 mm).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch

from ..camera_jointdetr import outside_autocast
from ..skeleton_jointdetr import Skeleton

Array = TypeVar("Array", np.ndarray, torch.Tensor)
_matmul = outside_autocast(torch.matmul)


@dataclass(frozen=True)
class Formula:
    """A point of the body from other points."""

    weights: Mapping[str, float]  # share of each point; they add up to 1
    note: str  # what is approximate about it


@dataclass(frozen=True)
class JointSource:
    """Where a joint of the target comes from."""

    weights: Mapping[int, float]  # share of each joint of the source, by its index; a single 1.0 if it has the joint
    notes: tuple[str, ...] = ()  # what is approximate about it; empty if the source has the joint itself


# Joints that stand for another point than the one of their name. `neck` is its base, between the shoulders; `face` is
# at the mouth and nose; `skull_base` is where the neck ends; `head` is the middle of the head.
POINT_OF_JOINT: dict[str, dict[str, str]] = {
    "human36m": {"thorax": "neck", "neck": "face", "head": "head_top"},
    "smpl": {"spine2": "spine", "head": "skull_base"},
    "mpii": {"thorax": "neck", "upper_neck": "skull_base"},
    "cmu_mocap": {"upper_neck": "skull_base"},
}

FORMULAS: dict[str, tuple[Formula, ...]] = {
    "pelvis": (Formula({"left_hip": 0.5, "right_hip": 0.5}, "middle of the hips"),),
    "neck": (
        Formula(
            {"left_shoulder": 0.5, "right_shoulder": 0.5}, "middle of the shoulders; the neck is higher if they hang"
        ),
    ),
    "spine": (Formula({"pelvis": 0.5, "neck": 0.5}, "midpoint of pelvis and neck; a bent back curves away from it"),),
    "face": (
        Formula({"nose": 1.0}, "the nose, taken as the same place"),
        Formula({"neck": 0.5, "head_top": 0.5}, "midpoint of neck and head top, which lies inside the head"),
    ),
    "nose": (Formula({"face": 1.0}, "the face, taken as the same place"),),
    "head": (
        Formula({"left_ear": 0.5, "right_ear": 0.5}, "middle of the ears"),
        Formula({"skull_base": 0.5, "head_top": 0.5}, "midpoint of the skull's base and its top"),
    ),
    "left_collar": (Formula({"neck": 0.5, "left_shoulder": 0.5}, "midpoint of neck and shoulder"),),
    "right_collar": (Formula({"neck": 0.5, "right_shoulder": 0.5}, "midpoint of neck and shoulder"),),
}


def map_skeleton(joints: Array, source: Skeleton, target: Skeleton, valid: Array | None = None) -> tuple[Array, Array]:
    """Give the joints of one skeleton as those of another.

    Args:
        joints: `(..., source, axes)` of any unit; NaN where unknown.
        source: their skeleton.
        target: the skeleton that is asked for.
        valid: `(..., source)` bool, which joints are known; those that are not NaN if left out.

    Returns:
        mapped: `(..., target, axes)`, NaN where a joint cannot be had.
        mask: `(..., target)` bool, False where a joint cannot be had.

    Raises:
        ValueError: `joints` are not the source's, or `valid` does not fit them.
    """
    count, shape = len(source.joints), tuple(joints.shape)
    if len(shape) < 2 or shape[-2] != count:
        raise ValueError(f"`joints` must be (..., {count}, axes) for skeleton {source.name!r}, got {shape}")
    if valid is not None and tuple(valid.shape) != shape[:-1]:
        raise ValueError(f"`valid` must be {shape[:-1]} as `joints`, got {tuple(valid.shape)}")
    weights, possible = mapping_weights(source, target)
    if isinstance(joints, torch.Tensor):
        known = ~joints.isnan().any(dim=-1) if valid is None else valid
        share = torch.from_numpy(weights).to(joints)
        have = torch.from_numpy(possible).to(known.device)
        mask = have & ((~known).to(joints.dtype) @ (share != 0).to(joints.dtype).T == 0)
        mapped = _matmul(share, torch.where(known[..., None], joints, 0.0))
        return torch.where(mask[..., None], mapped, torch.nan), mask
    known = ~np.isnan(joints).any(axis=-1) if valid is None else valid
    mask = possible & ((~known).astype(np.float32) @ (weights != 0).T.astype(np.float32) == 0)
    mapped = (weights @ np.where(known[..., None], joints, 0.0)).astype(joints.dtype)
    return np.where(mask[..., None], mapped, joints.dtype.type(np.nan)), mask


def map_row(row: Mapping[str, Any], source: Skeleton, target: Skeleton) -> dict[str, Any]:
    """Map the joints of a row, or of as much of one as there is, to another skeleton; what cannot be had is unknown.

    A joint that is made of several others is visible if all of them are.
    """
    mapped = dict(row)
    for name in {"joints_3d", "joints_2d"} & set(row):
        valid = row.get(f"{name}_valid")
        valid = None if valid is None else np.asarray(valid, dtype=bool)
        joints, known = map_skeleton(np.asarray(row[name], dtype=np.float64), source, target, valid)
        mapped |= {name: joints.astype(np.float32), f"{name}_valid": known}
    if "visible" in row:
        weights, possible = mapping_weights(source, target)
        hidden = (weights != 0) & ~np.asarray(row["visible"], dtype=bool)  # (target, source)
        mapped["visible"] = possible & ~hidden.any(axis=-1)
    return mapped


def mapping_weights(source: Skeleton, target: Skeleton) -> tuple[np.ndarray, np.ndarray]:
    """Share of each source joint in each target joint, `(target, source)`, and which can be had, `(target,)` bool."""
    weights = np.zeros((len(target.joints), len(source.joints)))
    sources = joint_sources(source, target)
    for row, found in zip(weights, sources, strict=True):
        if found is not None:
            row[list(found.weights)] = list(found.weights.values())
    return weights, np.array([found is not None for found in sources])


def joint_sources(source: Skeleton, target: Skeleton) -> list[JointSource | None]:
    """Where each joint of the target comes from; None where it cannot be had."""
    given = {point: joint for joint, point in enumerate(body_points(source))}
    return [_find(point, given, frozenset()) for point in body_points(target)]


def body_points(skeleton: Skeleton) -> list[str]:
    """The point of the body that each joint of a skeleton stands for."""
    renamed = POINT_OF_JOINT.get(skeleton.name, {})
    return [renamed.get(joint, joint) for joint in skeleton.joints]


def _find(point: str, given: Mapping[str, int], asked: frozenset[str]) -> JointSource | None:
    """Take a point from the source, or fill a formula for it; `asked` are points that wait for this one."""
    if point in given:
        return JointSource({given[point]: 1.0})
    for formula in FORMULAS.get(point, ()):
        if asked & formula.weights.keys():
            continue
        parts = {part: _find(part, given, asked | {point}) for part in formula.weights}
        if None in parts.values():
            continue
        weights: dict[int, float] = {}
        notes = [formula.note]
        for part, found in parts.items():
            for joint, share in found.weights.items():
                weights[joint] = weights.get(joint, 0.0) + formula.weights[part] * share
            notes += [f"{part}: {note}" for note in found.notes]
        return JointSource(weights, tuple(notes))
    return None
