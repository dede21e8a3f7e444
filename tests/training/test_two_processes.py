"""Training in two processes: as a user would launch it, and with the gradient of one process."""

import json

import numpy as np
import pytest
import torch
from accelerate import PartialState
from pose_examples import STILL, make_row, make_rows, train_in_two_processes
from processes import run_forked
from safetensors.torch import load_file, save_file
from torch.nn.parallel import DistributedDataParallel

from jointdetr import JointDetrForPoseEstimation, JointDetrImageProcessorPil
from jointdetr.data.examples import PoseDataset, collate_poses
from jointdetr.evaluation.evaluate import evaluate_model
from jointdetr.skeleton_jointdetr import HUMAN36M
from jointdetr.training.augmentation import AugmentedExamples
from jointdetr.training.model import build_model
from jointdetr.training.recipe import Recipe, build


def test_two_processes_train_evaluate_and_save_one_model(recipe_values, pose_rows, tmp_path):
    values = {**recipe_values, "checkpoint_minutes": 0.0, "average_decay": 0.9}
    values["schedule"] = {"max_steps": 3, "max_minutes": 30.0, "warmup_steps": 1}
    printed = train_in_two_processes(values, tmp_path)
    steps = [line for line in printed.splitlines() if line.startswith("step 3 ") and "train_runtime" in line]
    assert len(steps) == 1  # eight pictures, two in each of two processes: one log, two steps an epoch
    assert "epoch 1.5" in steps[0]

    output = tmp_path / "run"
    for checkpoint in output.glob("checkpoint-*"):  # each written by both processes at the same step
        assert {path.name for path in checkpoint.glob("random_states_*")} == {
            "random_states_0.pkl",
            "random_states_1.pkl",
        }
    assert len(list(output.glob("checkpoint-*"))) == 2

    model = JointDetrForPoseEstimation.from_pretrained(output / "final")
    processor = JointDetrImageProcessorPil.from_pretrained(output / "final")
    alone = evaluate_model(model, processor, pose_rows.select(range(5)))
    together = json.loads((output / "evaluation.json").read_text())
    assert together["eval_mpjpe"] == pytest.approx(alone.metrics["mpjpe"], rel=1e-4)
    assert together["eval_point_error"] == pytest.approx(alone.metrics["point_error"], rel=1e-4)


@pytest.fixture
def unlike_pictures() -> list[dict]:
    """Examples with all labels, few in 3D, points alone, no label at all, and some points."""
    rows = [make_row(seed) for seed in range(6)]
    rows[1]["joints_3d_valid"] = np.arange(17) < 4
    rows[2] |= {"joints_3d": np.full((17, 3), np.nan), "joints_3d_valid": np.zeros(17, bool)}
    rows[3] |= {"joints_3d_valid": np.zeros(17, bool), "joints_2d_valid": np.zeros(17, bool)}
    rows[4]["joints_2d_valid"] = np.arange(17) % 3 == 0
    rows[5] |= {"joints_3d_valid": np.zeros(17, bool), "joints_2d_valid": np.arange(17) == 8}
    processor = JointDetrImageProcessorPil(size={"height": 64, "width": 64})
    dataset = PoseDataset(make_rows(rows), AugmentedExamples(processor, HUMAN36M, STILL))
    return [dataset[index] for index in range(6)]


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4, 5), (0, 4, 1, 2, 3, 5)])
def test_two_processes_with_half_the_batch_have_the_gradient_of_one(recipe_values, unlike_pictures, tmp_path, order):
    """In the second order, the second process has no joint with a label in 3D."""
    config = recipe_values["model"]["config"] | {"freeze_batch_norm": True, "dropout": 0.0, "predict_confidence": True}
    model = build_model(build(Recipe, {"model": {"config": config}}), HUMAN36M).train()
    whole = collate_poses([unlike_pictures[index] for index in order])
    halves = [collate_poses([unlike_pictures[index] for index in part]) for part in (order[:3], order[3:])]

    def work() -> None:
        process = PartialState(cpu=True).process_index
        parallel = DistributedDataParallel(model)
        loss = parallel(**halves[process]).loss
        loss.backward()
        gradients = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.requires_grad}
        save_file(gradients | {"loss": loss.detach()}, tmp_path / f"gradients-{process}.safetensors")

    log = tmp_path / "log.txt"
    assert run_forked(work, log, processes=2) == [0, 0], log.read_text()
    first, second = (load_file(tmp_path / f"gradients-{process}.safetensors") for process in range(2))
    loss = model(**whole).loss
    loss.backward()
    assert (first.pop("loss") + second.pop("loss")).item() / 2 == pytest.approx(loss.item(), rel=1e-5)
    norm = torch.nn.utils.get_total_norm(parameter.grad for parameter in model.parameters() if parameter.requires_grad)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert torch.equal(first[name], second[name])
            difference = (first[name] - parameter.grad).norm()
            assert difference <= 1e-5 * parameter.grad.norm() + 1e-7 * norm, name
