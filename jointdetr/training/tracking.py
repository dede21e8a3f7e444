"""Watching a run: what is measured on the way, whether the matching has settled, and pictures of what is predicted.

Numbers go through `Trainer.log` and transformers' own integrations to the tracker that `report_to` names; pictures,
which those leave out, are sent beside them.

Shape vocabulary: layers (decoder), batch, queries, joints. Positions are root-relative millimetres in camera axes.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import reduce, send_to_device
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState
from transformers.integrations.integration_utils import (
    TensorBoardCallback,
    TrackioCallback,
    WandbCallback,
    is_trackio_available,
)

from ..crops_jointdetr import Cropper
from ..data.examples import Example, PoseExamples, PoseMixture, collate_poses
from ..data.loading import undecoded
from ..data.mixing import prepare_source
from ..evaluation.metrics import joint_errors
from ..evaluation.prediction import EvaluationSettings, FoundPoses
from ..modeling_jointdetr import JointDetrPoseEstimationOutput
from ..skeleton_jointdetr import Skeleton
from ..visualization.figures import as_picture, pose_sheet
from .checkpoints import CheckpointPart
from .recipe import Recipe
from .training_data import load_source

if TYPE_CHECKING:
    from .trainer import PoseTrainer

PROJECT = "jointdetr"
PROBE_ROWS = 64
DRAWN_PEOPLE = 4
STREAM_STEPS = 1000
RUN_NAME_FILE = "run_name.txt"
_QUERIES_FILE = "matched_queries.safetensors"
_TRACKIO_ADVICE = 'trackio is not installed, so this log is all there is; pip install "jointdetr[train]" gives curves'


def available_tracker(name: str) -> str:
    """Return the tracker to report to: the default, trackio, gives way to the console where it is not installed."""
    if name != "trackio" or is_trackio_available():
        return name
    if PartialState().is_main_process:
        print(_TRACKIO_ADVICE, flush=True)
    return "none"


def name_run(output: str | Path, resumed: bool) -> str:
    """Name a run at its trackers: its folder and the time of its start, or what a resumed one is called already."""
    kept = Path(output) / RUN_NAME_FILE
    if resumed and kept.is_file():
        return kept.read_text().strip()
    folder = "-".join(part.strip("/\\:") for part in Path(output).parts[-2:])
    return f"{folder}-{datetime.now():%Y%m%d-%H%M%S}"


class TrainingMeter:
    """Means over the batches since the last entry of the log, those of all processes.

    Sums stay on the device until they are read, in one transfer, so that no step waits for them.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self.batches = self.images = 0
        self._by_batch: dict[str, torch.Tensor] = {}
        self._errors: dict[str, torch.Tensor] = {}
        self._joints: torch.Tensor | None = None
        self._started = time.monotonic()

    @torch.no_grad()
    def add(self, outputs: JointDetrPoseEstimationOutput, labels: Sequence[dict[str, torch.Tensor]]) -> None:
        """Count a batch: its loss terms, what its matching costs, and the errors of its matched joints."""
        terms = {_term(name): value.detach() for name, value in outputs.loss_dict.items()}
        if outputs.matching_cost is not None:
            terms |= {f"matching_cost/{layer}": cost for layer, cost in enumerate(outputs.matching_cost.unbind())}
        valid = torch.stack([label["joints_3d_valid"] for label in labels])  # (batch, joints)
        targets = torch.stack([label["joints_3d"] for label in labels])  # (batch, joints, 3)
        errors = joint_errors(matched_joints(outputs), targets)  # (layers, batch, joints)
        errors = torch.where(valid, errors, 0.0).sum((1, 2)).unbind()
        _accumulate(self._by_batch, terms)
        _accumulate(self._errors, _by_layer("mpjpe", errors))
        self._joints = valid.sum() if self._joints is None else self._joints + valid.sum()
        self.batches += 1
        self.images += len(labels)

    def read(self) -> dict[str, float]:
        """Return the means and images a second, and begin anew; all processes have to take part.

        `term ...` and `mpjpe` (mm) are of the last decoder layer; the earlier ones have a slash and their number.
        """
        seconds = max(time.monotonic() - self._started, 1e-6)
        counts = torch.tensor([self.batches, self.images], dtype=torch.float32, device=self._joints.device)
        sums = [*self._by_batch.values(), *self._errors.values(), self._joints, *counts.unbind()]
        *totals, joints, batches, images = reduce(torch.stack([value.float() for value in sums]), "sum").tolist()
        means = dict(zip(self._by_batch, (total / batches for total in totals), strict=False))
        if joints:
            errors = totals[len(self._by_batch) :]
            means |= dict(zip(self._errors, (error / joints for error in errors), strict=True))
        self.clear()
        return {"images_per_second": images / seconds, **means}


def matched_joints(outputs: JointDetrPoseEstimationOutput) -> torch.Tensor:
    """Return what every decoder layer predicts for the joints: (layers, batch, joints, 3) mm.

    With set alignment they are the matched queries' predictions, so that no mistake in the class counts.
    """
    earlier = [layer["pred_joints"] for layer in outputs.auxiliary_outputs or ()]
    joints = torch.stack([*earlier, outputs.pred_joints]).float()  # (layers, batch, queries, 3)
    if outputs.matched_queries is None:
        return joints
    return joints.gather(2, outputs.matched_queries[..., None].expand(*outputs.matched_queries.shape, 3))


def changed_queries(before: torch.Tensor, now: torch.Tensor, labelled: torch.Tensor) -> dict[str, float]:
    """Compare two matchings of the same rows.

    Args:
        before: query of every joint at the last look, `(layers, rows, joints)`.
        now: the same at this look.
        labelled: `(rows, joints)` bool, the joints that count.

    Returns:
        Share of the labelled joints whose query changed: `queries_changed` of the last decoder layer, and
        `queries_changed/0` and so on of the earlier ones.
    """
    changed = ((before != now) & labelled).sum((1, 2)) / labelled.sum()  # (layers,)
    return _by_layer("queries_changed", changed.tolist())


@dataclass(frozen=True)
class Watched:
    """What is looked at over and over.

    Args:
        probe: plain crops of fixed rows with their labels, whose matching is compared; may be empty.
        people: plain crops with their labels to be drawn; may be empty.
        skeleton: of the labels.
        cropper: how rows became crops.
        threshold: joints less probable than this are drawn as guesses.
        every_steps: optimiser steps from look to look; None looks at the end of each epoch, if that is not more
            often than there are lines in the log.
    """

    probe: list[Example]
    people: list[Example]
    skeleton: Skeleton
    cropper: Cropper
    threshold: float = 0.5
    every_steps: int | None = None


def what_to_watch(recipe: Recipe, examples: PoseExamples, evaluation: PoseMixture | None) -> Watched:
    """Choose what to look at while a recipe is trained.

    The probe is the first rows of the first source; or of the evaluation data where all people are drawn as training
    goes on. Those to be drawn are spread over the evaluation data, or belong to the probe where there are none.

    Args:
        recipe: the run.
        examples: turns rows into plain crops.
        evaluation: plain evaluation data.
    """
    if recipe.train.sources:
        probe = _first_examples(recipe, examples)
    else:
        probe = [] if evaluation is None else [evaluation[row] for row in range(min(PROBE_ROWS, len(evaluation)))]
    people = probe[:DRAWN_PEOPLE] if evaluation is None else _spread_over(evaluation, DRAWN_PEOPLE)
    every_steps = recipe.watch_steps
    if every_steps is None and recipe.train.is_stream:
        every_steps = STREAM_STEPS
    return Watched(probe, people, examples.skeleton, examples.cropper, recipe.evaluation.threshold, every_steps)


def _first_examples(recipe: Recipe, examples: PoseExamples) -> list[Example]:
    """Take plain crops of the first rows of the first source."""
    source = recipe.train.sources[0]
    rows = load_source(source, recipe.train.is_stream)
    if recipe.train.is_stream:
        rows = prepare_source(rows, examples.skeleton, source.map_skeleton)
    draws = np.random.default_rng(0)  # plain crops take none
    return [examples.example(row, draws) for row in undecoded(rows.with_format(None)).take(PROBE_ROWS)]


def _ends_epoch(state: TrainerState, log_steps: int) -> bool:
    """Whether an epoch ends with this step; of epochs shorter than `log_steps`, one in so many steps counts."""
    if state.epoch % 1:
        return False
    steps = round(state.global_step / state.epoch)
    return state.global_step // log_steps > (state.global_step - steps) // log_steps


def _spread_over(dataset: PoseMixture, count: int) -> list[Example]:
    """Take up to `count` examples, evenly spaced, as neighbours tend to be alike."""
    count = min(count, len(dataset))
    return [dataset[index * len(dataset) // count] for index in range(count)]


class PoseWatch(CheckpointPart):
    """Logs the share of joints whose query has changed since the last look, and draws what is predicted for a few.

    Matching is that of the weights in training; pictures show the averaged ones, if there are any, as evaluations do.
    The pictures lie in `pictures` of the output folder and go to trackio, TensorBoard or wandb. Every process looks,
    as sharded models need them all; the first one writes.

    Args:
        trainer: the `PoseTrainer` that this is a callback of.
        watched: what to look at.
        resume_from: checkpoint folder to read the last matching from.
    """

    def __init__(self, trainer: "PoseTrainer", watched: Watched, resume_from: Path | None = None):
        self.trainer = trainer
        self.watched = watched
        self._queries: torch.Tensor | None = None  # (layers, rows, joints) of the last look
        if resume_from is not None and (resume_from / _QUERIES_FILE).is_file():
            self._queries = load_file(resume_from / _QUERIES_FILE)["queries"]

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Look when it is time, and draw at the end too; the checkpoint of the same step comes after it."""
        every = self.watched.every_steps
        due = _ends_epoch(state, args.logging_steps) if every is None else state.global_step % every == 0
        # a model of fixed alignment has no matching
        if due and self.watched.probe and self.trainer.model.config.query_alignment == "set":
            self._log_matching(control)
        if (due or control.should_training_stop) and self.watched.people:
            picture = self._draw()
            if state.is_world_process_zero:
                self._show(picture, state.global_step)

    def write_part(self, folder: Path) -> None:
        """Write the last matching into a checkpoint."""
        if PartialState().is_main_process and self._queries is not None:
            save_file({"queries": self._queries}, folder / _QUERIES_FILE)

    def _log_matching(self, control: TrainerControl) -> None:
        """Match the probe once more, and log what has changed since the last time."""
        queries = torch.cat([outputs.matched_queries.cpu() for outputs in self._predict(self.watched.probe)], dim=1)
        before, self._queries = self._queries, queries
        if before is None:
            return
        labels = [example["labels"] for example in self.watched.probe]
        labelled = torch.stack([label["joints_3d_valid"] | label["joints_2d_valid"] for label in labels])
        due = control.should_log
        self.trainer.log(changed_queries(before, queries, labelled))
        control.should_log = due  # an entry of training may be due at this step, which `log` takes this one for

    def _predict(self, examples: list[Example]) -> list[JointDetrPoseEstimationOutput]:
        """Run the model in evaluation mode, in batches as large as in evaluations."""
        model, size = self.trainer.model, self.trainer.args.eval_batch_size
        starts = range(0, len(examples), size)
        batches = (collate_poses(examples[start : start + size]) for start in starts)
        with _evaluating(model), self.trainer.compute_loss_context_manager():
            return [model(**send_to_device(batch, self.trainer.args.device)) for batch in batches]

    def _draw(self) -> Image.Image:
        """Draw the people with what is predicted for them; titles give the mean error of the labelled joints."""
        average, model, watched = self.trainer.average, self.trainer.model, self.watched
        with nullcontext() if average is None else average.applied(model):
            found = self._predict(watched.people)
        settings = EvaluationSettings(watched.threshold)
        poses = [FoundPoses.assemble(outputs, settings, model.refiner) for outputs in found]
        detected = torch.cat([some.detected.detected for some in poses]).cpu()  # (people, joints)
        joints = torch.cat([some.joints for some in poses]).cpu()
        points = torch.cat([some.likeliest.points for some in poses]).cpu()
        points = points * torch.tensor(watched.cropper.size[::-1])  # px
        people = [
            {"joints": joints[index], "joints_2d": points[index], "detected": detected[index]}
            for index in range(len(joints))
        ]
        pictures = [watched.cropper.picture(example["pixel_values"]) for example in watched.people]
        errors = [
            _describe_error(pose, example["labels"]) for pose, example in zip(joints, watched.people, strict=True)
        ]
        return as_picture(pose_sheet(pictures, people, watched.skeleton, errors))

    def _show(self, picture: Image.Image, step: int) -> None:
        """Write the picture, and send it to the trackers in use."""
        path = Path(self.trainer.args.output_dir) / "pictures" / f"step-{step:07d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
        for callback in self.trainer.callback_handler.callbacks:
            send_picture(callback, picture, step)


def send_picture(tracker: TrainerCallback, picture: Image.Image, step: int) -> None:
    """Show a picture in a tracker: trackio, TensorBoard or wandb; any other callback is left alone."""
    if isinstance(tracker, TrackioCallback):
        import trackio

        trackio.log({"people": trackio.Image(picture), "train/global_step": step})
    elif isinstance(tracker, TensorBoardCallback):
        tracker.tb_writer.add_image("people", np.asarray(picture), step, dataformats="HWC")
    elif isinstance(tracker, WandbCallback):
        import wandb

        wandb.log({"people": wandb.Image(picture), "train/global_step": step})


def _term(name: str) -> str:
    """Key of a loss term; those of earlier layers have a slash, which keeps them out of the console."""
    return f"term/{name}" if name[-1].isdigit() else f"term {name}"


def _by_layer(name: str, values: Sequence[Any]) -> dict[str, Any]:
    """Name values of the decoder layers: the last one by the bare name, the earlier ones with their number."""
    *earlier, last = values
    return {name: last} | {f"{name}/{layer}": value for layer, value in enumerate(earlier)}


def _accumulate(sums: dict[str, torch.Tensor], values: dict[str, torch.Tensor]) -> None:
    for name, value in values.items():
        sums[name] = sums[name] + value if name in sums else value


def _describe_error(joints: torch.Tensor, labels: dict[str, torch.Tensor]) -> str:
    errors = joint_errors(joints, labels["joints_3d"])[labels["joints_3d_valid"]]
    return f"{errors.mean():.0f} mm off" if len(errors) else "no label in 3D"


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode for a while, without gradients."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)
