"""The page of the demo, and the server that shows it."""

from pathlib import Path

import gradio as gr
from starlette.middleware import Middleware
from starlette.routing import WebSocketRoute

from .about import TITLE, about_model, notice
from .api import Endpoint
from .estimator import PoseEstimator
from .film_tab import FilmTab
from .guard import GuardedBlocks, RequestGuard
from .live import ADDRESS, LiveEndpoint
from .open_tab import OpenTab
from .picture_tab import PictureTab
from .settings import DemoSettings
from .viewer import PAGE_SCRIPT, live_view, static_files

STYLE = Path(__file__).parent / "static" / "style.css"
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


def build_app(estimator: PoseEstimator, settings: DemoSettings) -> gr.Blocks:
    """Lay out the page."""
    gr.set_static_paths([str(path) for path in static_files()])
    lifetime = settings.keep_files_seconds
    with GuardedBlocks(
        title="jointdetr: 3D human pose", analytics_enabled=False, delete_cache=(max(lifetime // 10, 1), lifetime)
    ) as app:
        gr.Markdown(TITLE, elem_id="title")
        with gr.Tab("Picture"):
            PictureTab(estimator, settings).listen_to_page(app)
        with gr.Tab("Film"):
            FilmTab(estimator, settings).listen_to_page(app)
        with gr.Tab("Live"):
            live_view(ADDRESS, "live")
        with gr.Tab("Open"):
            OpenTab(settings)
        with gr.Tab("About"):
            gr.Markdown(about_model(settings), elem_id="about")
        gr.Markdown(notice(settings), elem_id="notice")
        Endpoint(estimator, settings)
    app.queue(max_size=settings.queue_length)
    return app


def launch(
    settings: DemoSettings, host: str | None = None, port: int | None = None, share: bool = False, block: bool = True
) -> gr.Blocks:
    """Build the page and serve it, until interrupted if `block`; host and port default to Gradio's own variables.

    Raises:
        OSError: The checkpoint cannot be found.
        ValueError: It is none of this package.
    """
    estimator = PoseEstimator(settings)
    app = build_app(estimator, settings)
    max_bytes = int(settings.max_file_mb * 1e6)
    app.launch(
        server_name=host,
        server_port=port,
        share=share,
        prevent_thread_lock=not block,
        theme=theme(),
        js=PAGE_SCRIPT,
        css_paths=STYLE,
        max_file_size=max_bytes,
        app_kwargs={
            "middleware": [Middleware(RequestGuard, max_bytes=int(max_bytes * BASE64_GROWTH))],
            "routes": [WebSocketRoute(ADDRESS, LiveEndpoint(estimator, settings).serve)],
        },
        state_session_capacity=MAX_SESSIONS,
        footer_links=["api", "settings", "gradio"],
        mcp_server=True,
        ssr_mode=False,
    )
    return app
