"""The Space in a real browser: what a visitor does, on a large screen and on a phone, in the light and in the dark.

Pictures of it go to `build/screenshots`, to be looked at. A test also fails if the page writes an error to the
console, if a request fails, or if anything is asked of another machine.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from pages import (
    INSPECT,
    IS_IN_VIEW,
    PHONE_OPTIONS,
    SCREENSHOTS,
    download,
    give,
    status,
    wait_for_estimate,
    wait_for_skeleton,
)
from PIL import Image

pytest.importorskip("playwright")
from playwright.sync_api import Page  # noqa: E402

COLORFUL_PIXELS = """
() => {
  const canvas = document.querySelector('#view .jointdetr-view').shadowRoot.querySelector('canvas');
  const copy = document.createElement('canvas');
  [copy.width, copy.height] = [canvas.width, canvas.height];
  const context = copy.getContext('2d');
  context.drawImage(canvas, 0, 0);
  const { data } = context.getImageData(0, 0, copy.width, copy.height);
  let count = 0;
  for (let i = 0; i < data.length; i += 4) {
    const [low, high] = [Math.min(data[i], data[i + 1], data[i + 2]), Math.max(data[i], data[i + 1], data[i + 2])];
    if (data[i + 3] > 0 && high - low > 60) count++;
  }
  return count;
}
"""
OPENED = "() => document.querySelector('#open-view .jointdetr-view')?.viewer?.inspect().people === 1"
DROPPED = """
(text) => {
  const dropped = new DataTransfer();
  dropped.items.add(new File([text], 'pose.json'));
  return dropped;
}
"""


def middle_of(page: Page, selector: str) -> tuple[float, float]:
    box = page.locator(selector).bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def draw_box(page: Page, left: float, right: float) -> None:
    """Draw a box over the picture with the mouse, from one part of its width to another."""
    area = page.locator(".jointdetr-layer")
    area.scroll_into_view_if_needed()
    box = area.bounding_box()
    page.mouse.move(box["x"] + box["width"] * left, box["y"] + 4)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * right, box["y"] + box["height"] - 4, steps=4)
    page.mouse.up()


def open_file(page: Page, path: Path) -> None:
    page.get_by_role("tab", name="Open").click()
    page.set_input_files("#open-file input[type=file]", path)


def write_film(path: Path, pictures: Sequence[Image.Image], times_ms: Sequence[int] | None = None) -> Path:
    """Write pictures as an H.264 film, 25 a second if no times are given."""
    from jointdetr.formats.film import FilmWriter

    times_ms = times_ms or range(0, 40 * len(pictures), 40)
    with FilmWriter(path) as writer:
        for picture, time_ms in zip(pictures, times_ms, strict=True):
            writer.write(picture, time_ms / 1000)
    return path


class TestPicture:
    def test_upload_draws_a_skeleton_that_turns(self, page, example_picture):
        give(page, example_picture)
        assert "1 person" in status(page)
        assert page.evaluate(COLORFUL_PIXELS) > 1000
        before = page.evaluate(INSPECT)["azimuth"]
        box = page.locator("#view canvas").bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + 160, y + 10, steps=8)
        page.mouse.up()
        assert abs(page.evaluate(INSPECT)["azimuth"] - before) > 0.3
        page.screenshot(path=SCREENSHOTS / "picture.png", full_page=True)

    def test_threshold_changes_what_is_found_without_the_network(self, page, example_picture):
        give(page, example_picture)
        before = int(re.search(r"(\d+) of 17 joints", status(page))[1])
        assert before > 10
        slider = page.locator("#threshold input[type=range]")
        slider.fill("0.95")
        slider.dispatch_event("pointerup")
        page.wait_for_function("() => document.querySelector('#status').innerText.includes('Estimated in') === false")
        found = int(re.search(r"(\d+) of 17 joints", status(page))[1])
        assert found < before
        assert page.locator("#table").get_by_text("guessed").count() > 0
        page.screenshot(path=SCREENSHOTS / "guessed.png", full_page=True)

    def test_downloads_are_what_they_say(self, page, example_picture, tmp_path):
        import trimesh
        from bvh import Bvh

        give(page, example_picture)
        files = {name: download(page, name) for name in ("json", "npz", "bvh", "glb")}
        for name, file in files.items():
            assert file.suggested_filename == f"pose.{name}"
            file.save_as(tmp_path / f"pose.{name}")
        document = json.loads((tmp_path / "pose.json").read_text())
        with np.load(tmp_path / "pose.npz") as arrays:
            assert np.allclose(arrays["joints"][0], document["people"][0]["joints"], atol=0.01)
        motion = Bvh((tmp_path / "pose.bvh").read_text())
        assert motion.nframes == 1
        assert len(motion.get_joints_names()) >= 17
        scene = trimesh.load(tmp_path / "pose.glb")
        assert 1.0 < scene.extents.max() < 2.5, "metres"

    def test_example(self, page):
        page.get_by_label("Example waving").click()
        wait_for_estimate(page)
        wait_for_skeleton(page)
        assert "1 person" in status(page)

    def test_webcam(self, page):
        page.get_by_label("Capture from camera").click()
        page.locator("#picture").get_by_title("grant webcam access").click()
        page.wait_for_function("() => document.querySelector('#picture video')?.videoWidth > 0")
        page.get_by_label("capture photo").click()
        wait_for_estimate(page)
        page.screenshot(path=SCREENSHOTS / "webcam.png", full_page=True)

    def test_camera_places_the_person(self, page, example_picture, tmp_path):
        give(page, example_picture)
        page.get_by_text("Camera", exact=True).click()
        page.get_by_label("What you know of the camera").click()
        page.get_by_role("option", name="field of view", exact=True).click()
        assert "(the camera is a guess)" in status(page)
        page.get_by_role("spinbutton", name="Field of view (degrees)").fill("55")
        page.get_by_role("spinbutton", name="Field of view (degrees)").press("Enter")
        page.wait_for_function("() => !document.querySelector('#status').innerText.includes('Estimated in')")
        download(page, "json").save_as(tmp_path / "pose.json")
        person = json.loads((tmp_path / "pose.json").read_text())["people"][0]
        assert person["joints_camera"][0][2] > 1000

    def test_two_people_by_boxes(self, page, example_picture, tmp_path):
        with Image.open(example_picture) as image:
            two = Image.new("RGB", (2 * image.width, image.height))
            two.paste(image, (0, 0))
            two.paste(image, (image.width, 0))
        two.save(tmp_path / "two.jpg")
        page.set_input_files("#picture input[type=file]", tmp_path / "two.jpg")
        wait_for_estimate(page)
        boxes = page.locator(".jointdetr-box")
        while count := boxes.count():
            page.get_by_label(f"Remove person {count}").click()
        page.get_by_text("The skeleton appears here").wait_for()
        for people, (left, right) in enumerate([(0.02, 0.48), (0.52, 0.98)], start=1):
            draw_box(page, left, right)
            wait_for_skeleton(page, people)
        page.get_by_text("2 people").wait_for()
        assert download(page, "bvh").suggested_filename == "pose-bvh.zip"
        page.screenshot(path=SCREENSHOTS / "two-people.png", full_page=True)
        page.get_by_label("Remove person 2").click()
        wait_for_skeleton(page, 1)

    def test_boxes_by_keyboard(self, page, example_picture):
        give(page, example_picture)
        box = page.locator(".jointdetr-box").first
        before = box.bounding_box()
        box.focus()
        for key in ("Shift+ArrowUp", "ArrowDown", "ArrowRight"):
            page.keyboard.press(key)
        after = box.bounding_box()
        assert after["x"] > before["x"] and after["y"] > before["y"] and after["height"] < before["height"]
        page.keyboard.press("Delete")
        page.get_by_text("The skeleton appears here").wait_for()
        page.get_by_role("button", name="Whole picture").click()
        wait_for_skeleton(page)

    def test_a_box_is_moved_by_its_corner_and_never_hides_a_head(self, page, example_picture):
        give(page, example_picture)
        box = page.locator(".jointdetr-box").first
        box.focus()
        corner = page.locator(".jointdetr-box .jointdetr-corner[data-corner='bottom right']").first
        handle, before = corner.bounding_box(), box.bounding_box()
        assert min(handle["width"], handle["height"]) >= 24
        page.mouse.move(handle["x"] + 12, handle["y"] + 12)
        page.mouse.down()
        page.mouse.move(handle["x"] - 8, handle["y"] - 18, steps=3)
        page.mouse.up()
        after = box.bounding_box()
        assert before["height"] - after["height"] == pytest.approx(30, abs=3)
        tag = page.locator(".jointdetr-tag").first.bounding_box()
        assert tag["y"] > after["y"] + after["height"] / 2

    def test_an_error_is_in_words_and_goes_away_with_the_next_success(self, page, example_picture, tmp_path):
        (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
        page.set_input_files("#picture input[type=file]", tmp_path / "broken.png")
        error = page.get_by_text("could not be read as a picture").first
        error.wait_for()
        page.locator("#picture img").wait_for(state="detached")
        page.wait_for_timeout(2000)  # until it was answered that the picture is gone
        assert error.is_visible()
        give(page, example_picture)
        page.wait_for_function("() => !document.body.innerText.includes('could not be read as a picture')")


class TestOpen:
    def test_what_was_taken_home_opens_again(self, page, tmp_path):
        wait_for_skeleton(page)
        for name in ("json", "html", "glb", "bvh"):
            download(page, name).save_as(tmp_path / f"pose.{name}")
        for name in ("json", "html", "glb", "bvh"):
            open_file(page, tmp_path / f"pose.{name}")
            page.get_by_text("1 person.", exact=True).wait_for()
            page.wait_for_function(OPENED)
            if name == "html":
                page.screenshot(path=SCREENSHOTS / "open.png", full_page=True)
            page.locator("#open-file").get_by_label("Clear").click()
            page.get_by_text("appears here again").wait_for()

    def test_a_file_dropped_anywhere_opens(self, page, tmp_path):
        wait_for_skeleton(page)
        download(page, "json").save_as(tmp_path / "pose.json")
        for _ in range(2):
            dropped = page.evaluate_handle(DROPPED, (tmp_path / "pose.json").read_text())
            page.dispatch_event("#title", "drop", {"dataTransfer": dropped})
            page.wait_for_function(OPENED)
            page.get_by_role("tab", name="Picture").click()

    def test_what_is_none_is_refused_in_words(self, page, tmp_path):
        (tmp_path / "pose.json").write_text("{}")
        open_file(page, tmp_path / "pose.json")
        page.get_by_text("pose.json: expected an object with `people` and `skeleton`").first.wait_for()


class TestFilm:
    def test_motion_is_shown_and_plays(self, open_page, example_picture, tmp_path):
        from bvh import Bvh

        page = open_page(reduced_motion="no-preference")
        with Image.open(example_picture) as image:
            still = image.convert("RGB").resize((240, 300))
        frames = [still.rotate(0, translate=(shift, 0)) for shift in range(-12, 12, 2)]
        page.get_by_role("tab", name="Film").click()
        page.set_input_files("#film input[type=file]", write_film(tmp_path / "walk.mp4", frames))
        page.locator("#film video").wait_for()
        page.click("#film-go")
        viewer = "document.querySelector('#film-view .jointdetr-view')?.viewer"
        page.wait_for_function(f"() => {viewer}?.inspect().people === 1")
        assert re.search(r"1 person: 6 frames, 0\.4 s", page.inner_text("#film-status"))
        first = page.evaluate(f"() => {viewer}.inspect().frame")
        page.wait_for_function(f"(first) => {viewer}.inspect().frame !== first", arg=first)
        page.locator("#film-view input[type=range]").fill("0.3")
        assert page.evaluate(f"() => {viewer}.inspect().playing") is False
        with page.expect_download() as event:
            page.click("#film-download-bvh")
        assert Bvh(event.value.path().read_text()).nframes == 6
        event.value.save_as(tmp_path / "pose.bvh")
        page.get_by_text("Joint angles", exact=True).click()
        page.wait_for_function("() => document.querySelector('#film-angles img')?.naturalWidth === 1200")
        drawn = "document.querySelector('#film-overlay video')"
        page.wait_for_function(f"() => {drawn}?.videoWidth === 240 && {drawn}.currentTime > 0")
        page.screenshot(path=SCREENSHOTS / "film.png", full_page=True)
        open_file(page, tmp_path / "pose.bvh")
        page.get_by_text("1 person, 6 frames, 0.4 s.").wait_for()
        opened = "document.querySelector('#open-view .jointdetr-view').viewer.inspect()"
        first = page.evaluate(f"{opened}.frame")
        page.wait_for_function(f"(first) => {opened}.frame !== first", arg=first)

    def test_example_on_a_phone(self, open_page):
        page = open_page("?__theme=dark", **PHONE_OPTIONS)
        page.get_by_role("tab", name="Film").click()
        page.locator("#film-examples button.gallery-item").first.click()
        page.locator("#film video").first.wait_for()
        page.locator("#film-step input[type=range]").fill("10")
        page.click("#film-go")
        page.locator("#film-overlay video").wait_for()
        assert "1 person: 5 frames" in page.inner_text("#film-status")
        page.wait_for_function(IS_IN_VIEW, arg="#film-view")
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        page.screenshot(path=SCREENSHOTS / "film-phone.png", full_page=True)

    def test_too_long_and_broken_films_are_refused_in_words(self, page, tmp_path):
        long = write_film(tmp_path / "long.mp4", [Image.new("RGB", (64, 64))] * 12, times_ms=range(0, 12000, 1000))
        (tmp_path / "broken.mp4").write_bytes(b"no film" * 100)
        page.get_by_role("tab", name="Film").click()
        page.click("#film-go")
        page.get_by_text("Give a film first").first.wait_for()
        for film, words in ((long, "at most 5 seconds"), (tmp_path / "broken.mp4", "could not be read as a film")):
            page.set_input_files("#film input[type=file]", film)
            page.locator("#film video").wait_for()
            page.click("#film-go")
            page.get_by_text(words).first.wait_for()
            page.locator("#film").get_by_label("Clear").click()


class TestScreens:
    @pytest.mark.parametrize("theme", ["light", "dark"])
    @pytest.mark.parametrize("screen", ["desktop", "phone"])
    def test_everything_can_be_read(self, open_page, screen, theme):
        """By axe-core's rules for contrast, names and order, on every tab."""
        axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
        page = open_page(f"?__theme={theme}", **(PHONE_OPTIONS if screen == "phone" else {}))
        wait_for_skeleton(page)
        for tab in ("Picture", "Film", "Live", "Open", "About"):
            page.get_by_role("tab", name=tab).click()
            page.get_by_role("tabpanel").first.wait_for()
            page.screenshot(path=SCREENSHOTS / f"{screen}-{theme}-{tab.split()[0].lower()}.png", full_page=True)
            violations = axe.run(page).response["violations"]
            serious = {each["id"]: each["nodes"] for each in violations if each["impact"] not in ("minor", "moderate")}
            assert serious == {}, (tab, serious)

    def test_landing_turns_until_it_is_touched(self, open_page):
        page = open_page(reduced_motion="no-preference")
        wait_for_skeleton(page)
        assert "This is an example" in status(page)
        assert page.locator("#download-json").is_enabled()
        first = page.evaluate(INSPECT)["azimuth"]
        page.wait_for_function(f"(first) => ({INSPECT})().azimuth !== first", arg=first)
        page.mouse.click(*middle_of(page, "#view canvas"))
        assert page.evaluate(INSPECT)["turning"] is False

    def test_phone(self, open_page, example_picture):
        page = open_page(device_scale_factor=2, **PHONE_OPTIONS)
        give(page, example_picture)
        page.wait_for_function(IS_IN_VIEW, arg="#view")
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        order = ("#picture", "#people", "#view", "#status", "#download-glb", "#threshold", "#table")
        boxes = [page.locator(element).bounding_box() for element in order]
        assert [box["y"] for box in boxes] == sorted(box["y"] for box in boxes)
        for element, box in zip(order, boxes, strict=True):
            assert box["x"] >= 0, element
            assert box["x"] + box["width"] <= 390, element
        page.screenshot(path=SCREENSHOTS / "phone.png", full_page=True)

    def test_dark(self, open_page, example_picture):
        page = open_page("?__theme=dark")
        give(page, example_picture)
        background = page.evaluate("getComputedStyle(document.querySelector('.gradio-container')).backgroundColor")
        assert max(int(value) for value in re.findall(r"\d+", background)[:3]) < 60
        assert page.evaluate(COLORFUL_PIXELS) > 1000
        page.screenshot(path=SCREENSHOTS / "dark.png", full_page=True)

    def test_about(self, page):
        page.get_by_role("tab", name="About").click()
        page.get_by_role("heading", name="Limits").wait_for()
        page.screenshot(path=SCREENSHOTS / "about.png", full_page=True)
