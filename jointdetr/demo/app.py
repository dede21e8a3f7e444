"""The page of the demo, what it says of the model, and the server that shows it."""

import re

import gradio as gr
from starlette.middleware import Middleware
from starlette.routing import WebSocketRoute

from .api import Endpoint
from .estimator import PoseEstimator
from .guard import GuardedBlocks, RequestGuard
from .live import LiveEndpoint
from .motion_tabs import FilmTab, OpenTab
from .parts import LIVE_ADDRESS, PAGE_SCRIPT, STATIC, live_view, static_files
from .picture_tab import PictureTab
from .settings import DemoSettings

TITLE = """# Photo in, 3D skeleton out

Give a picture or a film of people, or stand before your camera; turn the skeletons in 3D, take them home as files."""
OWN_SECTIONS = ("## Numbers\n", "## Limits\n")  # of the model's card
NOT_FOR = "Not for identifying people, nor for medical or safety decisions."
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
    if error is None:
        raise ValueError(f"{settings.card} has no row `| this checkpoint | MPJPE | ...`")
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


def build_app(estimator: PoseEstimator) -> gr.Blocks:
    """Lay out the page."""
    settings = estimator.settings
    gr.set_static_paths([str(path) for path in static_files()])
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
            live_view("live")
        with gr.Tab("Open"):
            OpenTab(settings)
        with gr.Tab("About"):
            gr.Markdown(about_model(settings), elem_id="about")
        gr.Markdown(notice(settings), elem_id="notice")
        Endpoint(estimator)
    page.queue(max_size=settings.queue_length)
    return page


def launch(
    settings: DemoSettings, host: str | None = None, port: int | None = None, share: bool = False, block: bool = True
) -> gr.Blocks:
    """Build the page and serve it, until interrupted if `block`; host and port default to Gradio's own variables.

    Raises:
        OSError: The checkpoint cannot be found.
        ValueError: It is none of this package.
    """
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
