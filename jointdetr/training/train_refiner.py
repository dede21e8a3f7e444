"""Training of the joint refinement network, on skeletons alone.

`python -m jointdetr.training.train_refiner --config refiner [key=value ...]`

Skeletons come from the synthetic body (Human3.6M's 17 joints), from pose datasets, or both. Each time one is used it
is seen by another camera: turned by any angle about the vertical, tilted and rolled a little, mirrored half of the
time; and it gets some noise, as detected joints have it. Building the result into a pose model: `model.refiner` in the
recipe of the model, or `JointDetrForPoseEstimation.set_refiner`.

Shape vocabulary: `poses` (N), `batch`, `joints` (J). Positions are root-relative millimetres in camera axes: x right,
y down, z forward.
"""

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from ..configuration_jointdetr import JointRefinerConfig
from ..data.loading import load_pose_dataset
from ..geometry_jointdetr import flip_joints
from ..refinement_jointdetr import JointRefiner
from ..skeleton_jointdetr import HUMAN36M, Skeleton
from .metrics import joint_errors
from .recipe import DataSource, load_recipe, save_recipe
from .train import resolve_skeleton

LABEL_COLUMNS = ("joints_3d", "joints_3d_valid", "skeleton")
_SYNTHESIS_BATCH = 512


@dataclass(frozen=True)
class RefinerRecipe:
    """A training run of the refinement network.

    Args:
        output: folder for the network and its evaluation.
        seed: of the weights, the skeletons and everything random.
        skeleton: name in `SKELETONS`, a JSON file of `data/skeleton_files.py`, or a mapping with the same keys.
        config: arguments of `JointRefinerConfig` that differ from its defaults.
        synthetic: number of synthetic skeletons; they have Human3.6M's joints.
        preset: poses of the synthetic skeletons.
        sources: pose datasets, or skeletons without pictures as `jointdetr convert` makes them of motion capture, that
            are used as well; poses that lack a joint are left out.
        held_out: fraction of the skeletons kept for the evaluation.
        tilt_degrees: largest tilt and roll of the camera.
        noise_mm: largest deviation of the noise on the joints; each pose draws its own between 0 and this.
        batch_size: skeletons per step.
        epochs: passes over the skeletons.
        learning_rate: at the start; it falls to 0 along a half cosine.
        weight_decay: of AdamW.
    """

    output: str = "runs/refiner"
    seed: int = 0
    skeleton: str | dict[str, Any] = "human36m"
    config: dict[str, Any] = field(default_factory=dict)
    synthetic: int = 50000
    preset: Literal["everyday", "everything"] = "everything"
    sources: list[DataSource] = field(default_factory=list)
    held_out: float = 0.05
    tilt_degrees: float = 30.0
    noise_mm: float = 30.0
    batch_size: int = 512
    epochs: int = 30
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4


@dataclass(frozen=True)
class RefinerMetrics:
    """Mean errors in mm on held-out skeletons.

    Args:
        replaced_refined: of missing joints, after refinement.
        replaced_midpoint: of missing joints at the midpoint of their neighbours, before refinement.
        noisy_refined: of the other joints, after refinement.
        noisy: of the other joints, before refinement: the noise alone.
    """

    replaced_refined: float
    replaced_midpoint: float
    noisy_refined: float
    noisy: float


def train_refiner(recipe: RefinerRecipe) -> tuple[JointRefiner, RefinerMetrics]:
    """Train, evaluate and save a refinement network.

    Args:
        recipe: the run.

    Raises:
        ValueError: There are no skeletons, or they are not of the recipe's skeleton.
    """
    skeleton = resolve_skeleton(recipe)
    poses = gather_skeletons(recipe, skeleton)
    torch.manual_seed(recipe.seed)
    generator = torch.Generator().manual_seed(recipe.seed)
    poses = poses[torch.randperm(len(poses), generator=generator)]
    num_held_out = max(1, round(recipe.held_out * len(poses)))
    held_out, training = poses[:num_held_out], poses[num_held_out:]
    fields = {
        "id2label": dict(enumerate(skeleton.joints)),
        "joint_parents": list(skeleton.parents),
        "root_joint": skeleton.root,
    }
    refiner = JointRefiner(JointRefinerConfig(**{**fields, **recipe.config}))
    _optimise(refiner, training, skeleton, recipe)
    metrics = evaluate_refiner(refiner, held_out, recipe)
    output = Path(recipe.output)
    refiner.save_pretrained(output)
    save_recipe(recipe, output / "recipe.yaml")
    (output / "evaluation.json").write_text(json.dumps(vars(metrics), indent=2) + "\n")
    return refiner, metrics


def gather_skeletons(recipe: RefinerRecipe, skeleton: Skeleton) -> torch.Tensor:
    """Collect all skeletons, upright in camera axes: `(poses, joints, 3)` root-relative mm."""
    parts = []
    if recipe.synthetic > 0:
        if skeleton.joints != HUMAN36M.joints:
            raise ValueError(f"synthetic skeletons have the joints of {HUMAN36M.name!r}, expected {skeleton.name!r}")
        parts.append(synthetic_skeletons(recipe.synthetic, recipe.seed, recipe.preset))
    for source in recipe.sources:
        rows = load_pose_dataset(source.path, source.split, columns=LABEL_COLUMNS)
        count = len(rows) if source.limit is None else min(source.limit, len(rows))
        columns = rows.select_columns(list(LABEL_COLUMNS))[:count]
        if set(columns["skeleton"]) != {skeleton.name}:
            raise ValueError(f"{source.path} must be of skeleton {skeleton.name!r}, got {set(columns['skeleton'])}")
        joints = torch.tensor(columns["joints_3d"])[torch.tensor(columns["joints_3d_valid"]).all(dim=1)]
        parts += [joints - joints[:, skeleton.root, None]] * source.repeat
    if sum(len(part) for part in parts) < 2:
        raise ValueError("`synthetic` and `sources` must give at least 2 complete skeletons")
    return torch.cat(parts)


def synthetic_skeletons(count: int, seed: int, preset: str) -> torch.Tensor:
    """Draw skeletons of the synthetic body, upright in camera axes: `(count, 17, 3)` mm relative to the pelvis."""
    from ..synthesis.body import load_body
    from ..synthesis.poses import sample_skeletons

    body = load_body()
    first = seed * 10_000_000  # runs of different seeds share no person
    batches = [
        sample_skeletons(body, range(first + start, first + min(start + _SYNTHESIS_BATCH, count)), preset)
        for start in range(0, count, _SYNTHESIS_BATCH)
    ]
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
    rotation = _rotation(roll, 2) @ _rotation(tilt, 0) @ _rotation(turn, 1)  # (batch, 3, 3)
    return poses @ rotation.transpose(-1, -2)


def evaluate_refiner(refiner: JointRefiner, poses: torch.Tensor, recipe: RefinerRecipe) -> RefinerMetrics:
    """Measure how well missing joints are filled and noisy ones refined.

    Args:
        refiner: the network.
        poses: `(poses, joints, 3)` held-out skeletons, upright.
        recipe: gives the cameras, the noise and the seed.
    """
    generator = torch.Generator().manual_seed(recipe.seed + 1)
    truth = random_cameras(poses, resolve_skeleton(recipe), recipe.tilt_degrees, generator)
    noisy = _add_noise(truth, recipe.noise_mm, generator)
    rate = refiner.config.selection_rate * refiner.config.replacement_rate
    missing = torch.rand(truth.shape[:2], generator=generator) < rate
    missing[:, refiner.config.root_joint] = False  # the origin is known
    with torch.no_grad():
        refined = refiner.eval()(noisy, missing=missing).joints
        midpoint = refiner.replace_missing(noisy, missing)
    after, before = joint_errors(refined, truth), joint_errors(midpoint, truth)  # (poses, joints)
    return RefinerMetrics(
        replaced_refined=after[missing].mean().item(),
        replaced_midpoint=before[missing].mean().item(),
        noisy_refined=after[~missing].mean().item(),
        noisy=before[~missing].mean().item(),
    )


def _optimise(refiner: JointRefiner, poses: torch.Tensor, skeleton: Skeleton, recipe: RefinerRecipe) -> None:
    """Run AdamW over the skeletons."""
    generator = torch.Generator().manual_seed(recipe.seed + 2)
    optimizer = torch.optim.AdamW(refiner.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay)
    total = recipe.epochs * math.ceil(len(poses) / recipe.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(total, 1))
    refiner.train()
    for epoch in range(recipe.epochs):
        losses = []
        for chosen in torch.randperm(len(poses), generator=generator).split(recipe.batch_size):
            truth = random_cameras(poses[chosen], skeleton, recipe.tilt_degrees, generator)
            noisy = _add_noise(truth, recipe.noise_mm, generator)
            loss = refiner(noisy, labels=truth).loss
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(refiner.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        mean_mm = refiner.config.joint_scale * sum(losses) / len(losses)
        print(f"epoch {epoch + 1}/{recipe.epochs}  error of selected joints {mean_mm:.1f} mm", flush=True)


def _add_noise(joints: torch.Tensor, noise_mm: float, generator: torch.Generator) -> torch.Tensor:
    """Add Gaussian noise of a deviation that each pose draws; the pose stays relative to its root's true place."""
    deviation = noise_mm * torch.rand(len(joints), 1, 1, generator=generator)
    return joints + deviation * torch.randn(joints.shape, generator=generator)


def _rotation(angle: torch.Tensor, axis: int) -> torch.Tensor:
    """Rotation about a coordinate axis: `(batch,)` radians -> `(batch, 3, 3)`."""
    first, second = (axis + 1) % 3, (axis + 2) % 3
    rotation = torch.zeros(len(angle), 3, 3)
    rotation[:, axis, axis] = 1.0
    rotation[:, first, first] = rotation[:, second, second] = torch.cos(angle)
    rotation[:, first, second], rotation[:, second, first] = -torch.sin(angle), torch.sin(angle)
    return rotation


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Train a joint refinement network from a recipe.")
    parser.add_argument("--config", required=True, help="YAML file, or the name of a recipe of the package")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    options = parser.parse_intermixed_args(arguments)
    recipe = load_recipe(options.config, options.overrides, RefinerRecipe)
    _, metrics = train_refiner(recipe)
    for name, value in vars(metrics).items():
        print(f"{name} {value:.1f} mm")
    print(f"saved {recipe.output}")


if __name__ == "__main__":
    main()
