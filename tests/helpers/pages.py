"""The page in a browser, as the tests open it: sizes, a watch for what a page must not do, a film for its camera."""

import re
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from PIL import Image

if TYPE_CHECKING:
    from playwright.sync_api import Download, Locator, Page

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
# Gradio plays a film among its examples for a moment, to have a picture of it; drawn twice, one play ends the other.
PLAYED_TWICE = "The play() request was interrupted by a call to pause()."

IS_IN_VIEW = """
(selector) => {
  const { top, bottom } = document.querySelector(selector).getBoundingClientRect();
  return top > -1 && bottom < window.innerHeight + 1;  // pages scroll by whole pixels
}
"""
INSPECT = "() => document.querySelector('#view .jointdetr-view').viewer.inspect()"


class Watch:
    """Collects what a page must not do."""

    def __init__(self, page: "Page"):
        self.complaints: list[str] = []
        page.on("console", lambda message: message.type == "error" and self.note("console", message.text))
        page.on("pageerror", lambda error: PLAYED_TWICE in str(error) or self.note("exception", str(error)))
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


def give(page: "Page", picture: Path) -> None:
    """Upload a picture and wait until its skeleton is drawn."""
    page.set_input_files("#picture input[type=file]", picture)
    wait_for_estimate(page)
    wait_for_skeleton(page)


def wait_for_estimate(page: "Page") -> None:
    """Wait for the answer to a picture; what is shown before, an example or a view of another kind, says no time."""
    page.wait_for_function("() => document.querySelector('#status').innerText.includes('Estimated in')")


def wait_for_skeleton(page: "Page", people: int = 1) -> None:
    page.wait_for_function(
        "(people) => { const viewer = document.querySelector('#view .jointdetr-view')?.viewer;"
        " return viewer && viewer.inspect().people === people && viewer.inspect().picturesDrawn > 0; }",
        arg=people,
    )
    page.wait_for_function("() => !document.querySelector('#view .progress-text')")


def status(page: "Page") -> str:
    return page.inner_text("#status")


def download(page: "Page", name: str) -> "Download":
    with page.expect_download() as event:
        page.click(f"#download-{name}")
    return event.value


def touch(page: "Page", element: "Locator") -> None:
    """Touch the middle of an element, which has to be on the screen already."""
    page.touchscreen.tap(*middle_on_screen(page, element))


def middle_on_screen(page: "Page", element: "Locator") -> tuple[float, float]:
    box = element.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    assert 0 <= y <= page.viewport_size["height"], "a visitor would have to scroll first"
    return x, y


def swipe(page: "Page", start: tuple[float, float], by: tuple[float, float], steps: int = 6) -> None:
    """Put a finger down, move it and lift it, as the browser hears of it from a touchscreen."""
    finger = page.context.new_cdp_session(page)
    for step in range(steps + 1):
        x, y = (place + way * step / steps for place, way in zip(start, by, strict=True))
        event = {"type": "touchMove" if step else "touchStart", "touchPoints": [{"x": x, "y": y}]}
        finger.send("Input.dispatchTouchEvent", event)
        page.wait_for_timeout(30)
    finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    finger.detach()
