"""Joints of one skeleton as those of another: by name, by formula, with a mask for the rest."""

import numpy as np
import pytest
import torch

from jointdetr.data.skeleton_mapping import FORMULAS, POINT_OF_JOINT, joint_sources, map_skeleton
from jointdetr.skeleton_jointdetr import (
    CMU_MOCAP,
    COCO,
    HUMAN36M,
    LSP,
    MPI_INF_3DHP,
    PANOPTIC,
    SKELETONS,
    SMPL,
    Skeleton,
)


def numbered(skeleton: Skeleton) -> np.ndarray:
    """Joint j at (j, 10 j, 100 j)."""
    return np.arange(len(skeleton.joints))[:, None] * np.array([1.0, 10.0, 100.0])


def at(skeleton: Skeleton, joint: str) -> np.ndarray:
    return numbered(skeleton)[skeleton.joints.index(joint)]


def mapped_joint(source: Skeleton, target: Skeleton, joint: str) -> np.ndarray:
    mapped, mask = map_skeleton(numbered(source), source, target)
    assert mask[target.joints.index(joint)]
    return mapped[target.joints.index(joint)]


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=SKELETONS)
def test_a_skeleton_maps_to_itself(skeleton):
    mapped, mask = map_skeleton(numbered(skeleton), skeleton, skeleton)
    np.testing.assert_array_equal(mapped, numbered(skeleton))
    assert mask.all()


def test_the_same_word_is_not_always_the_same_place():
    # Human3.6M's "neck" is at the mouth; MPI-INF-3DHP's is where Human3.6M has its "thorax".
    np.testing.assert_array_equal(mapped_joint(MPI_INF_3DHP, HUMAN36M, "thorax"), at(MPI_INF_3DHP, "neck"))
    np.testing.assert_array_equal(mapped_joint(MPI_INF_3DHP, HUMAN36M, "head"), at(MPI_INF_3DHP, "head_top"))
    np.testing.assert_array_equal(mapped_joint(HUMAN36M, LSP, "neck"), at(HUMAN36M, "thorax"))
    np.testing.assert_array_equal(mapped_joint(HUMAN36M, LSP, "head_top"), at(HUMAN36M, "head"))


def test_the_14_joints_are_those_of_the_usual_indices():
    usual = [6, 5, 4, 1, 2, 3, 16, 15, 14, 11, 12, 13, 8, 10]  # with Human3.6M's legs right first
    right_first = [3, 2, 1, 4, 5, 6, *usual[6:]]
    mapped, mask = map_skeleton(numbered(HUMAN36M), HUMAN36M, LSP)
    np.testing.assert_array_equal(mapped, numbered(HUMAN36M)[right_first])
    assert mask.all()


def test_formulas_give_what_a_hand_gives():
    hips = (at(COCO, "left_hip") + at(COCO, "right_hip")) / 2
    shoulders = (at(COCO, "left_shoulder") + at(COCO, "right_shoulder")) / 2
    np.testing.assert_allclose(mapped_joint(COCO, HUMAN36M, "pelvis"), hips)
    np.testing.assert_allclose(mapped_joint(COCO, HUMAN36M, "thorax"), shoulders)
    np.testing.assert_allclose(mapped_joint(COCO, HUMAN36M, "spine"), (hips + shoulders) / 2)
    np.testing.assert_array_equal(mapped_joint(COCO, HUMAN36M, "neck"), at(COCO, "nose"))
    ears = (at(PANOPTIC, "left_ear") + at(PANOPTIC, "right_ear")) / 2
    np.testing.assert_allclose(mapped_joint(PANOPTIC, MPI_INF_3DHP, "head"), ears)


def test_what_cannot_be_had_is_masked():
    mapped, mask = map_skeleton(numbered(COCO), COCO, HUMAN36M)
    assert [HUMAN36M.joints[joint] for joint in np.flatnonzero(~mask)] == ["head"]  # the top of the head
    assert np.isnan(mapped[10]).all() and not np.isnan(mapped[mask]).any()
    missing = [SMPL.joints[joint] for joint, found in enumerate(joint_sources(HUMAN36M, SMPL)) if found is None]
    assert set(missing) == {
        *("spine1", "spine3", "head"),
        *(f"{side}_{part}" for side in ("left", "right") for part in ("foot", "hand")),
    }


def test_motion_capture_gives_all_of_human36m():
    _, mask = map_skeleton(numbered(CMU_MOCAP), CMU_MOCAP, HUMAN36M)
    assert mask.all()


def test_unknown_joints_spoil_only_what_needs_them():
    joints = np.stack([numbered(COCO), numbered(COCO)])
    joints[1, COCO.joints.index("left_hip")] = np.nan
    mapped, mask = map_skeleton(joints, COCO, HUMAN36M)
    lost = [HUMAN36M.joints[joint] for joint in np.flatnonzero(mask[0] & ~mask[1])]
    assert lost == ["pelvis", "left_hip", "spine"]
    assert np.isnan(mapped[1][~mask[1]]).all() and np.isfinite(mapped[1][mask[1]]).all()


def test_flags_are_heeded_whatever_the_values():
    valid = np.ones((3, 17), dtype=bool)
    valid[2, COCO.joints.index("nose")] = False
    joints = np.stack([numbered(COCO)[:, :2]] * 3).astype(np.float32)
    mapped, mask = map_skeleton(joints, COCO, HUMAN36M, valid)
    assert mapped.shape == (3, 17, 2) and mapped.dtype == np.float32
    assert mask[:2, 9].all() and not mask[2, 9]
    assert np.isnan(mapped[2, 9]).all()


@pytest.mark.parametrize("source", SKELETONS.values(), ids=SKELETONS)
def test_torch_and_numpy_agree_in_batches(source):
    generator = np.random.default_rng(0)
    joints = generator.normal(size=(2, 3, len(source.joints), 3))
    joints[generator.random(joints.shape[:-1]) < 0.2] = np.nan
    expected, mask = map_skeleton(joints, source, HUMAN36M)
    mapped, torch_mask = map_skeleton(torch.from_numpy(joints), source, HUMAN36M)
    np.testing.assert_allclose(mapped.numpy(), expected)
    np.testing.assert_array_equal(torch_mask.numpy(), mask)
    assert mapped.dtype == torch.float64


@pytest.mark.parametrize("target", SKELETONS.values(), ids=SKELETONS)
@pytest.mark.parametrize("source", SKELETONS.values(), ids=SKELETONS)
def test_mirroring_commutes_with_mapping(source, target):
    from jointdetr.camera_jointdetr import flip_joints

    joints = torch.randn(len(source.joints), 3, dtype=torch.float64)
    flipped, _ = map_skeleton(flip_joints(joints, source.flip_pairs), source, target)
    mapped, _ = map_skeleton(joints, source, target)
    torch.testing.assert_close(flipped, flip_joints(mapped, target.flip_pairs), equal_nan=True)


def test_the_tables_are_sound():
    for formulas in FORMULAS.values():
        for formula in formulas:
            assert sum(formula.weights.values()) == pytest.approx(1.0) and formula.note
    for name, points in POINT_OF_JOINT.items():
        assert set(points) <= set(SKELETONS[name].joints)
        mapped = [points.get(joint, joint) for joint in SKELETONS[name].joints]
        assert len(set(mapped)) == len(mapped)


def test_a_skeleton_of_ones_own_is_mapped_by_name():
    markers = Skeleton("markers", ("root", "left_knee", "tail"), (-1, 0, 0), (), 0)
    mapped, mask = map_skeleton(numbered(HUMAN36M), HUMAN36M, markers)
    assert mask.tolist() == [False, True, False]
    np.testing.assert_array_equal(mapped[1], at(HUMAN36M, "left_knee"))


@pytest.mark.parametrize(
    ("joints", "valid", "message"),
    [
        (np.zeros((16, 3)), None, r"\(\.\.\., 17, axes\) for skeleton 'coco', got \(16, 3\)"),
        (np.zeros(17), None, "got"),
        (np.zeros((2, 17, 3)), np.ones(17, bool), r"`valid` must be \(2, 17\)"),
    ],
)
def test_other_shapes_are_refused(joints, valid, message):
    with pytest.raises(ValueError, match=message):
        map_skeleton(joints, COCO, HUMAN36M, valid)
