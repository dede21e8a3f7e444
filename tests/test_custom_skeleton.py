"""The page on one's own skeleton and the example with plain `Trainer`: from 17 joints to 23."""

import runpy
import sys

import pytest
from documents import REPOSITORY, run_document

from jointdetr import JointDetrForPoseEstimation

EXAMPLE = REPOSITORY / "examples" / "fine_tune_trainer.py"


@pytest.fixture
def page_folder(shipped_checkpoint, tmp_path, monkeypatch):
    run_document(REPOSITORY / "docs" / "custom-skeleton.md", tmp_path, monkeypatch)
    return tmp_path


def test_the_page_and_then_the_example_make_models_of_23_joints(page_folder, tiny_model_folder, monkeypatch, capsys):
    recipes = JointDetrForPoseEstimation.from_pretrained(page_folder / "runs" / "joints23" / "final")
    assert recipes.config.skeleton.joints[17:19] == ("left_fingertips", "right_fingertips")
    assert (page_folder / "overlay.png").is_file()

    output = page_folder / "runs" / "trainer"
    options = [page_folder / "data" / "joints23", output, "--model", tiny_model_folder, "--epochs", 1]
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), *map(str, options)])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    assert "held out: MPJPE" in capsys.readouterr().out
    trained, start = (JointDetrForPoseEstimation.from_pretrained(folder) for folder in (output, tiny_model_folder))
    assert trained.config.skeleton.joints == recipes.config.skeleton.joints
    bias, old_bias = (model.model.decoder.heads[0].class_head.bias for model in (trained, start))
    assert 0 < (bias[:17] - old_bias[:17]).abs().max() < 0.1  # has learned, from where it was


def test_the_example_is_short():
    assert len(EXAMPLE.read_text().splitlines()) < 80
