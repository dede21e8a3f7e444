"""BVH motion files, read as they are, or as a person's motion, and written for Blender and other animation programs.

Read: BVH states neither its unit nor which way is up; both are kept as they are. Rotations are degrees about the
joint's own axes, applied in the order of the file. Written: y up, the person facing +z at rest, metres.

Source: Biovision's description, https://research.cs.wisc.edu/graphics/Courses/cs-838-1999/Jeff/BVH.html

Shape vocabulary: `frames`, `joints` of a file with its end sites, `channels` of a frame, `nodes` of the rig.
"""

import re
import sys
import warnings
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from .motions import PoseMotion, at_even_times, step_of
from .rig import END_SITE_SUFFIX, RigMotion, fit_rig, motion_of_nodes, pose_nodes

ROTATIONS = {"xrotation": "X", "yrotation": "Y", "zrotation": "Z"}
POSITIONS = {"xposition": 0, "yposition": 1, "zposition": 2}
UNITS_MM = {"mm": 1.0, "cm": 10.0, "inch": 25.4, "m": 1000.0}
USUAL_HEIGHT_MM = 1600.0  # from the lowest joint to the highest of whoever stands
LONGEST_NAME = 63  # bytes that Blender keeps of a bone's name
TIP = 0.3  # length of the end beyond the last joint, of the bone that leads to it
_Hierarchy = tuple[tuple[str, ...], tuple[int, ...], np.ndarray, tuple[tuple[str, ...], ...]]
"""Names, parents, offsets and channels, as a `BvhMotion` has them."""


@dataclass(frozen=True)
class BvhMotion:
    """A BVH file."""

    names: tuple[str, ...]  # parents first; an end site is named after its parent, with `_end`
    parents: tuple[int, ...]  # -1 for the root
    offsets: np.ndarray  # (joints, 3) from the parent, in the unit of the file
    channels: tuple[tuple[str, ...], ...]  # of each joint, in lower case, such as ("zrotation", "xrotation")
    frame_time_s: float
    values: np.ndarray  # (frames, channels) of all joints in their order

    def positions(self, step: int = 1) -> np.ndarray:
        """Where the joints are in every `step`-th frame: `(frames, joints, 3)`, unit of the file."""
        values = self.values[::step]
        turns = np.broadcast_to(np.eye(3), (len(values), len(self.names), 3, 3)).copy()
        places = np.broadcast_to(self.offsets, (len(values), len(self.names), 3)).copy()
        starts = np.cumsum([len(channels) for channels in self.channels])[:-1]
        for joint, (channels, numbers) in enumerate(zip(self.channels, np.split(values, starts, axis=1), strict=True)):
            of_joint = dict(zip(channels, numbers.T, strict=True))
            axes = [channel for channel in channels if channel in ROTATIONS]
            if axes:
                order = "".join(ROTATIONS[channel] for channel in axes)
                degrees = np.stack([of_joint[channel] for channel in axes], axis=-1)
                turns[:, joint] = Rotation.from_euler(order, degrees, degrees=True).as_matrix()
            for channel in POSITIONS.keys() & of_joint.keys():  # which stand for the offset
                places[:, joint, POSITIONS[channel]] = of_joint[channel]
        return pose_nodes(self.parents, turns, places)[1]


def read_bvh(path: str | Path) -> BvhMotion:
    """Read a BVH file as Blender does: blank lines, braces on a joint's line, any Unicode, the same name twice."""
    lines = _lines(Path(path).read_bytes())
    start = next((place for place, (_, line) in enumerate(lines) if line.upper() == "MOTION"), None)
    if not lines or lines[0][1].upper() != "HIERARCHY" or start is None:
        raise ValueError(f"{path}: expected a BVH file with the lines HIERARCHY and MOTION")
    hierarchy = _read_hierarchy(_statements(path, lines[1:start]), f"{path}, line {lines[start][0]}")
    return BvhMotion(*hierarchy, *_read_motion(path, lines[start:], sum(map(len, hierarchy[-1]))))


def read_bvh_motions(path: str | Path) -> list[PoseMotion]:
    """Read the one person of a BVH file, in the unit in which that person is about as tall as people are."""
    motion = read_bvh(path)
    straight = np.broadcast_to(np.eye(3), (len(motion.names), 3, 3))
    height = np.ptp(pose_nodes(motion.parents, straight, motion.offsets)[1][:, 1]) or 1.0
    unit_mm = min(UNITS_MM.values(), key=lambda unit: abs(np.log(height * unit / USUAL_HEIGHT_MM)))
    times_s = np.arange(len(motion.values)) * motion.frame_time_s
    return [motion_of_nodes(motion.names, motion.parents, motion.positions() * unit_mm, times_s)]


def _lines(content: bytes) -> list[tuple[int, str]]:
    """Lines that are not blank, with their numbers.

    Programs of Windows write UTF-16, a byte-order mark, or names in their country's encoding; Latin-1 reads every
    byte and keeps names apart.
    """
    try:
        text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    lines = re.split(r"\r\n|\r|\n", text)
    return [(number, kept) for number, line in enumerate(lines, 1) if (kept := line.strip(" \t\v\f\0\x1a"))]


def _statements(path: str | Path, lines: Iterable[tuple[int, str]]) -> Iterator[tuple[str, list[str]]]:
    """Words of each statement, a brace being one where it stands alone or ends a name; before them their line."""
    for number, line in lines:
        line = re.sub(r"(?<=\S)\{\s*$", " {", line)
        for statement in re.split(r"(?<!\S)([{}]|\{\})(?!\S)", line):
            if words := statement.split():
                yield f"{path}, line {number}", words


def _read_hierarchy(statements: Iterable[tuple[str, list[str]]], end: str) -> _Hierarchy:
    """Read joints and end sites; `end` names the line after them."""
    names, parents, offsets, channels = [], [], [], []
    opened: list[int] = []  # joints whose brace is not closed
    for where, words in statements:
        keyword = words[0].upper()
        if keyword in ("ROOT", "JOINT", "END"):
            if (keyword == "ROOT") == bool(names) or (names and not opened):
                raise ValueError(f"{where}: expected one ROOT with all other joints inside of it")
            parents.append(opened[-1] if opened else -1)
            name = names[parents[-1]] + END_SITE_SUFFIX if keyword == "END" else " ".join(words[1:])
            if not name:
                raise ValueError(f"{where}: expected a joint's name after {keyword}, got none")
            opened.append(len(names))
            names.append(unique_name(name, names))
            offsets.append(np.zeros(3))
            channels.append(())
        elif keyword == "OFFSET" and opened:
            offsets[opened[-1]] = finite_numbers(words[1:], 3, where)
        elif keyword == "CHANNELS" and opened:
            channels[opened[-1]] = _channels(words[1:], where)
        elif keyword == "}" and opened:
            opened.pop()
        elif keyword != "{":
            raise ValueError(f"{where}: expected a line of a BVH hierarchy, got {' '.join(words)!r}")
    if opened or not names:
        raise ValueError(f"{end}: the hierarchy before MOTION is not complete")
    return tuple(names), tuple(parents), np.array(offsets), tuple(channels)


def finite_numbers(words: Sequence[str], count: int, where: str) -> np.ndarray:
    """Read `(count,)` numbers from as many words; `where` names their line in the error."""
    try:
        values = np.array(words, dtype=np.float64)
    except ValueError:
        values = np.empty(0)
    if len(values) != count or not np.isfinite(values).all():
        raise ValueError(f"{where}: expected {count} finite numbers, got {' '.join(words)[:60]!r}")
    return values


def _channels(words: list[str], where: str) -> tuple[str, ...]:
    names = tuple(word.lower() for word in words[1:])
    known = set(names) <= {*ROTATIONS, *POSITIONS} and len(set(names)) == len(names)
    if not known or words[:1] != [str(len(names))]:
        raise ValueError(f"{where}: expected CHANNELS, their number and names such as Xrotation, got {words}")
    return names


def unique_name(name: str, taken: Collection[str], size: int = sys.maxsize) -> str:
    """Return a name that is not taken, of at most `size` bytes of UTF-8: itself, or with a number behind it."""
    number, ending = 1, ""
    while True:
        free = name.encode()[: size - len(ending)].decode(errors="ignore") + ending
        if free not in taken:
            return free
        number += 1
        ending = f"_{number}"


def _read_motion(path: str | Path, lines: list[tuple[int, str]], num_channels: int) -> tuple[float, np.ndarray]:
    """Read the frame time in seconds and the values `(frames, channels)` from the lines that begin with MOTION."""
    try:
        (_, count), (_, frame_time) = (line.split(":") for _, line in lines[1:3])
        num_frames, frame_time_s = int(count), float(frame_time)
    except ValueError as error:
        where = f"{path}, line {lines[0][0] + 1}"
        raise ValueError(f"{where}: expected `Frames:` and `Frame Time:`, each with a number") from error
    rows = lines[3:]
    if len(rows) != num_frames or num_frames < 1:
        raise ValueError(f"{path}: expected {num_frames} frames as line {lines[1][0]} says, got {len(rows)}; cut off?")
    values = [finite_numbers(line.split(), num_channels, f"{path}, line {number}") for number, line in rows]
    return frame_time_s, np.stack(values)


def write_bvh(motion: PoseMotion, path: str | Path) -> RigMotion:
    """Write one person's motion as BVH, with constant bone lengths and a rotation for each bone.

    The root moves as `motion.root_camera` says, seen from a camera at the origin that looks along -z; without it the
    root stays, and the lowest joint of the film touches the ground y = 0. Uneven times are resampled. Of what is
    returned, `describe()` says how far constant lengths moved the joints and which were filled in.

    Raises:
        ValueError: No joint is known in any frame.
    """
    rig = fit_rig(at_even_times(motion))
    orders = turning_orders(rig)
    angles = euler_degrees(rig.rotations, orders).reshape(len(rig.times_s), -1)
    lines = ["HIERARCHY", *_hierarchy(rig, bvh_names([node.name for node in rig.nodes]), orders, 0)]
    lines += ["MOTION", f"Frames: {len(rig.times_s)}", f"Frame Time: {step_of(rig.times_s):.8f}"]
    lines += [_numbers(frame) for frame in np.concatenate([rig.root, angles], axis=1)]
    Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    return rig


def bvh_names(names: Sequence[str]) -> list[str]:
    """Names that Blender keeps apart: a word of any script each, no braces, at most `LONGEST_NAME` bytes of UTF-8."""
    written: list[str] = []
    for name in names:
        written.append(unique_name(re.sub(r"[\s{}]+|[^\w .:|()\[\]+-]+", "_", name), written, LONGEST_NAME))
    return written


def turning_orders(rig: RigMotion) -> list[str]:
    """The order of axes each node turns about, such as "ZXY".

    The axis in the middle must not turn by 90 degrees, or the other two cannot be told apart. So it is the one along
    the bone at rest, about which bones hardly turn; the root may face anywhere, but seldom lies down.
    """
    orders = ["YXZ"]
    for node in rig.nodes[1:]:
        along = np.abs(rig.offsets[[index for index, other in enumerate(rig.nodes) if other.joint in node.children]])
        middle = "XYZ"[along.sum(0).argmax()] if len(along) else "Y"
        orders.append({"X": "ZXY", "Y": "ZYX", "Z": "XZY"}[middle])
    return orders


def euler_degrees(rotations: np.ndarray, orders: Sequence[str]) -> np.ndarray:
    """Angles of rotations `(frames, nodes, 3, 3)` about each node's three axes, without jumps between frames.

    Every rotation has two triples of angles, and each angle any number of full turns: the nearest to the frame before.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Gimbal lock")  # then any split between the other two is right
        turned = [Rotation.from_matrix(rotations[:, node]).as_euler(order, True) for node, order in enumerate(orders)]
    angles = np.stack(turned, axis=1)
    for frame in range(1, len(angles)):
        before = angles[frame - 1]
        both = np.stack([angles[frame], angles[frame] * [1, -1, 1] + 180.0])
        both = before + np.remainder(both - before + 180.0, 360.0) - 180.0  # whole turns away
        nearer = np.abs(both - before).sum(-1).argmin(0)  # (nodes,)
        angles[frame] = both[nearer, np.arange(len(nearer))]
    return angles


def _hierarchy(rig: RigMotion, names: list[str], orders: list[str], index: int, indent: str = "") -> list[str]:
    """Lines of a node and all below it."""
    node, inner = rig.nodes[index], indent + "\t"
    rotations = " ".join(f"{axis}rotation" for axis in orders[index])
    kind, channels = "JOINT", f"CHANNELS 3 {rotations}"
    if node.parent < 0:
        kind, channels = "ROOT", f"CHANNELS 6 Xposition Yposition Zposition {rotations}"
    lines = [f"{indent}{kind} {names[index]}", indent + "{"]
    lines += [f"{inner}OFFSET {_numbers(rig.offsets[index])}", inner + channels]
    below = [child for child, other in enumerate(rig.nodes) if other.parent == index]
    for child in below:
        lines += _hierarchy(rig, names, orders, child, inner)
    if not below:
        tip = _numbers(rig.offsets[index] * TIP)
        lines += [inner + "End Site", inner + "{", f"{inner}\tOFFSET {tip}", inner + "}"]
    return [*lines, indent + "}"]


def _numbers(values: np.ndarray) -> str:
    return " ".join(f"{value:.6f}" for value in values)
