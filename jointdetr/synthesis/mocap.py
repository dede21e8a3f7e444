"""Motion capture: Acclaim ASF/AMC files, as CMU's data base has them, turned into poses of the body.

A bone of the recorded skeleton turns a bone of the body by the same rotation in the world; limbs are first turned from
the body's rest direction to the recorded skeleton's, so that both point the same way.

Shapes: frames, bones (of the body or of the recorded skeleton), joints (17). Angles in files are degrees. Recorded
axes are y up and facing +z; the body's are z up and facing -y.

Source of the formats: the Acclaim file description, http://mocap.cs.cmu.edu for the data and its terms.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..formats.acclaim import RecordedSkeleton, read_amc, read_asf, world_rotations
from .body import Body
from .draws import Draws
from .rotations import rotation_between

# From y up, facing +z, to z up, facing -y.
TO_BODY_AXES = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
METRES_TO_MM = 1000.0

# Which recorded bone turns which bone of the body; bones left out follow their parents.
TRUNK_BONES = {
    "root": "root",
    "lowerback": "spine04",
    "upperback": "spine03",
    "thorax": "spine01",
    "lowerneck": "neck01",
    "upperneck": "neck03",
    "head": "head",
}
LIMB_BONES = {
    "clavicle": "clavicle",
    "humerus": "upperarm01",
    "radius": "lowerarm01",
    "femur": "upperleg01",
    "tibia": "lowerleg01",
    "foot": "foot",
}
# Limbs whose direction is matched: the body's bone points at this one's head.
POINTS_AT = {"upperarm01": "lowerarm01", "lowerarm01": "wrist", "upperleg01": "lowerleg01", "lowerleg01": "foot"}


def retarget(body: Body, skeleton: RecordedSkeleton, motion: dict[str, np.ndarray]) -> Tensor:
    """Rotations for `Body.pose` that follow a recorded motion: (frames, body bones, 3, 3), float64.

    Raises:
        ValueError: The skeleton lacks a bone that moves the body, or the motion is not of this skeleton.
    """
    recorded = torch.from_numpy(world_rotations(skeleton, motion))
    directions = torch.from_numpy(skeleton.directions)
    targets = {bone: TRUNK_BONES[name] for bone, name in _required(skeleton, TRUNK_BONES)}
    for side in "LR":
        limbs = {f"{side.lower()}{name}": f"{bone}.{side}" for name, bone in LIMB_BONES.items()}
        targets |= {bone: limbs[name] for bone, name in _required(skeleton, limbs)}

    turned: dict[int, Tensor] = {}
    for bone, target in targets.items():
        rotation = TO_BODY_AXES @ recorded[:, bone] @ TO_BODY_AXES.mT
        turned[body.bone(target)] = rotation @ _alignment(body, target, TO_BODY_AXES @ directions[bone])
    rotations = []
    for bone, parent in enumerate(body.parents):
        turned.setdefault(bone, turned[max(parent, 0)])
        rotations.append(turned[bone] if parent < 0 else turned[parent].mT @ turned[bone])
    return torch.stack(rotations, dim=1)


def _required(skeleton: RecordedSkeleton, names: dict[str, str]) -> list[tuple[int, str]]:
    """Index and name of bones the skeleton must have."""
    missing = sorted(set(names) - set(skeleton.names))
    if missing:
        raise ValueError(f"the recorded skeleton must have the bones {sorted(names)}, missing are {missing}")
    return [(skeleton.names.index(name), name) for name in names]


def _alignment(body: Body, target: str, direction: Tensor) -> Tensor:
    """Rotation from the rest direction of a limb of the body to the recorded `direction` (3,): (3, 3)."""
    part, _, side = target.partition(".")
    if part not in POINTS_AT:
        return torch.eye(3, dtype=torch.float64)
    rest = body.bone_rest.double().cpu()
    return rotation_between(rest[body.bone(f"{POINTS_AT[part]}.{side}")] - rest[body.bone(target)], direction)


class MotionLibrary:
    """Frames of every motion in a folder, as rotations of the body.

    Args:
        body: The body that is to move.
        folder: Searched with its subfolders for `*.asf` files; the `*.amc` files beside one belong to it.
        stride: Keeps every `stride`-th frame; CMU's are 1/120 s apart.

    Raises:
        ValueError: The folder holds no skeleton with motions, several skeletons share a folder, or a file is broken.
    """

    def __init__(self, body: Body, folder: Path | str, stride: int = 12) -> None:
        """Read and retarget all motions."""
        rotations, self.clips, clip_of_frame = [], [], []
        for skeleton_file, motion_files in _recordings(Path(folder)):
            skeleton = read_asf(skeleton_file)
            for motion_file in motion_files:
                frames = retarget(body, skeleton, read_amc(motion_file, stride))
                clip_of_frame += [len(self.clips)] * len(frames)
                self.clips.append(motion_file.stem)
                rotations.append(frames.float())
        self.rotations = torch.cat(rotations)  # (frames, bones, 3, 3)
        self.clip_of_frame = torch.tensor(clip_of_frame)  # (frames,)

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.rotations)

    def draw(self, draws: Draws) -> tuple[Tensor, list[str]]:
        """A frame for each person: rotations (people, bones, 3, 3), float64, and the names of their clips."""
        frame = (draws.uniform(0, 1) * len(self)).long()
        return self.rotations[frame].double(), [self.clips[clip] for clip in self.clip_of_frame[frame].tolist()]


def _recordings(folder: Path) -> list[tuple[Path, list[Path]]]:
    """Skeleton files under a folder, each with its motion files."""
    recordings = []
    for skeleton_file in sorted(folder.rglob("*.asf")):
        if len(list(skeleton_file.parent.glob("*.asf"))) > 1:
            raise ValueError(f"{skeleton_file.parent} must hold one *.asf file, so that its *.amc files belong to it")
        motion_files = sorted(skeleton_file.parent.glob("*.amc"))
        if motion_files:
            recordings.append((skeleton_file, motion_files))
    if not recordings:
        raise ValueError(f"{folder} must hold *.asf files with *.amc files beside them, found none")
    return recordings


def skeletons_from_mocap(body: Body, motions: MotionLibrary, shape: Tensor | None = None) -> Tensor:
    """Human3.6M skeletons of all frames of a library, relative to the pelvis: (frames, 17, 3), mm, z up.

    Args:
        body: The body that moves.
        motions: The frames.
        shape: Shape coefficients `(components,)` of the one who moves, the mean shape if None.
    """
    if shape is None:
        shape = torch.zeros(body.shape_samples.shape[1])
    shapes = shape.to(body.shape_samples).expand(len(motions), -1)
    joints = body.joints(shapes, motions.rotations.to(body.device))
    return (joints - joints[:, :1]) * METRES_TO_MM
