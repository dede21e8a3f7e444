"""Upright on the floor: gravity, feet that stand still while they touch the ground, the way of the whole person.

A network looks at each picture by itself, so its people lean with the camera, float and slide. What is known besides
is that feet stand still on a level floor. The steps, each by linear least squares or in closed form:

1. Up is given, or the direction in which the person stands on average, at right angles to the way that the feet take.
2. A foot touches the ground while its ankle is about as low as the other one and hardly moves.
3. The root's way is fitted to where the camera saw it, to smoothness, and to ankles that stand still at one height
   during each contact. Depth counts for little, as a single camera hardly sees it.
4. What is left is taken by the legs: ankles are moved to where they stand, knees follow with bones of the same length.

Shape vocabulary: frames, joints, feet (left, right), contacts (each a foot's frames in a row). Level axes are x right,
y down along gravity, z forward. Millimetres.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import spsolve

from ..data.skeleton_mapping import body_points
from ..formats.motions import PoseMotion
from ..skeleton_jointdetr import Skeleton

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
class Feet:
    """The joints of the two legs, left and right: indices of hips, knees and ankles."""

    hips: tuple[int, int]
    knees: tuple[int, int]
    ankles: tuple[int, int]


@dataclass(frozen=True)
class FloorFit:
    """What it took to put a motion on the floor.

    Args:
        up: `(3,)`, against gravity, in the motion's axes before.
        contacts: `(frames, feet)` bool, where the left and the right foot touch the floor.
        moved_mm: `(frames, joints)`, how far joints were moved against the root; NaN where missing.
        root_moved_mm: `(frames,)`, how far the root was moved.
    """

    up: np.ndarray
    contacts: np.ndarray
    moved_mm: np.ndarray
    root_moved_mm: np.ndarray

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

    Args:
        motion: The person, with `root_camera`, standing or walking on one level floor; a picture is a single frame.
        up: Direction against gravity in camera axes; None for what [`estimate_up`] finds.

    Returns:
        The motion in level axes, `root_camera` measured from the point of the floor below the camera, so that the
        floor is y = 0; `points` and `boxes` are those of the picture still. And what it took.

    Raises:
        ValueError: The skeleton has no legs, the root's place or the ankles are not known, or `up` has no direction.
    """
    feet = feet_of(motion.skeleton)
    upward = estimate_up(motion) if up is None else _unit(np.asarray(up, dtype=np.float64))
    turn = level_rotation(upward)
    joints, seen = motion.joints @ turn.T, _root_seen(motion) @ turn.T
    ankles = joints[:, feet.ankles]  # (frames, feet, 3)
    if np.isnan(ankles).any(-1).all():
        raise ValueError(f"person {motion.person}: no ankle is known in any frame.")
    contacts = find_contacts(ankles + seen[:, None], motion.times_s)
    root, places = _fit_way(seen, ankles, contacts, motion.times_s)
    moved = _lock_feet(joints, feet, places - root[:, None], contacts)
    floor = places[contacts][:, 1].mean() if contacts.any() else np.nanmax((ankles + root[:, None])[..., 1])
    root_moved = np.linalg.norm(root - seen, axis=-1)
    root = root - (0.0, floor + ANKLE_HEIGHT, 0.0)
    fit = FloorFit(upward, contacts, np.linalg.norm(moved - joints, axis=-1), root_moved)
    return replace(motion, joints=moved, root_camera=root), fit


def stand_all_on_floor(motions: Sequence[PoseMotion]) -> tuple[list[PoseMotion], list[FloorFit]]:
    """Put everybody of a film on one floor, with the mean of their directions up; who was never seen is left out.

    Raises:
        ValueError: As [`stand_on_floor`].
    """
    seen = [motion for motion in motions if not motion.missing.all()]
    if not seen:
        return [], []
    up = _unit(np.mean([estimate_up(motion) for motion in seen], axis=0))
    pairs = [stand_on_floor(motion, up) for motion in seen]
    return [placed for placed, _ in pairs], [fit for _, fit in pairs]


def feet_of(skeleton: Skeleton) -> Feet:
    """The legs of a skeleton, by the names of its joints.

    Raises:
        ValueError: A hip, knee or ankle is missing.
    """
    points = body_points(skeleton)
    names = [f"{side}_{joint}" for joint in ("hip", "knee", "ankle") for side in ("left", "right")]
    missing = [name for name in names if name not in points]
    if missing:
        raise ValueError(f"the floor needs hips, knees and ankles, the skeleton {skeleton.name!r} lacks {missing}")
    joints = [points.index(name) for name in names]
    return Feet(tuple(joints[:2]), tuple(joints[2:4]), tuple(joints[4:]))


def estimate_up(motion: PoseMotion) -> np.ndarray:
    """Estimate the direction `(3,)` against gravity from somebody who stands or walks on a level floor.

    It is that from the ankles to the shoulders, on average over the motion. People who walk lean forward by several
    degrees; where they come far enough, the way of the lower ankle, which is level, takes most of that away.

    Raises:
        ValueError: Ankles and shoulders are not known together in any frame.
    """
    points = body_points(motion.skeleton)
    low, high = (
        [points.index(f"{side}_{joint}") for side in ("left", "right") if f"{side}_{joint}" in points]
        for joint in ("ankle", "shoulder")
    )
    if len(low) < 2 or len(high) < 2:
        raise ValueError(f"up needs ankles and shoulders, the skeleton {motion.skeleton.name!r} has not both")
    standing = motion.joints[:, high].mean(1) - motion.joints[:, low].mean(1)  # (frames, 3)
    standing = standing[np.isfinite(standing).all(-1)]
    if not len(standing):
        raise ValueError(f"person {motion.person}: ankles and shoulders are not known together in any frame.")
    upright = _unit(standing.mean(0))
    if motion.root_camera is None:
        return upright
    return _across_the_way(upright, motion.joints_camera[:, low])


def _across_the_way(upright: np.ndarray, ankles: np.ndarray) -> np.ndarray:
    """The direction nearest to `upright` `(3,)` in which the lower ankle of `(frames, feet, 3)` stays as high."""
    ankles = ankles[np.isfinite(ankles).all((1, 2))]
    if not len(ankles):
        return upright
    lower = ankles[np.arange(len(ankles)), (ankles @ upright).argmin(1)]  # (frames, 3)
    spread = np.cov(lower.T, bias=True)
    if np.sqrt(np.linalg.eigvalsh(spread)[-1]) < SHORTEST_WAY_MM:
        return upright
    return _unit(np.linalg.solve(spread / FLAT_MM**2 + np.eye(3) / LEAN**2, upright / LEAN**2))


def level_rotation(up: np.ndarray) -> np.ndarray:
    """The smallest rotation `(3, 3)` that brings the unit vector `up` to -y; half a turn about x if up is down."""
    target = np.array([0.0, -1.0, 0.0])
    cosine = up @ target
    if cosine < -1 + 1e-9:
        return np.diag([1.0, -1.0, -1.0])
    x, y, z = np.cross(up, target)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + cross + cross @ cross / (1 + cosine)


def find_contacts(ankles: np.ndarray, times_s: np.ndarray) -> np.ndarray:
    """Where feet touch the floor: the ankle is low and hardly moves, for a while.

    Args:
        ankles: `(frames, feet, 3)` in level axes, from the camera; NaN where missing.
        times_s: `(frames,)`.

    Returns:
        `(frames, feet)` bool. In a single frame the lower foot, and the other one if it is as low.
    """
    lowest = np.nanmax(np.nan_to_num(ankles[..., 1], nan=-np.inf), axis=1, keepdims=True)
    contacts = lowest - ankles[..., 1] < LOW
    if len(ankles) == 1:
        return contacts
    speeds = _speeds(ankles, times_s)  # (frames, feet)
    contacts &= speeds < np.fmax(STILL, STILL_SHARE * speeds.max(1, keepdims=True))
    for foot in range(contacts.shape[1]):
        for run in runs(contacts[:, foot]):
            if times_s[run[-1]] - times_s[run[0]] < SHORTEST_CONTACT_S:
                contacts[run, foot] = False
    return contacts


def _speeds(ankles: np.ndarray, times_s: np.ndarray) -> np.ndarray:
    """How fast ankles move, `(frames, feet)` mm/s, depth counted for less."""
    velocities = np.gradient(ankles, times_s, axis=0)
    rays = ankles / np.maximum(np.linalg.norm(ankles, axis=-1, keepdims=True), 1e-9)
    depth = (velocities * rays).sum(-1, keepdims=True) * rays
    return np.linalg.norm(velocities - (1 - DEPTH_SHARE) * depth, axis=-1)


def runs(flags: np.ndarray) -> list[np.ndarray]:
    """Indices of the frames `(frames,)` that are set, split where one is not."""
    frames = np.flatnonzero(flags)
    return np.split(frames, np.flatnonzero(np.diff(frames) > 1) + 1) if len(frames) else []


def _unit(vector: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vector) if vector.shape == (3,) else np.nan
    if not (np.isfinite(length) and length > 0):
        raise ValueError(f"up must be three numbers that give a direction, got {vector.tolist()}")
    return vector / length


def _root_seen(motion: PoseMotion) -> np.ndarray:
    """The root's place in every frame, interpolated where it is not known: `(frames, 3)`."""
    if motion.root_camera is None or not np.isfinite(motion.root_camera).all(-1).any():
        raise ValueError(
            f"person {motion.person}: the floor needs the root's place from the camera, and none is known; "
            "say the camera, as `--fov 60` does"
        )
    known = np.isfinite(motion.root_camera).all(-1)
    places = motion.root_camera[known].T
    return np.stack([np.interp(motion.times_s, motion.times_s[known], axis) for axis in places], axis=-1)


def _fit_way(
    seen: np.ndarray, ankles: np.ndarray, contacts: np.ndarray, times_s: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Fit the root's way; return it `(frames, 3)` and where ankles stand `(frames, feet, 3)`, NaN where they do not.

    The unknowns are the root of every frame, the two level coordinates of every contact and the one height of all.
    """
    number = _number_contacts(contacts)  # (frames, feet), -1 without contact
    frames, stands = len(seen), number.max() + 1
    system = _Equations(3 * frames + 2 * stands + 1)
    height = system.unknowns - 1
    rays = seen / np.linalg.norm(seen, axis=-1, keepdims=True)
    for frame, ray in enumerate(rays):
        along = np.outer(ray, ray)
        weights = (np.eye(3) - along) / ACROSS_MM + along / DEPTH_MM
        for row in weights:
            system.add(range(3 * frame, 3 * frame + 3), row, row @ seen[frame])
    _add_smoothness(system, times_s)
    for frame, foot in np.argwhere(number >= 0):
        stand = 3 * frames + 2 * number[frame, foot]
        for axis, place in enumerate((stand, height, stand + 1)):
            system.add((3 * frame + axis, place), (1 / FOOT_MM, -1 / FOOT_MM), -ankles[frame, foot, axis] / FOOT_MM)
    solution = system.solve()
    root = solution[: 3 * frames].reshape(frames, 3)
    places = np.full(ankles.shape, np.nan)
    for frame, foot in np.argwhere(number >= 0):
        stand = 3 * frames + 2 * number[frame, foot]
        places[frame, foot] = solution[stand], solution[height], solution[stand + 1]
    return root, places


def _add_smoothness(system: "_Equations", times_s: np.ndarray) -> None:
    """Equations of the root's accelerations, each expected to be small."""
    steps = np.diff(times_s)
    for frame in range(1, len(times_s) - 1):
        before, after = steps[frame - 1], steps[frame]
        rates = 2 / (before + after) * np.array([1 / before, -1 / before - 1 / after, 1 / after]) / ACCELERATION
        share = np.sqrt((before + after) / 2 * 30.0)  # of a thirtieth of a second, so that any frame rate counts alike
        for axis in range(3):
            system.add((3 * frame - 3 + axis, 3 * frame + axis, 3 * frame + 3 + axis), share * rates, 0.0)


def _number_contacts(contacts: np.ndarray) -> np.ndarray:
    """The number of each foot's contact `(frames, feet)`, from 0, -1 where there is none."""
    number, count = np.full(contacts.shape, -1), 0
    for foot in range(contacts.shape[1]):
        for run in runs(contacts[:, foot]):
            number[run, foot] = count
            count += 1
    return number


class _Equations:
    """Linear equations, to be fulfilled as well as can be."""

    def __init__(self, unknowns: int) -> None:
        self.unknowns = unknowns
        self.rows: list[int] = []
        self.columns: list[int] = []
        self.values: list[float] = []
        self.right: list[float] = []

    def add(self, columns: Sequence[int], values: Sequence[float], right: float) -> None:
        """Add one: the sum of `values` times the unknowns `columns` is to be `right`."""
        self.rows += [len(self.right)] * len(columns)
        self.columns += columns
        self.values += list(values)
        self.right.append(right)

    def solve(self) -> np.ndarray:
        """The unknowns `(unknowns,)` with the least sum of squares; 0 where no equation tells."""
        shape = (len(self.right), self.unknowns)
        matrix = sparse.csc_matrix((self.values, (self.rows, self.columns)), shape)
        normal = matrix.T @ matrix + 1e-12 * sparse.identity(self.unknowns, format="csc")
        return spsolve(normal, matrix.T @ np.array(self.right))


def _lock_feet(joints: np.ndarray, feet: Feet, places: np.ndarray, contacts: np.ndarray) -> np.ndarray:
    """Move ankles to their places `(frames, feet, 3)` from the root, and what is between contacts along with them."""
    moved = joints.copy()
    frames = np.arange(len(joints))
    for foot, (hip, knee, ankle) in enumerate(zip(feet.hips, feet.knees, feet.ankles, strict=True)):
        touching = contacts[:, foot]
        if not touching.any():
            continue
        shifts = (places[:, foot] - joints[:, ankle])[touching].T
        shift = np.stack([np.interp(frames, frames[touching], axis) for axis in shifts], axis=-1)
        moved[:, ankle] = joints[:, ankle] + shift
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
