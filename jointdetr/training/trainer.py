"""What pose training adds to `Trainer`: parameter groups, averaged weights, measures and a readable log.

Shape vocabulary: batch, joints, as in `jointdetr/data/examples.py`.
"""

from collections import defaultdict
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import broadcast
from torch import nn
from torch.utils.data import DataLoader
from transformers import TrainerCallback, TrainerControl, TrainerState

from ..data.examples import stack_labels, unstack_labels
from .averaging import WeightAverage
from .checkpoints import CheckpointTrainer
from .divergence import StepGuard
from .recipe import OptimizerRecipe, ScheduleRecipe
from .schedule import BudgetedSchedule
from .stream import ExampleStream, StreamLoader
from .tracking import TrainingMeter

_SAMPLING_PARAMETERS = ("reference_point", "sampling_offsets")


class AugmentationEpoch(TrainerCallback):
    """Tells the training data the epoch, so that every epoch has its own views.

    `Trainer` does so by itself in a plain run, but neither with several processes nor after a resume in mid-epoch:
    there accelerate tells the sampler alone. Workers start with the epoch, after this.
    """

    def on_epoch_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Pass on the number of the epoch that begins or, after a resume, goes on."""
        kwargs["train_dataloader"].dataset.set_epoch(int(state.epoch + 1e-6))


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


class PoseTrainer(CheckpointTrainer):
    """`Trainer` with parameter groups, a `BudgetedSchedule`, averaged weights, and loss terms in the log.

    It stops before a step that would ruin the model, see `StepGuard`, and its checkpoints are whole.

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
        self._guard = StepGuard(Path(self.args.output_dir), self.args.process_index)
        self.meter = TrainingMeter()
        self._group_of_kind: dict[str, int] = {}  # parameter group that has the learning rate of a kind of parameters
        self._rates: list[float] = []  # of the parameter groups, at the last batch

    def get_train_dataloader(self) -> DataLoader:
        """Load a stream, which is shared out to the processes already, by itself, and anything else as `Trainer`."""
        if not isinstance(self.train_dataset, ExampleStream):
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
            self.optimizer = torch.optim.AdamW(groups, betas=(0.9, self.optimizer_settings.beta2), fused=True)
            self._group_of_kind = group_of_kind(self.model if model is None else model, groups)
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

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Bring a batch to the device, its labels as a few tensors, without waiting for the copy of each."""
        stacked = stack_labels(inputs["labels"])
        stacked = {name: values.to(self.args.device, non_blocking=True) for name, values in stacked.items()}
        return super()._prepare_inputs({**inputs, "labels": unstack_labels(stacked)})

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, **kwargs: Any
    ) -> torch.Tensor | tuple[torch.Tensor, Any]:
        """Loss of a batch, which is measured for the log."""
        if self.channels_last:
            pixels = inputs["pixel_values"].contiguous(memory_format=torch.channels_last)
            inputs = {**inputs, "pixel_values": pixels}
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, **kwargs)
        if model.training:
            self.meter.add(outputs, inputs["labels"])
            self._rates = [group["lr"] for group in self.optimizer.param_groups]
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add to an entry of training what was measured since the last one, and the learning rates by name."""
        if "loss" in logs and self.meter.batches:
            logs |= self.meter.read()
            logs |= {f"learning_rate/{kind}": self._rates[group] for kind, group in self._group_of_kind.items()}
        if "train_loss" in logs:
            logs["train_loss"] = self._mean_loss()
        super().log(logs, start_time)

    def _mean_loss(self) -> float:
        """Mean loss of all steps; `Trainer` gives that of the steps since the last resume."""
        entries = [entry for entry in self.state.log_history if "loss" in entry]
        steps = np.diff([0] + [entry["step"] for entry in entries])
        return float(np.average([entry["loss"] for entry in entries], weights=steps))

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *args: Any) -> torch.Tensor:
        """Add to the gradient of a step, which is looked at before it is taken."""
        loss = super().training_step(model, inputs, *args)
        self._guard.add(inputs, loss)
        return loss

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> float | None:
        """Return the norm of the gradient, when all of the step's batches have added to it."""
        norm = super()._get_grad_norm(model, grad_norm)
        self._guard.check(self.state.global_step + 1, norm)
        return norm

    def _clip_grad_norm(self, model: nn.Module) -> torch.Tensor:
        """Clip the backbone's gradient and the others' each by itself, as one without norms is far larger."""
        kinds: dict[bool, list[nn.Parameter]] = defaultdict(list)
        for name, parameter in model.named_parameters():
            kinds[kind_of_parameter(name) == "backbone"].append(parameter)
        norms = [self.accelerator.clip_grad_norm_(parts, self.args.max_grad_norm) for parts in kinds.values()]
        return torch.stack(norms).norm()

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate the averaged weights, if there are any; with the main process's batch-norm statistics in all."""
        with nullcontext() if self.average is None else self.average.applied(self.model):
            broadcast([buffer for buffer in self.model.buffers() if buffer.is_floating_point()])
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
    multipliers = {"backbone": settings.backbone_multiplier, "sampling": settings.sampling_multiplier, "rest": 1.0}
    groups: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        rate = settings.learning_rate * multipliers[kind_of_parameter(name)]
        decays = parameter.ndim >= 2 and name not in undecayed and "embed" not in name.rsplit(".", 1)[-1]
        groups[rate, settings.weight_decay if decays else 0.0].append(parameter)
    return [{"params": params, "lr": rate, "weight_decay": decay} for (rate, decay), params in groups.items()]


def kind_of_parameter(name: str) -> str:
    """Say which learning rate a parameter has: that of the `backbone`, of `sampling`, or of the `rest`."""
    if "backbone" in name.split("."):
        return "backbone"
    return "sampling" if any(part in name for part in _SAMPLING_PARAMETERS) else "rest"


def group_of_kind(model: nn.Module, groups: list[dict[str, Any]]) -> dict[str, int]:
    """Find for each kind of parameters a group that has its learning rate; kinds of one rate share groups."""
    group_of = {id(parameter): number for number, group in enumerate(groups) for parameter in group["params"]}
    kinds = {name: group_of.get(id(parameter)) for name, parameter in model.named_parameters()}
    return {kind_of_parameter(name): number for name, number in kinds.items() if number is not None}
