"""Motions as BVH, for Blender and other animation programs.

Axes and units are those that Blender's importer takes for granted: y up, the person facing +z at rest, metres, one
frame in `Frame Time` seconds. Angles are degrees.

Shape vocabulary: frames, nodes (joints of the rig, parents first).
"""

import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from ..motion import PoseMotion
from ..motion.resampling import even_times, step_of
from .rig import RigMotion, fit_rig

LONGEST_NAME = 63  # bytes that Blender keeps of a bone's name
TIP = 0.3  # length of the end beyond the last joint, of the bone that leads to it


def write_bvh(motion: PoseMotion, path: str | Path) -> RigMotion:
    """Write one person's motion as BVH, with constant bone lengths and a rotation for each bone.

    The root moves as `motion.root_camera` says, seen from a camera at the origin that looks along -z; without it the
    root stays, and the lowest joint of the film touches the ground y = 0. Uneven times are resampled.

    Returns:
        What was written; its `describe()` says how far constant lengths moved the joints and which were filled in.

    Raises:
        ValueError: No joint is known in any frame.
    """
    times_s = even_times(motion.times_s)
    rig = fit_rig(motion, times_s)
    orders = turning_orders(rig)
    angles = euler_degrees(rig.rotations, orders).reshape(len(times_s), -1)
    lines = ["HIERARCHY", *_hierarchy(rig, bvh_names([node.name for node in rig.nodes]), orders, 0)]
    lines += ["MOTION", f"Frames: {len(times_s)}", f"Frame Time: {step_of(times_s):.8f}"]
    lines += [_numbers(frame) for frame in np.concatenate([rig.root, angles], axis=1)]
    Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    return rig


def bvh_names(names: Sequence[str]) -> list[str]:
    """Names that Blender and others keep apart: one word each, no braces, at most `LONGEST_NAME` bytes of UTF-8.

    Letters of any script stay. Names that become the same get a number.
    """
    written: list[str] = []
    for name in names:
        word = re.sub(r"[\s{}]+|[^\w .:|()\[\]+-]+", "_", name)
        number, free = 1, _shortened(word, LONGEST_NAME)
        while free in written:
            number += 1
            ending = f"_{number}"
            free = _shortened(word, LONGEST_NAME - len(ending)) + ending
        written.append(free)
    return written


def _shortened(text: str, size: int) -> str:
    """The beginning of a text that takes at most `size` bytes of UTF-8."""
    return text.encode("utf-8")[:size].decode("utf-8", errors="ignore")


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

    Returns:
        `(frames, nodes, 3)`, in the order of each node's axes.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Gimbal lock")  # then any split between the other two is right
        turned = [Rotation.from_matrix(rotations[:, node]).as_euler(order, True) for node, order in enumerate(orders)]
    angles = np.stack(turned, axis=1)
    for frame in range(1, len(angles)):
        before = angles[frame - 1]
        first = _nearest_turn(angles[frame], before)
        second = _nearest_turn(angles[frame] * [1, -1, 1] + 180.0, before)
        is_nearer = np.abs(second - before).sum(-1) < np.abs(first - before).sum(-1)
        angles[frame] = np.where(is_nearer[:, None], second, first)
    return angles


def _nearest_turn(angles: np.ndarray, before: np.ndarray) -> np.ndarray:
    """The same angles, whole turns added, within half a turn of those before."""
    return before + np.remainder(angles - before + 180.0, 360.0) - 180.0


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
