"""Hungarian matching of joint queries to labelled joints, and the coarse-to-fine pose losses.

Shape vocabulary: layers (decoder), batch, queries, joints (joint types J of the skeleton); classes = J + "no joint".
3D is in units of `config.joint_scale`, 2D in units of the input's side; millimetres appear in thresholds alone.
Source: Zhang and Cui, ICPR 2022; the matching follows DETR (Carion et al., ECCV 2020) and PRTR (Li et al., CVPR 2021).
"""

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn

from .configuration_jointdetr import JointDetrConfig
from .postprocessing_jointdetr import assign

Terms = dict[str, tuple[float, torch.Tensor]]  # weight and losses (layers,) of each term

MOST_ENLARGED = 2.0  # 2D labels of which a wrong prediction is no image are not made larger than this


@dataclass
class PosePredictions:
    """Predictions of one or more decoder layers, stacked along the first dimension."""

    joints: torch.Tensor  # (layers, batch, queries, 3) units of joint_scale, root-relative
    points: torch.Tensor  # (layers, batch, queries, 2) units of the input's side
    logits: torch.Tensor | None  # (layers, batch, queries, classes); None with fixed alignment
    confidence: torch.Tensor | None = None  # (batch, queries, 2) log expected error and visibility, last layer alone

    def in_groups(self, groups: int) -> "PosePredictions":
        """Return each group of queries as the prediction of a picture of its own: (layers, batch * groups, ...)."""
        logits, confidence = self.logits, self.confidence
        return PosePredictions(
            self.joints.unflatten(2, (groups, -1)).flatten(1, 2),
            self.points.unflatten(2, (groups, -1)).flatten(1, 2),
            None if logits is None else logits.unflatten(2, (groups, -1)).flatten(1, 2),
            None if confidence is None else confidence.unflatten(1, (groups, -1)).flatten(0, 1),
        )

    def of_last_layer(self) -> "PosePredictions":
        """Return what the last layer predicts, with the confidence."""
        logits = None if self.logits is None else self.logits[-1:]
        return PosePredictions(self.joints[-1:], self.points[-1:], logits, self.confidence)


@dataclass
class PoseLoss:
    """The loss of a batch, and how its queries were matched."""

    total: torch.Tensor  # scalar, weighted sum of the terms
    terms: dict[str, torch.Tensor]  # unweighted scalars
    queries: torch.Tensor | None  # (layers, batch, joints) int64, of the first group; None with fixed alignment
    matching_cost: torch.Tensor | None  # (layers with a loss,) mean over labelled joints; None with fixed alignment


@dataclass
class PoseLabels:
    """Labels of a batch with one slot per joint type; what a picture does not have is masked out."""

    joints: torch.Tensor  # (batch, joints, 3) units of joint_scale, 0 where not labelled
    joints_valid: torch.Tensor  # (batch, joints)
    points: torch.Tensor  # (batch, joints, 2) units of the input's side, 0 where not labelled
    points_valid: torch.Tensor  # (batch, joints)
    visible: torch.Tensor  # (batch, joints) NaN where not labelled
    nobody: torch.Tensor  # (batch,) True where the picture is known to show no person

    @classmethod
    def from_list(cls, labels: list[dict], config: JointDetrConfig, device: torch.device) -> "PoseLabels":
        """Stack the `labels` of [`JointDetrForPoseEstimation.forward`].

        Raises:
            ValueError: If the shape of an entry does not fit the skeleton.
        """
        joints, joints_valid = _stack_labels(labels, "joints_3d", (config.num_joints, 3), device)
        points, points_valid = _stack_labels(labels, "joints_2d", (config.num_joints, 2), device)
        visible = _stack_visible(labels, config.num_joints, device)
        somebody = torch.zeros((), dtype=torch.bool, device=device)
        nobody = [torch.as_tensor(label.get("nobody", somebody), device=device).bool() for label in labels]
        return cls(joints / config.joint_scale, joints_valid, points, points_valid, visible, torch.stack(nobody))

    def of_groups(self, groups: int) -> "PoseLabels":
        """Return the labels of each picture for each group of queries: (batch * groups, ...)."""
        return PoseLabels(**{name: values.repeat_interleave(groups, 0) for name, values in vars(self).items()})

    @property
    def labelled(self) -> torch.Tensor:
        """True (batch, joints) where a joint has a 3D or a 2D label."""
        return self.joints_valid | self.points_valid


def _stack_labels(
    labels: list[dict], name: str, shape: tuple[int, int], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Stack one entry of the labels and its mask; a picture without the entry is masked out whole."""
    values, masks = [], []
    absent = torch.zeros(shape, device=device)
    all_joints = torch.ones(shape[:1], dtype=torch.bool, device=device)
    for index, label in enumerate(labels):
        value = torch.as_tensor(label.get(name, absent), device=device, dtype=torch.float32)
        if value.shape != shape:
            raise ValueError(f"`{name}` of labels[{index}] must have shape {shape}, got {tuple(value.shape)}.")
        given = all_joints if name in label else ~all_joints
        mask = torch.as_tensor(label.get(f"{name}_valid", given), device=device, dtype=torch.bool)
        values.append(value)
        masks.append(mask.expand(shape[:1]))
    stacked = torch.stack(values)
    valid = torch.stack(masks) & stacked.isfinite().all(dim=-1)
    return torch.where(valid[..., None], stacked, 0.0), valid


def _stack_visible(labels: list[dict], num_joints: int, device: torch.device) -> torch.Tensor:
    """Stack `visible` as (batch, joints) floats, NaN for a picture without it."""
    unknown = torch.full((num_joints,), torch.nan, device=device)
    rows = [torch.as_tensor(label.get("visible", unknown), device=device).float() for label in labels]
    for index, row in enumerate(rows):
        if row.shape != (num_joints,):
            raise ValueError(f"`visible` of labels[{index}] must have shape {(num_joints,)}, got {tuple(row.shape)}.")
    return torch.stack(rows)


@torch.no_grad()
def match(
    predictions: PosePredictions, labels: PoseLabels, config: JointDetrConfig
) -> tuple[torch.Tensor, torch.Tensor]:
    """Assign every joint type of every picture to one query, at the least total cost, for each decoder layer.

    Returns:
        The query of every joint (layers, batch, joints) int64, and the labelled joints' mean cost (layers,), both on
        the predictions' device.
    """
    costs = matching_costs(predictions, labels, config)
    queries = assign(costs)
    return queries, _masked_mean(costs.gather(2, queries[:, :, None])[:, :, 0], labels.labelled)


def matching_costs(predictions: PosePredictions, labels: PoseLabels, config: JointDetrConfig) -> torch.Tensor:
    """Return the cost of every query for every joint: (layers, batch, queries, joints).

    It is `matching_class_weight * -p_q(j) + joint_weight * |b_q - b_j|_1`; a joint without a 3D label counts its 2D
    distance instead, and one without any label its probability alone.
    """
    distances_3d = torch.cdist(predictions.joints.float(), labels.joints.float()[None], p=1)
    distances_2d = torch.cdist(predictions.points.float(), labels.points.float()[None], p=1)
    has_3d, has_2d = labels.joints_valid[:, None], labels.points_valid[:, None]  # (batch, 1, joints)
    probabilities = predictions.logits.float().softmax(-1)[..., :-1]
    return (
        -config.matching_class_weight * probabilities
        + config.joint_weight * distances_3d * has_3d
        + config.joint_2d_weight * distances_2d * (has_2d & ~has_3d)
    )


def coarse_to_fine_weights(
    predicted: torch.Tensor, target: torch.Tensor, thresholds: torch.Tensor, discounts: torch.Tensor
) -> torch.Tensor:
    """Return 1 for joints (layers, batch, joints, 3) mm that are farther than their layer's threshold (layers,) mm.

    Others weigh the layer's discount (layers,). `target` is (batch, joints, 3) mm.
    """
    errors = torch.linalg.vector_norm(predicted - target, dim=-1)
    return torch.where(errors > thresholds[:, None, None], 1.0, discounts[:, None, None])


class JointDetrLoss:
    """The losses of a pose model, on the last decoder layer or on all: set prediction, or fixed alignment.

    Every term is a mean over what is labelled in the batch; while gradients are recorded in several processes, over
    the batches of all of them, so that the mean of their gradients is the gradient of the whole batch.
    """

    def __init__(self, config: JointDetrConfig):
        self.config = config

    def __call__(self, predictions: PosePredictions, labels: PoseLabels) -> PoseLoss:
        """Return the weighted total and its unweighted terms by name, each a scalar and differentiable.

        Names are `loss_joint`, `loss_joint_2d` and `loss_class`, with `config.projection_weight` `loss_projection` and
        `loss_bones`, with `_{layer}` behind them for all but the last layer; and of the confidence head `loss_sigma`
        and `loss_visible`.
        """
        layers = len(predictions.joints)
        if not self.config.auxiliary_loss:
            predictions = predictions.of_last_layer()
        if self.config.query_alignment == "fixed":
            return self._aligned_loss(predictions, labels)
        groups = self.config.query_groups
        if groups > 1:
            predictions, labels = predictions.in_groups(groups), labels.of_groups(groups)
        queries, cost = match(predictions, labels, self.config)
        terms = self._pose_terms(predictions, queries, labels)
        if predictions.confidence is not None:
            # as at inference, where nobody knows which query is nearest
            chosen = predictions.logits[-1, ..., :-1].argmax(dim=1)
            terms |= self._confidence_terms(predictions, chosen, labels)
        return _weighted(terms, queries[:, ::groups].expand(layers, -1, -1), cost)

    def _aligned_loss(self, predictions: PosePredictions, labels: PoseLabels) -> PoseLoss:
        """Query j is joint j."""
        joints = torch.arange(self.config.num_joints, device=labels.joints.device)
        queries = joints.expand(len(predictions.joints), *labels.joints.shape[:2])  # (layers, batch, joints)
        terms = self._pose_terms(predictions, queries, labels)
        if predictions.confidence is not None:
            terms |= self._confidence_terms(predictions, queries[-1], labels)
        return _weighted(terms, None, None)

    def _pose_terms(self, predictions: PosePredictions, queries: torch.Tensor, labels: PoseLabels) -> Terms:
        """Weight and losses (layers,) of each term for matched queries (layers, batch, joints)."""
        joints = _gather_queries(predictions.joints, queries)  # (layers, batch, joints, 3)
        points = _gather_queries(predictions.points, queries)  # (layers, batch, joints, 2)
        terms = {
            "loss_joint_2d": (self.config.joint_2d_weight, self.joint_2d_loss(points, labels)),
            "loss_joint": (self.config.joint_weight, self.joint_loss(joints, labels)),
        }
        if self.config.projection_weight:
            terms["loss_projection"] = (self.config.projection_weight, self.projection_loss(joints, labels))
            terms["loss_bones"] = (self.config.projection_weight, self.bone_loss(joints, labels))
        if predictions.logits is not None:
            terms["loss_class"] = (self.config.class_weight, self.class_loss(predictions.logits, queries, labels))
        return terms

    def _confidence_terms(self, predictions: PosePredictions, queries: torch.Tensor, labels: PoseLabels) -> Terms:
        """Losses of the confidence head at the chosen queries (batch, joints)."""
        confidence = _gather_queries(predictions.confidence[None], queries[None])[0]  # (batch, joints, 2)
        joints = _gather_queries(predictions.joints[-1:], queries[None])[0]
        return {
            "loss_sigma": (1.0, self.sigma_loss(confidence[..., 0], joints, labels)[None]),
            "loss_visible": (1.0, self.visibility_loss(confidence[..., 1], labels)[None]),
        }

    def class_loss(self, logits: torch.Tensor, queries: torch.Tensor, labels: PoseLabels) -> torch.Tensor:
        """Cross-entropy over joint types and "no joint" for each layer (layers,), normalised by the class weights.

        `logits` (layers, batch, queries, classes) are of all queries, `queries` (layers, batch, joints) matched.
        The query of a joint without any label is left out, as it may well be right, unless the picture shows nobody.
        """
        costs = -logits.float().log_softmax(-1)
        joint_of_slot = torch.arange(self.config.num_joints, device=logits.device).expand_as(queries)
        of_matched = _gather_queries(costs, queries)  # (layers, batch, joints, classes)
        matched = of_matched.gather(-1, joint_of_slot[..., None])[..., 0] * labels.labelled
        free = torch.ones(costs.shape[:-1], device=logits.device).scatter(2, queries, 0.0)  # (layers, batch, queries)
        free = torch.where(labels.nobody[:, None], 1.0, free)
        counted = labels.labelled.sum() + self.config.no_joint_weight * free.sum((1, 2))
        losses = matched.sum((1, 2)) + self.config.no_joint_weight * (free * costs[..., -1]).sum((1, 2))
        return losses / over_processes(counted).clamp(min=1e-6)

    def joint_loss(self, joints: torch.Tensor, labels: PoseLabels) -> torch.Tensor:
        """L1 distance in 3D of matched joints for each layer (layers,), coarse to fine if all layers have a loss."""
        errors = (joints.float() - labels.joints).abs().sum(-1)  # (layers, batch, joints)
        return _masked_mean(errors * self._coarse_to_fine(joints, labels), labels.joints_valid)

    def _coarse_to_fine(self, joints: torch.Tensor, labels: PoseLabels) -> torch.Tensor:
        """Weights of matched joints (layers, batch, joints), 1 where the last layer alone has a loss."""
        if not self.config.auxiliary_loss:
            return torch.ones((), device=joints.device)
        scale = self.config.joint_scale
        by_layer = torch.tensor([self.config.layer_thresholds, self.config.layer_discounts], dtype=torch.float32)
        thresholds, discounts = by_layer.to(joints.device, non_blocking=True)
        return coarse_to_fine_weights(joints.detach().float() * scale, labels.joints * scale, thresholds, discounts)

    def joint_2d_loss(self, points: torch.Tensor, labels: PoseLabels) -> torch.Tensor:
        """L1 distance in the picture of matched joints for each layer (layers,)."""
        return _masked_mean((points.float() - labels.points).abs().sum(-1), labels.points_valid)

    def projection_loss(self, joints: torch.Tensor, labels: PoseLabels) -> torch.Tensor:
        """L1 distance in x and y of matched joints without a 3D label from where their 2D labels put them (layers,).

        The pictures' pixels must be square, and the pictures as wide as they are high.
        """
        errors = projection_errors(joints, labels).abs().sum(-1)
        return _masked_mean(errors, labels.points_valid & ~labels.joints_valid)

    def bone_loss(self, joints: torch.Tensor, labels: PoseLabels) -> torch.Tensor:
        """Difference of bones' lengths in pictures without 3D labels from those with 3D labels in the batch (layers,).

        It gives people their size where 2D labels alone leave it open, and the depth of what is foreshortened. A bone
        counts where both of its ends are labelled.
        """
        ends = [joint for joint, parent in enumerate(self.config.joint_parents) if parent >= 0]
        parents = [self.config.joint_parents[joint] for joint in ends]
        known_3d, known_2d = (
            known[:, ends] & known[:, parents] for known in (labels.joints_valid, labels.points_valid)
        )
        lengths, labelled = (
            torch.linalg.vector_norm(places[..., ends, :] - places[..., parents, :], dim=-1)
            for places in (joints.float(), labels.joints)
        )
        count = known_3d.sum(0)  # (bones,)
        usual = (labelled * known_3d).sum(0) / count.clamp(min=1)
        return _masked_mean((lengths - usual).abs(), known_2d & ~known_3d & (count > 0))

    def sigma_loss(self, log_sigmas: torch.Tensor, joints: torch.Tensor, labels: PoseLabels) -> torch.Tensor:
        """Negative log-likelihood of errors of the joints that inference takes, under exponential distributions.

        It is least where `exp(log_sigmas)` (batch, joints) is the mean error; the joints (batch, joints, 3) get no
        gradient from it. Those without a 3D label are left out, or with `config.projection_weight` judged in 2D.
        """
        errors = torch.linalg.vector_norm(joints.detach().float() - labels.joints, dim=-1)
        known = labels.joints_valid
        if self.config.projection_weight:
            # of three coordinates two are known: the third is taken to be as far off as these
            plane = torch.linalg.vector_norm(projection_errors(joints.detach()[None], labels)[0], dim=-1)
            errors = torch.where(known, errors, math.sqrt(1.5) * plane)
            known = known | labels.points_valid
        return _masked_mean((log_sigmas + errors * (-log_sigmas).exp())[None], known)[0]

    def visibility_loss(self, logits: torch.Tensor, labels: PoseLabels) -> torch.Tensor:
        """Binary cross-entropy of (batch, joints) against `labels.visible`, where that is known."""
        known = labels.visible.isfinite()
        losses = nn.functional.binary_cross_entropy_with_logits(
            logits, torch.where(known, labels.visible, 0.0), reduction="none"
        )
        return _masked_mean(losses[None], known)[0]


def over_processes(count: torch.Tensor) -> torch.Tensor:
    """Return the mean of a count over all processes while gradients are recorded, and the count itself otherwise.

    A sum divided by it gives gradients whose mean over the processes is that of the whole batch.
    """
    count = count.detach().float().clone()  # `all_reduce` writes into it
    if torch.is_grad_enabled() and torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(count)
        count = count / torch.distributed.get_world_size()
    return count


def _weighted(terms: Terms, queries: torch.Tensor | None, matching_cost: torch.Tensor | None) -> PoseLoss:
    total = cast(torch.Tensor, sum(weight * losses.sum() for weight, losses in terms.values()))
    named = {}
    for name, (_, losses) in terms.items():
        names = [f"{name}_{layer}" for layer in range(len(losses) - 1)]
        named |= dict(zip([*names, name], losses, strict=True))
    return PoseLoss(total, named, queries, matching_cost)


def _gather_queries(values: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
    """Pick (layers, batch, joints, channels) out of (layers, batch, queries, channels)."""
    return values.gather(2, queries[..., None].expand(*queries.shape, values.shape[-1]))


def projection_errors(joints: torch.Tensor, labels: PoseLabels) -> torch.Tensor:
    """Distance in x and y of joints (layers, batch, joints, 3) from their 2D labels: (layers, batch, joints, 2).

    The labels are brought to the place and size of the prediction, as a distant camera sees them. Their size is that
    of which the prediction is the best image, so that errors neither shrink nor enlarge the prediction; size and place
    get no gradient. Joints that have a 3D label take no part.
    """
    valid = (labels.points_valid & ~labels.joints_valid)[..., None].float()  # (batch, joints, 1)
    predicted, labelled = (_centred(values.float(), valid) for values in (joints[..., :2], labels.points))
    spread, spread_2d, both = (
        (first * second * valid).sum((-2, -1), keepdim=True)
        for first, second in ((predicted.detach(),) * 2, (labelled,) * 2, (predicted.detach(), labelled))
    )
    equal = (spread / spread_2d.clamp(min=1e-6)).sqrt()  # the size at which both are as large
    size = torch.minimum(spread / both.clamp(min=1e-6), MOST_ENLARGED * equal)  # (layers, batch, 1, 1)
    return predicted - size * labelled


def _centred(values: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Move (..., joints, 2) so that the mean of the valid ones (batch, joints, 1) is at the origin, which is fixed."""
    middle = (values * valid).sum(-2, keepdim=True) / valid.sum(-2, keepdim=True).clamp(min=1.0)
    return values - middle.detach()


def _masked_mean(errors: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Mean of (layers, batch, joints) over the valid (batch, joints); 0 where there are none."""
    return (errors * valid).sum((1, 2)) / over_processes(valid.sum()).clamp(min=1e-6)
