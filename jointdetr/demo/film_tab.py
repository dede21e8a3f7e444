"""The tab for a film: frame by frame through the network, smoothed, and played in 3D."""

from collections.abc import Sequence
from typing import Any

import gradio as gr

from ..motion import PoseMotion, motion_rows
from ..video.estimation import FilmLimits, estimate_video
from ..video.prediction import VideoSettings
from ..video.reading import FrameReader
from ..video.smoothing import SmoothingSettings
from .camera import camera_of
from .estimator import PoseEstimator
from .guard import plain_errors, require_file_size
from .picture_tab import Update, Values, add_camera
from .results import download_buttons, download_updates, viewer_value, write_files
from .settings import DemoSettings
from .viewer import pose_viewer

WORDS = "The moving skeleton appears here.<br>Drag to turn it; the bar below goes through time."
SMOOTHINGS = {"spline (no delay)": "offline", "One-Euro (as if live)": "one-euro", "none": "none"}
HIGHEST_FRAME_RATE = 60
PROGRESS = gr.Progress()


class FilmTab:
    """The components of the tab and what they do."""

    def __init__(self, estimator: PoseEstimator, settings: DemoSettings):
        self.estimator, self.settings = estimator, settings
        with gr.Row(equal_height=False):
            with gr.Column(scale=3, min_width=320):
                self._add_inputs()
            with gr.Column(scale=8, min_width=320):
                self.view = pose_viewer(WORDS, "film-view")
                self.status = gr.Markdown("", elem_id="film-status")
                with gr.Row():
                    self.downloads = download_buttons("film-download")
        asked = {self.film, self.step, self.smoothing, self.threshold, *self.camera}
        self.button.click(
            self.on_estimate,
            asked,
            [self.view, self.status, *self.downloads],
            concurrency_id="film",
            concurrency_limit=1,
            show_progress_on=[self.view],
            api_visibility="private",
        )

    def _add_inputs(self) -> None:
        self.film = gr.Video(
            label=f"Film, at most {self.settings.max_video_seconds:g} seconds",
            sources=["upload", "webcam"],
            elem_id="film",
        )
        self.button = gr.Button("Estimate the motion", variant="primary", elem_id="film-go")
        self.step = gr.Slider(1, 10, 2, step=1, label="Look at every n-th frame", elem_id="film-step")
        self.smoothing = gr.Radio(list(SMOOTHINGS), value=next(iter(SMOOTHINGS)), label="Smoothing")
        self.threshold = gr.Slider(0, 1, 0.5, step=0.01, label="A joint less probable than this is not found")
        self.camera = add_camera("film-camera")
        finder = "A detector finds the people." if self.estimator.detector else "One person is found and followed."
        gr.Markdown(f"{finder} A clip of one person who is seen whole from the first frame on works best.")

    @plain_errors()
    def on_estimate(self, values: Values, progress: gr.Progress = PROGRESS) -> Update:
        """Estimate the motions in the film and show them."""
        path = values[self.film]
        if path is None:
            raise ValueError("give a film first")
        size = self._require_film(path)
        kind, value = (values[component] for component in self.camera)
        video = VideoSettings(
            detector=self.estimator.find_people if self.estimator.detector else None,
            smoothing=SmoothingSettings(SMOOTHINGS[values[self.smoothing]]),
            threshold=values[self.threshold],
            step=values[self.step],
            camera=camera_of(kind, value, size),
        )
        seconds = self.settings.max_video_seconds
        limits = FilmLimits(max_frames=int(seconds * HIGHEST_FRAME_RATE), max_seconds=seconds)
        motions = estimate_video(
            path,
            self.estimator.pipeline,
            video,
            limits,
            lambda done, total: progress((done, total), desc="Frames", unit="frames"),
        )
        return self._show(motions, {"model": self.settings.model_name, "threshold": values[self.threshold]})

    def _require_film(self, path: str) -> tuple[int, int]:
        """Refuse what is no film or too long a one, and return the size (width, height) of its pictures."""
        require_file_size(path, self.settings)
        reader = FrameReader(path)
        duration_s, limit_s = reader.info().duration_s, self.settings.max_video_seconds
        if duration_s is not None and duration_s > limit_s:
            raise ValueError(f"a film may have at most {limit_s:g} seconds, this one has {duration_s:.0f}")
        first = next(iter(reader), None)
        if first is None:
            raise ValueError("this film has no pictures")
        return first.image.size

    def _show(self, motions: Sequence[PoseMotion], about: dict[str, Any]) -> Update:
        """Return what everything shows of the motions of a film."""
        if not motions:
            empty = {self.view: None, self.status: "Nobody was found in this film."}
            return empty | download_updates(self.downloads, [None] * len(self.downloads))
        paths = write_files(motion_rows(motions), self.estimator.skeleton, about)
        lengths = [f"{len(motion)} frames, {motion.times_s[-1] - motion.times_s[0]:.1f} s" for motion in motions]
        people = "1 person" if len(motions) == 1 else f"{len(motions)} people"
        return {
            self.view: viewer_value(motions),
            self.status: f"{people}: {'; '.join(lengths)}",
            **download_updates(self.downloads, paths),
        }
