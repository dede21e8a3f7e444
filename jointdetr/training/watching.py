"""Looking at a model in training: whether its matching has settled, and pictures of what it predicts.

Shape vocabulary: layers (decoder), batch, queries, joints. Positions are root-relative millimetres in camera axes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from accelerate.utils import send_to_device
from PIL import Image
from torch import nn

from ..data.examples import Example, PoseExamples, PoseMixture, collate_poses
from ..data.loading import undecoded
from ..data.mixing import prepare_source
from ..evaluation.metrics import joint_errors
from ..evaluation.prediction import EvaluationSettings, FoundPoses
from ..modeling_jointdetr import JointDetrPoseEstimationOutput
from ..picture_jointdetr import Cropper
from ..skeleton_jointdetr import Skeleton
from ..visualization.figures import as_picture, pose_sheet
from .recipe import Recipe
from .tracking import by_layer
from .training_data import load_source

PROBE_ROWS = 64
DRAWN_PEOPLE = 4
STREAM_STEPS = 1000
BATCH_SIZE = 64


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
    return by_layer("queries_changed", changed.tolist())


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

    def is_due(self, step: int, epoch_steps: int, log_steps: int) -> bool:
        """Whether to look after a step; of epochs shorter than `log_steps`, one in so many steps counts."""
        if self.every_steps is not None:
            return step % self.every_steps == 0
        return step % epoch_steps == 0 and step // log_steps > (step - epoch_steps) // log_steps


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


def _spread_over(dataset: PoseMixture, count: int) -> list[Example]:
    """Take up to `count` examples, evenly spaced, as neighbours tend to be alike."""
    count = min(count, len(dataset))
    return [dataset[index * len(dataset) // count] for index in range(count)]


class PoseWatch:
    """Compares the matching of fixed rows with that of the last look, and draws what is predicted for a few people.

    Every process has to look, as the loss of all of them is normalised as one.

    Args:
        watched: what to look at.
        device: where the models are.
    """

    def __init__(self, watched: Watched, device: torch.device):
        self.watched = watched
        self.device = device
        self._queries: torch.Tensor | None = None  # (layers, rows, joints) of the last look

    def state_dict(self) -> dict[str, torch.Tensor | None]:
        """The last matching."""
        return {"queries": self._queries}

    def load_state_dict(self, state: dict[str, torch.Tensor | None]) -> None:
        """Go on from a saved state."""
        self._queries = state["queries"]

    def changes(self, model: nn.Module) -> dict[str, float]:
        """Match the probe once more, and say what has changed since the last time, see `changed_queries`.

        Nothing at the first look, and of a model of fixed alignment, which has no matching.
        """
        if not self.watched.probe or model.config.query_alignment != "set":
            return {}
        found = self._predict(model, self.watched.probe)
        queries = torch.cat([outputs.matched_queries.cpu() for outputs in found], dim=1)
        before, self._queries = self._queries, queries
        if before is None:
            return {}
        labels = [example["labels"] for example in self.watched.probe]
        labelled = torch.stack([label["joints_3d_valid"] | label["joints_2d_valid"] for label in labels])
        return changed_queries(before, queries, labelled)

    def _predict(self, model: nn.Module, examples: list[Example]) -> list[JointDetrPoseEstimationOutput]:
        """Run a model in evaluation mode."""
        starts = range(0, len(examples), BATCH_SIZE)
        batches = (collate_poses(examples[start : start + BATCH_SIZE]) for start in starts)
        with evaluating(model), torch.no_grad():
            return [model(**send_to_device(batch, self.device)) for batch in batches]

    def draw(self, model: nn.Module) -> Image.Image:
        """Draw the people with what is predicted for them; titles give the mean error of the labelled joints."""
        watched = self.watched
        found = self._predict(model, watched.people)
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


def _describe_error(joints: torch.Tensor, labels: dict[str, torch.Tensor]) -> str:
    errors = joint_errors(joints, labels["joints_3d"])[labels["joints_3d_valid"]]
    return f"{errors.mean():.0f} mm off" if len(errors) else "no label in 3D"


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode for a while."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
