"""Training of a pose model from a recipe: what a run is made of, and the loop, on Accelerate.

`python -m jointdetr.training.train --config RECIPE.yaml [--resume] [section.key=value ...]`

The same works under `accelerate launch -m jointdetr.training.train ...` for several GPUs or machines. On a CPU, set
`OMP_NUM_THREADS` to the number of cores less one per busy data worker; docs/performance.md knows more.

The output folder gets `recipe.yaml`, `checkpoint-*` to resume from, `pictures`, `log.json`, `evaluation.json`, and two
models with their image processors: the one with the smallest evaluated error so far in `best`, the last in `final`.

A run that was killed and resumed ends with the weights and the log of one that was left alone, bit by bit, in fp32 on
a CPU with the same processes, workers and threads and a schedule by steps or epochs. That rests on three things: a
checkpoint is of the end of a step whose sums are logged; the order and the views of an epoch depend on the seed and
its number alone, so that the batches which are over are skipped without a look, and a stream has a position; and
loading data draws nothing from the model's random numbers.
"""

import argparse
import json
import math
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DataLoaderConfiguration, skip_first_batches
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import DistributedType, InitProcessGroupKwargs, broadcast_object_list, send_to_device
from torch import nn
from transformers import PreTrainedModel, set_seed

from ..data.examples import PoseDataset, PoseExamples, PoseMixture, stack_labels, unstack_labels
from ..image_processing_jointdetr import JointDetrImageProcessorPil
from .augmentation import AugmentedExamples
from .checkpoints import find_checkpoints, remove_old_checkpoints, written_aside
from .model import build_model, resolve_skeleton, start_at_mean_pose
from .optimization import BudgetedSchedule, averaged_model, kind_of_parameter, main_process_seconds, parameter_groups
from .recipe import Recipe, load_recipe, save_recipe
from .tracking import TrainingMeter, draw_people, people_to_draw, send_picture, start_tracker
from .training_data import Evaluation, ExampleStream, make_loader, training_data

PATIENCE = timedelta(hours=4)  # of processes that wait while the main one evaluates
PICTURE_STEPS = 1000  # between pictures, by default


@dataclass(frozen=True)
class TrainingResult:
    """What a run leaves."""

    folder: Path  # the final model with its image processor
    model: PreTrainedModel  # with averaged weights if the recipe has them
    metrics: dict[str, float]  # of the final evaluation; empty without evaluation data


def train(recipe: Recipe, resume: bool = False, model: PreTrainedModel | None = None) -> TrainingResult:
    """Train, evaluate and save a model, perhaps going on from the last checkpoint in `recipe.output`.

    A `model` is trained instead of the one that the recipe describes; it takes and gives what
    `JointDetrForPoseEstimation` with fixed alignment does.

    Raises:
        ValueError: There is nothing to train on, the data do not fit the skeleton, there is no checkpoint, or the
            output folder holds another run.
    """
    output = Path(recipe.output)
    checkpoints = find_checkpoints(output)
    if resume and not checkpoints:
        raise ValueError(f"there must be a checkpoint in {output} to resume from, got none")
    if not resume and (checkpoints or (output / "final").exists()):
        raise ValueError(f"`output` must be a folder without a run, got {output}; --resume goes on with the run there")
    set_seed(recipe.seed)
    run = TrainingRun(recipe, model)
    if resume:
        run.resume(checkpoints[-1])
    if run.accelerator.is_main_process:
        output.mkdir(parents=True, exist_ok=True)
        save_recipe(recipe, output / "recipe.yaml")
    start_tracker(run.accelerator, recipe.report_to, output)
    run.take_steps()
    metrics = run.evaluate() if run.evaluation is not None else {}
    run.save_model(output / "final")
    if run.accelerator.is_main_process:
        run.write_log()
        (output / "evaluation.json").write_text(json.dumps(metrics, indent=2) + "\n")
    for tracker in run.accelerator.trackers:
        tracker.finish()
    trained = run.accelerator.unwrap_model(run.shown_model, keep_fp32_wrapper=False)
    return TrainingResult(output / "final", trained, metrics)


def make_accelerator(recipe: Recipe) -> Accelerator:
    """Make the accelerator of a run, which knows the processes, the device, the precision and the tracker."""
    for state in (AcceleratorState, GradientState):
        state._reset_state()  # an earlier run of this process may have had another precision
    return Accelerator(
        cpu=recipe.device == "cpu",
        mixed_precision="bf16" if recipe.precision == "bf16" else "no",
        gradient_accumulation_steps=recipe.accumulation,
        dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True, data_seed=recipe.seed),
        log_with=None if recipe.report_to == "none" else recipe.report_to,
        project_dir=recipe.output,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)],
    )


class TrainingRun:
    """Model, data and optimiser of a run, and the loop over them; see `train` for the arguments."""

    def __init__(self, recipe: Recipe, model: PreTrainedModel | None = None):
        self.recipe, self.output = recipe, Path(recipe.output)
        self.accelerator = make_accelerator(recipe)
        self.step, self.best, self.history = 0, math.inf, []
        self._meter, self._last_checkpoint = TrainingMeter(), time.monotonic()
        self._norm = 0.0  # of the gradient of the last step
        self._batches: list[tuple[dict[str, Any], torch.Tensor]] = []  # of the present step, with their losses
        skeleton = resolve_skeleton(recipe)
        is_new = model is None and recipe.model.init_from is None
        model = build_model(recipe, skeleton) if model is None else model
        shown, size = recipe.input, {"height": recipe.input.height, "width": recipe.input.width}
        self.processor = JointDetrImageProcessorPil(size=size, box_padding=shown.padding, root_joint=skeleton.root)
        augmented = AugmentedExamples(self.processor, skeleton, recipe.augmentation)
        self.data = training_data(recipe, augmented, self.accelerator)
        self._is_stream = isinstance(self.data, ExampleStream)
        self._position_file = f"stream_position-{self.accelerator.process_index}.json"
        if is_new and not self._is_stream:
            start_at_mean_pose(model, self.data)
        self.evaluation, self._people = None, None
        if recipe.evaluation.sources:
            self.evaluation = Evaluation(recipe, self.processor, skeleton, self.accelerator.device)
            plain = PoseExamples(self.processor, skeleton)
            crops = PoseMixture([PoseDataset(source, plain) for source in self.evaluation.sources])
            self._people = people_to_draw(crops) if recipe.watch_steps != 0 else None
        self._prepare(model)

    def _prepare(self, model: PreTrainedModel) -> None:
        """Lay everything out on the device and over the processes, and say what belongs into a checkpoint."""
        recipe = self.recipe
        if recipe.channels_last:
            model.to(memory_format=torch.channels_last)
        model.to(self.accelerator.device)
        self.loader = make_loader(self.data, recipe, self.accelerator)
        self.epoch_steps = None if self._is_stream else math.ceil(len(self.loader) / recipe.accumulation)
        limits = [recipe.schedule.max_steps, self.epoch_steps and math.ceil(recipe.schedule.epochs * self.epoch_steps)]
        self.total_steps = min(limit for limit in limits if limit is not None)
        self.average = averaged_model(model, recipe.average_decay)
        groups = parameter_groups(model, recipe.optimizer)
        optimizer = torch.optim.AdamW(groups, betas=(0.9, recipe.optimizer.beta2), fused=True)
        self.schedule = BudgetedSchedule(optimizer, recipe.schedule, self.total_steps)
        if recipe.gradient_checkpointing:
            model.gradient_checkpointing_enable()
        if recipe.compile:
            model.compile()
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)
        self._clipped: dict[bool, list[nn.Parameter]] = defaultdict(list)  # the backbone's, and all others
        for name, parameter in self.model.named_parameters():
            self._clipped[kind_of_parameter(name) == "backbone"].append(parameter)
        self.accelerator.register_for_checkpointing(self, self.schedule)
        if self.average is not None:
            self.accelerator.prepare_model(self.average.module, evaluation_mode=True)

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

    def take_steps(self) -> None:
        """Train to the end."""
        self.model.train()
        self._meter.clear()
        while not self.is_over:
            for batch in self._rest_of_epoch():
                self._train_on(self._on_device(batch))
                if self.is_over:
                    break
        self.log({"train_runtime": self.schedule.elapsed_seconds})

    def _rest_of_epoch(self) -> Iterable[dict[str, Any]]:
        """Batches of the epoch that begins or, after a resume, goes on; a stream has one without end."""
        if self._is_stream:
            return self.loader
        epoch, steps = divmod(self.step, self.epoch_steps)
        self.loader.set_epoch(epoch)  # tells the sampler and, but for several processes, the data
        self.data.set_epoch(epoch)
        return skip_first_batches(self.loader, steps * self.recipe.accumulation) if steps else self.loader

    def _on_device(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Bring a batch to the device, its labels as a few tensors, without waiting for the copy of each."""
        device = self.accelerator.device
        labels = unstack_labels(send_to_device(stack_labels(batch["labels"]), device, non_blocking=True))
        pixels = batch["pixel_values"].to(device, non_blocking=True)
        if self.recipe.channels_last:
            pixels = pixels.contiguous(memory_format=torch.channels_last)
        return {"pixel_values": pixels, "labels": labels}

    def _train_on(self, batch: dict[str, Any]) -> None:
        """Add a batch to the gradient and, if it is the last of its step, take the step."""
        with self.accelerator.accumulate(self.model):
            outputs = self.model(**batch)
            self.accelerator.backward(outputs.loss)
            self._batches.append((batch, outputs.loss.detach()))
            self._meter.add(outputs, batch["labels"])
            if self.accelerator.sync_gradients:
                # the backbone's gradient and the others' each by itself, as one without norms is far larger
                clip = self.accelerator.clip_grad_norm_
                norms = [clip(parameters, self.recipe.optimizer.clip_norm) for parameters in self._clipped.values()]
                self._norm = torch.stack(norms).norm().item()
                self.require_finite()
                self._batches = []
            self.optimizer.step()
            self.optimizer.zero_grad()
        if self.accelerator.sync_gradients:
            self._finish_step(batch)

    def require_finite(self) -> None:
        """Raise `FloatingPointError` and save the step's batches if losses or gradient are no numbers."""
        batches, losses = zip(*self._batches, strict=True)
        losses = torch.stack(losses)
        if torch.isfinite(losses).all() and math.isfinite(self._norm):
            return
        process = self.accelerator.process_index
        path = self.output / f"diverged-step-{self.step + 1}-process-{process}.pt"
        torch.save(list(batches), path)
        raise FloatingPointError(
            f"step {self.step + 1} has a loss of {', '.join(map(str, losses.tolist()))} in process {process} and a "
            f"gradient of norm {self._norm}, expected finite ones. The step was not taken, and the checkpoints "
            f"are of earlier ones; `torch.load` reads its batches from {path}"
        )

    def _finish_step(self, batch: dict[str, Any]) -> None:
        """Count the step, and do what is due after it; the checkpoint comes last, so that all the rest is in it."""
        recipe, rate = self.recipe, max(self.schedule.get_last_lr())
        self.step += 1
        self.schedule.step()
        if self.average is not None:
            self.average.update_parameters(self.accelerator.unwrap_model(self.model))
        over, logged = self.is_over, self.is_over or self.step % recipe.log_steps == 0
        if logged:
            measured = self._meter.read()
            self.log({"loss": measured.pop("loss"), "grad_norm": self._norm, "learning_rate": rate} | measured)
        pictures = PICTURE_STEPS if recipe.watch_steps is None else recipe.watch_steps
        if pictures and (over or self.step % pictures == 0):
            self._save_picture(batch if self._people is None else self._people)
        epochs, steps = self.epoch_steps and recipe.evaluation.every_epochs, recipe.evaluation.every_steps
        due = (epochs and self.epoch % epochs == 0) or (steps and self.step % steps == 0)
        if due and not over and self.evaluation is not None:
            self.evaluate()
        seconds = time.monotonic() - self._last_checkpoint
        if over or (logged and main_process_seconds(seconds) > 60.0 * recipe.checkpoint_minutes):
            self._last_checkpoint = time.monotonic()
            self.save_checkpoint()

    def _save_picture(self, people: dict[str, Any]) -> None:
        model = self.shown_model.eval()
        picture = draw_people(model, people, self.processor.cropper(), self.recipe.evaluation.threshold)
        self.model.train()
        if self.accelerator.is_main_process:
            path = self.output / "pictures" / f"step-{self.step:07d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path)
            for tracker in self.accelerator.trackers:
                send_picture(tracker, picture, self.step)

    def evaluate(self) -> dict[str, float]:
        """Measure the model, keep the best one in `best`, and return the numbers with `eval_` before their names.

        The main process does it while the others wait, but for a network of which each has a part.
        """
        metrics = [None]
        if self.accelerator.is_main_process or self.accelerator.distributed_type == DistributedType.FSDP:
            metrics = [self.evaluation.measure(self.shown_model.eval())]
            self.model.train()
        (found,) = broadcast_object_list(metrics)
        self.log(found)
        error = found.get("eval_mpjpe", math.nan)  # labels in 2D alone have none
        if error < self.best:
            self.best = error
            self.save_model(self.output / "best")
        return found

    def log(self, entries: dict[str, float]) -> None:
        """Add an entry to the log, print what has no slash in its name, and send all of it to the tracker."""
        entries = entries | {"epoch": self.epoch}
        self.history.append(entries | {"step": self.step})
        shown = "  ".join(f"{name} {value:.4g}" for name, value in entries.items() if "/" not in name)
        self.accelerator.print(f"step {self.step}  {shown}", flush=True)
        parts = {name: f"eval/{name[5:]}" if name.startswith("eval_") else f"train/{name}" for name in entries}
        self.accelerator.log({parts[name]: value for name, value in entries.items()}, step=self.step)

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
        # an earlier version kept the state of its matching there, which Accelerate would have somebody load
        (folder / "custom_checkpoint_2.pkl").unlink(missing_ok=True)
        self.accelerator.load_state(str(folder))
        if self.average is not None:
            self.average.n_averaged.fill_(self.step)
        if self._is_stream:
            self.loader.load_state_dict(json.loads((folder / self._position_file).read_text()))

    def state_dict(self) -> dict[str, Any]:
        """Steps taken, the best evaluation, and the log."""
        return {"step": self.step, "best": self.best, "history": self.history}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self.step, self.best, self.history = state["step"], state["best"], state["history"]

    def write_log(self) -> None:
        """Write all entries of the log."""
        (self.output / "log.json").write_text(json.dumps(self.history, indent=1) + "\n")

    def save_model(self, folder: Path) -> None:
        """Save the shown model with its image processor, ready for `from_pretrained`."""
        model = self.accelerator.unwrap_model(self.shown_model, keep_fp32_wrapper=True)
        weights = self.accelerator.get_state_dict(self.model) if self.average is None else model.state_dict()
        with written_aside(folder) as aside:
            if self.accelerator.is_main_process:
                model.save_pretrained(aside, state_dict=weights)
                self.processor.save_pretrained(aside)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Train a pose model from a recipe.")
    parser.add_argument("--config", required=True, help="YAML file, or the name of a recipe of the package")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value")
    options = parser.parse_intermixed_args(arguments)
    result = train(load_recipe(options.config, options.overrides), options.resume)
    print(f"saved {result.folder}")


if __name__ == "__main__":
    main()
