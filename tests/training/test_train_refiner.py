"""Training of the refinement network."""

import json
import math

import numpy as np
import pytest
import torch

from jointdetr import JointRefiner
from jointdetr.data.conversion import ConversionSettings, convert
from jointdetr.data.human36m_skeletons import Human36mSkeletons
from jointdetr.skeleton_jointdetr import HUMAN36M
from jointdetr.training.recipe import build
from jointdetr.training.train_refiner import (
    RefinerRecipe,
    gather_skeletons,
    main,
    random_cameras,
    synthetic_skeletons,
    train_refiner,
)


def test_synthetic_skeletons_are_upright_in_camera_axes():
    poses = synthetic_skeletons(64, seed=0, preset="everyday")
    assert poses.shape == (64, 17, 3)
    assert poses[:, 0].abs().max() == 0.0
    assert (poses[:, HUMAN36M.joints.index("head"), 1] < -200).float().mean() > 0.9  # y down, mm
    torch.testing.assert_close(synthetic_skeletons(3, seed=0, preset="everyday"), poses[:3])
    assert not torch.allclose(synthetic_skeletons(3, seed=1, preset="everyday"), poses[:3])


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
    assert metrics.replaced_refined < 0.8 * metrics.replaced_midpoint
    assert json.loads((tmp_path / "refiner" / "evaluation.json").read_text()) == vars(metrics)
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
    convert(Human36mSkeletons(tmp_path / "data_3d_h36m.npz"), ConversionSettings(tmp_path / "skeletons"))
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


def test_command_line(tmp_path, capsys):
    (tmp_path / "r.yaml").write_text("{epochs: 1, synthetic: 20, config: {hidden_size: 16}}")
    main(["--config", str(tmp_path / "r.yaml"), f"output={tmp_path / 'out'}"])
    assert "replaced_midpoint" in capsys.readouterr().out
    assert math.isfinite(json.loads((tmp_path / "out" / "evaluation.json").read_text())["replaced_refined"])
