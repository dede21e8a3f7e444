"""A small sequence in the format of CMU Panoptic."""

import json
from pathlib import Path

import numpy as np
from conversion_examples import jpeg, person

from jointdetr.data.skeleton_mapping import map_skeleton
from jointdetr.skeleton_jointdetr import HUMAN36M, PANOPTIC

SIZE = (192, 108)


DISTORTION = [-0.2, 0.1, 0.002, -0.003, 0.01]


INTRINSICS = np.array([[140.0, 0, 95], [0, 139, 55], [0, 0, 1]])


ROTATION = np.array([[0.8, 0, -0.6], [0, 1, 0], [0.6, 0, 0.8]])  # the dome's y points down


TRANSLATION_CM = np.array([[5.0], [10.0], [400.0]])


def calibration() -> dict:
    cameras = [
        {
            "name": name,
            "type": "hd",
            "resolution": list(SIZE),
            "panel": 0,
            "node": 16,
            "K": INTRINSICS.tolist(),
            "distCoef": DISTORTION,
            "R": ROTATION.tolist(),
            "t": TRANSLATION_CM.tolist(),
        }
        for name in ("00_03", "00_16")
    ]
    return {"calibDataSource": "160906_calib_norm", "cameras": cameras}


def person_dome(frame: int, shift_cm: float = 0.0) -> np.ndarray:
    """Joints `(19, 3)` cm in the dome."""
    joints, mask = map_skeleton(person(frame) - [0, 0, 5000], HUMAN36M, PANOPTIC)
    nose = joints[PANOPTIC.joints.index("nose")]
    for joint in np.flatnonzero(~mask):
        side = -1 if PANOPTIC.joints[joint].startswith("right") else 1
        joints[joint] = nose + [60 * side, -40, 40]
    return joints / 10 + [shift_cm, 0, 0]


def scene(people: dict[int, np.ndarray], confidence: float = 0.7) -> dict:
    bodies = [
        {"id": number, "joints19": np.column_stack([joints, np.full(19, confidence)]).ravel().tolist()}
        for number, joints in people.items()
    ]
    return {"version": 0.7, "univTime": 12.3, "fpsType": "hd_29_97", "bodies": bodies}


def write_sequence(folder: Path, frames: int = 4, name: str = "160906_pizza1") -> Path:
    """Camera 00_16 as pictures."""
    sequence = folder / name
    scenes, pictures = sequence / "hdPose3d_stage1_coco19", sequence / "hdImgs" / "00_16"
    scenes.mkdir(parents=True)
    pictures.mkdir(parents=True)
    (sequence / f"calibration_{name}.json").write_text(json.dumps(calibration()))
    for frame in range(frames):
        (pictures / f"00_16_{frame:08d}.jpg").write_bytes(jpeg(frame, SIZE))
        people = {0: person_dome(frame), 3: person_dome(frame, 60)}
        (scenes / f"body3DScene_{frame:08d}.json").write_text(json.dumps(scene(people)))
    return sequence
