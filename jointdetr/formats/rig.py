"""From joint positions to a rig: bones of constant length, and how each of them turns through time.

A joint with one child turns by the smallest rotation that points its bone at the child, so it has no twist. A joint
with several children turns by the rotation that fits all of them best (Kabsch); a bone without length before each
child takes what is left. At rest somebody stands with the arms out. And back: a motion of an animation file's nodes.

Shape vocabulary: frames, nodes (joints of the rig, parents first), joints (of the skeleton), children. Positions are
metres with x to the person's left, y up, z to where the person faces at rest: a camera that looks along -z sees what
the picture showed. Rotations act on column vectors.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.transform import Rotation

from ..skeleton_jointdetr import Skeleton
from .motions import PoseMotion, interpolated
from .skeletons import joint_sides, named_pairs

TO_RIG_AXES = np.array([1.0, -1.0, -1.0]) / 1000.0  # from millimetres, y down, z forward
UNTWIST_DEGREES_PER_S = 180.0
MIN_LENGTH = 0.001  # metres; a bone has to have a direction
USUALLY_IN_LINE, IN_LINE = 0.15, 0.02  # second by first singular value of children that lie in one line
TEMPLATE_ROUNDS, TEMPLATE_FRAMES = 8, 500
COINCIDENT = 1e-5  # of the height; a bone of a file that is shorter in every frame is none
END_SITE_SUFFIX = "_end"

# Places of joints, roughly and in metres: x outwards, y up from the hips, z forward. A joint is known by a part of its
# name, the first of these that is in it.
# fmt: off
STANDING = {
    "fingertip": (1.0, 0.5, 0.0), "finger": (0.95, 0.5, 0.0), "thumb": (0.85, 0.5, 0.05), "hand": (0.85, 0.5, 0.0),
    "wrist": (0.75, 0.5, 0.0), "elbow|forearm": (0.47, 0.5, 0.0), "shoulder|arm": (0.18, 0.5, 0.0),
    "collar|clavicle": (0.05, 0.5, 0.0), "hip|thigh|upleg": (0.1, 0.0, 0.0), "knee|leg": (0.1, -0.42, 0.0),
    "ankle": (0.1, -0.85, 0.0), "heel": (0.1, -0.9, -0.05), "foot": (0.1, -0.9, 0.1), "toe": (0.1, -0.9, 0.18),
    "nose": (0.0, 0.66, 0.1), "eye": (0.03, 0.7, 0.1), "ear": (0.07, 0.68, 0.02),
    "head_top": (0.0, 0.8, 0.0), "head": (0.0, 0.7, 0.0),
    "upper_neck": (0.0, 0.6, 0.0), "lower_neck": (0.0, 0.55, 0.0), "neck": (0.0, 0.58, 0.0),
    "thorax": (0.0, 0.5, 0.0), "chest": (0.0, 0.45, 0.0), "spine3": (0.0, 0.36, 0.0), "spine2": (0.0, 0.27, 0.0),
    "spine": (0.0, 0.18, 0.0), "upper_back": (0.0, 0.35, 0.0), "lower_back": (0.0, 0.15, 0.0),
    "pelvis|root": (0.0, 0.0, 0.0),
}
# fmt: on
OUTWARDS = {"left": 1.0, "right": -1.0, "middle": 0.0}


@dataclass(frozen=True)
class Node:
    """A joint of the rig."""

    name: str  # the skeleton's joint, or "pelvis_to_spine" for the bone without length at the pelvis
    parent: int  # -1 for the root
    joint: int  # the skeleton's joint that lies here
    children: tuple[int, ...]  # joints of the skeleton that this node's rotation points at
    is_helper: bool = False  # a bone without length


@dataclass(frozen=True)
class RigMotion:
    """A rig through time, with what it took to get there."""

    skeleton: Skeleton
    nodes: tuple[Node, ...]
    offsets: np.ndarray  # (nodes, 3) from the parent, the root's is zero
    times_s: np.ndarray  # (frames,)
    root: np.ndarray  # (frames, 3) from the camera if that is known, else above the ground y = 0
    rotations: np.ndarray  # (frames, nodes, 3, 3) from each node's axes to its parent's; at rest all are the world's
    placed: np.ndarray  # (frames, joints, 3) from the root, where the rig brings the joints
    error_mm: np.ndarray  # (frames, joints), how far constant bone lengths moved each joint, NaN where it was missing

    @property
    def rest(self) -> np.ndarray:
        """Places of the nodes at rest, the root at the origin: `(nodes, 3)`."""
        straight = np.broadcast_to(np.eye(3), (len(self.nodes), 3, 3))
        return pose_nodes([node.parent for node in self.nodes], straight, self.offsets)[1]

    @property
    def filled(self) -> dict[str, int]:
        """In how many frames each missing joint had to be filled in."""
        counts = np.isnan(self.error_mm).sum(0)
        return {name: int(count) for name, count in zip(self.skeleton.joints, counts, strict=True) if count}

    def describe(self) -> str:
        """What the reader of a file should know: how far joints were moved, and which were filled in."""
        mean, high = np.nanmean(self.error_mm), np.nanpercentile(self.error_mm, 95)
        words = f"constant bone lengths move joints by {mean:.1f} mm (95% by less than {high:.1f} mm)"
        counts = ", ".join(f"{name} in {count}" for name, count in self.filled.items())
        return words + (f"; missing and filled in, of {len(self.times_s)} frames: {counts}" if counts else "")


def pose_nodes(parents: Sequence[int], turns: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bring nodes' turns `(..., nodes, 3, 3)` and offsets `(..., nodes, 3)` from their parents' axes into the root's.

    Nodes come parents first, the root's parent is -1. Returns turns and places of the same shapes.
    """
    turns, places = turns.copy(), offsets.copy()
    for node, parent in enumerate(parents):
        if parent >= 0:
            moved = np.einsum("...ij,...j->...i", turns[..., parent, :, :], offsets[..., node, :])
            places[..., node, :] = places[..., parent, :] + moved
            turns[..., node, :, :] = turns[..., parent, :, :] @ turns[..., node, :, :]
    return turns, places


def fit_rig(motion: PoseMotion) -> RigMotion:
    """Fit bones of constant length to a motion.

    Missing joints are interpolated in time, and held before the first and after the last time they are known; a joint
    that is never known lies straight on from the bone before.
    """
    skeleton = motion.skeleton
    positions = _filled(motion)  # (frames, joints, 3)
    nodes = rig_nodes(skeleton)
    at_rest = _at_rest(skeleton, positions)  # (joints, 3)
    rotations, places = _solve(nodes, at_rest, positions, motion.times_s)
    joints = [node.joint for node in nodes]
    placed = np.empty_like(positions)
    placed[:, joints] = places  # a bone without length lies where its joint does
    offsets = np.where([[node.is_helper] for node in nodes], 0.0, at_rest[joints])
    error_mm = np.linalg.norm(placed - positions, axis=-1) * 1000
    error_mm[motion.missing] = np.nan
    if motion.root_camera is None:
        root = np.broadcast_to([0.0, -placed[..., 1].min(), 0.0], (len(motion), 3)).copy()
    else:
        root = interpolated(motion.root_camera * TO_RIG_AXES, motion.times_s)
    if np.isnan(root).any():
        raise ValueError(f"person {motion.person}: `root_camera` is not known in any frame.")
    return RigMotion(skeleton, nodes, offsets, motion.times_s, root, rotations, placed, error_mm)


def with_constant_bones(motion: PoseMotion) -> tuple[PoseMotion, RigMotion]:
    """The motion with joints where bones of constant length bring them, and the rig that says how far that is."""
    rig = fit_rig(motion)
    joints = rig.placed / TO_RIG_AXES
    joints[motion.missing] = np.nan
    return replace(motion, joints=joints), rig


def motion_of_nodes(
    names: Sequence[str], parents: Sequence[int], positions_mm: np.ndarray, times_s: np.ndarray, person: int = 0
) -> PoseMotion:
    """Make a motion of an animation file's nodes, without end sites and bones that have no length.

    Nodes come parents first, the root's parent is -1; `positions_mm` `(frames, nodes, 3)` are y up, z to the viewer.
    """
    bones = positions_mm - positions_mm[:, list(parents)]
    is_bone = np.linalg.norm(bones, axis=-1).max(0) > COINCIDENT * np.ptp(positions_mm[0], axis=0).max()
    stands_for: list[int] = []  # the node that is kept in place of each, by its new number
    kept: list[int] = []
    for node, parent in enumerate(parents):
        is_kept = parent < 0 or (is_bone[node] and not names[node].endswith(END_SITE_SUFFIX))
        stands_for.append(len(kept) if is_kept else stands_for[parent])
        kept += [node] if is_kept else []
    kept_names = tuple(names[node] for node in kept)
    above = tuple(-1 if parents[node] < 0 else stands_for[parents[node]] for node in kept)
    skeleton = Skeleton("file", kept_names, above, named_pairs(kept_names), root=0)
    joints = positions_mm[:, kept] * [1.0, -1.0, -1.0]
    root = joints[:, 0]
    known = np.ones(joints.shape[:2], dtype=bool)
    return PoseMotion(skeleton, times_s, joints - root[:, None], known, root_camera=root, person=person)


def rig_nodes(skeleton: Skeleton) -> tuple[Node, ...]:
    """The rig of a skeleton, branch by branch: its joints, and a node without length before each child of several."""
    nodes: list[Node] = []

    def add(joint: int, parent: int) -> None:
        name = skeleton.joints[joint]
        children = tuple(child for child, above in enumerate(skeleton.parents) if above == joint)
        nodes.append(Node(name, parent, joint, children))
        own = len(nodes) - 1
        for child in children:
            if len(children) > 1:
                nodes.append(Node(f"{name}_to_{skeleton.joints[child]}", own, joint, (child,), is_helper=True))
            add(child, own if len(children) == 1 else len(nodes) - 1)

    add(skeleton.root, -1)
    return tuple(nodes)


def _filled(motion: PoseMotion) -> np.ndarray:
    """Root-relative positions, gaps interpolated: `(frames, joints, 3)`, metres."""
    if motion.missing.all():
        raise ValueError(f"person {motion.person}: no joint has a position in any frame.")
    positions = np.stack([interpolated(joint, motion.times_s) for joint in motion.joints.swapaxes(0, 1)], axis=1)
    root = positions[:, motion.skeleton.root]
    positions = (positions - np.nan_to_num(root)[:, None]) * TO_RIG_AXES  # what is relative to the root has it at 0
    if np.isnan(positions).any():
        _place_never_seen(motion.skeleton, positions)
    return positions


def _place_never_seen(skeleton: Skeleton, positions: np.ndarray) -> None:
    """Put joints without any position straight on from the bone before, as far as their other side's are long."""
    positions[:, skeleton.root] = np.nan_to_num(positions[:, skeleton.root])
    known = {child: length for child, length in enumerate(_bone_lengths(skeleton, positions)) if length > 0}
    partners = {a: b for pair in skeleton.flip_pairs for a, b in (pair, pair[::-1])}
    for node in rig_nodes(skeleton)[1:]:
        parent = skeleton.parents[node.joint]
        if not np.isnan(positions[:, node.joint]).any():
            continue
        before = skeleton.parents[parent]
        straight = np.broadcast_to(rest_directions(skeleton)[node.joint], positions[:, 0].shape)
        if before >= 0:
            straight = positions[:, parent] - positions[:, before]
            straight = straight / np.maximum(np.linalg.norm(straight, axis=-1, keepdims=True), 1e-9)
        length = known.get(partners.get(node.joint, -1), np.median([*known.values()] or [0.2]))
        positions[:, node.joint] = positions[:, parent] + length * straight


def rest_directions(skeleton: Skeleton) -> np.ndarray:
    """Direction of the bone that leads to each joint at rest: `(joints, 3)`, up where the names tell nothing."""
    places = np.full((len(skeleton.joints), 3), np.nan)
    for joint, (name, side) in enumerate(zip(skeleton.joints, joint_sides(skeleton), strict=True)):
        known = (place for parts, place in STANDING.items() if re.search(parts, name.lower()))
        places[joint] = np.multiply(next(known, np.nan), (OUTWARDS[side], 1, 1))
    directions = places - places[list(skeleton.parents)]
    lengths = np.linalg.norm(directions, axis=-1, keepdims=True)
    is_known = lengths > 0  # neither NaN nor two joints at the same place
    return np.where(is_known, directions / np.where(is_known, lengths, 1), (0.0, 1.0, 0.0))


def _bone_lengths(skeleton: Skeleton, positions: np.ndarray) -> np.ndarray:
    """Median length of the bone that leads to each joint: `(joints,)`, zero for the root."""
    bones = positions - positions[:, list(skeleton.parents)]
    lengths = np.median(np.linalg.norm(bones, axis=-1), axis=0)
    lengths[skeleton.root] = 0.0
    return lengths


def _at_rest(skeleton: Skeleton, positions: np.ndarray) -> np.ndarray:
    """Where each joint lies at rest, seen from its parent: `(joints, 3)`, zero for the root."""
    lengths = np.maximum(_bone_lengths(skeleton, positions), MIN_LENGTH)
    offsets = rest_directions(skeleton) * lengths[:, None]
    offsets[skeleton.root] = 0.0
    for joint in range(len(offsets)):
        children = [child for child, parent in enumerate(skeleton.parents) if parent == joint]
        if len(children) > 1:
            seen = positions[:, children] - positions[:, joint, None]  # (frames, children, 3)
            offsets[children] = _template(seen, offsets[children])
    return offsets


def _template(seen: np.ndarray, at_rest: np.ndarray) -> np.ndarray:
    """The one shape `(children, 3)` of all frames' `(frames, children, 3)`, as long and turned as `at_rest`."""
    seen = seen[:: max(1, len(seen) // TEMPLATE_FRAMES)]
    lengths = np.linalg.norm(at_rest, axis=-1, keepdims=True)
    shape = seen[len(seen) // 2]
    for _ in range(TEMPLATE_ROUNDS):
        turned_back = seen @ _kabsch(np.broadcast_to(shape, seen.shape), seen)  # the rows are turned by the inverse
        shape = turned_back.mean(0)
        reach = np.linalg.norm(shape, axis=-1, keepdims=True)
        shape = np.where(reach > 1e-9, shape * lengths / np.maximum(reach, 1e-9), at_rest)
    return shape @ _kabsch(shape[None], at_rest[None])[0].T


def _kabsch(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Rotation `(frames, 3, 3)` that brings `source` `(frames, children, 3)` nearest to `target` (Kabsch, 1976)."""
    left, _, right = np.linalg.svd(np.swapaxes(target, 1, 2) @ source)
    left[..., 2] *= np.linalg.det(left @ right)[:, None]  # no mirror
    return left @ right


def _solve(
    nodes: Sequence[Node], at_rest: np.ndarray, positions: np.ndarray, times_s: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Local rotations `(frames, nodes, 3, 3)` and where they bring the nodes `(frames, nodes, 3)`, root at the origin.

    Every bone starts where the bones before it end and aims at where its joint was seen, so errors do not add up.
    """
    frames = len(positions)
    local = np.broadcast_to(np.eye(3), (frames, len(nodes), 3, 3)).copy()
    world, places = local.copy(), np.zeros((frames, len(nodes), 3))
    for index, node in enumerate(nodes):
        above = np.broadcast_to(np.eye(3), (frames, 3, 3))
        if node.parent >= 0:
            above = world[:, node.parent]
            places[:, index] = places[:, node.parent] + (0.0 if node.is_helper else above @ at_rest[node.joint])
        if node.children:
            children = list(node.children)
            aims = (positions[:, children] - places[:, index, None]) @ above  # in the parent's axes
            local[:, index] = _turn(at_rest[children], aims, times_s)
        world[:, index] = above @ local[:, index]
    return local, places


def _turn(at_rest: np.ndarray, aims: np.ndarray, times_s: np.ndarray) -> np.ndarray:
    """Rotations `(frames, 3, 3)` that bring the children `(children, 3)` to their aims `(frames, children, 3)`."""
    if len(at_rest) == 1:
        return _swings(at_rest[0], aims[:, 0], times_s)
    longest = np.linalg.norm(at_rest, axis=-1).argmax()
    spread = np.linalg.svd(aims, compute_uv=False)  # (frames, singular values)
    flatness = spread[:, 1] / np.maximum(spread[:, 0], 1e-9)
    if np.median(flatness) < USUALLY_IN_LINE:  # how they turn about that line is noise
        return _swings(at_rest[longest], aims[:, longest], times_s)
    rotations = _kabsch(np.broadcast_to(at_rest, aims.shape), aims)
    for frame in np.flatnonzero(flatness < IN_LINE):  # for a moment: keep the turn about it
        before = rotations[frame - 1] if frame else np.eye(3)
        rotations[frame] = before
        if np.linalg.norm(aims[frame, longest]) > 1e-9:
            swing = smallest_rotations((before @ at_rest[longest])[None], aims[[frame], longest])
            rotations[frame] = swing[0].as_matrix() @ before
    return rotations


def _swings(at_rest: np.ndarray, aims: np.ndarray, times_s: np.ndarray) -> np.ndarray:
    """Rotations `(frames, 3, 3)` without twist that point the bone `(3,)` at its aims `(frames, 3)`.

    Opposite to its rest a bone has no rotation without twist, and near there the smallest one flips from frame to
    frame. So the twist of the frame before is kept, and taken back no faster than `UNTWIST_DEGREES_PER_S`.
    """
    known = np.linalg.norm(aims, axis=-1) > 1e-9
    last_known = np.maximum.accumulate(np.where(known, np.arange(len(aims)), 0))
    aims = np.where(known.any(), aims[last_known], at_rest)
    aims = np.where(np.linalg.norm(aims, axis=-1, keepdims=True) > 1e-9, aims, at_rest)
    axis = at_rest / np.linalg.norm(at_rest)
    swings = smallest_rotations(np.broadcast_to(axis, aims.shape), aims)
    twists = np.zeros(len(aims))
    changes = (swings[1:].inv() * swings[:-1]).as_quat()  # (frames - 1, 4), x y z w
    follow = 2 * np.arctan2(changes[:, :3] @ axis, changes[:, 3])
    limits = np.radians(UNTWIST_DEGREES_PER_S) * np.diff(times_s)
    for frame, (change, limit) in enumerate(zip(follow, limits, strict=True), start=1):
        kept = np.remainder(twists[frame - 1] + change + np.pi, 2 * np.pi) - np.pi
        twists[frame] = np.sign(kept) * max(abs(kept) - limit, 0.0)
    return (swings * Rotation.from_rotvec(twists[:, None] * axis)).as_matrix()


def smallest_rotations(source: np.ndarray, target: np.ndarray) -> Rotation:
    """The smallest rotations between directions `(frames, 3)`; where they are opposite, one of many."""
    source = source / np.linalg.norm(source, axis=-1, keepdims=True)
    target = target / np.linalg.norm(target, axis=-1, keepdims=True)
    quaternions = np.concatenate([np.cross(source, target), 1 + (source * target).sum(-1, keepdims=True)], axis=-1)
    opposite = np.linalg.norm(quaternions, axis=-1) < 1e-7
    across = np.cross(source, np.eye(3)[np.abs(source).argmin(-1)])  # (frames, 3), at right angles
    quaternions[opposite] = np.concatenate([across, np.zeros((len(across), 1))], axis=-1)[opposite]
    return Rotation.from_quat(quaternions)
