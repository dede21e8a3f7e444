"""GLB: the skinned mesh, moved as the specification says, is where the joints are; other programs can read it."""

import json
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from moving_people import TO_CAMERA_AXES, moving
from scipy.spatial.transform import Rotation, Slerp

from jointdetr.skeleton_jointdetr import HUMAN36M
from jointdetr.visualization import write_glb

VIEWER = Path(__file__).parents[2] / "jointdetr" / "visualization" / "viewer"
VALIDATE = """
import { readFileSync } from "node:fs";
import { validateBytes } from "gltf-validator";
const report = await validateBytes(new Uint8Array(readFileSync(process.argv[1])));
console.log(JSON.stringify(report.issues));
"""


class Reader:
    """What a viewer does with a GLB, from the specification: numbers, places of nodes at a time, skinned vertices."""

    def __init__(self, path: Path) -> None:
        content = path.read_bytes()
        magic, version, length, json_length, json_kind = struct.unpack_from("<IIIII", content)
        assert (magic, version, length, json_kind) == (0x46546C67, 2, len(content), 0x4E4F534A)
        self.document: dict[str, Any] = json.loads(content[20 : 20 + json_length])
        self.block = content[28 + json_length :]
        self.nodes = self.document["nodes"]

    def numbers(self, accessor: int) -> np.ndarray:
        entry = self.document["accessors"][accessor]
        width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4, "MAT4": 16}[entry["type"]]
        dtype = {5126: "<f4", 5123: "<u2"}[entry["componentType"]]
        offset = self.document["bufferViews"][entry["bufferView"]]["byteOffset"]
        return np.frombuffer(self.block, dtype, entry["count"] * width, offset).reshape(-1, width)

    def local(self, time_s: float | None) -> list[np.ndarray]:
        """Matrix of each node, animated if there is a time."""
        placed = [dict(node) for node in self.nodes]
        for animation in self.document.get("animations", []) if time_s is not None else []:
            for channel in animation["channels"]:
                sampler = animation["samplers"][channel["sampler"]]
                times, values = self.numbers(sampler["input"])[:, 0], self.numbers(sampler["output"])
                value = self.blend(times, values, time_s)
                placed[channel["target"]["node"]][channel["target"]["path"]] = value
        return [matrix_of(node) for node in placed]

    @staticmethod
    def blend(times: np.ndarray, values: np.ndarray, time_s: float) -> np.ndarray:
        time_s = np.clip(time_s, times[0], times[-1])
        if values.shape[1] == 4:
            return Slerp(times, Rotation.from_quat(values))(time_s).as_quat()
        return np.array([np.interp(time_s, times, column) for column in values.T])

    def world(self, time_s: float | None) -> dict[int, np.ndarray]:
        """Matrix of every node in the scene."""
        local, world = self.local(time_s), {}
        waiting = [(root, np.eye(4)) for root in self.document["scenes"][0]["nodes"]]
        while waiting:
            index, above = waiting.pop()
            assert index not in world  # a tree
            world[index] = above @ local[index]
            waiting += [(child, world[index]) for child in self.nodes[index].get("children", [])]
        assert len(world) == len(self.nodes)
        return world

    def places(self, names: tuple[str, ...], time_s: float | None, skin: int = 0) -> np.ndarray:
        world = self.world(time_s)
        of_name = {self.nodes[index]["name"]: index for index in self.document["skins"][skin]["joints"]}
        return np.array([world[of_name[name]][:3, 3] for name in names])

    def vertices(self, time_s: float | None) -> np.ndarray:
        """Vertices of the first mesh where its skin puts them."""
        world, skin = self.world(time_s), self.document["skins"][0]
        attributes = self.document["meshes"][0]["primitives"][0]["attributes"]
        points = np.insert(self.numbers(attributes["POSITION"]), 3, 1, axis=1)
        inverse = self.numbers(skin["inverseBindMatrices"]).reshape(-1, 4, 4).swapaxes(1, 2)
        matrices = np.stack([world[node] for node in skin["joints"]]) @ inverse
        joints, weights = self.numbers(attributes["JOINTS_0"]), self.numbers(attributes["WEIGHTS_0"])
        blended = (matrices[joints] * weights[..., None, None]).sum(1)
        return np.einsum("vij,vj->vi", blended, points)[:, :3]


def matrix_of(node: dict[str, Any]) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_quat(node.get("rotation", [0, 0, 0, 1])).as_matrix()
    matrix[:3, 3] = node.get("translation", [0, 0, 0])
    return matrix


@pytest.fixture(scope="module")
def two_people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("glb") / "two.glb"
    places = (np.tile([side, 0, 4000], (40, 1)) for side in (-600, 600))
    write_glb([moving(root_camera=place, person=number) for number, place in enumerate(places)], path)
    return path


class TestAnimation:
    def test_nodes_go_where_the_joints_were(self, two_people):
        motion, reader = moving(), Reader(two_people)
        for person, side in enumerate((-0.6, 0.6)):
            for frame in (0, 7, 39):
                expected = motion.joints[frame] * TO_CAMERA_AXES / 1000 + [side, 0, -4]
                places = reader.places(HUMAN36M.joints, motion.times_s[frame], person)
                np.testing.assert_allclose(places, expected, atol=2e-6)

    def test_blending_between_frames_goes_the_short_way(self, two_people):
        motion, reader = moving(), Reader(two_people)
        for frame in range(38):
            places = reader.places(HUMAN36M.joints, motion.times_s[frame] + 0.02)
            middle = (motion.joints[frame] + motion.joints[frame + 1]) / 2 * TO_CAMERA_AXES / 1000 + [-0.6, 0, -4]
            assert np.abs(places - middle).max() < 0.02

    def test_the_mesh_moves_with_the_joints(self, two_people):
        motion, reader = moving(), Reader(two_people)
        for frame in (0, 20):
            joints = motion.joints[frame] * TO_CAMERA_AXES / 1000 + [-0.6, 0, -4]
            vertices = reader.vertices(motion.times_s[frame])
            marks = vertices[-17 * 24 :].reshape(17, 24, 3).mean(1)  # the marks of the joints come last
            order = [
                index for index in reader.document["skins"][0]["joints"] if "_to_" not in reader.nodes[index]["name"]
            ]
            names = [reader.nodes[index]["name"] for index in order]
            np.testing.assert_allclose(marks, joints[[HUMAN36M.joints.index(name) for name in names]], atol=1e-5)
            distance = np.linalg.norm(vertices[:, None] - joints[None], axis=-1).min(1)
            assert distance.max() < 0.26  # no vertex farther than half the longest bone

    def test_one_frame_is_a_pose_without_animation(self, tmp_path):
        motion = moving(frames=1, root_camera=[[0, 0, 3000]])
        write_glb([motion], tmp_path / "a.glb")
        reader = Reader(tmp_path / "a.glb")
        assert "animations" not in reader.document
        expected = motion.joints[0] * TO_CAMERA_AXES / 1000 + [0, 0, -3]
        np.testing.assert_allclose(reader.places(HUMAN36M.joints, None), expected, atol=2e-6)

    def test_people_start_when_they_come(self, tmp_path):
        late = moving(frames=5, person=1)
        late.times_s = late.times_s + 2.0
        write_glb([moving(frames=5), late], tmp_path / "a.glb")
        reader = Reader(tmp_path / "a.glb")
        starts = {
            float(reader.numbers(sampler["input"])[0, 0]) for sampler in reader.document["animations"][0]["samplers"]
        }
        assert starts == {0.0, 2.0}

    def test_what_was_filled_in_is_told(self, tmp_path):
        motion = moving()
        motion.joints[3:5, 10] = np.nan
        (rig,) = write_glb([motion], tmp_path / "a.glb")
        assert rig.filled == {"head": 2}
        nodes = Reader(tmp_path / "a.glb").nodes
        assert "head in 2" in next(node for node in nodes if node["name"] == "person_1")["extras"]["fit"]

    def test_nobody_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match="at least one person"):
            write_glb([], tmp_path / "a.glb")


class TestOtherPrograms:
    def test_trimesh_reads_closed_bones_that_face_outwards(self, two_people):
        scene = trimesh.load(two_people)
        assert len(scene.geometry) == 2
        for mesh in scene.geometry.values():
            mesh.merge_vertices(merge_norm=True, merge_tex=True)
            parts = mesh.split(only_watertight=True)
            assert len(parts) == 16 + 17
            assert all(part.volume > 0 for part in parts)

    def test_the_khronos_validator_finds_nothing(self, two_people):
        if not (VIEWER / "node_modules" / "gltf-validator").is_dir() or not shutil.which("node"):
            pytest.skip("no gltf-validator: run `npm ci` in jointdetr/visualization/viewer")
        program = ["node", "--input-type=module", "--eval", VALIDATE, str(two_people)]
        result = subprocess.run(program, cwd=VIEWER, capture_output=True, text=True, check=True)
        issues = json.loads(result.stdout)
        assert issues["messages"] == []
