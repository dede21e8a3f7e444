"""Training in two processes, as a user would launch it."""

import json

import pytest
from pose_examples import train_in_two_processes

from jointdetr import JointDetrForPoseEstimation, JointDetrImageProcessorPil
from jointdetr.training.evaluate import evaluate_model


def test_two_processes_train_evaluate_and_save_one_model(recipe_values, pose_rows, tmp_path):
    values = {**recipe_values, "checkpoint_minutes": 0.0, "average_decay": 0.9}
    values["schedule"] = {"max_steps": 3, "max_minutes": 30.0, "warmup_steps": 1}
    printed = train_in_two_processes(values, tmp_path)
    steps = [line for line in printed.splitlines() if line.startswith("step 3 ") and "train_runtime" in line]
    assert len(steps) == 1  # eight pictures, two in each of two processes: one log, two steps an epoch
    assert "epoch 1.5" in steps[0]

    output = tmp_path / "run"
    for checkpoint in output.glob("checkpoint-*"):  # each written by both processes at the same step
        assert {path.name for path in checkpoint.glob("rng_state_*")} == {"rng_state_0.pth", "rng_state_1.pth"}
    assert len(list(output.glob("checkpoint-*"))) == 2

    model = JointDetrForPoseEstimation.from_pretrained(output / "final")
    processor = JointDetrImageProcessorPil.from_pretrained(output / "final")
    alone = evaluate_model(model, processor, pose_rows.select(range(5)))
    together = json.loads((output / "evaluation.json").read_text())
    assert together["eval_mpjpe"] == pytest.approx(alone.metrics["mpjpe"], rel=1e-4)
    assert together["eval_point_error"] == pytest.approx(alone.metrics["point_error"], rel=1e-4)
