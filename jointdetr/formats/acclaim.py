"""Motion capture as Acclaim's ASF/AMC files, as CMU's data base has it: skeletons, and how far their bones turn.

Shape vocabulary: frames, bones of the recorded skeleton. Files have degrees. Recorded axes are y up and facing +z.

Source: the Acclaim file description; http://mocap.cs.cmu.edu for the data and its terms.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

CHANNELS = ("rx", "ry", "rz")
MM_PER_INCH = 25.4


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
    directions: np.ndarray
    lengths_mm: np.ndarray
    axes: np.ndarray
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
        directions=np.array([bones[name].direction for name in names]),
        lengths_mm=_unit_mm(path, sections.get("units", [])) * np.array(lengths),
        axes=_rotations([bones[name].axis for name in names]),
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


def read_amc(path: Path | str, stride: int = 1) -> dict[str, np.ndarray]:
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
    return {bone: np.array([frame[bone] for frame in frames]) for bone in frames[0]}


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


def world_rotations(skeleton: RecordedSkeleton, motion: dict[str, np.ndarray]) -> np.ndarray:
    """How far each recorded bone has turned from rest, in recorded axes: (frames, bones, 3, 3).

    Raises:
        ValueError: The motion lacks the root, or has other channels than the skeleton.
    """
    unknown = set(motion) - set(skeleton.names)
    if "root" not in motion or unknown:
        raise ValueError(f"the motion must be of this skeleton and have a root, got unknown bones {sorted(unknown)}")
    num_frames = len(motion["root"])
    turned: list[np.ndarray] = []
    for bone, (name, parent) in enumerate(zip(skeleton.names, skeleton.parents, strict=True)):
        values = motion.get(name, np.zeros((num_frames, 0)))
        channels = skeleton.channels[bone] if name in motion else ()
        if values.shape[1] != len(channels):
            raise ValueError(f"`{name}` must have the channels {channels}, got {values.shape[1]} numbers")
        degrees = np.zeros((num_frames, 3))
        for channel, value in zip(channels, values.T, strict=True):
            if channel in CHANNELS:
                degrees[:, CHANNELS.index(channel)] = value
        axes = skeleton.axes[bone]
        local = axes @ _rotations(degrees) @ axes.T
        turned.append(local if parent < 0 else turned[parent] @ local)
    return np.stack(turned, axis=1)


def bone_ends_mm(skeleton: RecordedSkeleton, motion: dict[str, np.ndarray]) -> np.ndarray:
    """Where the bones of a recorded skeleton end, relative to its root: `(frames, bones, 3)` mm, recorded axes."""
    turned = world_rotations(skeleton, motion)  # (frames, bones, 3, 3)
    bones = skeleton.directions * skeleton.lengths_mm[:, None]  # (bones, 3)
    ends: list[np.ndarray] = []
    for bone, parent in enumerate(skeleton.parents):
        along = turned[:, bone] @ bones[bone]  # (frames, 3)
        ends.append(along if parent < 0 else ends[parent] + along)
    return np.stack(ends, axis=1)


def _rotations(degrees: np.ndarray | list) -> np.ndarray:
    """Rotations about x, then y, then z of the fixed axes, from degrees `(..., 3)`: `(..., 3, 3)`."""
    return Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
