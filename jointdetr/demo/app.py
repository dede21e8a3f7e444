"""The page of the demo, what it says of the model, and the server that shows it."""

import re
from typing import Any

import gradio as gr
from starlette.middleware import Middleware
from starlette.routing import WebSocketRoute

from ..people_jointdetr import SEARCH, PeopleRequest
from ..visualization import viewer_bundle
from . import DemoSettings
from .estimator import PoseEstimator
from .guard import GuardedBlocks, RequestGuard, open_picture, parse_boxes, plain_errors, read_boxes
from .live import LiveEndpoint
from .motion_tabs import FilmTab, add_open_tab
from .parts import FOCAL_LENGTH, PAGE_SCRIPT, STATIC, camera_of, html
from .picture_tab import PictureTab

TITLE = """# Photo in, 3D skeleton out

Give a picture or a film of people, or stand before your camera; turn the skeletons in 3D, take them home as files."""
OWN_SECTIONS = ("## Numbers\n", "## Limits\n")  # of the model's card
NOT_FOR = "Not for identifying people, nor for medical or safety decisions."
LIVE_ADDRESS = "live"  # of the WebSocket that looks at a camera's frames, from the page's own
BASE64_GROWTH = 1.4  # a picture sent as text, with room for the rest of the request
SYSTEM_FONTS = ["ui-sans-serif", "system-ui", "sans-serif"]
SYSTEM_MONO_FONTS = ["ui-monospace", "monospace"]
MAX_SESSIONS = 500


def theme() -> gr.Theme:
    """Return the page's colours: text of at least 4.5:1 and edges of controls of at least 3:1, light and dark."""
    soft = gr.themes.Soft(primary_hue="blue", neutral_hue="slate", font=SYSTEM_FONTS, font_mono=SYSTEM_MONO_FONTS)
    return soft.set(
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_label_text_color="*primary_800",
        block_title_text_color="*primary_800",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        link_text_color="*primary_700",
        link_text_color_dark="*primary_300",
        link_text_color_visited="*primary_700",
        link_text_color_visited_dark="*primary_300",
        input_border_color="*neutral_500",
        input_border_color_dark="*neutral_400",
        input_border_width="1px",
        checkbox_border_color="*neutral_500",
        checkbox_border_color_dark="*neutral_400",
        button_border_width="1px",
        button_secondary_border_color="*neutral_500",
        button_secondary_border_color_dark="*neutral_400",
        checkbox_label_background_fill_selected="*primary_700",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
    )


def notice(settings: DemoSettings) -> str:
    """Return what a visitor must know before trusting a number, in a sentence or two."""
    if settings.model:
        return f"Model: `{settings.model}`; what it can do is said in its card. {NOT_FOR}"
    error = re.search(r"^\| this checkpoint \| ([\d.]+)", settings.card.read_text(encoding="utf-8"), re.MULTILINE)
    return (
        f"This is the small model of the package. In its test joints are {float(error[1]):.0f} mm off in the mean: "
        "see the tab About for what it was tested on and what it cannot do. It does best on one upright adult who "
        f"is seen whole; wrists and ankles are its weakest joints. {NOT_FOR}"
    )


def about_model(settings: DemoSettings) -> str:
    """Return the sections of the model's card with its numbers and limits, as Markdown."""
    if not settings.card.is_file():
        return f"See the model's card: [{settings.model}](https://huggingface.co/{settings.model})."
    sections = re.split(r"^(?=## )", settings.card.read_text(encoding="utf-8"), flags=re.MULTILINE)
    own = [section.strip() for section in sections if section.startswith(OWN_SECTIONS)]
    return "\n\n".join(own).replace("@", "&#64;")  # PCK@0.2 is no address


class Endpoint:
    """Invisible components of the page with one public listener."""

    def __init__(self, estimator: PoseEstimator):
        self.estimator = estimator
        picture = gr.Image(type="filepath", image_mode=None, label="picture", visible=False)
        threshold = gr.Slider(0, 1, 0.5, label="threshold", visible=False)
        focal_px = gr.Number(None, label="focal_px", visible=False)
        boxes = gr.Textbox("", label="boxes", max_length=2000, visible=False)
        people = gr.Textbox(SEARCH, label="people", max_length=20, visible=False)
        gr.Button(visible=False).click(
            self.estimate,
            [picture, threshold, focal_px, boxes, people],
            gr.JSON(label="poses", visible=False),
            api_name="estimate",
            concurrency_id="network",
            concurrency_limit=1,
        )

    # Gradio shows this text to programs and language models, and takes one line for each argument.
    @plain_errors()
    def estimate(
        self,
        picture: str,
        threshold: float = 0.5,
        focal_px: float | None = None,
        boxes: str = "",
        people: str = SEARCH,
    ) -> dict[str, Any]:
        """Estimate the 3D poses of the people in one picture.

        Without boxes the server finds the people. The list of people is empty where nobody is found.

        Args:
            picture: The picture.
            threshold: A joint with a smaller score is a guess, from 0 to 1.
            focal_px: Focal length in pixels, if known; otherwise 60 degrees are guessed, to place people before it.
            boxes: Where the people are, as "x y width height; x y width height; ..." in pixels.
            people: "search" finds the people where there are no boxes, "whole" takes the whole picture as one person.

        Returns:
            The skeleton's joint names and parents, and for each person the joints in millimetres relative to the root
            (x right, y down, z away from the camera), in pixels, their scores, how many millimetres off each is
            expected to be, and which of them were found.
        """
        estimator, settings = self.estimator, self.estimator.settings
        image = open_picture(picture, settings)
        camera = camera_of(FOCAL_LENGTH, focal_px, image.size)
        given = parse_boxes(read_boxes(boxes), image, settings.max_people) if boxes.strip() else None
        request = PeopleRequest(boxes=given, people=people)
        if given is None and request.people == SEARCH:
            given = estimator.find_people(image)
        found = estimator.assemble(estimator.look(image, given), threshold, camera)
        skeleton = estimator.skeleton
        return {
            "skeleton": {"name": skeleton.name, "joints": skeleton.joints, "parents": skeleton.parents},
            "picture_size": [image.width, image.height],
            "people": estimator.pipeline.postprocess({"people": found}),
        }


def build_app(estimator: PoseEstimator) -> gr.Blocks:
    """Lay out the page."""
    settings = estimator.settings
    gr.set_static_paths([viewer_bundle(), *STATIC.glob("*.js")])
    lifetime = settings.keep_files_seconds
    with GuardedBlocks(
        title="jointdetr: 3D human pose", analytics_enabled=False, delete_cache=(max(lifetime // 10, 1), lifetime)
    ) as page:
        gr.Markdown(TITLE, elem_id="title")
        with gr.Tab("Picture"):
            PictureTab(page, estimator)
        with gr.Tab("Film"):
            FilmTab(page, estimator)
        with gr.Tab("Live"):
            html("live.js", f"<div class='jointdetr-live' data-address='{LIVE_ADDRESS}'></div>", "live", "Live")
        with gr.Tab("Open"):
            add_open_tab(settings)
        with gr.Tab("About"):
            gr.Markdown(about_model(settings), elem_id="about")
        gr.Markdown(notice(settings), elem_id="notice")
        Endpoint(estimator)
    page.queue(max_size=settings.queue_length)
    return page


def launch(
    settings: DemoSettings, host: str | None = None, port: int | None = None, share: bool = False, block: bool = True
) -> gr.Blocks:
    """Build the page and serve it, until interrupted if `block`; host and port default to Gradio's own variables."""
    estimator = PoseEstimator(settings)
    app = build_app(estimator)
    max_bytes = int(settings.max_file_mb * 1e6)
    app.launch(
        server_name=host,
        server_port=port,
        share=share,
        prevent_thread_lock=not block,
        theme=theme(),
        js=PAGE_SCRIPT,
        css_paths=STATIC / "style.css",
        max_file_size=max_bytes,
        app_kwargs={
            "middleware": [Middleware(RequestGuard, max_bytes=int(max_bytes * BASE64_GROWTH))],
            "routes": [WebSocketRoute(f"/{LIVE_ADDRESS}", LiveEndpoint(estimator).serve)],
        },
        state_session_capacity=MAX_SESSIONS,
        footer_links=["api", "settings", "gradio"],
        mcp_server=True,
        ssr_mode=False,
    )
    return app
