"""The 3D viewer in a real browser: it draws, turns, plays, names joints, fits a phone, and says when it cannot."""

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from moving_people import moving
from PIL import Image

from jointdetr.motion import PoseMotion
from jointdetr.skeleton_jointdetr import HUMAN36M, MPI_INF_3DHP, Skeleton
from jointdetr.visualization import viewer_bundle, viewer_data, write_viewer_html

VIEWER = viewer_bundle().parent
CHROMIUM_OPTIONS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
MOUNT_LIVE = """
async (data) => {
  const code = JSON.parse(document.getElementById('bundle').textContent);
  const { mount } = await import('data:text/javascript;charset=utf-8,' + encodeURIComponent(code));
  viewer.dispose();
  window.viewer = mount(document.getElementById('viewer'), data, { live: true });
}
"""
BLUE, ORANGE = (31, 119, 208), (240, 127, 19)


class TestData:
    def test_people_share_a_time_line(self):
        late = moving(frames=3, person=4, root_camera=np.full((3, 3), 1000.04))
        late.times_s = late.times_s + 0.04
        late.joints[0, 10] = np.nan
        data = viewer_data([moving(frames=2), late])
        assert data["times"] == [0.0, 0.04, 0.08, 0.12]
        first, second = data["people"]
        assert (first["id"], second["id"]) == (1, 5)
        assert first["joints"][2] == [None] * 17
        assert second["joints"][0] == [None] * 17
        assert second["joints"][1][10] is None
        assert second["joints"][1][0] == [0.0, 0.0, 0.0]
        assert second["root"] == [None, *[[1000.0] * 3] * 3]
        assert first["root"] is None
        assert first["detected"] == [[True] * 17] * 2 + [[False] * 17] * 2
        assert data["skeleton"]["sides"][1:5:3] == ["right", "left"]
        json.dumps(data, allow_nan=False)

    def test_nobody_is_an_empty_scene(self):
        assert viewer_data([])["people"] == []

    def test_different_skeletons_are_refused(self):
        with pytest.raises(ValueError, match="the same skeleton, got 'human36m' and 'mpi_inf_3dhp'"):
            viewer_data([moving(HUMAN36M), moving(MPI_INF_3DHP)])


class TestBundle:
    def test_was_built_from_the_sources(self):
        digest = hashlib.sha256()
        for path in [*sorted((VIEWER / "src").iterdir()), VIEWER / "build.js", VIEWER / "package-lock.json"]:
            digest.update(path.read_bytes())
        banner = viewer_bundle().read_text().splitlines()[0]
        assert re.search(r"sources: (\w+)", banner).group(1) == digest.hexdigest(), "run `npm ci && npm run build`"

    def test_is_the_same_when_built_again(self, tmp_path):
        if not (VIEWER / "node_modules" / "esbuild").is_dir() or not shutil.which("node"):
            pytest.skip("no esbuild: run `npm ci` in jointdetr/visualization/viewer")
        for name in ("src", "build.js", "package.json", "package-lock.json"):
            copy = shutil.copytree if (VIEWER / name).is_dir() else shutil.copy
            copy(VIEWER / name, tmp_path / name)
        (tmp_path / "node_modules").symlink_to(VIEWER / "node_modules")
        subprocess.run(["node", "build.js"], cwd=tmp_path, check=True, capture_output=True)
        assert (tmp_path / "viewer.bundle.js").read_bytes() == viewer_bundle().read_bytes()


@pytest.fixture(scope="module")
def chromium() -> Iterator:
    """The browser; skips where there is none."""
    playwright = pytest.importorskip("playwright.sync_api")
    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if path is None:
        pytest.skip("no chromium: install it or set CHROMIUM to its path")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=CHROMIUM_OPTIONS)
        yield browser
        browser.close()


class Visit:
    """A page of the viewer, and what went wrong on it."""

    def __init__(self, browser, folder: Path, motions: list[PoseMotion], **surroundings: object) -> None:
        write_viewer_html(motions, folder / "page.html", title="</title><b>poses")
        options = {"viewport": {"width": 800, "height": 600}, "reduced_motion": "reduce"} | surroundings
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", self._watch)
        self.page.goto((folder / "page.html").as_uri())
        self.page.wait_for_function("window.viewer")

    def _hear(self, message) -> None:
        if message.type == "error":
            self.complaints.append(message.text)

    def _watch(self, request) -> None:
        if not request.url.startswith(("file:", "data:")):
            self.complaints.append(request.url)

    def state(self) -> dict:
        return self.page.evaluate("viewer.inspect()")

    def wait_for_picture(self) -> np.ndarray:
        """Pixels of the canvas (height, width, 3) after it was drawn again, on white."""
        drawn = self.state()["picturesDrawn"]
        self.page.evaluate("viewer.setTheme('light')")
        self.page.wait_for_function(f"viewer.inspect().picturesDrawn > {drawn}")
        url = self.page.evaluate("document.querySelector('canvas').toDataURL()")
        content = self.page.evaluate(
            "url => fetch(url).then(r => r.arrayBuffer()).then(b => [...new Uint8Array(b)])", url
        )
        picture = Image.open(BytesIO(bytes(content)))
        return np.asarray(Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB"))

    def close(self) -> None:
        self.context.close()
        assert self.complaints == []


@pytest.fixture
def visit(chromium, tmp_path) -> Iterator:
    """Opens pages and checks at the end that nothing was complained about and nothing was fetched."""
    visits: list[Visit] = []

    def open_page(motions: list[PoseMotion], **surroundings: object) -> Visit:
        visits.append(Visit(chromium, tmp_path, motions, **surroundings))
        return visits[-1]

    yield open_page
    for each in visits:
        each.close()


def standing(**fields: object) -> PoseMotion:
    """One frame of somebody who stands facing the camera, arms hanging down."""
    places = {
        **{"pelvis": (0, 0), "spine": (0, -230), "thorax": (0, -480), "neck": (0, -560), "head": (0, -680)},
        **{"left_hip": (120, 0), "left_knee": (130, 420), "left_ankle": (130, 850)},
        **{"left_shoulder": (160, -450), "left_elbow": (300, -250), "left_wrist": (330, -20)},
    }
    places |= {name.replace("left", "right"): (-x, y) for name, (x, y) in places.items() if "left" in name}
    joints = np.array([[(*places[name], 0) for name in HUMAN36M.joints]], dtype=float)
    return PoseMotion(HUMAN36M, [0.0], joints, np.ones((1, 17), dtype=bool), **fields)


def share_of(pixels: np.ndarray, color: tuple[int, int, int]) -> float:
    """Share of the pixels whose hue is near a colour's, whatever the light."""
    strong = pixels.astype(float) - pixels.min(-1, keepdims=True)
    wanted = np.array(color, dtype=float) - min(color)
    cosine = strong @ wanted / (np.linalg.norm(strong, axis=-1) * np.linalg.norm(wanted) + 1e-9)
    return float(((cosine > 0.97) & (np.ptp(pixels, axis=-1) > 60)).mean())


class TestPicture:
    def test_left_is_blue_and_on_the_right_hand_of_whoever_looks(self, visit):
        page = visit([standing()])
        page.page.click("button[data-view=front]")
        pixels = page.wait_for_picture()
        half = pixels.shape[1] // 2
        assert share_of(pixels[:, half:], BLUE) > 0.003
        assert share_of(pixels[:, :half], ORANGE) > 0.003
        assert share_of(pixels[:, : half - 20], BLUE) == share_of(pixels[:, half + 20 :], ORANGE) == 0

    def test_a_guess_is_hollow_and_a_missing_joint_is_left_out(self, visit):
        seen, guessed, missing = standing(), standing(), standing()
        left = [index for index, name in enumerate(HUMAN36M.joints) if name.startswith("left")]
        guessed.detected[:, left] = missing.detected[:, left] = False
        missing.joints[:, left] = np.nan
        shares = []
        for motion in (seen, guessed, missing):
            page = visit([motion])
            page.page.click("button[data-view=front]")
            shares.append(share_of(page.wait_for_picture(), BLUE))
        assert shares[0] * 0.8 > shares[1] > shares[0] * 0.2
        assert shares[2] == 0

    def test_it_turns_under_the_mouse_and_the_buttons_bring_it_back(self, visit):
        page = visit([standing()])
        before = page.state()
        box = page.page.locator("canvas").bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.page.mouse.move(x, y)
        page.page.mouse.down()
        page.page.mouse.move(x + 150, y + 20, steps=5)
        page.page.mouse.up()
        page.page.wait_for_timeout(200)
        assert abs(page.state()["azimuth"] - before["azimuth"]) > 0.3
        views = {"front": (0, np.pi / 2), "side": (np.pi / 2, np.pi / 2), "top": (0, 0.001)}
        for name, (azimuth, polar) in views.items():
            page.page.click(f"button[data-view={name}]")
            state = page.state()
            assert (state["azimuth"], state["polar"]) == (pytest.approx(azimuth), pytest.approx(polar))

    def test_it_turns_under_a_finger(self, visit):
        page = visit([standing()], has_touch=True, viewport={"width": 360, "height": 640})
        before = page.state()["azimuth"]
        session = page.context.new_cdp_session(page.page)
        for kind, x in (("touchStart", 150), *(("touchMove", x) for x in range(160, 260, 20))):
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": 300}]})
        session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        page.page.wait_for_timeout(200)
        assert abs(page.state()["azimuth"] - before) > 0.2

    def test_a_joint_tells_its_name(self, visit):
        motion = standing()
        motion.detected[:, 0] = False
        page = visit([motion])
        page.page.click("button[data-view=front]")
        page.wait_for_picture()
        canvas = page.page.locator("canvas")
        box = canvas.bounding_box()
        name = page.page.locator(".jd-name")
        for y in range(0, int(box["height"]), 12):  # down the middle of the body, where the pelvis is
            canvas.hover(position={"x": box["width"] / 2, "y": y})
            if name.inner_text() == "pelvis (guessed)":
                break
        assert name.inner_text() == "pelvis (guessed)"
        assert name.is_visible()
        canvas.hover(position={"x": 20, "y": 200})
        assert not name.is_visible()

    def test_people_are_told_apart(self, visit):
        page = visit([standing(), standing(person=1)])
        boxes = [page.page.get_by_text(f"person {number}").bounding_box() for number in (1, 2)]
        assert boxes[1]["x"] - boxes[0]["x"] > 60

    def test_labels_do_not_cover_each_other(self, visit):
        places = ([[0, 0, 3000]], [[30, 0, 3100]], [[900, 0, 3000]])
        page = visit([standing(person=number, root_camera=place) for number, place in enumerate(places)])
        shown = [label for label in page.page.locator(".jd-label").all() if label.is_visible()]
        assert sorted(label.inner_text() for label in shown) == ["person 1", "person 3"]


class TestTime:
    def test_a_picture_has_no_play_bar(self, visit):
        page = visit([standing()])
        assert not page.page.locator(".jd-play").is_visible()

    def test_the_slider_goes_through_time(self, visit):
        page = visit([moving(frames=26)])
        first = page.wait_for_picture()
        page.page.get_by_label("Time").fill("0.5")
        assert page.state()["frame"] == 12
        assert "0.5 / 1.0 s" in page.page.locator(".jd-time").inner_text()
        assert (page.wait_for_picture() != first).any()

    def test_it_plays_until_it_is_told_to_pause(self, visit):
        page = visit([moving(frames=50)], reduced_motion="no-preference")
        assert page.state()["playing"]
        page.page.wait_for_function("viewer.inspect().frame > 2")
        page.page.get_by_label("Pause").click()
        frame = page.state()["frame"]
        page.page.wait_for_timeout(150)
        assert page.state()["frame"] == frame
        page.page.get_by_label("Play").click()
        page.page.wait_for_function(f"viewer.inspect().frame != {frame}")

    def test_whoever_wants_no_motion_starts_at_rest(self, visit):
        assert not visit([moving()]).state()["playing"]


class TestSurroundings:
    @pytest.mark.parametrize(("scheme", "brightness"), [("light", 200), ("dark", 60)])
    def test_follows_light_and_dark(self, scheme, brightness, visit):
        page = visit([standing()], color_scheme=scheme)
        picture = Image.open(BytesIO(page.page.screenshot())).convert("L")
        assert abs(np.median(np.asarray(picture)) - brightness) < 60
        page.page.evaluate("viewer.setTheme('dark')")
        page.page.wait_for_function("document.querySelector('.jd-viewer').classList.contains('jd-dark')")

    @pytest.mark.parametrize("width", [320, 390, 1400])
    def test_nothing_is_cut_off(self, width, visit):
        page = visit([moving(), moving(person=1)], viewport={"width": width, "height": 640})
        assert page.page.evaluate("document.documentElement.scrollWidth") <= width
        boxes = [page.page.locator(name).bounding_box() for name in (".jd-views", ".jd-legend", ".jd-play")]
        for box in boxes:
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width
            assert box["y"] + box["height"] <= 640
        assert boxes[1]["y"] + boxes[1]["height"] <= boxes[2]["y"]

    @pytest.mark.parametrize("width", [320, 800])
    def test_the_person_fills_the_picture_but_is_inside(self, width, visit):
        page = visit([standing()], viewport={"width": 1120 - width, "height": 600})
        page.page.click("button[data-view=front]")
        page.wait_for_picture()
        page.page.set_viewport_size({"width": width, "height": 600})  # as a phone that is turned
        page.page.wait_for_function(f"document.querySelector('canvas').clientWidth === {width}")
        pixels = page.wait_for_picture()
        rows, columns = np.nonzero(np.ptp(pixels.astype(int), axis=-1) > 60)
        height, wide = pixels.shape[:2]
        assert rows.min() > 0
        assert rows.max() < height - 1
        assert 0 < columns.min() < columns.max() < wide - 1
        assert np.ptp(rows) > 0.4 * height or np.ptp(columns) > 0.4 * wide

    def test_nobody_is_said(self, visit):
        assert visit([]).page.locator(".jd-words").inner_text() == "Nobody was found."

    def test_names_are_never_taken_for_html(self, visit):
        names = ("</script><script>viewer = 1</script>", "<!--<script>", "<b>bold</b>")
        skeleton = Skeleton("own", names, (-1, 0, 1), (), 0)
        page = visit([moving(skeleton, frames=2)])
        assert page.state()["people"] == 1
        assert page.page.title() == "</title><b>poses"

    def test_other_data_leave_the_view_alone(self, visit):
        page = visit([standing()])
        page.page.click("button[data-view=side]")
        page.page.evaluate("data => viewer.update(data)", viewer_data([standing(), standing(person=1)]))
        state = page.state()
        assert (state["people"], state["azimuth"]) == (2, pytest.approx(np.pi / 2))
        page.page.evaluate("viewer.update(null)")
        assert page.state()["people"] == 0
        page.page.evaluate("viewer.dispose()")
        assert page.page.locator("canvas").count() == 0

    def test_other_data_of_as_many_people_are_shown(self, visit):
        page = visit([standing()])
        before = page.wait_for_picture()
        bent = standing()
        bent.joints[0, 11:] += [0, 400, 0]  # mm, the arms
        page.page.evaluate("data => viewer.update(data)", viewer_data([bent]))
        changed = page.wait_for_picture()
        assert (changed != before).any(-1).mean() > 0.005
        page.page.evaluate("data => viewer.update(data)", viewer_data([standing()]))
        assert np.array_equal(page.wait_for_picture(), before)

    def test_live_people_stay_where_they_stand(self, visit):
        """Who stretches out an arm moves nothing else."""
        page = visit([standing()])
        page.page.evaluate(MOUNT_LIVE, viewer_data([standing()]))
        before = page.wait_for_picture()
        stretched = standing()
        stretched.joints[0, HUMAN36M.joints.index("right_wrist")] = [-800, -450, 0]  # mm
        page.page.evaluate("data => viewer.update(data)", viewer_data([stretched]))
        changed = (page.wait_for_picture() != before).any(-1)
        legs = slice(round(0.6 * len(changed)), None)
        assert changed.any()
        assert not changed[legs].any()

    def test_without_webgl_there_are_words(self, chromium, tmp_path):
        write_viewer_html([moving()], tmp_path / "page.html")
        context = chromium.new_context()
        context.add_init_script("HTMLCanvasElement.prototype.getContext = () => null")
        page = context.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto((tmp_path / "page.html").as_uri())
        page.wait_for_function("window.viewer")
        assert "WebGL is off or missing" in page.locator(".jd-words").inner_text()
        assert not page.locator(".jd-play").is_visible()
        page.evaluate("viewer.setView('top'); viewer.update(null); viewer.dispose()")
        assert errors == []
        context.close()
