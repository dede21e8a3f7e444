"""Estimating the 3D poses in pictures: files and a figure of each, and a table of the joints; or whole data sets."""

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from .options import one_line_errors
from .predict import Format, PredictOptions, output_names, write_formats

if TYPE_CHECKING:
    from ..pipeline_jointdetr import JointDetrPipeline
    from ..skeleton_jointdetr import Skeleton

Person = dict[str, Any]
MOST_TABLES = 6  # people whose joints are printed


def predict_pictures(pictures: Sequence[str], options: PredictOptions) -> bool:
    """Write the poses in each picture and tell whether all could be read; one that cannot is reported."""
    from ..people.words import doubts

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
        typer.echo(f"{picture}: {_summary(people)}, see {' and '.join(written)} in {options.output}")
        for doubt in doubts(people, skeleton, boxes_given=bool(options.boxes)):
            typer.echo(f"{picture}: {doubt}", err=True)
    return not failed


def _predict(
    picture: str, target: Path, estimator: "JointDetrPipeline", options: PredictOptions
) -> tuple[list[Person], list[str]]:
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


def _summary(people: Sequence[Person]) -> str:
    """Who was found: the joints of a few people, the number of many."""
    from ..people.words import NOBODY, describe_person

    if len(people) > MOST_TABLES:
        return f"{len(people)} people found"
    return "; ".join(describe_person(person) for person in people) or NOBODY


def _print_joints(people: Sequence[Person], skeleton: "Skeleton") -> None:
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
            table.add_row(name, *_millimetres(position), f"{score:.2f}", *_millimetres([error]), remark)
        Console().print(table)


def _millimetres(position: Sequence[float]) -> list[str]:
    """Whole millimetres, a dash for what is unknown."""
    return ["-" if math.isnan(value) else f"{round(value)}" for value in position]  # a float would say -0


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
