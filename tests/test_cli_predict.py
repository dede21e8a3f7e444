"""`jointdetr predict` hands each kind of source to its function; cameras, detectors and formats of pictures."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner, Result

from jointdetr.cli import app
from jointdetr.cli.predict import PredictOptions
from jointdetr.skeleton_jointdetr import HUMAN36M


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """What the functions for pictures, films and data sets were called with, in order."""
    calls: list[tuple] = []
    for kind, module in (("pictures", "predict"), ("video", "predict_video"), ("dataset", "predict")):

        def record(source: object, options: PredictOptions, *name: str, kind: str = kind) -> bool:
            calls.append((kind, source, options, *name))
            return True

        monkeypatch.setattr(f"jointdetr.cli.{module}.predict_{kind}", record)
    return calls


def test_pictures_go_together_and_films_one_by_one(asked):
    result = run("predict", "a.jpg", "one.MP4", "b.png", "https://example.com/two.webm?x=1", "--smoothing", "one-euro")
    assert result.exit_code == 0, result.output
    assert [call[:2] for call in asked] == [
        ("pictures", ["a.jpg", "b.png"]),
        ("video", "one.MP4"),
        ("video", "https://example.com/two.webm?x=1"),
    ]
    assert all(call[2].smoothing == "one-euro" for call in asked)


def test_films_of_one_name_do_not_overwrite_each_other(asked):
    assert run("predict", "front/clip.mp4", "side/clip.mp4", "clip.mov").exit_code == 0
    assert [call[3] for call in asked] == ["clip", "clip-2", "clip-3"]


def test_a_webcam_and_a_dataset(asked):
    assert run("predict", "--webcam", 1).exit_code == 0
    assert run("predict", "--dataset", "data/mine", "--split", "test", "--output", "there").exit_code == 0
    assert [call[:2] for call in asked] == [("video", 1), ("dataset", "data/mine")]
    assert asked[1][2] == PredictOptions(dataset="data/mine", split="test", output=Path("there"))


@pytest.mark.parametrize("arguments", [(), ("a.jpg", "--webcam", "0"), ("--webcam", "0", "--dataset", "mine")])
def test_one_kind_of_source_is_wanted(asked, arguments):
    result = run("predict", *arguments)
    assert result.exit_code == 2
    assert "one of the three" in " ".join(result.stderr.replace("│", " ").split())
    assert not asked


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "person.png"
    Image.linear_gradient("L").resize((120, 160)).convert("RGB").save(path)
    return path


def predict_document(folder: Path, *arguments: object) -> dict:
    """Run `jointdetr predict` on a picture and return what it wrote as JSON."""
    result = run("predict", *arguments, "--output", folder, "--threshold", 0)
    assert result.exit_code == 0, (result.output, result.exception)
    return json.loads((folder / "person.pose.json").read_text())


def test_a_guessed_field_of_view_and_a_lens(picture, tiny_model_folder, tmp_path):
    lens = ("--fov", 90, "--distortion", "brown:-0.1,0,0,0")
    document = predict_document(tmp_path, picture, "--model", tiny_model_folder, "--people", "whole", *lens)
    assert sum(document["intrinsics"], []) == pytest.approx([80, 0, 60, 0, 80, 80, 0, 0, 1])
    assert document["intrinsics_guessed"] is True
    assert document["distortion"] == {"model": "brown", "coefficients": [-0.1, 0, 0, 0]}
    assert document["people"][0]["intrinsics_guessed"] is True


def test_a_camera_file_places_people_in_the_world(picture, tiny_model_folder, tmp_path):
    camera = {
        "intrinsics": [[80, 0, 60], [0, 80, 80], [0, 0, 1]],
        "extrinsics": [[1, 0, 0, 5], [0, 1, 0, 6], [0, 0, 1, 7]],
    }
    (tmp_path / "camera.json").write_text(json.dumps(camera))
    options = ("--camera", tmp_path / "camera.json", "--people", "whole")
    document = predict_document(tmp_path, picture, "--model", tiny_model_folder, *options)
    (person,) = document["people"]
    assert len(person["joints_world"]) == 17
    assert {"joints_world", "residual_px", "inside"} <= document["fields"].keys()
    assert document["intrinsics_guessed"] is False


def test_a_detector_that_finds_nobody(picture, tiny_model_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("jointdetr.pipeline_jointdetr.load_detector", lambda name, device: name)
    monkeypatch.setattr("jointdetr.people_jointdetr.detect_people", lambda detector, images, threshold: [[]])
    options = ("--model", tiny_model_folder, "--detector", "some/detector")
    assert predict_document(tmp_path, picture, *options)["people"] == []


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--fov", "200"), "between 0 and 180"),
        (("--fov", "60", "--focal-px", "500"), "described in one way, got focal_px and field_of_view"),
        (("--distortion", "brown:0,0,0,0"), "must come with"),
        (("--fov", "60", "--distortion", "pinhole:0"), "pinhole"),
        (("--camera", "no-such-camera.json"), "no-such-camera.json"),
        (("--detector", "./no-such-detector"), "no-such-detector"),
    ],
)
def test_cameras_and_detectors_that_cannot_be_are_one_line(picture, tiny_model_folder, tmp_path, options, complaint):
    result = run("predict", picture, "--model", tiny_model_folder, "--output", tmp_path, *options)
    assert result.exit_code == 2, (result.output, result.exception)
    (line,) = (line for line in result.stderr.splitlines() if line.startswith("jointdetr: "))
    assert complaint in line
    assert not list(tmp_path.iterdir())


def test_nobody_is_said_in_words_and_no_error(picture, tiny_model_folder, tmp_path):
    result = run("predict", picture, "--model", tiny_model_folder, "--output", tmp_path)
    assert result.exit_code == 0, result.output
    assert "nobody found, see person.pose.png and person.pose.json" in result.stdout
    assert "--people whole" in result.stderr
    document = json.loads((tmp_path / "person.pose.json").read_text())
    assert document["people"] == [] and document["people_from"] == "search"
    assert document["intrinsics_guessed"] is True


def test_the_whole_picture_is_one_person_on_request(asked):
    assert run("predict", "a.jpg", "--people", "whole").exit_code == 0
    assert asked[0][2].people == "whole"
    assert run("predict", "a.jpg", "--people", "whole", "--box", 1, 2, 3, 4).exit_code == 2
    assert run("predict", "a.jpg", "--people", "whole", "--detector", "some/detector").exit_code == 2
    assert len(asked) == 1


def test_a_crowd_is_counted(picture, tiny_model_folder, tmp_path):
    boxes = [word for left in range(7) for word in ("--box", 10 * left, 0, 50, 90)]
    result = run("predict", picture, "--model", tiny_model_folder, "--output", tmp_path, *boxes)
    assert result.exit_code == 0, result.output
    assert "7 people found" in result.stdout
    assert "person 6" in result.stdout and "person 7" not in result.stdout
    assert len(json.loads((tmp_path / "person.pose.json").read_text())["people"]) == 7


def test_boxes_and_a_detector_are_too_much(asked):
    result = run("predict", "a.jpg", "--box", 1, 2, 3, 4, "--detector", "some/detector")
    assert result.exit_code == 2
    assert not asked


def test_a_table_is_as_wide_as_its_title(capsys):
    from jointdetr.cli.predict import _print_joints

    joints = torch.full((17, 3), -0.4)
    person = {"joints": joints, "scores": torch.ones(17), "detected": torch.ones(17, dtype=torch.bool)}
    person |= {"sigmas": torch.full((17,), 43.0)}
    _print_joints([person], HUMAN36M)
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "person 1: 17 of 17 joints found, expected error about 45 mm"
    assert "-0" not in " ".join(lines).split()
