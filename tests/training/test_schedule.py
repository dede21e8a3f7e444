"""The learning rate by steps and by the clock."""

import math

import pytest
import torch
from torch import nn

from jointdetr.training.recipe import ScheduleRecipe
from jointdetr.training.schedule import BudgetedSchedule


class Clock:
    seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def make_schedule(total_steps: int, clock=None, **settings):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    return optimizer, BudgetedSchedule(optimizer, ScheduleRecipe(**settings), total_steps, clock or Clock())


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


def test_the_main_process_decides_by_its_clock_in_single_precision(monkeypatch):
    sent = []

    def broadcast(seconds: torch.Tensor) -> torch.Tensor:
        sent.append(seconds)
        return torch.full_like(seconds, 90.0)  # what the main process has

    monkeypatch.setattr("jointdetr.training.schedule.broadcast", broadcast)
    optimizer, schedule = make_schedule(1000, max_minutes=3)
    assert schedule.progress == 0.5
    resumed = BudgetedSchedule(optimizer, ScheduleRecipe(max_minutes=1), 1000, Clock())
    resumed.load_state_dict(schedule.state_dict())
    assert resumed.progress == 1.0  # the run that was saved is over
    assert [seconds.dtype for seconds in sent] == [torch.float32] * 3
