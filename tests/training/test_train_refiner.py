"""Training of the refinement network."""

import json
import math

import numpy as np
import pytest
import torch

from jointdetr import (
    MPI_INF_3DHP,
    JointDetrForPoseEstimation,
    JointDetrImageProcessorPil,
    JointRefiner,
    JointRefinerConfig,
)
from jointdetr.converters.conversion import convert
from jointdetr.converters.human36m import Human36mSkeletons
from jointdetr.skeleton_jointdetr import HUMAN36M
from jointdetr.training.recipe import PredictionRecipe, RefinerRecipe, build
from jointdetr.training.train_refiner import (
    RefinerExamples,
    disturb,
    evaluate_on_predictions,
    gather_skeletons,
    predicted_examples,
    random_cameras,
    synthetic_skeletons,
    train_refiner,
    typical_bone_lengths,
)

SMALL = {"hidden_size": 32, "num_blocks": 1, "dropout": 0.0}


def test_synthetic_skeletons_are_upright_in_camera_axes():
    poses = synthetic_skeletons(64, seed=0, preset="everyday")
    assert poses.shape == (64, 17, 3)
    assert poses[:, 0].abs().max() == 0.0
    assert (poses[:, HUMAN36M.joints.index("head"), 1] < -200).float().mean() > 0.9  # y down, mm
    torch.testing.assert_close(synthetic_skeletons(3, seed=0, preset="everyday"), poses[:3])
    assert not torch.allclose(synthetic_skeletons(3, seed=1, preset="everyday"), poses[:3])


def test_typical_bone_lengths_are_medians_by_joint():
    poses = torch.zeros(3, 17, 3)
    poses[:, 1, 0] = torch.tensor([90.0, 100.0, 500.0])
    lengths = typical_bone_lengths(poses, HUMAN36M)
    assert lengths[:3] == [0.0, 100.0, 100.0] and set(lengths[3:]) == {0.0}


def test_cameras_keep_lengths_and_mirror_sides():
    poses = 300 * torch.randn(200, 17, 3)
    generator = torch.Generator().manual_seed(0)
    seen = random_cameras(poses, HUMAN36M, 0.0, generator)
    torch.testing.assert_close(seen[..., 1].sort(dim=1)[0], poses[..., 1].sort(dim=1)[0])  # turned about y alone
    head = HUMAN36M.joints.index("head")
    torch.testing.assert_close(seen[:, head].norm(dim=-1), poses[:, head].norm(dim=-1))
    wrists = [HUMAN36M.joints.index(name) for name in ("left_wrist", "right_wrist")]
    mirrored = (seen[:, wrists[0], 1] - poses[:, wrists[1], 1]).abs() < 1e-2
    assert 60 < mirrored.sum() < 140


def test_training_beats_the_midpoint_and_saves(tmp_path, pose_folder):
    values = {"output": str(tmp_path / "refiner"), "synthetic": 1500, "preset": "everyday", "epochs": 12}
    values |= {"batch_size": 64, "noise_mm": 5.0, "config": {"hidden_size": 128, "num_blocks": 1, "dropout": 0.0}}
    _, metrics = train_refiner(build(RefinerRecipe, values))
    assert metrics["replaced_refined"] < 0.8 * metrics["replaced_midpoint"]
    assert json.loads((tmp_path / "refiner" / "evaluation.json").read_text()) == metrics
    loaded = JointRefiner.from_pretrained(tmp_path / "refiner")
    assert loaded.config.hidden_size == 128


def test_skeletons_of_datasets_without_a_joint_are_left_out(pose_folder, pose_rows):
    recipe = build(RefinerRecipe, {"synthetic": 0, "sources": [{"path": str(pose_folder), "repeat": 2}]})
    poses = gather_skeletons(recipe, HUMAN36M)
    assert poses.shape == (16, 17, 3)
    expected = torch.tensor(pose_rows[0]["joints_3d"]) - torch.tensor(pose_rows[0]["joints_3d"][0])
    torch.testing.assert_close(poses[0], expected)


def test_skeletons_without_pictures_are_read(tmp_path):
    takes = {"S1": {"Walking": np.random.default_rng(0).normal(0, 0.2, (11, 17, 3))}}
    np.savez(tmp_path / "data_3d_h36m.npz", positions_3d=takes)
    convert(Human36mSkeletons(tmp_path / "data_3d_h36m.npz"), tmp_path / "skeletons")
    sources = [{"path": str(tmp_path / "skeletons"), "limit": 2}]
    poses = gather_skeletons(build(RefinerRecipe, {"synthetic": 0, "sources": sources}), HUMAN36M)
    x, y, z = 1000 * torch.tensor(takes["S1"]["Walking"][5] - takes["S1"]["Walking"][5, 0]).float().T
    assert poses.shape == (2, 17, 3)
    torch.testing.assert_close(poses[1], torch.stack([x, -z, y], dim=-1), atol=1e-3, rtol=1e-5)


def test_refuses_what_does_not_fit(pose_folder):
    with pytest.raises(ValueError, match="at least 2 complete skeletons"):
        train_refiner(RefinerRecipe(synthetic=0))
    with pytest.raises(ValueError, match="synthetic skeletons have the joints of 'human36m'"):
        train_refiner(RefinerRecipe(skeleton="mpi_inf_3dhp"))
    recipe = build(
        RefinerRecipe, {"skeleton": "mpi_inf_3dhp", "synthetic": 0, "sources": [{"path": str(pose_folder)}]}
    )
    with pytest.raises(ValueError, match="must be of skeleton 'mpi_inf_3dhp'"):
        train_refiner(recipe)


def test_expected_errors_grow_along_the_bones_and_bound_the_noise():
    generator = torch.Generator().manual_seed(0)
    truth = synthetic_skeletons(8, seed=0, preset="everyday").repeat(500, 1, 1)
    recipe = RefinerRecipe(config={"use_sigmas": True}, expected_error=0.2)
    examples = disturb(truth, HUMAN36M, recipe, generator)
    sigmas = examples.sigmas
    assert (sigmas[:, 0] == 0).all()
    hip, knee, ankle = (HUMAN36M.joints.index(f"right_{name}") for name in ("hip", "knee", "ankle"))
    thigh = (truth[:, knee] - truth[:, hip]).norm(dim=-1) + truth[:, hip].norm(dim=-1)
    assert (sigmas[:, knee] / thigh).median().item() == pytest.approx(0.2, rel=0.05)
    assert sigmas[:, hip].mean() < sigmas[:, knee].mean() < sigmas[:, ankle].mean()
    noise = (examples.joints - truth)[:, 1:] / sigmas[:, 1:, None]
    expected = torch.tensor([0.85, 0.85, 1.2]) / math.sqrt(3)  # of a deviation that is uniform up to its largest
    torch.testing.assert_close(noise.std(dim=(0, 1)), expected, rtol=0.03, atol=0.0)


def test_examples_are_mirrored_whole():
    truth = 300 * torch.randn(2, 17, 3)
    sigmas = torch.rand(2, 17)
    examples = RefinerExamples(truth + 1.0, sigmas, truth)
    seen = examples.mirrored(HUMAN36M, torch.tensor([True, False]))
    left, right = (HUMAN36M.joints.index(f"{side}_wrist") for side in ("left", "right"))
    for positions, before in ((seen.truth, truth), (seen.joints, truth + 1.0)):
        assert torch.equal(positions[0, left], before[0, right] * torch.tensor([-1.0, 1.0, 1.0]))
        assert torch.equal(positions[1], before[1])
    assert seen.sigmas[0, left] == sigmas[0, right] and torch.equal(seen.sigmas[1], sigmas[1])


def test_skeletons_alone_teach_to_undo_expected_errors(tmp_path):
    values = {"output": str(tmp_path), "synthetic": 1000, "preset": "everyday", "epochs": 8, "batch_size": 64}
    values["config"] = {**SMALL, "hidden_size": 96, "use_sigmas": True, "selection_rate": 0.05}
    _, metrics = train_refiner(build(RefinerRecipe, values))
    assert metrics["noisy_refined"] < 0.95 * metrics["noisy"]


def test_errors_are_expected_only_by_networks_that_read_them():
    truth, generator = 300 * torch.randn(2, 17, 3), torch.Generator().manual_seed(0)
    for use_sigmas in (True, False):
        recipe = RefinerRecipe(config={"use_sigmas": use_sigmas})
        assert disturb(truth, HUMAN36M, recipe, generator).sigmas.isfinite().all() == use_sigmas


def test_a_tenth_of_the_examples_hide_their_expected_errors(tmp_path, monkeypatch):
    seen, forward = [], JointRefiner.forward

    def watched(self, joints, **inputs):
        if self.training:
            seen.append(inputs["sigmas"].isnan())
        return forward(self, joints, **inputs)

    monkeypatch.setattr(JointRefiner, "forward", watched)
    values = {"output": str(tmp_path), "synthetic": 1000, "epochs": 2, "config": {**SMALL, "use_sigmas": True}}
    train_refiner(build(RefinerRecipe, values))
    unknown = torch.cat(seen)  # (examples, joints)
    assert torch.equal(unknown.any(dim=1), unknown.all(dim=1))  # of whole people
    assert unknown.all(dim=1).float().mean().item() == pytest.approx(0.1, abs=0.03)


def test_a_network_learns_from_a_models_own_predictions(tmp_path, tiny_model_folder, pose_folder):
    values = {"output": str(tmp_path / "refiner"), "synthetic": 40, "epochs": 1, "held_out": 0.25}
    values["config"] = {**SMALL, "use_sigmas": True, "selection_rate": 0.0, "unknown_sigma": 1000.0}
    predictions = {"model": str(tiny_model_folder), "sources": [{"path": str(pose_folder), "limit": 1, "repeat": 32}]}
    values["predictions"] = predictions | {"batch_size": 4, "epochs": 10, "learning_rate": 3e-3}
    refiner, metrics = train_refiner(build(RefinerRecipe, values))
    assert metrics["predicted_refined"] < 0.8 * metrics["predicted"]  # one person, known by heart
    assert json.loads((tmp_path / "refiner" / "evaluation.json").read_text()) == metrics
    model = JointDetrForPoseEstimation.from_pretrained(tiny_model_folder)
    model.set_refiner(JointRefiner.from_pretrained(tmp_path / "refiner"))
    model.save_pretrained(tmp_path / "model")
    loaded = JointDetrForPoseEstimation.from_pretrained(tmp_path / "model")
    assert loaded.refiner.config.use_sigmas
    torch.testing.assert_close(loaded.refiner.sigma_projection.weight, refiner.sigma_projection.weight)


def test_predictions_are_of_people_with_all_joints_and_carry_the_models_expectation(
    tmp_path, tiny_model_folder, pose_rows
):
    model = JointDetrForPoseEstimation.from_pretrained(tiny_model_folder, predict_confidence=True)
    model.save_pretrained(tmp_path / "model")
    JointDetrImageProcessorPil.from_pretrained(tiny_model_folder).save_pretrained(tmp_path / "model")
    lacking = pose_rows.map(lambda row, i: {"joints_3d_valid": [i != 2] * 17}, with_indices=True)
    lacking.save_to_disk(tmp_path / "rows")
    sources = [{"path": str(tmp_path / "rows"), "limit": 5}]
    recipe = build(PredictionRecipe, {"model": str(tmp_path / "model"), "sources": sources})
    examples = predicted_examples(recipe, HUMAN36M)
    assert len(examples) == 4 and examples.sigmas.isfinite().all()
    kept = torch.tensor([0, 1, 3, 4])
    truth = torch.tensor(pose_rows["joints_3d"][:])[kept]
    torch.testing.assert_close(examples.truth, truth - truth[:, :1], rtol=1e-4, atol=1e-2)
    unmoved = JointRefiner(JointRefinerConfig(**SMALL))
    metrics = evaluate_on_predictions(unmoved, examples)
    assert metrics["predicted_refined"] == pytest.approx(metrics["predicted"], rel=1e-5)


def test_predictions_that_do_not_fit_are_refused(tmp_path, tiny_model_folder, pose_folder, pose_rows):
    recipe = PredictionRecipe(model=str(tiny_model_folder))
    with pytest.raises(ValueError, match="`predictions.sources` must name pose datasets"):
        predicted_examples(recipe, HUMAN36M)
    recipe = build(PredictionRecipe, {"model": str(tiny_model_folder), "sources": [{"path": str(pose_folder)}]})
    with pytest.raises(ValueError, match="`predictions.model` must have the joints of 'mpi_inf_3dhp'"):
        predicted_examples(recipe, MPI_INF_3DHP)
    pose_rows.map(lambda row: {"joints_3d_valid": [True] * 16 + [False]}).save_to_disk(tmp_path / "rows")
    recipe = build(PredictionRecipe, {"model": str(tiny_model_folder), "sources": [{"path": str(tmp_path / "rows")}]})
    with pytest.raises(ValueError, match="at least 2 people with all joints, got 0"):
        predicted_examples(recipe, HUMAN36M)
