"""The training loop, on Accelerate: steps, and at the end of some of them the log, looks, evaluations, checkpoints.

A run that was killed and resumed, however often, ends with the weights of one that was left alone, bit by bit, and
with its log, but for the entries that measure time. That holds in fp32 on a CPU with the same number of processes,
data workers and threads, and with a schedule by steps or epochs: with `schedule.max_minutes` the learning rate follows
the clock, and no two runs have the same. A GPU is as exact as its kernels are.

It rests on three things: a checkpoint is of the end of a step whose sums are logged; the order and the views of an
epoch depend on the seed and its number alone, so that the batches which are over are skipped without a look, and a
stream has a position; and loading data draws nothing from the model's random numbers.
"""

import json
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, skip_first_batches
from accelerate.utils import DistributedType, broadcast_object_list, send_to_device
from torch import nn
from transformers import PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor

from ..data.examples import PoseMixture, stack_labels, unstack_labels
from .checkpoints import remove_old_checkpoints, written_aside
from .optimization import (
    BudgetedSchedule,
    averaged_model,
    group_of_kind,
    kind_of_parameter,
    main_process_seconds,
    parameter_groups,
)
from .recipe import Recipe
from .stream import ExampleStream
from .tracking import TrainingMeter, print_entry, send_picture, tracked_name
from .training_data import make_loader
from .watching import PoseWatch, Watched, evaluating

LOG_FILE = "log.json"


@dataclass(frozen=True)
class Parts:
    """What a run is made of.

    Args:
        model: to be trained.
        processor: is saved beside it.
        data: to train on.
        evaluate: measures a model; None for no evaluation.
        watched: what to look at on the way; None for nothing.
    """

    model: PreTrainedModel
    processor: BaseImageProcessor
    data: PoseMixture | ExampleStream
    evaluate: Callable[[PreTrainedModel], dict[str, float]] | None = None
    watched: Watched | None = None


class StepGuard:
    """Looks at every optimiser step before it is taken; the batches of one that goes wrong are kept.

    Args:
        output: folder for them.
        process: number of this process.
    """

    def __init__(self, output: Path, process: int):
        self.output, self.process = output, process
        self._batches: list[dict[str, Any]] = []
        self._losses: list[torch.Tensor] = []

    def add(self, batch: dict[str, Any], loss: torch.Tensor) -> None:
        """Take note of a batch of the step, and of its loss `()`."""
        self._batches.append(batch)
        self._losses.append(loss)

    def check(self, step: int, gradient_norm: float) -> None:
        """Let a step pass if its losses and the norm of its gradient are finite.

        Raises:
            FloatingPointError: They are not. The step's batches are in the file that the message names.
        """
        losses = torch.stack(self._losses)
        if not (torch.isfinite(losses).all() and math.isfinite(gradient_norm)):
            path = self.output / f"diverged-step-{step}-process-{self.process}.pt"
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(self._batches, path)
            raise FloatingPointError(
                f"step {step} has a loss of {', '.join(map(str, losses.tolist()))} in process {self.process} and a "
                f"gradient of norm {gradient_norm}, expected finite ones. The step was not taken, and the checkpoints "
                f"are of earlier ones; `torch.load` reads its batches from {path}"
            )
        self._batches, self._losses = [], []


class Engine:
    """A training run.

    Args:
        recipe: says how.
        parts: say what.
        accelerator: knows the processes, the device, the precision and the tracker.
    """

    def __init__(self, recipe: Recipe, parts: Parts, accelerator: Accelerator):
        self.recipe, self.parts, self.accelerator = recipe, parts, accelerator
        self.output = Path(recipe.output)
        self.step, self.best, self.history = 0, math.inf, []
        self._meter, self._guard = TrainingMeter(), StepGuard(self.output, accelerator.process_index)
        self._norm, self._last_checkpoint = 0.0, time.monotonic()
        self._prepare()

    def _prepare(self) -> None:
        """Lay everything out on the device and over the processes, and say what belongs into a checkpoint."""
        recipe, model = self.recipe, self.parts.model.to(self.accelerator.device)
        self.loader = make_loader(self.parts.data, recipe, self.accelerator)
        epochs = recipe.schedule.epochs
        self.epoch_steps = None if self._is_stream else math.ceil(len(self.loader) / recipe.accumulation)
        limits = [recipe.schedule.max_steps, self.epoch_steps and math.ceil(epochs * self.epoch_steps)]
        self.total_steps = min(limit for limit in limits if limit is not None)
        self.average = averaged_model(model, recipe.average_decay)
        groups = parameter_groups(model, recipe.optimizer)
        self._group_of_kind = group_of_kind(model, groups)
        optimizer = torch.optim.AdamW(groups, betas=(0.9, recipe.optimizer.beta2), fused=True)
        self.schedule = BudgetedSchedule(optimizer, recipe.schedule, self.total_steps)
        if recipe.gradient_checkpointing:
            model.gradient_checkpointing_enable()
        if recipe.compile:
            model.compile()
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)
        self._clipped = self._parts_to_clip()
        self.accelerator.register_for_checkpointing(self, self.schedule)
        if self.average is not None:
            self.accelerator.prepare_model(self.average.module, evaluation_mode=True)
        self._watch = None
        if self.parts.watched is not None:
            self._watch = PoseWatch(self.parts.watched, self.accelerator.device)
            self.accelerator.register_for_checkpointing(self._watch)

    @property
    def _is_stream(self) -> bool:
        return isinstance(self.parts.data, ExampleStream)

    @property
    def is_over(self) -> bool:
        """Whether all steps are taken, or the time is over."""
        return self.schedule.progress >= 1.0

    @property
    def epoch(self) -> float:
        """Passes over the data so far; of a stream, which has none, the part of the steps."""
        return self.step / (self.epoch_steps or self.total_steps)

    @property
    def shown_model(self) -> PreTrainedModel:
        """The averaged model if there is one, which is what is evaluated, drawn and saved."""
        return self.accelerator.unwrap_model(self.model) if self.average is None else self.average.module

    def run(self) -> None:
        """Train to the end."""
        self.model.train()
        self._meter.clear()
        for batch in self._batches():
            self._train_on(batch)
            if self.accelerator.sync_gradients:
                self._finish_step()
        losses = [entry for entry in self.history if "loss" in entry]
        steps = np.diff([0] + [entry["step"] for entry in losses])
        mean = float(np.average([entry["loss"] for entry in losses], weights=steps))
        self.log({"train_runtime": self.schedule.elapsed_seconds, "train_loss": mean})

    def _batches(self) -> Iterator[dict[str, Any]]:
        """Batches of one epoch after another, until the step that ends the run."""
        while not self.is_over:
            for batch in self._rest_of_epoch():
                yield batch
                if self.is_over:
                    return

    def _rest_of_epoch(self) -> Iterator[dict[str, Any]]:
        """Batches of the epoch that begins or, after a resume, goes on."""
        loader = self.loader
        if not self._is_stream:
            epoch, steps = divmod(self.step, self.epoch_steps)
            loader.set_epoch(epoch)  # tells the sampler and, but for several processes, the data
            self.parts.data.set_epoch(epoch)
            if steps:
                loader = skip_first_batches(loader, steps * self.recipe.accumulation)
        for batch in loader:
            yield self._on_device(batch)

    def _on_device(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Bring a batch to the device, its labels as a few tensors, without waiting for the copy of each."""
        labels = unstack_labels(
            send_to_device(stack_labels(batch["labels"]), self.accelerator.device, non_blocking=True)
        )
        pixels = batch["pixel_values"].to(self.accelerator.device, non_blocking=True)
        if self.recipe.channels_last:
            pixels = pixels.contiguous(memory_format=torch.channels_last)
        return {"pixel_values": pixels, "labels": labels}

    def _train_on(self, batch: dict[str, Any]) -> None:
        """Add a batch to the gradient and, if it is the last of its step, take the step."""
        with self.accelerator.accumulate(self.model):
            outputs = self.model(**batch)
            self.accelerator.backward(outputs.loss)
            self._guard.add(batch, outputs.loss.detach())
            self._meter.add(outputs, batch["labels"])
            if self.accelerator.sync_gradients:
                self._norm = self._clip_gradient()
                self._guard.check(self.step + 1, self._norm)
            self.optimizer.step()
            self.optimizer.zero_grad()

    def _parts_to_clip(self) -> list[list[nn.Parameter]]:
        """Parameters of the backbone, and all others."""
        parts: dict[bool, list[nn.Parameter]] = defaultdict(list)
        for name, parameter in self.model.named_parameters():
            parts[kind_of_parameter(name) == "backbone"].append(parameter)
        return list(parts.values())

    def _clip_gradient(self) -> float:
        """Clip the backbone's gradient and the others' each by itself, as one without norms is far larger."""
        largest = self.recipe.optimizer.clip_norm
        norms = [self.accelerator.clip_grad_norm_(parameters, largest) for parameters in self._clipped]
        return torch.stack(norms).norm().item()

    def _finish_step(self) -> None:
        """Count the step, and do what is due after it; the checkpoint comes last, so that all the rest is in it."""
        rates = {f"learning_rate/{kind}": self._rate(group) for kind, group in self._group_of_kind.items()}
        self.step += 1
        self.schedule.step()
        if self.average is not None:
            self.average.update_parameters(self.accelerator.unwrap_model(self.model))
        over, logged = self.is_over, self.is_over or self.step % self.recipe.log_steps == 0
        if logged:
            measured = self._meter.read()
            rate = rates.get("learning_rate/rest", max(rates.values()))
            self.log({"loss": measured.pop("loss"), "grad_norm": self._norm, "learning_rate": rate} | measured | rates)
        self._look()
        if not over and self._evaluation_is_due():
            self.evaluate()
        if over or (logged and self._checkpoint_is_due()):
            self.save_checkpoint()

    def _rate(self, group: int) -> float:
        return self.optimizer.param_groups[group]["lr"]

    def _look(self) -> None:
        """Look at the matching and at a few people when it is time, and at the people at the end too."""
        if self._watch is None:
            return
        due = self._watch.watched.is_due(self.step, self.epoch_steps, self.recipe.log_steps)
        if due:
            changes = self._watch.changes(self.accelerator.unwrap_model(self.model))
            if changes:
                self.log(changes)
        if (due or self.is_over) and self._watch.watched.people:
            picture = self._watch.draw(self.shown_model)
            if self.accelerator.is_main_process:
                path = self.output / "pictures" / f"step-{self.step:07d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                picture.save(path)
                for tracker in self.accelerator.trackers:
                    send_picture(tracker, picture, self.step)

    def _evaluation_is_due(self) -> bool:
        """Whether so many epochs or steps are over."""
        settings = self.recipe.evaluation
        by_epochs = self.epoch_steps and settings.every_epochs and self.epoch % settings.every_epochs == 0
        by_steps = settings.every_steps and self.step % settings.every_steps == 0
        return self.parts.evaluate is not None and bool(by_epochs or by_steps)

    def evaluate(self) -> dict[str, float]:
        """Measure the model, and keep the best one in `best`.

        The main process does it while the others wait, but for a network of which each has a part.

        Returns:
            The numbers with `eval_` before their names, in every process.
        """
        metrics = [None]
        if self.accelerator.is_main_process or self.accelerator.distributed_type == DistributedType.FSDP:
            model = self.shown_model
            with evaluating(model):
                metrics = [{f"eval_{name}": value for name, value in self.parts.evaluate(model).items()}]
        (found,) = broadcast_object_list(metrics)
        self.log(found)
        error = found.get("eval_mpjpe", math.nan)  # labels in 2D alone have none
        if error < self.best:
            self.best = error
            self.save_model(self.output / "best")
        return found

    def log(self, entries: dict[str, float]) -> None:
        """Add an entry to the log, print it, and send it to the tracker."""
        entries = entries | {"epoch": self.epoch}
        self.history.append(entries | {"step": self.step})
        if self.accelerator.is_main_process:
            print_entry(self.step, entries)
        self.accelerator.log({tracked_name(name): value for name, value in entries.items()}, step=self.step)

    def _checkpoint_is_due(self) -> bool:
        """Whether enough time has passed since the last one, by the main process's clock."""
        due = main_process_seconds(time.monotonic() - self._last_checkpoint) > 60.0 * self.recipe.checkpoint_minutes
        if due:
            self._last_checkpoint = time.monotonic()
        return due

    def save_checkpoint(self) -> None:
        """Write all that a run goes on from; each process writes where it is in a stream and in its random numbers."""
        with written_aside(self.output / f"checkpoint-{self.step}") as folder:
            self.accelerator.save_state(str(folder))
            if self._is_stream:
                (folder / self._position_file).write_text(json.dumps(self.loader.state_dict()))
        if self.accelerator.is_main_process:
            self.write_log()
            remove_old_checkpoints(self.output)

    def resume(self, folder: Path) -> None:
        """Go on from a checkpoint."""
        self.accelerator.load_state(str(folder))
        if self.average is not None:
            self.average.n_averaged.fill_(self.step)
        if self._is_stream:
            self.loader.load_state_dict(json.loads((folder / self._position_file).read_text()))

    @property
    def _position_file(self) -> str:
        return f"stream_position-{self.accelerator.process_index}.json"

    def state_dict(self) -> dict[str, Any]:
        """Steps taken, the best evaluation, and the log."""
        return {"step": self.step, "best": self.best, "history": self.history}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self.step, self.best, self.history = state["step"], state["best"], state["history"]

    def write_log(self) -> None:
        """Write all entries of the log."""
        (self.output / LOG_FILE).write_text(json.dumps(self.history, indent=1) + "\n")

    def save_model(self, folder: Path) -> None:
        """Save the shown model with its image processor, ready for `from_pretrained`."""
        model = self.accelerator.unwrap_model(self.shown_model, keep_fp32_wrapper=True)
        weights = self.accelerator.get_state_dict(self.model) if self.average is None else model.state_dict()
        with written_aside(folder) as aside:
            if self.accelerator.is_main_process:
                model.save_pretrained(aside, state_dict=weights)
                self.parts.processor.save_pretrained(aside)
