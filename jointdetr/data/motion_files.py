"""Motion capture files as skeletons without pictures, for the refinement network: BVH, and Acclaim's ASF with AMC.

Shape vocabulary: `frames`, `joints`. Positions are mm in the axes of a level camera: x right, y down, z forward.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch

from ..skeleton_jointdetr import CMU_MOCAP, Skeleton
from ..synthesis.mocap import RecordedSkeleton, read_amc, read_asf, world_rotations
from .bvh import BvhMotion, read_bvh
from .conversion import Converter, Labels, Recording

TO_CAMERA_AXES = {
    "y": np.array([[1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, -1.0]]),
    "z": np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]]),
}
"""From the file's axes, by which one is up, to x right, y down, z forward."""

UNITS_MM = {"mm": 1.0, "cm": 10.0, "inch": 25.4, "m": 1000.0}
SHORTEST_PERSON_MM, TALLEST_PERSON_MM = 1000.0, 2300.0

# A limb's joint here, and what makers of BVH files call it, in lower case without side and punctuation.
LIMB_JOINTS = {
    "hip": ("upleg", "upperleg", "thigh", "hip"),
    "knee": ("leg", "lowerleg", "lowleg", "shin", "calf", "knee"),
    "ankle": ("foot", "ankle"),
    "foot": ("toebase", "toe", "toes", "ball"),
    "collar": ("collar", "clavicle"),
    "shoulder": ("arm", "upperarm", "uparm", "shldr", "shoulder"),
    "elbow": ("forearm", "lowerarm", "lowarm", "elbow"),
    "wrist": ("hand", "wrist", "forearmend", "lowerarmend", "lowarmend", "elbowend"),
}
# The root of a BVH lies anywhere about the hips and its lowest spine joint anywhere above, so neither is taken as the
# pelvis or the spine of other skeletons: `map_skeleton` has formulas for these.
TRUNK_JOINTS = {"neck": ("neck",), "skull_base": ("head",), "head_top": ("headend", "headtopend", "headtop")}
SIDE = re.compile(r"^([Ll]eft|[Rr]ight|[lrLR](?=[A-Z_. ]))|([Ll]eft|[Rr]ight|(?<=[_. ])[lrLR])$")

# Joints at the ends of CMU's bones, without their side; the trunk's first.
CMU_TRUNK = {
    "root": "root",
    "lowerback": "lower_back",
    "upperback": "upper_back",
    "thorax": "thorax",
    "lowerneck": "lower_neck",
    "upperneck": "upper_neck",
    "head": "head_top",
}
CMU_LIMBS = {
    "hipjoint": "hip",
    "femur": "knee",
    "tibia": "ankle",
    "foot": "foot",
    "toes": "toes",
    "clavicle": "shoulder",
    "humerus": "elbow",
    "radius": "wrist",
    "wrist": "hand",
    "hand": "fingers",
    "fingers": "fingertips",
    "thumb": "thumb",
}


@dataclass(frozen=True)
class Bvh(Converter):
    """BVH files that share one skeleton.

    Args:
        source: a file, or a folder that is searched with its subfolders.
        step: keep every `step`-th frame.
        unit: of the files; left out, the one that makes the skeleton a person's size.
        up: the axis that points up.
    """

    source: Path
    step: int = 10
    unit: Literal["mm", "cm", "inch", "m"] | None = None
    up: Literal["y", "z"] = "y"
    skeletons_only: ClassVar[bool] = True

    @cached_property
    def skeleton(self) -> Skeleton:
        """Skeleton of the first file, with the names of this package where they are known."""
        return bvh_skeleton(read_bvh(_files(self.source, ".bvh")[0]))

    def recordings(self) -> list[Recording]:
        """One for each file."""
        _require_step(self.step)
        return _name_recordings(self.source, _files(self.source, ".bvh"))

    def rows(self, recording: Recording) -> Iterator[Labels]:
        """Skeletons of every `step`-th frame."""
        motion = read_bvh(recording.source)
        found = bvh_skeleton(motion)
        if (found.joints, found.parents) != (self.skeleton.joints, self.skeleton.parents):
            different = sorted(set(found.joints) ^ set(self.skeleton.joints)) or "their order or parents"
            raise ValueError(
                f"{recording.source}: all files must have the skeleton of the first one; different are {different}"
            )
        scale = UNITS_MM[self.unit] if self.unit else guess_unit_mm(recording.source, motion)
        joints = motion.positions(self.step) * scale @ TO_CAMERA_AXES[self.up].T  # (frames, joints, 3)
        yield from _skeleton_rows(joints, recording, self.step)


@dataclass(frozen=True)
class AsfAmc(Converter):
    """Acclaim motion capture as CMU gives it: a skeleton `*.asf` and its motions `*.amc` in one folder.

    Args:
        source: a folder that is searched with its subfolders.
        step: keep every `step`-th frame; CMU's are 1/120 s apart.
    """

    source: Path
    step: int = 12
    skeleton: ClassVar[Skeleton] = CMU_MOCAP
    skeletons_only: ClassVar[bool] = True

    def recordings(self) -> list[Recording]:
        """One for each motion; `data` is the skeleton's file."""
        _require_step(self.step)
        motions = _files(self.source, ".amc")
        return [entry._replace(data=_asf_of(entry.source)) for entry in _name_recordings(self.source, motions)]

    def rows(self, recording: Recording) -> Iterator[Labels]:
        """Skeletons of every `step`-th frame."""
        skeleton = read_asf(recording.data)
        motion = read_amc(recording.source, self.step)
        try:
            ends = bone_ends_mm(skeleton, motion).numpy()  # (frames, bones, 3)
            joints = ends[:, cmu_bones(skeleton)] @ TO_CAMERA_AXES["y"].T
        except ValueError as error:
            raise ValueError(f"{recording.source} with {recording.data}: {error}") from error
        yield from _skeleton_rows(joints, recording, self.step)


def bvh_skeleton(motion: BvhMotion) -> Skeleton:
    """Describe the joints of a BVH file; well-known names become those of this package, others stay."""
    split = [_split_side(name) for name in motion.names]
    pairs = [
        (joint, split.index(("right", part)))
        for joint, (side, part) in enumerate(split)
        if side == "left" and ("right", part) in split
    ]
    return Skeleton("bvh", tuple(_joint_names(motion.names)), motion.parents, tuple(pairs), root=0)


def guess_unit_mm(path: Path, motion: BvhMotion) -> float:
    """Return the size in mm of the unit in which the skeleton at rest is as long as a person.

    Raises:
        ValueError: It is none in mm, cm, inches or metres.
    """
    length = float(np.ptp(motion.rest_pose(), axis=0).max())
    for unit_mm in UNITS_MM.values():
        if SHORTEST_PERSON_MM <= length * unit_mm <= TALLEST_PERSON_MM:
            return unit_mm
    raise ValueError(
        f"{path}: expected a skeleton as long as a person in {', '.join(UNITS_MM)}, got {length:.4g}; "
        "say its unit, as `--set unit=cm` does"
    )


def bone_ends_mm(skeleton: RecordedSkeleton, motion: dict[str, torch.Tensor]) -> torch.Tensor:
    """Where the bones of a recorded skeleton end, relative to its root: `(frames, bones, 3)` mm, recorded axes."""
    turned = world_rotations(skeleton, motion)  # (frames, bones, 3, 3)
    bones = skeleton.directions * skeleton.lengths_mm[:, None]  # (bones, 3)
    ends: list[torch.Tensor] = []
    for bone, parent in enumerate(skeleton.parents):
        along = turned[:, bone] @ bones[bone]  # (frames, 3)
        ends.append(along if parent < 0 else ends[parent] + along)
    return torch.stack(ends, dim=1)


def cmu_bones(skeleton: RecordedSkeleton) -> list[int]:
    """Index of the recorded bone that ends at each joint of `CMU_MOCAP`.

    Raises:
        ValueError: A bone is missing.
    """
    bones = {joint: bone for bone, joint in CMU_TRUNK.items()}
    for side in ("left", "right"):
        bones |= {f"{side}_{joint}": f"{side[0]}{bone}" for bone, joint in CMU_LIMBS.items()}
    missing = sorted(set(bones.values()) - set(skeleton.names))
    if missing:
        raise ValueError(f"the skeleton must have the bones of CMU's motion capture, missing are {missing}")
    return [skeleton.names.index(bones[joint]) for joint in CMU_MOCAP.joints]


def _joint_names(names: tuple[str, ...]) -> list[str]:
    """Names of this package for the joints of a BVH file; what is unknown, or would be there twice, keeps its own."""
    split = [_split_side(name) for name in names]
    has_arm = any(part in LIMB_JOINTS["shoulder"][:4] for _, part in split)
    renamed = []
    for own, (side, part) in zip(names, split, strict=True):
        new = _known_name(side, part, has_arm)
        renamed.append(own if new is None or new in renamed else new)
    return renamed


def _split_side(name: str) -> tuple[str, str]:
    """Side and the rest of a name, in lower case without punctuation: "mixamorig:LeftUpLeg" is ("left", "upleg")."""
    plain = name.rpartition(":")[2]
    found = SIDE.search(plain)
    if found is None:
        return "", re.sub(r"[^a-z0-9]", "", plain.lower())
    side = "left" if (found[1] or found[2]).lower().startswith("l") else "right"
    return side, re.sub(r"[^a-z0-9]", "", (plain[: found.start()] + plain[found.end() :]).lower())


def _known_name(side: str, part: str, has_arm: bool) -> str | None:
    """Name of a joint in this package, None if it is not a well-known one."""
    if has_arm and part == "shoulder":
        part = "collar"  # where arms begin with an arm, the shoulder is the joint before it
    table = LIMB_JOINTS if side else TRUNK_JOINTS
    for joint, spellings in table.items():
        if part in spellings:
            return f"{side}_{joint}" if side else joint
    return None


def _skeleton_rows(joints: np.ndarray, recording: Recording, step: int) -> Iterator[Labels]:
    """Rows of `skeleton_features` for frames `(frames, joints, 3)` mm."""
    for number, pose in enumerate(joints):
        yield {"joints_3d": pose, "action": recording.source.stem, "frame": number * step}


def _files(source: Path, suffix: str) -> list[Path]:
    """Return the file itself, or the files of a folder and its subfolders in their order."""
    files = [source] if source.is_file() else sorted(source.rglob(f"*{suffix}"))
    if not files or files[0].suffix.lower() != suffix:
        raise ValueError(f"{source} must be a *{suffix} file or a folder with such files, found none")
    return files


def _name_recordings(source: Path, files: list[Path]) -> list[Recording]:
    """Name the recordings by the paths of their files."""
    folder = source.parent if source.is_file() else source
    names = [re.sub(r"[^\w.-]+", "_", str(file.relative_to(folder).with_suffix(""))) for file in files]
    return [Recording(name, "train", file) for name, file in zip(names, files, strict=True)]


def _asf_of(motion: Path) -> Path:
    """Return the one skeleton that lies beside a motion."""
    found = sorted(motion.parent.glob("*.asf"))
    if len(found) != 1:
        raise ValueError(f"{motion.parent} must hold one *.asf file for its *.amc files, got {len(found)}")
    return found[0]


def _require_step(step: int) -> None:
    """Refuse a step that leads nowhere."""
    if step < 1:
        raise ValueError(f"`step` must be 1 or more, got {step}")
