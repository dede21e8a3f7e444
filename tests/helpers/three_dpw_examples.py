"""A small sequence in the format of 3DPW."""

import io
import pickle
from pathlib import Path

import numpy as np
from conversion_examples import INTRINSICS, jpeg, person

from jointdetr.data.skeleton_mapping import map_skeleton
from jointdetr.skeleton_jointdetr import HUMAN36M, SMPL

WORLD_TO_CAMERA = np.eye(4)


def smpl_person(frame: int) -> np.ndarray:
    """SMPL's joints `(24, 3)` mm before the camera; those Human3.6M lacks lie beside their parents."""
    joints, mask = map_skeleton(person(frame), HUMAN36M, SMPL)
    for joint in np.flatnonzero(~mask):
        joints[joint] = joints[SMPL.parents[joint]] + [0, 40, 20]
    return joints


def sequence(frames: int = 4, people: int = 2) -> dict:
    """What an official file holds, as far as it is read, and some of the rest."""
    camera = np.stack([[smpl_person(frame) + [600 * who, 0, 0] for frame in range(frames)] for who in range(people)])
    world = (camera / 1000 - WORLD_TO_CAMERA[:3, 3]) @ WORLD_TO_CAMERA[:3, :3]  # the inverse of a rotation
    return {
        "sequence": "downtown",
        "jointPositions": list(world.reshape(people, frames, 72)),
        "poses2d": list(np.zeros((people, frames, 3, 18))),
        "campose_valid": list(np.ones((people, frames), dtype=np.int64)),
        "cam_poses": np.stack([WORLD_TO_CAMERA] * frames),
        "cam_intrinsics": INTRINSICS,
        "img_frame_ids": np.arange(frames) * 2,
        "genders": ["m", "f"],
        "betas": [np.zeros(10)] * people,
    }


class Python2Pickler(pickle._Pickler):
    """Writes texts and bytes alike as `BINSTRING`, as Python 2 did."""

    dispatch = pickle._Pickler.dispatch.copy()

    def save_string(self, value: str | bytes) -> None:
        content = value if isinstance(value, bytes) else value.encode("latin1")
        self.write(pickle.BINSTRING + len(content).to_bytes(4, "little") + content)
        self.memoize(value)

    dispatch[str] = dispatch[bytes] = save_string


def python2_pickle(values: object) -> bytes:
    """A pickle as the official files are: protocol 2, numpy under its old name, no unicode."""
    stream = io.BytesIO()
    Python2Pickler(stream, protocol=2).dump(values)
    return stream.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


def write_source(folder: Path, values: object, split: str = "test", name: str = "downtown_00") -> Path:
    sequences, pictures = folder / "sequenceFiles" / split, folder / "imageFiles" / name
    sequences.mkdir(parents=True, exist_ok=True)
    pictures.mkdir(parents=True, exist_ok=True)
    (sequences / f"{name}.pkl").write_bytes(python2_pickle(values))
    for frame in range(4):
        (pictures / f"image_{frame:05d}.jpg").write_bytes(jpeg(frame))
    return folder
