"""The command `jointdetr`: each subcommand reads its options, calls one function of the package and reports.

What takes seconds to import is imported inside the command that needs it. A mistake in what was asked ends with one
line on stderr and exit code 2.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple
from urllib.parse import urlparse

import typer
from typer.core import TyperCommand

if TYPE_CHECKING:
    from PIL import Image
    from transformers import BatchFeature

    from .image_processing_jointdetr import JointDetrImageProcessor
    from .modeling_jointdetr import JointDetrForPoseEstimation
    from .skeleton_jointdetr import Skeleton

app = typer.Typer(
    help="3D human pose from one picture: predict it, make synthetic people, train, evaluate.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ModelOption = Annotated[
    str | None,
    typer.Option("--model", help="Folder or Hub repository of the checkpoint; the one in the package if left out."),
]
ThresholdOption = Annotated[
    float, typer.Option(min=0.0, max=1.0, help="A joint less probable than this counts as not found.")
]
SupersamplingOption = Annotated[
    int, typer.Option(min=1, help="Rays along each edge of a pixel; 2 smooths edges for four times the work.")
]
MotionsOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="Folder of CMU motion capture (.asf and .amc files) to take half of the poses from."
    ),
]
RecipeOption = Annotated[
    str, typer.Option("--config", help="YAML file, or the name of a recipe of the package, as synthetic-tiny.")
]
OverridesArgument = Annotated[
    list[str] | None, typer.Argument(metavar="SECTION.KEY=VALUE", help="Replaces a key of the recipe.")
]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in the output folder.")]


class SynthesisPreset(str, Enum):
    """The presets of `jointdetr.synthesis`, as choices."""

    EVERYDAY = "everyday"
    EVERYTHING = "everything"


class Device(str, Enum):
    """Where to compute, as choices."""

    CPU = "cpu"
    CUDA = "cuda"


class Box(NamedTuple):
    """A person's box in pixels: left edge, top edge, width, height."""

    x: float
    y: float
    width: float
    height: float


class PredictCommand(TyperCommand):
    """Takes four numbers after `--box`, which Typer's annotations cannot say of an option that may be repeated."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:
        """Hand the four words after each `--box` on as one."""
        words, joined = iter(args), []
        for word in words:
            joined.append(word)
            if word == "--box":
                joined.append(" ".join(islice(words, 4)))
        return super().parse_args(ctx, joined)


def _parse_box(text: str) -> Box:
    try:
        return Box(*(float(number) for number in text.split()))
    except (TypeError, ValueError) as error:
        raise typer.BadParameter(f"expected four numbers X Y W H, got {text!r}") from error


@app.command(cls=PredictCommand)
def predict(
    pictures: Annotated[list[str], typer.Argument(metavar="PICTURE", help="Files or URLs.", show_default=False)],
    box: Annotated[
        list[Box] | None,
        typer.Option(
            parser=_parse_box,
            metavar="X Y W H",
            help="A person's box in pixels, in every picture given; repeat it for more people. "
            "Without it the whole picture is taken to show one person.",
        ),
    ] = None,
    focal_px: Annotated[
        float | None,
        typer.Option(min=1.0, help="Focal length in pixels: adds the joints' place in front of the camera."),
    ] = None,
    model: ModelOption = None,
    output: Annotated[Path, typer.Option(help="Folder for NAME.pose.json and NAME.pose.png.")] = Path("out"),
    threshold: ThresholdOption = 0.5,
) -> None:
    """Estimate the 3D poses in pictures: a JSON file and a figure for each, and a table of the joints.

    A picture that cannot be read is reported and left out; the others are still done.
    """
    predictor = _load_predictor(model)
    predictor.boxes, predictor.focal_px, predictor.threshold = list(box or []), focal_px, threshold
    with _one_line_errors(str(output)):
        output.mkdir(parents=True, exist_ok=True)
    if not box:
        typer.echo("no --box given: taking each picture to show one person who fills it", err=True)
    failed = False
    for picture, name in zip(pictures, _output_names(pictures), strict=True):
        try:
            people = predictor.predict(picture, output / name)
        except typer.Exit:
            failed = True
            continue
        if len(pictures) == 1:
            _print_joints(people, predictor.skeleton)
        found = ", ".join(_count_found(person) for person in people)
        typer.echo(f"{picture}: {found} joints found, see {output / name}.pose.png and {name}.pose.json")
    if failed:
        raise typer.Exit(2)


@app.command()
def synthesize(
    output: Annotated[Path, typer.Option(help="Folder of the dataset; an interrupted run goes on where it stopped.")],
    count: Annotated[int, typer.Option(min=1, help="Number of people, one picture each.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Another seed gives other people.")] = 0,
    size: Annotated[int, typer.Option(min=4, help="Width and height of the pictures in pixels.")] = 256,
    preset: Annotated[
        SynthesisPreset, typer.Option(help="Mostly upright people, or all poses and steep views as well.")
    ] = SynthesisPreset.EVERYDAY,
    workers: Annotated[int, typer.Option(min=1, help="Processes to start.")] = 1,
    dense: Annotated[bool, typer.Option("--dense", help="Add maps of body parts and of depth.")] = False,
    supersampling: SupersamplingOption = 1,
    motions: MotionsOption = None,
    device: Annotated[Device, typer.Option(help="Where to pose and render the people.")] = Device.CPU,
    sheet: Annotated[
        bool, typer.Option("--sheet", help="Write sheet.png with the first pictures and joints.")
    ] = False,
) -> None:
    """Make a dataset of synthetic people with exact 3D joints, ready for training."""
    from .synthesis.generate import SynthesisSettings
    from .synthesis.generate import synthesize as write_dataset

    with _one_line_errors(str(output)):
        _check_synthesis_resources(motions, device)  # before anything is written and any worker started
        settings = SynthesisSettings(
            output,
            count,
            seed,
            size,
            preset.value,
            dense=dense,
            supersampling=supersampling,
            workers=workers,
            motions=motions,
            device=device.value,
        )
        write_dataset(settings)
        if sheet:
            _write_sheet(output)
    typer.echo(f"{output}: {count} people")


@app.command()
def train(config: RecipeOption, overrides: OverridesArgument = None, resume: ResumeOption = False) -> None:
    """Train a pose model from a recipe, from scratch or from a checkpoint."""
    from .training.recipe import load_recipe
    from .training.train import train as run_training

    with _one_line_errors(config):
        recipe = load_recipe(config, overrides or [])
        result = run_training(recipe, resume)
    typer.echo(f"saved {result.folder}")


@app.command()
def train_refiner(config: RecipeOption, overrides: OverridesArgument = None) -> None:
    """Train the joint refinement network, on skeletons alone; `model.refiner` in a recipe builds it into a model."""
    from .training.recipe import load_recipe
    from .training.train_refiner import RefinerRecipe
    from .training.train_refiner import train_refiner as run_training

    with _one_line_errors(config):
        recipe = load_recipe(config, overrides or [], RefinerRecipe)
        _, metrics = run_training(recipe)
    for name, value in vars(metrics).items():
        typer.echo(f"{name} {value:.1f} mm")
    typer.echo(f"saved {recipe.output}")


@app.command()
def evaluate(
    dataset: Annotated[str, typer.Option(help="Parquet file, folder or Hub repository of a pose dataset.")],
    model: ModelOption = None,
    split: Annotated[str, typer.Option(help="Split of the dataset.")] = "train",
    limit: Annotated[int | None, typer.Option(min=1, help="Take the first so many rows.")] = None,
    threshold: ThresholdOption = 0.5,
    output: Annotated[Path | None, typer.Option(help="JSON file for the numbers.")] = None,
) -> None:
    """Measure a model on a pose dataset: MPJPE, PA-MPJPE, PCK and AUC, beside what guessing would give."""
    from .data.loading import load_pose_dataset
    from .training.evaluate import EvaluationSettings, evaluate_model

    predictor = _load_predictor(model)
    with _one_line_errors(dataset):
        rows = load_pose_dataset(dataset, split)
        rows = rows if limit is None else rows.select(range(min(limit, len(rows))))
        settings = EvaluationSettings(threshold=threshold, device=predictor.model.device.type)
        result = evaluate_model(predictor.model, predictor.processor, rows, settings)
    result.print()
    if output is not None:
        with _one_line_errors(str(output)):
            result.save(output)


@app.command()
def version() -> None:
    """Print the versions of jointdetr and of what it stands on."""
    import torch
    import transformers

    from . import __version__

    typer.echo(f"jointdetr {__version__}, transformers {transformers.__version__}, torch {torch.__version__}")


def main() -> None:
    """Run the command line: the entry point of `jointdetr` and of `python -m jointdetr`."""
    app(prog_name="jointdetr")


@contextmanager
def _one_line_errors(subject: str) -> Iterator[None]:
    """Report what the user can put right in one line, and exit with code 2."""
    try:
        yield
    except (OSError, ValueError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        typer.echo(f"jointdetr: {subject}: {reason}", err=True)
        raise typer.Exit(2) from error


def _load_predictor(name: str | None) -> "_Predictor":
    """Load a checkpoint through the Auto classes, from the package itself if no name is given."""
    import torch
    from transformers import AutoImageProcessor, AutoModelForPoseEstimation
    from transformers.utils import logging

    from .modeling_jointdetr import JointDetrForPoseEstimation

    logging.disable_progress_bar()
    source = name or str(files("jointdetr") / "pretrained")
    with _one_line_errors(source):
        model = AutoModelForPoseEstimation.from_pretrained(source, dtype=torch.float32).eval()
        if not isinstance(model, JointDetrForPoseEstimation):
            raise ValueError(f"expected a checkpoint of JointDetrForPoseEstimation, got {type(model).__name__}")
        processor = AutoImageProcessor.from_pretrained(source)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    return _Predictor(processor, model, model.config.skeleton, name or "jointdetr (in the package)")


@dataclass
class _Predictor:
    """A checkpoint and the options of `predict`: turns a picture into two files."""

    processor: "JointDetrImageProcessor"
    model: "JointDetrForPoseEstimation"
    skeleton: "Skeleton"
    model_name: str
    boxes: list[Box] = field(default_factory=list)
    focal_px: float | None = None
    threshold: float = 0.5

    def predict(self, picture: str, target: Path) -> list[dict[str, Any]]:
        """Write `target`.pose.json and `target`.pose.png and return the people."""
        from .picture_jointdetr import load_picture
        from .visualization import pose_figure, write_json

        with _one_line_errors(picture):
            image = load_picture(picture)
            boxes = [self.boxes] if self.boxes else None
            inputs = self.processor(image, boxes=boxes, intrinsics=self.intrinsics(image), return_tensors="pt")
        people = self.estimate(inputs)
        with _one_line_errors(str(target)):
            write_json(people, f"{target}.pose.json", self.skeleton, self.describe(picture, image))
            pose_figure(image, people, self.skeleton).savefig(f"{target}.pose.png")
        return people

    def estimate(self, inputs: "BatchFeature") -> list[dict[str, Any]]:
        """Return the people of one picture, in the order of the boxes."""
        import torch

        with torch.inference_mode():
            outputs = self.model(**inputs.to(self.model.device))
        people = self.processor.post_process_pose_estimation(outputs, inputs, self.threshold, self.model.refiner)[0]
        if not self.boxes:
            return people
        return [person | {"box": list(box)} for person, box in zip(people, self.boxes, strict=True)]

    def intrinsics(self, image: "Image.Image") -> list[list[float]] | None:
        """Camera matrix (3, 3) for the focal length, the optical axis through the picture's middle."""
        if self.focal_px is None:
            return None
        return [[self.focal_px, 0, image.width / 2], [0, self.focal_px, image.height / 2], [0, 0, 1]]

    def describe(self, picture: str, image: "Image.Image") -> dict[str, Any]:
        """Head of the JSON file: where the numbers come from."""
        from . import __version__

        return {
            "software": f"jointdetr {__version__}",
            "model": self.model_name,
            "threshold": self.threshold,
            "picture": picture,
            "picture_size": [image.width, image.height],
            "intrinsics": self.intrinsics(image),
        }


def _output_names(pictures: Sequence[str]) -> list[str]:
    """File names without suffix, one for each picture; the second `a` is `a-2`, so that none overwrites another."""
    names: list[str] = []
    for picture in pictures:
        stem = Path(urlparse(picture).path if "://" in picture else picture).stem or "picture"
        name, number = stem, 1
        while name in names:
            number += 1
            name = f"{stem}-{number}"
        names.append(name)
    return names


def _check_synthesis_resources(motions: Path | None, device: Device) -> None:
    """Raise `ValueError` unless the motion capture and the device are there."""
    import torch

    if motions is not None and not any(motions.rglob("*.asf")):
        raise ValueError(f"--motions must be a folder of .asf and .amc files, found no .asf file in {motions}")
    if device is Device.CUDA and not torch.cuda.is_available():
        raise ValueError("--device cuda needs a GPU that PyTorch can use, got none")


def _write_sheet(folder: Path, pictures: int = 40) -> None:
    """Write the first pictures of a dataset, joints drawn, to sheet.png in its folder."""
    from .data.loading import load_pose_dataset
    from .synthesis.sheet import contact_sheet

    rows = load_pose_dataset(folder)
    contact_sheet([rows[index] for index in range(min(pictures, len(rows)))]).save(folder / "sheet.png")


def _print_joints(people: Sequence[dict[str, Any]], skeleton: "Skeleton") -> None:
    """Print every joint of every person."""
    from rich.console import Console

    for number, person in enumerate(people, start=1):
        title = f"person {number}: {_count_found(person)} joints found"
        Console().print(_joint_table(person, skeleton, title))


def _count_found(person: dict[str, Any]) -> str:
    return f"{int(person['detected'].sum())} of {len(person['detected'])}"


def _joint_table(person: dict[str, Any], skeleton: "Skeleton", title: str) -> Any:
    """One person's joints in millimetres as a table; what was not found is marked as a guess."""
    from rich import box
    from rich.table import Table

    root = skeleton.joints[skeleton.root]
    caption = f"millimetres from the {root}\nx right, y down, z away from the camera"
    if "joints_camera" in person and person["joints_camera"].isfinite().all():
        place = ", ".join(_millimetres(person["joints_camera"][skeleton.root].tolist()))
        caption += f"\n{root}: {place} from the camera"
    table = Table(title=title, caption=caption, box=box.SIMPLE_HEAD)
    table.add_column("joint")
    for column in ("x", "y", "z", "score"):
        table.add_column(column, justify="right")
    table.add_column("")
    rows = zip(
        skeleton.joints, person["joints"].tolist(), person["scores"].tolist(), person["detected"].tolist(), strict=True
    )
    for name, position, score, found in rows:
        remark = "" if found else "missing" if math.isnan(position[0]) else "guess"
        table.add_row(name, *_millimetres(position), f"{score:.2f}", remark)
    return table


def _millimetres(position: Sequence[float]) -> list[str]:
    """Whole millimetres, a dash for what is unknown."""
    return ["-" if math.isnan(value) else f"{value:.0f}" for value in position]
