"""From the network's queries to one skeleton per picture: class-only assignment, missing joints, refinement.

Shape vocabulary: batch, queries, joints (joint types J of the skeleton).
"""

from dataclasses import dataclass
from typing import Literal

import torch
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from .geometry_jointdetr import outside_autocast
from .loss_jointdetr import assign

# What assembling reads of the network's output; the rest, such as the encoder's tokens, is large.
ASSEMBLY_INPUTS = ("logits", "pred_joints", "pred_points", "pred_sigmas", "pred_visibility")


@dataclass
class AssembledPoses:
    """One skeleton per picture.

    Args:
        joints (`torch.Tensor` of shape `(batch, joints, 3)`): Root-relative millimetres in camera axes; missing joints
            are filled by the refinement network, or NaN without one. The root is as predicted, near 0 but not 0.
        points (`torch.Tensor` of shape `(batch, joints, 2)`): Places in `[0, 1]` of the network's input; NaN where
            missing.
        scores (`torch.Tensor` of shape `(batch, joints)`): Probability of the query being this joint.
        detected (`torch.Tensor` of shape `(batch, joints)`): False where a joint is missing.
        sigmas (`torch.Tensor` of shape `(batch, joints)`, *optional*): Distance from the truth, in millimetres, that
            the model expects of its own prediction; NaN where missing. None for models without a confidence head.
        visible (`torch.Tensor` of shape `(batch, joints)`, *optional*): Probability that the joint is inside the
            picture and not occluded; NaN where missing. None for models without a confidence head.
    """

    joints: torch.Tensor
    points: torch.Tensor
    scores: torch.Tensor
    detected: torch.Tensor
    sigmas: torch.Tensor | None = None
    visible: torch.Tensor | None = None


@torch.no_grad()
def assemble_poses(
    outputs: ModelOutput,
    threshold: float = 0.5,
    refiner: PreTrainedModel | None = None,
    assignment: Literal["hungarian", "argmax"] = "hungarian",
) -> AssembledPoses:
    """Choose one query for every joint type by the class probabilities alone, and complete the skeleton.

    The chosen query says how probable, how exact and how visible a joint is. The position is the mean of all queries,
    weighted by the squares of their probabilities of being this joint: training leaves several queries that know it,
    and their mean is nearer to the truth than any one. Where one query alone is probable, it is that one's position.

    Args:
        outputs (`ModelOutput`): `logits` (None with fixed alignment), `pred_joints` and `pred_points` of
            [`JointDetrForPoseEstimation`], and `pred_sigmas` and `pred_visibility` if it has a confidence head.
        threshold (`float`, *optional*, defaults to 0.5): Joints less probable than this are missing.
        refiner (`JointRefiner`, *optional*): Fills missing joints and refines the others.
        assignment (`str`, *optional*, defaults to `"hungarian"`): `"hungarian"` is optimal and never gives one query
            to two joints; `"argmax"` takes the best query of each joint by itself, for where scipy cannot go.

    Returns:
        [`AssembledPoses`] in float32.

    Raises:
        ValueError: If the threshold is outside `[0, 1]` or the assignment is unknown.
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"`threshold` must be in [0, 1], got {threshold}.")
    joints, points = outputs.pred_joints.float(), outputs.pred_points.float()
    sigmas, visible = outputs.pred_sigmas, outputs.pred_visibility  # (batch, queries) or None
    finite = joints.isfinite().all(-1) & points.isfinite().all(-1)  # (batch, queries)
    if outputs.logits is None:  # query j is joint j
        scores = torch.ones(joints.shape[:2], device=joints.device)
    else:
        probabilities = outputs.logits.float().softmax(-1)[..., :-1]  # (batch, queries, joints)
        queries = choose_queries(probabilities, assignment)  # (batch, joints)
        weights = probabilities.square() * finite[..., None]
        joints, points = average_queries(weights, joints), average_queries(weights, points)
        scores = probabilities.gather(1, queries[:, None])[:, 0]
        sigmas, visible, finite = (
            None if each is None else each.gather(1, queries) for each in (sigmas, visible, finite)
        )
    detected = (scores >= threshold) & finite
    joints = joints.masked_fill(~detected[..., None], torch.nan)
    points = points.masked_fill(~detected[..., None], torch.nan)
    sigmas, visible = (None if each is None else each.where(detected, torch.nan) for each in (sigmas, visible))
    if refiner is not None and (refiner.config.refine_detected or not detected.all()):
        joints = refiner(joints, missing=~detected, sigmas=sigmas).joints
    return AssembledPoses(joints, points, scores, detected, sigmas, visible)


@outside_autocast
def average_queries(weights: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Return means (batch, joints, coordinates) of positions (batch, queries, coordinates).

    `weights` (batch, queries, joints) are 0 where a position is not finite, and need not add up to 1.
    """
    sums = weights.sum(1)[..., None].clamp(min=torch.finfo(weights.dtype).tiny)
    return weights.transpose(1, 2) @ positions.nan_to_num(posinf=0.0, neginf=0.0) / sums


def choose_queries(probabilities: torch.Tensor, assignment: Literal["hungarian", "argmax"]) -> torch.Tensor:
    """Return the query of every joint (batch, joints) from class probabilities (batch, queries, joints)."""
    if assignment == "hungarian":
        return assign(-probabilities)
    if assignment == "argmax":
        return probabilities.argmax(dim=1)
    raise ValueError(f'`assignment` must be "hungarian" or "argmax", got {assignment!r}.')


__all__ = ["ASSEMBLY_INPUTS", "AssembledPoses", "assemble_poses", "choose_queries"]
