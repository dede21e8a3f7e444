"""A person put together by hand, for tests of what is measured on motions."""

import numpy as np

from jointdetr.motion import PoseMotion
from jointdetr.skeleton_jointdetr import HUMAN36M

# Millimetres in the person's axes: forward, up, to the right.
STANDING = {
    "pelvis": (0, 950, 0),
    "hip": (0, 950, 100),
    "knee": (0, 520, 100),
    "ankle": (0, 90, 100),
    "spine": (0, 1200, 0),
    "thorax": (0, 1450, 0),
    "neck": (100, 1570, 0),
    "head": (0, 1750, 0),
    "shoulder": (0, 1450, 180),
    "elbow": (0, 1150, 180),
    "wrist": (0, 900, 180),
}
TO_CAMERA = np.array([[0.0, 0.0, -1.0], [0.0, -1.0, 0.0], [-1.0, 0.0, 0.0]])
"""From the person's axes to those of a level camera that the person faces."""


def standing_person() -> dict[str, np.ndarray]:
    """Joints of somebody who stands upright with hanging arms, in the person's axes."""
    body = {}
    for name in HUMAN36M.joints:
        side, _, part = name.rpartition("_")
        body[name] = np.array(STANDING[part], dtype=float) * (1, 1, -1 if side == "left" else 1)
    return body


def as_motion(*bodies: dict[str, np.ndarray], **fields: object) -> PoseMotion:
    """Bodies in the person's axes as the frames of a motion at 25 a second, before a level camera."""
    joints = np.array([[body[name] for name in HUMAN36M.joints] for body in bodies]) @ TO_CAMERA.T
    joints = joints - joints[:, :1]
    return PoseMotion(HUMAN36M, np.arange(len(bodies)) / 25, joints, np.ones(joints.shape[:2], bool), **fields)


def turn(body: dict[str, np.ndarray], joint: str, about: str, degrees: float) -> dict[str, np.ndarray]:
    """Turn all below a joint about an axis through it: x forward, y up, z to the right, by the right hand's rule."""
    angle, (first, second) = np.radians(degrees), {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[about]
    rotation = np.eye(3)
    rotation[first, first] = rotation[second, second] = np.cos(angle)
    rotation[first, second], rotation[second, first] = -np.sin(angle), np.sin(angle)
    turned = dict(body)
    for index, name in enumerate(HUMAN36M.joints):
        if _is_below(index, HUMAN36M.joints.index(joint)):
            turned[name] = rotation @ (body[name] - body[joint]) + body[joint]
    return turned


def _is_below(joint: int, other: int) -> bool:
    while joint >= 0 and joint != other:
        joint = HUMAN36M.parents[joint]
    return joint == other
