"""Where bones point at rest: as they do in somebody who stands with the arms out.

Shape vocabulary: joints. Axes are x to the person's left, y up, z forward.
"""

import numpy as np

from ..skeleton_jointdetr import Skeleton
from .skeletons import joint_sides

# Places of joints, roughly and in metres: x outwards, y up from the hips, z forward. A joint is known by a part of its
# name, the first of these that is in it.
STANDING = {
    "fingertip": (1.0, 0.5, 0.0),
    "finger": (0.95, 0.5, 0.0),
    "thumb": (0.85, 0.5, 0.05),
    "hand": (0.85, 0.5, 0.0),
    "wrist": (0.75, 0.5, 0.0),
    "elbow": (0.47, 0.5, 0.0),
    "forearm": (0.47, 0.5, 0.0),
    "shoulder": (0.18, 0.5, 0.0),
    "arm": (0.18, 0.5, 0.0),
    "collar": (0.05, 0.5, 0.0),
    "clavicle": (0.05, 0.5, 0.0),
    "hip": (0.1, 0.0, 0.0),
    "thigh": (0.1, 0.0, 0.0),
    "upleg": (0.1, 0.0, 0.0),
    "knee": (0.1, -0.42, 0.0),
    "leg": (0.1, -0.42, 0.0),
    "ankle": (0.1, -0.85, 0.0),
    "heel": (0.1, -0.9, -0.05),
    "foot": (0.1, -0.9, 0.1),
    "toe": (0.1, -0.9, 0.18),
    "nose": (0.0, 0.66, 0.1),
    "eye": (0.03, 0.7, 0.1),
    "ear": (0.07, 0.68, 0.02),
    "head_top": (0.0, 0.8, 0.0),
    "head": (0.0, 0.7, 0.0),
    "upper_neck": (0.0, 0.6, 0.0),
    "lower_neck": (0.0, 0.55, 0.0),
    "neck": (0.0, 0.58, 0.0),
    "thorax": (0.0, 0.5, 0.0),
    "chest": (0.0, 0.45, 0.0),
    "spine3": (0.0, 0.36, 0.0),
    "spine2": (0.0, 0.27, 0.0),
    "spine": (0.0, 0.18, 0.0),
    "upper_back": (0.0, 0.35, 0.0),
    "lower_back": (0.0, 0.15, 0.0),
    "pelvis": (0.0, 0.0, 0.0),
    "root": (0.0, 0.0, 0.0),
}
OUTWARDS = {"left": 1.0, "right": -1.0, "middle": 0.0}


def rest_directions(skeleton: Skeleton) -> np.ndarray:
    """Direction of the bone that leads to each joint at rest: `(joints, 3)`, up where the names tell nothing."""
    places = np.full((len(skeleton.joints), 3), np.nan)
    for joint, (name, side) in enumerate(zip(skeleton.joints, joint_sides(skeleton), strict=True)):
        place = next((place for part, place in STANDING.items() if part in name.lower()), None)
        if place is not None:
            places[joint] = np.multiply(place, (OUTWARDS[side], 1, 1))
    directions = places - places[list(skeleton.parents)]
    lengths = np.linalg.norm(directions, axis=-1, keepdims=True)
    is_known = lengths > 0  # neither NaN nor two joints at the same place
    return np.where(is_known, directions / np.where(is_known, lengths, 1), (0.0, 1.0, 0.0))
