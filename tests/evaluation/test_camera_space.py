"""Errors in camera space against hand answers; nothing of the true depth is used."""

import pytest
import torch

from jointdetr import AssembledPoses
from jointdetr.evaluation.prediction import FoundPoses, PoseTargets
from jointdetr.evaluation.scoring import camera_metrics
from jointdetr.geometry_jointdetr import project

INTRINSICS = torch.tensor([[200.0, 0, 64], [0, 200, 32], [0, 0, 1]])
SIZE = (64, 128)  # height, width


def scene(count: int = 4):
    """True poses with their roots, seen without error."""
    generator = torch.Generator().manual_seed(0)
    joints = 300 * torch.randn(count, 17, 3, generator=generator)
    joints[:, 0] = 0.0
    roots = torch.tensor([[100.0, -50.0, 4000.0]]).repeat(count, 1)
    points = project(joints + roots[:, None], INTRINSICS) / torch.tensor([128.0, 64.0])
    scores = torch.ones(count, 17)
    poses = AssembledPoses(joints, points, scores, scores > 0)
    valid = torch.ones(count, 17, dtype=torch.bool)
    targets = PoseTargets(joints, valid, valid, points, roots, INTRINSICS.repeat(count, 1, 1), SIZE)
    return FoundPoses(poses, poses, poses.joints, refined=False), targets


def test_exact_poses_are_placed_exactly():
    poses, targets = scene()
    metrics = camera_metrics(poses, targets, root=0)
    assert metrics["placed"] == 1.0
    assert metrics["mpjpe_absolute"] < 0.5 and metrics["mrpe"] < 0.5


def test_a_person_a_tenth_too_large_stands_a_tenth_too_far():
    poses, targets = scene()
    poses.joints = poses.detected.joints = 1.1 * poses.joints
    metrics = camera_metrics(poses, targets, root=0)
    assert metrics["mrpe"] == pytest.approx(0.1 * targets.roots[0].norm().item(), rel=1e-3)


def test_joint_errors_in_camera_space_by_hand():
    poses, targets = scene()
    poses.joints = poses.joints.clone()
    poses.joints[:, 5, 1] += 34.0  # a joint that was not detected and has been filled in
    poses.detected.detected[:, 5] = False
    metrics = camera_metrics(poses, targets, root=0)
    assert metrics["mpjpe_absolute"] == pytest.approx(2.0, abs=0.3)
    assert metrics["mrpe"] < 0.5


def test_people_who_cannot_be_placed_are_counted():
    poses, targets = scene()
    poses.detected.detected[0, 2:] = False  # two joints are too few
    targets.roots[3] = torch.nan  # where this one stands nobody knows
    metrics = camera_metrics(poses, targets, root=0)
    assert metrics["placed"] == pytest.approx(2 / 3)
    assert metrics["mrpe"] < 0.5


def test_nothing_is_said_where_no_true_place_is_known():
    poses, targets = scene()
    targets.intrinsics[:] = torch.nan
    assert camera_metrics(poses, targets, root=0) == {}


def seen(joints: torch.Tensor, scores: torch.Tensor) -> tuple[FoundPoses, PoseTargets]:
    """One person whose root is half a metre before the camera, of whom the joints with a score are detected."""
    root = torch.tensor([[0.0, 0.0, 500.0]])
    points = project(joints[None] + root, INTRINSICS) / torch.tensor([128.0, 64.0])
    poses = AssembledPoses(joints[None], points, scores[None], ~scores[None].isnan())
    poses.scores = scores[None].nan_to_num()
    valid = torch.ones(1, len(joints), dtype=torch.bool)
    targets = PoseTargets(joints[None], valid, valid, points, root, INTRINSICS[None], SIZE)
    return FoundPoses(poses, poses, poses.joints, refined=True), targets


@pytest.mark.parametrize(("hand_mm", "placed"), [(-499.0, 1.0), (-501.0, 0.0)])
def test_nobody_is_placed_with_a_joint_behind_the_camera_as_users_do_not_get_it(hand_mm, placed):
    """The hand is filled in: 1 mm before the camera, or 1 mm behind it, where no camera would see it."""
    joints = torch.tensor([[0.0, 0, 0], [200, 0, 0], [0, 150, 0], [0, 0, hand_mm]])
    poses, targets = seen(joints, torch.tensor([1.0, 1.0, 1.0, torch.nan]))
    metrics = camera_metrics(poses, targets, root=0)
    assert metrics["placed"] == placed
    assert metrics["mrpe"] == pytest.approx(0.0, abs=0.01) if placed else metrics["mrpe"] != metrics["mrpe"]


def test_joints_whose_score_is_zero_place_nobody_and_refuse_nobody():
    """With a threshold of 0 they are detected, and weigh nothing: three that weigh something are wanted."""
    joints = torch.tensor([[0.0, 0, 0], [200, 0, 0], [0, 150, 0], [100, 100, 50]])
    for scores, placed in (([1.0, 0.0, 0.0, 0.0], 0.0), ([1.0, 1.0, 0.0, 0.0], 0.0), ([1.0, 1.0, 1.0, 0.0], 1.0)):
        assert camera_metrics(*seen(joints, torch.tensor(scores)), root=0)["placed"] == placed
