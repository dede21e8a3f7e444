"""The page in a browser, as the tests open it: sizes, a watch for what a page must not do, a film for its camera."""

import re
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from PIL import Image

if TYPE_CHECKING:
    from playwright.sync_api import Page

REPOSITORY = Path(__file__).parents[2]
SCREENSHOTS = REPOSITORY / "build" / "screenshots"
TIMEOUT_MS = 60_000
DESKTOP, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
PHONE_OPTIONS = {"viewport": PHONE, "is_mobile": True, "has_touch": True}
CHROMIUM_OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--mute-audio",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
)
# The page itself ends these streams when it has what it asked for, or when it is left.
ENDED_BY_THE_PAGE = re.compile(r"^/gradio_api/(queue/data|heartbeat/)")


class Watch:
    """Collects what a page must not do."""

    def __init__(self, page: "Page"):
        self.complaints: list[str] = []
        page.on("console", lambda message: message.type == "error" and self.note("console", message.text))
        page.on("pageerror", lambda error: self.note("exception", str(error)))
        page.on("response", lambda response: response.status >= 400 and self.note(str(response.status), response.url))
        page.on("requestfailed", lambda request: self.failed(request.url, request.failure))
        page.on("request", lambda request: self.asked(request.url))

    def note(self, kind: str, text: str) -> None:
        self.complaints.append(f"{kind}: {text}")

    def failed(self, url: str, reason: str | None) -> None:
        if not ENDED_BY_THE_PAGE.match(urlparse(url).path):
            self.note("failed", f"{url} {reason}")

    def asked(self, url: str) -> None:
        parts = urlparse(url)
        if parts.scheme not in ("data", "blob") and parts.hostname != "127.0.0.1":
            self.note("another machine", url)


def context_options(options: dict[str, Any]) -> dict[str, Any]:
    """What a window is opened with: a large screen that wants no motion, unless it is said otherwise."""
    return {"viewport": DESKTOP, "accept_downloads": True, "reduced_motion": "reduce"} | options


def write_camera_film(path: Path, film: Path) -> Path:
    """Write a film as the pictures of a camera, 640 x 480 px, for Chromium's camera that is none; it repeats them."""
    from jointdetr.formats.film import FrameReader

    with path.open("wb") as stream:
        for frame in FrameReader(film):
            picture = Image.new("RGB", (640, 480), (178, 182, 188))
            height = 440
            person = frame.image.resize((round(frame.image.width * height / frame.image.height), height))
            picture.paste(person, ((640 - person.width) // 2, 20))
            encoded = BytesIO()
            picture.save(encoded, "JPEG", quality=90)
            stream.write(encoded.getvalue())
    return path
