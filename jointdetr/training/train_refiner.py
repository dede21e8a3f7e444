"""Training of the joint refinement network, on skeletons alone or on a pose model's own predictions after that.

Skeletons come from the synthetic body (Human3.6M's 17 joints), from pose datasets, or both. Each time one is used it
is seen by another camera: turned by any angle about the vertical, tilted and rolled a little, mirrored half of the
time; and it gets some noise, as detected joints have it. With `predictions.model` the network then learns from what
that pose model says of pictures, so that it undoes the errors this model makes.

Shape vocabulary: `poses`, `examples` (N), `batch`, `joints` (J). Positions are root-relative millimetres in camera
axes: x right, y down, z forward.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch

from ..camera_jointdetr import flip_joints, flip_permutation
from ..configuration_jointdetr import JointRefinerConfig
from ..evaluation.metrics import joint_errors, mpjpe
from ..evaluation.prediction import EvaluationSettings, predict_rows
from ..image_processing_jointdetr import JointDetrImageProcessorPil
from ..modeling_jointdetr import JointDetrForPoseEstimation
from ..refinement_jointdetr import JointRefiner
from ..skeleton_jointdetr import HUMAN36M, Skeleton
from ..synthesis.body import load_body
from ..synthesis.poses import sample_skeletons
from ..synthesis.posing import rotation_about
from ..synthesis.postures import choose, combine, some_of
from .adaptation import skeleton_fields
from .model import resolve_skeleton
from .recipe import PredictionRecipe, RefinerRecipe, save_recipe
from .training_data import load_source

LABEL_COLUMNS = ("joints_3d", "joints_3d_valid", "skeleton")
SYNTHESIS_BATCH = 512
UNKNOWN_SHARE = 0.1  # of the examples hide their expected errors, as models without a confidence head give none
SIGMA_SPREAD = 0.35  # of the logarithm of expected errors: between people, and again between the joints of one
# Largest deviation of noise along x, y and z, as a share of the expected error. Depth is harder to see. Noise of the
# full size would teach too much: a model knows already how people stand, and half of what can be undone in noise
# cannot be in the model's errors.
NOISE_SHARE = (0.85, 0.85, 1.2)


def gather_skeletons(recipe: RefinerRecipe, skeleton: Skeleton) -> torch.Tensor:
    """Collect all skeletons, upright in camera axes: `(poses, joints, 3)` root-relative mm."""
    parts = []
    if recipe.synthetic > 0:
        if skeleton.joints != HUMAN36M.joints:
            raise ValueError(f"synthetic skeletons have the joints of {HUMAN36M.name!r}, expected {skeleton.name!r}")
        parts.append(synthetic_skeletons(recipe.synthetic, recipe.seed, recipe.preset))
    for source in recipe.sources:
        columns = load_source(source, columns=LABEL_COLUMNS).select_columns(list(LABEL_COLUMNS))[:]
        if set(columns["skeleton"]) != {skeleton.name}:
            raise ValueError(f"{source.path} must be of skeleton {skeleton.name!r}, got {set(columns['skeleton'])}")
        joints = torch.tensor(columns["joints_3d"])[torch.tensor(columns["joints_3d_valid"]).all(dim=1)]
        parts += [joints - joints[:, skeleton.root, None]] * source.repeat
    if sum(len(part) for part in parts) < 2:
        raise ValueError("`synthetic` and `sources` must give at least 2 complete skeletons")
    return torch.cat(parts)


def typical_bone_lengths(poses: torch.Tensor, skeleton: Skeleton) -> list[float]:
    """Median length in mm of the bone that ends in each joint of `(poses, joints, 3)`, 0 at the root."""
    parents = [joint if parent < 0 else parent for joint, parent in enumerate(skeleton.parents)]
    lengths = (poses - poses[:, parents]).norm(dim=-1)  # (poses, joints)
    return [round(length, 1) for length in lengths.median(dim=0).values.tolist()]


def synthetic_skeletons(count: int, seed: int, preset: str) -> torch.Tensor:
    """Draw skeletons of the synthetic body, upright in camera axes: `(count, 17, 3)` mm relative to the pelvis."""
    body = load_body()
    people = range(seed * 10_000_000, seed * 10_000_000 + count)  # runs of different seeds share no person
    starts = range(0, count, SYNTHESIS_BATCH)
    batches = [sample_skeletons(body, people[start : start + SYNTHESIS_BATCH], preset) for start in starts]
    x, y, z = torch.cat(batches).float().unbind(dim=-1)  # z up
    return torch.stack([x, -z, y], dim=-1)


def random_cameras(
    poses: torch.Tensor, skeleton: Skeleton, tilt_degrees: float, generator: torch.Generator
) -> torch.Tensor:
    """See every pose by another camera, and half of them in a mirror: `(batch, joints, 3)` -> the same shape."""
    batch = len(poses)
    mirrored = torch.rand(batch, 1, 1, generator=generator) < 0.5
    poses = torch.where(mirrored, flip_joints(poses, skeleton.flip_pairs), poses)
    limits = torch.tensor([math.pi, math.radians(tilt_degrees), math.radians(tilt_degrees)])
    turn, tilt, roll = ((2 * torch.rand(batch, 3, generator=generator) - 1) * limits).unbind(dim=-1)
    rotation = rotation_about("z", roll) @ rotation_about("x", tilt) @ rotation_about("y", turn)  # (batch, 3, 3)
    return poses @ rotation.transpose(-1, -2)


def draw_sigmas(
    joints: torch.Tensor, skeleton: Skeleton, expected_error: float, generator: torch.Generator
) -> torch.Tensor:
    """Draw how far off a pose model may expect joints to be: `(batch, joints, 3)` -> `(batch, joints)` mm.

    In the mean the given share of the way from the root along the bones: the farther out, the less sure.
    """
    ways = torch.zeros(joints.shape[:2])  # lengths of the bones between every joint and the root
    for joint in range(len(skeleton.joints)):
        at = joint
        while (parent := skeleton.parents[at]) >= 0:
            ways[:, joint] += (joints[:, at] - joints[:, parent]).norm(dim=-1)
            at = parent
    spread = torch.randn(len(joints), 1, generator=generator) + torch.randn(joints.shape[:2], generator=generator)
    return expected_error * ways * torch.exp(SIGMA_SPREAD * spread)


@dataclass(frozen=True)
class RefinerExamples:
    """Skeletons with errors beside the true ones."""

    joints: torch.Tensor  # (examples, joints, 3) as detected, mm
    sigmas: torch.Tensor  # (examples, joints) expected errors in mm, NaN where unknown
    truth: torch.Tensor  # (examples, joints, 3) mm

    def __len__(self) -> int:
        return len(self.joints)

    def __getitem__(self, chosen: torch.Tensor) -> "RefinerExamples":
        """Take some of the examples, by their numbers or a mask."""
        return some_of(self, chosen)

    def mirrored(self, skeleton: Skeleton, chosen: torch.Tensor) -> "RefinerExamples":
        """Mirror those examples for which `chosen` `(examples,)` is True."""
        joints, truth = (flip_joints(positions, skeleton.flip_pairs) for positions in (self.joints, self.truth))
        sigmas = self.sigmas[:, flip_permutation(skeleton.flip_pairs, len(skeleton.joints))]
        return choose(chosen, RefinerExamples(joints, sigmas, truth), self)


def disturb(
    truth: torch.Tensor, skeleton: Skeleton, recipe: RefinerRecipe, generator: torch.Generator
) -> RefinerExamples:
    """Put errors into skeletons `(examples, joints, 3)`: expected ones, or noise of a deviation that each pose draws.

    Poses stay relative to their roots' true places.
    """
    if recipe.config.get("use_sigmas", False):
        sigmas = draw_sigmas(truth, skeleton, recipe.expected_error, generator)
        deviation = sigmas[..., None] * torch.rand(*sigmas.shape, 1, generator=generator) * torch.tensor(NOISE_SHARE)
    else:
        sigmas = torch.full(truth.shape[:2], torch.nan)
        deviation = recipe.noise_mm * torch.rand(len(truth), 1, 1, generator=generator)
    return RefinerExamples(truth + deviation * torch.randn(truth.shape, generator=generator), sigmas, truth)


def predicted_examples(recipe: PredictionRecipe, skeleton: Skeleton) -> RefinerExamples:
    """Let a pose model predict pictures whose truth is known; people who lack the label of a joint are left out."""
    if not recipe.sources:
        raise ValueError("`predictions.sources` must name pose datasets for `predictions.model`, got none")
    model = JointDetrForPoseEstimation.from_pretrained(recipe.model, dtype=torch.float32)
    if model.config.skeleton.joints != skeleton.joints:
        raise ValueError(f"`predictions.model` must have the joints of {skeleton.name!r}, got {recipe.model}")
    processor = JointDetrImageProcessorPil.from_pretrained(recipe.model)
    settings, parts = EvaluationSettings(device="cuda" if torch.cuda.is_available() else "cpu"), []
    for source in recipe.sources:
        found = predict_rows(model, processor, load_source(source), skeleton, settings)
        poses, targets = found.poses.likeliest, found.targets  # each joint by its likeliest query
        sigmas = torch.full(poses.scores.shape, torch.nan) if poses.sigmas is None else poses.sigmas.float()
        complete = targets.valid.all(dim=1) & poses.joints.isfinite().all(dim=(1, 2))
        parts += [RefinerExamples(poses.joints, sigmas, targets.joints)[complete]] * source.repeat
    examples = combine(lambda *values: torch.cat(values), *parts)
    if len(examples) < 2:
        raise ValueError(f"`predictions.sources` must give at least 2 people with all joints, got {len(examples)}")
    return examples


_Examples = TypeVar("_Examples", torch.Tensor, RefinerExamples)


def train_refiner(recipe: RefinerRecipe) -> tuple[JointRefiner, dict[str, float]]:
    """Train, evaluate and save a refinement network; returns it and mean errors in mm of what was held out.

    Raises:
        ValueError: There are no skeletons or predictions, or they are not of the recipe's skeleton.
    """
    skeleton = resolve_skeleton(recipe)
    generator = torch.Generator().manual_seed(recipe.seed + 2)
    torch.manual_seed(recipe.seed)
    held_out, poses = _split(gather_skeletons(recipe, skeleton), recipe)
    fields = skeleton_fields(skeleton) | {"bone_lengths": typical_bone_lengths(poses, skeleton)} | recipe.config
    refiner = JointRefiner(JointRefinerConfig(**fields))

    def see_and_disturb(truth: torch.Tensor) -> RefinerExamples:
        return disturb(random_cameras(truth, skeleton, recipe.tilt_degrees, generator), skeleton, recipe, generator)

    def mirror(examples: RefinerExamples) -> RefinerExamples:
        return examples.mirrored(skeleton, torch.rand(len(examples), generator=generator) < 0.5)

    _optimise(refiner, poses, see_and_disturb, recipe, generator)
    metrics = {}
    if recipe.predictions.model is not None:
        held_out_predictions, predictions = _split(predicted_examples(recipe.predictions, skeleton), recipe)
        further = {name: getattr(recipe.predictions, name) for name in ("batch_size", "epochs", "learning_rate")}
        _optimise(refiner, predictions, mirror, replace(recipe, **further), generator)
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


def _optimise(
    refiner: JointRefiner,
    given: _Examples,
    vary: Callable[[_Examples], RefinerExamples],
    settings: RefinerRecipe,
    generator: torch.Generator,
) -> None:
    """Run AdamW over skeletons (poses, joints, 3) or predictions, which are varied each time that they are used."""
    name = "skeletons" if isinstance(given, torch.Tensor) else "predictions"
    optimizer = torch.optim.AdamW(refiner.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    total = settings.epochs * math.ceil(len(given) / settings.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(total, 1))
    refiner.train()
    for epoch in range(settings.epochs):
        losses = []
        for chosen in torch.randperm(len(given), generator=generator).split(settings.batch_size):
            hidden = torch.rand(len(chosen), generator=generator) < UNKNOWN_SHARE
            examples = vary(given[chosen])
            sigmas = examples.sigmas.masked_fill(hidden[:, None], torch.nan)
            loss = refiner(examples.joints, labels=examples.truth, sigmas=sigmas).loss
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(refiner.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        error = f"error of trained joints {refiner.config.joint_scale * sum(losses) / len(losses):.1f} mm"
        print(f"{name}: epoch {epoch + 1}/{settings.epochs}  {error}", flush=True)


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
