"""The moving average of the weights, which is what is evaluated and saved in the end."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import TrainerControl, TrainerState

from .checkpoints import CheckpointPart

AVERAGE_FILE = "averaged_weights.safetensors"


class WeightAverage(CheckpointPart):
    """Exponential moving average of weights and batch-norm statistics, kept in the checkpoints.

    The decay grows with the steps, `min(decay, (1 + steps) / (10 + steps))`, so that the first steps are forgotten.

    Args:
        decay: its final value.
        resume_from: checkpoint folder to read the average from.
    """

    def __init__(self, decay: float, resume_from: Path | None = None):
        self.decay = decay
        self.resume_from = resume_from
        self.weights: dict[str, torch.Tensor] = {}

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Start from the model's weights, or from the checkpoint's average."""
        self.weights = {name: tensor.clone() for name, tensor in floating_state(kwargs["model"]).items()}
        if self.resume_from is not None:
            saved = load_file(self.resume_from / AVERAGE_FILE)
            for name, tensor in self.weights.items():
                tensor.copy_(saved[name])

    @torch.no_grad()
    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Move the average towards the weights."""
        decay = min(self.decay, (1 + state.global_step) / (10 + state.global_step))
        current = floating_state(kwargs["model"])
        torch._foreach_lerp_(list(self.weights.values()), [current[name] for name in self.weights], 1.0 - decay)

    def write_part(self, folder: Path) -> None:
        """Write the average of the main process, whose batch-norm statistics are the model's."""
        if PartialState().is_main_process:
            save_file({name: tensor.contiguous() for name, tensor in self.weights.items()}, folder / AVERAGE_FILE)

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Let the model have the averaged weights for a while."""
        kept = {name: tensor.clone() for name, tensor in floating_state(model).items()}
        self.copy_to(model)
        try:
            yield
        finally:
            _assign(model, kept)

    def copy_to(self, model: nn.Module) -> None:
        """Give the model the averaged weights for good; before training there are none, and nothing happens."""
        _assign(model, self.weights)


def floating_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """Weights and statistics that can be averaged, by name."""
    return {name: tensor for name, tensor in model.state_dict().items() if tensor.is_floating_point()}


@torch.no_grad()
def _assign(model: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Copy values into the model, in place."""
    current = floating_state(model)
    for name, tensor in weights.items():
        current[name].copy_(tensor)
