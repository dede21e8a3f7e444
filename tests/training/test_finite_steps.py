"""A loss that is no number stops the run, and keeps the data that it came from."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, load_model

from jointdetr.data.examples import PoseExamples
from jointdetr.skeleton_jointdetr import HUMAN36M
from jointdetr.training.checkpoints import find_checkpoints
from jointdetr.training.model import build_model
from jointdetr.training.recipe import Recipe, build
from jointdetr.training.train import TrainingRun, train


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
    batches = [({"pixel_values": torch.tensor([loss])}, torch.tensor(loss)) for loss in losses]
    run = SimpleNamespace(step=2, output=tmp_path, accelerator=SimpleNamespace(process_index=2))
    run._norm, run._batches = 0.5, batches[:1]
    TrainingRun.require_finite(run)
    run._norm, run._batches = norm, batches
    with pytest.raises(FloatingPointError, match=named):
        TrainingRun.require_finite(run)
    (path,) = tmp_path.iterdir()
    assert path.name == "diverged-step-3-process-2.pt"
    kept = [batch["pixel_values"].item() for batch in torch.load(path)]
    assert kept == pytest.approx(losses, nan_ok=True)


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

    checkpoint = find_checkpoints(output)[-1]
    for name in ("model.safetensors", "model_1.safetensors"):  # the second is the average
        assert all(tensor.isfinite().all() for tensor in load_file(checkpoint / name).values())
    (path,) = output.glob("diverged-*")
    assert path.name == f"diverged-step-{int(checkpoint.name.split('-')[1]) + 1}-process-0.pt"
    (batch,) = torch.load(path)
    assert batch["pixel_values"][:, 0, 5, 5].isnan().sum() == 1 and len(batch["labels"]) == 2
    model = build_model(build(Recipe, values), HUMAN36M)
    load_model(model, checkpoint / "model.safetensors")
    assert not model.train()(**batch).loss.isfinite()
