"""Schedule, averaged weights and parameter groups."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from jointdetr.training.recipe import OptimizerRecipe, ScheduleRecipe
from jointdetr.training.trainer import AVERAGE_FILE, BudgetedCosine, RunControl, WeightAverage, parameter_groups


class Clock:
    seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def make_schedule(total_steps: int, clock=None, **settings):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    return optimizer, BudgetedCosine(optimizer, ScheduleRecipe(**settings), total_steps, clock or Clock())


def test_schedule_warms_up_and_falls_along_a_half_cosine():
    optimizer, schedule = make_schedule(8, warmup_steps=2, final_fraction=0.1)
    rates = []
    for _ in range(9):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    expected = [0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * step / 8)) for step in range(9)]
    assert rates[0] == pytest.approx(2.0 * 0.5 * expected[0])
    assert rates[1:] == pytest.approx([2.0 * factor for factor in expected[1:]])
    assert rates[8] == pytest.approx(0.2)


def test_schedule_follows_the_clock_and_keeps_its_budget_over_a_resume():
    clock = Clock()
    optimizer, schedule = make_schedule(1000, clock, warmup_steps=0, max_minutes=2, final_fraction=0.0)
    clock.seconds += 60
    optimizer.step()
    schedule.step()
    assert schedule.progress == 0.5
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1.0)
    state = schedule.state_dict()

    later = Clock()
    later.seconds = 5.0  # another machine's clock
    optimizer, resumed = make_schedule(1000, later, warmup_steps=0, max_minutes=2, final_fraction=0.0)
    resumed.load_state_dict(state)
    assert resumed.elapsed_seconds == 60.0 and resumed.last_epoch == 1
    later.seconds += 90
    optimizer.step()
    resumed.step()
    assert resumed.progress == 1.0
    assert optimizer.param_groups[0]["lr"] == 0.0


def test_a_run_ends_when_its_time_is_over():
    clock = Clock()
    _, schedule = make_schedule(1000, clock, max_minutes=1)
    callback = RunControl(checkpoint_minutes=60, every_epochs=1)
    control = SimpleNamespace(should_training_stop=False, should_save=False, should_evaluate=False)
    callback.on_step_end(None, None, control, lr_scheduler=schedule)
    assert not control.should_training_stop and not control.should_save
    clock.seconds += 61
    schedule.optimizer.step()
    schedule.step()
    callback.on_step_end(None, None, control, lr_scheduler=schedule)
    assert control.should_training_stop and control.should_save


def test_the_main_process_decides_by_its_clock_in_single_precision(monkeypatch):
    sent = []

    def broadcast(seconds: torch.Tensor) -> torch.Tensor:
        sent.append(seconds)
        return torch.full_like(seconds, 90.0)  # what the main process has

    monkeypatch.setattr("jointdetr.training.trainer.broadcast", broadcast)
    _, schedule = make_schedule(1000, max_minutes=3)
    assert schedule.progress == 0.5
    asked = []
    for minutes in (1.0, 2.0):
        control = SimpleNamespace(should_training_stop=False, should_save=False)
        RunControl(checkpoint_minutes=minutes, every_epochs=0).on_step_end(None, None, control, lr_scheduler=schedule)
        asked.append(control.should_save)
    assert asked == [True, False]
    assert [seconds.dtype for seconds in sent] == [torch.float32] * 3


def test_evaluations_come_every_so_many_epochs_but_not_at_the_end():
    callback = RunControl(checkpoint_minutes=60, every_epochs=2)
    asked = []
    for epoch in range(1, 7):
        control = SimpleNamespace(should_training_stop=False, should_evaluate=False)
        callback.on_epoch_end(None, SimpleNamespace(epoch=float(epoch), num_train_epochs=6), control)
        asked.append(control.should_evaluate)
    assert asked == [False, True, False, True, False, False]


def test_average_by_hand_and_back(tmp_path):
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    model[0].weight.data.fill_(1.0)
    average = WeightAverage(decay=0.5)
    state = SimpleNamespace(global_step=0, is_world_process_zero=True)
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

    (tmp_path / "checkpoint-100").mkdir()
    average.on_save(SimpleNamespace(output_dir=tmp_path), state, None)
    assert (tmp_path / "checkpoint-100" / AVERAGE_FILE).is_file()
    resumed = WeightAverage(decay=0.5, resume_from=tmp_path / "checkpoint-100")
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
