"""What the joint refinement network learns from: skeletons with errors put in, or a pose model's own predictions.

Shape vocabulary: `poses`, `examples` (N), `batch`, `joints` (J). Positions are root-relative millimetres in camera
axes: x right, y down, z forward.
"""

import dataclasses
import math
from dataclasses import dataclass

import torch

from ..camera_jointdetr import flip_joints, flip_permutation
from ..evaluation.prediction import EvaluationSettings, predict_rows
from ..image_processing_jointdetr import JointDetrImageProcessorPil
from ..modeling_jointdetr import JointDetrForPoseEstimation
from ..skeleton_jointdetr import HUMAN36M, Skeleton
from ..synthesis.body import load_body
from ..synthesis.poses import sample_skeletons
from ..synthesis.posing import rotation_about
from .recipe import DataSource, PredictionRecipe, RefinerRecipe
from .training_data import load_source

LABEL_COLUMNS = ("joints_3d", "joints_3d_valid", "skeleton")
_SYNTHESIS_BATCH = 512

UNKNOWN_SHARE = 0.1  # of the examples hide their expected errors, as models without a confidence head give none
SIGMA_SPREAD = 0.35  # of the logarithm of expected errors: between people, and again between the joints of one
# Largest deviation of noise along x, y and z, as a share of the expected error. Depth is harder to see. Noise of the
# full size would teach too much: a model knows already how people stand, and half of what can be undone in noise
# cannot be in the model's errors.
NOISE_SHARE = (0.85, 0.85, 1.2)


def gather_skeletons(recipe: RefinerRecipe, skeleton: Skeleton) -> torch.Tensor:
    """Collect all skeletons, upright in camera axes: `(poses, joints, 3)` root-relative mm.

    Raises:
        ValueError: There are fewer than two, or they are not of the given skeleton.
    """
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
    starts = range(0, count, _SYNTHESIS_BATCH)
    batches = [sample_skeletons(body, people[start : start + _SYNTHESIS_BATCH], preset) for start in starts]
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


def _ways_from_root(joints: torch.Tensor, skeleton: Skeleton) -> torch.Tensor:
    """Length of the bones between every joint and the root: `(batch, joints)` mm."""
    ways = torch.zeros(joints.shape[:2])
    for joint in range(len(skeleton.joints)):
        at = joint
        while skeleton.parents[at] >= 0:
            ways[:, joint] += (joints[:, at] - joints[:, skeleton.parents[at]]).norm(dim=-1)
            at = skeleton.parents[at]
    return ways


def draw_sigmas(
    joints: torch.Tensor, skeleton: Skeleton, expected_error: float, generator: torch.Generator
) -> torch.Tensor:
    """Draw how far off a pose model may expect joints to be: `(batch, joints, 3)` -> `(batch, joints)` mm.

    In the mean the given share of the way from the root along the bones: the farther out, the less sure.
    """
    spread = torch.randn(len(joints), 1, generator=generator) + torch.randn(joints.shape[:2], generator=generator)
    return expected_error * _ways_from_root(joints, skeleton) * torch.exp(SIGMA_SPREAD * spread)


def add_expected_noise(joints: torch.Tensor, sigmas: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Add Gaussian noise that is sized by the expected errors `(batch, joints)`, and most of the time smaller."""
    deviation = sigmas[..., None] * torch.rand(*sigmas.shape, 1, generator=generator) * torch.tensor(NOISE_SHARE)
    return joints + deviation * torch.randn(joints.shape, generator=generator)


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
        return RefinerExamples(*(getattr(self, field.name)[chosen] for field in dataclasses.fields(self)))

    def mirrored(self, skeleton: Skeleton, chosen: torch.Tensor) -> "RefinerExamples":
        """Mirror those examples for which `chosen` `(examples,)` is True."""
        order = flip_permutation(skeleton.flip_pairs, len(skeleton.joints))
        joints, truth = (flip_joints(positions, skeleton.flip_pairs) for positions in (self.joints, self.truth))
        return RefinerExamples(
            torch.where(chosen[:, None, None], joints, self.joints),
            torch.where(chosen[:, None], self.sigmas[:, order], self.sigmas),
            torch.where(chosen[:, None, None], truth, self.truth),
        )

    def hiding_sigmas(self, chosen: torch.Tensor) -> "RefinerExamples":
        """Hide the expected errors of those examples for which `chosen` `(examples,)` is True."""
        return dataclasses.replace(self, sigmas=self.sigmas.masked_fill(chosen[:, None], torch.nan))


def disturb(
    truth: torch.Tensor, skeleton: Skeleton, recipe: RefinerRecipe, generator: torch.Generator
) -> RefinerExamples:
    """Put errors into skeletons `(examples, joints, 3)`, with or without an expectation of their size.

    Without one the noise is Gaussian, of a deviation that each pose draws. Poses stay relative to their roots' true
    places.
    """
    if recipe.config.get("use_sigmas", False):
        sigmas = draw_sigmas(truth, skeleton, recipe.expected_error, generator)
        return RefinerExamples(add_expected_noise(truth, sigmas, generator), sigmas, truth)
    deviation = recipe.noise_mm * torch.rand(len(truth), 1, 1, generator=generator)
    noisy = truth + deviation * torch.randn(truth.shape, generator=generator)
    return RefinerExamples(noisy, torch.full(truth.shape[:2], torch.nan), truth)


def predicted_examples(recipe: PredictionRecipe, skeleton: Skeleton) -> RefinerExamples:
    """Let a pose model predict pictures whose truth is known; people who lack the label of a joint are left out.

    Raises:
        ValueError: There is no dataset, the model or a dataset is of another skeleton, or nobody is left.
    """
    if not recipe.sources:
        raise ValueError("`predictions.sources` must name pose datasets for `predictions.model`, got none")
    model = JointDetrForPoseEstimation.from_pretrained(recipe.model, dtype=torch.float32)
    if model.config.skeleton.joints != skeleton.joints:
        raise ValueError(f"`predictions.model` must have the joints of {skeleton.name!r}, got {recipe.model}")
    processor = JointDetrImageProcessorPil.from_pretrained(recipe.model)
    parts = [_predict(model, processor, source, skeleton) for source in recipe.sources]
    fields = zip(*(dataclasses.astuple(part) for part in parts), strict=True)
    examples = RefinerExamples(*(torch.cat(values) for values in fields))
    if len(examples) < 2:
        raise ValueError(f"`predictions.sources` must give at least 2 people with all joints, got {len(examples)}")
    return examples


def _predict(
    model: JointDetrForPoseEstimation, processor: JointDetrImageProcessorPil, source: DataSource, skeleton: Skeleton
) -> RefinerExamples:
    """Predict one dataset: each joint by its likeliest query, as the network fills others."""
    settings = EvaluationSettings(device="cuda" if torch.cuda.is_available() else "cpu")
    found = predict_rows(model, processor, load_source(source), skeleton, settings)
    poses, targets = found.poses.likeliest, found.targets
    sigmas = torch.full(poses.scores.shape, torch.nan) if poses.sigmas is None else poses.sigmas.float()
    complete = targets.valid.all(dim=1) & poses.joints.isfinite().all(dim=(1, 2))
    examples = RefinerExamples(poses.joints, sigmas, targets.joints)[complete]
    return examples[torch.arange(len(examples)).repeat(source.repeat)]
