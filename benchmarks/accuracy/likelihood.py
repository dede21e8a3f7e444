"""Residual log-likelihood (RLE): a regression loss that learns the shape of its own error distribution.

Shape vocabulary: `...` is any leading shape, such as (batch, joints); dims are the coordinates of a joint. Errors and
sigmas have the same unit, whichever it is. A *normalised* error is divided by its sigma.
Source: Li et al., "Human Pose Regression with Residual Log-likelihood Estimation", ICCV 2021; the flow is RealNVP
(Dinh et al., "Density Estimation Using Real NVP", ICLR 2017).
"""

import math
from dataclasses import dataclass

import torch
from torch import nn
from transformers import initialization as init

from jointdetr import JointDetrConfig
from jointdetr.loss_jointdetr import JointDetrLoss, PoseLabels, PoseLoss, PosePredictions, over_processes

LIKELIHOOD_WEIGHT = 0.1  # in the loss, in place of `config.joint_weight`


class ResidualFlow(nn.Module):
    """Density of normalised errors that can be learned: a RealNVP over few coordinates, at first a standard normal.

    Each coupling keeps every other coordinate and shifts and scales the rest by what the kept ones say. A model that
    holds a flow calls `reset_parameters` for it in its `_init_weights`.

    Args:
        dims (`int`): Coordinates.
        num_couplings (`int`, *optional*, defaults to 6): Number of couplings, as in the paper.
        hidden_size (`int`, *optional*, defaults to 64): Width of their networks, as in the paper.
    """

    def __init__(self, dims: int, num_couplings: int = 6, hidden_size: int = 64):
        super().__init__()
        self.dims = dims
        self.couplings = nn.ModuleList(
            nn.Sequential(
                nn.Linear(dims, hidden_size),
                nn.LeakyReLU(),
                nn.Linear(hidden_size, hidden_size),
                nn.LeakyReLU(),
                nn.Linear(hidden_size, 2 * dims),
            )
            for _ in range(num_couplings)
        )
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Start as the identity; what has been loaded from a checkpoint is left alone."""
        for coupling in self.couplings:
            *hidden, last = (layer for layer in coupling if isinstance(layer, nn.Linear))
            for layer in hidden:
                init.xavier_uniform_(layer.weight)
                init.zeros_(layer.bias)
            init.zeros_(last.weight)
            init.zeros_(last.bias)

    def log_prob(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logarithm of the density at `x`, in float32 under autocast too.

        Args:
            x (`torch.Tensor` of shape `(..., dims)`): Normalised errors.

        Returns:
            `torch.Tensor` of shape `(...)`.
        """
        with torch.autocast(x.device.type, enabled=False):
            z = x.to(next((part.dtype for part in self.parameters() if part.is_floating_point()), x.dtype))
            log_scale = torch.zeros_like(z)
            for index, coupling in enumerate(self.couplings):
                kept = torch.arange(self.dims, device=z.device) % 2 == index % 2  # (dims,)
                change, shift = coupling(z * kept).chunk(2, dim=-1)
                change = change.tanh() * ~kept  # bounded, so that no coupling can blow a density up
                z = (z - shift * ~kept) * (-change).exp()
                log_scale = log_scale - change
            normal = -0.5 * (z.square() + math.log(2 * math.pi))
            return (normal + log_scale).sum(-1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return `log_prob(x)`."""
        return self.log_prob(x)


def residual_log_likelihood_loss(flow: ResidualFlow, errors: torch.Tensor, log_sigmas: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihood of errors under a Laplace distribution and, with the same sigmas, under a flow.

    As in the authors' code, the loss is the sum of both, each with its own `log_sigmas`. The Laplace term keeps the
    gradient to the error simple while the flow is still learning; the flow adds what the errors' distribution is
    beyond that. Unlike there, the flow's density counts once for a joint and not once for each of its coordinates.

    Args:
        flow (`ResidualFlow`): Over as many coordinates as the errors have.
        errors (`torch.Tensor` of shape `(..., dims)`): Prediction minus label.
        log_sigmas (`torch.Tensor` of shape `(..., dims)`): Logarithm of the predicted scales, in the errors' unit.

    Returns:
        `torch.Tensor` of shape `(...)`, which may be negative.
    """
    errors, log_sigmas = errors.float(), log_sigmas.float()
    normalised = errors * (-log_sigmas).exp()
    laplace = (normalised.abs() + log_sigmas + math.log(2)).sum(-1)
    return laplace + log_sigmas.sum(-1) - flow.log_prob(normalised)


@dataclass
class LikelihoodPredictions(PosePredictions):
    """Predictions of one layer with a deviation for every coordinate."""

    log_sigmas: torch.Tensor | None = None  # (1, batch, joints, 3) units of joint_scale


class LikelihoodLoss(JointDetrLoss):
    """The loss of the force-aligned baseline with the likelihood in place of L1 in 3D.

    Args:
        config (`JointDetrConfig`): With fixed alignment.
        flow (`ResidualFlow`): Density of the errors.
    """

    def __init__(self, config: JointDetrConfig, flow: ResidualFlow):
        super().__init__(config)
        self.flow = flow

    def __call__(self, predictions: LikelihoodPredictions, labels: PoseLabels) -> PoseLoss:
        """Return the weighted total and the terms `loss_likelihood` and `loss_joint_2d`."""
        errors = predictions.joints - labels.joints
        losses = residual_log_likelihood_loss(self.flow, errors, predictions.log_sigmas)  # (1, batch, joints)
        known = labels.joints_valid
        likelihood = (losses * known).sum() / over_processes(known.sum()).clamp(min=1e-6)
        joint_2d = self.joint_2d_loss(predictions.points, labels).sum()
        total = LIKELIHOOD_WEIGHT * likelihood + self.config.joint_2d_weight * joint_2d
        return PoseLoss(total, {"loss_likelihood": likelihood, "loss_joint_2d": joint_2d}, None, None)
