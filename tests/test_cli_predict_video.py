"""`jointdetr predict` of films, with a tiny untrained model."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from films import corner_pictures, write_film, write_sound
from PIL import Image
from typer.testing import CliRunner

from jointdetr.cli import app
from jointdetr.formats.film import FrameReader
from jointdetr.motion import load_motions, prediction

NUM_FRAMES = 8
WHOLE = ("--people", "whole")
PERSON = Path(__file__).parents[1] / "docs" / "images" / "person.jpg"


@pytest.fixture
def film(tmp_path: Path) -> Path:
    return write_film(tmp_path / "clip.mp4", corner_pictures(NUM_FRAMES, (96, 64)))


def predict(*words: object):
    """Run the command; an untrained model is sure of nothing, so that any joint counts as found."""
    return CliRunner().invoke(app, ["predict", *map(str, words), "--threshold", "0"])


def test_film_becomes_a_table_a_film_and_files(film, tiny_model_folder, tmp_path):
    output = tmp_path / "out"
    words = ["--model", tiny_model_folder, "--output", output, "--overlay", "--box", 20, 10, 30, 40]
    result = predict(film, *words, "--format", "json", "--format", "npz", "--focal-px", 100)

    assert result.exit_code == 0, result.output
    assert f"{film}: {NUM_FRAMES} frames, 1 person" in result.stdout
    names = {"clip.poses.parquet", "clip.poses.json", "clip.poses.npz", "clip.poses.mp4"}
    assert {path.name for path in output.iterdir()} == names
    (motion,) = load_motions(output / "clip.poses.parquet")
    np.testing.assert_allclose(motion.times_s, np.arange(NUM_FRAMES) / 25, atol=1e-6)
    assert motion.boxes[0] == pytest.approx([20, 10, 30, 40])
    assert len(list(FrameReader(output / "clip.poses.mp4"))) == NUM_FRAMES
    assert json.loads((output / "clip.poses.json").read_text())["film"] == "clip.mp4"


def test_a_film_of_one_frame_does_not_shake(tiny_model_folder, tmp_path):
    film = write_film(tmp_path / "one.mp4", corner_pictures(1, (96, 64)))
    result = predict(film, "--model", tiny_model_folder, "--output", tmp_path / "out", *WHOLE)

    assert result.exit_code == 0, result.output
    assert f"{film}: 1 frame, 1 person, " in result.stdout
    assert "nan" not in result.output and "acceleration" not in result.stdout


def test_the_expected_error_of_a_film_is_said_and_doubted(tmp_path):
    person = Image.open(PERSON).resize((256, 256))
    film = write_film(tmp_path / "person.mp4", [person, person])
    result = predict(film, "--output", tmp_path, "--box", 56, 60, 100, 186)
    assert "2 frames, 1 person, expected error about " in result.stdout and not result.stderr

    result = predict(film, "--output", tmp_path, "--box", 150, 150, 100, 100, "--no-follow")
    assert result.exit_code == 0 and "2 frames, 1 person, expected error about " in result.stdout
    assert ": probably not a person, or too small; give a box of the first frame" in result.stderr


def test_every_other_frame_from_boxes_that_stay(film, tiny_model_folder, tmp_path):
    box = (20, 10, 30, 40)
    words = [film, "--model", tiny_model_folder, "--overlay", "--step", 2, "--output", tmp_path / "out", "--box", *box]
    result = predict(*words, "--no-follow")

    assert f"{film}: {NUM_FRAMES // 2} frames, 1 person" in result.stdout
    (motion,) = load_motions(tmp_path / "out" / "clip.poses.parquet")
    np.testing.assert_allclose(motion.times_s, np.arange(0, NUM_FRAMES, 2) / 25, atol=1e-6)
    assert (motion.boxes == box).all()
    assert len(list(FrameReader(tmp_path / "out" / "clip.poses.mp4"))) == NUM_FRAMES // 2
    predict(*words)
    assert not (load_motions(tmp_path / "out" / "clip.poses.parquet")[0].boxes == box).all()


def test_stopped_command_goes_on_and_writes_the_same(film, tiny_model_folder, tmp_path, monkeypatch):
    words = ["--model", tiny_model_folder, "--box", 20, 10, 30, 40]
    assert predict(film, *words, "--output", tmp_path / "whole").exit_code == 0
    original, calls = prediction.VideoPredictor.predict_batch, []

    def interrupted(self, batch):
        calls.append(batch)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return original(self, batch)

    monkeypatch.setattr(prediction.VideoPredictor, "predict_batch", interrupted)
    stopped = predict(film, *words, "--output", tmp_path / "parts")
    assert stopped.exit_code == 130
    assert f"{film}: stopped; the same command goes on at frame 3" in stopped.stderr
    gone_on = predict(film, *words, "--output", tmp_path / "parts")

    assert f"{film}: going on at frame 3" in gone_on.stderr
    assert f"{NUM_FRAMES - 3} frames" in gone_on.stdout
    table = "clip.poses.parquet"
    assert (tmp_path / "parts" / table).read_bytes() == (tmp_path / "whole" / table).read_bytes()


def test_files_that_are_no_films_are_one_line(film, tiny_model_folder, tmp_path):
    sound = write_sound(tmp_path / "sound.mp4")
    result = predict(sound, film, "--model", tiny_model_folder, "--output", tmp_path / "out")

    assert result.exit_code == 2
    assert f"jointdetr: {sound}: expected a film, got a file with audio streams only" in result.stderr
    assert (tmp_path / "out" / "clip.poses.parquet").exists()


def test_webcam_that_is_not_there_is_one_line(tmp_path):
    result = predict("--webcam", 97, "--output", tmp_path)

    assert result.exit_code == 2
    assert "jointdetr: webcam 97: webcam 97 cannot be opened" in result.stderr


def test_webcam_is_recorded_until_ctrl_c(tiny_model_folder, tmp_path, monkeypatch):
    source = FrameReader("testsrc=size=96x64:rate=20", container_format="lavfi")
    monkeypatch.setattr("jointdetr.formats.film.open_webcam", lambda number: source)
    original, calls = prediction.VideoPredictor.predict_batch, []

    def interrupted(self, batch):
        calls.append(batch)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return original(self, batch)

    monkeypatch.setattr(prediction.VideoPredictor, "predict_batch", interrupted)
    result = predict("--webcam", 0, "--model", tiny_model_folder, "--output", tmp_path / "out", "--overlay", *WHOLE)

    assert result.exit_code == 0, result.output
    assert "0: 4 frames" in result.stdout
    names = sorted(path.name.split(".", 1)[1] for path in (tmp_path / "out").iterdir())
    assert names == ["mp4", "poses.mp4", "poses.parquet"]
    (table,) = (tmp_path / "out").glob("*.parquet")
    assert len(load_motions(table)[0]) == 4


def test_nobody_before_the_webcam_is_no_error(tiny_model_folder, tmp_path, monkeypatch):
    source = FrameReader("testsrc=size=96x64:rate=20", container_format="lavfi")
    monkeypatch.setattr("jointdetr.formats.film.open_webcam", lambda number: source)

    def interrupted(self, batch):
        raise KeyboardInterrupt

    monkeypatch.setattr(prediction.VideoPredictor, "predict_batch", interrupted)
    result = predict("--webcam", 0, "--model", tiny_model_folder, "--output", tmp_path)

    assert result.exit_code == 0, result.output
    assert "0 frames, nobody found" in result.stdout


def test_people_of_a_detector_are_followed(film, tiny_model_folder, tmp_path, monkeypatch):
    """Two people whom the detector finds have two boxes and two numbers."""
    boxes, asked = [[5.0, 5.0, 30.0, 50.0], [50.0, 8.0, 30.0, 50.0]], []

    def found(detector, images, threshold):
        asked.append((detector, len(images), threshold))
        return [boxes] * len(images)

    monkeypatch.setattr("jointdetr.pipeline_jointdetr.load_detector", lambda name, device: name)
    monkeypatch.setattr("jointdetr.people_jointdetr.detect_people", found)
    monkeypatch.setattr("jointdetr.people_jointdetr.LEAST_AGREEMENT", 0.0)  # an untrained model's joints lie anywhere
    words = ["--detector", "some/detector", "--detector-threshold", 0.3, "--model", tiny_model_folder]
    result = predict(film, *words, "--output", tmp_path / "out")

    assert result.exit_code == 0, result.output
    assert asked == [("some/detector", 1, 0.3)]
    motions = load_motions(tmp_path / "out" / "clip.poses.parquet")
    assert [motion.person for motion in motions] == [0, 1]
    assert [motion.boxes[0].tolist() for motion in motions] == boxes


def test_formats_are_written_where_asked_only(film, tiny_model_folder, tmp_path):
    box = ["--box", 20, 10, 30, 40]
    predict(film, *box, "--model", tiny_model_folder, "--output", tmp_path / "out")

    assert [path.name for path in (tmp_path / "out").iterdir()] == ["clip.poses.parquet"]


def test_missing_pyav_is_one_line_that_names_the_extra(film, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    result = predict(film, "--output", tmp_path / "out")

    assert result.exit_code == 2
    assert result.stderr == f'jointdetr: {film}: films need PyAV: pip install "jointdetr[video]"\n'
