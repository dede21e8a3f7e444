"""`jointdetr predict`: estimate the 3D poses in pictures, films, what a webcam sees, or a data set."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple
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


class Box(NamedTuple):
    """A person's box in pixels: left edge, top edge, width, height."""

    x: float
    y: float
    width: float
    height: float


def _parse_box(text: str) -> Box:
    try:
        return Box(*(float(number) for number in text.split()))
    except (TypeError, ValueError) as error:
        raise typer.BadParameter(f"expected four numbers X Y W H, got {text!r}") from error


class Format(str, Enum):
    """Kinds of file that poses can be written as."""

    JSON = "json"
    NPZ = "npz"
    CSV = "csv"
    BVH = "bvh"
    GLB = "glb"
    TRC = "trc"
    C3D = "c3d"
    ANGLES_CSV = "angles.csv"
    ANGLES_PARQUET = "angles.parquet"


@dataclass(frozen=True)
class PredictOptions:
    """Estimate the 3D poses in pictures and films, or of everyone in a dataset.

    A source that cannot be read is reported and left out; the others are still done.
    """  # the command's help: Typer makes its options of the fields

    sources: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PICTURE|FILM]...", help="Files, or URLs of pictures.", show_default=False),
    ] = None
    webcam: Annotated[int | None, typer.Option(min=0, help="Number of a webcam to watch, 0 for the first.")] = None
    model: ModelOption = None
    dtype: PrecisionOption = "float32"
    batch_size: BatchSizeOption = 32
    threshold: ThresholdOption = 0.5
    output: Annotated[Path, typer.Option(help="Folder for what is written: NAME.pose.json, NAME.pose.png ...")] = Path(
        "out"
    )
    format: Annotated[
        list[Format] | None, typer.Option(help="Kind of file for the poses; repeat it for more kinds.")
    ] = None
    floor: Annotated[
        bool,
        typer.Option(
            "--floor",
            help="BVH, GLB, TRC, C3D and angles of people upright on the floor, with feet that stand; needs a camera.",
        ),
    ] = False
    box: Annotated[
        list[Box] | None,
        typer.Option(
            parser=_parse_box,
            metavar="X Y W H",
            help="A person's box in pixels, in every picture given; in films that of the first frame, from which the "
            "person is followed. Repeat it for more people. Without a box the people are searched for.",
            **PEOPLE,
        ),
    ] = None
    people: Annotated[
        Literal["search", "whole"],
        typer.Option(
            help="Without boxes: search for people, or take the whole picture to show one who fills it.", **PEOPLE
        ),
    ] = "search"
    detector: Annotated[
        str | None,
        typer.Option(
            help="Folder or Hub repository of an object-detection model of transformers that finds the people "
            "in place of the search, such as ustc-community/dfine-nano-coco.",
            **PEOPLE,
        ),
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
        typer.Option(
            help="Angle in degrees across the picture's longer side, if you know no focal length; 60 is guessed.",
            **CAMERA,
        ),
    ] = None
    distortion: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL:K1,K2,...",
            help="The lens in OpenCV's coefficients, brown:k1,k2,p1,p2,k3 or fisheye:k1,k2,k3,k4.",
            **CAMERA,
        ),
    ] = None
    camera: Annotated[
        Path | None,
        typer.Option(
            help="JSON file with intrinsics and, if known, distortion and extrinsics of the camera.", **CAMERA
        ),
    ] = None
    smoothing: Annotated[
        Literal["none", "one-euro", "offline"], typer.Option(help="How joints are smoothed over time.", **FILMS)
    ] = "offline"
    overlay: Annotated[
        bool, typer.Option("--overlay", help="Write the film with the skeletons drawn on it.", **FILMS)
    ] = False
    step: Annotated[
        int, typer.Option(min=1, help="Look at every so many frames of a film; 1 for all of them.", **FILMS)
    ] = 1
    follow: Annotated[
        bool, typer.Option(help="Move a film's boxes along with their people, or leave them where they are.", **FILMS)
    ] = True
    dataset: Annotated[
        str | None, typer.Option(help="Pose dataset to predict: Parquet file, folder or Hub repository.", **DATASETS)
    ] = None
    split: Annotated[str, typer.Option(help="Split of the dataset.", **DATASETS)] = "train"

    def __post_init__(self) -> None:
        """Refuse options that do not go together."""
        if sum([bool(self.sources), self.webcam is not None, self.dataset is not None]) != 1:
            raise typer.BadParameter("name pictures or films, or give --webcam, or give --dataset: one of the three")
        if self.box and self.detector is not None:
            raise typer.BadParameter("give --box or --detector, not both")
        if self.people == "whole" and (self.box or self.detector is not None):
            raise typer.BadParameter("give --people whole alone, without --box and --detector")
        if self.floor and self.focal_px is None and self.fov is None and self.camera is None:
            raise typer.BadParameter("--floor needs the camera: give --fov, --focal-px or --camera")

    @property
    def boxes(self) -> list[list[float]]:
        """A person's box each, the same in every picture and in a film's first frame; none to have people found."""
        return [list(box) for box in self.box or ()]

    @property
    def known_camera(self) -> dict[str, Any]:
        """What is known of the camera beside a focal length, as the pipeline takes it."""
        known = {"camera": self.camera, "distortion": self.distortion, "field_of_view": self.fov}
        return {name: value for name, value in known.items() if value is not None}

    def camera_of(self, size: tuple[int, int]) -> "Camera":
        """Return the camera of a picture of `size` (width, height), a guess if nothing is known of it.

        Raises:
            ValueError: The options contradict each other, or describe no camera.
        """
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

        checkpoint = load_checkpoint(self.model, self.dtype)
        with one_line_errors(str(self.detector)):
            return JointDetrPipeline(
                model=checkpoint.model,
                image_processor=checkpoint.processor,
                device=checkpoint.model.device,
                threshold=self.threshold,
                crops_per_pass=self.batch_size,
                people=self.people,
                detector=self.detector,
                detector_threshold=self.detector_threshold,
                return_tensors=True,
            )


class PredictCommand(Command):
    """Hands the options on as one object; takes four numbers after `--box`, which Typer has not for repeated ones."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:
        """Hand the four words after each `--box` on as one."""
        words, joined = iter(args), []
        for word in words:
            joined.append(word)
            if word == "--box":
                joined.append(" ".join(islice(words, 4)))
        return super().parse_args(ctx, joined)

    def invoke(self, ctx: typer.Context) -> None:
        """Run the command."""
        predict(super().invoke(ctx))


def predict(options: PredictOptions) -> None:
    """Look at what the options name: pictures together, each film by itself."""
    from ..formats.film import is_film
    from .predict_pictures import predict_dataset, predict_pictures
    from .predict_video import predict_video

    if options.dataset is not None:
        predict_dataset(options.dataset, options)
    if options.webcam is not None:
        predict_video(options.webcam, options, time.strftime("webcam-%Y%m%d-%H%M%S"))
    moves = {source: is_film(source) for source in options.sources or ()}
    pictures = [source for source in options.sources or () if not moves[source]]
    films = [source for source in options.sources or () if moves[source]]
    failed = bool(pictures) and not predict_pictures(pictures, options)
    for film, name in zip(films, output_names(films), strict=True):
        try:
            predict_video(film, options, name)
        except typer.Exit:
            failed = True
    if failed:
        raise typer.Exit(2)


def output_names(sources: Sequence[str]) -> list[str]:
    """File names without suffix, one for each source; the second `a` is `a-2`, so that none overwrites another."""
    names: list[str] = []
    for source in sources:
        stem = Path(urlparse(source).path if "://" in source else source).stem or "picture"
        name, number = stem, 1
        while name in names:
            number += 1
            name = f"{stem}-{number}"
        names.append(name)
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
