"""The tabs in which people move: a film, frame by frame through the network, and a file taken home before."""

from pathlib import Path
from threading import Event

import gradio as gr

from ..formats.film import FrameReader
from ..formats.motions import PoseMotion, motion_rows
from ..motion.prediction import FilmLimits, OnProgress, VideoSettings, estimate_video
from ..motion.smoothing import SmoothingSettings
from ..people.words import count_people
from ..visualization import read_poses
from ..visualization.figures import write_overlay
from . import DemoSettings, parts
from .estimator import PoseEstimator
from .guard import plain_errors, require_file_size, require_film
from .parts import Update, Values

FILMS = [[str(path)] for path in parts.EXAMPLES.glob("*.mp4")]
FILM_WORDS = "The moving skeleton appears here.<br>Drag to turn it; the bar below goes through time."
SMOOTHINGS = {"spline (no delay)": "offline", "One-Euro (as if live)": "one-euro", "none": "none"}
HIGHEST_FRAME_RATE = 60
FILM_HEIGHT_PX = 360
PROGRESS = gr.Progress()

KINDS = (".json", ".html", ".glb", ".bvh")  # of files; nothing that is packed, and may be much larger than it seems
FILE_WORDS = "What you took home from this page appears here again, and moves."
FILE_HELP = "It may also be dropped anywhere on this page. BVH files of others open as well."
MAX_POSES = 20_000  # frames of all people together


class FilmTab:
    """The components of the tab for a film and what they do."""

    def __init__(self, page: gr.Blocks, estimator: PoseEstimator):
        self.estimator, self.settings = estimator, estimator.settings
        self.left: dict[str, Event] = {}  # of the visitor whose film is looked at, whether the page was closed
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=320):
                self.film = gr.Video(
                    label=f"Your film, up to {self.settings.max_video_seconds:g} s",
                    sources=["upload", "webcam"],
                    elem_id="film",
                )
                gr.Examples(FILMS, [self.film], elem_id="film-examples", api_visibility="private", api_name=None)
                self.button = gr.Button("Estimate the motion", variant="primary", elem_id="film-go")
            with gr.Column(scale=8, min_width=320):
                self._add_results()
        with gr.Row(equal_height=False):
            self._add_settings()
        asked = {self.film, self.step, self.smoothing, self.threshold, *self.camera.components}
        show = parts.show_result("film-view", "film-view")
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
        page.unload(self.on_leave)

    def _add_results(self) -> None:
        self.view = parts.pose_viewer(FILM_WORDS, "film-view")
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
            self.downloads = parts.download_buttons("film-download")
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
            self.threshold = parts.add_threshold("film-threshold")
            self.camera = parts.CameraControls("film-camera")
            note = self.estimator.detector_note
            gr.Markdown(f"People are found and followed. A clip of one person who is seen whole works best. {note}")

    def on_leave(self, request: gr.Request) -> None:
        """Leave the film of a visitor who has closed the page."""
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
        video = VideoSettings(
            has_detector=self.estimator.detector is not None,
            smoothing=SmoothingSettings(SMOOTHINGS[values[self.smoothing]]),
            threshold=values[self.threshold],
            step=values[self.step],
            camera=parts.camera_of(values[self.camera.kind], values[self.camera.number], size),
        )
        seconds = self.settings.max_video_seconds
        limits = FilmLimits(max_frames=int(seconds * HIGHEST_FRAME_RATE), max_seconds=seconds)
        motions = estimate_video(path, self.estimator, video, limits, tell)
        rows, skeleton = motion_rows(motions), self.estimator.skeleton
        about = {"model": self.settings.model_name, "threshold": values[self.threshold]}
        lengths = [f"{len(motion)} frames, {motion.times_s[-1] - motion.times_s[0]:.1f} s" for motion in motions]
        found = f"{count_people(len(motions))}: {'; '.join(lengths)}"
        overlay = parts.new_folder() / "film.mp4" if rows else None
        if overlay:  # up to the last frame that shows somebody
            write_overlay(FrameReader(path, video.step, stop=rows[-1]["frame"] + 1), rows, skeleton, overlay)
        return {
            self.view: parts.viewer_value(motions),
            self.overlay: gr.update(value=overlay, visible=bool(rows)),
            self.status: found if rows else "Nobody was found in this film.",
            self.angles: parts.angle_picture(motions[0]) if rows else None,
            **parts.download_updates(self.downloads, parts.write_files(rows, skeleton, about)),
        }


def add_open_tab(settings: DemoSettings) -> None:
    """Lay out the tab for a file."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=320):
            file = gr.File(
                label="Your file: " + ", ".join(kind[1:].upper() for kind in KINDS),
                file_types=list(KINDS),
                height=190,
                elem_id="open-file",
            )
            gr.Markdown(FILE_HELP, elem_id="open-help")
        with gr.Column(scale=8, min_width=320):
            view = parts.pose_viewer(FILE_WORDS, "open-view")
            status = gr.Markdown("", elem_id="open-status")

    @plain_errors()
    def show(path: str | None) -> tuple[str | None, str]:
        """Show what is in a file, and nothing once it is taken away."""
        if path is None:
            return None, ""
        motions = open_motions(path, settings)
        frames = max(len(motion) for motion in motions)
        seconds = max(motion.times_s[-1] for motion in motions) - min(motion.times_s[0] for motion in motions)
        length = "" if frames == 1 else f", {frames} frames, {seconds:.1f} s"
        return parts.viewer_value(motions), f"{count_people(len(motions))}{length}."

    private = {"api_visibility": "private", "show_progress_on": [view]}
    opened = file.change(show, file, [view, status], concurrency_id="again", **private)
    opened.success(None, js=parts.show_result("open-view", "open-view"), api_visibility="private")


def open_motions(path: str, settings: DemoSettings) -> list[PoseMotion]:
    """Read the people of an uploaded file; ValueError if it is no such file, damaged, too large, or shows nobody."""
    require_file_size(path, settings)
    name = Path(path).name
    if Path(path).suffix.lower() not in KINDS:
        raise ValueError(f"a file that opens here ends in {', '.join(KINDS)}, got {name}")
    try:
        motions = read_poses(path)
    except ValueError as error:  # it names the file's place on this machine
        raise ValueError(str(error).replace(str(path), name)) from error
    poses = sum(len(motion) for motion in motions)
    if not 0 < poses <= MAX_POSES:
        raise ValueError(f"a file may hold 1 to {MAX_POSES} poses, {name} has {poses}")
    return motions
