"""The tab for a file taken home before: it moves again in 3D."""

from collections.abc import Sequence
from pathlib import Path

import gradio as gr

from ..formats.motions import PoseMotion
from ..people.words import count_people
from ..visualization import read_poses
from .guard import plain_errors, require_file_size
from .picture_tab import Update, Values
from .results import viewer_value
from .settings import DemoSettings
from .viewer import pose_viewer, show_result

KINDS = (".json", ".html", ".glb", ".bvh")  # nothing that is packed, and may be much larger than it seems
WORDS = "What you took home from this page appears here again, and moves."
HELP = "It may also be dropped anywhere on this page. BVH files of others open as well."
MAX_POSES = 20_000  # frames of all people together


class OpenTab:
    """The components of the tab and what they do."""

    def __init__(self, settings: DemoSettings):
        self.settings = settings
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=320):
                self.file = gr.File(
                    label="Your file: " + ", ".join(kind[1:].upper() for kind in KINDS),
                    file_types=list(KINDS),
                    height=190,
                    elem_id="open-file",
                )
                gr.Markdown(HELP, elem_id="open-help")
            with gr.Column(scale=8, min_width=320):
                self.view = pose_viewer(WORDS, "open-view")
                self.status = gr.Markdown("", elem_id="open-status")
        opened = self.file.change(
            self.on_file,
            {self.file},
            [self.view, self.status],
            concurrency_id="again",
            show_progress_on=[self.view],
            api_visibility="private",
        )
        opened.success(None, js=show_result("open-view", "open-view"), api_visibility="private")

    @plain_errors()
    def on_file(self, values: Values) -> Update:
        """Show what is in a file, and nothing once it is taken away."""
        path = values[self.file]
        if path is None:
            return {self.view: None, self.status: ""}
        motions = open_motions(path, self.settings)
        return {self.view: viewer_value(motions), self.status: describe(motions)}


def open_motions(path: str, settings: DemoSettings) -> list[PoseMotion]:
    """Read the people of an uploaded file within the limits.

    Raises:
        ValueError: It is of another kind, damaged, too large, or shows nobody.
    """
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


def describe(motions: Sequence[PoseMotion]) -> str:
    """Say how many people there are, and for how long."""
    people = count_people(len(motions))
    frames = max(len(motion) for motion in motions)
    seconds = max(motion.times_s[-1] for motion in motions) - min(motion.times_s[0] for motion in motions)
    return f"{people}." if frames == 1 else f"{people}, {frames} frames, {seconds:.1f} s."
