"""Motion capture: Acclaim ASF/AMC files, as CMU's data base has them, turned into poses of the body.

A bone of the recorded skeleton turns a bone of the body by the same rotation in the world; limbs are first turned from
the body's rest direction to the recorded skeleton's, so that both point the same way.

Shapes: frames, bones (of the body or of the recorded skeleton), joints (17). Angles in files are degrees. Recorded
axes are y up and facing +z; the body's are z up and facing -y.

Source of the formats: the Acclaim file description, http://mocap.cs.cmu.edu for the data and its terms.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .body import Body
from .draws import Draws
from .rotations import rotation_about, rotation_between

# From y up, facing +z, to z up, facing -y.
TO_BODY_AXES = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
CHANNELS = ("rx", "ry", "rz")
METRES_TO_MM = 1000.0
MM_PER_INCH = 25.4

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


@dataclass(frozen=True)
class RecordedSkeleton:
    """The skeleton of an ASF file.

    Args:
        names: Name of each bone, parents first; the first is "root".
        parents: Index of each bone's parent, -1 for the root.
        directions: `(bones, 3)`, where each bone points at rest; the root's is zero.
        lengths_mm: `(bones,)`, the root's is zero.
        axes: `(bones, 3, 3)`, the axes each bone turns about.
        channels: What a line of the motion file says about each bone, such as ("rx", "rz").
    """

    names: list[str]
    parents: list[int]
    directions: Tensor
    lengths_mm: Tensor
    axes: Tensor
    channels: list[tuple[str, ...]]


def read_asf(path: Path | str) -> RecordedSkeleton:
    """Read the skeleton of an ASF file.

    Raises:
        ValueError: The file is not an ASF file this reader knows, with the file's name and the line.
    """
    path = Path(path)
    sections = _sections(path)
    for required in ("root", "bonedata", "hierarchy"):
        if required not in sections:
            raise ValueError(f"{path}: expected a section `:{required}`, found {sorted(sections)}")
    bones = _read_bones(path, sections["bonedata"])
    bones["root"] = _read_root(path, sections["root"])
    parents = _read_hierarchy(path, sections["hierarchy"], set(bones))
    names = ["root", *parents]
    lengths = [bones[name].length for name in names]
    return RecordedSkeleton(
        names=names,
        parents=[names.index(parents[name]) if name in parents else -1 for name in names],
        directions=torch.tensor([bones[name].direction for name in names], dtype=torch.float64),
        lengths_mm=_unit_mm(path, sections.get("units", [])) * torch.tensor(lengths, dtype=torch.float64),
        axes=_rotation_xyz(torch.tensor([bones[name].axis for name in names], dtype=torch.float64)),
        channels=[bones[name].channels for name in names],
    )


@dataclass
class _Bone:
    """What an ASF file says about one bone."""

    direction: tuple[float, ...] = (0.0, 0.0, 0.0)
    length: float = 0.0
    axis: tuple[float, ...] = (0.0, 0.0, 0.0)
    channels: tuple[str, ...] = ()


Line = tuple[int, list[str]]


def _lines(path: Path) -> Iterator[Line]:
    """Line numbers and words of a file, without comments and empty lines."""
    with open(path, encoding="ascii", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            words = line.split()
            if words and not words[0].startswith("#"):
                yield number, words


def _sections(path: Path) -> dict[str, list[Line]]:
    """The lines of each `:section` of an ASF file."""
    sections: dict[str, list[Line]] = {}
    current: list[Line] = []
    for number, words in _lines(path):
        if words[0].startswith(":"):
            current = sections.setdefault(words[0][1:].lower(), [])
        else:
            current.append((number, words))
    return sections


def _numbers(path: Path, line: Line, count: int) -> tuple[float, ...]:
    """The `count` finite numbers that follow a line's first word."""
    number, words = line
    try:
        values = tuple(float(word) for word in words[1 : count + 1])
    except ValueError:
        values = ()
    if len(values) != count or not np.isfinite(values).all():
        raise ValueError(f"{path}, line {number}: expected {count} numbers after `{words[0]}`, got {words[1:]}")
    return values


def _unit_mm(path: Path, lines: list[Line]) -> float:
    """The unit of length in mm: CMU's files give the number of units in an inch."""
    for line in lines:
        if line[1][0].lower() == "length":
            (units_per_inch,) = _numbers(path, line, 1)
            if units_per_inch <= 0:
                raise ValueError(f"{path}, line {line[0]}: expected a length above 0, got {units_per_inch}")
            return MM_PER_INCH / units_per_inch
    return MM_PER_INCH


def _read_root(path: Path, lines: list[Line]) -> _Bone:
    """The root's channels, from its line `order`."""
    for number, words in lines:
        if words[0].lower() == "order":
            channels = tuple(word.lower() for word in words[1:])
            _require_channels(path, number, channels)
            return _Bone(channels=channels)
    raise ValueError(f"{path}: section `:root` has no line `order`")


def _require_channels(path: Path, number: int, channels: tuple[str, ...]) -> None:
    """Refuse channels that are neither a translation nor a rotation."""
    unknown = set(channels) - {"tx", "ty", "tz", *CHANNELS}
    if unknown:
        raise ValueError(f"{path}, line {number}: expected channels such as rx or ty, got {sorted(unknown)}")


def _read_bones(path: Path, lines: list[Line]) -> dict[str, _Bone]:
    """The bones of section `:bonedata`."""
    bones: dict[str, _Bone] = {}
    bone = None
    for line in lines:
        number, words = line
        keyword = words[0].lower()
        if keyword == "begin":
            bone = _Bone()
        elif keyword == "name" and bone is not None and len(words) == 2:
            bones[words[1]] = bone
        elif keyword in ("name", "direction", "length", "axis", "dof") and bone is None:
            raise ValueError(f"{path}, line {number}: `{keyword}` stands outside of a bone's `begin` and `end`")
        elif keyword == "direction":
            bone.direction = _numbers(path, line, 3)
        elif keyword == "length":
            (bone.length,) = _numbers(path, line, 1)
        elif keyword == "axis":
            if words[4:] != ["XYZ"]:
                raise ValueError(f"{path}, line {number}: expected an axis in the order XYZ, got {words[4:]}")
            bone.axis = _numbers(path, line, 3)
        elif keyword == "dof":
            bone.channels = tuple(word.lower() for word in words[1:])
            _require_channels(path, number, bone.channels)
        elif keyword == "end":
            bone = None
    return bones


def _read_hierarchy(path: Path, lines: list[Line], known: set[str]) -> dict[str, str]:
    """The parent of each bone, parents before children, from section `:hierarchy`."""
    parents: dict[str, str] = {}
    for number, words in lines:
        if words[0] in ("begin", "end"):
            continue
        if words[0] != "root" and words[0] not in parents:
            raise ValueError(f"{path}, line {number}: `{words[0]}` has children but no parent yet")
        for child in words[1:]:
            if child not in known or child in parents:
                raise ValueError(f"{path}, line {number}: `{child}` is not a bone of `:bonedata`, or has two parents")
            parents[child] = words[0]
    return parents


def read_amc(path: Path | str, stride: int = 1) -> dict[str, Tensor]:
    """Read every `stride`-th frame of an AMC motion file.

    Returns:
        For each bone of the file its channels `(frames, channels)`, degrees, in the order the ASF file says.

    Raises:
        ValueError: The file is not an AMC file in degrees, or a frame is incomplete; it names the file and the line.
    """
    path = Path(path)
    if stride < 1:
        raise ValueError(f"`stride` must be 1 or more, got {stride}")
    frames: list[dict[str, tuple[float, ...]]] = []
    seen = 0
    for line in _lines(path):
        number, words = line
        if words[0].startswith(":"):
            if words[0].upper() == ":RADIANS":
                raise ValueError(f"{path}, line {number}: expected angles in degrees, got {words[0]}")
        elif len(words) == 1 and words[0].isdigit():
            _require_complete(path, number, frames)
            seen += 1
            if (seen - 1) % stride == 0:
                frames.append({})
        elif seen == 0:
            raise ValueError(f"{path}, line {number}: expected a frame's number before `{words[0]}`")
        elif (seen - 1) % stride == 0:
            frames[-1][words[0]] = _numbers(path, line, len(words) - 1)
    if not frames:
        raise ValueError(f"{path}: expected at least one frame, found none")
    _require_complete(path, number, frames)
    return {bone: torch.tensor([frame[bone] for frame in frames], dtype=torch.float64) for bone in frames[0]}


def _require_complete(path: Path, number: int, frames: list[dict[str, tuple[float, ...]]]) -> None:
    """Refuse a last frame that says less or more than the first one."""
    if not frames:
        return
    expected = {bone: len(values) for bone, values in frames[0].items()}
    found = {bone: len(values) for bone, values in frames[-1].items()}
    if not expected or found != expected:
        different = sorted(dict(expected.items() ^ found.items()))
        raise ValueError(
            f"{path}, line {number}: the frame that ends here has not the bones and channels of the first one, "
            f"different are {different or 'all, the frame is empty'}"
        )


def _rotation_xyz(degrees: Tensor) -> Tensor:
    """Rotation about x, then y, then z of the fixed axes, from degrees (..., 3): (..., 3, 3)."""
    x, y, z = torch.deg2rad(degrees).unbind(-1)
    return rotation_about("z", z) @ rotation_about("y", y) @ rotation_about("x", x)


def world_rotations(skeleton: RecordedSkeleton, motion: dict[str, Tensor]) -> Tensor:
    """How far each recorded bone has turned from rest, in recorded axes: (frames, bones, 3, 3).

    Raises:
        ValueError: The motion lacks the root, or has other channels than the skeleton.
    """
    unknown = set(motion) - set(skeleton.names)
    if "root" not in motion or unknown:
        raise ValueError(f"the motion must be of this skeleton and have a root, got unknown bones {sorted(unknown)}")
    num_frames = len(motion["root"])
    turned: list[Tensor] = []
    for bone, (name, parent) in enumerate(zip(skeleton.names, skeleton.parents, strict=True)):
        values = motion.get(name, torch.zeros(num_frames, 0, dtype=torch.float64))
        channels = skeleton.channels[bone] if name in motion else ()
        if values.shape[1] != len(channels):
            raise ValueError(f"`{name}` must have the channels {channels}, got {values.shape[1]} numbers")
        degrees = torch.zeros(num_frames, 3, dtype=torch.float64)
        for channel, value in zip(channels, values.unbind(1), strict=True):
            if channel in CHANNELS:
                degrees[:, CHANNELS.index(channel)] = value
        axes = skeleton.axes[bone]
        local = axes @ _rotation_xyz(degrees) @ axes.mT
        turned.append(local if parent < 0 else turned[parent] @ local)
    return torch.stack(turned, dim=1)


def retarget(body: Body, skeleton: RecordedSkeleton, motion: dict[str, Tensor]) -> Tensor:
    """Rotations for `Body.pose` that follow a recorded motion: (frames, body bones, 3, 3), float64.

    Raises:
        ValueError: The skeleton lacks a bone that moves the body, or the motion is not of this skeleton.
    """
    recorded = world_rotations(skeleton, motion)
    targets = {bone: TRUNK_BONES[name] for bone, name in _required(skeleton, TRUNK_BONES)}
    for side in "LR":
        limbs = {f"{side.lower()}{name}": f"{bone}.{side}" for name, bone in LIMB_BONES.items()}
        targets |= {bone: limbs[name] for bone, name in _required(skeleton, limbs)}

    turned: dict[int, Tensor] = {}
    for bone, target in targets.items():
        rotation = TO_BODY_AXES @ recorded[:, bone] @ TO_BODY_AXES.mT
        turned[body.bone(target)] = rotation @ _alignment(body, target, TO_BODY_AXES @ skeleton.directions[bone])
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
