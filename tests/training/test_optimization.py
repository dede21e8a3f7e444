"""Averaged weights, parameter groups, and the learning rate by steps and by the clock."""

import math

import pytest
import torch
from torch import nn

from jointdetr.training import optimization
from jointdetr.training.optimization import BudgetedSchedule, averaged_model, parameter_groups
from jointdetr.training.recipe import OptimizerRecipe, ScheduleRecipe


def test_average_by_hand():
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    average = averaged_model(model, decay=0.5)
    expected = None
    for step in range(1, 13):
        model[0].weight.data.fill_(step**2)
        model[1].running_mean.fill_(-step)
        model[1].num_batches_tracked.fill_(step)
        average.update_parameters(model)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = step**2 if expected is None else decay * expected + (1 - decay) * step**2
    assert average.module[0].weight.item() == pytest.approx(expected)
    assert -12 < average.module[1].running_mean.item() < -9
    assert average.module[1].num_batches_tracked.item() == 12
    assert model[0].weight.item() == 144.0
    assert averaged_model(model, decay=0.0) is None


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


class Clock:
    seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(optimization, "time", clock)
    return clock


def make_schedule(total_steps: int, **settings):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    return optimizer, BudgetedSchedule(optimizer, ScheduleRecipe(**settings), total_steps)


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


def test_schedule_falls_in_steps_after_its_warm_up():
    fractions = [0.5, 0.75]
    optimizer, schedule = make_schedule(8, warmup_steps=2, shape="step", step_fractions=fractions, step_factor=0.1)
    rates = []
    for _ in range(9):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([1.0, 2.0, 2.0, 2.0, 0.2, 0.2, 0.02, 0.02, 0.02])


def test_schedule_follows_the_clock_and_keeps_its_budget_over_a_resume(clock):
    optimizer, schedule = make_schedule(1000, warmup_steps=0, max_minutes=2, final_fraction=0.0)
    clock.seconds += 60
    optimizer.step()
    schedule.step()
    assert schedule.progress == 0.5
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1.0)
    state = schedule.state_dict()

    clock.seconds = 5.0  # another machine's
    optimizer, resumed = make_schedule(1000, warmup_steps=0, max_minutes=2, final_fraction=0.0)
    resumed.load_state_dict(state)
    assert resumed.elapsed_seconds == 60.0 and resumed.last_epoch == 1
    clock.seconds += 90
    optimizer.step()
    resumed.step()
    assert resumed.progress == 1.0
    assert optimizer.param_groups[0]["lr"] == 0.0


def test_the_main_process_decides_by_its_clock_in_single_precision(monkeypatch):
    sent = []

    def broadcast(seconds: torch.Tensor) -> torch.Tensor:
        sent.append(seconds)
        return torch.full_like(seconds, 90.0)  # what the main process has

    monkeypatch.setattr("jointdetr.training.optimization.broadcast", broadcast)
    optimizer, schedule = make_schedule(1000, max_minutes=3)
    assert schedule.progress == 0.5
    resumed = BudgetedSchedule(optimizer, ScheduleRecipe(max_minutes=1), 1000)
    resumed.load_state_dict(schedule.state_dict())
    assert resumed.progress == 1.0  # the run that was saved is over
    assert [seconds.dtype for seconds in sent] == [torch.float32] * 3
