"""True poses and what a network that knows them would say."""

import torch

from jointdetr.evaluation.prediction import FoundPoses, PoseTargets, Predictions
from jointdetr.modeling_jointdetr import JointDetrPoseEstimationOutput
from jointdetr.skeleton_jointdetr import HUMAN36M

SIZE = (64, 128)  # height, width of the network's input


def make_targets(num_poses: int = 3) -> PoseTargets:
    """Random people of Human3.6M's joints whose place before the camera nobody knows."""
    generator = torch.Generator().manual_seed(0)
    joints = 300 * torch.randn(num_poses, 17, 3, generator=generator)
    visible = torch.rand(num_poses, 17, generator=generator) < 0.5
    valid = torch.ones(num_poses, 17, dtype=torch.bool)
    points = torch.rand(num_poses, 17, 2, generator=generator)
    unknown = torch.full((num_poses, 3, 3), torch.nan)
    return PoseTargets(joints, valid, visible, points, unknown[:, 0], unknown, SIZE)


def exact_outputs(targets: PoseTargets) -> JointDetrPoseEstimationOutput:
    """Queries 0 to 16 are the joints in order, the last three are sure to be none."""
    num_poses = len(targets.joints)
    logits = torch.full((num_poses, 20, 18), -10.0)
    logits[:, range(17), range(17)] = 10.0
    logits[:, 17:, 17] = 10.0
    joints = torch.cat([targets.joints, torch.full((num_poses, 3, 3), 1e4)], dim=1)
    points = torch.cat([targets.points, torch.zeros(num_poses, 3, 2)], dim=1)
    return JointDetrPoseEstimationOutput(logits=logits, pred_joints=joints, pred_points=points)


def predictions(outputs: JointDetrPoseEstimationOutput, targets: PoseTargets, threshold: float = 0.5) -> Predictions:
    """Assemble outputs without a refinement network."""
    poses = FoundPoses.assemble(outputs, threshold, None)
    return Predictions(poses, targets, HUMAN36M)
