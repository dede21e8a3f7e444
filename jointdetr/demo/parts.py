"""Parts that the tabs share: components of the page, and what they show and give of the people who were found.

Gradio has no 3D view, no picture to draw boxes on and no live view: each is a `gr.HTML` whose module in `static` is
imported from there, because script tags in such a component never run.
"""

import base64
import json
import math
import zipfile
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import gradio as gr
import numpy as np
from gradio.utils import get_upload_folder
from PIL import Image

from ..camera_jointdetr import GUESSED_FIELD_OF_VIEW, Camera
from ..formats.motions import PoseMotion
from ..motion.angles import joint_angles
from ..people_jointdetr import Box
from ..skeleton_jointdetr import Skeleton
from ..visualization import angle_figure, draw_overlay, viewer_bundle, viewer_data, write_poses
from ..visualization.figures import as_picture
from .estimator import Person

Values = Mapping[gr.components.Component, Any]
Update = dict[gr.components.Component, Any]
STATIC = Path(__file__).parent / "static"
EXAMPLES = STATIC.with_name("examples")
THRESHOLD = 0.5
START = """
import(new URL('{module}', document.baseURI).href)
  .then(({{ start }}) => start({{ element, props, trigger, watch }}, new URL('{needs}', document.baseURI).href))
  .catch((error) => {{ element.textContent = 'This part of the page could not start: ' + error.message; }});
"""
CLEAR_ERRORS = "() => window.jointdetr.clearErrors()"
REFUSE_PICTURE = "() => window.jointdetr.refusePicture()"

UNKNOWN = f"unknown: a guess of {GUESSED_FIELD_OF_VIEW:g} degrees"
FOCAL_LENGTH, FIELD_OF_VIEW = "focal length", "field of view"
NUMBER_LABELS = {FOCAL_LENGTH: "Focal length (pixels of this picture)", FIELD_OF_VIEW: "Field of view (degrees)"}
KINDS_OF_CAMERA = {FOCAL_LENGTH: (Camera.from_focal_px, 1e6), FIELD_OF_VIEW: (Camera.from_field_of_view, 170)}
CAMERA_HELP = (
    "Places the people before the camera. Most phones and webcams see 50 to 75 degrees across the picture's longer "
    "side. Directions hold whatever you say; distances are off by as much as the focal length is."
)


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


def _url(path: Path) -> str:
    """Address of a static file below the page's own, so that it works behind any proxy."""
    return f"gradio_api/file={path.as_posix()}"


PAGE_SCRIPT = (
    f"() => import(new URL('{_url(STATIC / 'page.js')}', document.baseURI).href).then((page) => page.start())"
)


def show_result(view: str, start: str) -> str:
    """Return the script that brings the element `view` into view, from the element `start` on, and clears errors."""
    return f"() => window.jointdetr.showResult('#{view}', '#{start}')"


def html(module: str, inside: str, elem_id: str, label: str) -> gr.HTML:
    """Make a component that a module of `static` starts."""
    script = START.format(module=_url(STATIC / module), needs=_url(viewer_bundle()))
    return gr.HTML(None, html_template=inside, js_on_load=script, label=label, elem_id=elem_id)


def pose_viewer(words: str, elem_id: str) -> gr.HTML:
    """Make the 3D view; its value is the JSON of `viewer_data`, or `None`, which shows `words`."""
    inside = f"<div class='jointdetr-view' hidden></div><div class='jointdetr-words'>{words}</div>"
    return html("view.js", inside, elem_id, "3D")


def drawing_value(display: Image.Image, size: tuple[int, int], boxes: Sequence[Box] | None) -> str:
    """Return what the picture to draw boxes on shows, as JSON: a small copy of a picture of `size` (width, height) px.

    `boxes` come in place of those that are there; `None` leaves them, for they may have gone on.
    """
    stream = BytesIO()
    display.save(stream, "JPEG", quality=80)
    picture = "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
    return json.dumps({"picture": picture, "size": size, "boxes": boxes})


def drawn_boxes(value: str | None) -> Any:
    """Return the boxes that a visitor drew, unchecked; `None` to have the people found."""
    try:
        return json.loads(value)["boxes"] if value else None
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError("the picture sent no boxes") from error


def add_threshold(elem_id: str) -> gr.Slider:
    """Add the slider for the probability from which on a joint counts as found."""
    words = "A joint with a smaller score is a guess, drawn hollow."
    label = "Threshold (probability, 0 to 1)"
    return gr.Slider(0, 1, THRESHOLD, step=0.01, label=label, info=words, elem_id=elem_id)


class CameraControls:
    """What a visitor may say of the camera: the kind of number, and the number."""

    def __init__(self, elem_id: str):
        kinds = [UNKNOWN, *NUMBER_LABELS]
        with gr.Accordion("Camera", open=False):
            gr.Markdown(CAMERA_HELP)
            with gr.Row():
                self.kind = gr.Dropdown(
                    kinds, value=UNKNOWN, label="What you know of the camera", min_width=140, elem_id=elem_id
                )
                self.number = gr.Number(None, min_width=100, elem_id=f"{elem_id}-value", visible=False)
            self.named = self.kind.input(  # another kind is chosen, and the number emptied
                lambda kind: gr.Number(None, label=NUMBER_LABELS.get(kind), visible=kind in NUMBER_LABELS),
                self.kind,
                self.number,
                api_visibility="private",
                queue=False,
                show_progress="hidden",
            )
        self.components = (self.kind, self.number)


def camera_of(kind: str, value: float | None, size: tuple[int, int]) -> Camera:
    """Return the camera of a picture of `size` (width, height) px, looking through its middle; a guess if unknown.

    A field of view is the angle across the picture's longer side. ValueError for a number that cannot be right.
    """
    if kind == UNKNOWN or not value:  # an empty number field is 0
        return Camera.from_field_of_view(GUESSED_FIELD_OF_VIEW, size)
    make, highest = KINDS_OF_CAMERA[kind]
    if not 1 <= value <= highest:
        raise ValueError(f"a {kind} must be from 1 to {highest:g}, got {value:g}")
    return make(value, size)


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
        if len(written) < 2:
            paths.append(str(written[0]) if written else None)
            continue
        paths.append(str(folder / f"pose-{suffix}.zip"))
        with zipfile.ZipFile(paths[-1], "w", zipfile.ZIP_DEFLATED) as archive:
            for each in written:
                archive.write(each, each.name)
    return paths


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
