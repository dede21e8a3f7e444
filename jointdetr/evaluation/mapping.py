"""How the joints of a model become those of the data that it is evaluated on.

Shape vocabulary: `poses` (N), `joints` (J) of the model or of the data.
"""

from dataclasses import dataclass

import torch

from ..data.skeleton_mapping import joint_sources, map_skeleton, mapping_weights
from ..postprocessing_jointdetr import AssembledPoses
from ..skeleton_jointdetr import Skeleton
from .prediction import FoundPoses
from .protocols import Protocol


@dataclass(frozen=True)
class JointMapping:
    """How a model's joints become those of the data.

    Args:
        source: the model's skeleton.
        target: the data's.
        description: for the fine print.
    """

    source: Skeleton
    target: Skeleton
    description: str

    @classmethod
    def between(cls, source: Skeleton, target: Skeleton, protocol: Protocol) -> "JointMapping":
        """Find the mapping, if the model has what the protocol needs.

        Raises:
            ValueError: A scored joint, or one of the root, cannot be had from the model's.
        """
        if source.joints == target.joints:
            return cls(source, target, f"none: the model's skeleton is {target.name}")
        needed = [*protocol.scored_joints(target), *protocol.root]
        found = dict(zip(target.joints, joint_sources(source, target), strict=True))
        lacking = sorted({name for name in needed if found[name] is None})
        if lacking:
            raise ValueError(
                f"protocol {protocol.name} scores {', '.join(lacking)}, which cannot be had from the joints of the "
                f"model's skeleton {source.name!r}"
            )
        notes = [f"{name} is {found[name].notes[0]}" for name in dict.fromkeys(needed) if found[name].notes]
        detail = f" ({'; '.join(notes)})" if notes else ", each joint by its own place on the body"
        return cls(source, target, f"predictions from {source.name} to {target.name}{detail}")

    def apply(self, poses: FoundPoses) -> FoundPoses:
        """Map poses; what is made of several joints is as sure as the least sure of them."""
        if self.source.joints == self.target.joints:
            return poses
        joints = map_skeleton(poses.joints, self.source, self.target)[0]
        return FoundPoses(self._map(poses.detected), self._map(poses.likeliest), joints, poses.refined)

    def _map(self, poses: AssembledPoses) -> AssembledPoses:
        weights, possible = (torch.from_numpy(array) for array in mapping_weights(self.source, self.target))
        parts = weights != 0  # (target joints, source joints)

        def least(values: torch.Tensor) -> torch.Tensor:
            return values[:, None].where(parts, 1.0).amin(dim=-1).where(possible, 0.0)

        return AssembledPoses(
            map_skeleton(poses.joints, self.source, self.target)[0],
            map_skeleton(poses.points, self.source, self.target)[0],
            least(poses.scores),
            (poses.detected[:, None] | ~parts).all(dim=-1) & possible,
            None if poses.sigmas is None else poses.sigmas.nan_to_num(torch.inf) @ weights.T.to(poses.sigmas.dtype),
            None if poses.visible is None else least(poses.visible),
        )
