"""Joint angles of a motion, in degrees, with the uncertainty that follows from the joints' expected errors.

Axes and turns are those of the International Society of Biomechanics, see docs/biomechanics.md: segments have X
forward, Y up along the segment, Z to the right. Joints turn by Z-X'-Y'' (flexion, abduction, rotation: Grood and
Suntay) at hip, trunk and neck, by Y-X'-Y'' (plane, elevation, rotation) at the shoulder. Left sides are mirrored.

Shape vocabulary: frames, joints (17, of `HUMAN36M`), angles. Positions are millimetres in any right-handed axes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..camera_jointdetr import flip_permutation
from ..data.skeleton_mapping import joint_sources, mapping_weights
from ..formats.motions import PoseMotion
from ..skeleton_jointdetr import HUMAN36M

SIDE_ANGLES = (
    *("hip_flexion", "hip_abduction", "hip_rotation", "knee_flexion"),
    *("shoulder_plane", "shoulder_elevation", "shoulder_rotation", "elbow_flexion"),
)
MIDDLE_ANGLES = (
    *("trunk_flexion", "trunk_bending", "trunk_rotation", "trunk_lean_forward", "trunk_lean_right"),
    *("neck_flexion", "neck_bending", "neck_rotation"),
)
ANGLES = (*(f"{side}_{name}" for side in ("right", "left") for name in SIDE_ANGLES), *MIDDLE_ANGLES)
LEVEL_UP = (0.0, -1.0, 0.0)  # up in camera axes, where the camera is held level
LEAST_LEVER = float(np.sin(np.radians(15.0)))  # sine of a bend; below it the plane of the bend is noise
LEAST_FACE = 0.1  # distance of the face from the neck's line by the line's length, for the head's rotation
MEAN_DISTANCE = float(np.sqrt(8 / np.pi))  # mean length of a vector of three standard normal numbers
STEP_MM = 0.5
MIRRORED = flip_permutation(HUMAN36M.flip_pairs, len(HUMAN36M.joints))
JOINT = {name: index for index, name in enumerate(HUMAN36M.joints)}
NEEDS_OWN = {"spine": ("trunk_flexion", "trunk_bending", "trunk_rotation"), "neck": ("neck_rotation",)}
"""Angles that a skeleton cannot have without a joint of its own there: it lies in line with others by construction."""


@dataclass(frozen=True)
class JointAngles:
    """One person's joint angles through time."""

    names: tuple[str, ...]  # those of `ANGLES`
    degrees: np.ndarray  # (frames, angles), NaN where an angle is undetermined or a joint of it missing
    uncertainty: np.ndarray  # (frames, angles), standard deviation; NaN where the error of a joint is not known
    times_s: np.ndarray  # (frames,)
    frames: np.ndarray  # (frames,), numbers of the frames in the film
    person: int

    def __getitem__(self, name: str) -> np.ndarray:
        """Degrees of one angle: `(frames,)`."""
        return self.degrees[:, self.names.index(name)]


def joint_angles(motion: PoseMotion, up: Sequence[float] = LEVEL_UP) -> JointAngles:
    """Measure a person's joint angles.

    The uncertainty takes the joints' errors as independent, equal in all directions and small against the bones.

    Of another skeleton than Human3.6M's the same points of the body are taken; angles that need a spine or a face of
    its own are NaN where it has none. `up` is the direction against gravity in the motion's axes.

    Raises:
        ValueError: The skeleton lacks hips or shoulders, or `up` has no direction.
    """
    upward = direction(up)
    weights, possible = mapping_weights(motion.skeleton, HUMAN36M)  # (17, joints), (17,)
    reachable = zip(HUMAN36M.joints, possible, strict=True)
    if lacks := [name for name, known in reachable if name.endswith(("hip", "shoulder")) and not known]:
        raise ValueError(f"joint angles need hips and shoulders, the skeleton {motion.skeleton.name!r} lacks {lacks}")
    joints = _mapped(motion.joints, weights, possible)  # (frames, 17, 3)
    degrees = _measure(joints, upward)
    degrees[~_is_determined(joints, degrees)] = np.nan
    sources = joint_sources(motion.skeleton, HUMAN36M)
    for joint, names in NEEDS_OWN.items():
        source = sources[JOINT[joint]]
        if source is None or len(source.weights) > 1:
            degrees[:, [ANGLES.index(name) for name in names]] = np.nan
    uncertainty = np.full(degrees.shape, np.nan)
    if motion.sigmas is not None:
        variances = (motion.sigmas / MEAN_DISTANCE) ** 2  # (frames, joints), along each axis
        variances = _mapped(variances[..., None], weights**2, possible)[..., 0]
        uncertainty = _uncertainty(joints, variances, upward)
        uncertainty[np.isnan(degrees)] = np.nan
    return JointAngles(ANGLES, degrees, uncertainty, motion.times_s, motion.frames, motion.person)


def angle_columns(people: Sequence[JointAngles]) -> dict[str, np.ndarray]:
    """A table of several people's angles, ordered by frame: degrees as `NAME_deg`, uncertainty as `NAME_sd_deg`."""
    names = ("frames", "times_s", "degrees", "uncertainty")
    frames, times_s, degrees, uncertainty = (np.concatenate([getattr(one, name) for one in people]) for name in names)
    persons = np.concatenate([np.full(len(angles.frames), angles.person) for angles in people])
    columns = {"frame": frames, "time_s": times_s, "person": persons}
    for index, name in enumerate(ANGLES):
        columns |= {f"{name}_deg": degrees[:, index], f"{name}_sd_deg": uncertainty[:, index]}
    order = np.lexsort((persons, frames))
    return {name: values[order] for name, values in columns.items()}


def direction(up: Sequence[float] | np.ndarray) -> np.ndarray:
    """The unit vector `(3,)` of a direction."""
    vector = np.asarray(up, dtype=np.float64)
    length = np.linalg.norm(vector) if vector.shape == (3,) else np.nan
    if not (np.isfinite(length) and length > 0):
        raise ValueError(f"`up` must be three numbers that give a direction, got {up!r}")
    return vector / length


def _mapped(values: np.ndarray, weights: np.ndarray, possible: np.ndarray) -> np.ndarray:
    """Weighted sums `(frames, 17, channels)` of joints' values `(frames, joints, channels)`, NaN where not known."""
    unknown = np.isnan(values).any(-1) @ (weights != 0).T | ~possible  # (frames, 17)
    return np.where(unknown[..., None], np.nan, weights @ np.nan_to_num(values))


def _measure(joints: np.ndarray, up: np.ndarray) -> np.ndarray:
    """All angles in the order of `ANGLES`, determined or not: `(..., 17, 3)` to `(..., angles)` degrees."""
    mirrored = joints[..., MIRRORED, :] * (-1.0, 1.0, 1.0)
    angles = [*_side(joints), *_side(mirrored), *_middle(joints, up)]
    return np.degrees(np.stack(angles, axis=-1))


def _at(joints: np.ndarray, name: str) -> np.ndarray:
    return joints[..., JOINT[name], :]


def _side(joints: np.ndarray) -> tuple[np.ndarray, ...]:
    """Radians of `SIDE_ANGLES` on the right: `(...,)` each."""
    pelvis, trunk = _pelvis_axes(joints), _trunk_axes(joints)
    hip, knee, ankle = (_at(joints, f"right_{name}") for name in ("hip", "knee", "ankle"))
    shoulder, elbow, wrist = (_at(joints, f"right_{name}") for name in ("shoulder", "elbow", "wrist"))
    thigh = pelvis @ _limb_axes(hip - knee, knee - ankle)  # knees bend backward
    arm = trunk @ _limb_axes(shoulder - elbow, wrist - elbow)  # elbows bend forward
    flexion, abduction, rotation = _cardan(thigh)
    knee_flexion, elbow_flexion = _between(knee - hip, ankle - knee), _between(elbow - shoulder, wrist - elbow)
    plane = np.arctan2(-arm[..., 0, 1], -arm[..., 2, 1])  # the arm turns about Y, -X' and Y''
    elevation = np.arccos(np.clip(arm[..., 1, 1], -1.0, 1.0))
    arm_rotation = np.arctan2(-arm[..., 1, 0], arm[..., 1, 2])
    return flexion, -abduction, rotation, knee_flexion, plane, elevation, arm_rotation, elbow_flexion


def _middle(joints: np.ndarray, up: np.ndarray) -> tuple[np.ndarray, ...]:
    """Radians of `MIDDLE_ANGLES`: `(...,)` each."""
    trunk, base = _trunk_axes(joints), _at(joints, "thorax")
    extension, *turn = _cardan(_pelvis_axes(joints) @ np.swapaxes(trunk, -1, -2))
    across = _at(joints, "right_hip") - _at(joints, "left_hip")
    right = _unit(across - (across @ up)[..., None] * up)
    line = base - _at(joints, "pelvis")
    forward = (line * np.cross(up, right)).sum(-1)
    lean = np.arctan2(forward, line @ up), np.arctan2((line * right).sum(-1), line @ up)
    head = trunk @ _limb_axes(_at(joints, "head") - base, _at(joints, "neck") - base)
    neck_extension, *neck_turn = _cardan(head)
    return -extension, *turn, *lean, -neck_extension, *neck_turn


def _is_determined(joints: np.ndarray, degrees: np.ndarray) -> np.ndarray:
    """Which angles `(frames, angles)` of joints `(frames, 17, 3)` are more than noise: bool of the same shape."""
    determined = np.ones(degrees.shape, dtype=bool)
    is_bent = np.sin(np.radians(degrees)) >= LEAST_LEVER
    index = {name: number for number, name in enumerate(ANGLES)}
    for side in ("right", "left"):
        raised = is_bent[:, index[f"{side}_shoulder_elevation"]]
        determined[:, index[f"{side}_hip_rotation"]] = is_bent[:, index[f"{side}_knee_flexion"]]
        determined[:, index[f"{side}_shoulder_plane"]] = raised
        determined[:, index[f"{side}_shoulder_rotation"]] = raised & is_bent[:, index[f"{side}_elbow_flexion"]]
    base, head = _at(joints, "thorax"), _at(joints, "head") - _at(joints, "thorax")
    face = np.cross(_at(joints, "neck") - base, head)
    determined[:, index["neck_rotation"]] = np.linalg.norm(face, axis=-1) >= LEAST_FACE * (head**2).sum(-1)
    return determined


def _uncertainty(joints: np.ndarray, variances: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Standard deviations `(frames, angles)` from variances `(frames, 17)` along each axis, to first order."""
    total = 0.0
    for joint in range(joints.shape[1]):
        slopes = 0.0  # squared, summed over the axes: (frames, angles)
        for axis in np.eye(3):
            step = np.zeros(joints.shape[1:])
            step[joint] = STEP_MM * axis
            change = _measure(joints + step, up) - _measure(joints - step, up)
            change = np.remainder(change + 180.0, 360.0) - 180.0  # the shorter way round
            slopes = slopes + (change / (2 * STEP_MM)) ** 2
        total = total + np.where(slopes > 0, slopes * variances[:, joint, None], 0.0)
    return np.sqrt(total)


def _pelvis_axes(joints: np.ndarray) -> np.ndarray:
    """X, Y and Z of the pelvis as rows `(..., 3, 3)`: Z along the hips, Y towards the spine."""
    across = _unit(_at(joints, "right_hip") - _at(joints, "left_hip"))
    forward = _unit(np.cross(_at(joints, "spine") - _at(joints, "pelvis"), across))
    return np.stack([forward, np.cross(across, forward), across], axis=-2)


def _trunk_axes(joints: np.ndarray) -> np.ndarray:
    """X, Y and Z of the upper trunk as rows `(..., 3, 3)`: Y from the spine to the neck, Z along the shoulders."""
    upward = _unit(_at(joints, "thorax") - _at(joints, "spine"))
    forward = _unit(np.cross(upward, _at(joints, "right_shoulder") - _at(joints, "left_shoulder")))
    return np.stack([forward, upward, np.cross(forward, upward)], axis=-2)


def _limb_axes(along: np.ndarray, towards: np.ndarray) -> np.ndarray:
    """X, Y and Z of a limb as columns `(..., 3, 3)`: Y along it, X to the side that `towards` points to."""
    upward = _unit(along)
    forward = _unit(towards - (towards * upward).sum(-1, keepdims=True) * upward)
    return np.stack([forward, upward, np.cross(forward, upward)], axis=-1)


def _cardan(turns: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Angles about Z, X' and Y'' of rotations `(..., 3, 3)`, radians."""
    about_z = np.arctan2(-turns[..., 0, 1], turns[..., 1, 1])
    about_x = np.arcsin(np.clip(turns[..., 2, 1], -1.0, 1.0))
    return about_z, about_x, np.arctan2(-turns[..., 2, 0], turns[..., 2, 2])


def _between(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Angle between vectors `(..., 3)`, radians, exact also where it is small."""
    return np.arctan2(np.linalg.norm(np.cross(first, second), axis=-1), (first * second).sum(-1))


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors `(..., 3)` of length 1; NaN for one without a direction."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(lengths > 1e-9, lengths, np.nan)
