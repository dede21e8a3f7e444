"""Evaluation of whole models, from Python and from the command line."""

import json
import math
from types import SimpleNamespace

import pytest
import torch
from evaluation_examples import exact_outputs, make_targets
from typer.testing import CliRunner

from jointdetr import (
    AssembledPoses,
    JointDetrForPoseEstimation,
    JointDetrImageProcessorPil,
    JointRefiner,
    JointRefinerConfig,
)
from jointdetr.cli import app
from jointdetr.evaluation import prediction
from jointdetr.evaluation.evaluate import EvaluationSettings, evaluate_model, fit_baselines
from jointdetr.evaluation.metrics import mpjpe
from jointdetr.evaluation.prediction import FoundPoses
from jointdetr.skeleton_jointdetr import HUMAN36M


def test_errors_before_and_after_refinement_stand_side_by_side(tiny_model_folder, pose_rows):
    model = JointDetrForPoseEstimation.from_pretrained(tiny_model_folder)
    model.set_refiner(JointRefiner(JointRefinerConfig(hidden_size=16, use_sigmas=True)))
    torch.nn.init.constant_(model.refiner.output_projection.bias, 0.5)
    processor = JointDetrImageProcessorPil.from_pretrained(tiny_model_folder)
    result = evaluate_model(model, processor, pose_rows, EvaluationSettings(threshold=0.0))
    assert result.refinement["after"]["mpjpe"] == pytest.approx(result.metrics["mpjpe"], rel=1e-5)
    assert result.refinement["after"]["mpjpe"] != pytest.approx(result.refinement["before"]["mpjpe"], rel=1e-4)
    tables = {table.title: table for table in result.tables()}
    assert [row[0] for row in tables["Refinement network"].rows] == ["all", "visible", "occluded"]
    model.refiner = None
    assert evaluate_model(model, processor, pose_rows, EvaluationSettings(threshold=0.0)).refinement is None


def test_a_refiner_fills_missing_joints_and_nothing_is_left_out():
    targets = make_targets()
    outputs = exact_outputs(targets)
    outputs.logits[0] = 0.0  # a person of whom no joint is detected

    class FillsSevens(torch.nn.Module):
        config = SimpleNamespace(refine_detected=False)

        def forward(self, joints, missing, sigmas):
            filled = torch.where(missing[..., None], torch.full_like(joints, 7.0), joints)
            return AssembledPoses(filled.masked_fill(missing.all(1)[:, None, None], torch.nan), None, None, None)

    outputs.logits[1, 2, 17] = 20.0  # the right knee
    found = FoundPoses.assemble(outputs, 0.5, FillsSevens())
    assert found.detected.detected.sum(dim=1).tolist() == [0, 16, 17]
    assert found.joints.isfinite().all() and found.refined
    assert found.joints[1, 2].tolist() == [7.0] * 3
    torch.testing.assert_close(found.joints[2], targets.joints[2])


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
    assert result.fine_print["poses"] == 8 and result.fine_print["refiner"] and result.fine_print["input"] == "128x128"
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
    outputs = exact_outputs(make_targets(len(pose_rows)))
    outputs.pred_joints[:, :17] += torch.randn(len(pose_rows), 17, 3) * 50
    outputs.logits[:, 17, :17] = 9.0  # a query that has a say in every joint's mean
    outputs.pred_joints[:, 17] = 0.0
    monkeypatch.setattr(prediction, "run_model", lambda *_: outputs)
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
    assert full.fine_print["dtype"] == "float32" and half.fine_print["dtype"] == "bfloat16"
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
    assert saved["fine_print"]["baselines_fitted_to"] == "training poses"
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
    assert evaluate_model(model, processor, named("in_house")).fine_print["skeleton"] == "in_house"
