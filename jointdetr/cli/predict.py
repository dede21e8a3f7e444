"""`jointdetr predict`: estimate the 3D poses in pictures, films, what a webcam sees, or a data set.

Of each picture files and a figure are written, and for one alone a table of the joints is printed.
"""

import math
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from itertools import chain, count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlparse

import typer

from .options import (
    BatchSizeOption,
    Command,
    ModelOption,
    PrecisionOption,
    ThresholdOption,
    load_checkpoint,
    one_line_errors,
)

if TYPE_CHECKING:
    from ..camera_jointdetr import Camera
    from ..pipeline_jointdetr import JointDetrPipeline
    from ..skeleton_jointdetr import Skeleton

PACKAGED_MODEL = "jointdetr (in the package)"
PEOPLE, CAMERA, FILMS, DATASETS = ({"rich_help_panel": name} for name in ("People", "Camera", "Films", "Data sets"))
MOST_TABLES = 6  # people whose joints are printed

FORMATS = ("json", "npz", "csv", "bvh", "glb", "trc", "c3d", "angles.csv", "angles.parquet")
Format = Enum("Format", {name: name for name in FORMATS}, type=str)  # as Typer has no lists of literals


@dataclass(frozen=True)
class PredictOptions:
    """Estimate the 3D poses in pictures and films, or of everyone in a dataset.

    A source that cannot be read is reported and left out; the others are still done.
    """

    sources: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PICTURE|FILM]...", help="Files, or URLs of pictures.", show_default=False),
    ] = None
    webcam: Annotated[int | None, typer.Option(min=0, help="Number of a webcam to watch, 0 for the first.")] = None
    model: ModelOption = None
    dtype: PrecisionOption = "float32"
    batch_size: BatchSizeOption = 32
    threshold: ThresholdOption = 0.5
    output: Annotated[Path, typer.Option(help="Folder for NAME.pose.json, NAME.pose.png ...")] = Path("out")
    format: Annotated[list[Format] | None, typer.Option(help="Kind of file for the poses; may be repeated.")] = None
    floor: Annotated[
        bool,
        typer.Option("--floor", help="People in files for animation upright on the floor, with feet that stand."),
    ] = False
    box: Annotated[
        list[str] | None,
        typer.Option(
            metavar="X Y W H",
            help="A person's box in pixels, in every picture or in a film's first frame. Repeat it for more people.",
            **PEOPLE,
        ),
    ] = None
    people: Annotated[
        Literal["search", "whole"],
        typer.Option(help="Without boxes: search for people, or take the whole picture as one.", **PEOPLE),
    ] = "search"
    detector: Annotated[
        str | None,
        typer.Option(help="Object-detection model to find the people, as ustc-community/dfine-nano-coco.", **PEOPLE),
    ] = None
    detector_threshold: Annotated[
        float,
        typer.Option(min=0.0, max=1.0, help="People whom the detector finds less probable are left out.", **PEOPLE),
    ] = 0.5
    focal_px: Annotated[
        float | None,
        typer.Option(min=1.0, help="Focal length in pixels, to place people rightly before the camera.", **CAMERA),
    ] = None
    fov: Annotated[
        float | None,
        typer.Option(help="Angle in degrees across the picture's longer side, 60 if nothing is known.", **CAMERA),
    ] = None
    distortion: Annotated[
        str | None,
        typer.Option(help="The lens as OpenCV has it, brown:k1,k2,p1,p2,k3 or fisheye:k1,k2,k3,k4.", **CAMERA),
    ] = None
    camera: Annotated[
        Path | None,
        typer.Option(help="JSON file with intrinsics and, if known, distortion and extrinsics.", **CAMERA),
    ] = None
    smoothing: Annotated[
        Literal["none", "one-euro", "offline"], typer.Option(help="How joints are smoothed over time.", **FILMS)
    ] = "offline"
    overlay: Annotated[
        bool, typer.Option("--overlay", help="Write the film with the skeletons drawn on it.", **FILMS)
    ] = False
    step: Annotated[int, typer.Option(min=1, help="Look at every so many frames of a film; 1 for all.", **FILMS)] = 1
    follow: Annotated[
        bool, typer.Option(help="Move a film's boxes along with their people, or leave them where they are.", **FILMS)
    ] = True
    dataset: Annotated[
        str | None, typer.Option(help="Pose dataset to predict: Parquet file, folder or Hub repository.", **DATASETS)
    ] = None
    split: Annotated[str, typer.Option(help="Split of the dataset.", **DATASETS)] = "train"

    def __post_init__(self) -> None:
        if sum([bool(self.sources), self.webcam is not None, self.dataset is not None]) != 1:
            raise typer.BadParameter("name pictures or films, or give --webcam, or give --dataset: one of the three")
        if bool(self.boxes) + (self.detector is not None) + (self.people == "whole") > 1:
            raise typer.BadParameter("people come from one of --box, --detector and --people whole, got several")
        if self.floor and self.focal_px is None and self.fov is None and self.camera is None:
            raise typer.BadParameter("--floor needs the camera: give --fov, --focal-px or --camera")

    def run(self) -> None:
        """Look at what the options name: pictures together, each film by itself."""
        from ..formats.film import is_film
        from .predict_video import predict_video

        if self.dataset is not None:
            predict_dataset(self.dataset, self)
        if self.webcam is not None:
            predict_video(self.webcam, self, time.strftime("webcam-%Y%m%d-%H%M%S"))
        films = [source for source in self.sources or () if is_film(source)]
        pictures = [source for source in self.sources or () if source not in films]
        failed = bool(pictures) and not predict_pictures(pictures, self)
        for film, name in zip(films, output_names(films), strict=True):
            try:
                predict_video(film, self, name)
            except typer.Exit:
                failed = True
        if failed:
            raise typer.Exit(2)

    @property
    def boxes(self) -> list[list[float]]:
        """A person's box each, the same in every picture and in a film's first frame; none to have people found."""
        boxes = [box.split() for box in self.box or ()]
        try:
            return [[float(x), float(y), float(width), float(height)] for x, y, width, height in boxes]
        except ValueError as error:
            raise typer.BadParameter(f"expected four numbers X Y W H after --box, got {self.box}") from error

    @property
    def known_camera(self) -> dict[str, Any]:
        """What is known of the camera beside a focal length, as the pipeline takes it."""
        known = {"camera": self.camera, "distortion": self.distortion, "field_of_view": self.fov}
        return {name: value for name, value in known.items() if value is not None}

    def camera_of(self, size: tuple[int, int]) -> "Camera":
        """Return the camera of a picture of `size` (width, height), a guess if nothing is known of it."""
        from ..camera_jointdetr import Camera, camera_of_picture

        given = {"focal_px": self.focal_px, "field_of_view": self.fov, "file": self.camera}
        ways = [name for name, value in given.items() if value is not None]
        if len(ways) > 1:
            raise ValueError(f"a camera must be described in one way, got {' and '.join(ways)}")
        if self.focal_px is not None:
            return Camera.from_focal_px(self.focal_px, size, distortion=self.distortion)
        return camera_of_picture(size, self.known_camera)

    def describe(self) -> dict[str, Any]:
        """Begin what is written beside the numbers: where they come from."""
        from .. import __version__

        software = f"jointdetr {__version__}"
        return {"software": software, "model": self.model or PACKAGED_MODEL, "threshold": self.threshold}

    def load_estimator(self) -> "JointDetrPipeline":
        """Load the checkpoint and the detector as one pipeline; what cannot be loaded is one line and exit code 2."""
        from ..pipeline_jointdetr import JointDetrPipeline

        processor, model = load_checkpoint(self.model, self.dtype)
        with one_line_errors(str(self.detector)):
            return JointDetrPipeline(
                model=model,
                image_processor=processor,
                device=model.device,
                threshold=self.threshold,
                crops_per_pass=self.batch_size,
                people=self.people,
                detector=self.detector,
                detector_threshold=self.detector_threshold,
                return_tensors=True,
            )


class PredictCommand(Command):
    """Takes four numbers after `--box`, which Typer has not for repeated options."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:
        """Hand the four words after each `--box` on as one."""
        words, joined = iter(args), []
        for word in words:
            joined.append(word)
            if word == "--box":
                joined.append(" ".join(islice(words, 4)))
        return super().parse_args(ctx, joined)


def output_names(sources: Sequence[str]) -> list[str]:
    """File names without suffix, one for each source; the second `a` is `a-2`, so that none overwrites another."""
    names: list[str] = []
    for source in sources:
        stem = Path(urlparse(source).path if "://" in source else source).stem or "picture"
        numbered = (f"{stem}-{number}" for number in count(2))
        names.append(next(name for name in chain([stem], numbered) if name not in names))
    return names


def write_formats(
    poses: Iterable[Any], stem: Path, options: PredictOptions, skeleton: "Skeleton", about: dict[str, Any]
) -> list[str]:
    """Write poses in every format asked for, say what should be known of the files, and return their names."""
    from ..visualization import write_poses

    written: dict[Path, str] = {}
    for kind in options.format or ():
        written |= write_poses(poses, f"{stem}.{kind.value}", skeleton, about, options.floor)
    for path, note in written.items():
        if note:
            typer.echo(f"{path.name}: {note}")
    return [path.name for path in written]


def predict_pictures(pictures: Sequence[str], options: PredictOptions) -> bool:
    """Write the poses in each picture and tell whether all could be read; one that cannot is reported."""
    from ..people.words import NOBODY, describe_person, doubts

    options = replace(options, format=options.format or [Format("json")])
    estimator = options.load_estimator()
    skeleton = estimator.model.config.skeleton
    with one_line_errors(str(options.output)):
        options.output.mkdir(parents=True, exist_ok=True)
    failed = False
    for picture, name in zip(pictures, output_names(pictures), strict=True):
        try:
            people, written = _predict(picture, options.output / name, estimator, options)
        except typer.Exit:
            failed = True
            continue
        if len(pictures) == 1:
            _print_joints(people[:MOST_TABLES], skeleton)
        found = "; ".join(map(describe_person, people)) or NOBODY
        found = found if len(people) <= MOST_TABLES else f"{len(people)} people found"
        typer.echo(f"{picture}: {found}, see {' and '.join(written)} in {options.output}")
        if not people and not options.boxes:
            typer.echo(f"{picture}: if somebody is there, give --box, or --people whole for who fills it", err=True)
        for doubt in doubts(people, skeleton, boxes_given=bool(options.boxes)):
            typer.echo(f"{picture}: {doubt}", err=True)
    return not failed


def _predict(
    picture: str, target: Path, estimator: "JointDetrPipeline", options: PredictOptions
) -> tuple[list[dict[str, Any]], list[str]]:
    """Write `target`.pose.png and the files of poses; return the people and the names of the files."""
    from ..picture_jointdetr import load_picture
    from ..visualization import pose_figure

    skeleton = estimator.model.config.skeleton
    with one_line_errors(picture):
        image = load_picture(picture)
        camera = options.camera_of(image.size)
        people = estimator(image, boxes=options.boxes or None, camera=camera)
    about = options.describe() | {
        "people_from": "boxes" if options.boxes else options.detector or options.people,
        "picture": picture,
        "picture_size": [image.width, image.height],
        **camera.describe(),
    }
    figure = target.with_name(f"{target.name}.pose.png")
    with one_line_errors(str(target)):
        pose_figure(image, people, skeleton).savefig(figure)
        written = write_formats(people, figure.with_suffix(""), options, skeleton, about)
    return people, [figure.name, *written]


def _print_joints(people: Sequence[dict[str, Any]], skeleton: "Skeleton") -> None:
    """Print every joint of every person in millimetres; what was not found is marked as a guess."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from ..people.words import describe_person

    root = skeleton.joints[skeleton.root]
    caption = f"millimetres from the {root}\nx right, y down, z away from the camera\nerror: expected, in millimetres"
    for number, person in enumerate(people, start=1):
        title = f"person {number}: {describe_person(person)}"
        # Rich breaks a title and a caption that are wider than the columns
        table = Table(title=title, caption=caption, box=box.SIMPLE_HEAD, min_width=len(title) + 2)
        table.add_column("joint")
        for column in ("x", "y", "z", "score", "error"):
            table.add_column(column, justify="right")
        table.add_column("")
        columns = [person[name].tolist() for name in ("joints", "scores", "detected")]
        errors = person["sigmas"].tolist() if "sigmas" in person else [math.nan] * len(skeleton.joints)
        for name, position, score, found, error in zip(skeleton.joints, *columns, errors, strict=True):
            remark = "" if found else "missing" if math.isnan(position[0]) else "guess"
            # whole numbers, as a float would say -0
            *place, off = ["-" if math.isnan(each) else f"{round(each)}" for each in (*position, error)]
            table.add_row(name, *place, f"{score:.2f}", off, remark)
        Console().print(table)


def predict_dataset(name: str, options: PredictOptions) -> None:
    """Write a Parquet file of poses for each shard of a data set; what is there already is kept.

    Under `torchrun` or `accelerate launch` the processes share the shards, and each uses its own GPU.
    """
    import torch

    from ..data.loading import load_pose_dataset
    from ..data.prediction import PredictionJob, predict_shards

    process = int(os.environ.get("RANK", 0))
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
    estimator = options.load_estimator()
    about = {"dataset": name, "split": options.split, "dtype": options.dtype, "boxes": options.boxes}
    about |= {"detector": options.detector, "people": options.people, "focal_px": options.focal_px}
    with one_line_errors(name):
        rows = load_pose_dataset(name, options.split, streaming=True, columns=("image",))
        job = PredictionJob(
            rows,
            lambda items: estimator(items, batch_size=options.batch_size, **options.known_camera),
            estimator.model.config.skeleton,
            options.output,
            options.describe() | about,
            options.batch_size,
            options.boxes or None,
            own_boxes=options.detector is None,
            focal_px=options.focal_px,
        )
        report = predict_shards(job, lambda text: typer.echo(f"process {process}: {text}"))
    typer.echo(f"process {process}: {report}, see {options.output}")
