"""Motion capture files as skeletons without pictures, for the refinement network: BVH, and Acclaim's ASF with AMC.

Shape vocabulary: `frames`, `joints`. Positions are mm in the axes of a level camera: x right, y down, z forward.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from ..formats.acclaim import bone_ends_mm, read_amc, read_asf
from ..formats.bvh import UNITS_MM, BvhMotion, read_bvh
from ..formats.rig import END_SITE_SUFFIX
from ..skeleton_jointdetr import CMU_MOCAP, Skeleton
from .conversion import Converter, Recording, RowLabels
from .joint_names import package_names, read_names, side_pairs

TO_CAMERA_AXES = {
    "y": np.array([[1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, -1.0]]),
    "z": np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]]),
}
"""From the file's axes, by which one is up, to x right, y down, z forward."""

CMU_UNIT = "CMU's 1/0.45 inch"
GUESSED_UNITS_MM = UNITS_MM | {CMU_UNIT: 25.4 / 0.45}
CMU_JOINTS = {"lhipjoint", "lowerback"}  # only CMU's skeletons have them, in any spelling
# Joints above and below a bone: its length, from that of a child of one metre to that of a person of 2.1 m.
BONES_MM = {("hip", "knee"): (200.0, 520.0), ("shoulder", "elbow"): (130.0, 400.0)}

CMU_BONES = (
    *("root", "lhipjoint", "lfemur", "ltibia", "lfoot", "ltoes"),
    *("rhipjoint", "rfemur", "rtibia", "rfoot", "rtoes"),
    *("lowerback", "upperback", "thorax", "lowerneck", "upperneck", "head"),
    *("lclavicle", "lhumerus", "lradius", "lwrist", "lhand", "lfingers", "lthumb"),
    *("rclavicle", "rhumerus", "rradius", "rwrist", "rhand", "rfingers", "rthumb"),
)
"""The recorded bone that ends at each joint of the skeleton `cmu_mocap`."""


@dataclass(frozen=True)
class Bvh(Converter):
    """BVH files that share one skeleton."""

    source: Path  # a file, or a folder that is searched with its subfolders
    step: int = 10  # keep every `step`-th frame
    unit: str | None = None  # by name or in mm; left out, the one that makes thighs and upper arms a person's
    up: Literal["y", "z"] = "y"  # the axis that points up
    names: Path | None = None  # `read_names`: this package's name of joints that the files call something else
    skeletons_only: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.unit is not None:
            unit_mm(self.unit)

    @cached_property
    def skeleton(self) -> Skeleton:
        """Skeleton of the first file, with the names of this package where they are known."""
        return bvh_skeleton(self._first, self._names)

    @cached_property
    def _first(self) -> BvhMotion:
        return read_bvh(self.recordings()[0].source)

    @cached_property
    def _names(self) -> dict[str, str]:
        return read_names(self.names)

    def remarks(self, recording: Recording) -> list[str]:
        """Joints whose names are not known; the same for all files."""
        kept = [new for own, new in zip(self._first.names, self.skeleton.joints, strict=True) if own == new]
        own = [name for name in kept if not name.endswith(END_SITE_SUFFIX) and name not in self._names]
        return [f"joints that keep their own names, which `--set names=FILE` maps: {', '.join(own)}"] if own else []

    def recordings(self) -> list[Recording]:
        """One for each file."""
        return _recordings(self.source, ".bvh")

    def rows(self, recording: Recording) -> Iterator[RowLabels]:
        """Skeletons of every `step`-th frame."""
        motion = read_bvh(recording.source)
        found = bvh_skeleton(motion, self._names)
        if (found.joints, found.parents) != (self.skeleton.joints, self.skeleton.parents):
            different = sorted(set(found.joints) ^ set(self.skeleton.joints)) or "their order or parents"
            expected = "all files must have the skeleton of the first one"
            raise ValueError(f"{recording.source}: {expected}; different are {different}")
        scale = unit_mm(self.unit) if self.unit else guess_unit_mm(recording.source, motion, found)
        joints = motion.positions(self.step) * scale @ TO_CAMERA_AXES[self.up].T  # (frames, joints, 3)
        for number, pose in enumerate(joints):
            yield {"joints_3d": pose, "action": recording.source.stem, "frame": number * self.step}


@dataclass(frozen=True)
class AsfAmc(Converter):
    """Acclaim motion capture as CMU gives it: a skeleton `*.asf` and its motions `*.amc` in one folder."""

    source: Path  # a folder that is searched with its subfolders
    step: int = 12  # keep every `step`-th frame; CMU's are 1/120 s apart
    skeleton: ClassVar[Skeleton] = CMU_MOCAP
    skeletons_only: ClassVar[bool] = True

    def recordings(self) -> list[Recording]:
        """One for each motion; `data` is the skeleton's file."""
        found = []
        for motion in _recordings(self.source, ".amc"):
            folder = motion.source.parent
            skeletons = sorted(folder.glob("*.asf"))
            if len(skeletons) != 1:
                raise ValueError(f"{folder} must hold one *.asf file for its *.amc files, got {len(skeletons)}")
            found.append(motion._replace(data=skeletons[0]))
        return found

    def rows(self, recording: Recording) -> Iterator[RowLabels]:
        """Skeletons of every `step`-th frame."""
        skeleton = read_asf(recording.data)
        motion = read_amc(recording.source, self.step)
        try:
            ends = bone_ends_mm(skeleton, motion)  # (frames, bones, 3)
            if missing := sorted(set(CMU_BONES) - set(skeleton.names)):
                raise ValueError(f"the skeleton must have the bones of CMU's motion capture, missing are {missing}")
        except ValueError as error:
            raise ValueError(f"{recording.source} with {recording.data}: {error}") from error
        joints = ends[:, [skeleton.names.index(bone) for bone in CMU_BONES]] @ TO_CAMERA_AXES["y"].T
        for number, pose in enumerate(joints):
            yield {"joints_3d": pose, "action": recording.source.stem, "frame": number * self.step}


def bvh_skeleton(motion: BvhMotion, names: Mapping[str, str] | None = None) -> Skeleton:
    """Describe the joints of a BVH file; well-known names, and those in `names`, become those of this package."""
    joints = package_names(motion.names, names)
    return Skeleton("bvh", tuple(joints), motion.parents, tuple(side_pairs(motion.names, joints)), root=0)


def unit_mm(unit: str) -> float:
    """Return the size in mm of a unit by its name, or of a number of mm."""
    try:
        size = UNITS_MM[unit] if unit in UNITS_MM else float(unit)
    except ValueError:
        size = 0.0
    if not 0.0 < size < float("inf"):
        raise ValueError(f"`unit` must be one of {', '.join(UNITS_MM)} or its length in mm, got {unit!r}")
    return size


def guess_unit_mm(path: Path, motion: BvhMotion, skeleton: Skeleton | None = None) -> float:
    """Return the size in mm of the unit in which thighs and upper arms are as long as a person's.

    Raises:
        ValueError: No such bone is known by its name, or no unit, or more than one, would do.
    """
    pose = replace(motion, values=motion.values[:1]).positions()[0]  # (joints, 3); files may overrule their offsets
    at = dict(zip((skeleton or bvh_skeleton(motion)).joints, pose, strict=True))
    lengths = {}  # mean of both sides, in the unit of the file
    for above, below in BONES_MM:
        sides = [side for side in ("left", "right") if {f"{side}_{above}", f"{side}_{below}"} <= at.keys()]
        if sides:
            bones = [at[f"{side}_{above}"] - at[f"{side}_{below}"] for side in sides]
            lengths[above, below] = np.linalg.norm(bones, axis=-1).mean()
    if not lengths:
        raise ValueError(
            f"{path}: the unit is told by thighs and upper arms, of which none is known by its name among "
            f"{', '.join(motion.names[:12])} ...; give it, as `--set unit=cm` does, or the names by `--set names=FILE`"
        )
    fits = {
        name: unit
        for name, unit in GUESSED_UNITS_MM.items()
        if all(BONES_MM[bone][0] <= length * unit <= BONES_MM[bone][1] for bone, length in lengths.items())
    }
    is_cmu = {re.sub(r"[^a-z]", "", name.lower()) for name in motion.names} >= CMU_JOINTS
    if is_cmu and CMU_UNIT in fits:
        return fits[CMU_UNIT]
    if len(fits) != 1:
        said = " and ".join(f"{length:.4g} to the {below}" for (_, below), length in lengths.items())
        raise ValueError(
            f"{path}: bones must be as long as a person's in one of {', '.join(GUESSED_UNITS_MM)}, got {said}, which "
            f"fits {', '.join(fits) or 'none'}; say the unit, as `--set unit=cm` or `--set unit=56.44` (mm) does"
        )
    return next(iter(fits.values()))


def _recordings(source: Path, suffix: str) -> list[Recording]:
    """The file itself, or the files of a folder and its subfolders in their order, named by their paths."""
    files = [source] if source.is_file() else sorted(source.rglob(f"*{suffix}"))
    if not files or files[0].suffix.lower() != suffix:
        raise ValueError(f"{source} must be a *{suffix} file or a folder with such files, found none")
    folder = source.parent if source.is_file() else source
    names = [re.sub(r"[^\w.-]+", "_", str(file.relative_to(folder).with_suffix(""))) for file in files]
    return [Recording(name, "train", file) for name, file in zip(names, files, strict=True)]
