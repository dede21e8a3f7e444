"""The tab for a picture: everything on it answers at once, and only a new picture or new boxes run the network."""

import time
from collections.abc import Sequence
from typing import Any

import gradio as gr
from PIL import Image

from ..formats.motions import motions_from_rows
from ..people.words import NOBODY, describe_person, doubts, root_distance_m
from ..people_jointdetr import Box
from ..skeleton_jointdetr import Skeleton
from . import parts
from .estimator import Person, PoseEstimator, Sighting
from .guard import open_picture, parse_boxes, plain_errors
from .parts import Update, Values

PICTURES = [parts.EXAMPLES / f"{name}.jpg" for name in ("astronaut", "photographer", "walking", "waving")]
Seen = tuple[str, Sighting]
WORDS = "The skeleton appears here.<br>Drag to turn it, scroll or pinch to come closer."


class PictureTab:
    """The components of the tab and what they do. A listener takes and returns values by component."""

    def __init__(self, page: gr.Blocks, estimator: PoseEstimator):
        self.estimator, self.settings = estimator, estimator.settings
        for path in PICTURES:  # a visitor meets the first in which somebody is found, or else the last
            image = open_picture(str(path), self.settings)
            if boxes := estimator.find_people(image):
                break
        self.landing: Seen = str(path), estimator.look(image, boxes)
        # the picture that is shown, by its place on this machine, and what the network saw in it: `Seen`
        self.seen = gr.State(time_to_live=self.settings.keep_files_seconds)
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=320):
                self._add_picture()
            with gr.Column(scale=8, min_width=320):
                self._add_results()
        with gr.Row(equal_height=False):
            with gr.Column(min_width=320):
                self.threshold = parts.add_threshold("threshold")
            with gr.Column(min_width=320):
                self.camera = parts.CameraControls("camera")
        self.table = gr.Dataframe(
            headers=parts.TABLE_HEADERS,
            label="Joints, relative to the pelvis: x right, y down, z away from the camera",
            interactive=False,
            max_height=420,
            elem_id="table",
        )
        self._listen(page)

    def _add_picture(self) -> None:
        self.picker = gr.Image(
            label="Your picture",
            type="filepath",
            image_mode=None,
            sources=["upload", "webcam", "clipboard"],
            height=190,
            elem_id="picture",
            buttons=[],
        )
        # its value is the JSON of `drawing_value`, or what `drawn_boxes` reads
        inside = "<div class='jointdetr-picture' hidden></div>"
        self.picture = parts.html("picture.js", inside, "people", "Picture and people")

    def _add_results(self) -> None:
        self.view = parts.pose_viewer(WORDS, "view")
        self.status = gr.Markdown("", elem_id="status")
        with gr.Row(elem_id="downloads"):
            self.downloads = parts.download_buttons("download")
        pictures = [[str(path)] for path in PICTURES]
        gr.Examples(pictures, [self.picker], elem_id="picture-examples", api_visibility="private", api_name=None)
        if self.estimator.detector_note:
            gr.Markdown(self.estimator.detector_note, elem_id="detector-note")

    def _listen(self, page: gr.Blocks) -> None:
        shown = [self.picture, self.view, self.status, self.table, *self.downloads]
        asked = {self.threshold, *self.camera.components}
        private = {"api_visibility": "private", "show_progress_on": [self.view], "trigger_mode": "always_last"}
        network = {**private, "concurrency_id": "network", "concurrency_limit": 1}
        again = {**private, "concurrency_id": "again", "concurrency_limit": 1}
        given = self.picker.change(self.on_picture, asked | {self.picker}, [self.seen, self.picker, *shown], **network)
        given.success(None, js=parts.show_result("view", "people"), api_visibility="private")
        given.failure(lambda: None, None, self.picker, js=parts.REFUSE_PICTURE, api_visibility="private", queue=False)
        drawn = self.picture.input(self.on_boxes, asked | {self.picture, self.seen}, [self.seen, *shown], **network)
        numbers = [self.threshold.input, self.camera.number.submit, self.camera.number.blur]
        viewed = [
            self.camera.named.then(self.on_view, asked | {self.seen}, shown, **again),
            gr.on(numbers, self.on_view, asked | {self.seen}, shown, **again),
        ]
        for event in (drawn, *viewed):
            event.success(None, js=parts.CLEAR_ERRORS, api_visibility="private")
        # Whoever opens the page meets the first example: what is seen comes with the page, the rest right after.
        landing = self.on_landing()
        for component in (self.picture, self.view, self.status):
            component.value = landing[component]
        first = {"api_visibility": "private", "show_progress": "hidden", "queue": False}
        page.load(self.on_landing, None, [self.seen, *shown], **first)

    def on_landing(self) -> Update:
        """Show the first example in which somebody is found."""
        path, sighting = self.landing
        values = {self.threshold: parts.THRESHOLD, self.camera.kind: parts.UNKNOWN, self.camera.number: None}
        shown = self._show(open_picture(path, self.settings), sighting, values, sighting.boxes)
        words = f"{shown[self.status]}<br>This is an example: give a picture of your own."
        return shown | {self.status: words, self.seen: self.landing}

    @plain_errors()
    def on_picture(self, values: Values) -> Update:
        """Find the people of a new picture and show them; the place for the next picture is empty again."""
        if values[self.picker] is None:
            return gr.skip()
        return self._look(values[self.picker], values, None) | {self.picker: None}

    @plain_errors()
    def on_boxes(self, values: Values) -> Update:
        """Look at the people in the boxes of a visitor, who may already be drawing on; without boxes, find people."""
        if values[self.seen] is None:
            raise ValueError("give a picture first")
        return self._look(values[self.seen][0], values, parts.drawn_boxes(values[self.picture]))

    @plain_errors()
    def on_view(self, values: Values) -> Update:
        """Show what was seen with another threshold or camera."""
        if values[self.seen] is None:
            return gr.skip()
        path, sighting = values[self.seen]
        return self._show(open_picture(path, self.settings), sighting, values, None)

    def _look(self, path: str, values: Values, drawn: Any) -> Update:
        """Run the network on the people of a picture, in a visitor's boxes or, without them, where they are found."""
        image = open_picture(path, self.settings)
        start = time.perf_counter()
        if drawn is None:
            boxes = self.estimator.find_people(image)
        else:
            boxes = parse_boxes(drawn, image, self.settings.max_people)
        sighting = self.estimator.look(image, boxes)
        seconds = time.perf_counter() - start
        shown = self._show(image, sighting, values, boxes if drawn is None else None)
        words = f"{shown[self.status]} Estimated in {seconds:.1f} s."
        return shown | {self.status: words, self.seen: (path, sighting)}

    def _show(self, image: Image.Image, sighting: Sighting, values: Values, boxes: Sequence[Box] | None) -> Update:
        """Return what everything shows of the people in a picture, which keeps its boxes if there are none here."""
        camera = parts.camera_of(values[self.camera.kind], values[self.camera.number], image.size)
        people = self.estimator.assemble(sighting, values[self.threshold], camera)
        skeleton = self.estimator.skeleton
        about = {
            "model": self.settings.model_name,
            "threshold": values[self.threshold],
            "picture_size": [image.width, image.height],
            **camera.describe(),
        }
        return {
            self.picture: parts.drawing_value(parts.overlay(image, people, skeleton), image.size, boxes),
            self.view: parts.viewer_value(motions_from_rows(people, skeleton)),
            self.status: report(people, skeleton),
            self.table: parts.table_rows(people, skeleton),
            **parts.download_updates(self.downloads, parts.write_files(people, skeleton, about)),
        }


def report(people: Sequence[Person], skeleton: Skeleton) -> str:
    """Say who was found, how far off and how far away they are, and what is to be doubted."""
    if not people:
        return f"{NOBODY.capitalize()}: if there is somebody, draw a box around them on the picture."
    lines = [] if len(people) == 1 else [f"{len(people)} people."]
    for number, person in enumerate(people, start=1):
        name = "1 person" if len(people) == 1 else f"Person {number}"
        distance_m = root_distance_m(person, skeleton)
        place = "" if distance_m is None else f", {distance_m:.1f} m from the camera"
        guessed = " (the camera is a guess)" if place and bool(person["intrinsics_guessed"]) else ""
        lines.append(f"{name}: {describe_person(person)}{place}{guessed}.")
    return "<br>".join([*lines, *(f"⚠ {doubt[:1].upper()}{doubt[1:]}." for doubt in doubts(people, skeleton))])
