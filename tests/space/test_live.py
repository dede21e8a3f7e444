"""A visitor's camera, live: in the browser, whose camera shows a film of the package's own, and at its WebSocket."""

import json
import re
import time
from collections.abc import Callable
from contextlib import ExitStack
from io import BytesIO

import pytest
from pages import PHONE_OPTIONS, SCREENSHOTS, touch, wait_for_skeleton
from PIL import Image

pytest.importorskip("gradio")
pytest.importorskip("playwright")
from playwright.sync_api import Page  # noqa: E402
from websockets.sync.client import connect  # noqa: E402

from jointdetr.demo.live import MAX_FRAME_BYTES, TIME, read_frame  # noqa: E402

INSPECT = "() => document.querySelector('#live .jointdetr-live').live.inspect()"
VIEWER = "document.querySelector('#live .jointdetr-live').live.viewer.inspect()"
SHOWS_PERSON = f"() => {VIEWER}.people === 1 && ({INSPECT})().rate > 0"
# Keeps the frames as they are sent and answered, and the tracks of every camera that was given.
RECORD = """
window.record = { sent: [], answered: [], most: 0, tracks: [] };
const { send } = WebSocket.prototype;
WebSocket.prototype.send = function (data) {
  if (!record.sent.length) this.addEventListener('message', ({ data }) => {
    const { time } = JSON.parse(data);
    if (time) record.answered.push(time);
  });
  data.slice(0, 8).arrayBuffer().then((bytes) => record.sent.push(new Float64Array(bytes)[0]));
  const { onTheirWay } = document.querySelector('#live .jointdetr-live').live.inspect();
  record.most = Math.max(record.most, onTheirWay);
  return send.call(this, data);
};
const { getUserMedia } = MediaDevices.prototype;
MediaDevices.prototype.getUserMedia = async function (wanted) {
  const stream = await getUserMedia.call(this, wanted);
  record.tracks.push(...stream.getTracks());
  return stream;
};
null;
"""
HIDE = """
Object.defineProperty(document, 'hidden', { value: true });
document.dispatchEvent(new Event('visibilitychange'));
"""
NO_CAMERA = """
navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', 'NotFoundError'); };
null;
"""
CAMERAS_ON = "() => record.tracks.filter((track) => track.readyState === 'live').length"


def open_live(page: Page) -> None:
    page.get_by_role("tab", name="Live").click()
    page.get_by_role("button", name="Start the camera").wait_for()
    page.evaluate(RECORD)


def start(page: Page) -> None:
    page.get_by_role("button", name="Start the camera").click()
    page.wait_for_function(SHOWS_PERSON)


class TestInTheBrowser:
    def test_skeleton_follows_the_camera(self, page):
        open_live(page)
        start(page)
        page.wait_for_function(f"() => ({INSPECT})().seen > 12")
        seen, record = page.evaluate(INSPECT), page.evaluate("record")
        assert seen["rate"] > 0.5  # a low bound, for machines that do other things as well
        assert record["answered"] == record["sent"][: len(record["answered"])], "none is lost, all in their order"
        assert record["answered"] == sorted(record["answered"])
        assert record["most"] <= 2, "what the camera shows meanwhile is let go"
        assert seen["sent"] - seen["seen"] <= 3
        page.wait_for_function("() => /1 person: 1\\d of 17/.test(document.querySelector('#live').innerText)")
        page.screenshot(path=SCREENSHOTS / "live.png", full_page=True)

    def test_stop_button_and_another_start(self, page):
        open_live(page)
        for _ in range(2):
            start(page)
            assert page.evaluate(CAMERAS_ON) == 1
            page.get_by_role("button", name="Stop").click()
            page.get_by_text("The camera is off.").wait_for()
            assert page.evaluate(CAMERAS_ON) == 0
            assert page.evaluate(f"{VIEWER}.people") == 0

    def test_camera_is_released_when_the_tab_is_left(self, page):
        open_live(page)
        start(page)
        page.get_by_role("tab", name="Picture").click()
        page.wait_for_function(f"() => ({CAMERAS_ON})() === 0")
        page.get_by_role("tab", name="Live").click()
        page.get_by_text("The camera is off.").wait_for()

    def test_camera_is_released_when_the_page_is_hidden(self, page):
        open_live(page)
        start(page)
        page.evaluate(HIDE)
        page.wait_for_function(f"() => ({CAMERAS_ON})() === 0")

    def test_three_touches_on_a_phone(self, open_page):
        """From opening the page to one's own skeleton, turning: the tab, the button, the browser's own question."""
        page = open_page("?__theme=dark", reduced_motion="no-preference", **PHONE_OPTIONS)
        wait_for_skeleton(page)  # the page has come to rest
        touch(page, page.get_by_role("tab", name="Live"))
        button = page.get_by_role("button", name="Start the camera")
        button.wait_for()
        page.evaluate(RECORD)
        touch(page, button)  # the browser of the tests says yes by itself
        page.wait_for_function(SHOWS_PERSON)
        assert page.evaluate(f"{VIEWER}.turning")
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        for element in ("#live canvas", "#live .jointdetr-view", "#live .jointdetr-start"):
            box = page.locator(element).first.bounding_box()
            assert box["y"] >= 0, element
            assert box["y"] + box["height"] <= 844, element
        page.screenshot(path=SCREENSHOTS / "live-phone.png")
        touch(page, page.get_by_role("button", name="Stop"))
        page.wait_for_function(f"() => ({CAMERAS_ON})() === 0")

    def test_without_a_camera_there_are_words(self, page):
        page.get_by_role("tab", name="Live").click()
        page.evaluate(NO_CAMERA)
        page.get_by_role("button", name="Start the camera").click()
        page.get_by_text("There is no camera.").wait_for()
        assert page.get_by_role("button", name="Start the camera").is_visible()


class TestSocket:
    @pytest.fixture
    def visit(self, space_url: str):
        """Opens the WebSocket as the page does; all are closed at the end."""
        with ExitStack() as visits:
            yield lambda: visits.enter_context(connect(f"{space_url.replace('http', 'ws')}live"))

    def test_answers_frame_by_frame(self, visit, example_picture):
        socket = visit()
        skeleton = json.loads(socket.recv())["skeleton"]
        for number in range(3):
            socket.send(TIME.pack(number / 10) + example_picture.read_bytes())
        answers = [json.loads(socket.recv()) for _ in range(3)]
        assert [answer["time"] for answer in answers] == [0.0, 0.1, 0.2]
        [person] = answers[-1]["people"]
        assert person["id"] == 1
        assert len(person["joints"]) == len(person["points"]) == len(skeleton["joints"]) == 17
        assert all(0 <= place <= 1 for point in person["points"] for place in point)
        assert re.search(r"1 person: 1\d of 17 joints found, expected error", answers[-1]["words"])

    def test_nobody_is_said(self, visit):
        socket = visit()
        socket.recv()
        socket.send(frame(0.0))
        answer = json.loads(socket.recv())
        assert answer["people"] == []
        assert answer["words"].startswith("Nobody found")

    @pytest.mark.parametrize(
        ("messages", "words"),
        [
            ([b"no frame at all"], "could not be read"),
            (["text"], "got 0"),
            ([b"0" * (MAX_FRAME_BYTES + 1)], "up to 1000000 bytes"),
            (["frame", "frame"], "order of time, got 0 s after 0 s"),
        ],
    )
    def test_what_is_refused_is_said_and_ends_the_visit(self, visit, messages, words):
        socket = visit()
        socket.recv()
        for message in messages:
            socket.send(frame(0.0) if message == "frame" else message)
        answers = [json.loads(answer) for answer in socket]
        assert words in answers[-1]["error"]

    def test_too_many_visitors_are_told_so_until_one_leaves(self, visit):
        visits = [visit() for _ in range(4)]
        assert all("skeleton" in json.loads(one.recv()) for one in visits)
        assert "Other visitors" in json.loads(visit().recv())["error"]
        visits[0].close()
        wait_until(lambda: "skeleton" in json.loads(visit().recv()))


def wait_until(is_true: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def frame(time_s: float, size: tuple[int, int] = (320, 240)) -> bytes:
    """A grey frame, as the page sends it."""
    stream = BytesIO()
    Image.new("RGB", size, "gray").save(stream, "JPEG")
    return TIME.pack(time_s) + stream.getvalue()


def test_frames_are_read_within_limits():
    time_s, picture = read_frame(frame(1.5))
    assert (time_s, picture.size, picture.mode) == (1.5, (320, 240), "RGB")
    with pytest.raises(ValueError, match="at most 1280 pixels a side, got 1300"):
        read_frame(frame(0, (1300, 20)))
