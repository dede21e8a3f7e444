"""A loss that is no number stops the run, and keeps the data that it came from."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from jointdetr import JointDetrForPoseEstimation
from jointdetr.data.examples import PoseExamples
from jointdetr.training.averaging import AVERAGE_FILE
from jointdetr.training.checkpoints import last_whole_checkpoint
from jointdetr.training.divergence import BATCH_FILE, DESCRIPTION_FILE, StepGuard, load_batches, save_batches
from jointdetr.training.recipe import Recipe, build
from jointdetr.training.train import train


def test_batches_are_read_as_they_were_written(tmp_path):
    labels = [{"visible": torch.tensor([True, False]), "joints": torch.tensor([torch.nan, 2.0])} for _ in range(11)]
    batches = [{"pixel_values": torch.rand(11, 3, 4, 4), "labels": labels}, {"pixel_values": torch.rand(1, 3, 4, 4)}]
    save_batches(batches, tmp_path / "batches.safetensors")
    torch.testing.assert_close(load_batches(tmp_path / "batches.safetensors"), batches, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    ("losses", "norm", "named"),
    [
        ([1.0, np.nan], 1.0, "step 3 has a loss of 1.0, nan in process 2 and a gradient of norm 1.0"),
        ([1.0, -np.inf], 1.0, "step 3 has a loss of 1.0, -inf"),
        ([1.0, 2.0], np.inf, "a gradient of norm inf"),
        ([1.0, 2.0], np.nan, "a gradient of norm nan"),
    ],
)
def test_what_is_not_finite_is_named(tmp_path, losses, norm, named):
    guard = StepGuard(tmp_path, process=2)
    guard.add({"pixel_values": torch.ones(1)}, torch.tensor(5.0))
    guard.check(2, 0.5)  # a good step leaves nothing behind
    for loss in losses:
        guard.add({"pixel_values": torch.tensor([loss])}, torch.tensor(loss))
    with pytest.raises(FloatingPointError, match=named):
        guard.check(3, norm)
    (folder,) = tmp_path.iterdir()
    assert folder.name == "diverged-step-3-process-2" and len(load_batches(folder / BATCH_FILE)) == 2
    assert json.loads((folder / DESCRIPTION_FILE).read_text())["norm"] == str(norm)


def test_a_run_stops_before_the_step_and_keeps_its_data(recipe_values, monkeypatch, tmp_path):
    example = PoseExamples.example

    def spoiled(self: PoseExamples, row: dict, rng: np.random.Generator) -> dict:
        made = example(self, row, rng)
        if row["frame"] == 7:
            made["pixel_values"][0, 5, 5] = torch.nan
        return made

    monkeypatch.setattr(PoseExamples, "example", spoiled)
    values = {**recipe_values, "checkpoint_minutes": 0.0, "log_steps": 1, "evaluation": {}, "seed": 1}
    output = tmp_path / "run"
    with pytest.raises(FloatingPointError, match="a loss of nan .* The step was not taken"):
        train(build(Recipe, values))
    assert not (output / "final").exists()

    checkpoint = last_whole_checkpoint(output)
    for name in ("model.safetensors", AVERAGE_FILE):
        assert all(tensor.isfinite().all() for tensor in load_file(checkpoint / name).values())
    (folder,) = output.glob("diverged-*")
    assert folder.name == f"diverged-step-{int(checkpoint.name.split('-')[1]) + 1}-process-0"
    (batch,) = load_batches(folder / BATCH_FILE)
    assert batch["pixel_values"][:, 0, 5, 5].isnan().sum() == 1 and len(batch["labels"]) == 2
    model = JointDetrForPoseEstimation.from_pretrained(checkpoint)
    assert not model.train()(**batch).loss.isfinite()
