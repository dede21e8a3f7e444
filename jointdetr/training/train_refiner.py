"""Training of the joint refinement network, on skeletons alone or on a pose model's own predictions after that.

Skeletons come from the synthetic body (Human3.6M's 17 joints), from pose datasets, or both. Each time one is used it
is seen by another camera: turned by any angle about the vertical, tilted and rolled a little, mirrored half of the
time; and it gets some noise, as detected joints have it. With `predictions.model` the network then learns from what
that pose model says of pictures, so that it undoes the errors this model makes. Building the result into a pose model:
`model.refiner` in the recipe of the model, or `JointDetrForPoseEstimation.set_refiner`.

Shape vocabulary: `poses` (N), `joints` (J). Positions are root-relative millimetres in camera axes: x right, y down,
z forward.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

from ..configuration_jointdetr import JointRefinerConfig
from ..evaluation.metrics import joint_errors, mpjpe
from ..refinement_jointdetr import JointRefiner
from .adaptation import skeleton_fields
from .model import resolve_skeleton
from .recipe import PredictionRecipe, RefinerRecipe, save_recipe
from .refiner_examples import (
    UNKNOWN_SHARE,
    RefinerExamples,
    disturb,
    gather_skeletons,
    predicted_examples,
    random_cameras,
    typical_bone_lengths,
)

_Examples = TypeVar("_Examples", torch.Tensor, RefinerExamples)


@dataclass(frozen=True)
class _Stage:
    """A part of the training."""

    name: str  # what is learned from, for the printed lines
    size: int  # number of examples
    draw: Callable[[torch.Tensor], RefinerExamples]  # the examples of the chosen numbers, each time others
    settings: RefinerRecipe | PredictionRecipe  # batch size, epochs and learning rate


def train_refiner(recipe: RefinerRecipe) -> tuple[JointRefiner, dict[str, float]]:
    """Train, evaluate and save a refinement network.

    Returns:
        The network, and mean errors in mm of what was held out, see `evaluate_on_skeletons` and
        `evaluate_on_predictions`.

    Raises:
        ValueError: There are no skeletons or predictions, or they are not of the recipe's skeleton.
    """
    skeleton = resolve_skeleton(recipe)
    generator = torch.Generator().manual_seed(recipe.seed + 2)
    torch.manual_seed(recipe.seed)
    held_out, poses = _split(gather_skeletons(recipe, skeleton), recipe)
    fields = skeleton_fields(skeleton) | {"bone_lengths": typical_bone_lengths(poses, skeleton)} | recipe.config
    refiner = JointRefiner(JointRefinerConfig(**fields))

    def draw_skeletons(chosen: torch.Tensor) -> RefinerExamples:
        truth = random_cameras(poses[chosen], skeleton, recipe.tilt_degrees, generator)
        return disturb(truth, skeleton, recipe, generator)

    _optimise(refiner, _Stage("skeletons", len(poses), draw_skeletons, recipe), recipe.weight_decay, generator)
    metrics = {}
    if recipe.predictions.model is not None:
        held_out_predictions, predictions = _split(predicted_examples(recipe.predictions, skeleton), recipe)

        def draw_predictions(chosen: torch.Tensor) -> RefinerExamples:
            return predictions[chosen].mirrored(skeleton, torch.rand(len(chosen), generator=generator) < 0.5)

        stage = _Stage("predictions", len(predictions), draw_predictions, recipe.predictions)
        _optimise(refiner, stage, recipe.weight_decay, generator)
        metrics = evaluate_on_predictions(refiner, held_out_predictions)
    metrics = evaluate_on_skeletons(refiner, held_out, recipe) | metrics
    refiner.save_pretrained(recipe.output)
    save_recipe(recipe, Path(recipe.output) / "recipe.yaml")
    (Path(recipe.output) / "evaluation.json").write_text(json.dumps(metrics, indent=2) + "\n")
    return refiner, metrics


def _split(values: _Examples, recipe: RefinerRecipe) -> tuple[_Examples, _Examples]:
    """Shuffle, and set the held-out part aside."""
    order = torch.randperm(len(values), generator=torch.Generator().manual_seed(recipe.seed))
    count = max(1, round(recipe.held_out * len(values)))
    return values[order[:count]], values[order[count:]]


def _optimise(refiner: JointRefiner, stage: _Stage, weight_decay: float, generator: torch.Generator) -> None:
    """Run AdamW over the examples of a stage."""
    settings = stage.settings
    optimizer = torch.optim.AdamW(refiner.parameters(), settings.learning_rate, weight_decay=weight_decay)
    total = settings.epochs * math.ceil(stage.size / settings.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(total, 1))
    refiner.train()
    for epoch in range(settings.epochs):
        losses = []
        for chosen in torch.randperm(stage.size, generator=generator).split(settings.batch_size):
            hidden = torch.rand(len(chosen), generator=generator) < UNKNOWN_SHARE
            examples = stage.draw(chosen).hiding_sigmas(hidden)
            loss = refiner(examples.joints, labels=examples.truth, sigmas=examples.sigmas).loss
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(refiner.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        error = f"error of trained joints {refiner.config.joint_scale * sum(losses) / len(losses):.1f} mm"
        print(f"{stage.name}: epoch {epoch + 1}/{settings.epochs}  {error}", flush=True)


def evaluate_on_skeletons(refiner: JointRefiner, poses: torch.Tensor, recipe: RefinerRecipe) -> dict[str, float]:
    """Measure on held-out upright skeletons (poses, joints, 3) how well missing joints are filled, noisy ones refined.

    Returns:
        Mean errors in mm: of missing joints at the midpoint of their neighbours (`replaced_midpoint`) and after
        refinement (`replaced_refined`), if any is missing; of the others before (`noisy`) and after (`noisy_refined`).
    """
    skeleton = resolve_skeleton(recipe)
    generator = torch.Generator().manual_seed(recipe.seed + 1)
    truth = random_cameras(poses, skeleton, recipe.tilt_degrees, generator)
    examples = disturb(truth, skeleton, recipe, generator)
    rate = refiner.config.selection_rate * refiner.config.replacement_rate
    missing = torch.rand(truth.shape[:2], generator=generator) < rate
    missing[:, refiner.config.root_joint] = False  # the origin is known
    with torch.no_grad():
        refined = refiner.eval()(examples.joints, missing=missing, sigmas=examples.sigmas).joints
        midpoint = refiner.replace_missing(examples.joints, missing)
    after, before = joint_errors(refined, truth), joint_errors(midpoint, truth)  # (poses, joints)
    parts = {"replaced_midpoint": (before, missing), "replaced_refined": (after, missing)}
    parts |= {"noisy": (before, ~missing), "noisy_refined": (after, ~missing)}
    return {name: errors[counted].mean().item() for name, (errors, counted) in parts.items() if counted.any()}


def evaluate_on_predictions(refiner: JointRefiner, examples: RefinerExamples) -> dict[str, float]:
    """Measure a pose model's own predictions: MPJPE in mm before refinement (`predicted`) and after it."""
    with torch.no_grad():
        refined = refiner.eval()(examples.joints, sigmas=examples.sigmas).joints
    joints = {"predicted": examples.joints, "predicted_refined": refined}
    return {name: mpjpe(found, examples.truth).item() for name, found in joints.items()}
