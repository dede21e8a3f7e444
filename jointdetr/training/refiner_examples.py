"""What the joint refinement network learns from: skeletons with errors put in, or a pose model's own predictions.

Shape vocabulary: `examples` (N), `joints` (J). Positions are root-relative millimetres in camera axes.
"""

import dataclasses
from dataclasses import dataclass

import torch

from ..data.loading import load_pose_dataset
from ..evaluation.prediction import EvaluationSettings, Predictions, predict_rows
from ..geometry_jointdetr import flip_joints, flip_permutation
from ..image_processing_jointdetr import JointDetrImageProcessorPil
from ..modeling_jointdetr import JointDetrForPoseEstimation
from ..skeleton_jointdetr import Skeleton
from .recipe import DataSource
from .refiner_recipe import PredictionRecipe, RefinerRecipe
from .refiner_skeletons import add_expected_noise, add_noise, draw_sigmas

UNKNOWN_SHARE = 0.1
"""Share of the examples that hide their expected errors, as models without a confidence head give none."""


@dataclass(frozen=True)
class RefinerExamples:
    """Skeletons with errors beside the true ones.

    Args:
        joints: `(examples, joints, 3)` as detected, mm.
        sigmas: `(examples, joints)` expected errors in mm, NaN where unknown.
        truth: `(examples, joints, 3)` mm.
        visible: `(examples, joints)` bool, whether the joint is seen in the picture; True without one.
    """

    joints: torch.Tensor
    sigmas: torch.Tensor
    truth: torch.Tensor
    visible: torch.Tensor

    def __len__(self) -> int:
        return len(self.joints)

    def select(self, chosen: torch.Tensor) -> "RefinerExamples":
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
            torch.where(chosen[:, None], self.visible[:, order], self.visible),
        )

    def hiding_sigmas(self, chosen: torch.Tensor) -> "RefinerExamples":
        """Hide the expected errors of those examples for which `chosen` `(examples,)` is True."""
        return dataclasses.replace(self, sigmas=self.sigmas.masked_fill(chosen[:, None], torch.nan))


def disturb(
    truth: torch.Tensor, skeleton: Skeleton, recipe: RefinerRecipe, generator: torch.Generator
) -> RefinerExamples:
    """Put errors into skeletons `(examples, joints, 3)`, with or without an expectation of their size."""
    visible = torch.ones(truth.shape[:2], dtype=torch.bool)
    if not recipe.config.get("use_sigmas", False):
        unknown = torch.full(truth.shape[:2], torch.nan)
        return RefinerExamples(add_noise(truth, recipe.noise_mm, generator), unknown, truth, visible)
    sigmas = draw_sigmas(truth, skeleton, recipe.expected_error, generator)
    return RefinerExamples(add_expected_noise(truth, sigmas, generator), sigmas, truth, visible)


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
    """Predict one dataset."""
    rows = load_pose_dataset(source.path, source.split)
    rows = rows if source.limit is None else rows.select(range(min(source.limit, len(rows))))
    settings = EvaluationSettings(device="cuda" if torch.cuda.is_available() else "cpu")
    examples = as_examples(predict_rows(model, processor, rows, skeleton, settings))
    return examples.select(torch.arange(len(examples)).repeat(source.repeat))


def as_examples(found: Predictions) -> RefinerExamples:
    """Turn a model's predictions into examples: each joint by its likeliest query, as the network fills others."""
    poses = found.poses.likeliest
    sigmas = torch.full(poses.scores.shape, torch.nan) if poses.sigmas is None else poses.sigmas.float()
    examples = RefinerExamples(poses.joints, sigmas, found.targets.joints, found.targets.visible)
    return examples.select(found.targets.valid.all(dim=1) & poses.joints.isfinite().all(dim=(1, 2)))
