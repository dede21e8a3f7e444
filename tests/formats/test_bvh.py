"""BVH: an independent reader and forward kinematics of its own give the joints back."""

from pathlib import Path

import numpy as np
import pytest
from bvh import Bvh
from moving_people import TO_CAMERA_AXES, moving, pointing

from jointdetr.motion import PoseMotion
from jointdetr.skeleton_jointdetr import HUMAN36M, MPI_INF_3DHP, Skeleton
from jointdetr.visualization import write_bvh


def axis_rotation(axis: str, degrees: float) -> np.ndarray:
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    first, second = {"X": (1, 2), "Y": (2, 0), "Z": (0, 1)}[axis]
    rotation = np.eye(3)
    rotation[[first, second], [first, second]] = cosine
    rotation[second, first], rotation[first, second] = sine, -sine
    return rotation


def read_back(path: Path, names: tuple[str, ...]) -> np.ndarray:
    """Places (frames, joints, 3) that a BVH file says, by its channels alone."""
    file = Bvh(path.read_text())
    places = []
    for frame in np.array(file.frames, dtype=float):
        turned, at = {}, {}
        for node in file.get_joints():
            name = node.name
            first = file.get_joint_channels_index(name)
            offset, rotation = np.array(file.joint_offset(name)), np.eye(3)
            for channel, value in zip(file.joint_channels(name), frame[first:], strict=False):
                if channel.endswith("position"):
                    offset["XYZ".index(channel[0])] += value
                else:
                    rotation = rotation @ axis_rotation(channel[0], value)
            above = node.parent.name if node.value[0] == "JOINT" else None
            turned[name] = turned[above] @ rotation if above else rotation
            at[name] = at[above] + turned[above] @ offset if above else offset
        places.append([at[name] for name in names])
    return np.array(places)


def expected_places(motion: PoseMotion) -> np.ndarray:
    """Root-relative places in metres, y up."""
    return (motion.joints - motion.joints[:, [motion.skeleton.root]]) * TO_CAMERA_AXES / 1000


def round_trip_error_mm(motion: PoseMotion, path: Path) -> float:
    write_bvh(motion, path)
    places = read_back(path, motion.skeleton.joints)
    places -= places[:, [motion.skeleton.root]]
    return 1000 * np.linalg.norm(places - expected_places(motion), axis=-1).max()


class TestRoundTrip:
    @pytest.mark.parametrize("skeleton", [HUMAN36M, MPI_INF_3DHP], ids=lambda skeleton: skeleton.name)
    def test_bones_of_constant_length_come_back_to_a_hundredth_of_a_millimetre(self, skeleton, tmp_path):
        assert round_trip_error_mm(moving(skeleton), tmp_path / "a.bvh") < 0.01

    def test_changing_lengths_come_back_as_well_as_the_report_says(self, tmp_path):
        motion = moving()
        motion.joints += np.random.default_rng(0).normal(0, 15, motion.joints.shape)
        motion.joints -= motion.joints[:, :1]
        worst = round_trip_error_mm(motion, tmp_path / "a.bvh")
        assert worst == pytest.approx(np.nanmax(write_bvh(motion, tmp_path / "a.bvh").error_mm), abs=0.01)

    def test_the_root_is_where_the_camera_saw_it(self, tmp_path):
        motion = moving(root_camera=np.linspace([0, 900, 4000], [500, 900, 3000], 40))
        write_bvh(motion, tmp_path / "a.bvh")
        places = read_back(tmp_path / "a.bvh", HUMAN36M.joints)
        expected = expected_places(motion) + motion.root_camera[:, None] * TO_CAMERA_AXES / 1000
        np.testing.assert_allclose(places, expected, atol=1e-5)

    def test_real_motion_comes_back(self, real_data, tmp_path):
        """CMU's motions of a body whose bones' lengths were made constant."""
        from acclaim_examples import recorded_skeletons

        from jointdetr.synthesis.body import Body
        from jointdetr.synthesis.posing import MotionLibrary

        folder = next(iter(sorted((real_data / "cmu-mocap").rglob("*.asf")))).parent
        (tmp_path / "one").mkdir()
        for source in [*folder.glob("*.asf"), sorted(folder.glob("*.amc"))[0]]:
            (tmp_path / "one" / source.name).write_bytes(source.read_bytes())
        body = Body()
        joints = recorded_skeletons(body, MotionLibrary(body, tmp_path / "one", stride=60)).numpy()  # z up
        motion = moving(frames=len(joints))
        motion.joints = with_constant_lengths(joints[..., [0, 2, 1]] * [1, -1, 1])
        assert round_trip_error_mm(motion, tmp_path / "a.bvh") < 0.01


def with_constant_lengths(joints: np.ndarray) -> np.ndarray:
    """The same directions of bones, each as long as it is in the middle."""
    constant = np.zeros_like(joints)
    for child, parent in enumerate(HUMAN36M.parents):
        if parent >= 0:
            bone = joints[:, child] - joints[:, parent]
            lengths = np.linalg.norm(bone, axis=-1, keepdims=True)
            constant[:, child] = constant[:, parent] + bone / lengths * np.median(lengths)
    return constant


class TestFile:
    def test_time_is_even_and_uneven_films_are_resampled(self, tmp_path):
        motion = moving(frames=20)
        write_bvh(motion, tmp_path / "even.bvh")
        even = Bvh((tmp_path / "even.bvh").read_text())
        assert (len(even.frames), float(even.root["Frame"][1])) == (20, pytest.approx(0.04))
        gap = np.delete(np.arange(20), [4, 5, 6])
        uneven = PoseMotion(motion.skeleton, motion.times_s[gap], motion.joints[gap], motion.detected[gap])
        rig = write_bvh(uneven, tmp_path / "uneven.bvh")
        filled = Bvh((tmp_path / "uneven.bvh").read_text())
        assert (len(filled.frames), float(filled.root["Frame"][1])) == (20, pytest.approx(0.04))
        assert rig.filled["head"] == 3

    def test_one_frame_is_a_film(self, tmp_path):
        write_bvh(moving(frames=1), tmp_path / "a.bvh")
        assert len(Bvh((tmp_path / "a.bvh").read_text()).frames) == 1

    def test_angles_do_not_jump(self, tmp_path):
        angles = np.radians(np.linspace(0, 720, 300))
        directions = np.stack([np.cos(angles), np.sin(angles) * 0.8, np.sin(angles) * 0.6], axis=-1)
        write_bvh(pointing(directions), tmp_path / "a.bvh")
        channels = np.array(Bvh((tmp_path / "a.bvh").read_text()).frames, dtype=float)[:, 3:]
        assert np.abs(np.diff(channels, axis=0)).max() < 25

    def test_names_with_spaces_stay_one_word(self, tmp_path):
        skeleton = Skeleton("own", ("the hips", "left foot", "right foot"), (-1, 0, 0), ((1, 2),), 0)
        write_bvh(moving(skeleton, frames=2), tmp_path / "a.bvh")
        assert Bvh((tmp_path / "a.bvh").read_text()).get_joints_names()[0] == "the_hips"


NAMES = {
    "Japanese": ["右股", "右膝", "左股", "左膝"],
    "Greek, Arabic, Hindi": ["μηρός", "γόνατο", "ركبة", "घुटना"],
    "blanks": ["hip r", "hip_r", "hip\tr", "hip\u3000r"],
    "braces and what is not printed": ["hip{", "hip}", "hip\x00", "hip\n"],
    "long": ["a" * 80, "a" * 80 + "b", "膝" * 40, "膝" * 41],
    "numbers": ["hip", "hip_2", "hip 2", "hip{2"],
}


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_names_stay_apart_in_any_script(names):
    from jointdetr.formats.bvh import LONGEST_NAME, bvh_names

    written = bvh_names(names)
    assert len(set(written)) == len(names)
    for name in written:
        assert name and len(name.split()) == 1 and not set("{}") & set(name)
        assert len(name.encode()) <= LONGEST_NAME
    kept = [name for name in names if len(name.split()) == 1 and name.isalpha() and len(name.encode()) <= LONGEST_NAME]
    assert set(kept) <= set(written)
