"""Predictions and labels to numbers, against hand answers; whole models from Python and from the command line.

Nothing of the true depth is used in camera space.
"""

import dataclasses
import json
import math
from types import SimpleNamespace

import pytest
import torch
from evaluation_examples import SIZE, exact_outputs, make_targets, predictions
from typer.testing import CliRunner

from jointdetr import (
    AssembledPoses,
    JointDetrForPoseEstimation,
    JointDetrImageProcessorPil,
    JointRefiner,
    JointRefinerConfig,
)
from jointdetr.camera_jointdetr import project
from jointdetr.cli import app
from jointdetr.evaluation import prediction
from jointdetr.evaluation.evaluate import EvaluationSettings, camera_metrics, evaluate_model, fit_baselines, score
from jointdetr.evaluation.metrics import TrivialBaselines, mpjpe
from jointdetr.evaluation.prediction import FoundPoses, PoseTargets
from jointdetr.evaluation.protocols import LIMB_JOINTS, METRICS, PROTOCOLS
from jointdetr.skeleton_jointdetr import HUMAN36M

INTRINSICS = torch.tensor([[200.0, 0, 64], [0, 200, 32], [0, 0, 1]])
HUMAN36M_P1 = PROTOCOLS["human36m-p1"]


def test_perfect_predictions_score_perfectly():
    targets = make_targets()
    metrics = score(predictions(exact_outputs(targets), targets)).metrics
    assert metrics["mpjpe"] == 0.0 and metrics["pa_mpjpe"] < 0.01 and metrics["point_error"] == 0.0
    assert metrics["pck_150"] == 1.0 and metrics["recall"] == 1.0 and metrics["pck_torso"] == 1.0
    assert metrics["auc"] == pytest.approx(30 / 31)


def test_errors_are_split_by_visibility_and_detection():
    targets = make_targets()
    outputs = exact_outputs(targets)
    outputs.pred_joints[:, :17, 0] += torch.where(targets.visible, 10.0, 30.0)
    outputs.logits[:, 4, 4] = 5.0
    outputs.logits[:, 4, 17] = 9.0  # the left hip: improbable, and still the best query for it
    result = score(predictions(outputs, targets))
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


def test_errors_of_visible_and_occluded_joints_share_one_alignment():
    targets = make_targets()
    outputs = exact_outputs(targets)
    off = targets.joints + 200.0
    off[..., 0] += torch.where(targets.visible, 10.0, 30.0)
    outputs.pred_joints[:, :17] = off
    found = predictions(outputs, targets)
    found.poses.refined = True
    errors = score(found).refinement["after"]
    by_hand = (off - targets.joints).norm(dim=-1)
    assert errors["mpjpe_occluded"] == pytest.approx(by_hand[~targets.visible].mean().item(), rel=1e-5)
    assert errors["mpjpe_visible"] == pytest.approx(by_hand[targets.visible].mean().item(), rel=1e-5)
    assert errors["pa_mpjpe_occluded"] < 25 and errors["pa_mpjpe_visible"] < 25  # shifted whole: aligned again
    share = targets.visible.float().mean().item()
    mean = share * errors["pa_mpjpe_visible"] + (1 - share) * errors["pa_mpjpe_occluded"]
    assert errors["pa_mpjpe"] == pytest.approx(mean, rel=1e-5)


def test_plain_evaluation_counts_an_error_of_the_root_and_a_protocol_moves_it_away():
    targets = make_targets()
    targets.joints[:, 0] = 0.0
    outputs = exact_outputs(targets)
    outputs.pred_joints[:, :17, 2] += 40.0
    found = predictions(outputs, targets)
    assert score(found).metrics["mpjpe"] == pytest.approx(40.0, rel=1e-4)
    assert score(found, HUMAN36M_P1, ["a", "a", "b"]).metrics["mpjpe"] == pytest.approx(0.0, abs=1e-3)


def test_unlabelled_joints_count_nowhere():
    targets = make_targets()
    outputs = exact_outputs(targets)
    outputs.pred_joints[0, 5] += 500.0
    targets.valid[0, 5] = False
    targets.joints[0, 5] = torch.nan
    outputs.logits[1, 6, 17] = 20.0  # a joint that is not detected has no label of any kind
    targets.valid[1, 6], targets.points[1, 6] = False, torch.nan
    metrics = score(predictions(outputs, targets)).metrics
    assert metrics["mpjpe"] == 0.0 and metrics["pck_150"] == 1.0 and metrics["recall"] == 1.0


def test_means_over_frames_and_over_groups_by_hand():
    """Four poses off by 41 mm in one joint of seventeen, one off by 320 mm: the second group weighs as much."""
    targets = make_targets(5)
    outputs = exact_outputs(targets)
    outputs.pred_joints[:4, 10, 0] += 41.0
    outputs.pred_joints[4, 10, 1] += 320.0
    result = score(predictions(outputs, targets), HUMAN36M_P1, ["sit"] * 4 + ["run"])
    assert result.metrics["mpjpe"] == pytest.approx(96.8 / 17, rel=1e-4)
    assert result.group_means["mpjpe"] == result.headline == pytest.approx(180.5 / 17, rel=1e-4)
    assert result.groups["run"] == {
        "mpjpe": pytest.approx(320 / 17, rel=1e-4),
        "pck_150": pytest.approx(16 / 17),
        "auc": pytest.approx(16 * 30 / 31 / 17),
        "poses": 1,
    }
    assert result.groups["sit"]["pck_150"] == 1.0
    assert result.groups["sit"]["auc"] == pytest.approx((16 * 30 + 22) / 31 / 17)
    assert result.joints["head"]["mpjpe"] == pytest.approx(96.8, rel=1e-4)
    assert result.joints["head"]["pck_150"] == pytest.approx(0.8)


def test_pck_is_strict_and_over_14_joints_of_3dhp():
    protocol = PROTOCOLS["3dhp"]
    assert len(protocol.joints) == 14 and not {"pelvis", "spine", "head"} & set(protocol.joints)
    target = torch.zeros(1, 14, 3)
    predicted = torch.zeros(1, 14, 3)
    predicted[0, :7, 2] = 150.0
    metrics = {name: METRICS[name].function(predicted, target) for name in protocol.metrics}
    assert metrics["pck_150"] == 0.5
    assert metrics["auc"] == pytest.approx(0.5 * 30 / 31)


def test_the_picture_is_measured_without_a_label_in_3d():
    """Three people whose torso is 20 px of the input; one's wrist is 3.9 px off, two's are 4.1 px."""
    targets = make_targets()
    targets.joints[:], targets.valid[:] = torch.nan, False
    for part, height in (("hip", 40.0), ("shoulder", 20.0)):
        for side, x in (("left", 50.0), ("right", 60.0)):
            targets.points[:, HUMAN36M.joints.index(f"{side}_{part}")] = torch.tensor([x / SIZE[1], height / SIZE[0]])
    outputs = exact_outputs(targets)
    outputs.pred_joints = torch.zeros_like(outputs.pred_joints)
    wrist = HUMAN36M.joints.index("left_wrist")
    outputs.pred_points[:, wrist, 0] += torch.tensor([3.9, 4.1, -4.1]) / SIZE[1]
    baselines = TrivialBaselines.fit(targets.joints, targets.valid, HUMAN36M)
    result = score(predictions(outputs, targets), baselines=baselines)
    assert len(LIMB_JOINTS) == 12
    assert result.metrics["pck_torso"] == pytest.approx(1 - 2 / 36)
    assert result.joints["left_wrist"]["pck_torso"] == pytest.approx(1 / 3)
    assert result.joints["head"]["pck_torso"] == 1.0 and result.metrics["recall"] == 1.0
    assert result.labels == {"joints_3d": 0, "joints_2d": 51} and not result.baselines
    assert math.isnan(result.metrics["mpjpe"])
    tables = {table.title: table for table in result.tables()}
    assert next(iter(tables)) == "In the picture" and "All joints" not in tables
    assert tables["In the picture"].rows[0][1] == "94.4"
    assert tables["By joint, mean over frames"].header == ["joint", "detected %", "PCK@0.2 torso %"]


def test_a_skeleton_without_a_torso_has_no_pck_in_the_picture():
    targets = make_targets()
    names = tuple(f"point_{number}" for number in range(17))
    found = predictions(exact_outputs(targets), targets)
    result = score(dataclasses.replace(found, skeleton=dataclasses.replace(HUMAN36M, joints=names)))
    assert math.isnan(result.metrics["pck_torso"]) and result.metrics["mpjpe"] == 0.0


def test_an_unlabelled_hip_leaves_every_number_finite():
    targets = make_targets()
    targets.valid[1, 4] = False
    targets.joints[1, 4] = torch.nan
    baselines = TrivialBaselines.fit(targets.joints, targets.valid, HUMAN36M)
    result = score(predictions(exact_outputs(make_targets()), targets), baselines=baselines)
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
    result = score(predictions(outputs, targets))
    assert math.isnan(result.metrics["mpjpe"]) and math.isnan(result.metrics["pa_mpjpe"])
    assert result.metrics["recall"] == pytest.approx(2 / 3) and result.metrics["pck_150"] == pytest.approx(2 / 3)
    assert result.metrics["pck_torso"] == pytest.approx(2 / 3)
    assert result.tables()[0].rows[0][:2] == ["model", "-"]


def scene(count: int = 4):
    """True poses with their roots, seen without error."""
    generator = torch.Generator().manual_seed(0)
    joints = 300 * torch.randn(count, 17, 3, generator=generator)
    joints[:, 0] = 0.0
    roots = torch.tensor([[100.0, -50.0, 4000.0]]).repeat(count, 1)
    points = project(joints + roots[:, None], INTRINSICS) / torch.tensor([128.0, 64.0])
    scores = torch.ones(count, 17)
    poses = AssembledPoses(joints, points, scores, scores > 0)
    valid = torch.ones(count, 17, dtype=torch.bool)
    targets = PoseTargets(joints, valid, valid, points, roots, INTRINSICS.repeat(count, 1, 1), SIZE)
    return FoundPoses(poses, poses, poses.joints, refined=False), targets


def test_exact_poses_are_placed_exactly():
    poses, targets = scene()
    metrics = camera_metrics(poses, targets, root=0)
    assert metrics["placed"] == 1.0
    assert metrics["mpjpe_absolute"] < 0.5 and metrics["mrpe"] < 0.5


def test_a_person_a_tenth_too_large_stands_a_tenth_too_far():
    poses, targets = scene()
    poses.joints = poses.detected.joints = 1.1 * poses.joints
    metrics = camera_metrics(poses, targets, root=0)
    assert metrics["mrpe"] == pytest.approx(0.1 * targets.roots[0].norm().item(), rel=1e-3)


def test_joint_errors_in_camera_space_by_hand():
    poses, targets = scene()
    poses.joints = poses.joints.clone()
    poses.joints[:, 5, 1] += 34.0  # a joint that was not detected and has been filled in
    poses.detected.detected[:, 5] = False
    metrics = camera_metrics(poses, targets, root=0)
    assert metrics["mpjpe_absolute"] == pytest.approx(2.0, abs=0.3)
    assert metrics["mrpe"] < 0.5


def test_people_who_cannot_be_placed_are_counted():
    poses, targets = scene()
    poses.detected.points[0, 2:] = torch.nan  # two joints are too few
    targets.roots[3] = torch.nan  # where this one stands nobody knows
    metrics = camera_metrics(poses, targets, root=0)
    assert metrics["placed"] == pytest.approx(2 / 3)
    assert metrics["mrpe"] < 0.5


def test_nothing_is_said_where_no_true_place_is_known():
    poses, targets = scene()
    targets.intrinsics[:] = torch.nan
    assert camera_metrics(poses, targets, root=0) == {}


def seen(joints: torch.Tensor, scores: torch.Tensor) -> tuple[FoundPoses, PoseTargets]:
    """One person whose root is half a metre before the camera, of whom the joints with a score are detected."""
    root = torch.tensor([[0.0, 0.0, 500.0]])
    points = project(joints[None] + root, INTRINSICS) / torch.tensor([128.0, 64.0])
    poses = AssembledPoses(joints[None], points, scores[None], ~scores[None].isnan())
    poses.scores = scores[None].nan_to_num()
    valid = torch.ones(1, len(joints), dtype=torch.bool)
    targets = PoseTargets(joints[None], valid, valid, points, root, INTRINSICS[None], SIZE)
    return FoundPoses(poses, poses, poses.joints, refined=True), targets


@pytest.mark.parametrize(("hand_mm", "placed"), [(-499.0, 1.0), (-501.0, 0.0)])
def test_nobody_is_placed_with_a_joint_behind_the_camera_as_users_do_not_get_it(hand_mm, placed):
    """The hand is filled in: 1 mm before the camera, or 1 mm behind it, where no camera would see it."""
    joints = torch.tensor([[0.0, 0, 0], [200, 0, 0], [0, 150, 0], [0, 0, hand_mm]])
    poses, targets = seen(joints, torch.tensor([1.0, 1.0, 1.0, torch.nan]))
    metrics = camera_metrics(poses, targets, root=0)
    assert metrics["placed"] == placed
    assert metrics["mrpe"] == pytest.approx(0.0, abs=0.01) if placed else metrics["mrpe"] != metrics["mrpe"]


def test_joints_whose_score_is_zero_place_nobody_and_refuse_nobody():
    """With a threshold of 0 they are detected, and weigh nothing: three that weigh something are wanted."""
    joints = torch.tensor([[0.0, 0, 0], [200, 0, 0], [0, 150, 0], [100, 100, 50]])
    for scores, placed in (([1.0, 0.0, 0.0, 0.0], 0.0), ([1.0, 1.0, 0.0, 0.0], 0.0), ([1.0, 1.0, 1.0, 0.0], 1.0)):
        assert camera_metrics(*seen(joints, torch.tensor(scores)), root=0)["placed"] == placed


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
