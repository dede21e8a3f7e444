"""Motions read back from animation files, BVH and GLB, to be looked at: where the joints are in every frame.

Shape vocabulary: frames, nodes (joints of the file, parents first). Positions are y up, z to the viewer, until they
are turned into camera axes.
"""

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from ..skeleton_jointdetr import Skeleton
from .bvh import END_SITE_SUFFIX, read_bvh
from .glb import BINARY_CHUNK, FLOAT, JSON_CHUNK, MAGIC
from .motions import PoseMotion
from .skeletons import named_pairs

UNITS_MM = (1.0, 10.0, 25.4, 1000.0)  # mm, cm, inches, metres
USUAL_HEIGHT_MM = 1600.0  # from the lowest joint to the highest of whoever stands
TO_CAMERA_AXES = np.array([1.0, -1.0, -1.0])
COINCIDENT = 1e-5  # of the height; a bone that is shorter in every frame is none
WIDTHS = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}
DAMAGE = (KeyError, IndexError, TypeError, ValueError, struct.error, RecursionError)


def read_bvh_motion(path: str | Path) -> PoseMotion:
    """Read a BVH file as a motion, in the unit in which the person is about as tall as people are.

    Raises:
        ValueError: It is no BVH file, is damaged, or has no frame.
    """
    motion = read_bvh(path)
    height = np.ptp(motion.rest_pose()[:, 1]) or 1.0
    unit_mm = min(UNITS_MM, key=lambda unit: abs(np.log(height * unit / USUAL_HEIGHT_MM)))
    times_s = np.arange(len(motion.values)) * motion.frame_time_s
    return _motion(_Tree(motion.names, motion.parents, motion.positions() * unit_mm), times_s, person=0)


def read_glb_motions(path: str | Path) -> list[PoseMotion]:
    """Read the skinned skeletons of a GLB as motions, one for each skin, as this package writes them.

    Raises:
        ValueError: It is no GLB, is damaged, has no skin, or turns its bones at different times.
    """
    try:
        document = _GlbDocument.read(Path(path).read_bytes())
        skins = [skin["joints"] for skin in document.json.get("skins", [])]
        motions = [_motion(*document.person(joints), person) for person, joints in enumerate(skins)]
    except DAMAGE as error:
        raise ValueError(f"{path}: expected a GLB file with skinned skeletons: {error}") from error
    if not motions:
        raise ValueError(f"{path}: expected a GLB file with skinned skeletons, it has none")
    return motions


@dataclass(frozen=True)
class _Tree:
    """Joints of a file: names, parents first, and `positions` `(frames, nodes, 3)`."""

    names: Sequence[str]
    parents: Sequence[int]
    positions: np.ndarray


def _motion(tree: _Tree, times_s: np.ndarray, person: int) -> PoseMotion:
    """Make a motion of joints in mm, without end sites and bones that have no length."""
    positions = tree.positions
    lengths = [
        np.linalg.norm(positions[:, node] - positions[:, parent], axis=-1).max() if parent >= 0 else np.inf
        for node, parent in enumerate(tree.parents)
    ]
    least = COINCIDENT * np.ptp(positions[0], axis=0).max()
    stands_for: list[int] = []  # the node that is kept in place of each, by its new number
    kept: list[int] = []
    for node, parent in enumerate(tree.parents):
        is_helper = lengths[node] <= least or tree.names[node].endswith(END_SITE_SUFFIX)
        stands_for.append(stands_for[parent] if is_helper else len(kept))
        kept += [] if is_helper else [node]
    parents = [-1 if tree.parents[node] < 0 else stands_for[tree.parents[node]] for node in kept]
    names = [tree.names[node] for node in kept]
    joints = positions[:, kept] * TO_CAMERA_AXES
    root = joints[:, 0]
    return PoseMotion(
        Skeleton("file", tuple(names), tuple(parents), named_pairs(names), root=0),
        times_s,
        joints - root[:, None],
        np.ones(joints.shape[:2], dtype=bool),
        root_camera=root,
        person=person,
    )


@dataclass
class _GlbDocument:
    """A GLB file: its JSON, its block of numbers, and the accessors of times and values by node and property."""

    json: dict[str, Any]
    block: bytes
    moving: dict[tuple[int, str], tuple[int, int]]

    @classmethod
    def read(cls, content: bytes) -> "_GlbDocument":
        """Take a file apart."""
        magic, _, length = struct.unpack_from("<III", content)
        text_length, text_kind = struct.unpack_from("<II", content, 12)
        start = 20 + text_length
        block_length, block_kind = struct.unpack_from("<II", content, start)
        if (magic, text_kind, block_kind) != (MAGIC, JSON_CHUNK, BINARY_CHUNK) or length > len(content):
            raise ValueError("the header is not that of a whole GLB file")
        document = json.loads(content[20:start])
        moving = {}
        for animation in document.get("animations", [])[:1]:
            for channel in animation["channels"]:
                sampler = animation["samplers"][channel["sampler"]]
                moving[channel["target"]["node"], channel["target"]["path"]] = sampler["input"], sampler["output"]
        return cls(document, content[start + 8 : start + 8 + block_length], moving)

    def numbers(self, index: int) -> np.ndarray:
        """Return an accessor of floats as `(count, width)`."""
        accessor = self.json["accessors"][index]
        if accessor["componentType"] != FLOAT:
            raise ValueError("times and turns must be floats")
        view = self.json["bufferViews"][accessor["bufferView"]]
        width = WIDTHS[accessor["type"]]
        start = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
        values = np.frombuffer(self.block, "<f4", accessor["count"] * width, start)
        return values.reshape(-1, width).astype(np.float64)

    def person(self, joints: Sequence[int]) -> tuple[_Tree, np.ndarray]:
        """Return the nodes of a skin, in mm, and the times in seconds."""
        nodes = self.json["nodes"]
        parent_of = {child: node for node in joints for child in nodes[node].get("children", ())}
        parents = [joints.index(parent_of[node]) if node in parent_of else -1 for node in joints]
        if parents[0] != -1 or any(not -1 < parent < index for index, parent in enumerate(parents) if index):
            raise ValueError("a skin's joints must begin with its root and go from parents to children")
        inputs = {times for (node, _), (times, _) in self.moving.items() if node in joints}
        if len(inputs) > 1:
            raise ValueError("all bones of a person must turn at the same times")
        times_s = self.numbers(inputs.pop())[:, 0] if inputs else np.zeros(1)
        turned: list[Rotation] = []
        places: list[np.ndarray] = []
        for node, parent in zip(joints, parents, strict=True):
            place = self._values(node, "translation", [0.0, 0.0, 0.0], len(times_s))
            rotation = Rotation.from_quat(self._values(node, "rotation", [0.0, 0.0, 0.0, 1.0], len(times_s)))
            turned.append(rotation if parent < 0 else turned[parent] * rotation)
            places.append(place if parent < 0 else places[parent] + turned[parent].apply(place))
        return _Tree([nodes[node]["name"] for node in joints], parents, 1000 * np.stack(places, axis=1)), times_s

    def _values(self, node: int, path: str, default: Sequence[float], frames: int) -> np.ndarray:
        """What a node's property is in every frame: `(frames, width)`."""
        if (node, path) in self.moving:
            return self.numbers(self.moving[node, path][1])
        still = np.array([self.json["nodes"][node].get(path, default)], dtype=np.float64)
        return np.repeat(still, frames, axis=0)
