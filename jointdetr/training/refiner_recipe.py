"""What a training run of the joint refinement network depends on."""

from dataclasses import dataclass, field
from typing import Any, Literal

from .recipe import DataSource


@dataclass(frozen=True)
class PredictionRecipe:
    """Further training on what a pose model says of pictures.

    Args:
        model: folder or Hub name of the pose model; null for none of this.
        sources: pose datasets with pictures and all joints labelled. The model should err on them as it does on new
            pictures: if it has learned them by heart, use others.
        batch_size: predictions per step.
        epochs: passes over the predictions.
        learning_rate: at the start; it falls to 0 along a half cosine.
    """

    model: str | None = None
    sources: list[DataSource] = field(default_factory=list)
    batch_size: int = 128
    epochs: int = 8
    learning_rate: float = 3e-4


@dataclass(frozen=True)
class RefinerRecipe:
    """A training run of the refinement network.

    Args:
        output: folder for the network and its evaluation.
        seed: of the weights, the skeletons and everything random.
        skeleton: name in `SKELETONS`, a JSON file of `formats/skeletons.py`, or a mapping with the same keys.
        config: arguments of `JointRefinerConfig` that differ from its defaults.
        synthetic: number of synthetic skeletons; they have Human3.6M's joints.
        preset: poses of the synthetic skeletons.
        sources: pose datasets, or skeletons without pictures as `jointdetr convert` makes them of motion capture, that
            are used as well; poses that lack a joint are left out.
        predictions: a pose model on whose own predictions the network is trained further.
        held_out: fraction of the skeletons, and of the predictions, kept for the evaluation.
        tilt_degrees: largest tilt and roll of the camera.
        noise_mm: largest deviation of the noise on the joints; each pose draws its own between 0 and this.
        expected_error: with `config.use_sigmas`, in place of `noise_mm`: how far off joints are expected to be, as a
            share of their way from the root along the bones. Noise and expected errors are drawn by it.
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
    predictions: PredictionRecipe = PredictionRecipe()
    held_out: float = 0.05
    tilt_degrees: float = 30.0
    noise_mm: float = 30.0
    expected_error: float = 0.17
    batch_size: int = 512
    epochs: int = 30
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
