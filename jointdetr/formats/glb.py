"""Motions as binary glTF (GLB): a skinned skeleton for each person, animated; for Blender, Unity, Godot, three.js.

Written and read by hand, as no library does more than the JSON document and the block of numbers. Read back is what
this package writes: skins whose bones turn at the same times. Metres, y up, the person facing +z at rest.

Shape vocabulary: frames, nodes (joints of the rig, parents first), vertices. Rotations are quaternions x, y, z, w.

Source: the glTF 2.0 specification, https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html
"""

import json
import struct
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from .motions import PoseMotion
from .rig import RigMotion, fit_rig, motion_of_nodes, pose_nodes
from .skeletons import joint_sides

MAGIC, VERSION, JSON_CHUNK, BINARY_CHUNK = 0x46546C67, 2, 0x4E4F534A, 0x004E4942
FLOAT, UNSIGNED_SHORT, VERTEX_DATA = 5126, 5123, 34962
TYPES = {(): "SCALAR", (2,): "VEC2", (3,): "VEC3", (4,): "VEC4", (4, 4): "MAT4"}
COMPONENTS = {"f": FLOAT, "H": UNSIGNED_SHORT}
READ_WIDTHS = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}
DAMAGE = (KeyError, IndexError, TypeError, ValueError, struct.error, RecursionError)

# Linear colours of the figures' blue, orange and grey.
COLORS = {"left": (0.014, 0.184, 0.631), "right": (0.871, 0.212, 0.007), "middle": (0.147, 0.147, 0.147)}
BONE_WIDTH, MAX_BONE_WIDTH = 0.12, 0.04  # of a bone's length; metres
WAIST = 0.15  # where along the bone it is widest
BALL = 0.022 * np.array([(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)])  # metres, its tips
OCTAHEDRON = np.array([(0, 2, 4), (2, 1, 4), (1, 3, 4), (3, 0, 4), (2, 0, 5), (1, 2, 5), (3, 1, 5), (0, 3, 5)])


def write_glb(motions: Sequence[PoseMotion], path: str | Path) -> list[RigMotion]:
    """Write people's motions as one GLB: each an armature with a mesh of its bones, all in one animation.

    A person moves as `root_camera` says, seen from a camera at the origin that looks along -z; without it the root
    stays and the lowest joint touches the ground y = 0. A film of one frame is the pose, without an animation. Of what
    is returned, `describe()` says how far constant bone lengths moved the joints.

    Raises:
        ValueError: There is nobody, or of somebody no joint is known in any frame.
    """
    if not motions:
        raise ValueError("expected at least one person, got none")
    rigs = [fit_rig(motion) for motion in motions]
    document = _Document()
    start = min(rig.times_s[0] for rig in rigs)
    for motion, rig in zip(motions, rigs, strict=True):
        _add_person(document, rig, f"person_{motion.person + 1}", start)
    document.save(path)
    return rigs


class _Document:
    """A glTF document while it grows, and the block of numbers it points into."""

    def __init__(self) -> None:
        self.lists: dict[str, list] = defaultdict(list)
        self.block = bytearray()

    def add(self, kind: str, entry: Any) -> int:
        """Append to one of the lists; returns the number of the entry."""
        self.lists[kind].append(entry)
        return len(self.lists[kind]) - 1

    def add_numbers(self, values: np.ndarray, code: str, target: int | None = None) -> int:
        """Append an array `(count, ...)` in a type of `struct`'s code; returns its accessor."""
        array = np.ascontiguousarray(values, dtype=f"<{code}")
        view = {"buffer": 0, "byteOffset": len(self.block), "byteLength": array.nbytes}
        view |= {"target": target} if target else {}
        self.block += array.tobytes() + bytes(-array.nbytes % 4)
        accessor = {"bufferView": self.add("bufferViews", view), "componentType": COMPONENTS[code]}
        accessor |= {"count": len(array), "type": TYPES[array.shape[1:]]}
        if code == "f" and array.ndim < 3:
            accessor |= {"min": np.atleast_1d(array.min(0)).tolist(), "max": np.atleast_1d(array.max(0)).tolist()}
        return self.add("accessors", accessor)

    def add_channel(self, node: int, path: str, times: int, values: np.ndarray) -> None:
        sampler = {"input": times, "output": self.add_numbers(values, "f"), "interpolation": "LINEAR"}
        self.add("channels", {"sampler": self.add("samplers", sampler), "target": {"node": node, "path": path}})

    def save(self, path: str | Path) -> None:
        document = {
            "asset": {"version": "2.0", "generator": "jointdetr"},
            "scene": 0,
            "scenes": [{"nodes": self.lists["roots"]}],
            **{kind: self.lists[kind] for kind in ("nodes", "meshes", "skins")},
            "materials": [{"name": "bones", "pbrMetallicRoughness": {"metallicFactor": 0.0, "roughnessFactor": 0.7}}],
            **{kind: self.lists[kind] for kind in ("accessors", "bufferViews")},
            "buffers": [{"byteLength": len(self.block)}],
        }
        if self.lists["channels"]:
            moving = {kind: self.lists[kind] for kind in ("channels", "samplers")}
            document["animations"] = [{"name": "motion"} | moving]
        text = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
        text += b" " * (-len(text) % 4)
        chunks = struct.pack("<II", len(text), JSON_CHUNK) + text
        chunks += struct.pack("<II", len(self.block), BINARY_CHUNK) + bytes(self.block)
        Path(path).write_bytes(struct.pack("<III", MAGIC, VERSION, 12 + len(chunks)) + chunks)


def _add_person(document: _Document, rig: RigMotion, name: str, start_s: float) -> None:
    first = len(document.lists["nodes"])
    quaternions = _quaternions(rig.rotations)  # (frames, nodes, 4)
    for index, node in enumerate(rig.nodes):
        children = [first + child for child, other in enumerate(rig.nodes) if other.parent == index]
        place = rig.root[0] if index == 0 else rig.offsets[index]
        entry = {"name": node.name, "translation": place.tolist(), "rotation": quaternions[0, index].tolist()}
        document.add("nodes", entry | ({"children": children} if children else {}))
    inverse = np.broadcast_to(np.eye(4), (len(rig.nodes), 4, 4)).copy()
    inverse[:, 3, :3] = -rig.rest  # where the mesh is bound; glTF's matrices are column by column
    joints = list(range(first, first + len(rig.nodes)))
    binding = document.add_numbers(inverse, "f")
    skin = document.add("skins", {"joints": joints, "skeleton": first, "inverseBindMatrices": binding})
    mesh = document.add("meshes", {"name": name, "primitives": [_mesh(document, rig)]})
    bones = document.add("nodes", {"name": f"{name}_bones", "mesh": mesh, "skin": skin})
    person = {"name": name, "children": [first], "extras": {"fit": rig.describe()}}
    document.lists["roots"] += [document.add("nodes", person), bones]
    if len(rig.times_s) > 1:
        times = document.add_numbers(rig.times_s - start_s, "f")
        document.add_channel(first, "translation", times, rig.root)
        for index, node in enumerate(rig.nodes):
            if node.children:
                document.add_channel(first + index, "rotation", times, quaternions[:, index])


def _quaternions(rotations: np.ndarray) -> np.ndarray:
    """Quaternions `(frames, nodes, 4)`, with the sign nearer to the frame before, to blend the short way."""
    frames, nodes = rotations.shape[:2]
    quaternions = Rotation.from_matrix(rotations.reshape(-1, 3, 3)).as_quat().reshape(frames, nodes, 4)
    turned = (quaternions[1:] * quaternions[:-1]).sum(-1) < 0  # (frames - 1, nodes)
    quaternions[1:][np.logical_xor.accumulate(turned, axis=0)] *= -1
    return quaternions


def _mesh(document: _Document, rig: RigMotion) -> dict[str, Any]:
    """A mesh of an octahedron for each bone and a small one for each joint, each moving with one node."""
    joints = [index for index, node in enumerate(rig.nodes) if not node.is_helper]
    bones = [index for index in joints if rig.nodes[index].parent >= 0]
    rest = rig.rest
    shapes = [_bone(rest[rig.nodes[bone].parent], rig.offsets[bone]) for bone in bones]
    shapes += [place + BALL for place in rest[joints]]
    corners = np.stack(shapes)[:, OCTAHEDRON].reshape(-1, 3)  # (vertices, 3)
    first, second, third = corners.reshape(-1, 3, 3).swapaxes(0, 1)  # of each triangle
    normals = np.cross(second - first, third - first)
    normals = np.repeat(normals / np.linalg.norm(normals, axis=-1, keepdims=True), 3, axis=0)
    owners = np.repeat([*(rig.nodes[bone].parent for bone in bones), *joints], OCTAHEDRON.size)
    sides = joint_sides(rig.skeleton)
    colors = [COLORS[sides[rig.nodes[index].joint]] for index in [*bones, *joints]]
    bindings = owners[:, None] * [1, 0, 0, 0]
    weights = np.broadcast_to([1.0, 0.0, 0.0, 0.0], bindings.shape)
    attributes = {
        "POSITION": document.add_numbers(corners, "f", VERTEX_DATA),
        "NORMAL": document.add_numbers(normals, "f", VERTEX_DATA),
        "COLOR_0": document.add_numbers(np.repeat(colors, OCTAHEDRON.size, axis=0), "f", VERTEX_DATA),
        "JOINTS_0": document.add_numbers(bindings, "H", VERTEX_DATA),
        "WEIGHTS_0": document.add_numbers(weights, "f", VERTEX_DATA),
    }
    return {"attributes": attributes, "material": 0}


def _bone(start: np.ndarray, along: np.ndarray) -> np.ndarray:
    """Tips `(6, 3)` of a bone's octahedron."""
    length = np.linalg.norm(along)
    across = np.cross(along, np.eye(3)[np.abs(along).argmin()])
    across *= min(BONE_WIDTH * length, MAX_BONE_WIDTH) / 2 / np.linalg.norm(across)
    beside, middle = np.cross(along / length, across), start + WAIST * along
    return np.stack([middle + across, middle - across, middle + beside, middle - beside, start + along, start])


def read_glb_motions(path: str | Path) -> list[PoseMotion]:
    """Read the skinned skeletons of a GLB as motions, one for each skin, as this package writes them."""
    try:
        document = _ReadDocument(Path(path).read_bytes())
        skins = [skin["joints"] for skin in document.json.get("skins", [])]
        motions = [document.motion(joints, person) for person, joints in enumerate(skins)]
    except DAMAGE as error:
        raise ValueError(f"{path}: expected a GLB file with skinned skeletons: {error}") from error
    if not motions:
        raise ValueError(f"{path}: expected a GLB file with skinned skeletons, it has none")
    return motions


class _ReadDocument:
    """A GLB file: its JSON, its block of numbers, and the samplers by node and property."""

    def __init__(self, content: bytes) -> None:
        magic, _, length = struct.unpack_from("<III", content)
        text_length, text_kind = struct.unpack_from("<II", content, 12)
        start = 20 + text_length
        block_length, block_kind = struct.unpack_from("<II", content, start)
        if (magic, text_kind, block_kind) != (MAGIC, JSON_CHUNK, BINARY_CHUNK) or length > len(content):
            raise ValueError("the header is not that of a whole GLB file")
        self.json = json.loads(content[20:start])
        self.block = content[start + 8 : start + 8 + block_length]
        self.moving: dict[tuple[int, str], dict[str, int]] = {}
        for animation in self.json.get("animations", [])[:1]:
            for channel in animation["channels"]:
                target = channel["target"]
                self.moving[target["node"], target["path"]] = animation["samplers"][channel["sampler"]]

    def numbers(self, index: int) -> np.ndarray:
        """Return an accessor of floats as `(count, width)`."""
        accessor = self.json["accessors"][index]
        if accessor["componentType"] != FLOAT:
            raise ValueError("times and turns must be floats")
        view = self.json["bufferViews"][accessor["bufferView"]]
        width = READ_WIDTHS[accessor["type"]]
        start = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
        values = np.frombuffer(self.block, "<f4", accessor["count"] * width, start)
        return values.reshape(-1, width).astype(np.float64)

    def motion(self, joints: Sequence[int], person: int) -> PoseMotion:
        nodes = self.json["nodes"]
        parent_of = {child: node for node in joints for child in nodes[node].get("children", ())}
        parents = [joints.index(parent_of[node]) if node in parent_of else -1 for node in joints]
        if parents[0] != -1 or any(not -1 < parent < index for index, parent in enumerate(parents) if index):
            raise ValueError("a skin's joints must begin with its root and go from parents to children")
        inputs = {sampler["input"] for (node, _), sampler in self.moving.items() if node in joints}
        if len(inputs) > 1:
            raise ValueError("all bones of a person must turn at the same times")
        times_s = self.numbers(inputs.pop())[:, 0] if inputs else np.zeros(1)
        offsets = self._values(joints, "translation", [0.0, 0.0, 0.0], len(times_s))
        quaternions = self._values(joints, "rotation", [0.0, 0.0, 0.0, 1.0], len(times_s))
        turns = Rotation.from_quat(quaternions.reshape(-1, 4)).as_matrix().reshape(*offsets.shape, 3)
        places = pose_nodes(parents, turns, offsets)[1]
        return motion_of_nodes([nodes[node]["name"] for node in joints], parents, 1000 * places, times_s, person)

    def _values(self, joints: Sequence[int], path: str, default: Sequence[float], frames: int) -> np.ndarray:
        """What a property of nodes is in every frame: `(frames, nodes, width)`."""
        values = np.empty((frames, len(joints), len(default)))
        for index, node in enumerate(joints):
            sampler, still = self.moving.get((node, path)), self.json["nodes"][node].get(path, default)
            values[:, index] = still if sampler is None else self.numbers(sampler["output"])
        return values
