"""Joint queries as they enter the decoder: the learned ones, and in training more groups and denoising queries.

Shape vocabulary: batch, queries, joints (joint types J), groups. 3D is in units of `config.joint_scale`, 2D in units
of the input's side.
"""

from dataclasses import dataclass

import torch
from torch import nn

from .configuration_jointdetr import JointDetrConfig
from .layers_jointdetr import JointDetrConnection
from .loss_jointdetr import PoseLabels


@dataclass
class JointQueries:
    """Queries of the decoder, and where its first layer starts from."""

    content: torch.Tensor  # (batch, queries, d_model)
    positions: torch.Tensor  # (batch, queries, d_model)
    joints: torch.Tensor  # (batch, queries, 3)
    points: torch.Tensor  # (batch, queries, 2)
    group_sizes: list[int]  # queries of each group, in order; no group sees another

    def followed_by(self, other: "JointQueries") -> "JointQueries":
        """Append more groups."""
        tensors = [
            torch.cat([getattr(self, name), getattr(other, name)], 1)
            for name in ("content", "positions", "joints", "points")
        ]
        return JointQueries(*tensors, self.group_sizes + other.group_sizes)

    def attention_mask(self) -> torch.Tensor | None:
        """What keeps the groups apart in self-attention: (queries, queries), 0 or -inf; None for a single group."""
        if len(self.group_sizes) == 1:
            return None
        groups = [number for number, size in enumerate(self.group_sizes) for _ in range(size)]
        group = torch.tensor(groups).to(self.content.device, non_blocking=True)  # (queries,)
        mask = torch.zeros(len(group), len(group), device=group.device)
        return mask.masked_fill(group[:, None] != group, -torch.inf)


class JointDetrDenoisingQueries(nn.Module):
    """Makes queries of noisy labels, which the decoder learns to put right without any matching; training alone.

    Source: Li et al., "DN-DETR: Accelerate DETR Training by Introducing Query DeNoising", CVPR 2022.
    """

    def __init__(self, config: JointDetrConfig):
        super().__init__()
        self.config = config
        self.content = nn.Embedding(config.num_joints, config.d_model)
        self.position = JointDetrConnection(config)

    def forward(self, labels: PoseLabels) -> JointQueries:
        """Make `config.num_denoising_groups` groups of one query per joint for every picture.

        A joint without a 2D label starts anywhere in the picture, one without a 3D label near the root.
        """
        config = self.config
        shape = (len(labels.joints), config.num_denoising_groups, config.num_joints)
        joints = labels.joints[:, None] + _noise(
            (*shape, 3), config.denoising_joint_noise / config.joint_scale, labels
        )
        points = labels.points[:, None] + _noise((*shape, 2), config.denoising_point_noise, labels)
        anywhere = 0.5 + _noise((*shape, 2), 0.5, labels)
        points = torch.where(labels.points_valid[:, None, :, None], points, anywhere)
        types = torch.arange(config.num_joints, device=joints.device).expand(shape)
        mistaken = torch.rand(shape, device=joints.device) < config.denoising_label_noise
        types = torch.where(mistaken, torch.randint_like(types, config.num_joints), types)
        joints, points, types = joints.flatten(1, 2), points.flatten(1, 2), types.flatten(1, 2)
        probabilities = nn.functional.one_hot(types, config.num_joints + 1).float()
        content = self.content(types)
        positions = self.position(probabilities, joints, points, content.dtype)
        sizes = [config.num_joints] * config.num_denoising_groups
        return JointQueries(content, positions, joints, points, sizes)


def _noise(shape: tuple[int, ...], largest: float, labels: PoseLabels) -> torch.Tensor:
    """Uniform noise in [-largest, largest]."""
    return (2.0 * torch.rand(shape, device=labels.joints.device) - 1.0) * largest


__all__ = ["JointDetrDenoisingQueries", "JointQueries"]
