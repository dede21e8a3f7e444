"""Evaluation of assembled poses and of whole models."""

import json
import math
from types import SimpleNamespace

import pytest
import torch
from typer.testing import CliRunner

from jointdetr import (
    AssembledPoses,
    JointDetrForPoseEstimation,
    JointDetrImageProcessorPil,
    JointRefiner,
    JointRefinerConfig,
)
from jointdetr.cli import app
from jointdetr.evaluation import evaluate
from jointdetr.evaluation.evaluate import (
    EvaluationSettings,
    PoseTargets,
    complete_poses,
    errors_by_visibility,
    evaluate_model,
    fit_baselines,
    score_poses,
)
from jointdetr.evaluation.metrics import TrivialBaselines, mpjpe
from jointdetr.modeling_jointdetr import JointDetrPoseEstimationOutput
from jointdetr.skeleton_jointdetr import HUMAN36M


def make_targets(num_poses: int = 3) -> PoseTargets:
    generator = torch.Generator().manual_seed(0)
    joints = 300 * torch.randn(num_poses, 17, 3, generator=generator)
    visible = torch.rand(num_poses, 17, generator=generator) < 0.5
    valid = torch.ones(num_poses, 17, dtype=torch.bool)
    return PoseTargets(joints, valid, visible, torch.rand(num_poses, 17, 2, generator=generator))


def exact_outputs(targets: PoseTargets) -> JointDetrPoseEstimationOutput:
    """Queries 0 to 16 are the joints in order, the last three are sure to be none."""
    num_poses = len(targets.joints)
    logits = torch.full((num_poses, 20, 18), -10.0)
    logits[:, range(17), range(17)] = 10.0
    logits[:, 17:, 17] = 10.0
    joints = torch.cat([targets.joints, torch.full((num_poses, 3, 3), 1e4)], dim=1)
    points = torch.cat([targets.points, torch.zeros(num_poses, 3, 2)], dim=1)
    return JointDetrPoseEstimationOutput(logits=logits, pred_joints=joints, pred_points=points)


def score(outputs, targets, threshold=0.5):
    detected, completed = complete_poses(outputs, EvaluationSettings(threshold=threshold), None)
    return score_poses(detected, completed, targets, HUMAN36M)


def test_perfect_predictions_score_perfectly():
    targets = make_targets()
    metrics = score(exact_outputs(targets), targets).metrics
    assert metrics["mpjpe"] == 0.0 and metrics["pa_mpjpe"] < 0.01 and metrics["point_error"] == 0.0
    assert metrics["pck_150"] == 1.0 and metrics["recall"] == 1.0
    assert metrics["auc"] == pytest.approx(30 / 31)


def test_errors_are_split_by_visibility_and_detection():
    targets = make_targets()
    outputs = exact_outputs(targets)
    outputs.pred_joints[:, :17, 0] += torch.where(targets.visible, 10.0, 30.0)
    outputs.logits[:, 4, 4] = 5.0
    outputs.logits[:, 4, 17] = 9.0  # the left hip: improbable, and still the best query for it
    result = score(outputs, targets)
    metrics = result.metrics
    assert metrics["mpjpe_visible"] == pytest.approx(10, rel=1e-4)
    assert metrics["mpjpe_occluded"] == pytest.approx(30, rel=1e-4)
    share = targets.visible.float().mean().item()
    assert metrics["mpjpe"] == pytest.approx(10 * share + 30 * (1 - share), rel=1e-4)
    assert metrics["recall"] == pytest.approx(16 / 17)
    assert result.joints["left_hip"]["recall"] == 0.0 and result.joints["head"]["recall"] == 1.0
    detected = torch.arange(17) != 4
    expected = torch.where(targets.visible, 10.0, 30.0)[:, detected].mean().item()
    assert metrics["mpjpe_detected"] == pytest.approx(expected, rel=1e-4)


def test_errors_before_and_after_refinement_are_split_by_visibility(tiny_model_folder, pose_rows):
    targets = make_targets()
    off = targets.joints + 200.0
    off[..., 0] += torch.where(targets.visible, 10.0, 30.0)
    errors = errors_by_visibility(off, targets)
    by_hand = (off - targets.joints).norm(dim=-1)
    assert errors["mpjpe_occluded"] == pytest.approx(by_hand[~targets.visible].mean().item(), rel=1e-5)
    assert errors["mpjpe_visible"] == pytest.approx(by_hand[targets.visible].mean().item(), rel=1e-5)
    assert errors["pa_mpjpe_occluded"] < 25 and errors["pa_mpjpe_visible"] < 25  # shifted whole: aligned again
    share = targets.visible.float().mean().item()
    mean = share * errors["pa_mpjpe_visible"] + (1 - share) * errors["pa_mpjpe_occluded"]
    assert errors["pa_mpjpe"] == pytest.approx(mean, rel=1e-5)

    model = JointDetrForPoseEstimation.from_pretrained(tiny_model_folder)
    model.set_refiner(JointRefiner(JointRefinerConfig(hidden_size=16, use_sigmas=True)))
    torch.nn.init.constant_(model.refiner.output_projection.bias, 0.5)
    processor = JointDetrImageProcessorPil.from_pretrained(tiny_model_folder)
    result = evaluate_model(model, processor, pose_rows, EvaluationSettings(threshold=0.0))
    assert result.refinement["after"]["mpjpe"] == pytest.approx(result.metrics["mpjpe"], rel=1e-5)
    assert result.refinement["after"]["mpjpe"] != pytest.approx(result.refinement["before"]["mpjpe"], rel=1e-4)
    tables = {table.title: table for table in result.report().tables}
    assert [row[0] for row in tables["Refinement network"].rows] == ["all", "visible", "occluded"]
    model.refiner = None
    assert evaluate_model(model, processor, pose_rows, EvaluationSettings(threshold=0.0)).refinement is None


def test_unlabelled_joints_count_nowhere():
    targets = make_targets()
    outputs = exact_outputs(targets)
    outputs.pred_joints[0, 5] += 500.0
    targets.valid[0, 5] = False
    targets.joints[0, 5] = torch.nan
    metrics = score(outputs, targets).metrics
    assert metrics["mpjpe"] == 0.0 and metrics["pck_150"] == 1.0


def test_a_refiner_fills_missing_joints_and_nothing_is_left_out():
    targets = make_targets()
    outputs = exact_outputs(targets)
    outputs.logits[0] = 0.0  # a person of whom no joint is detected

    class FillsSevens:
        config = SimpleNamespace(refine_detected=False)

        def __call__(self, joints, missing, sigmas):
            filled = torch.where(missing[..., None], torch.full_like(joints, 7.0), joints)
            return AssembledPoses(filled.masked_fill(missing.all(1)[:, None, None], torch.nan), None, None, None)

    outputs.logits[1, 2, 17] = 20.0  # the right knee
    detected, completed = complete_poses(outputs, EvaluationSettings(), FillsSevens())
    assert detected.detected.sum(dim=1).tolist() == [0, 16, 17]
    assert completed.joints.isfinite().all()
    assert completed.joints[1, 2].tolist() == [7.0] * 3
    torch.testing.assert_close(completed.joints[2], targets.joints[2])


def test_evaluates_a_model_and_writes_json(tiny_model_folder, pose_rows, tmp_path, capsys):
    model = JointDetrForPoseEstimation.from_pretrained(tiny_model_folder)
    processor = JointDetrImageProcessorPil.from_pretrained(tiny_model_folder)
    skeleton = model.config.skeleton
    assert skeleton == HUMAN36M
    baselines = fit_baselines(pose_rows, skeleton)
    result = evaluate_model(model, processor, pose_rows, EvaluationSettings(threshold=1.0, batch_size=3), baselines)
    truth = torch.tensor(pose_rows["joints_3d"][:])
    truth = truth - truth[:, :1]
    mean_error = mpjpe(truth.mean(dim=0).expand_as(truth), truth).item()
    assert result.baselines["mean_pose"]["mpjpe"] == pytest.approx(mean_error, rel=1e-4)
    assert result.protocol["poses"] == 8 and result.protocol["refiner"] and result.protocol["input"] == "128x128"
    assert math.isfinite(result.metrics["mpjpe"]) and set(result.joints) == set(HUMAN36M.joints)
    result.print()
    assert "MPJPE" in capsys.readouterr().out
    result.save(tmp_path / "result.json")
    saved = json.loads((tmp_path / "result.json").read_text())
    assert saved["metrics"]["mpjpe"] == result.metrics["mpjpe"]
    assert saved["metrics"]["mpjpe_detected"] is None  # nothing is as sure as that


def test_autocast_is_for_the_network_alone(tiny_model_folder, pose_rows, monkeypatch):
    model = JointDetrForPoseEstimation.from_pretrained(tiny_model_folder)
    model.set_refiner(JointRefiner(JointRefinerConfig(refine_detected=False)))  # multiplies matrices, but not here
    processor = JointDetrImageProcessorPil.from_pretrained(tiny_model_folder)
    targets = make_targets(len(pose_rows))
    outputs = exact_outputs(targets)
    outputs.pred_joints[:, :17] += torch.randn(len(pose_rows), 17, 3) * 50
    outputs.logits[:, 17, :17] = 9.0  # a query that has a say in every joint's mean
    outputs.pred_joints[:, 17] = 0.0
    monkeypatch.setattr(evaluate, "_run_model", lambda *_: (outputs, targets))
    expected = evaluate_model(model, processor, pose_rows)
    with torch.autocast("cpu", torch.bfloat16):
        got = evaluate_model(model, processor, pose_rows)
    assert got.flat() == expected.flat() and got.metrics["pa_mpjpe"] > 10


def test_a_converted_model_is_evaluated(tiny_model_folder, pose_rows):
    model = JointDetrForPoseEstimation.from_pretrained(tiny_model_folder)
    for head in model.model.decoder.heads:
        torch.nn.init.normal_(head.joint_head[-1].weight, std=0.1)
    processor = JointDetrImageProcessorPil.from_pretrained(tiny_model_folder)
    full = evaluate_model(model, processor, pose_rows)
    half = evaluate_model(model.to(torch.bfloat16), processor, pose_rows)
    assert full.protocol["dtype"] == "float32" and half.protocol["dtype"] == "bfloat16"
    assert half.metrics["mpjpe"] == pytest.approx(full.metrics["mpjpe"], rel=0.05)
    assert half.metrics["mpjpe"] != full.metrics["mpjpe"]


def test_the_command_line_agrees_with_the_function(tiny_model_folder, pose_folder, pose_rows, tmp_path):
    files = ["--output", tmp_path / "result.json", "--reliability", tmp_path / "reliability.png"]
    arguments = ["--model", tiny_model_folder, "--dataset", pose_folder, "--baseline-dataset", pose_folder, *files]
    run = CliRunner().invoke(app, ["evaluate", *(str(a) for a in [*arguments, "--limit", 4])])
    assert run.exit_code == 0, run.output
    saved = json.loads((tmp_path / "result.json").read_text())
    model = JointDetrForPoseEstimation.from_pretrained(tiny_model_folder)
    processor = JointDetrImageProcessorPil.from_pretrained(tiny_model_folder)
    expected = evaluate_model(model, processor, pose_rows.select(range(4))).metrics
    assert saved["metrics"]["mpjpe"] == pytest.approx(expected["mpjpe"], rel=1e-5)
    assert saved["protocol"]["baselines_fitted_to"] == "training poses"
    assert saved["reliability"]["metrics"]["score_ece"] >= 0
    assert (tmp_path / "reliability.png").stat().st_size > 5000


def test_refuses_rows_of_another_skeleton(tiny_model_folder, pose_rows):
    model = JointDetrForPoseEstimation.from_pretrained(tiny_model_folder)
    processor = JointDetrImageProcessorPil.from_pretrained(tiny_model_folder)
    with pytest.raises(ValueError, match="at least one row"):
        evaluate_model(model, processor, pose_rows.select([]))


def test_refuses_a_known_skeleton_of_other_joints_and_takes_an_unknown_name(tiny_model_folder, pose_rows):
    model = JointDetrForPoseEstimation.from_pretrained(tiny_model_folder)
    processor = JointDetrImageProcessorPil.from_pretrained(tiny_model_folder)

    def named(name: str):
        return pose_rows.select([0, 1]).map(lambda row: {"skeleton": name})

    with pytest.raises(ValueError, match="'human36m', got 'mpi_inf_3dhp'"):
        evaluate_model(model, processor, named("mpi_inf_3dhp"))
    assert evaluate_model(model, processor, named("in_house")).protocol["skeleton"] == "in_house"


def test_an_unlabelled_hip_leaves_every_number_finite():
    targets = make_targets()
    targets.valid[1, 4] = False
    targets.joints[1, 4] = torch.nan
    baselines = TrivialBaselines.fit(targets.joints, targets.valid, HUMAN36M)
    detected, completed = complete_poses(exact_outputs(make_targets()), EvaluationSettings(), None)
    result = score_poses(detected, completed, targets, HUMAN36M, baselines)
    assert all(math.isfinite(value) for values in result.baselines.values() for value in values.values())
    assert result.metrics["pa_mpjpe"] < 0.01


@pytest.mark.parametrize("logits_too", [False, True])
def test_a_diverged_model_scores_nan(logits_too):
    targets = make_targets()
    outputs = exact_outputs(targets)
    outputs.pred_joints[0] = torch.nan
    outputs.pred_points[0] = torch.nan
    if logits_too:
        outputs.logits[0] = torch.nan
    result = score(outputs, targets)
    assert math.isnan(result.metrics["mpjpe"]) and math.isnan(result.metrics["pa_mpjpe"])
    assert result.metrics["recall"] == pytest.approx(2 / 3) and result.metrics["pck_150"] == pytest.approx(2 / 3)
