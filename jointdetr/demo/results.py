"""What the demo shows and gives of the people it found: the 3D view, the overlay, the table, the files."""

import json
import math
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import gradio as gr
import numpy as np
from gradio.utils import get_upload_folder
from PIL import Image

from ..formats.motions import PoseMotion
from ..motion.angles import joint_angles
from ..skeleton_jointdetr import Skeleton
from ..visualization import angle_figure, draw_overlay, viewer_data, write_poses
from ..visualization.figures import as_picture
from .estimator import Person

DISPLAY_SIDE_PX = 1024
TABLE_HEADERS = ["person", "joint", "x mm", "y mm", "z mm", "u px", "v px", "score", "error mm", "found"]
FILE_PURPOSES = {
    "html": "to send",
    "json": "for programs",
    "npz": "for NumPy",
    "bvh": "for Blender",
    "glb": "a 3D scene",
    "trc": "for OpenSim",
    "angles.csv": "joint angles",
}


def overlay(image: Image.Image, people: Sequence[Person], skeleton: Skeleton) -> Image.Image:
    """Return a copy of a picture, no larger than a screen needs, with the people's skeletons on it."""
    display = image.copy()
    display.thumbnail((DISPLAY_SIDE_PX, DISPLAY_SIDE_PX))
    if not people:
        return display
    scale = np.array([display.width / image.width, display.height / image.height])
    points = np.stack([person["joints_2d"].numpy() * scale for person in people])
    detected = np.stack([person["detected"].numpy() for person in people])
    return draw_overlay(display, points, detected, skeleton)


def table_rows(people: Sequence[Person], skeleton: Skeleton) -> list[list[Any]]:
    """Return one row a joint, in the order of `TABLE_HEADERS`; positions are relative to the root joint."""
    rows = []
    for number, person in enumerate(people, start=1):
        columns = [person[name].tolist() for name in ("joints", "joints_2d", "scores", "detected")]
        errors = person["sigmas"].tolist() if "sigmas" in person else [math.nan] * len(skeleton.joints)
        for name, position, point, score, found, error in zip(skeleton.joints, *columns, errors, strict=True):
            numbers = [_whole(value) for value in (*position, *point)]
            trust = [round(score, 2), _whole(error), "yes" if found else "guessed"]
            rows.append([number, name.replace("_", " "), *numbers, *trust])
    return rows


def viewer_value(motions: Sequence[PoseMotion]) -> str | None:
    """Return what the 3D view shows, as JSON; `None` for nobody."""
    return json.dumps(viewer_data(motions)) if motions else None


def angle_picture(motion: PoseMotion) -> Image.Image | None:
    """Return a picture of a person's joint angles over time; `None` for a skeleton that has none."""
    try:
        return as_picture(angle_figure(joint_angles(motion)))
    except ValueError:
        return None


def write_files(people: Sequence[Mapping[str, Any]], skeleton: Skeleton, about: Mapping[str, Any]) -> list[str | None]:
    """Write the people of a picture or of a film in every format, in the order of `FILE_PURPOSES`; nobody in none.

    A format that cannot hold them is `None`, too: an animation needs every joint to be known at least once.
    """
    if not people:
        return [None] * len(FILE_PURPOSES)
    folder = new_folder()
    paths: list[str | None] = []
    for suffix in FILE_PURPOSES:
        try:
            written = list(write_poses(people, folder / f"pose.{suffix}", skeleton, about))
        except ValueError:
            written = []
        if len(written) > 1:
            written = [_archive(written, folder / f"pose-{suffix}.zip")]
        paths.append(str(written[0]) if written else None)
    return paths


def _archive(paths: Sequence[Path], path: Path) -> Path:
    """Put files into an archive."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for each in paths:
            archive.write(each, each.name)
    return path


def download_updates(buttons: Sequence[gr.DownloadButton], paths: Sequence[str | None]) -> dict[Any, Any]:
    """Return what buttons show that give these files."""
    pairs = zip(buttons, paths, strict=True)
    return {button: gr.update(value=path, interactive=path is not None) for button, path in pairs}


def download_buttons(prefix: str) -> list[gr.DownloadButton]:
    """Make a button for each of `FILE_PURPOSES`."""
    return [
        gr.DownloadButton(
            f"{name.split('.')[-1].upper()}: {purpose}",
            size="sm",
            min_width=130,
            interactive=False,
            elem_id=f"{prefix}-{name.split('.')[0]}",
        )
        for name, purpose in FILE_PURPOSES.items()
    ]


def new_folder() -> Path:
    """Make a folder where Gradio keeps its files, so that it removes what is written there as it removes its own."""
    folder = Path(get_upload_folder()) / "results" / uuid4().hex
    folder.mkdir(parents=True)
    return folder


def _whole(value: float) -> int | None:
    return None if math.isnan(value) else round(value)
