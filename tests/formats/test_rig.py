"""The rig: bones keep their length, reach the joints, do not flip, and say what had to be filled in."""

import numpy as np
import pytest
from moving_people import TO_CAMERA_AXES, moving, pointing
from scipy.spatial.transform import Rotation

from jointdetr.formats.rig import fit_rig, rig_nodes
from jointdetr.skeleton_jointdetr import HUMAN36M, MPI_INF_3DHP, SKELETONS, Skeleton


def turned_degrees(rotations: np.ndarray) -> np.ndarray:
    """Angle between each frame's rotations and the next one's, (frames - 1, nodes)."""
    changes = rotations[1:] @ np.swapaxes(rotations[:-1], -1, -2)
    return np.degrees(np.arccos(((np.trace(changes, axis1=-2, axis2=-1) - 1) / 2).clip(-1, 1)))


class TestNodes:
    def test_only_children_of_several_have_a_bone_without_length(self):
        names = [node.name for node in rig_nodes(HUMAN36M)]
        assert names[:6] == [
            "pelvis",
            "pelvis_to_right_hip",
            "right_hip",
            "right_knee",
            "right_ankle",
            "pelvis_to_left_hip",
        ]
        assert len(names) == 17 + 6
        assert set(HUMAN36M.joints) < set(names)

    @pytest.mark.parametrize("skeleton", [HUMAN36M, MPI_INF_3DHP], ids=lambda skeleton: skeleton.name)
    def test_parents_come_first_and_branches_in_one_piece(self, skeleton):
        nodes = rig_nodes(skeleton)
        open_branch = []
        for index, node in enumerate(nodes):
            while open_branch and open_branch[-1] != node.parent:
                open_branch.pop()
            assert node.parent == (open_branch[-1] if open_branch else -1)
            open_branch.append(index)


class TestFit:
    @pytest.mark.parametrize("skeleton", [HUMAN36M, MPI_INF_3DHP], ids=lambda skeleton: skeleton.name)
    def test_bones_of_constant_length_reach_every_joint(self, skeleton):
        rig = fit_rig(moving(skeleton))
        assert np.nanmax(rig.error_mm) < 1e-6
        assert rig.filled == {}
        np.testing.assert_allclose(np.linalg.det(rig.rotations), 1, atol=1e-9)

    def test_at_rest_the_person_stands_with_arms_out_and_faces_z(self):
        rig = fit_rig(moving())
        at = {node.name: place for node, place in zip(rig.nodes, rig.rest, strict=True)}
        offset = {node.name: offset for node, offset in zip(rig.nodes, rig.offsets, strict=True)}
        for side, outwards in (("left", 1), ("right", -1)):
            assert offset[f"{side}_knee"][1] < 0
            np.testing.assert_allclose(offset[f"{side}_knee"][[0, 2]], 0, atol=1e-9)
            assert offset[f"{side}_wrist"][0] * outwards > 0
            np.testing.assert_allclose(offset[f"{side}_wrist"][1:], 0, atol=1e-9)
        assert at["left_hip"][0] > at["right_hip"][0]

    @pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=lambda skeleton: skeleton.name)
    def test_every_skeleton_stands_at_rest(self, skeleton):
        rig = fit_rig(moving(skeleton, frames=5))
        at = {node.name: place for node, place in zip(rig.nodes, rig.rest, strict=True)}
        for side in ("left", "right"):
            assert at[f"{side}_knee"][1] > at[f"{side}_ankle"][1] + 0.05
            arm = at[f"{side}_wrist"] - at[f"{side}_elbow"]
            np.testing.assert_allclose(arm / np.linalg.norm(arm), [1 if side == "left" else -1, 0, 0], atol=1e-9)
        assert np.nanmax(rig.error_mm) < 1e-6

    def test_names_that_tell_nothing_point_up(self):
        skeleton = Skeleton("own", ("a", "b", "c"), (-1, 0, 1), (), 0)
        np.testing.assert_allclose(fit_rig(moving(skeleton)).offsets[1:, [0, 2]], 0, atol=1e-12)

    def test_changing_bone_lengths_are_held_and_the_difference_is_told(self):
        motion = moving()
        motion.joints[::2, 3] += [0, 0, 40]
        rig = fit_rig(motion)
        assert 5 < np.nanmax(rig.error_mm[:, 3]) < 45
        assert np.nanmax(np.delete(rig.error_mm, 3, axis=1)) < 1e-6  # the error stays where it is
        assert "constant bone lengths move joints by" in rig.describe()

    def test_the_ground_carries_the_lowest_joint_if_no_place_is_known(self):
        motion = moving()
        lowest = (motion.joints * TO_CAMERA_AXES)[..., 1].min() / 1000
        np.testing.assert_allclose(fit_rig(motion).root, np.tile([0, -lowest, 0], (40, 1)), atol=1e-9)

    def test_the_root_moves_as_the_camera_saw_it(self):
        motion = moving(root_camera=np.linspace([0, 900, 4000], [500, 900, 3000], 40))
        motion.root_camera[10] = np.nan
        rig = fit_rig(motion)
        np.testing.assert_allclose(rig.root[0], [0, -0.9, -4], atol=1e-9)
        np.testing.assert_allclose(rig.root[10], (rig.root[9] + rig.root[11]) / 2, atol=1e-9)

    def test_one_frame_is_enough(self):
        assert np.nanmax(fit_rig(moving(frames=1)).error_mm) < 1e-6


class TestNoFlips:
    def test_a_bone_that_passes_opposite_to_its_rest_does_not_flip(self):
        angles = np.radians(np.linspace(90, 270, 60))  # rest is +x; at 180 degrees no smallest rotation exists
        for aside in (0.0, 1e-9, -1e-9, 0.01):
            directions = np.stack([np.cos(angles), np.sin(angles), np.full(60, aside)], axis=-1)
            rig = fit_rig(pointing(directions / np.linalg.norm(directions, axis=-1, keepdims=True)))
            assert turned_degrees(rig.rotations).max() < 3.1 + 7.3  # the bone's own turn, and what is untwisted
            assert np.nanmax(rig.error_mm) < 1e-6

    def test_a_bone_that_swings_elsewhere_has_no_twist(self):
        angles = np.linspace(0, 6, 50)
        directions = np.stack([np.cos(angles) * 0.5, np.sin(angles) * 0.5, np.full(50, 0.75**0.5)], axis=-1)
        rig = fit_rig(pointing(directions))
        for rotation in rig.rotations[:, 2]:
            axis = Rotation.from_matrix(rotation).as_rotvec()
            assert np.linalg.norm(axis) > 0.5
            assert axis @ rig.offsets[3] == pytest.approx(0, abs=1e-9)  # the forearm does not turn about itself

    def test_hips_in_one_line_leave_the_turn_as_it_was(self):
        skeleton = Skeleton("line", ("pelvis", "left_hip", "right_hip"), (-1, 0, 0), ((1, 2),), 0)
        angles = np.linspace(0, 2 * np.pi, 80)
        motion = moving(skeleton, frames=80)
        motion.joints[:, 1] = 100 * np.stack([np.cos(angles), np.sin(angles), 0.3 * np.sin(2 * angles)], axis=-1)
        motion.joints[:, 2] = -1.2 * motion.joints[:, 1]
        rig = fit_rig(motion)
        assert turned_degrees(rig.rotations).max() < 12
        assert np.nanmax(rig.error_mm) < 12  # its lengths change a little

    def test_hips_almost_in_one_line_do_not_turn_with_the_noise(self):
        skeleton = Skeleton("line", ("pelvis", "left_hip", "right_hip"), (-1, 0, 0), ((1, 2),), 0)
        motion = moving(skeleton, frames=60)
        motion.joints[:, 1], motion.joints[:, 2] = (100, 0, 0), (-100, 0, 0)
        motion.joints[:, 1:] += np.random.default_rng(0).normal(0, 3, (60, 2, 3))
        assert turned_degrees(fit_rig(motion).rotations).max() < 12

    def test_children_in_one_line_for_a_moment_keep_the_turn(self):
        motion = moving(speed=0.2)
        usual = turned_degrees(fit_rig(motion).rotations[:, :1]).max()
        children = [1, 4, 7]
        lengths = np.linalg.norm(motion.joints[20, children], axis=-1)
        longest = children[lengths.argmax()]
        motion.joints[20, children] = motion.joints[20, longest] * (lengths / lengths.max())[:, None]
        assert turned_degrees(fit_rig(motion).rotations[:, :1]).max() < 2 * usual

    def test_joints_that_meet_for_a_moment_keep_the_turn(self):
        motion = moving()
        motion.joints[20, 3] = motion.joints[20, 2]
        rig = fit_rig(motion)
        assert np.isfinite(rig.rotations).all()
        assert turned_degrees(rig.rotations).max() < 60


class TestMissing:
    def test_a_gap_is_interpolated_held_at_the_ends_and_told(self):
        motion = moving(speed=0.3)
        whole = fit_rig(motion)
        motion.joints[10:13, 6], motion.joints[:2, 13] = np.nan, np.nan
        rig = fit_rig(motion)
        assert rig.filled == {"left_ankle": 3, "left_wrist": 2}
        assert "of 40 frames: left_ankle in 3, left_wrist in 2" in rig.describe()
        assert np.isnan(rig.error_mm[10:13, 6]).all()
        assert turned_degrees(rig.rotations).max() < turned_degrees(whole.rotations).max() + 8

    def test_a_joint_that_is_never_seen_lies_straight_on_and_is_as_long_as_the_other_sides(self):
        motion = moving()
        motion.joints[:, 6] = np.nan  # left ankle
        rig = fit_rig(motion)
        index = {node.name: number for number, node in enumerate(rig.nodes)}
        lengths = np.linalg.norm(rig.offsets, axis=-1)
        assert lengths[index["left_ankle"]] == pytest.approx(lengths[index["right_ankle"]])
        np.testing.assert_allclose(rig.rotations[:, index["left_knee"]], np.tile(np.eye(3), (40, 1, 1)), atol=1e-6)
        assert rig.filled == {"left_ankle": 40}

    def test_nothing_known_is_refused(self):
        motion = moving(person=4)
        motion.joints[:] = np.nan
        with pytest.raises(ValueError, match="person 4: no joint has a position"):
            fit_rig(motion)

    def test_no_place_known_is_refused(self):
        with pytest.raises(ValueError, match="`root_camera` is not known in any frame"):
            fit_rig(moving(root_camera=np.full((40, 3), np.nan)))

    def test_joints_at_the_same_place_are_a_millimetre_apart(self):
        motion = moving()
        motion.joints[:, 6] = motion.joints[:, 5]
        motion.joints[:, 8:11] = motion.joints[:, 7:8]
        rig = fit_rig(motion)
        assert np.isfinite(rig.rotations).all()
        assert np.nanmax(rig.error_mm[:, 6]) == pytest.approx(1, abs=1e-6)
