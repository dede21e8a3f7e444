"""What the demo shows and gives of the people it found: the 3D view, the overlay, the table, the files.

Shape vocabulary: people, joints.
"""

import json
import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from gradio.utils import get_upload_folder
from PIL import Image

from ..motion import PoseMotion, motions_from_rows
from ..skeleton_jointdetr import Skeleton
from ..visualization import draw_overlay, viewer_data, write_bvh, write_glb, write_json, write_npz
from .estimator import Person

DISPLAY_SIDE_PX = 1024
TABLE_HEADERS = ["person", "joint", "x mm", "y mm", "z mm", "u px", "v px", "score", "found"]
FILE_FORMATS = ("json", "npz", "bvh", "glb")


def display_copy(image: Image.Image) -> Image.Image:
    """Return a copy of a picture no larger than a screen needs."""
    copy = image.copy()
    copy.thumbnail((DISPLAY_SIDE_PX, DISPLAY_SIDE_PX))
    return copy


def overlay(image: Image.Image, people: Sequence[Person], skeleton: Skeleton) -> Image.Image:
    """Return a picture for the screen with the people's skeletons on it."""
    display = display_copy(image)
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
        columns = (person[name].tolist() for name in ("joints", "joints_2d", "scores", "detected"))
        for name, position, point, score, found in zip(skeleton.joints, *columns, strict=True):
            numbers = [_whole(value) for value in (*position, *point)]
            rows.append([number, name.replace("_", " "), *numbers, round(score, 2), "yes" if found else "guessed"])
    return rows


def viewer_value(motions: Sequence[PoseMotion]) -> str | None:
    """Return what the 3D view shows, as JSON; `None` for nobody."""
    return json.dumps(viewer_data(motions)) if motions else None


def scene_motions(people: Sequence[Person], skeleton: Skeleton) -> list[PoseMotion]:
    """Return the people of one picture as motions of one frame, each where the camera saw them, if that is known."""
    return motions_from_rows(people, skeleton)


def write_files(people: Sequence[Person], skeleton: Skeleton, about: dict[str, Any]) -> list[str]:
    """Write the people of one picture in every format, in the order of `FILE_FORMATS`."""
    folder = new_folder()
    motions = motions_from_rows(people, skeleton)
    paths = [folder / f"pose.{suffix}" for suffix in FILE_FORMATS]
    write_json(people, paths[0], skeleton, about)
    write_npz(people, paths[1], skeleton)
    paths[2] = write_each_bvh(motions, folder)
    write_glb(motions, paths[3])
    return [str(path) for path in paths]


def write_each_bvh(motions: Sequence[PoseMotion], folder: Path) -> Path:
    """Write one BVH file, which holds one person, or an archive of several."""
    if len(motions) == 1:
        write_bvh(motions[0], folder / "pose.bvh")
        return folder / "pose.bvh"
    with zipfile.ZipFile(folder / "pose-bvh.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number, motion in enumerate(motions, start=1):
            path = folder / f"pose-{number}.bvh"
            write_bvh(motion, path)
            archive.write(path, path.name)
            path.unlink()
    return folder / "pose-bvh.zip"


def new_folder() -> Path:
    """Make a folder where Gradio keeps its files, so that it removes what is written there as it removes its own."""
    folder = Path(get_upload_folder()) / "results" / uuid4().hex
    folder.mkdir(parents=True)
    return folder


def _whole(value: float) -> int | None:
    return None if math.isnan(value) else round(value)
