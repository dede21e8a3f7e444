"""The tab for a picture: everything on it answers at once, and only a new picture or new boxes run the network."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from ..motion import motions_from_rows
from ..people.boxes import Box, parse_boxes
from ..people.words import NOBODY, describe_person, doubts, root_distance_m
from ..skeleton_jointdetr import Skeleton
from .camera import KINDS, NUMBER_LABELS, UNKNOWN, camera_of
from .drawing import drawing_value, drawn_boxes
from .estimator import Person, PoseEstimator, Sighting
from .guard import open_picture, plain_errors
from .results import (
    TABLE_HEADERS,
    display_copy,
    download_buttons,
    download_updates,
    overlay,
    table_rows,
    viewer_value,
    write_files,
)
from .settings import DemoSettings
from .viewer import VIEW_HEIGHT_PX, boxes_area, pose_viewer

EXAMPLES = Path(__file__).parent / "examples"
PICTURES = sorted(EXAMPLES.glob("*.jpg"))
FOUND, DRAWN, WHOLE = "found by themselves", "boxes I draw", "whole picture"
WORDS = "The skeleton appears here.<br>Drag to turn it, scroll or pinch to come closer."
Values = Mapping[gr.components.Component, Any]
Update = dict[gr.components.Component, Any]


class PictureTab:
    """The components of the tab and what they do. A listener takes and returns values by component."""

    def __init__(self, estimator: PoseEstimator, settings: DemoSettings):
        self.estimator, self.settings = estimator, settings
        self.sighting = gr.State(time_to_live=settings.keep_files_seconds)
        with gr.Row(equal_height=False):
            with gr.Column(scale=3, min_width=320):
                self._add_inputs()
            with gr.Column(scale=8, min_width=320):
                self._add_results()
        self._listen()

    def _add_inputs(self) -> None:
        self.picture = gr.Image(
            label="Picture",
            type="filepath",
            image_mode=None,
            sources=["upload", "webcam", "clipboard"],
            height=360,
            elem_id="picture",
            buttons=["fullscreen"],
        )
        pictures = [[str(path)] for path in PICTURES]
        gr.Examples(pictures, [self.picture], elem_id="picture-examples", api_visibility="private", api_name=None)
        info = self.estimator.detector_note or None
        self.people = gr.Radio([FOUND, DRAWN, WHOLE], value=FOUND, label="People", info=info, elem_id="people")
        self.boxes = boxes_area()
        self.camera = add_camera("camera")

    def _add_results(self) -> None:
        with gr.Row(equal_height=False):
            with gr.Column(scale=3, min_width=320):
                self.view = pose_viewer(WORDS, "view")
            with gr.Column(scale=2, min_width=240):
                self.overlay = gr.Image(
                    label="On the picture",
                    interactive=False,
                    format="jpeg",
                    height=VIEW_HEIGHT_PX,
                    elem_id="overlay",
                    buttons=["fullscreen"],
                )
        self.status = gr.Markdown("", elem_id="status")
        with gr.Row(equal_height=True):
            with gr.Column(scale=3, min_width=320):
                self.threshold = add_threshold("threshold")
            with gr.Column(scale=2, min_width=240), gr.Row(elem_id="downloads"):
                self.downloads = download_buttons("download")
        self.table = gr.Dataframe(
            headers=TABLE_HEADERS, label="Joints", interactive=False, max_height=420, elem_id="table"
        )

    def _listen(self) -> None:
        shown = [self.view, self.status, self.overlay, self.table, *self.downloads]
        asked = {self.picture, self.people, self.boxes, self.threshold, *self.camera}
        private = {"api_visibility": "private", "show_progress_on": [self.view], "trigger_mode": "always_last"}
        network = {**private, "concurrency_id": "network", "concurrency_limit": 1}
        self.picture.change(self.on_picture, asked, [self.sighting, self.boxes, *shown], **network)
        self.people.input(self.on_people, asked, [self.sighting, self.boxes, *shown], **network)
        self.boxes.input(self.on_boxes, asked, [self.sighting, *shown], **network)
        kind, number = self.camera
        view = asked | {self.sighting}
        gr.on(
            [self.threshold.release, kind.change, number.submit, number.blur],
            self.on_view,
            view,
            shown,
            concurrency_id="again",
            concurrency_limit=1,
            **private,
        )

    @plain_errors()
    def on_picture(self, values: Values) -> Update:
        """Look at a new picture, on which no box has been drawn."""
        return self.on_people(dict(values) | {self.boxes: None})

    @plain_errors()
    def on_people(self, values: Values) -> Update:
        """Look at the people of the picture, show them, and show the picture to draw boxes on if that is wanted."""
        update = self.on_boxes(values)
        if values[self.picture] is None:
            return update | {self.boxes: gr.update(value=None, visible=False)}
        image = open_picture(values[self.picture], self.settings)
        drawing = drawing_value(display_copy(image), image.size, update[self.sighting].boxes or [])
        return update | {self.boxes: gr.update(value=drawing, visible=values[self.people] == DRAWN)}

    @plain_errors()
    def on_boxes(self, values: Values) -> Update:
        """Look at the people of the picture and show them; the drawing, which may have gone on, is left alone."""
        if values[self.picture] is None:
            return self._nothing() | {self.sighting: None}
        image = open_picture(values[self.picture], self.settings)
        start = time.perf_counter()
        boxes = self._boxes(image, values)
        sighting = self.estimator.look(image, boxes)
        seconds = time.perf_counter() - start
        shown = self._show(image, sighting, values, f" Estimated in {seconds:.1f} s.")
        return shown | {self.sighting: sighting}

    @plain_errors()
    def on_view(self, values: Values) -> Update:
        """Show what was seen with another threshold or camera."""
        if values[self.picture] is None or values[self.sighting] is None:
            return self._nothing()
        image = open_picture(values[self.picture], self.settings)
        return self._show(image, values[self.sighting], values)

    def _boxes(self, image: Image.Image, values: Values) -> list[Box] | None:
        """Return the people's boxes, `None` for the whole picture."""
        if values[self.people] == DRAWN:
            return parse_boxes(drawn_boxes(values[self.boxes]), image, self.settings.max_people)
        return self.estimator.find_people(image) if values[self.people] == FOUND else None

    def _show(self, image: Image.Image, sighting: Sighting, values: Values, note: str = "") -> Update:
        """Return what everything shows of the people in a picture."""
        camera = camera_of(*(values[component] for component in self.camera), image.size)
        people = self.estimator.assemble(sighting, values[self.threshold], camera)
        if not people:
            return self._nothing() | {
                self.status: f"{NOBODY.capitalize()}: if there is somebody, choose “{DRAWN}” and draw a box."
            }
        skeleton = self.estimator.skeleton
        about = {
            "model": self.settings.model_name,
            "threshold": values[self.threshold],
            "picture_size": [image.width, image.height],
            **camera.describe(),
        }
        motions = motions_from_rows(people, skeleton)
        return {
            self.view: viewer_value(motions),
            self.status: report(people, skeleton) + note,
            self.overlay: overlay(image, people, skeleton),
            self.table: table_rows(people, skeleton),
            **download_updates(self.downloads, write_files(people, skeleton, about)),
        }

    def _nothing(self) -> Update:
        """Return what everything shows where there is nobody."""
        empty = {self.view: None, self.status: "", self.overlay: None, self.table: None}
        return empty | download_updates(self.downloads, [None] * len(self.downloads))


def add_camera(elem_id: str) -> tuple[gr.Dropdown, gr.Number]:
    """Add what a visitor may say of the camera: the kind of number, and the number."""
    with gr.Accordion("Camera", open=False):
        gr.Markdown(
            "The people are placed before the camera. A focal length is in pixels of this picture. A field of view is "
            "the angle across its longer side: 50 to 75 degrees for most phones and webcams. Directions hold whatever "
            "you say, distances are off by as much as the focal length is."
        )
        with gr.Row():
            kind = gr.Dropdown(list(KINDS), value=UNKNOWN, label="Kind of camera", min_width=140, elem_id=elem_id)
            number = gr.Number(None, label=NUMBER_LABELS[UNKNOWN], min_width=100, elem_id=f"{elem_id}-value")
        kind.change(
            lambda chosen: gr.update(label=NUMBER_LABELS[chosen]), kind, number, api_visibility="private", queue=False
        )
    return kind, number


def add_threshold(elem_id: str) -> gr.Slider:
    """Add the slider for the probability from which on a joint counts as found."""
    words = "A joint less probable than this is not found."
    return gr.Slider(0, 1, 0.5, step=0.01, label="Threshold", info=words, elem_id=elem_id)


def report(people: Sequence[Person], skeleton: Skeleton) -> str:
    """Say who was found, how far off and how far away they are, and what is to be doubted."""
    lines = [] if len(people) == 1 else [f"{len(people)} people."]
    for number, person in enumerate(people, start=1):
        name = "1 person" if len(people) == 1 else f"Person {number}"
        distance_m = root_distance_m(person, skeleton)
        place = "" if distance_m is None else f", {distance_m:.1f} m from the camera"
        guessed = " (the camera is a guess)" if place and bool(person["intrinsics_guessed"]) else ""
        lines.append(f"{name}: {describe_person(person)}{place}{guessed}.")
    return "<br>".join([*lines, *(f"⚠ {doubt[:1].upper()}{doubt[1:]}." for doubt in doubts(people, skeleton))])
