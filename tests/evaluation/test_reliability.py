"""Calibration against hand answers."""

import pytest
import torch

from jointdetr import AssembledPoses
from jointdetr.evaluation.reliability import measure_reliability


def poses_with(scores, errors, sigmas=None, visible=None) -> tuple[AssembledPoses, torch.Tensor]:
    """One joint a pose beside a root that is exact and certain, off by `errors` mm; and the truth."""
    count = len(errors)
    target = torch.zeros(count, 2, 3)
    joints = torch.full((count, 2, 3), 30.0)  # the root is off by as much as everything: moved away
    joints[:, 1, 0] += torch.tensor(errors)

    def beside_root(values):
        return None if values is None else torch.stack([torch.ones(count), torch.tensor(values)], dim=1)

    poses = AssembledPoses(
        joints,
        torch.zeros(count, 2, 2),
        beside_root(scores),
        torch.ones(count, 2, dtype=torch.bool),
        beside_root(sigmas),
        beside_root(visible),
    )
    return poses, target


def measure(poses, target, visible=None):
    valid = torch.zeros(target.shape[:2], dtype=torch.bool)
    valid[:, 1] = True
    visible = torch.ones_like(valid) if visible is None else visible
    return measure_reliability(poses, target, valid, visible, root=0)


def test_calibration_error_by_hand():
    """Four joints of score 0.95 of which two are hits, one of score 0.05 that is none."""
    result = measure(*poses_with([0.95] * 4 + [0.05], [0.0, 149.9, 150.0, 400.0, 999.0]))
    assert result.score.counts == [1, 4]
    assert result.score.found == [0.0, 0.5]
    assert result.metrics["score_ece"] == pytest.approx((4 * 0.45 + 0.05) / 5)
    assert result.sigma is None and result.visible is None and set(result.metrics) == {"score_ece"}


def test_a_calibrated_score_has_no_gap():
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(20000, generator=generator)
    errors = torch.where(torch.rand(20000, generator=generator) < scores, 10.0, 500.0)
    result = measure(*poses_with(scores.tolist(), errors.tolist()))
    assert result.metrics["score_ece"] < 0.015
    assert len(result.score.counts) == 10


def test_expected_errors_are_compared_with_measured_ones():
    errors = [float(e) for e in range(10, 110, 10)]
    exact = measure(*poses_with([0.9] * 10, errors, sigmas=errors))
    assert exact.metrics["sigma_gap"] == pytest.approx(0.0, abs=1e-4)
    assert exact.metrics["sigma_rank_correlation"] == pytest.approx(1.0)
    timid = measure(*poses_with([0.9] * 10, errors, sigmas=[2 * e for e in errors]))
    assert timid.metrics["sigma_gap"] == pytest.approx(55.0)
    reverse = measure(*poses_with([0.9] * 10, errors, sigmas=errors[::-1]))
    assert reverse.metrics["sigma_rank_correlation"] == pytest.approx(-1.0)


def test_visibility_is_judged_on_every_joint(tmp_path):
    poses, target = poses_with([0.9] * 4, [0.0] * 4, sigmas=[5.0] * 4, visible=[0.9, 0.9, 0.2, 0.6])
    visible = torch.tensor([[True, True], [True, False], [True, False], [True, False]])
    result = measure(poses, target, visible)
    assert result.metrics["visible_accuracy"] == pytest.approx((4 + 2) / 8)
    result.save_figure(tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
