"""Hungarian matching of joint queries to labelled joints, and the coarse-to-fine pose losses.

Shape vocabulary: layers (decoder), batch, queries, joints (joint types J of the skeleton); classes = J + "no joint".
3D is in units of `config.joint_scale`, 2D in units of the input's side; millimetres appear in thresholds alone.
Source: Zhang and Cui, ICPR 2022; the matching follows DETR (Carion et al., ECCV 2020) and PRTR (Li et al., CVPR 2021).
"""

from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import nn

from .configuration_jointdetr import JointDetrConfig

# stands for a cost that is not finite; far above any real one, far below where float32 sums lose the real ones
WORST_COST = 1e6
IGNORED_CLASS = -100


@dataclass
class PosePredictions:
    """Predictions of one or more decoder layers, stacked along the first dimension."""

    joints: torch.Tensor  # (layers, batch, queries, 3) units of joint_scale, root-relative
    points: torch.Tensor  # (layers, batch, queries, 2) units of the input's side
    logits: torch.Tensor | None  # (layers, batch, queries, classes); None with fixed alignment
    confidence: torch.Tensor | None = None  # (batch, queries, 2) log expected error and visibility, last layer alone


@dataclass
class PoseLabels:
    """Labels of a batch with one slot per joint type; what a picture does not have is masked out."""

    joints: torch.Tensor  # (batch, joints, 3) units of joint_scale, 0 where not labelled
    joints_valid: torch.Tensor  # (batch, joints)
    points: torch.Tensor  # (batch, joints, 2) units of the input's side, 0 where not labelled
    points_valid: torch.Tensor  # (batch, joints)
    visible: torch.Tensor  # (batch, joints) NaN where not labelled

    @classmethod
    def from_list(cls, labels: list[dict], config: JointDetrConfig, device: torch.device) -> "PoseLabels":
        """Stack a list of one dict per picture.

        Args:
            labels (`list[dict]`): `joints_3d` (J, 3) root-relative millimetres and `joints_3d_valid` (J,), and
                optionally `joints_2d` (J, 2) in `[0, 1]` of the input, `joints_2d_valid` (J,) and `visible` (J,).
            config (`JointDetrConfig`): Gives the skeleton's size and `joint_scale`.
            device (`torch.device`): Where the losses are computed.

        Raises:
            ValueError: If an entry is missing or its shape does not fit the skeleton.
        """
        joints, joints_valid = _stack_labels(labels, "joints_3d", (config.num_joints, 3), device)
        points, points_valid = _stack_labels(labels, "joints_2d", (config.num_joints, 2), device)
        visible = _stack_visible(labels, config.num_joints, device)
        return cls(joints / config.joint_scale, joints_valid, points, points_valid, visible)

    @property
    def labelled(self) -> torch.Tensor:
        """True (batch, joints) where a joint has a 3D or a 2D label."""
        return self.joints_valid | self.points_valid


def _stack_labels(
    labels: list[dict], name: str, shape: tuple[int, int], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Stack one entry of the labels and its mask; a picture without the entry is masked out whole."""
    values, masks = [], []
    for index, label in enumerate(labels):
        value = torch.as_tensor(label.get(name, torch.zeros(shape)), device=device, dtype=torch.float32)
        if value.shape != shape:
            raise ValueError(f"`{name}` of labels[{index}] must have shape {shape}, got {tuple(value.shape)}.")
        given = torch.full(shape[:1], name in label, device=device)
        mask = torch.as_tensor(label.get(f"{name}_valid", given), device=device, dtype=torch.bool)
        mask = mask & value.isfinite().all(dim=-1)
        masks.append(mask)
        values.append(torch.where(mask[:, None], value, torch.zeros_like(value)))
    return torch.stack(values), torch.stack(masks)


def _stack_visible(labels: list[dict], num_joints: int, device: torch.device) -> torch.Tensor:
    """Stack `visible` as (batch, joints) floats, NaN for a picture without it."""
    unknown = torch.full((num_joints,), torch.nan)
    rows = [torch.as_tensor(label.get("visible", unknown), device=device).float() for label in labels]
    for index, row in enumerate(rows):
        if row.shape != (num_joints,):
            raise ValueError(f"`visible` of labels[{index}] must have shape {(num_joints,)}, got {tuple(row.shape)}.")
    return torch.stack(rows)


class HungarianMatcher:
    """Assign every joint type of every picture to one query, at the least total cost, for each decoder layer.

    The cost of query q for joint j is `class_weight * -p_q(j) + joint_weight * |b_q - b_j|_1`; a joint without a 3D
    label counts its 2D distance instead, and one without any label its probability alone.
    """

    def __init__(self, config: JointDetrConfig):
        self.config = config

    @torch.no_grad()
    def __call__(self, predictions: PosePredictions, labels: PoseLabels) -> torch.Tensor:
        """Return the query of every joint: (layers, batch, joints) int64 on the predictions' device."""
        return assign(self.costs(predictions, labels))

    def costs(self, predictions: PosePredictions, labels: PoseLabels) -> torch.Tensor:
        """Return the cost of every query for every joint: (layers, batch, queries, joints)."""
        distances_3d = torch.cdist(predictions.joints.float(), labels.joints.float()[None], p=1)
        distances_2d = torch.cdist(predictions.points.float(), labels.points.float()[None], p=1)
        has_3d, has_2d = labels.joints_valid[:, None], labels.points_valid[:, None]  # (batch, 1, joints)
        probabilities = predictions.logits.float().softmax(-1)[..., :-1]
        return (
            -self.config.class_weight * probabilities
            + self.config.joint_weight * distances_3d * has_3d
            + self.config.joint_2d_weight * distances_2d * (has_2d & ~has_3d)
        )


def assign(costs: torch.Tensor) -> torch.Tensor:
    """Solve the assignment of queries to joints for any number of cost matrices, in one transfer to the CPU and back.

    Args:
        costs (`torch.Tensor` of shape `(..., queries, joints)`): What is not finite counts as the worst cost.

    Returns:
        `torch.Tensor` of shape `(..., joints)`: The query of every joint, int64; no query serves two joints.
    """
    finite = torch.nan_to_num(costs.float(), nan=WORST_COST, posinf=WORST_COST, neginf=WORST_COST)
    matrices = finite.clamp(max=WORST_COST).flatten(0, -3).transpose(1, 2).cpu().numpy()  # (matrices, joints, queries)
    if not len(matrices):
        return torch.empty(*costs.shape[:-2], costs.shape[-1], dtype=torch.long, device=costs.device)
    queries = torch.stack([torch.from_numpy(linear_sum_assignment(matrix)[1]) for matrix in matrices])
    return queries.reshape(*costs.shape[:-2], costs.shape[-1]).to(costs.device)


def coarse_to_fine_weights(
    predicted: torch.Tensor, target: torch.Tensor, thresholds: torch.Tensor, discounts: torch.Tensor
) -> torch.Tensor:
    """Return 1 for joints farther from their label than their layer's threshold, and the layer's discount otherwise.

    Args:
        predicted (`torch.Tensor` of shape `(layers, batch, joints, 3)`): Matched predictions, millimetres.
        target (`torch.Tensor` of shape `(batch, joints, 3)`): Labels, millimetres.
        thresholds (`torch.Tensor` of shape `(layers,)`): Millimetres.
        discounts (`torch.Tensor` of shape `(layers,)`): Weights within the threshold.
    """
    errors = torch.linalg.vector_norm(predicted - target, dim=-1)
    return torch.where(errors > thresholds[:, None, None], 1.0, discounts[:, None, None])


class JointDetrLoss:
    """The losses of a pose model: set prediction over all decoder layers, or fixed alignment on the last one."""

    def __init__(self, config: JointDetrConfig):
        self.config = config
        self.matcher = HungarianMatcher(config)

    def __call__(
        self, predictions: PosePredictions, labels: PoseLabels
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the weighted total and its unweighted terms by name, each a scalar and differentiable.

        Names are `loss_class`, `loss_joint`, `loss_joint_2d`, with `_{layer}` behind them for all but the last layer,
        and of the confidence head `loss_sigma` and `loss_visible`.
        """
        if self.config.query_alignment == "fixed":
            predictions = PosePredictions(
                predictions.joints[-1:], predictions.points[-1:], None, predictions.confidence
            )
            queries = torch.arange(self.config.num_joints, device=labels.joints.device)
            queries = queries.expand(1, *labels.labelled.shape)
        else:
            queries = self.matcher(predictions, labels)
        joints = _gather_queries(predictions.joints, queries)  # (layers, batch, joints, 3)
        points = _gather_queries(predictions.points, queries)  # (layers, batch, joints, 2)
        terms = {
            "loss_joint": (self.config.joint_weight, self.joint_loss(joints, labels)),
            "loss_joint_2d": (self.config.joint_2d_weight, self.joint_2d_loss(points, labels)),
        }
        if predictions.logits is not None:
            terms["loss_class"] = (self.config.class_weight, self.class_loss(predictions.logits, queries, labels))
        if predictions.confidence is not None:
            chosen = queries[-1:]
            if predictions.logits is not None:  # as at inference, where nobody knows which query is nearest
                chosen = predictions.logits[-1:, ..., :-1].argmax(dim=2)  # (1, batch, joints)
            confidence = _gather_queries(predictions.confidence[None], chosen)[0]  # (batch, joints, 2)
            chosen_joints = _gather_queries(predictions.joints[-1:], chosen)[0]
            terms["loss_sigma"] = (1.0, self.sigma_loss(confidence[..., 0], chosen_joints, labels)[None])
            terms["loss_visible"] = (1.0, self.visibility_loss(confidence[..., 1], labels)[None])
        total = sum(weight * losses.sum() for weight, losses in terms.values())
        return total, _name_layers({name: losses for name, (_, losses) in terms.items()})

    def class_loss(self, logits: torch.Tensor, queries: torch.Tensor, labels: PoseLabels) -> torch.Tensor:
        """Cross-entropy over joint types and "no joint" for each layer (layers,), normalised by the class weights.

        The query of a joint without any label is left out: it may well be right.
        """
        num_joints = self.config.num_joints
        joint_of_slot = torch.arange(num_joints, device=logits.device).expand_as(labels.labelled)
        target_of_slot = torch.where(labels.labelled, joint_of_slot, IGNORED_CLASS)  # (batch, joints)
        targets = torch.full(logits.shape[:-1], num_joints, device=logits.device)  # (layers, batch, queries)
        targets = targets.scatter(2, queries, target_of_slot.expand_as(queries))
        weights = torch.ones(num_joints + 1, device=logits.device)
        weights[-1] = self.config.no_joint_weight
        losses = nn.functional.cross_entropy(
            logits.float().movedim(-1, 1), targets, weights, ignore_index=IGNORED_CLASS, reduction="none"
        )
        counted = weights[targets.clamp(min=0)] * (targets != IGNORED_CLASS)
        return losses.sum((1, 2)) / counted.sum((1, 2)).clamp(min=1e-6)

    def joint_loss(self, joints: torch.Tensor, labels: PoseLabels) -> torch.Tensor:
        """L1 distance in 3D of matched joints for each layer (layers,), coarse to fine with set alignment."""
        errors = (joints.float() - labels.joints).abs().sum(-1)  # (layers, batch, joints)
        if self.config.query_alignment == "set":
            scale = self.config.joint_scale
            thresholds = torch.tensor(self.config.layer_thresholds, device=joints.device)
            discounts = torch.tensor(self.config.layer_discounts, device=joints.device)
            errors = errors * coarse_to_fine_weights(
                joints.detach().float() * scale, labels.joints * scale, thresholds, discounts
            )
        return _masked_mean(errors, labels.joints_valid)

    def joint_2d_loss(self, points: torch.Tensor, labels: PoseLabels) -> torch.Tensor:
        """L1 distance in the picture of matched joints for each layer (layers,)."""
        return _masked_mean((points.float() - labels.points).abs().sum(-1), labels.points_valid)

    def sigma_loss(self, log_sigmas: torch.Tensor, joints: torch.Tensor, labels: PoseLabels) -> torch.Tensor:
        """Negative log-likelihood of the chosen joints' errors under exponential distributions.

        It is least where `exp(log_sigmas)` is the mean error; the joints get no gradient from it.

        Args:
            log_sigmas (`torch.Tensor` of shape `(batch, joints)`): Logarithm of the expected error.
            joints (`torch.Tensor` of shape `(batch, joints, 3)`): Predictions of the queries that inference takes.
            labels (`PoseLabels`): Those without a 3D label are left out.
        """
        errors = torch.linalg.vector_norm(joints.detach().float() - labels.joints, dim=-1)
        return _masked_mean((log_sigmas + errors * (-log_sigmas).exp())[None], labels.joints_valid)[0]

    def visibility_loss(self, logits: torch.Tensor, labels: PoseLabels) -> torch.Tensor:
        """Binary cross-entropy of (batch, joints) against `labels.visible`, where that is known."""
        known = labels.visible.isfinite()
        losses = nn.functional.binary_cross_entropy_with_logits(
            logits, torch.where(known, labels.visible, 0.0), reduction="none"
        )
        return _masked_mean(losses[None], known)[0]


def dense_losses(
    part_logits: torch.Tensor, depths: torch.Tensor, labels: list[dict], config: JointDetrConfig
) -> dict[str, torch.Tensor]:
    """Losses of the dense training head against maps that a renderer knows: `loss_part` and `loss_depth`.

    Args:
        part_logits (`torch.Tensor` of shape `(batch, parts, height, width)`): Body parts, 0 being background.
        depths (`torch.Tensor` of shape `(batch, height, width)`): Depth relative to the root, units of `joint_scale`.
        labels (`list[dict]`): Each with `part_map` (h, w) int64, -1 where unknown, and `depth_map` (h, w) millimetres,
            NaN where there is none; pictures without maps are left out.
        config (`JointDetrConfig`): Gives `joint_scale`.
    """
    size = part_logits.shape[-2:]
    parts, surface = [], []
    for label in labels:
        if "part_map" not in label:
            parts.append(torch.full(size, -1, device=part_logits.device))
            surface.append(torch.full(size, torch.nan, device=part_logits.device))
            continue
        maps = torch.stack([label["part_map"].float(), label["depth_map"].float()])[None].to(part_logits.device)
        part, depth = nn.functional.interpolate(maps, size=size, mode="nearest-exact")[0]
        parts.append(part.long())
        surface.append(depth / config.joint_scale)
    parts, surface = torch.stack(parts), torch.stack(surface)
    known = surface.isfinite()
    errors = (depths.float() - torch.where(known, surface, 0.0)).abs() * known
    losses = nn.functional.cross_entropy(part_logits.float(), parts, ignore_index=-1, reduction="sum")
    return {
        "loss_part": losses / (parts >= 0).sum().clamp(min=1),
        "loss_depth": errors.sum() / known.sum().clamp(min=1),
    }


def _gather_queries(values: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
    """Pick (layers, batch, joints, channels) out of (layers, batch, queries, channels)."""
    return values.gather(2, queries[..., None].expand(*queries.shape, values.shape[-1]))


def _masked_mean(errors: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Mean of (layers, batch, joints) over the valid (batch, joints); 0 where there are none."""
    return (errors * valid).sum((1, 2)) / valid.sum().clamp(min=1)


def _name_layers(terms: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    named = {}
    for name, losses in terms.items():
        for layer, loss in enumerate(losses):
            named[name if layer == len(losses) - 1 else f"{name}_{layer}"] = loss
    return named


__all__ = ["HungarianMatcher", "JointDetrLoss", "PoseLabels", "PosePredictions", "assign", "dense_losses"]
