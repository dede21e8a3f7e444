"""Metrics against hand answers and against scipy."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch

from jointdetr.evaluation.metrics import (
    TrivialBaselines,
    auc,
    heading,
    mpjpe,
    pa_mpjpe,
    pck,
    pck_torso,
    torso_length,
    turn,
)
from jointdetr.skeleton_jointdetr import HUMAN36M, Skeleton


def reference_pa_mpjpe(predicted: np.ndarray, target: np.ndarray) -> float:
    """Procrustes by scipy's orthogonal solution, with the reflection turned into a rotation."""
    x, y = predicted - predicted.mean(0), target - target.mean(0)
    rotation, _ = scipy.linalg.orthogonal_procrustes(x, y)
    u, s, vt = scipy.linalg.svd(x.T @ y)
    if scipy.linalg.det(rotation) < 0:
        u[:, -1] *= -1
        s[-1] *= -1
    aligned = s.sum() / (x**2).sum() * x @ (u @ vt)
    return float(np.linalg.norm(aligned - y, axis=1).mean())


@pytest.fixture
def poses() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    target = 400 * torch.randn(20, 17, 3, generator=generator, dtype=torch.float64)
    return target + 150 * torch.randn(20, 17, 3, generator=generator, dtype=torch.float64), target


def test_mpjpe_by_hand():
    target = torch.zeros(2, 2, 3)
    predicted = torch.tensor([[[3.0, 4, 0], [0, 0, 0]], [[0, 0, 1], [0, 2, 0]]])
    assert mpjpe(predicted, target).item() == pytest.approx((5 + 0 + 1 + 2) / 4)
    assert mpjpe(predicted, target, per_joint=True).tolist() == [3.0, 1.0]
    valid = torch.tensor([[True, False], [True, False]])
    assert mpjpe(predicted, target.masked_fill(~valid[..., None], torch.nan), valid).item() == 3.0
    assert math.isnan(mpjpe(predicted, target, torch.zeros(2, 2, dtype=torch.bool)).item())


def test_a_missing_prediction_is_not_passed_over():
    target = torch.zeros(1, 2, 3)
    predicted = torch.tensor([[[torch.nan, 0, 0], [0, 0, 0]]])
    assert math.isnan(mpjpe(predicted, target).item())
    assert pck(predicted, target).item() == 0.5


def test_pa_mpjpe_matches_scipy(poses):
    predicted, target = poses
    expected = np.mean([reference_pa_mpjpe(p.numpy(), t.numpy()) for p, t in zip(predicted, target, strict=True)])
    assert pa_mpjpe(predicted, target).item() == pytest.approx(expected, rel=1e-9)
    assert pa_mpjpe(predicted, target, per_joint=True).mean().item() == pytest.approx(expected, rel=1e-9)


def test_pa_mpjpe_matches_scipy_for_mirrored_predictions(poses):
    predicted, target = poses[0] * torch.tensor([-1.0, 1.0, 1.0]), poses[1]
    expected = np.mean([reference_pa_mpjpe(p.numpy(), t.numpy()) for p, t in zip(predicted, target, strict=True)])
    assert pa_mpjpe(predicted, target).item() == pytest.approx(expected, rel=1e-9)
    assert expected > 100  # no reflection undoes the mirror


def test_pa_mpjpe_aligns_by_the_valid_joints_alone(poses):
    predicted, target = poses
    valid = torch.rand(20, 17, generator=torch.Generator().manual_seed(0)) < 0.7
    errors, weights = [], []
    for p, t, v in zip(predicted, target, valid, strict=True):
        errors.append(reference_pa_mpjpe(p[v].numpy(), t[v].numpy()))
        weights.append(v.sum().item())
    hidden = target.masked_fill(~valid[..., None], torch.nan)
    assert pa_mpjpe(predicted, hidden, valid).item() == pytest.approx(np.average(errors, weights=weights), rel=1e-9)


def test_pa_mpjpe_undoes_a_similarity(poses):
    target = poses[1]
    angle = torch.tensor(0.7, dtype=torch.float64)
    moved = 2.5 * turn(target, angle) + torch.tensor([100.0, -50, 3000])
    assert pa_mpjpe(moved, target).item() < 1e-9


def test_pck_is_strict():
    target = torch.zeros(1, 4, 3)
    predicted = torch.tensor([[[150.0, 0, 0], [149.9, 0, 0], [0, 0, 0], [151, 0, 0]]])
    assert pck(predicted, target).item() == 0.5
    assert pck(predicted, target, threshold_mm=151.5).item() == 1.0
    assert pck(predicted, target, torch.tensor([[True, False, False, False]])).item() == 0.0


def test_auc_by_hand():
    target = torch.zeros(1, 1, 3)
    assert auc(target, target).item() == pytest.approx(30 / 31)  # threshold 0 is never passed
    predicted = torch.tensor([[[75.0, 0, 0]]])
    assert auc(predicted, target).item() == pytest.approx(15 / 31)  # 80, 85, ..., 150


def test_heading_and_turn():
    joints = torch.zeros(1, 17, 3)
    left, right = HUMAN36M.joints.index("left_hip"), HUMAN36M.joints.index("right_hip")
    joints[0, left, 0], joints[0, right, 0] = 100.0, -100.0  # facing the camera
    assert heading(joints, left, right).item() == 0.0
    turned = turn(joints, torch.tensor([math.pi / 2]))
    assert heading(turned, left, right).item() == pytest.approx(math.pi / 2)
    torch.testing.assert_close(turned[0, left], torch.tensor([0.0, 0.0, 100.0]), atol=1e-4, rtol=0)


def test_turned_mean_pose_knows_poses_that_differ_by_heading_alone():
    generator = torch.Generator().manual_seed(1)
    pose = 300 * torch.randn(17, 3, generator=generator, dtype=torch.float64)
    angles = 6 * torch.rand(12, generator=generator, dtype=torch.float64)
    joints = turn(pose.expand(12, 17, 3), angles)
    valid = torch.ones(12, 17, dtype=torch.bool)
    predictions = TrivialBaselines.fit(joints, valid, HUMAN36M).predict(joints)
    assert mpjpe(predictions["mean_pose_turned"], joints).item() < 1e-9
    torch.testing.assert_close(predictions["mean_pose"][5], joints.mean(dim=0))
    assert mpjpe(predictions["mean_pose"], joints).item() > 50


def test_baselines_average_each_joint_over_the_poses_that_know_it():
    joints = torch.zeros(2, 17, 3)
    joints[0, 3] = 100.0
    joints[1, 3] = torch.nan
    valid = torch.ones(2, 17, dtype=torch.bool)
    valid[1, 3] = False
    baselines = TrivialBaselines.fit(joints, valid, HUMAN36M)
    assert baselines.mean_pose[3].tolist() == [100.0] * 3


def test_a_skeleton_without_hips_has_no_turned_baseline():
    skeleton = Skeleton("stick", ("bottom", "top"), (-1, 0), (), 0)
    joints = torch.ones(3, 2, 3)
    baselines = TrivialBaselines.fit(joints, torch.ones(3, 2, dtype=torch.bool), skeleton)
    assert set(baselines.predict(joints)) == {"mean_pose"}


def test_pa_mpjpe_of_a_pose_that_is_not_finite_is_nan_and_spoils_no_other(poses):
    predicted, target = poses[0].clone(), poses[1]
    predicted[0, 3, 1], predicted[1, 5] = torch.nan, torch.inf
    assert math.isnan(pa_mpjpe(predicted, target).item())
    valid = torch.ones(20, 17, dtype=torch.bool)
    valid[0, 3] = valid[1, 5] = False
    assert math.isfinite(pa_mpjpe(predicted, target, valid).item())
    valid[0] = valid[1] = False
    assert pa_mpjpe(predicted, target, valid).item() == pytest.approx(pa_mpjpe(*(p[2:] for p in poses)).item())


def test_a_target_without_a_hip_is_met_by_the_unturned_pose(poses):
    target = poses[1]
    baselines = TrivialBaselines.fit(target, torch.ones(20, 17, dtype=torch.bool), HUMAN36M)
    target = target.clone()
    target[2, HUMAN36M.joints.index("left_hip")] = torch.nan
    torch.testing.assert_close(baselines.predict(target)["mean_pose_turned"][2], baselines.facing_pose)


def test_the_torso_is_between_the_middles_of_what_is_labelled():
    points = torch.tensor([[[0.0, 0], [10, 0], [0, 30], [20, 30]]]).repeat(3, 1, 1)  # hips, shoulders
    points[1, 1] = torch.nan  # one hip is enough
    points[2, :2] = torch.nan
    lengths = torso_length(points, [0, 1], [2, 3])
    assert lengths[0].item() == pytest.approx(math.hypot(5, 30)) and lengths[1].item() == pytest.approx(
        math.hypot(10, 30)
    )
    assert math.isnan(lengths[2])


def test_pck_by_the_torso_is_strict_and_counts_labelled_joints_of_measured_people():
    target = torch.zeros(3, 4, 2)
    target[0, 3] = torch.nan
    predicted = torch.zeros(3, 4, 2)
    predicted[0, 0, 0], predicted[0, 1, 0], predicted[0, 2] = 1.999, 2.0, torch.nan
    torso = torch.tensor([10.0, torch.nan, 0.0])
    assert pck_torso(predicted, target, torso).item() == pytest.approx(1 / 3)
    joints = pck_torso(predicted, target, torso, per_joint=True)
    assert joints[:3].tolist() == [1.0, 0.0, 0.0] and math.isnan(joints[3])
    assert pck_torso(predicted, target, 1.5 * torso).item() == pytest.approx(2 / 3)
