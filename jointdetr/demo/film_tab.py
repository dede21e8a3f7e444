"""The tab for a film: frame by frame through the network, smoothed, and played in 3D."""

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from threading import Event
from typing import Any

import gradio as gr

from ..formats.film import FrameReader
from ..formats.motions import PoseMotion, motion_rows
from ..motion.prediction import FilmLimits, OnProgress, VideoSettings, estimate_video
from ..motion.smoothing import SmoothingSettings
from ..people.words import count_people
from ..visualization.film_overlay import write_overlay
from .camera import camera_of
from .controls import CameraControls, add_threshold
from .estimator import PoseEstimator
from .guard import plain_errors, require_film
from .picture_tab import EXAMPLES, THRESHOLD, Update, Values
from .results import angle_picture, download_buttons, download_updates, new_folder, viewer_value, write_files
from .settings import DemoSettings
from .viewer import pose_viewer, show_result

FILMS = sorted(EXAMPLES.glob("*.mp4"))
WORDS = "The moving skeleton appears here.<br>Drag to turn it; the bar below goes through time."
SMOOTHINGS = {"spline (no delay)": "offline", "One-Euro (as if live)": "one-euro", "none": "none"}
HIGHEST_FRAME_RATE = 60
FILM_HEIGHT_PX = 360
PROGRESS = gr.Progress()


class FilmTab:
    """The components of the tab and what they do."""

    def __init__(self, estimator: PoseEstimator, settings: DemoSettings):
        self.estimator, self.settings = estimator, settings
        self.left: dict[str, Event] = {}  # of the visitor whose film is looked at, whether the page was closed
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=320):
                self._add_film()
            with gr.Column(scale=8, min_width=320):
                self._add_results()
        with gr.Row(equal_height=False):
            self._add_settings()
        asked = {self.film, self.step, self.smoothing, self.threshold, *self.camera.components}
        show = show_result("film-view", "film-view")
        self.button.click(None, js=show, api_visibility="private")  # the progress is to be seen as well
        estimated = self.button.click(
            self.on_estimate,
            asked,
            [self.view, self.overlay, self.status, self.angles, *self.downloads],
            concurrency_id="film",
            concurrency_limit=1,
            show_progress_on=[self.view],
            api_visibility="private",
        )
        estimated.success(None, js=show, api_visibility="private")

    def _add_film(self) -> None:
        self.film = gr.Video(
            label=f"Your film, at most {self.settings.max_video_seconds:g} seconds",
            sources=["upload", "webcam"],
            elem_id="film",
        )
        films = [[str(path)] for path in FILMS]
        gr.Examples(films, [self.film], elem_id="film-examples", api_visibility="private", api_name=None)
        self.button = gr.Button("Estimate the motion", variant="primary", elem_id="film-go")

    def _add_results(self) -> None:
        self.view = pose_viewer(WORDS, "film-view")
        self.status = gr.Markdown("", elem_id="film-status")
        self.overlay = gr.Video(
            label="On the film",
            interactive=False,
            autoplay=True,
            loop=True,
            height=FILM_HEIGHT_PX,
            elem_id="film-overlay",
            buttons=["download"],
            visible=False,
        )
        with gr.Row(elem_id="film-downloads"):
            self.downloads = download_buttons("film-download")
        with gr.Accordion("Joint angles", open=False, elem_id="film-angles-accordion"):
            gr.Markdown("Of the first person, with one standard deviation. Not for medical use.")
            self.angles = gr.Image(
                label="Joint angles (degrees) over time (seconds)",
                interactive=False,
                elem_id="film-angles",
                buttons=["download"],
            )

    def _add_settings(self) -> None:
        with gr.Column(min_width=320):
            self.step = gr.Slider(1, 10, 2, step=1, label="Use every n-th frame (1 to 10 frames)", elem_id="film-step")
            self.smoothing = gr.Radio(list(SMOOTHINGS), value=next(iter(SMOOTHINGS)), label="Smoothing over time")
        with gr.Column(min_width=320):
            self.threshold = add_threshold("film-threshold", THRESHOLD)
            self.camera = CameraControls("film-camera")
            note = self.estimator.detector_note
            gr.Markdown(f"People are found and followed. A clip of one person who is seen whole works best. {note}")

    def listen_to_page(self, page: gr.Blocks) -> None:
        """Leave the film of whoever closes the page."""
        page.unload(self.on_leave)

    def on_leave(self, request: gr.Request) -> None:
        """Note that a visitor has closed the page."""
        if request.session_hash in self.left:
            self.left[request.session_hash].set()

    @plain_errors()
    def on_estimate(self, values: Values, request: gr.Request, progress: gr.Progress = PROGRESS) -> Update:
        """Estimate the motions in the film and show them; stop when the page is closed."""
        left = self.left[request.session_hash] = Event()

        def tell(done: int, total: int | None) -> None:
            if left.is_set():
                raise ValueError("the page was closed")
            progress((done, total), desc="Frames", unit="frames")

        try:
            return self._estimate(values, tell)
        finally:
            del self.left[request.session_hash]

    def _estimate(self, values: Values, tell: OnProgress) -> Update:
        """Estimate the motions in the film and return what everything shows of them."""
        path = values[self.film]
        size = require_film(path, self.settings)
        kind, value = (values[component] for component in self.camera.components)
        video = VideoSettings(
            has_detector=self.estimator.detector is not None,
            smoothing=SmoothingSettings(SMOOTHINGS[values[self.smoothing]]),
            threshold=values[self.threshold],
            step=values[self.step],
            camera=camera_of(kind, value, size),
        )
        seconds = self.settings.max_video_seconds
        limits = FilmLimits(max_frames=int(seconds * HIGHEST_FRAME_RATE), max_seconds=seconds)
        motions = estimate_video(path, self.estimator, video, limits, tell)
        reader = FrameReader(path, video.step)
        return self._show(reader, motions, {"model": self.settings.model_name, "threshold": values[self.threshold]})

    def _show(self, film: FrameReader, motions: Sequence[PoseMotion], about: dict[str, Any]) -> Update:
        """Return what everything shows of the motions of a film."""
        if not motions:
            words = "Nobody was found in this film."
            hidden = gr.update(value=None, visible=False)
            empty = {self.view: None, self.overlay: hidden, self.status: words, self.angles: None}
            return empty | download_updates(self.downloads, [None] * len(self.downloads))
        rows = motion_rows(motions)
        paths = write_files(rows, self.estimator.skeleton, about)
        lengths = [f"{len(motion)} frames, {motion.times_s[-1] - motion.times_s[0]:.1f} s" for motion in motions]
        people = count_people(len(motions))
        return {
            self.view: viewer_value(motions),
            self.overlay: gr.update(value=self._overlay(film, rows), visible=True),
            self.status: f"{people}: {'; '.join(lengths)}",
            self.angles: angle_picture(motions[0]),
            **download_updates(self.downloads, paths),
        }

    def _overlay(self, film: FrameReader, rows: Sequence[dict[str, Any]]) -> str:
        """Draw the people over the film, up to the last frame that shows one, and return the new film's path."""
        path = new_folder() / "film.mp4"
        until_last = replace(film, stop=rows[-1]["frame"] + 1)
        deque(write_overlay(until_last, rows, self.estimator.skeleton, path), maxlen=0)
        return str(path)
