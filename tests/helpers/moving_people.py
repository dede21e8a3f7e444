"""People who move with bones of constant length, made by turning bones: what the writers have to give back."""

import numpy as np
from scipy.spatial.transform import Rotation

from jointdetr.motion import PoseMotion
from jointdetr.skeleton_jointdetr import HUMAN36M, Skeleton

TO_CAMERA_AXES = np.array([1.0, -1.0, -1.0])  # from y up, z to the viewer


def offsets_of(skeleton: Skeleton) -> np.ndarray:
    """Some offset from the parent for every joint, (joints, 3), mm, y up: none parallel to another."""
    generator = np.random.default_rng(7)
    offsets = generator.normal(0, 1, (len(skeleton.joints), 3)) + [0, -0.5, 0]
    lengths = generator.uniform(120, 450, (len(skeleton.joints), 1))
    offsets *= lengths / np.linalg.norm(offsets, axis=-1, keepdims=True)
    offsets[skeleton.root] = 0
    return offsets


def moving(skeleton: Skeleton = HUMAN36M, frames: int = 40, speed: float = 1.0, **fields: object) -> PoseMotion:
    """A person whose every bone swings to and fro about an axis of its own, at 25 frames a second."""
    generator = np.random.default_rng(3)
    times_s = np.arange(frames) / 25
    offsets = offsets_of(skeleton)
    axes, phases = generator.normal(0, 1, (len(offsets), 3)), generator.uniform(0, 6, len(offsets))
    joints = np.zeros((frames, len(offsets), 3))
    for frame, time_s in enumerate(times_s):
        angles = 0.9 * np.sin(speed * 3 * time_s + phases)
        turns = Rotation.from_rotvec(angles[:, None] * axes / np.linalg.norm(axes, axis=-1, keepdims=True))
        joints[frame] = _forward(skeleton, offsets, turns)
    detected = np.ones(joints.shape[:2], dtype=bool)
    return PoseMotion(skeleton, times_s, joints * TO_CAMERA_AXES, detected, **fields)


def _forward(skeleton: Skeleton, offsets: np.ndarray, turns: Rotation) -> np.ndarray:
    """Joints (joints, 3) of a skeleton each of whose bones is turned on its own, the children of a joint too."""
    places, waiting = np.zeros_like(offsets), [skeleton.root]
    world = {skeleton.root: Rotation.identity()}
    while waiting:
        parent = waiting.pop()
        for child in (joint for joint, above in enumerate(skeleton.parents) if above == parent):
            world[child] = world[parent] * turns[child]
            places[child] = places[parent] + world[child].apply(offsets[child])
            waiting.append(child)
    return places


def pointing(directions: np.ndarray) -> PoseMotion:
    """A body of four joints whose forearm points along `directions` (frames, 3) in y-up axes, nothing else moving."""
    skeleton = Skeleton("arm", ("pelvis", "thorax", "left_shoulder", "left_elbow"), (-1, 0, 1, 2), (), 0)
    joints = np.zeros((len(directions), 4, 3))
    joints[:, 1] = 0, 500, 0
    joints[:, 2] = 150, 500, 0
    joints[:, 3] = joints[:, 2] + 300 * directions
    detected = np.ones(joints.shape[:2], dtype=bool)
    return PoseMotion(skeleton, np.arange(len(directions)) / 25, joints * TO_CAMERA_AXES, detected)
