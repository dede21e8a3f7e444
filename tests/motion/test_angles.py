"""Joint angles: of poses turned by hand, against the bone rotations of motion capture, and their uncertainty."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from standing import as_motion, standing_person, turn

from jointdetr.converters.motion_files import TO_CAMERA_AXES
from jointdetr.formats.acclaim import RecordedSkeleton, bone_ends_mm, read_amc, read_asf, world_rotations
from jointdetr.motion import PoseMotion
from jointdetr.motion.angles import ANGLES, angle_columns, joint_angles
from jointdetr.skeleton_jointdetr import COCO, HUMAN36M, Skeleton

ZERO_WHEN_STANDING = [name for name in ANGLES if "rotation" not in name and "plane" not in name]


def angles_of(body: dict[str, np.ndarray]) -> dict[str, float]:
    measured = joint_angles(as_motion(body))
    return dict(zip(measured.names, measured.degrees[0], strict=True))


class TestPosesByHand:
    def test_somebody_who_stands_has_no_angles(self):
        angles = angles_of(standing_person())
        assert [angles[name] for name in ZERO_WHEN_STANDING] == pytest.approx([0] * len(ZERO_WHEN_STANDING), abs=1e-6)
        assert angles["trunk_rotation"] == angles["neck_rotation"] == pytest.approx(0, abs=1e-6)

    def test_what_a_straight_limb_cannot_tell_is_nan(self):
        angles = angles_of(standing_person())
        undetermined = ["hip_rotation", "shoulder_plane", "shoulder_rotation"]
        assert np.isnan([angles[f"{side}_{name}"] for side in ("left", "right") for name in undetermined]).all()

    @pytest.mark.parametrize(
        ("joint", "about", "degrees", "expected"),
        [
            ("right_hip", "z", 40, {"right_hip_flexion": 40, "left_hip_flexion": 0, "right_knee_flexion": 0}),
            ("left_hip", "z", 40, {"left_hip_flexion": 40, "left_hip_abduction": 0}),
            ("right_hip", "x", -25, {"right_hip_abduction": 25, "right_hip_flexion": 0}),
            ("left_hip", "x", 25, {"left_hip_abduction": 25}),
            ("right_knee", "z", -60, {"right_knee_flexion": 60, "right_hip_rotation": 0, "right_hip_flexion": 0}),
            ("left_elbow", "z", 90, {"left_elbow_flexion": 90}),
            ("right_shoulder", "x", -70, {"right_shoulder_elevation": 70, "right_shoulder_plane": 0}),
            ("left_shoulder", "x", 70, {"left_shoulder_elevation": 70, "left_shoulder_plane": 0}),
            ("right_shoulder", "z", 70, {"right_shoulder_elevation": 70, "right_shoulder_plane": 90}),
            ("left_shoulder", "z", 70, {"left_shoulder_elevation": 70, "left_shoulder_plane": 90}),
            ("spine", "z", -30, {"trunk_flexion": 30, "trunk_bending": 0, "neck_flexion": 0}),
            ("spine", "x", 20, {"trunk_bending": 20}),
            ("spine", "y", 35, {"trunk_rotation": 35, "trunk_flexion": 0}),
            ("thorax", "z", 0, {"neck_flexion": 0}),
            ("pelvis", "z", -15, {"trunk_lean_forward": 15, "trunk_lean_right": 0, "right_hip_flexion": 0}),
            ("pelvis", "x", 15, {"trunk_lean_right": 15}),
        ],
    )
    def test_one_turn_is_one_angle(self, joint, about, degrees, expected):
        angles = angles_of(turn(standing_person(), joint, about, degrees))
        assert {name: angles[name] for name in expected} == pytest.approx(expected, abs=1e-6)

    @pytest.mark.parametrize(("side", "sign"), [("right", 1), ("left", -1)])
    def test_rotation_of_a_thigh_shows_in_the_bent_knee(self, side, sign):
        body = turn(standing_person(), f"{side}_knee", "z", -90)
        body = turn(body, f"{side}_hip", "y", sign * 20)
        assert angles_of(body)[f"{side}_hip_rotation"] == pytest.approx(20)

    @pytest.mark.parametrize(("side", "sign"), [("right", 1), ("left", -1)])
    def test_rotation_of_a_raised_arm_shows_in_the_bent_elbow(self, side, sign):
        body = turn(standing_person(), f"{side}_elbow", "z", 90)
        body = turn(body, f"{side}_shoulder", "y", sign * 30)
        body = turn(body, f"{side}_shoulder", "x", sign * -80)
        angles = angles_of(body)
        assert angles[f"{side}_shoulder_rotation"] == pytest.approx(30)
        assert angles[f"{side}_shoulder_elevation"] == pytest.approx(80)

    @pytest.mark.parametrize(
        ("about", "degrees", "name"),
        [("z", -30, "neck_flexion"), ("x", 15, "neck_bending"), ("y", 40, "neck_rotation")],
    )
    def test_the_head_moves_about_the_neck_alone(self, about, degrees, name):
        body, expected = standing_person(), abs(degrees)
        moved = turn({**body, "right_shoulder": body["right_shoulder"]}, "thorax", about, degrees)
        head_only = {**body, "neck": moved["neck"], "head": moved["head"]}
        assert angles_of(head_only)[name] == pytest.approx(expected)

    def test_up_may_be_given(self):
        tilted = turn(standing_person(), "pelvis", "z", -15)
        up = np.array([0.0, -np.cos(np.radians(15)), -np.sin(np.radians(15))])  # towards the camera that is faced
        measured = joint_angles(as_motion(tilted), up)
        assert measured["trunk_lean_forward"] == pytest.approx(0, abs=1e-6)
        assert measured["trunk_lean_right"] == pytest.approx(0, abs=1e-6)

    @pytest.mark.parametrize("up", [(0, 0, 0), (1, 0), (np.nan, 1, 0)])
    def test_up_without_direction_is_refused(self, up):
        with pytest.raises(ValueError, match="`up` must be three numbers"):
            joint_angles(as_motion(standing_person()), up)

    def test_turning_the_whole_body_changes_no_angle_between_segments(self):
        body = turn(turn(standing_person(), "right_knee", "z", -50), "left_shoulder", "x", 60)
        motion = as_motion(body)
        turned = replace(motion, joints=Rotation.from_rotvec([0.3, 1.2, -0.8]).apply(motion.joints[0])[None])
        between = [index for index, name in enumerate(ANGLES) if "lean" not in name]
        np.testing.assert_allclose(
            joint_angles(turned).degrees[:, between], joint_angles(motion).degrees[:, between], atol=1e-6
        )


class TestMissing:
    def test_a_missing_joint_takes_only_its_angles(self):
        motion = as_motion(turn(standing_person(), "right_knee", "z", -50))
        motion.joints[0, HUMAN36M.joints.index("right_ankle")] = np.nan
        measured = joint_angles(motion)
        assert np.isnan(measured["right_knee_flexion"]).all()
        assert measured["right_hip_flexion"] == pytest.approx(0, abs=1e-6)
        assert measured["left_knee_flexion"] == pytest.approx(0, abs=1e-6)

    def test_skeletons_without_a_spine_have_no_angles_of_it(self):
        joints = np.random.default_rng(0).normal(0, 300, (2, len(COCO.joints), 3))
        measured = joint_angles(PoseMotion(COCO, [0, 1], joints, np.isfinite(joints).all(-1)))
        assert np.isnan(measured["trunk_flexion"]).all()
        assert np.isfinite(measured["right_knee_flexion"]).all()

    def test_skeletons_without_hips_are_refused(self):
        chain = Skeleton("chain", ("a", "b"), (-1, 0), (), 0)
        with pytest.raises(ValueError, match="the skeleton 'chain' lacks"):
            joint_angles(PoseMotion(chain, [0], np.zeros((1, 2, 3)), np.ones((1, 2))))


class TestUncertainty:
    def test_of_a_limb_in_line_with_the_answer_by_hand(self):
        body = turn(standing_person(), "right_knee", "z", -90)
        sigmas = np.zeros((1, 17))
        sigmas[0, HUMAN36M.joints.index("right_ankle")] = 10 * np.sqrt(8 / np.pi)  # 10 mm along each axis
        measured = joint_angles(as_motion(body, sigmas=sigmas))
        deviation = measured.uncertainty[0, measured.names.index("right_knee_flexion")]
        assert deviation == pytest.approx(np.degrees(10 / 430), rel=1e-4)
        assert measured.uncertainty[0, measured.names.index("left_hip_flexion")] == 0

    def test_is_what_noise_of_that_size_does(self):
        body = turn(turn(standing_person(), "right_knee", "z", -70), "right_hip", "z", 40)
        body = turn(turn(body, "left_elbow", "z", 80), "left_shoulder", "x", 60)
        sigmas = np.random.default_rng(1).uniform(8, 20, (1, 17))
        measured = joint_angles(as_motion(body, sigmas=sigmas))
        noise = np.random.default_rng(2).normal(size=(4000, 17, 3)) * (sigmas / np.sqrt(8 / np.pi))[..., None]
        many = as_motion(*[body] * 4000)
        spread = joint_angles(replace(many, joints=many.joints + noise)).degrees.std(0)
        unsigned = ["knee_flexion", "elbow_flexion", "shoulder_elevation"]  # which have no slope at 0
        at_zero = np.array([name.partition("_")[2] in unsigned for name in ANGLES]) & (measured.degrees[0] < 20)
        known = np.isfinite(measured.degrees[0]) & ~at_zero
        assert known.sum() == 18
        np.testing.assert_allclose(measured.uncertainty[0, known], spread[known], rtol=0.1)

    def test_is_unknown_where_an_error_is(self):
        sigmas = np.full((1, 17), 20.0)
        sigmas[0, HUMAN36M.joints.index("left_ankle")] = np.nan
        measured = joint_angles(as_motion(turn(standing_person(), "left_knee", "z", -50), sigmas=sigmas))
        uncertainty = dict(zip(measured.names, measured.uncertainty[0], strict=True))
        assert np.isnan(uncertainty["left_knee_flexion"])
        assert uncertainty["left_hip_flexion"] > 0
        assert np.isnan(joint_angles(as_motion(standing_person())).uncertainty).all()


def test_columns_of_several_people_are_in_the_order_of_frames():
    first = joint_angles(as_motion(standing_person(), standing_person()))
    second = joint_angles(replace(as_motion(standing_person()), person=4, frames=np.array([0])))
    columns = angle_columns([first, second])
    assert columns["frame"].tolist() == [0, 0, 1]
    assert columns["person"].tolist() == [0, 4, 0]
    assert len(columns) == 3 + 2 * len(ANGLES)


# Angles of CMU's recordings from the rotations of their own bones. Their skeleton is y up and faces +z, so +x is left.
FORWARD_UP_RIGHT = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
JOINT_BONES = {"spine": "lowerback", "thorax": "thorax", "neck": "upperneck", "head": "head"}
LIMB_BONES = {
    "hip": "hipjoint",
    "knee": "femur",
    "ankle": "tibia",
    "shoulder": "clavicle",
    "elbow": "humerus",
    "wrist": "radius",
}


def cmu_recording(motion_file: Path) -> tuple[PoseMotion, dict[str, np.ndarray]]:
    """A recording as the 17 joints, and the angles that the rotations of its bones say, degrees `(frames,)`."""
    (skeleton_file,) = motion_file.parent.glob("*.asf")
    skeleton, recorded = read_asf(skeleton_file), read_amc(motion_file, 4)
    ends = dict(zip(skeleton.names, bone_ends_mm(skeleton, recorded).swapaxes(0, 1), strict=True))
    bones = JOINT_BONES | {
        f"{side}_{joint}": f"{side[0]}{bone}" for side in ("left", "right") for joint, bone in LIMB_BONES.items()
    }
    pelvis = (ends["lhipjoint"] + ends["rhipjoint"]) / 2
    joints = np.stack([pelvis, *(ends[bones[name]] for name in HUMAN36M.joints[1:])], axis=1) @ TO_CAMERA_AXES["y"].T
    joints = joints - joints[:, :1]
    motion = PoseMotion(HUMAN36M, np.arange(len(joints)) / 30, joints, np.isfinite(joints).all(-1))
    return motion, _angles_of_bones(skeleton, recorded)


def _angles_of_bones(skeleton: RecordedSkeleton, recorded: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    turned = dict(zip(skeleton.names, world_rotations(skeleton, recorded).swapaxes(0, 1), strict=True))
    rest = dict(zip(skeleton.names, skeleton.directions, strict=True))
    angles = {}
    for side, sign in (("left", -1), ("right", 1)):
        hip = np.swapaxes(turned["root"], 1, 2) @ turned[f"{side[0]}femur"] @ _rest_axes(-rest[f"{side[0]}femur"])
        flexion, abduction, rotation = Rotation.from_matrix(FORWARD_UP_RIGHT @ hip).as_euler("ZXY", True).T
        angles |= {f"{side}_hip_flexion": flexion, f"{side}_hip_abduction": -sign * abduction}
        angles[f"{side}_hip_rotation"] = sign * rotation
        arm = turned[f"{side[0]}humerus"] @ rest[f"{side[0]}humerus"]  # (frames, 3)
        trunk_up = turned["thorax"] @ rest["thorax"]
        angles[f"{side}_shoulder_elevation"] = np.degrees(np.arccos(-(arm * trunk_up).sum(-1)))
        angles[f"{side}_knee_flexion"] = recorded[f"{side[0]}tibia"][:, 0]
        angles[f"{side}_elbow_flexion"] = recorded[f"{side[0]}radius"][:, 0]
    trunk = FORWARD_UP_RIGHT @ np.swapaxes(turned["root"], 1, 2) @ turned["thorax"] @ FORWARD_UP_RIGHT.T
    extension, bending, rotation = Rotation.from_matrix(trunk).as_euler("ZXY", True).T
    return angles | {"trunk_flexion": -extension, "trunk_bending": bending, "trunk_rotation": rotation}


def _rest_axes(up: np.ndarray) -> np.ndarray:
    """X, Y and Z of a bone at rest as columns: Y along it, Z as far to the right as can be."""
    forward = np.cross(up, FORWARD_UP_RIGHT[2])
    forward /= np.linalg.norm(forward)
    return np.stack([forward, up, np.cross(forward, up)], axis=-1)


# How far ours may be off from those of the bones on average, degrees. The pelvis tilts forward and backward unseen,
# as its three joints lie in one line; where the spine begins tells little. Shoulders are raised with the arms.
CLOSE = {
    "knee_flexion": 0.1,
    "elbow_flexion": 0.1,
    "hip_abduction": 0.1,
    "hip_rotation": 0.1,
    "shoulder_elevation": 5.0,
    "hip_flexion": 10.0,
    "trunk_flexion": 10.0,
    "trunk_bending": 3.0,
    "trunk_rotation": 1.5,
}


@pytest.mark.parametrize("file", ["01/01_02.amc", "02/02_01.amc", "02/02_05.amc"])
def test_agrees_with_the_rotations_of_recorded_bones(file, real_data):
    motion, truth = cmu_recording(real_data / "cmu-mocap" / "subjects" / file)
    measured = joint_angles(motion)
    for name, of_bones in truth.items():
        known = np.isfinite(measured[name])
        assert known.mean() > 0.6, name
        error = np.abs(np.remainder(measured[name] - of_bones + 180, 360) - 180)[known].mean()
        assert error < CLOSE[name.removeprefix("left_").removeprefix("right_")], name
