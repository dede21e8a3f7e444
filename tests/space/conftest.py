"""One server of the Space for all tests that need one, and a browser to look at it."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pages import CHROMIUM_OPTIONS, SCREENSHOTS, TIMEOUT_MS, Watch, context_options, write_camera_film

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

REPOSITORY = Path(__file__).parents[2]
START_TIMEOUT_S = 180


@pytest.fixture(scope="session")
def space_url(shipped_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of `space/app.py`, run as the Space runs it, from a folder that is not the repository."""
    pytest.importorskip("gradio")
    folder = tmp_path_factory.mktemp("space")
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JOINTDETR_")}
    environment |= {
        "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_SERVER_NAME": "127.0.0.1",
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_TEMP_DIR": str(folder / "files"),
        "JOINTDETR_MAX_VIDEO_SECONDS": "5",
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    log = folder / "log.txt"
    with log.open("w") as stream:
        program = [sys.executable, str(REPOSITORY / "space" / "app.py")]
        process = subprocess.Popen(program, cwd=folder, env=environment, stdout=stream, stderr=subprocess.STDOUT)
    try:
        yield wait_for(f"http://127.0.0.1:{port}/", process, log)
    finally:
        process.terminate()
        process.wait(timeout=30)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(url: str, process: subprocess.Popen, log: Path) -> str:
    """Return the address once the page is there."""
    start = time.monotonic()
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return url
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() - start < START_TIMEOUT_S, log.read_text()
            time.sleep(0.2)


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """The browser's program; skips where there is none."""
    pytest.importorskip("playwright")
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("no chromium: install it or set CHROMIUM to its path")
    return path


@pytest.fixture(scope="session")
def example_picture() -> Path:
    """A synthetic person that fills the picture."""
    return REPOSITORY / "jointdetr" / "demo" / "examples" / "waving.jpg"


@pytest.fixture(scope="module")  # as long as it is open, no other test of the process can open one
def browser(chromium_path: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator["Browser"]:
    """Chromium, with a camera that shows the person of the example film walking."""
    from playwright.sync_api import sync_playwright

    film = REPOSITORY / "jointdetr" / "demo" / "examples" / "walking.mp4"
    camera = write_camera_film(tmp_path_factory.mktemp("camera") / "walking.mjpeg", film)
    options = [*CHROMIUM_OPTIONS, f"--use-file-for-fake-video-capture={camera}"]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=chromium_path, args=options)
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser: "Browser", space_url: str) -> Iterator[Callable[..., "Page"]]:
    """Opens the Space in a window of its own; at the end no page may have complained."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    contexts: list[BrowserContext] = []
    watches: list[Watch] = []

    def open_one(query: str = "", **options: object) -> "Page":
        contexts.append(browser.new_context(**context_options(options)))
        page = contexts[-1].new_page()
        page.set_default_timeout(TIMEOUT_MS)
        watches.append(Watch(page))
        page.goto(space_url + query)
        page.wait_for_selector("#picture input[type=file]", state="attached")
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert [complaint for watch in watches for complaint in watch.complaints] == []


@pytest.fixture
def page(open_page: Callable[..., "Page"]) -> "Page":
    return open_page()
