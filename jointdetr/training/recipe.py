"""Recipes: everything that a training run depends on, in one YAML file with a checked type for every key.

A file names only what differs from the defaults below, or from another file or recipe of the package that it names by
`extends`. On the command line `section.key=value` overrides a key; the value is read as YAML, so that
`schedule.max_minutes=null` and `train.sources=[{path: people}]` work.
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
    """A pose dataset.

    Args:
        path: parquet file, folder, or name on the Hub, see `load_pose_dataset`.
        split: name of the split.
        repeat: how often each of its rows occurs in an epoch; not with streaming.
        weight: how often it is drawn from, relative to the other sources; with streaming alone.
        map_skeleton: map the joints of another skeleton of `SKELETONS` to the recipe's, by `map_skeleton`; joints that
            cannot be had have no label. With streaming alone.
        limit: use the first so many rows; null for all.
    """

    path: str
    split: str = "train"
    repeat: int = 1
    weight: float = 1.0
    map_skeleton: bool = False
    limit: int | None = None


@dataclass(frozen=True)
class ModelRecipe:
    """The model to train.

    Args:
        config: arguments of `JointDetrConfig` (of `JointRefinerConfig` in `train_refiner`) that differ from its
            defaults; the skeleton comes from the recipe.
        init_from: folder or Hub name of a model to go on from; its config is kept, `config` overrides it. A model of
            another skeleton is adapted, see `adapt_to_skeleton`.
        backbone_from: folder or Hub name of a backbone with trained weights, such as `microsoft/resnet-50`. Together
            with `init_from` it replaces that model's backbone.
        deformable_detr_from: folder or Hub name of a Deformable DETR, such as `SenseTime/deformable-detr`; its sizes
            are taken over.
        refiner: folder or Hub name of a trained `JointRefiner` to build in; it is not trained further.
    """

    config: dict[str, Any] = field(default_factory=dict)
    init_from: str | None = None
    backbone_from: str | None = None
    deformable_detr_from: str | None = None
    refiner: str | None = None


@dataclass(frozen=True)
class InputRecipe:
    """The network's input; saved with the model as its image processor.

    Args:
        height, width: size in px.
        padding: factor on the person's box.
    """

    height: int = 256
    width: int = 256
    padding: float = 1.25


@dataclass(frozen=True)
class SynthesisRecipe:
    """Synthetic people who are drawn as training goes on, so that nobody is seen twice; they have Human3.6M's joints.

    Args:
        weight: how often they are drawn, relative to the weights of the sources.
        size: width and height of the pictures in px; half as much again as the input is enough.
        preset: `everyday` (mostly upright, level views), `everything` (all poses, steep views, cut-off people) or
            `nobody` (rooms without people).
        supersampling: rays along each edge of a pixel; 2 smooths edges for four times the work.
        motions: folder of CMU motion capture (ASF/AMC files) to take half of the poses from; null for none.
        at_once: people who are posed and rendered in one go, by each worker.
        device: `auto` renders where the model is trained if that is a CUDA GPU, else on the CPU.
    """

    weight: float = 1.0
    size: int = 256
    preset: Literal["everyday", "everything", "nobody"] = "everyday"
    supersampling: int = 1
    motions: str | None = None
    at_once: int = 32
    device: Literal["auto", "cpu"] = "auto"


@dataclass(frozen=True)
class TrainData:
    """What to train on.

    Args:
        sources: pose datasets; all have the recipe's skeleton. May be empty with `synthesis`.
        synthesis: synthetic people drawn as training goes on, instead of the sources or besides them; null for none.
            A mapping, if an empty one, turns it on. It makes the training data a stream.
        workers: processes that load (or draw) and augment. With 0 the training process does it itself.
        streaming: read rows as they are needed, from the disk or the Hub, and draw them from the sources by their
            weights, without end; `schedule.max_steps` says when to stop.
        shuffle_buffer: rows of each source and worker that are held to be shuffled, with streaming.
    """

    sources: list[DataSource] = field(default_factory=list)
    synthesis: SynthesisRecipe | None = None
    workers: int = 1
    streaming: bool = False
    shuffle_buffer: int = 1000

    @property
    def is_stream(self) -> bool:
        """Whether the data have no end and no order of their own."""
        return self.streaming or self.synthesis is not None


@dataclass(frozen=True)
class OptimizerRecipe:
    """AdamW and its parameter groups.

    Args:
        learning_rate: at the peak, for everything without a multiplier.
        backbone_multiplier: on the backbone's rate; 0.1 for a pretrained one, 1.0 from scratch.
        sampling_multiplier: on the rate of reference points and sampling offsets, as in Deformable DETR.
        weight_decay: on weights; norms, biases and embeddings have none.
        beta2: decay of the second moment.
        clip_norm: largest norm of the gradient.
    """

    learning_rate: float = 2e-4
    backbone_multiplier: float = 0.1
    sampling_multiplier: float = 0.1
    weight_decay: float = 1e-4
    beta2: float = 0.999
    clip_norm: float = 0.1


@dataclass(frozen=True)
class ScheduleRecipe:
    """How long, and the learning rate on the way: linear warm-up, then a half cosine down to the end, or steps.

    The run ends at whatever comes first, and the rate follows whichever is furthest.

    Args:
        epochs: passes over the data.
        max_steps: optimiser steps; null for no such limit.
        max_minutes: wall-clock time, evaluations included and summed over resumed runs; null for no such limit.
        warmup_steps: optimiser steps of the warm-up.
        shape: `cosine`, or `step` as in DETR.
        final_fraction: of the peak rate, at the end of a cosine.
        step_fractions: fractions of the run at which the rate falls by a step, rising.
        step_factor: what it is multiplied by at each.

    Raises:
        ValueError: The step fractions are not in (0, 1) and rising.
    """

    epochs: float = 50.0
    max_steps: int | None = None
    max_minutes: float | None = None
    warmup_steps: int = 500
    shape: Literal["cosine", "step"] = "cosine"
    final_fraction: float = 0.01
    step_fractions: list[float] = field(default_factory=lambda: [0.8])
    step_factor: float = 0.1

    def __post_init__(self) -> None:
        """Refuse steps that never come."""
        bounds = [0.0, *self.step_fractions, 1.0]
        if any(later <= earlier for earlier, later in zip(bounds, bounds[1:], strict=False)):
            raise ValueError(f"`schedule.step_fractions` must be rising numbers in (0, 1), got {self.step_fractions}")


@dataclass(frozen=True)
class EvaluationRecipe:
    """Held-out evaluation during training and at its end.

    Args:
        sources: pose datasets; empty for no evaluation.
        every_epochs: how often; 0 for the end alone. Streams have no epochs.
        every_steps: how often, in optimiser steps, besides; 0 for not.
        batch_size: crops at once.
        threshold: joints less probable than this are missing.
    """

    sources: list[DataSource] = field(default_factory=list)
    every_epochs: int = 1
    every_steps: int = 0
    batch_size: int = 64
    threshold: float = 0.5


@dataclass(frozen=True)
class Recipe:
    """A training run.

    Args:
        output: folder for checkpoints and, in `final`, the model with its image processor.
        seed: of the weights, the order of the data and the augmentation.
        skeleton: name in `SKELETONS`, a JSON file of `formats/skeletons.py`, or a mapping with the same keys.
        model, input, train, augmentation, optimizer, schedule, evaluation: see their classes.
        batch_size: crops per process and step.
        accumulation: batches per optimiser step.
        precision: `bf16` runs the network under autocast, on a CPU too.
        device: `auto` takes the GPU if there is one.
        channels_last: lay convolutions out with the channels last, which is faster on CPUs.
        gradient_checkpointing: compute the encoder's and decoder's activations again in the backward pass instead of
            keeping them: less memory, more time, the same gradients.
        compile: let torch compile the model, which needs a C++ compiler on a CPU.
        average_decay: of the moving average of the weights, which is what is evaluated and saved; 0 for none.
        checkpoint_minutes: minutes between checkpoints to resume from.
        log_steps: optimiser steps between lines of the log.
        watch_steps: optimiser steps between looks at the matching and at a few people, which cost a fraction of an
            evaluation and a picture; null for every epoch, or every 1000 steps of a stream, and 0 for none.
        report_to: a tracker that Accelerate knows and that is installed: `trackio`, which keeps its curves on this
            machine, `tensorboard`, `wandb`...; `none` for the console alone, which has to do too without trackio.
    """

    output: str = "runs/jointdetr"
    seed: int = 0
    skeleton: str | dict[str, Any] = "human36m"
    model: ModelRecipe = ModelRecipe()
    input: InputRecipe = InputRecipe()
    train: TrainData = TrainData()
    augmentation: Augmentation = Augmentation()
    optimizer: OptimizerRecipe = OptimizerRecipe()
    schedule: ScheduleRecipe = ScheduleRecipe()
    evaluation: EvaluationRecipe = EvaluationRecipe()
    batch_size: int = 32
    accumulation: int = 1
    precision: Literal["fp32", "bf16"] = "fp32"
    device: Literal["auto", "cpu"] = "auto"
    channels_last: bool = False
    gradient_checkpointing: bool = False
    compile: bool = False
    average_decay: float = 0.999
    checkpoint_minutes: float = 15.0
    log_steps: int = 50
    watch_steps: int | None = None
    report_to: str = "trackio"


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


def load_recipe(path: str | Path, overrides: Sequence[str] = (), kind: type = Recipe) -> Any:
    """Read a recipe.

    Args:
        path: YAML file, or the bare name of a recipe that comes with the package, such as `synthetic-tiny`.
        overrides: `section.key=value` strings that replace keys of the file.
        kind: the dataclass to make, `Recipe` by default.

    Raises:
        ValueError: The file does not exist, a key is unknown, or a value has the wrong type; the key is named.
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
    """Make a value of an annotated type from what YAML gave.

    Args:
        kind: a dataclass, a builtin type, `list[...]`, `dict[str, Any]`, `Literal[...]`, or a union of them in which
            no two are mappings.
        value: nested dictionaries, lists and scalars.
        where: dotted name of the key, for the messages.

    Raises:
        ValueError: An unknown or absent key, or a value of another type.
    """
    members = typing.get_args(kind)
    if isinstance(kind, types.UnionType):
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
    """Make a dataclass from a mapping."""
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


def _read_file(path: Path, extending: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Read the keys of a file, and those of the file or recipe that it `extends` where it has none of its own.

    Args:
        path: the file, or the name of a recipe of the package.
        extending: files that extend one another down to this one.
    """
    if not path.is_file():
        own = RECIPES / f"{path}.yaml"
        if not own.is_file():
            names = sorted(recipe.stem for recipe in RECIPES.glob("*.yaml"))
            raise ValueError(f"a recipe must be a YAML file or one of {names}, got {path}")
        path = own
    files = (*extending, path.resolve())
    if files[-1] in extending:
        raise ValueError(f"a recipe must not extend itself, got {' -> '.join(map(str, files))}")
    values = _read_yaml(path.read_text(), str(path))
    if not isinstance(values, dict):
        raise ValueError(f"{path} must hold a mapping, got {values!r}")
    base = values.pop("extends", None)
    if base is None:
        return values
    beside = path.parent / str(base)
    base_values = _read_file(beside if beside.is_file() else Path(str(base)), files)
    return _merged(base_values, values)


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
