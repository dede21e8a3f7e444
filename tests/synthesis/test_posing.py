"""Motion capture on the body: limbs point as they were recorded, by hand and by CMU."""

from pathlib import Path

import pytest
import torch
from acclaim_examples import asf_text, recorded_skeletons, write_recording
from torch import Tensor

from jointdetr.formats.acclaim import read_amc, read_asf, world_rotations
from jointdetr.skeleton_jointdetr import HUMAN36M
from jointdetr.synthesis import poses as poses_module
from jointdetr.synthesis.body import LIMBS, Body, load_body
from jointdetr.synthesis.poses import sample_people, sample_poses, sample_skeletons
from jointdetr.synthesis.posing import (
    LIMB_BONES,
    TO_BODY_AXES,
    MotionLibrary,
    retarget,
)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    return write_recording(tmp_path)


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body()


def joint(joints: Tensor, name: str) -> Tensor:
    return joints[:, HUMAN36M.joints.index(name)]


def test_limbs_point_where_the_recorded_ones_do(body: Body, recording: Path) -> None:
    rotations = retarget(body, read_asf(recording / "figure.asf"), read_amc(recording / "bend.amc"))
    heads = body.pose(torch.zeros(2, 16), rotations.float()).bones

    def direction(name: str) -> Tensor:
        part, side = name.split(".")
        along = heads[:, body.bone(f"{LIMBS[part]}.{side}")] - heads[:, body.bone(name)]
        return torch.nn.functional.normalize(along, dim=-1)

    down, back, left, forward = torch.tensor([[0, 0, -1], [0, 1, 0], [1, 0, 0], [0, -1, 0]]).float()
    expected = {
        "upperleg01.L": (down, down),
        "lowerleg01.L": (down, back),
        "lowerleg01.R": (down, down),
        "upperarm01.L": (left, left),
        "lowerarm01.L": (left, forward),
        "lowerarm01.R": (-left, -left),
    }
    for name, directions in expected.items():
        torch.testing.assert_close(direction(name), torch.stack(directions), atol=1e-4, rtol=0)


def test_a_skeleton_without_a_bone_is_refused(body: Body, recording: Path) -> None:
    skeleton, motion = read_asf(recording / "figure.asf"), read_amc(recording / "bend.amc")
    skeleton.names[skeleton.names.index("head")] = "skull"
    with pytest.raises(ValueError, match=r"missing are \['head'\]"):
        retarget(body, skeleton, motion)


def test_a_folder_must_hold_recordings(body: Body, recording: Path, tmp_path: Path) -> None:
    assert len(MotionLibrary(body, recording, stride=1)) == 2
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="found none"):
        MotionLibrary(body, tmp_path / "empty")
    (recording / "other.asf").write_text(asf_text())
    with pytest.raises(ValueError, match=r"must hold one \*.asf file"):
        MotionLibrary(body, recording)


def test_people_take_their_poses_from_motions(body: Body, recording: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = MotionLibrary(body, recording, stride=1)
    poses = sample_poses(body, range(60), motions=library)
    plain = sample_poses(body, range(60))
    recorded = torch.tensor([activity == "motion bend" for activity in poses.activity])
    assert 15 < recorded.sum() < 45
    torch.testing.assert_close(poses.rotations[~recorded], plain.rotations[~recorded])
    torch.testing.assert_close(poses.shape, plain.shape)
    monkeypatch.setattr(poses_module, "MOTION_SHARE", 1.0)
    people = sample_people(body, range(8), motions=library)
    assert people.activity == ["motion bend"] * 8
    again = sample_people(body, [5], motions=library)
    torch.testing.assert_close(again.vertices[0], people.vertices[5], atol=1e-5, rtol=0)


@pytest.fixture(scope="module")
def cmu(body: Body, real_data: Path) -> MotionLibrary:
    """Walking, running, punching: subject 2 of the CMU data base."""
    return MotionLibrary(body, real_data / "cmu-mocap" / "subjects" / "02", stride=60)


def test_cmu_recordings_become_people(body: Body, cmu: MotionLibrary) -> None:
    skeletons = recorded_skeletons(body, cmu)
    assert skeletons.shape == (len(cmu), 17, 3) and skeletons.isfinite().all()
    walking = skeletons[cmu.clip_of_frame == cmu.clips.index("02_01")]
    head, foot = joint(walking, "head"), torch.minimum(joint(walking, "left_ankle"), joint(walking, "right_ankle"))
    assert (head[:, 2] > 550).all() and (foot[:, 2] < -700).all()
    # Thigh and shin of a walker never fold forward, seen along the way the hips face.
    across = joint(walking, "left_hip") - joint(walking, "right_hip")
    forward = torch.stack([across[:, 1], -across[:, 0]], dim=-1) / across[:, :2].norm(dim=-1, keepdim=True)
    for name in ("left", "right"):
        thigh = (joint(walking, f"{name}_knee") - joint(walking, f"{name}_hip"))[:, :2]
        shin = (joint(walking, f"{name}_ankle") - joint(walking, f"{name}_knee"))[:, :2]
        assert ((thigh - shin) * forward).sum(-1).min() > -60


def test_cmu_limbs_keep_their_direction(body: Body, real_data: Path) -> None:
    folder = real_data / "cmu-mocap" / "subjects" / "02"
    skeleton, motion = read_asf(folder / "02.asf"), read_amc(folder / "02_05.amc", stride=200)
    rotations = retarget(body, skeleton, motion)
    heads = body.pose(torch.zeros(len(rotations), 16), rotations.float()).bones
    recorded = torch.from_numpy(world_rotations(skeleton, motion))
    for name, part in LIMB_BONES.items():
        if part not in LIMBS:
            continue
        bone = skeleton.names.index(f"r{name}")
        along = torch.from_numpy(skeleton.directions[bone])
        expected = (TO_BODY_AXES @ recorded[:, bone] @ along).float()
        found = heads[:, body.bone(f"{LIMBS[part]}.R")] - heads[:, body.bone(f"{part}.R")]
        torch.testing.assert_close(torch.nn.functional.normalize(found, dim=-1), expected, atol=1e-3, rtol=0)


def test_cmu_people_are_drawn(body: Body, cmu: MotionLibrary, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poses_module, "MOTION_SHARE", 1.0)
    skeletons = sample_skeletons(body, range(40), motions=cmu)
    assert skeletons.isfinite().all()
    poses = sample_poses(body, range(40), motions=cmu)
    assert len(set(poses.activity)) > 3 and all(activity.startswith("motion 02_") for activity in poses.activity)
