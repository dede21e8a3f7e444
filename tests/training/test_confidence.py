"""Confidence from end to end: a model with the head says of each joint how sure it is and where it is."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from documents import REPOSITORY, read_blocks
from PIL import Image
from transformers import pipeline
from typer.testing import CliRunner

from jointdetr import JointDetrForPoseEstimation, JointDetrImageProcessor
from jointdetr.cli import app

BEYOND_THE_EDGE = [40.0, 0.0, 80.0, 100.0]  # of a picture that is 60 px wide
EVERYTHING = 0.0


@pytest.fixture(scope="module")
def model(tiny_model_folder: Path) -> JointDetrForPoseEstimation:
    torch.manual_seed(4)
    model = JointDetrForPoseEstimation.from_pretrained(tiny_model_folder, predict_confidence=True)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.randn_like(parameter) * 0.05
    return model.eval()


def save(model: JointDetrForPoseEstimation, folder: Path) -> Path:
    model.save_pretrained(folder)
    JointDetrImageProcessor(size={"height": 128, "width": 128}).save_pretrained(folder)
    return folder


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (10, 6, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((60, 100)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def whereabouts():
    """The function that the page about people shows."""
    blocks = [block.content for block in read_blocks(REPOSITORY / "docs" / "people.md")]
    (block,) = [block for block in blocks if "def whereabouts" in block]
    names: dict = {}
    exec(block.split("for name, place")[0], names)
    return names["whereabouts"]


@pytest.mark.parametrize(("visibility_bias", "inside_the_picture"), [(20.0, "seen"), (-20.0, "hidden")])
def test_occluded_is_told_from_outside_the_picture(model, picture, tmp_path, visibility_bias, inside_the_picture):
    original = model.confidence_head.state_dict()
    with torch.no_grad():
        [*model.confidence_head.parameters()][-1][1] = visibility_bias
    folder = save(model, tmp_path / "model")
    model.confidence_head.load_state_dict(original)

    estimate = pipeline("pose-estimation-3d", model=str(folder), device="cpu")
    (person,) = estimate(str(picture), boxes=[BEYOND_THE_EDGE], threshold=EVERYTHING)
    assert all(sigma > 0 for sigma in person["sigmas"]) and np.std(person["sigmas"]) > 0
    said = [place for _, place in whereabouts()(person)]
    points = np.array(person["joints_2d"])
    outside = ((points < 0) | (points > [60, 100])).any(axis=1)
    assert 0 < outside.sum() < 17
    assert said == ["outside the picture" if out else inside_the_picture for out in outside]


def test_confidence_is_written_and_measured(model, picture, pose_folder, tmp_path):
    folder = save(model, tmp_path / "model")
    box = ["--box", 5, 5, 50, 90]
    arguments = ["predict", picture, *box, "--model", folder, "--threshold", 0, "--output", tmp_path, "--format"]
    for kind in ("json", "npz"):
        assert CliRunner().invoke(app, [*map(str, arguments), kind]).exit_code == 0
    document = json.loads((tmp_path / "photo.pose.json").read_text())
    arrays = np.load(tmp_path / "photo.pose.npz")
    assert {"scores", "sigmas", "visible", "inside"} <= document["fields"].keys()
    for name in ("sigmas", "visible"):
        np.testing.assert_allclose(document["people"][0][name], arrays[name][0], atol=1e-3)

    plot, numbers = tmp_path / "plot.svg", tmp_path / "numbers.json"
    words = ["evaluate", "--model", folder, "--dataset", pose_folder, "--reliability", plot, "--output", numbers]
    result = CliRunner().invoke(app, list(map(str, words)))
    assert result.exit_code == 0, result.output
    measured = json.loads(numbers.read_text())["reliability"]
    assert {"score_ece", "sigma_gap", "visible_ece", "visible_accuracy"} <= measured["metrics"].keys()
    assert sum(measured["visible"]["counts"]) == 8 * 17
    assert plot.read_text().count("mean gap") == 3  # Matplotlib writes the words beside their outlines
