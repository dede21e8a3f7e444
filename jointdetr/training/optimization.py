"""How a model changes with a step: parameter groups, the learning rate on the way, and averaged weights."""

import math
import time
from collections import defaultdict
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast
from torch import nn
from torch.optim.swa_utils import AveragedModel

from .recipe import OptimizerRecipe, ScheduleRecipe


def parameter_groups(model: nn.Module, settings: OptimizerRecipe) -> list[dict[str, Any]]:
    """Sort trainable parameters by learning rate and weight decay.

    Norms, biases, embeddings and everything else of fewer than two dimensions have no weight decay.
    """
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    multipliers = {"backbone": settings.backbone_multiplier, "sampling": settings.sampling_multiplier, "rest": 1.0}
    groups: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        rate = settings.learning_rate * multipliers[kind_of_parameter(name)]
        decays = parameter.ndim >= 2 and id(parameter) not in embeddings and "embed" not in name.rsplit(".", 1)[-1]
        groups[rate, settings.weight_decay if decays else 0.0].append(parameter)
    return [{"params": params, "lr": rate, "weight_decay": decay} for (rate, decay), params in groups.items()]


def kind_of_parameter(name: str) -> str:
    """Say which learning rate a parameter has: that of the `backbone`, of `sampling`, or of the `rest`."""
    if "backbone" in name.split("."):
        return "backbone"
    return "sampling" if any(part in name for part in ("reference_point", "sampling_offsets")) else "rest"


def averaged_model(model: nn.Module, decay: float) -> AveragedModel | None:
    """Begin a moving average of weights and batch-norm statistics; None for a decay of 0.

    The decay grows with the steps, `min(decay, (2 + steps) / (11 + steps))`, so that the first ones are forgotten.
    """
    if decay <= 0.0:
        return None

    @torch.no_grad()
    def average(averages: list[torch.Tensor], current: list[torch.Tensor], steps: torch.Tensor) -> None:
        if averages[0].is_floating_point():
            passed = int(steps)
            torch._foreach_lerp_(averages, current, 1.0 - min(decay, (2 + passed) / (11 + passed)))
        else:  # counters
            torch._foreach_copy_(averages, current)

    return AveragedModel(model, multi_avg_fn=average, use_buffers=True)


class BudgetedSchedule(torch.optim.lr_scheduler.LRScheduler):
    """Warm-up and decay over a number of steps or a wall-clock time, whichever is nearer to its end.

    The time spent so far is part of the state, so that a resumed run does not start its budget anew.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, settings: ScheduleRecipe, total_steps: int):
        self.settings, self.total_steps = settings, total_steps
        self._started = time.monotonic()
        self.progress = 0.0  # fraction of the run that is over, in [0, 1]
        super().__init__(optimizer)

    @property
    def elapsed_seconds(self) -> float:
        """Wall-clock time since the start, that of earlier runs included."""
        return time.monotonic() - self._started

    def get_lr(self) -> list[float]:
        """Rates of the parameter groups for the next step."""
        self.progress, settings = self._measure_progress(), self.settings
        if settings.shape == "step":
            decay = settings.step_factor ** sum(self.progress >= fraction for fraction in settings.step_fractions)
        else:
            cosine = 0.5 * (1.0 + math.cos(math.pi * self.progress))
            decay = settings.final_fraction + (1.0 - settings.final_fraction) * cosine
        factor = min(1.0, (self.last_epoch + 1) / max(settings.warmup_steps, 1)) * decay
        return [base * factor for base in self.base_lrs]

    def _measure_progress(self) -> float:
        """By the main process's clock, so that all processes agree."""
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
        self._started = time.monotonic() - state.pop("elapsed_seconds")
        self.__dict__.update(state)
        self.progress = self._measure_progress()  # the run may be over


def main_process_seconds(seconds: float) -> float:
    """Give every process the main one's time."""
    tensor = torch.tensor(seconds, dtype=torch.float32)  # not float64, which MPS devices lack
    return broadcast(tensor.to(PartialState().device)).item()
