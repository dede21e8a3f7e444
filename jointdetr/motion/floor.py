"""Upright on the floor: gravity, feet that stand still while they touch the ground, the way of the whole person.

docs/biomechanics.md says how it is used that feet stand still on a level floor.

Shape vocabulary: frames, joints, feet (left, right), contacts (each a foot's frames in a row). Level axes are x right,
y down along gravity, z forward. Millimetres.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage, sparse
from scipy.sparse.linalg import spsolve

from ..data.skeleton_mapping import body_points
from ..formats.motions import PoseMotion, interpolated
from ..formats.rig import smallest_rotations
from ..skeleton_jointdetr import Skeleton
from .angles import LEVEL_UP, direction

LEG = ("hip", "knee", "ankle")
ANKLE_HEIGHT = 85.0  # of an ankle's centre above the floor, the foot flat on it
LOW = 50.0  # above the other ankle, beyond it a foot is lifted
STILL = 300.0  # mm/s; ankles roll a little over feet that stand
STILL_SHARE = 0.4  # of the other foot's speed; a foot that stands seems to move where the root's way is not true
DEPTH_SHARE = 0.5  # that speeds towards the camera count for, as they are seen worst
SHORTEST_CONTACT_S = 0.1
LEAN = np.radians(6.0)  # of people who walk, on average
FLAT_MM = 13.0  # that the lower ankle's mean height is expected to change over a way
SHORTEST_WAY_MM = 400.0  # spread of the places stood on, below it they tell nothing of the floor
# Expected errors, which say what counts for how much.
ACROSS_MM, DEPTH_MM, FOOT_MM, ACCELERATION = 30.0, 300.0, 10.0, 10000.0  # mm, mm, mm, mm/s^2


@dataclass(frozen=True)
class FloorFit:
    """What it took to put a motion on the floor."""

    up: np.ndarray  # (3,), against gravity, in the motion's axes before
    contacts: np.ndarray  # (frames, feet) bool, where the left and the right foot touch the floor
    moved_mm: np.ndarray  # (frames, joints), how far joints were moved against the root; NaN where missing
    root_moved_mm: np.ndarray  # (frames,)

    def describe(self) -> str:
        """What the reader of a file should know."""
        tilt = np.degrees(np.arccos(np.clip(-self.up[1], -1.0, 1.0)))
        mean, high = np.nanmean(self.moved_mm), np.nanpercentile(self.moved_mm, 95)
        left, right = 100 * self.contacts.mean(0)
        return (
            f"on the floor: turned upright by {tilt:.1f} degrees, left foot on the ground in {left:.0f}% and right in "
            f"{right:.0f}% of the frames, joints moved by {mean:.1f} mm (95% by less than {high:.1f} mm), the way by "
            f"{self.root_moved_mm.mean():.0f} mm"
        )


def stand_on_floor(motion: PoseMotion, up: Sequence[float] | None = None) -> tuple[PoseMotion, FloorFit]:
    """Turn a motion upright and put its feet on the floor, where they do not slide.

    `motion` is of somebody with `root_camera` who stands or walks on one level floor; a picture is a single frame.
    `up` is the direction against gravity in camera axes, None for what [`estimate_up`] finds. Returns the motion in
    level axes, `root_camera` measured from the point of the floor below the camera, so that the floor is y = 0
    (`joints_2d` and `boxes` are those of the picture still), and what it took.
    """
    legs = both_sides(motion.skeleton)  # (feet, 3)
    upward = estimate_up(motion) if up is None else direction(up)
    if motion.root_camera is None or not np.isfinite(motion.root_camera).all(-1).any():
        needed = "the root's place from the camera, and none is known; say the camera, as `--fov 60` does"
        raise ValueError(f"person {motion.person}: the floor needs {needed}")
    turn = level_rotation(upward)
    joints, seen = motion.joints @ turn.T, interpolated(motion.root_camera, motion.times_s) @ turn.T
    ankles = joints[:, legs[:, 2]]  # (frames, feet, 3)
    if np.isnan(ankles).any(-1).all():
        raise ValueError(f"person {motion.person}: no ankle is known in any frame.")
    contacts = find_contacts(ankles + seen[:, None], motion.times_s)
    root, places = _fit_way(seen, ankles, contacts, motion.times_s)
    moved = _lock_feet(joints, legs, places - root[:, None], contacts)
    floor = places[contacts][:, 1].mean() if contacts.any() else np.nanmax((ankles + root[:, None])[..., 1])
    root_moved = np.linalg.norm(root - seen, axis=-1)
    root = root - (0.0, floor + ANKLE_HEIGHT, 0.0)
    fit = FloorFit(upward, contacts, np.linalg.norm(moved - joints, axis=-1), root_moved)
    return replace(motion, joints=moved, root_camera=root), fit


def stand_all_on_floor(motions: Sequence[PoseMotion]) -> tuple[list[PoseMotion], list[FloorFit]]:
    """Put everybody of a film on one floor, with the mean of their directions up; who was never seen is left out."""
    seen = [motion for motion in motions if not motion.missing.all()]
    if not seen:
        return [], []
    up = direction(np.mean([estimate_up(motion) for motion in seen], axis=0))
    placed, fits = zip(*(stand_on_floor(motion, up) for motion in seen), strict=True)
    return list(placed), list(fits)


def both_sides(skeleton: Skeleton, parts: Sequence[str] = LEG) -> np.ndarray:
    """Joints at parts of the left and the right side of the body: `(sides, parts)` indices."""
    points = body_points(skeleton)
    names = [f"{side}_{part}" for side in ("left", "right") for part in parts]
    if missing := [name for name in names if name not in points]:
        raise ValueError(f"the floor needs {', '.join(names)}, the skeleton {skeleton.name!r} lacks {missing}")
    return np.array([points.index(name) for name in names]).reshape(2, -1)


def estimate_up(motion: PoseMotion) -> np.ndarray:
    """Estimate the direction `(3,)` against gravity from somebody who stands or walks on a level floor.

    It is that from the ankles to the shoulders, on average over the motion. People who walk lean forward by several
    degrees; where they come far enough, the way of the lower ankle, which is level, takes most of that away.
    """
    low, high = both_sides(motion.skeleton, ("ankle", "shoulder")).T
    standing = motion.joints[:, high].mean(1) - motion.joints[:, low].mean(1)  # (frames, 3)
    standing = standing[np.isfinite(standing).all(-1)]
    if not len(standing):
        raise ValueError(f"person {motion.person}: ankles and shoulders are not known together in any frame.")
    upright = direction(standing.mean(0))
    if motion.root_camera is None:
        return upright
    ankles = motion.joints_camera[:, low]
    ankles = ankles[np.isfinite(ankles).all((1, 2))]  # (frames, feet, 3)
    if not len(ankles):
        return upright
    lower = ankles[np.arange(len(ankles)), (ankles @ upright).argmin(1)]  # (frames, 3)
    spread = np.cov(lower.T, bias=True)
    if np.sqrt(np.linalg.eigvalsh(spread)[-1]) < SHORTEST_WAY_MM:
        return upright
    return direction(np.linalg.solve(spread / FLAT_MM**2 + np.eye(3) / LEAN**2, upright / LEAN**2))


def level_rotation(up: np.ndarray) -> np.ndarray:
    """The smallest rotation `(3, 3)` that brings the unit vector `up` to -y."""
    return smallest_rotations(up[None], np.array([LEVEL_UP]))[0].as_matrix()


def find_contacts(ankles: np.ndarray, times_s: np.ndarray) -> np.ndarray:
    """Where feet touch the floor: the ankle is low and hardly moves, for a while; `(frames, feet)` bool.

    `ankles` `(frames, feet, 3)` are in level axes, from the camera, NaN where missing. In a single frame it is the
    lower foot, and the other one if it is as low.
    """
    lowest = np.nanmax(np.nan_to_num(ankles[..., 1], nan=-np.inf), axis=1, keepdims=True)
    contacts = lowest - ankles[..., 1] < LOW
    if len(ankles) == 1:
        return contacts
    velocities = np.gradient(ankles, times_s, axis=0)
    rays = ankles / np.maximum(np.linalg.norm(ankles, axis=-1, keepdims=True), 1e-9)
    depth = (velocities * rays).sum(-1, keepdims=True) * rays
    speeds = np.linalg.norm(velocities - (1 - DEPTH_SHARE) * depth, axis=-1)  # (frames, feet) mm/s
    contacts &= speeds < np.fmax(STILL, STILL_SHARE * speeds.max(1, keepdims=True))
    for foot in range(contacts.shape[1]):
        for run in runs(contacts[:, foot]):
            if times_s[run[-1]] - times_s[run[0]] < SHORTEST_CONTACT_S:
                contacts[run, foot] = False
    return contacts


def runs(flags: np.ndarray) -> list[np.ndarray]:
    """Indices of the frames `(frames,)` that are set, split where one is not."""
    frames = np.flatnonzero(flags)
    return np.split(frames, np.flatnonzero(np.diff(frames) > 1) + 1) if len(frames) else []


def _fit_way(
    seen: np.ndarray, ankles: np.ndarray, contacts: np.ndarray, times_s: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Fit the root's way; return it `(frames, 3)` and where ankles stand `(frames, feet, 3)`, NaN where they do not.

    The unknowns are the root of every frame, the two level coordinates of every contact and the one height of all.
    """
    in_time = [[0, 1, 0], [0, 1, 0], [0, 1, 0]]  # a contact goes on in the next frame, not in the other foot
    number = ndimage.label(contacts, in_time)[0] - 1  # (frames, feet), of each contact, -1 where there is none
    at, foot = np.nonzero(contacts)
    roots = np.arange(seen.size).reshape(seen.shape)  # the unknowns of each frame
    height = seen.size + 2 * (number.max() + 1)
    stands = seen.size + 2 * number[at, foot]  # (samples,)
    stands = np.stack([stands, np.full_like(stands, height), stands + 1], axis=-1)  # x, y, z
    rays = seen / np.linalg.norm(seen, axis=-1, keepdims=True)
    along = rays[:, :, None] * rays[:, None]  # (frames, 3, 3)
    weights = (np.eye(3) - along) / ACROSS_MM + along / DEPTH_MM
    near = np.repeat(roots, 3, axis=0), weights.reshape(-1, 3), (weights @ seen[..., None]).ravel()
    before, after = np.diff(times_s)[:-1], np.diff(times_s)[1:]
    acceleration = 2 / (before + after) * np.array([1 / before, -1 / before - 1 / after, 1 / after]) / ACCELERATION
    acceleration *= np.sqrt((before + after) / 2 * 30.0)  # by a thirtieth of a second: any frame rate counts alike
    in_a_row = np.stack([roots[:-2], roots[1:-1], roots[2:]], axis=-1).reshape(-1, 3)
    smooth = in_a_row, np.repeat(acceleration.T, 3, axis=0), np.zeros(len(in_a_row))
    pairs = np.stack([roots[at], stands], axis=-1).reshape(-1, 2)
    still = pairs, np.full(pairs.shape, [1.0, -1.0]) / FOOT_MM, -ankles[at, foot].ravel() / FOOT_MM
    solution = _least_squares([near, smooth, still], height + 1)
    places = np.full(ankles.shape, np.nan)
    places[at, foot] = solution[stands]
    return solution[roots], places


def _least_squares(equations: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], unknowns: int) -> np.ndarray:
    """The unknowns `(unknowns,)` with the least sum of squares; 0 where no equation tells.

    Equations are numbers of unknowns and their factors, `(equations, terms)` each, and what the sums are to be.
    """
    blocks = []
    for columns, factors, _ in equations:
        rows = np.repeat(np.arange(len(columns)), columns.shape[1])
        blocks.append(sparse.csc_matrix((factors.ravel(), (rows, columns.ravel())), (len(columns), unknowns)))
    matrix, right = sparse.vstack(blocks, format="csc"), np.concatenate([sums for _, _, sums in equations])
    normal = matrix.T @ matrix + 1e-12 * sparse.identity(unknowns, format="csc")
    return spsolve(normal, matrix.T @ right)


def _lock_feet(joints: np.ndarray, legs: np.ndarray, places: np.ndarray, contacts: np.ndarray) -> np.ndarray:
    """Move ankles to their places `(frames, feet, 3)` from the root, and what is between contacts along with them."""
    moved = joints.copy()
    for foot, (hip, knee, ankle) in enumerate(legs):
        if not contacts[:, foot].any():
            continue
        shift = np.where(contacts[:, foot, None], places[:, foot] - joints[:, ankle], np.nan)
        moved[:, ankle] = joints[:, ankle] + interpolated(shift, np.arange(len(joints)))
        moved[:, knee] = _knees(joints[:, hip], joints[:, knee], joints[:, ankle], moved[:, ankle])
    return moved


def _knees(hips: np.ndarray, knees: np.ndarray, ankles: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Knees `(frames, 3)` of legs whose ankles move to `targets`: bones as long, bent to the same side as before.

    A leg too short for its target is stretched, thigh and shank alike.
    """
    thigh, shank = (np.linalg.norm(bone, axis=-1, keepdims=True) for bone in (knees - hips, ankles - knees))
    reach = np.maximum(np.linalg.norm(targets - hips, axis=-1, keepdims=True), 1e-9)
    along = (targets - hips) / reach
    forward = (thigh**2 - shank**2 + reach**2) / (2 * reach)
    bent = np.sqrt(np.maximum(thigh**2 - forward**2, 0.0))
    forward = np.where(reach > thigh + shank, reach * thigh / np.maximum(thigh + shank, 1e-9), forward)
    aside = (knees - hips) - ((knees - hips) * along).sum(-1, keepdims=True) * along
    aside = aside / np.maximum(np.linalg.norm(aside, axis=-1, keepdims=True), 1e-9)
    return hips + forward * along + bent * aside
