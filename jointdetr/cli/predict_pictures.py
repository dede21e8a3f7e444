"""Estimating the 3D poses in pictures: a file of poses and a figure for each, and a table of the joints."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from .options import one_line_errors
from .predict_options import PredictOptions, output_names

if TYPE_CHECKING:
    from PIL import Image

    from ..camera_jointdetr import Camera
    from ..pipeline_jointdetr import JointDetrPipeline
    from ..skeleton_jointdetr import Skeleton

Person = dict[str, Any]
MOST_TABLES = 6  # people whose joints are printed


def predict_pictures(pictures: Sequence[str], options: PredictOptions) -> bool:
    """Write the poses in each picture and tell whether all could be read; one that cannot is reported."""
    from ..people.words import doubts

    predictor = _Predictor(options.load_estimator(), options)
    with one_line_errors(str(options.output)):
        options.output.mkdir(parents=True, exist_ok=True)
    failed = False
    for picture, name in zip(pictures, output_names(pictures), strict=True):
        try:
            people, written = predictor.predict(picture, options.output / name)
        except typer.Exit:
            failed = True
            continue
        if len(pictures) == 1:
            _print_joints(people[:MOST_TABLES], predictor.skeleton)
        typer.echo(f"{picture}: {_summary(people)}, see {' and '.join(written)} in {options.output}")
        for doubt in doubts(people, predictor.skeleton, boxes_given=bool(options.boxes)):
            typer.echo(f"{picture}: {doubt}", err=True)
    return not failed


@dataclass
class _Predictor:
    """A pipeline and the options of `predict`: turns a picture into files."""

    estimator: "JointDetrPipeline"
    options: PredictOptions

    @property
    def skeleton(self) -> "Skeleton":
        """The joints that the model finds."""
        return self.estimator.model.config.skeleton

    def predict(self, picture: str, target: Path) -> tuple[list[Person], list[str]]:
        """Write `target`.pose.png and the files of poses; return the people and the names of the files."""
        from ..picture_jointdetr import load_picture
        from ..visualization import pose_figure

        with one_line_errors(picture):
            image = load_picture(picture)
            camera = self.options.camera.for_picture(image.size)
            boxes = [list(box) for box in self.options.boxes] or None
            people = self.estimator(image, boxes=boxes, camera=camera)
        with one_line_errors(str(target)):
            pose_figure(image, people, self.skeleton).savefig(f"{target}.pose.png")
            written = self._write_poses(people, target, self.describe(picture, image, camera))
        return people, [f"{target.name}.pose.png", *written]

    def _write_poses(self, people: list[Person], target: Path, about: dict[str, Any]) -> list[str]:
        """Write the poses in every format asked for, say what should be known of them, and return the files' names."""
        from ..visualization import write_poses

        written: dict[Path, str] = {}
        for kind in self.options.formats:
            path = f"{target}.pose.{kind.value}"
            written |= write_poses(people, path, self.skeleton, about, self.options.floor)
        for path, note in written.items():
            if note:
                typer.echo(f"{path.name}: {note}")
        return [path.name for path in written]

    def describe(self, picture: str, image: "Image.Image", camera: "Camera") -> dict[str, Any]:
        """Head of the JSON file: where the numbers come from."""
        from .. import __version__

        return {
            "software": f"jointdetr {__version__}",
            "model": self.options.model_name,
            "threshold": self.options.threshold,
            "people_from": "boxes" if self.options.boxes else self.options.detector or self.options.people.value,
            "picture": picture,
            "picture_size": [image.width, image.height],
            **camera.describe(),
        }


def _print_joints(people: Sequence[Person], skeleton: "Skeleton") -> None:
    """Print every joint of every person."""
    from rich.console import Console

    from ..people.words import describe_person

    for number, person in enumerate(people, start=1):
        Console().print(_joint_table(person, skeleton, f"person {number}: {describe_person(person)}"))


def _summary(people: Sequence[Person]) -> str:
    """Who was found: the joints of a few people, the number of many."""
    from ..people.words import NOBODY, describe_person

    if len(people) > MOST_TABLES:
        return f"{len(people)} people found"
    return "; ".join(describe_person(person) for person in people) or NOBODY


def _joint_table(person: Person, skeleton: "Skeleton", title: str) -> Any:
    """One person's joints in millimetres as a table; what was not found is marked as a guess."""
    from rich import box
    from rich.table import Table

    # Rich breaks a title and a caption that are wider than the columns
    table = Table(title=title, caption=_caption(person, skeleton), box=box.SIMPLE_HEAD, min_width=len(title) + 2)
    table.add_column("joint")
    for column in ("x", "y", "z", "score", "error"):
        table.add_column(column, justify="right")
    table.add_column("")
    columns = [person[name].tolist() for name in ("joints", "scores", "detected")]
    errors = person["sigmas"].tolist() if "sigmas" in person else [math.nan] * len(skeleton.joints)
    for name, position, score, found, error in zip(skeleton.joints, *columns, errors, strict=True):
        remark = "" if found else "missing" if math.isnan(position[0]) else "guess"
        table.add_row(name, *_millimetres(position), f"{score:.2f}", *_millimetres([error]), remark)
    return table


def _caption(person: Person, skeleton: "Skeleton") -> str:
    """What the numbers are, and where the person stands."""
    root = skeleton.joints[skeleton.root]
    caption = f"millimetres from the {root}\nx right, y down, z away from the camera\nerror: expected, in millimetres"
    if "joints_camera" in person and person["joints_camera"].isfinite().all():
        place = ", ".join(_millimetres(person["joints_camera"][skeleton.root].tolist()))
        guess = "\n(a guess: no focal length is known)" if person["intrinsics_guessed"] else ""
        caption += f"\n{root}: {place} from the camera{guess}"
    return caption


def _millimetres(position: Sequence[float]) -> list[str]:
    """Whole millimetres, a dash for what is unknown."""
    return ["-" if math.isnan(value) else f"{round(value)}" for value in position]  # a float would say -0
