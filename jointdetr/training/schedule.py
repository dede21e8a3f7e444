"""The learning rate on the way: linear warm-up, then a half cosine or steps, by optimiser steps or by the clock."""

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast

from .recipe import ScheduleRecipe


class BudgetedSchedule(torch.optim.lr_scheduler.LRScheduler):
    """Warm-up and decay over a number of steps or a wall-clock time, whichever is nearer to its end.

    The time spent so far is part of the state, so that a resumed run does not start its budget anew.

    Args:
        optimizer: the optimiser.
        settings: the schedule.
        total_steps: optimiser steps of the whole run, if time does not end it.
        clock: gives seconds.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        settings: ScheduleRecipe,
        total_steps: int,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.settings = settings
        self.total_steps = total_steps
        self._clock = clock
        self._started = clock()
        self.progress = 0.0  # fraction of the run that is over, in [0, 1]
        super().__init__(optimizer)

    @property
    def elapsed_seconds(self) -> float:
        """Wall-clock time since the start, that of earlier runs included."""
        return self._clock() - self._started

    def get_lr(self) -> list[float]:
        """Rates of the parameter groups for the next step."""
        self.progress = self._measure_progress()
        warmup = min(1.0, (self.last_epoch + 1) / max(self.settings.warmup_steps, 1))
        factor = warmup * decay(self.settings, self.progress)
        return [base * factor for base in self.base_lrs]

    def _measure_progress(self) -> float:
        """Fraction of the run that is over, in [0, 1]; by the main process's clock, so that all processes agree."""
        progress = self.last_epoch / max(self.total_steps, 1)
        if self.settings.max_minutes is not None:
            seconds = main_process_seconds(self.elapsed_seconds)
            progress = max(progress, seconds / (60.0 * self.settings.max_minutes))
        return min(progress, 1.0)

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers: steps, rates, and seconds spent."""
        names = ("last_epoch", "base_lrs", "_last_lr", "_step_count")
        return {name: self.__dict__[name] for name in names} | {"elapsed_seconds": self.elapsed_seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state."""
        state = dict(state_dict)
        self._started = self._clock() - state.pop("elapsed_seconds")
        self.__dict__.update(state)
        self.progress = self._measure_progress()  # the run may be over


def decay(settings: ScheduleRecipe, progress: float) -> float:
    """Fraction of the peak rate when a fraction `progress` of the run is over, warm-up left out."""
    if settings.shape == "step":
        passed = sum(progress >= fraction for fraction in settings.step_fractions)
        return settings.step_factor**passed
    final = settings.final_fraction
    return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * progress))


def main_process_seconds(seconds: float) -> float:
    """Give every process the main one's time."""
    tensor = torch.tensor(seconds, dtype=torch.float32)  # not float64, which MPS devices lack
    return broadcast(tensor.to(PartialState().device)).item()
