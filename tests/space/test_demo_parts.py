"""The parts of the demo that need no server: settings, boxes, cameras, results, what the page says of the model."""

import json
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import YolosConfig, YolosForObjectDetection, YolosImageProcessor

gr = pytest.importorskip("gradio")


from jointdetr import HUMAN36M  # noqa: E402
from jointdetr.demo import DemoSettings  # noqa: E402
from jointdetr.demo.app import about_model, notice  # noqa: E402
from jointdetr.demo.estimator import PoseEstimator  # noqa: E402
from jointdetr.demo.guard import parse_boxes, read_boxes, require_film  # noqa: E402
from jointdetr.demo.motion_tabs import SMOOTHINGS, FilmTab  # noqa: E402
from jointdetr.demo.parts import (  # noqa: E402
    FIELD_OF_VIEW,
    FOCAL_LENGTH,
    UNKNOWN,
    camera_of,
    drawing_value,
    drawn_boxes,
    overlay,
    table_rows,
    write_files,
)
from jointdetr.demo.picture_tab import PictureTab, report  # noqa: E402
from jointdetr.formats.film import FilmWriter  # noqa: E402

IMAGE = Image.new("RGB", (320, 240), "gray")


@pytest.fixture(scope="module")
def estimator(tiny_model_folder):
    return PoseEstimator(DemoSettings(model=str(tiny_model_folder)))


@pytest.fixture
def person() -> dict[str, torch.Tensor]:
    joints = torch.randn(17, 3) * 300
    detected = torch.ones(17, dtype=torch.bool)
    detected[3] = False
    points = torch.rand(17, 2) * torch.tensor([320, 240])
    points[3] = torch.nan
    return {"joints": joints, "joints_2d": points, "scores": torch.full((17,), 0.9), "detected": detected}


def as_array(values: list[Any]) -> np.ndarray:
    """Numbers of plain lists, NaN for None."""
    return np.array(values, dtype=float)


class TestSettings:
    def test_come_from_the_environment(self):
        environment = {"JOINTDETR_MODEL": "user/model", "JOINTDETR_MAX_FILE_MB": "2.5", "JOINTDETR_QUEUE_LENGTH": "3"}
        settings = DemoSettings.from_environment(environment=environment)
        assert (settings.model, settings.max_file_mb, settings.queue_length) == ("user/model", 2.5, 3)
        assert DemoSettings.from_environment("other", environment).model == "other"
        assert DemoSettings.from_environment(environment={}) == DemoSettings()

    @pytest.mark.parametrize("text", ["many", "-1", "0", "1.5"])
    def test_refuse_what_is_no_limit(self, text):
        with pytest.raises(ValueError, match="(?i)queue_length"):
            DemoSettings.from_environment(environment={"JOINTDETR_QUEUE_LENGTH": text})


class TestBoxes:
    def test_are_cut_to_the_picture(self):
        assert parse_boxes([[-10, 5, 100, 400]], IMAGE, 2) == [[0, 5, 90, 235]]
        assert parse_boxes([], IMAGE, 2) == []

    @pytest.mark.parametrize(
        "boxes", ["x", [[1, 2, 3]], [[0, 0, float("nan"), 5]], [["0", 0, 9, 9]], [[0, 0, 3, 3]], [[0, 0, 9, 9]] * 3]
    )
    def test_are_refused_in_words(self, boxes):
        with pytest.raises(ValueError, match="box|at most 2 people"):
            parse_boxes(boxes, IMAGE, 2)

    def test_may_be_text(self):
        assert read_boxes("1 2 3 4.5; 5, 6, 7, 8;") == [[1, 2, 3, 4.5], [5, 6, 7, 8]]
        with pytest.raises(ValueError, match="boxes must be numbers"):
            read_boxes("1 2 three 4")

    def test_drawing_holds_picture_size_and_boxes(self):
        value = drawing_value(IMAGE, IMAGE.size, [[1, 2, 30, 40]])
        assert json.loads(value)["size"] == [320, 240]
        assert json.loads(value)["picture"].startswith("data:image/jpeg;base64,")
        assert drawn_boxes(value) == [[1, 2, 30, 40]]
        assert drawn_boxes(None) is None
        for broken in ("[", "5", "{}"):
            with pytest.raises(ValueError, match="box"):
                drawn_boxes(broken)


class TestCamera:
    def test_field_of_view_and_focal_length_agree(self):
        expected = np.array([[160, 0, 160], [0, 160, 120], [0, 0, 1]])
        assert camera_of(FIELD_OF_VIEW, 90, IMAGE.size).intrinsics == pytest.approx(expected)
        assert camera_of(FOCAL_LENGTH, 160, IMAGE.size).intrinsics == pytest.approx(expected)
        assert not camera_of(FOCAL_LENGTH, 160, IMAGE.size).guessed

    @pytest.mark.parametrize(("kind", "value"), [(UNKNOWN, 500), (FOCAL_LENGTH, None), (FIELD_OF_VIEW, 0)])
    def test_what_is_not_said_is_guessed(self, kind, value):
        """An empty field sends 0."""
        camera = camera_of(kind, value, IMAGE.size)
        assert camera.guessed
        assert camera.intrinsics[0, 0] == pytest.approx(160 / np.tan(np.radians(30)))

    @pytest.mark.parametrize(("kind", "value"), [(FIELD_OF_VIEW, 180), (FIELD_OF_VIEW, 0.5), (FOCAL_LENGTH, -1)])
    def test_impossible_numbers_are_refused(self, kind, value):
        with pytest.raises(ValueError, match="must be from 1 to"):
            camera_of(kind, value, IMAGE.size)


class TestFilmLimits:
    @pytest.fixture
    def film(self, tmp_path):
        with FilmWriter(tmp_path / "film.mp4") as writer:
            for number in range(50):
                writer.write(IMAGE, number / 25)
        return tmp_path / "film.mp4"

    def test_accept_a_film_and_tell_its_size(self, film):
        assert require_film(str(film), DemoSettings()) == (320, 240)

    @pytest.mark.parametrize(
        ("limits", "words"),
        [
            ({"max_video_seconds": 1}, "at most 1 seconds, this one has 2"),
            ({"max_megapixels": 0.05}, "at most 0.05 million pixels, here 320 x 240"),
            ({"max_file_mb": 0.001}, "at most 0.001 MB"),
        ],
    )
    def test_refuse_what_is_too_large(self, film, limits, words):
        with pytest.raises(ValueError, match=words):
            require_film(str(film), DemoSettings(**limits))

    def test_refuse_what_is_no_film_without_naming_its_place(self, film, tmp_path):
        playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{film}\n#EXT-X-ENDLIST\n"
        concatenation = f"ffconcat version 1.0\nfile {film.name}\n"
        for name, text in (("list.m3u8", playlist), ("list.mp4", concatenation), ("a.mp4", "no film"), ("b.mp4", "")):
            (tmp_path / name).write_text(text)
            with pytest.raises(ValueError, match="^this file could not be read as a film$"):
                require_film(str(tmp_path / name), DemoSettings())
        with pytest.raises(ValueError, match="give a film first"):
            require_film(None, DemoSettings())


def test_a_film_ends_when_its_page_is_closed(estimator, tmp_path, monkeypatch):
    with FilmWriter(tmp_path / "film.mp4") as writer:
        for number in range(5):
            writer.write(IMAGE, number / 25)
    with gr.Blocks() as page:
        tab = FilmTab(page, estimator)
    visitor, another = (SimpleNamespace(session_hash=name) for name in ("visitor", "another"))
    frames = []

    def progress(done: tuple[int, int], **words: str) -> None:
        frames.append(done[0])
        tab.on_leave(another)
        if len(frames) == 2:
            tab.on_leave(visitor)

    values = {tab.film: str(tmp_path / "film.mp4"), tab.step: 1, tab.smoothing: next(iter(SMOOTHINGS))}
    values |= {tab.threshold: 0.5, tab.camera.kind: UNKNOWN, tab.camera.number: None}
    with pytest.raises(gr.Error, match="The page was closed"):
        tab.on_estimate(values, visitor, progress)
    assert frames == [1, 2]
    assert tab.left == {}


class TestEstimator:
    def test_assembles_as_the_pipeline_without_the_network(self, estimator, monkeypatch):
        image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (240, 320, 3), dtype=np.uint8))
        boxes = [[10, 20, 100, 200], [150, 0, 120, 230]]
        sighting = estimator.look(image, boxes)
        camera = camera_of(FOCAL_LENGTH, 400, image.size)
        expected = {
            threshold: estimator.pipeline(image, boxes=boxes, camera=camera, threshold=threshold)
            for threshold in (0.0, 0.1)
        }
        monkeypatch.setattr(estimator.pipeline.model, "forward", None)
        for threshold, people in expected.items():
            got = estimator.pipeline.postprocess({"people": estimator.assemble(sighting, threshold, camera)})
            assert [person["detected"] for person in got] == [person["detected"] for person in people]
            for person, other in zip(got, people, strict=True):
                for name in ("joints", "joints_2d", "joints_camera", "scores"):
                    assert as_array(person[name]) == pytest.approx(as_array(other[name]), abs=1e-3, nan_ok=True)

    def test_nobody(self, estimator):
        sighting = estimator.look(IMAGE, [])
        assert estimator.assemble(sighting, 0.5, None) == []

    def test_whole_picture_is_one_person(self, estimator):
        assert len(estimator.assemble(estimator.look(IMAGE, None), 0.5, None)) == 1


class TestResults:
    def test_table_says_what_is_guessed(self, person):
        rows = table_rows([person, person], HUMAN36M)
        assert len(rows) == 34
        assert rows[3][1] == "right ankle"
        assert rows[3][5:] == [None, None, 0.9, None, "guessed"]
        assert table_rows([person | {"sigmas": torch.full((17,), 51.6)}], HUMAN36M)[0][-2:] == [52, "yes"]
        assert rows[20][0] == 2
        assert rows[0][2] == round(person["joints"][0, 0].item())

    def test_overlay_is_no_larger_than_a_screen(self, person):
        large = IMAGE.resize((3200, 2400))
        drawn = overlay(large, [person | {"joints_2d": person["joints_2d"] * 10}], HUMAN36M)
        assert max(drawn.size) == 1024
        assert len(drawn.getcolors(1 << 20)) > 50
        assert overlay(large, [], HUMAN36M).size == drawn.size

    def test_several_people_are_an_archive_of_bvh(self, person, tmp_path, monkeypatch):
        monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
        html_path, json_path, npz_path, bvh_path, glb_path, trc_path, angles_path = write_files(
            [person, person], HUMAN36M, {"threshold": 0.5}
        )
        assert "<!doctype html>" in Path(html_path).read_text()
        assert len(json.loads(Path(json_path).read_text())["people"]) == 2
        assert np.load(npz_path)["joints"].shape == (2, 17, 3)
        assert zipfile.ZipFile(bvh_path).namelist() == ["pose.person1.bvh", "pose.person2.bvh"]
        assert Path(glb_path).read_bytes()[:4] == b"glTF"
        assert zipfile.ZipFile(trc_path).namelist() == ["pose.person1.trc", "pose.person2.trc"]
        assert len(Path(angles_path).read_text().splitlines()) == 3

    def test_a_person_of_whom_nothing_is_known_has_no_animation(self, person, tmp_path, monkeypatch):
        monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
        unknown = person | {"joints": torch.full((17, 3), torch.nan), "detected": torch.zeros(17, dtype=torch.bool)}
        paths = write_files([unknown], HUMAN36M, {})
        assert [path is not None for path in paths] == [True, True, True, False, False, False, True]


class TestReport:
    def test_says_what_to_expect_and_what_to_doubt(self, person):
        known = person | {
            "sigmas": torch.full((17,), 44.0),
            "joints_camera": person["joints"] + torch.tensor([0, 0, 3000.0]) - person["joints"][0],
            "intrinsics_guessed": torch.tensor(True),
        }
        words = "16 of 17 joints found, expected error about 45 mm, 3.0 m from the camera (the camera is a guess)."
        assert report([known], HUMAN36M) == f"1 person: {words}"
        assert report([known, known], HUMAN36M).startswith(f"2 people.<br>Person 1: {words}<br>Person 2")
        doubted = report([known | {"sigmas": torch.full((17,), 231.0)}], HUMAN36M)
        assert doubted.endswith(
            "⚠ The person: expected error about 230 mm: probably not a person, or too small; draw a box."
        )


class TestAbout:
    @pytest.mark.usefixtures("shipped_checkpoint")
    def test_numbers_are_those_of_the_card(self):
        settings = DemoSettings()
        card = settings.card.read_text(encoding="utf-8")
        error = notice(settings).split(" mm off")[0].split()[-1]
        assert f"| this checkpoint | {error}." in card or f"| this checkpoint | {int(error) - 1}." in card
        assert "## Numbers" in about_model(settings)
        assert "## Limits" in about_model(settings)
        assert "## Training" not in about_model(settings)

    def test_other_models_have_their_own_card(self):
        settings = DemoSettings(model="user/model")
        assert "user/model" in notice(settings)
        assert "huggingface.co/user/model" in about_model(settings)


class FakeDetector:
    """An object detector that sees the same two people, and a dog, in every picture."""

    model = SimpleNamespace(config=SimpleNamespace(id2label={0: "dog", 1: "person"}))
    corners = (("person", 200, 10, 300, 230), ("person", 10, 20, 90, 200), ("dog", 0, 0, 320, 240))

    def __call__(self, images: list[Image.Image], threshold: float) -> list[list[dict[str, Any]]]:
        names = ("xmin", "ymin", "xmax", "ymax")
        found = [
            {"label": label, "score": 0.9, "box": dict(zip(names, box, strict=True))} for label, *box in self.corners
        ]
        return [found for _ in images]


class TestPeopleOfADetector:
    @pytest.fixture
    def tab(self, tiny_model_folder, monkeypatch, tmp_path):
        monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
        monkeypatch.setattr("jointdetr.demo.estimator.load_detector", lambda name, **options: FakeDetector())
        settings = DemoSettings(model=str(tiny_model_folder), detector="some/detector")
        with gr.Blocks() as page:
            yield PictureTab(page, PoseEstimator(settings))

    def test_are_estimated_without_a_box(self, tab, tmp_path):
        IMAGE.save(tmp_path / "picture.png")
        values = {
            tab.picker: str(tmp_path / "picture.png"),
            tab.threshold: 0.0,
            tab.camera.kind: UNKNOWN,
            tab.camera.number: None,
        }
        update = tab.on_picture(values)
        assert update[tab.status].startswith("2 people")
        assert update[tab.picker] is None, "the next picture may come"
        found = [[10, 20, 80, 180], [200, 10, 100, 220]]
        assert update[tab.seen][1].boxes == found
        assert json.loads(update[tab.picture])["boxes"] == found
        assert len(json.loads(update[tab.view])["people"]) == 2
        drawn = values | {tab.seen: update[tab.seen], tab.picture: json.dumps({"boxes": found[:1]})}
        update = tab.on_boxes(drawn)
        assert update[tab.status].startswith("1 person")
        assert json.loads(update[tab.picture])["boxes"] is None, "a visitor's own boxes are left alone"
        assert len(json.loads(tab.on_boxes(drawn | {tab.picture: '{"boxes": null}'})[tab.view])["people"]) == 2

    def test_of_the_first_example_are_there_at_once(self, tab):
        update = tab.on_landing()
        assert update[tab.seen][0].endswith("astronaut.jpg")
        assert "This is an example" in update[tab.status]
        assert json.loads(update[tab.picture])["boxes"] == [[10, 20, 80, 180], [200, 10, 100, 220]]

    def test_are_at_most_as_many_as_accepted(self, tab):
        tab.estimator.settings = replace(tab.settings, max_people=1)
        assert tab.estimator.find_people(IMAGE) == [[200, 10, 100, 220]], "the largest one"

    def test_are_searched_for_where_the_detector_cannot_be_had(self, tiny_model_folder):
        settings = DemoSettings(model=str(tiny_model_folder), detector="some/detector-that-is-not-there")
        estimator = PoseEstimator(settings)  # the tests have no network
        assert "could not be loaded; the pose model looks for people itself" in estimator.detector_note
        assert estimator.detector is None
        assert estimator.find_people(IMAGE) == []

    def test_may_come_from_a_checkpoint(self, tiny_model_folder, tmp_path):
        config = YolosConfig(
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            image_size=[64, 64],
            num_detection_tokens=4,
            id2label={0: "cat", 1: "person"},
            label2id={"cat": 0, "person": 1},
        )
        detector = YolosForObjectDetection(config)
        torch.nn.init.constant_(detector.class_labels_classifier.layers[-1].bias[1], 20.0)  # sees people only
        detector.save_pretrained(tmp_path)
        YolosImageProcessor(size={"height": 64, "width": 64}).save_pretrained(tmp_path)
        estimator = PoseEstimator(DemoSettings(model=str(tiny_model_folder), detector=str(tmp_path), max_people=3))
        boxes = estimator.find_people(IMAGE)
        assert boxes
        people = estimator.assemble(estimator.look(IMAGE, boxes), 0.5, None)
        assert len(people) == len(boxes)
