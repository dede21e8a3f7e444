"""What pose training adds to `Trainer`: averaged weights, parameter groups, a readable log.

Shape vocabulary: batch, joints, as in `dataset.py`.
"""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from .recipe import OptimizerRecipe, ScheduleRecipe
from .schedule import BudgetedSchedule, main_process_seconds
from .stream import PoseStream, StreamLoader

AVERAGE_FILE = "averaged_weights.safetensors"
_SAMPLING_PARAMETERS = ("reference_point", "sampling_offsets")


class WeightAverage(TrainerCallback):
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
        self.weights = {name: tensor.clone() for name, tensor in _floating_state(kwargs["model"]).items()}
        if self.resume_from is not None:
            saved = load_file(self.resume_from / AVERAGE_FILE)
            for name, tensor in self.weights.items():
                tensor.copy_(saved[name])

    @torch.no_grad()
    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Move the average towards the weights."""
        decay = min(self.decay, (1 + state.global_step) / (10 + state.global_step))
        current = _floating_state(kwargs["model"])
        torch._foreach_lerp_(list(self.weights.values()), [current[name] for name in self.weights], 1.0 - decay)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Write the average into the checkpoint that was just made."""
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            save_file({name: tensor.contiguous() for name, tensor in self.weights.items()}, folder / AVERAGE_FILE)

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Let the model have the averaged weights for a while."""
        kept = {name: tensor.clone() for name, tensor in _floating_state(model).items()}
        self.copy_to(model)
        try:
            yield
        finally:
            _assign(model, kept)

    def copy_to(self, model: nn.Module) -> None:
        """Give the model the averaged weights for good; before training there are none, and nothing happens."""
        _assign(model, self.weights)


class AugmentationEpoch(TrainerCallback):
    """Tells the training data the epoch, so that every epoch has its own views.

    `Trainer` does so by itself in a plain run, but neither with several processes nor after a resume in mid-epoch:
    there accelerate tells the sampler alone. Workers start with the epoch, after this.
    """

    def on_epoch_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Pass on the number of the epoch that begins or, after a resume, goes on."""
        kwargs["train_dataloader"].dataset.set_epoch(int(state.epoch + 1e-6))


class RunControl(TrainerCallback):
    """Stops a run when its time is over, and asks for checkpoints by the minute and evaluations by the epoch.

    Args:
        checkpoint_minutes: minutes between checkpoints.
        every_epochs: epochs between evaluations; 0 for none.
        every_steps: optimiser steps between evaluations; 0 for none.
    """

    def __init__(self, checkpoint_minutes: float, every_epochs: int, every_steps: int = 0):
        self.checkpoint_minutes = checkpoint_minutes
        self.every_epochs = every_epochs
        self.every_steps = every_steps
        self._last_checkpoint = time.monotonic()

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Start the checkpoints' clock."""
        self._last_checkpoint = time.monotonic()

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Ask for a checkpoint when it is due and at the end, and for the end when there is no time left.

        All processes have to agree, as each writes its part of a checkpoint and waits for the others.
        """
        control.should_training_stop |= kwargs["lr_scheduler"].progress >= 1.0
        seconds = main_process_seconds(time.monotonic() - self._last_checkpoint)
        due = seconds > 60.0 * self.checkpoint_minutes
        if due or control.should_training_stop:
            control.should_save = True
            self._last_checkpoint = time.monotonic()
        if self.every_steps and not control.should_training_stop and state.global_step < state.max_steps:
            control.should_evaluate |= state.global_step % self.every_steps == 0

    def on_epoch_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Ask for an evaluation every so many epochs, but not at the end, where there is one anyway."""
        if self.every_epochs and not control.should_training_stop and state.epoch < state.num_train_epochs:
            control.should_evaluate = round(state.epoch) % self.every_epochs == 0


class ConsoleLog(TrainerCallback):
    """Prints each entry of the log on one line, and each evaluation as a small table beside its baselines."""

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Print the entry, rounded; loss terms of the earlier layers stay in the log history."""
        if not state.is_world_process_zero:
            return
        entries = {name: value for name, value in kwargs["logs"].items() if isinstance(value, (int, float))}
        text = "  ".join(f"{name} {value:.4g}" for name, value in entries.items() if "/" not in name)
        print(f"step {state.global_step}  {text}", flush=True)
        if "eval_mpjpe" in entries:
            print("\n".join(evaluation_lines(entries)), flush=True)


def evaluation_lines(entries: dict[str, float]) -> list[str]:
    """Lay out the entries of `PoseMetrics`: errors of the model and the baselines, error and recall by joint."""
    predictors = {"model": ""}
    predictors |= {name[5:-6]: name[5:-5] for name in entries if name.endswith("/mpjpe") and "joint/" not in name}
    lines = ["    predictor          MPJPE  PA-MPJPE  PCK@150    AUC"]
    for name, prefix in predictors.items():
        errors = [entries[f"eval_{prefix}{metric}"] for metric in ("mpjpe", "pa_mpjpe")]
        fractions = [100.0 * entries[f"eval_{prefix}{metric}"] for metric in ("pck_150", "auc")]
        lines.append(
            f"    {name:17} {errors[0]:6.1f}    {errors[1]:6.1f}    {fractions[0]:4.1f}%  {fractions[1]:4.1f}%"
        )
    joints = [name.split("/")[1] for name in entries if name.startswith("eval_joint/") and name.endswith("/recall")]
    cells = [
        f"{joint} {entries[f'eval_joint/{joint}/mpjpe']:.0f} ({100.0 * entries[f'eval_joint/{joint}/recall']:.0f}%)"
        for joint in joints
    ]
    return [*lines, "    mm (and detected) by joint: " + ", ".join(cells)]


class PoseTrainer(Trainer):
    """`Trainer` with parameter groups, a `BudgetedSchedule`, averaged weights, and loss terms in the log.

    Args:
        optimizer_settings: rates and decay.
        schedule: duration and shape of the schedule.
        average: the averaged weights, evaluated instead of the last ones; it must be among the callbacks too.
        channels_last: lay the pictures out with the channels last.
        kwargs: arguments of `Trainer`.
    """

    def __init__(
        self,
        *,
        optimizer_settings: OptimizerRecipe,
        schedule: ScheduleRecipe,
        average: WeightAverage | None = None,
        channels_last: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.optimizer_settings = optimizer_settings
        self.schedule = schedule
        self.average = average
        self.channels_last = channels_last
        self._terms: dict[str, torch.Tensor] = defaultdict(lambda: torch.zeros((), device=self.args.device))
        self._batches = 0
        self._images = 0
        self._last_log = time.monotonic()

    def get_train_dataloader(self) -> DataLoader:
        """Load a stream, which is shared out to the processes already, by itself, and anything else as `Trainer`."""
        if not isinstance(self.train_dataset, PoseStream):
            return super().get_train_dataloader()
        return StreamLoader(
            self.train_dataset,
            batch_size=self.args.train_batch_size,
            num_workers=self.args.dataloader_num_workers,
            prefetch_factor=self.args.dataloader_prefetch_factor,
            pin_memory=self.args.dataloader_pin_memory,
        )

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """AdamW over `parameter_groups`."""
        if self.optimizer is None:
            groups = parameter_groups(self.model if model is None else model, self.optimizer_settings)
            self.optimizer = torch.optim.AdamW(groups, betas=(0.9, self.optimizer_settings.beta2))
        return self.optimizer

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """Warm-up and decay by steps or by time."""
        if self.lr_scheduler is None:
            self.lr_scheduler = BudgetedSchedule(
                self.optimizer if optimizer is None else optimizer, self.schedule, num_training_steps
            )
        return self.lr_scheduler

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, **kwargs: Any
    ) -> torch.Tensor | tuple[torch.Tensor, Any]:
        """Loss of a batch; its terms are kept for the log."""
        if self.channels_last:
            pixels = inputs["pixel_values"].contiguous(memory_format=torch.channels_last)
            inputs = {**inputs, "pixel_values": pixels}
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, **kwargs)
        if model.training:
            for name, value in outputs.loss_dict.items():
                self._terms[name] += value.detach()
            self._batches += 1
            self._images += len(inputs["pixel_values"])
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add mean loss terms of the last layer and images a second since the last entry to a training entry."""
        if "loss" in logs and self._batches:
            seconds = time.monotonic() - self._last_log
            logs["images_per_second"] = self._images * self.args.world_size / max(seconds, 1e-6)
            for name, value in self._terms.items():
                separator = "/" if name[-1].isdigit() else " "  # earlier layers stay out of the console
                logs[f"term{separator}{name}"] = value.item() / self._batches
            self._terms.clear()
            self._batches = self._images = 0
            self._last_log = time.monotonic()
        super().log(logs, start_time)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate the averaged weights, if there are any."""
        if self.average is None:
            return super().evaluate(*args, **kwargs)
        with self.average.applied(self.model):
            return super().evaluate(*args, **kwargs)


def parameter_groups(model: nn.Module, settings: OptimizerRecipe) -> list[dict[str, Any]]:
    """Sort trainable parameters by learning rate and weight decay.

    Norms, biases, embeddings and everything else of fewer than two dimensions have no weight decay.
    """
    undecayed = {
        f"{prefix}.{name}" if prefix else name
        for prefix, module in model.named_modules()
        if isinstance(module, nn.Embedding)
        for name, _ in module.named_parameters(recurse=False)
    }
    groups: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        rate = settings.learning_rate
        if "backbone" in name.split("."):
            rate *= settings.backbone_multiplier
        elif any(part in name for part in _SAMPLING_PARAMETERS):
            rate *= settings.sampling_multiplier
        decays = parameter.ndim >= 2 and name not in undecayed and "embed" not in name.rsplit(".", 1)[-1]
        groups[rate, settings.weight_decay if decays else 0.0].append(parameter)
    return [{"params": params, "lr": rate, "weight_decay": decay} for (rate, decay), params in groups.items()]


def _floating_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """Weights and statistics that can be averaged, by name."""
    return {name: tensor for name, tensor in model.state_dict().items() if tensor.is_floating_point()}


@torch.no_grad()
def _assign(model: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Copy values into the model, in place."""
    current = _floating_state(model)
    for name, tensor in weights.items():
        current[name].copy_(tensor)
