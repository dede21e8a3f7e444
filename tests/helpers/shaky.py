"""A swinging person seen shakily."""

import numpy as np

from jointdetr.motion import PoseMotion
from jointdetr.skeleton_jointdetr import HUMAN36M


def shaky_motion(count: int, person: int = 0) -> tuple[PoseMotion, np.ndarray]:
    """A swinging person seen shakily, and the true joints."""
    rng = np.random.default_rng(person)
    times_s = np.arange(count) / 30
    phase = 2 * np.pi * 0.8 * times_s[:, None, None] + rng.uniform(0, 6, (17, 3))
    joints = 200 * np.sin(phase)
    shake = rng.normal(0, 15, (count, 17, 3))
    motion = PoseMotion(
        HUMAN36M,
        times_s,
        joints + shake,
        np.ones((count, 17), bool),
        scores=np.ones((count, 17)),
        joints_2d=300 + (joints + shake)[..., :2] / 5,
        root_camera=np.array([0, 0, 4000]) + rng.normal(0, 30, (count, 3)),
        person=person,
        boxes=np.tile([200.0, 200, 150, 340], (count, 1)),
    )
    return motion, joints
