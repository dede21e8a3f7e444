"""`jointdetr predict`: estimate the 3D poses in pictures, films, what a webcam sees, or a data set."""

import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from .options import Command, ModelOption, Precision, PrecisionOption, ThresholdOption
from .predict_options import Box, CameraOptions, Format, People, PredictOptions, Smoothing, output_names


class PredictCommand(Command):
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


def predict(
    sources: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PICTURE|FILM]...", help="Files, or URLs of pictures.", show_default=False),
    ] = None,
    webcam: Annotated[int | None, typer.Option(min=0, help="Number of a webcam to watch, 0 for the first.")] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Pose dataset to predict: Parquet file, folder or Hub repository.")
    ] = None,
    split: Annotated[str, typer.Option(help="Split of the dataset.")] = "train",
    batch_size: Annotated[int, typer.Option(min=1, help="Crops that go through the network at once.")] = 32,
    box: Annotated[
        list[Box] | None,
        typer.Option(
            parser=_parse_box,
            metavar="X Y W H",
            help="A person's box in pixels, in every picture given; in films that of the first frame, from which the "
            "person is followed. Repeat it for more people. Without a box the people are searched for.",
        ),
    ] = None,
    people: Annotated[
        People,
        typer.Option(help="Without boxes: search for people, or take the whole picture to show one who fills it."),
    ] = People.SEARCH,
    detector: Annotated[
        str | None,
        typer.Option(
            help="Folder or Hub repository of an object-detection model of transformers that finds the people "
            "in place of the search, such as ustc-community/dfine-nano-coco."
        ),
    ] = None,
    detector_threshold: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="People whom the detector finds less probable are left out.")
    ] = 0.5,
    focal_px: Annotated[
        float | None,
        typer.Option(min=1.0, help="Focal length in pixels, to place people rightly before the camera."),
    ] = None,
    fov: Annotated[
        float | None,
        typer.Option(
            help="Angle in degrees across the picture's longer side, if you know no focal length; 60 is guessed."
        ),
    ] = None,
    distortion: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL:K1,K2,...",
            help="The lens in OpenCV's coefficients, brown:k1,k2,p1,p2,k3 or fisheye:k1,k2,k3,k4.",
        ),
    ] = None,
    camera: Annotated[
        Path | None,
        typer.Option(help="JSON file with intrinsics and, if known, distortion and extrinsics of the camera."),
    ] = None,
    file_format: Annotated[
        list[Format] | None, typer.Option("--format", help="Kind of file for the poses; repeat it for more kinds.")
    ] = None,
    model: ModelOption = None,
    dtype: PrecisionOption = Precision.FLOAT32,
    output: Annotated[Path, typer.Option(help="Folder for what is written: NAME.pose.json, NAME.pose.png ...")] = Path(
        "out"
    ),
    threshold: ThresholdOption = 0.5,
    smoothing: Annotated[Smoothing, typer.Option(help="How joints are smoothed over time.")] = Smoothing.OFFLINE,
    overlay: Annotated[bool, typer.Option("--overlay", help="Write the film with the skeletons drawn on it.")] = False,
    step: Annotated[int, typer.Option(min=1, help="Look at every so many frames of a film; 1 for all of them.")] = 1,
    follow: Annotated[
        bool, typer.Option(help="Move a film's boxes along with their people, or leave them where they are.")
    ] = True,
    floor: Annotated[
        bool,
        typer.Option(
            "--floor",
            help="BVH, GLB, TRC, C3D and angles of people upright on the floor, with feet that stand; needs a camera.",
        ),
    ] = False,
) -> None:
    """Estimate the 3D poses in pictures and films, or of everyone in a dataset.

    A source that cannot be read is reported and left out; the others are still done.
    """
    _require_one_kind(sources, webcam, dataset)
    if box and detector is not None:
        raise typer.BadParameter("give --box or --detector, not both")
    if people is People.WHOLE and (box or detector is not None):
        raise typer.BadParameter("give --people whole alone, without --box and --detector")
    if floor and focal_px is None and fov is None and camera is None:
        raise typer.BadParameter("--floor needs the camera: give --fov, --focal-px or --camera")
    options = PredictOptions(
        model=model,
        precision=dtype,
        output=output,
        boxes=tuple(box or ()),
        people=people,
        detector=detector,
        detector_threshold=detector_threshold,
        threshold=threshold,
        formats=tuple(file_format or (Format.JSON,)),
        camera=CameraOptions(focal_px, fov, distortion, camera),
        smoothing=smoothing,
        overlay=overlay,
        step=step,
        follow=follow,
        floor=floor,
        split=split,
        batch_size=batch_size,
    )
    film_options = replace(options, formats=tuple(file_format or ()))  # a film's poses are a table in any case
    if dataset is not None:
        from .predict_dataset import predict_dataset

        predict_dataset(dataset, options)
    elif webcam is not None:
        from .predict_video import predict_video

        predict_video(webcam, film_options, time.strftime("webcam-%Y%m%d-%H%M%S"))
    else:
        _predict_files(sources or [], options, film_options)


def _require_one_kind(sources: Sequence[str] | None, webcam: int | None, dataset: str | None) -> None:
    """Refuse a command that names nothing to look at, or several kinds of it."""
    given = [bool(sources), webcam is not None, dataset is not None]
    if sum(given) != 1:
        raise typer.BadParameter("name pictures or films, or give --webcam, or give --dataset: one of the three")


def _predict_files(sources: Sequence[str], options: PredictOptions, film_options: PredictOptions) -> None:
    """Predict the pictures together and each film by itself."""
    from ..formats.film import is_film

    is_moving = [is_film(source) for source in sources]
    films = [source for source, moves in zip(sources, is_moving, strict=True) if moves]
    pictures = [source for source, moves in zip(sources, is_moving, strict=True) if not moves]
    failed = False
    if pictures:
        from .predict_pictures import predict_pictures

        failed = not predict_pictures(pictures, options)
    for film, name in zip(films, output_names(films), strict=True):
        from .predict_video import predict_video

        try:
            predict_video(film, film_options, name)
        except typer.Exit:
            failed = True
    if failed:
        raise typer.Exit(2)
