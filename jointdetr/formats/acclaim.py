"""Motion capture as Acclaim's ASF/AMC files, as CMU's data base has it: skeletons, and how far their bones turn.

Shape vocabulary: frames, bones of the recorded skeleton. Files have degrees. Recorded axes are y up and facing +z.

Source: the Acclaim file description; http://mocap.cs.cmu.edu for the data and its terms.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from .bvh import finite_numbers
from .rig import pose_nodes

CHANNELS = ("rx", "ry", "rz")
MM_PER_INCH = 25.4
Line = tuple[str, list[str]]  # the file and the line's number, for errors; its words


@dataclass(frozen=True)
class RecordedSkeleton:
    """The skeleton of an ASF file."""

    names: list[str]  # parents first; the first is "root"
    parents: list[int]  # -1 for the root
    directions: np.ndarray  # (bones, 3), where each bone points at rest; the root's is zero
    lengths_mm: np.ndarray  # (bones,), the root's is zero
    axes: np.ndarray  # (bones, 3, 3), the axes each bone turns about
    channels: list[tuple[str, ...]]  # what a line of the motion file says about each bone, such as ("rx", "rz")


def read_asf(path: Path | str) -> RecordedSkeleton:
    """Read the skeleton of an ASF file."""
    sections = _sections(Path(path))
    for required in ("root", "bonedata", "hierarchy"):
        if required not in sections:
            raise ValueError(f"{path}: expected a section `:{required}`, found {sorted(sections)}")
    lines, root = sections["bonedata"], _entries(sections["root"])
    starts = [number for number, (_, words) in enumerate(lines) if words[0].lower() == "begin"]
    blocks = [_entries(lines[start:end]) for start, end in zip(starts, [*starts[1:], len(lines)], strict=True)]
    bones = {" ".join(block["name"][1]): block for block in blocks if "name" in block}
    if "order" not in root:
        raise ValueError(f"{path}: section `:root` has no line `order`")
    parents = _read_hierarchy(sections["hierarchy"], set(bones))
    entries = [{"dof": root["order"]}, *(bones[name] for name in parents)]
    for where, words in (entry["axis"] for entry in entries if "axis" in entry):
        if words[3:] != ["XYZ"]:
            raise ValueError(f"{where}: expected an axis in the order XYZ, got {words[3:]}")
    names = ["root", *parents]
    units_per_inch = _numbers(_entries(sections.get("units", [])), "length", 1).item() or 1.0  # CMU's way to say it
    lengths = np.stack([_numbers(entry, "length", 1)[0] for entry in entries])
    return RecordedSkeleton(
        names=names,
        parents=[-1, *map(names.index, parents.values())],
        directions=np.stack([_numbers(entry, "direction", 3) for entry in entries]),
        lengths_mm=MM_PER_INCH / units_per_inch * lengths,
        axes=_rotations(np.stack([_numbers(entry, "axis", 3) for entry in entries])),
        channels=[_channels(entry) for entry in entries],
    )


def _lines(path: Path) -> Iterator[Line]:
    """The lines of a file, without comments and empty ones."""
    with open(path, encoding="ascii", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            words = line.split()
            if words and not words[0].startswith("#"):
                yield f"{path}, line {number}", words


def _sections(path: Path) -> dict[str, list[Line]]:
    """The lines of each `:section` of an ASF file."""
    sections: dict[str, list[Line]] = {}
    current: list[Line] = []
    for where, words in _lines(path):
        if words[0].startswith(":"):
            current = sections.setdefault(words[0][1:].lower(), [])
        else:
            current.append((where, words))
    return sections


def _entries(lines: Sequence[Line]) -> dict[str, Line]:
    """Lines by their first word, which is taken off."""
    return {words[0].lower(): (where, words[1:]) for where, words in lines}


def _read_hierarchy(lines: Sequence[Line], known: set[str]) -> dict[str, str]:
    """The parent of each bone, parents before children, from section `:hierarchy`."""
    parents: dict[str, str] = {}
    for where, words in lines:
        if words[0] in ("begin", "end"):
            continue
        if words[0] != "root" and words[0] not in parents:
            raise ValueError(f"{where}: `{words[0]}` has children but no parent yet")
        for child in words[1:]:
            if child not in known or child in parents:
                raise ValueError(f"{where}: `{child}` is not a bone of `:bonedata`, or has two parents")
            parents[child] = words[0]
    return parents


def _numbers(entry: dict[str, Line], keyword: str, count: int) -> np.ndarray:
    """The `(count,)` numbers behind a keyword, zero where it is not there."""
    if keyword not in entry:
        return np.zeros(count)
    where, words = entry[keyword]
    return finite_numbers(words[:count], count, where)


def _channels(entry: dict[str, Line]) -> tuple[str, ...]:
    """What a bone's line of the motion file says, in lower case."""
    where, words = entry.get("dof", ("", []))
    channels = tuple(word.lower() for word in words)
    if unknown := set(channels) - {"tx", "ty", "tz", *CHANNELS}:
        raise ValueError(f"{where}: expected channels such as rx or ty, got {sorted(unknown)}")
    return channels


def read_amc(path: Path | str, stride: int = 1) -> dict[str, np.ndarray]:
    """Read every `stride`-th frame of an AMC file: degrees `(frames, channels)` of each bone, in the ASF's order."""
    frames: list[dict[str, np.ndarray]] = []
    number = -1
    for where, words in _lines(Path(path)):
        if words[0].startswith(":"):
            if words[0].upper() == ":RADIANS":
                raise ValueError(f"{where}: expected angles in degrees, got {words[0]}")
        elif len(words) == 1 and words[0].isdigit():
            number += 1
            frames += [{}] if number % stride == 0 else []
        elif number < 0:
            raise ValueError(f"{where}: expected a frame's number before `{words[0]}`")
        elif number % stride == 0:
            frames[-1][words[0]] = finite_numbers(words[1:], len(words) - 1, where)
    if not frames or not frames[0]:
        raise ValueError(f"{path}: expected at least one frame with bones, found none")
    expected, *others = ({bone: len(values) for bone, values in frame.items()} for frame in frames)
    for number, found in enumerate(others, start=1):
        if different := sorted(dict(expected.items() ^ found.items())):
            raise ValueError(f"{path}: frame {number * stride + 1} and the first one differ in {different}")
    return {bone: np.array([frame[bone] for frame in frames]) for bone in frames[0]}


def world_rotations(skeleton: RecordedSkeleton, motion: dict[str, np.ndarray]) -> np.ndarray:
    """How far each recorded bone has turned from rest, in recorded axes: (frames, bones, 3, 3)."""
    unknown = set(motion) - set(skeleton.names)
    if "root" not in motion or unknown:
        raise ValueError(f"the motion must be of this skeleton and have a root, got unknown bones {sorted(unknown)}")
    degrees = np.zeros((len(motion["root"]), len(skeleton.names), 3))
    for name, values in motion.items():
        bone = skeleton.names.index(name)
        channels = skeleton.channels[bone]
        if values.shape[1] != len(channels):
            raise ValueError(f"`{name}` must have the channels {channels}, got {values.shape[1]} numbers")
        for channel, turns in zip(channels, values.T, strict=True):
            if channel in CHANNELS:
                degrees[:, bone, CHANNELS.index(channel)] = turns
    local = skeleton.axes @ _rotations(degrees) @ np.swapaxes(skeleton.axes, 1, 2)
    return pose_nodes(skeleton.parents, local, np.zeros_like(degrees))[0]


def bone_ends_mm(skeleton: RecordedSkeleton, motion: dict[str, np.ndarray]) -> np.ndarray:
    """Where the bones of a recorded skeleton end, relative to its root: `(frames, bones, 3)` mm, recorded axes."""
    turned = world_rotations(skeleton, motion)  # (frames, bones, 3, 3)
    bones = skeleton.directions * skeleton.lengths_mm[:, None]  # (bones, 3)
    ends = (turned @ bones[..., None])[..., 0]  # (frames, bones, 3), of each bone from where it begins
    for bone, parent in enumerate(skeleton.parents):
        if parent >= 0:
            ends[:, bone] += ends[:, parent]
    return ends


def _rotations(degrees: np.ndarray) -> np.ndarray:
    """Rotations about x, then y, then z of the fixed axes, from degrees `(..., 3)`: `(..., 3, 3)`."""
    turns = Rotation.from_euler("xyz", degrees.reshape(-1, 3), degrees=True)
    return turns.as_matrix().reshape(*degrees.shape, 3)
