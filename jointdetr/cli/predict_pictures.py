"""Estimating the 3D poses in pictures: a file of poses and a figure for each, and a table of the joints."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

import typer

from .options import load_checkpoint, one_line_errors
from .predict_options import PredictOptions

if TYPE_CHECKING:
    from PIL import Image
    from transformers import BatchFeature

    from ..image_processing_jointdetr import JointDetrImageProcessor
    from ..modeling_jointdetr import JointDetrForPoseEstimation
    from ..skeleton_jointdetr import Skeleton


def predict_pictures(pictures: Sequence[str], options: PredictOptions) -> bool:
    """Write the poses in each picture and tell whether all could be read; one that cannot is reported."""
    checkpoint = load_checkpoint(options.model)
    predictor = _Predictor(*checkpoint, checkpoint.model.config.skeleton, options)
    with one_line_errors(str(options.output)):
        options.output.mkdir(parents=True, exist_ok=True)
    if not options.boxes:
        typer.echo("no --box given: taking each picture to show one person who fills it", err=True)
    failed = False
    for picture, name in zip(pictures, _output_names(pictures), strict=True):
        target = options.output / name
        try:
            people = predictor.predict(picture, target)
        except typer.Exit:
            failed = True
            continue
        if len(pictures) == 1:
            _print_joints(people, predictor.skeleton)
        found = ", ".join(_count_found(person) for person in people)
        typer.echo(f"{picture}: {found} joints found, see {target}.pose.png and {name}.pose.json")
    return not failed


@dataclass
class _Predictor:
    """A checkpoint and the options of `predict`: turns a picture into two files."""

    processor: "JointDetrImageProcessor"
    model: "JointDetrForPoseEstimation"
    skeleton: "Skeleton"
    options: PredictOptions

    def predict(self, picture: str, target: Path) -> list[dict[str, Any]]:
        """Write `target`.pose.json and `target`.pose.png and return the people."""
        from ..picture_jointdetr import load_picture
        from ..visualization import pose_figure, write_json

        with one_line_errors(picture):
            image = load_picture(picture)
            boxes = [self.options.boxes] if self.options.boxes else None
            inputs = self.processor(image, boxes=boxes, intrinsics=self.intrinsics(image), return_tensors="pt")
        people = self.estimate(inputs)
        with one_line_errors(str(target)):
            write_json(people, f"{target}.pose.json", self.skeleton, self.describe(picture, image))
            pose_figure(image, people, self.skeleton).savefig(f"{target}.pose.png")
        return people

    def estimate(self, inputs: "BatchFeature") -> list[dict[str, Any]]:
        """Return the people of one picture, in the order of the boxes."""
        import torch

        with torch.inference_mode():
            outputs = self.model(**inputs.to(self.model.device))
        people = self.processor.post_process_pose_estimation(
            outputs, inputs, self.options.threshold, self.model.refiner
        )[0]
        if not self.options.boxes:
            return people
        return [person | {"box": list(box)} for person, box in zip(people, self.options.boxes, strict=True)]

    def intrinsics(self, image: "Image.Image") -> list[list[float]] | None:
        """Camera matrix (3, 3) for the focal length, the optical axis through the picture's middle."""
        focal_px = self.options.camera.focal_px
        if focal_px is None:
            return None
        return [[focal_px, 0, image.width / 2], [0, focal_px, image.height / 2], [0, 0, 1]]

    def describe(self, picture: str, image: "Image.Image") -> dict[str, Any]:
        """Head of the JSON file: where the numbers come from."""
        from .. import __version__

        return {
            "software": f"jointdetr {__version__}",
            "model": self.options.model_name,
            "threshold": self.options.threshold,
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
