"""The residual flow is a density, starts as a standard normal, and learns; the loss follows its formula."""

import math

import pytest
import torch
from torch import nn

from benchmarks.accuracy.likelihood import (
    LikelihoodLoss,
    LikelihoodPredictions,
    ResidualFlow,
    residual_log_likelihood_loss,
)
from jointdetr import JointDetrConfig
from jointdetr.loss_jointdetr import PoseLabels


def scramble(flow: ResidualFlow) -> ResidualFlow:
    """Move every weight, so that the flow is far from the identity."""
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
    return flow


def grid(dims: int, reach: float, steps: int) -> tuple[torch.Tensor, float]:
    """Points of a regular grid (points, dims) and the volume of a cell."""
    axis = torch.linspace(-reach, reach, steps)
    return torch.cartesian_prod(*[axis] * dims).reshape(-1, dims), float(axis[1] - axis[0]) ** dims


@pytest.mark.parametrize(("dims", "steps"), [(1, 1001), (2, 401), (3, 61)])
@torch.no_grad()
def test_density_integrates_to_one(dims, steps):
    flow = scramble(ResidualFlow(dims))
    points, volume = grid(dims, 12.0, steps)
    density = flow.log_prob(points).exp()
    assert (density.sum() * volume).item() == pytest.approx(1.0, abs=5e-3)
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(points).sum(-1).exp()
    assert (density - normal).abs().max() > 0.01  # else the integral would say nothing


def test_a_new_flow_is_a_standard_normal():
    flow = ResidualFlow(3)
    points = torch.randn(4, 5, 3)
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(points).sum(-1)
    assert flow.log_prob(points).shape == (4, 5)
    torch.testing.assert_close(flow.log_prob(points), expected)


def test_resetting_makes_it_the_identity_again():
    flow = scramble(ResidualFlow(2))
    assert not torch.allclose(flow(torch.zeros(2)), torch.tensor(-math.log(2 * math.pi)))
    flow.reset_parameters()
    assert flow(torch.zeros(2)).item() == pytest.approx(-math.log(2 * math.pi))


def test_loss_by_hand():
    errors, log_sigmas = torch.tensor([[0.3, -0.1]]), torch.tensor([[0.1, 0.2]]).log()
    laplace = math.log(2 * 0.1) + 3.0 + math.log(2 * 0.2) + 0.5
    normal = math.log(0.1) + 0.5 * 9.0 + math.log(0.2) + 0.5 * 0.25 + math.log(2 * math.pi)
    loss = residual_log_likelihood_loss(ResidualFlow(2), errors, log_sigmas)
    assert loss.shape == (1,)
    assert loss.item() == pytest.approx(laplace + normal, rel=1e-5)


def test_autocast_changes_nothing():
    flow = scramble(ResidualFlow(2))
    errors = torch.randn(7, 2)
    with torch.autocast("cpu", torch.bfloat16):
        inside = flow(errors)
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, flow(errors))


def test_flow_and_sigmas_learn_where_the_errors_lie():
    """Errors that are never near zero: no sigma can say so, but the flow can."""
    errors = torch.randn(256, 2) * 0.02 + torch.tensor([0.3, -0.2])
    flow, log_sigmas = ResidualFlow(2), nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.Adam([*flow.parameters(), log_sigmas], lr=5e-3)
    losses = []
    for _ in range(150):
        loss = residual_log_likelihood_loss(flow, errors, log_sigmas.expand_as(errors)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    scale = log_sigmas.detach().exp()
    with torch.no_grad():
        at_errors = flow.log_prob(errors / scale).mean()
        mirrored = flow.log_prob(-errors / scale).mean()
    assert losses[-1] < losses[0] - 2.0
    assert at_errors > mirrored + 2.0


def test_likelihood_is_least_at_the_size_of_the_errors_and_moves_labelled_joints():
    config = JointDetrConfig(query_alignment="fixed", joint_2d_weight=2.0)
    loss = LikelihoodLoss(config, ResidualFlow(3))
    known = torch.arange(17) < 9
    label = {"joints_3d": torch.zeros(17, 3), "joints_3d_valid": known, "joints_2d": torch.full((17, 2), 0.5)}
    labels = PoseLabels.from_list([label], config, torch.device("cpu"))
    joints = torch.full((1, 1, 17, 3), 0.2).requires_grad_()
    points = torch.full((1, 1, 17, 2), 0.75)

    def judge(sigma: float):
        return loss(
            LikelihoodPredictions(joints, points, None, log_sigmas=torch.full_like(joints, sigma).log()), labels
        )

    found = {sigma: judge(sigma) for sigma in (0.02, 0.2, 2.0)}
    terms = {sigma: result.terms["loss_likelihood"].item() for sigma, result in found.items()}
    assert terms[0.2] < min(terms[0.02], terms[2.0])
    assert found[0.2].terms["loss_joint_2d"].item() == pytest.approx(0.5)
    assert found[0.2].total.item() == pytest.approx(0.1 * terms[0.2] + 2.0 * 0.5)
    found[0.2].total.backward()
    assert (joints.grad[0, 0, known] > 0).all() and not joints.grad[0, 0, ~known].any()
