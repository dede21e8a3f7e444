"""Averaged weights and parameter groups."""

from types import SimpleNamespace

import pytest
from torch import nn

from jointdetr.training.averaging import AVERAGE_FILE, WeightAverage
from jointdetr.training.recipe import OptimizerRecipe
from jointdetr.training.trainer import parameter_groups


def test_average_by_hand_and_back(tmp_path):
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    model[0].weight.data.fill_(1.0)
    average = WeightAverage(decay=0.5)
    state = SimpleNamespace(global_step=0)
    average.on_train_begin(None, state, None, model=model)
    for step, value in ((1, 3.0), (2, 5.0), (100, 7.0)):
        state.global_step = step
        model[0].weight.data.fill_(value)
        average.on_step_end(None, state, None, model=model)
    expected = 1.0
    for step, value in ((1, 3.0), (2, 5.0), (100, 7.0)):
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    assert average.weights["0.weight"].item() == pytest.approx(expected)
    assert set(average.weights) == {"0.weight", "1.weight", "1.bias", "1.running_mean", "1.running_var"}
    with average.applied(model):
        assert model[0].weight.item() == pytest.approx(expected)
    assert model[0].weight.item() == 7.0

    average.write_part(tmp_path)
    assert (tmp_path / AVERAGE_FILE).is_file()
    resumed = WeightAverage(decay=0.5, resume_from=tmp_path)
    resumed.on_train_begin(None, state, None, model=model)
    assert resumed.weights["0.weight"].item() == pytest.approx(expected)


def test_parameter_groups_by_rate_and_decay(tiny_model_folder):
    from jointdetr import JointDetrForPoseEstimation

    model = JointDetrForPoseEstimation.from_pretrained(tiny_model_folder)
    model.refiner.requires_grad_(False)
    settings = OptimizerRecipe(learning_rate=1.0, backbone_multiplier=0.5, sampling_multiplier=0.1, weight_decay=0.01)
    groups = parameter_groups(model, settings)
    found = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    names = {name: found.get(id(parameter)) for name, parameter in model.named_parameters()}
    assert all((value is None) == name.startswith("refiner.") for name, value in names.items())
    kinds = {"backbone": 0.5, "sampling_offsets": 0.1, "reference_points": 0.1, "self_attn": 1.0}
    for kind, rate in kinds.items():
        rates = {value[0] for name, value in names.items() if kind in name and value and "sampling" not in name}
        if kind == "sampling_offsets":
            rates = {value[0] for name, value in names.items() if kind in name}
        assert rates == {rate}, kind
    for name, value in names.items():
        if value and (name.endswith("bias") or "norm" in name):
            assert value[1] == 0.0, name
    assert names[next(name for name in names if "class" in name and name.endswith("weight"))][1] == 0.01
    assert {value for name, value in names.items() if "query" in name and "embed" in name and value} <= {(1.0, 0.0)}
