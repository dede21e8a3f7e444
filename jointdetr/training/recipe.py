"""Recipes: everything that a training run depends on, in one YAML file with a checked type for every key.

A file names only what differs from the defaults below, or from another file or recipe of the package that it names by
`extends`. docs/training.md describes every key at length.
"""

import dataclasses
import types
import typing
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from .augmentation import Augmentation

RECIPES = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class DataSource:
    """A pose dataset."""

    path: str  # parquet file, folder, or name on the Hub
    split: str = "train"
    repeat: int = 1  # how often each row occurs in an epoch; not with streaming
    weight: float = 1.0  # how often it is drawn from, relative to the other sources; with streaming alone
    map_skeleton: bool = False  # map the joints of another skeleton to the recipe's; with streaming alone
    limit: int | None = None  # use the first so many rows


@dataclass(frozen=True)
class ModelRecipe:
    """The model to train, and the weights that it starts from; each is a folder or a name on the Hub."""

    config: dict[str, Any] = field(default_factory=dict)  # arguments of `JointDetrConfig` beside the skeleton
    init_from: str | None = None  # a model to go on from; `config` overrides its own
    backbone_from: str | None = None  # a backbone with trained weights; replaces that of `init_from`
    deformable_detr_from: str | None = None  # a Deformable DETR, whose sizes are taken over
    refiner: str | None = None  # a trained `JointRefiner` to build in; it is not trained further


@dataclass(frozen=True)
class InputRecipe:
    """The network's input; saved with the model as its image processor."""

    height: int = 256  # px
    width: int = 256
    padding: float = 1.25  # factor on the person's box


@dataclass(frozen=True)
class SynthesisRecipe:
    """Synthetic people with Human3.6M's joints who are drawn as training goes on, so that nobody is seen twice."""

    weight: float = 1.0  # how often they are drawn, relative to the weights of the sources
    size: int = 256  # width and height of the pictures in px; half as much again as the input is enough
    preset: Literal["everyday", "everything", "nobody"] = "everyday"
    supersampling: int = 1  # rays along each edge of a pixel
    motions: str | None = None  # folder of CMU motion capture to take half of the poses from
    at_once: int = 32  # people who are posed and rendered in one go, by each worker
    device: Literal["auto", "cpu"] = "auto"  # `auto` renders where the model is trained if that is a CUDA GPU


@dataclass(frozen=True)
class TrainData:
    """What to train on."""

    sources: list[DataSource] = field(default_factory=list)
    synthesis: SynthesisRecipe | None = None  # drawn instead of the sources or besides them; makes the data a stream
    workers: int = 1  # processes that load (or draw) and augment; with 0 the training process does
    streaming: bool = False  # read rows as they are needed and draw them from the sources by weight, without end
    shuffle_buffer: int = 1000  # rows of each source and worker that are held to be shuffled, with streaming

    @property
    def is_stream(self) -> bool:
        """Whether the data have no end and no order of their own."""
        return self.streaming or self.synthesis is not None


@dataclass(frozen=True)
class OptimizerRecipe:
    """AdamW and its parameter groups."""

    learning_rate: float = 2e-4  # at the peak, for everything without a multiplier
    backbone_multiplier: float = 0.1  # 0.1 for a pretrained backbone, 1.0 from scratch
    sampling_multiplier: float = 0.1  # of reference points and sampling offsets, as in Deformable DETR
    weight_decay: float = 1e-4  # on weights; norms, biases and embeddings have none
    beta2: float = 0.999  # decay of the second moment
    clip_norm: float = 0.1  # largest norm of the gradient


@dataclass(frozen=True)
class ScheduleRecipe:
    """How long, and the learning rate on the way: linear warm-up, then a half cosine down to the end, or steps.

    The run ends at whatever comes first, and the rate follows whichever is furthest.
    """

    epochs: float = 50.0
    max_steps: int | None = None  # optimiser steps
    max_minutes: float | None = None  # wall-clock time, evaluations included and summed over resumed runs
    warmup_steps: int = 500
    shape: Literal["cosine", "step"] = "cosine"
    final_fraction: float = 0.01  # of the peak rate, at the end of a cosine
    step_fractions: list[float] = field(default_factory=lambda: [0.8])  # of the run, at which the rate falls by a step
    step_factor: float = 0.1  # what it is multiplied by at each


@dataclass(frozen=True)
class EvaluationRecipe:
    """Held-out evaluation during training and at its end."""

    sources: list[DataSource] = field(default_factory=list)  # none for no evaluation
    every_epochs: int = 1  # 0 for the end alone; streams have no epochs
    every_steps: int = 0  # in optimiser steps, besides
    batch_size: int = 64
    threshold: float = 0.5  # joints with a smaller score are guesses


@dataclass(frozen=True)
class Recipe:
    """A training run."""

    output: str = "runs/jointdetr"  # folder for checkpoints and, in `final`, the model with its image processor
    seed: int = 0  # of the weights, the order of the data and the augmentation
    skeleton: str | dict[str, Any] = "human36m"  # name in `SKELETONS`, JSON file, or a mapping with the same keys
    model: ModelRecipe = ModelRecipe()
    input: InputRecipe = InputRecipe()
    train: TrainData = TrainData()
    augmentation: Augmentation = Augmentation()
    optimizer: OptimizerRecipe = OptimizerRecipe()
    schedule: ScheduleRecipe = ScheduleRecipe()
    evaluation: EvaluationRecipe = EvaluationRecipe()
    batch_size: int = 32  # crops per process and step
    accumulation: int = 1  # batches per optimiser step
    precision: Literal["fp32", "bf16"] = "fp32"  # `bf16` runs the network under autocast, on a CPU too
    device: Literal["auto", "cpu"] = "auto"
    channels_last: bool = False  # faster convolutions on CPUs
    gradient_checkpointing: bool = False  # less memory, more time, the same gradients
    compile: bool = False
    average_decay: float = 0.999  # of the moving average of the weights, which is evaluated and saved; 0 for none
    checkpoint_minutes: float = 15.0  # between checkpoints to resume from
    log_steps: int = 50  # optimiser steps between lines of the log
    watch_steps: int | None = None  # steps between pictures of a few people; null for 1000, 0 for none
    report_to: str = "trackio"  # a tracker of Accelerate; `none` for the console alone


@dataclass(frozen=True)
class PredictionRecipe:
    """Further training of the refinement network on what a pose model says of pictures.

    The model should err on them as it does on new pictures: if it has learned them by heart, use others.
    """

    model: str | None = None  # folder or Hub name of the pose model; null for none of this
    sources: list[DataSource] = field(default_factory=list)  # with pictures and all joints labelled
    batch_size: int = 128
    epochs: int = 8
    learning_rate: float = 3e-4  # at the start; it falls to 0 along a half cosine


@dataclass(frozen=True)
class RefinerRecipe:
    """A training run of the refinement network."""

    output: str = "runs/refiner"  # folder for the network and its evaluation
    seed: int = 0  # of the weights, the skeletons and everything random
    skeleton: str | dict[str, Any] = "human36m"  # as in `Recipe`
    config: dict[str, Any] = field(default_factory=dict)  # arguments of `JointRefinerConfig`
    synthetic: int = 50000  # synthetic skeletons, which have Human3.6M's joints
    preset: Literal["everyday", "everything"] = "everything"  # poses of the synthetic skeletons
    sources: list[DataSource] = field(default_factory=list)  # with or without pictures; all joints must be labelled
    predictions: PredictionRecipe = PredictionRecipe()
    held_out: float = 0.05  # fraction of the skeletons, and of the predictions, kept for the evaluation
    tilt_degrees: float = 30.0  # largest tilt and roll of the camera
    noise_mm: float = 30.0  # largest deviation of the noise; each pose draws its own between 0 and this
    expected_error: float = 0.17  # with `config.use_sigmas`, instead: share of the way along the bones to the root
    batch_size: int = 512
    epochs: int = 30
    learning_rate: float = 1e-3  # at the start; it falls to 0 along a half cosine
    weight_decay: float = 1e-4


def load_recipe(path: str | Path, overrides: Sequence[str] = (), kind: type = Recipe) -> Any:
    """Read a `kind` of recipe from a YAML file, or from the package by its bare name, such as `synthetic-tiny`.

    `overrides` are `section.key=value` strings that replace keys of the file. A `ValueError` names the key that is
    unknown or has a value of the wrong type, or the file that does not exist.
    """
    values = _read_file(Path(path))
    for override in overrides:
        name, equals, text = override.partition("=")
        if not equals:
            raise ValueError(f"an override must look like section.key=value, got {override!r}")
        *sections, key = name.split(".")
        place = values
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise ValueError(f"`{section}` in the override {override!r} is no section")
        place[key] = _read_yaml(text, f"the value of the override {override!r}")
    return build(kind, values)


def save_recipe(recipe: Any, path: str | Path) -> None:
    """Write a recipe with all its keys."""
    Path(path).write_text(yaml.safe_dump(dataclasses.asdict(recipe), sort_keys=False))


def build(kind: Any, value: Any, where: str = "") -> Any:
    """Make a value of an annotated type from what YAML gave; `where` is the dotted name of its key."""
    members = typing.get_args(kind)
    if isinstance(kind, types.UnionType):  # in which no two are mappings
        fitting = [member for member in members if isinstance(value, typing.get_origin(member) or member)]
        return build(fitting[0] if fitting else members[0], value, where)
    if dataclasses.is_dataclass(kind):
        return _build_dataclass(kind, value, where)
    plain = typing.get_origin(kind) or kind
    if plain is float and type(value) in (int, str):  # whole numbers, and `1e-4`, which is a string to YAML
        with suppress(ValueError):
            value = float(value)
    fits = value in members if plain is Literal else type(value) is plain
    if not fits:
        expected = f"one of {list(members)}" if plain is Literal else f"of type {plain.__name__}"
        raise ValueError(f"`{where}` must be {expected}, got {value!r}")
    if plain is list:
        return [build(members[0], item, f"{where}[{index}]") for index, item in enumerate(value)]
    return value


def _build_dataclass(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"`{where or 'the recipe'}` must be a mapping, got {value!r}")
    hints = typing.get_type_hints(kind)
    prefix = f"{where}." if where else ""
    for key in value:
        if key not in hints:
            raise ValueError(f"unknown key `{prefix}{key}`; expected one of {sorted(hints)}")
    for item in dataclasses.fields(kind):
        if item.default is item.default_factory is dataclasses.MISSING and item.name not in value:
            raise ValueError(f"`{prefix}{item.name}` is required")
    return kind(**{key: build(hints[key], item, prefix + key) for key, item in value.items()})


def _read_file(path: Path) -> dict[str, Any]:
    """Read the keys of a file, and those of the file or recipe that it `extends` where it has none of its own."""
    if not path.is_file():
        own = RECIPES / f"{path}.yaml"
        if not own.is_file():
            names = sorted(recipe.stem for recipe in RECIPES.glob("*.yaml"))
            raise ValueError(f"a recipe must be a YAML file or one of {names}, got {path}")
        path = own
    values = _read_yaml(path.read_text(), str(path))
    if not isinstance(values, dict):
        raise ValueError(f"{path} must hold a mapping, got {values!r}")
    if (base := values.pop("extends", None)) is None:
        return values
    beside = path.parent / str(base)
    return _merged(_read_file(beside if beside.is_file() else Path(str(base))), values)


def _merged(base: Any, values: Any) -> Any:
    """Put values over those of a base, key by key in mappings and as a whole elsewhere."""
    if not (isinstance(base, dict) and isinstance(values, dict)):
        return values
    return base | {key: _merged(base.get(key), value) for key, value in values.items()}


def _read_yaml(text: str, name: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{name} must be YAML: {error}") from error
