"""Exported networks give the joints of the model, for any batch size, through the same processor."""

import json

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from jointdetr import JointDetrConfig, JointDetrForPoseEstimation, JointDetrImageProcessor
from jointdetr.cli import app
from jointdetr.hub.export import FILE_NAMES, ExportedModel, export_model

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module", params=sorted(FILE_NAMES))
def exported(request, tiny_model_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    result = CliRunner().invoke(
        app, ["export", "--model", str(tiny_model_folder), "--format", request.param, "--output", str(folder)]
    )
    assert result.exit_code == 0, (result.output, result.exception)
    assert "mm of the model's" in result.output
    return folder / FILE_NAMES[request.param]


@pytest.mark.parametrize("batch", [1, 3])
def test_gives_the_same_joints_for_any_batch(exported, tiny_model_folder, batch):
    model = JointDetrForPoseEstimation.from_pretrained(tiny_model_folder).eval()
    pixel_values = torch.randn(batch, 3, 128, 128)
    with torch.no_grad():
        wanted = model(pixel_values)
    network = ExportedModel(str(exported), threads=1)
    assert (network.path, network.threads) == (exported, 1)
    got = network(pixel_values)
    torch.testing.assert_close(got.pred_joints, wanted.pred_joints, rtol=0, atol=0.01)
    torch.testing.assert_close(got.pred_points, wanted.pred_points, rtol=0, atol=1e-5)
    torch.testing.assert_close(got.logits, wanted.logits, rtol=0, atol=1e-4)


def test_what_new_models_have_goes_along(tiny_model_folder, tmp_path):
    """Queries with a learned start, in groups."""
    old = JointDetrForPoseEstimation.from_pretrained(tiny_model_folder).config.to_dict()
    new = {"num_queries": 100, "query_groups": 5, "learned_start": True, "refiner_config": None}
    model = JointDetrForPoseEstimation(JointDetrConfig.from_dict(old | new)).eval()
    processor = JointDetrImageProcessor.from_pretrained(tiny_model_folder)
    path = export_model(model, processor, tmp_path, "torch-export")
    pixel_values = torch.randn(3, 3, 128, 128)
    with torch.no_grad():
        wanted = model(pixel_values)
    got = ExportedModel(path, threads=1)(pixel_values)
    torch.testing.assert_close(got.pred_joints, wanted.pred_joints, rtol=0, atol=0.01)
    torch.testing.assert_close(got.logits, wanted.logits, rtol=0, atol=1e-4)


def test_the_processor_makes_people_of_it(exported):
    processor = JointDetrImageProcessor.from_pretrained(exported.parent)
    inputs = processor(
        Image.new("RGB", (100, 80), "grey"), boxes=[[[10, 10, 50, 60], [30, 0, 40, 80]]], return_tensors="pt"
    )
    outputs = ExportedModel(exported, threads=1)(**inputs)
    (people,) = processor.post_process_pose_estimation(outputs, inputs, threshold=0.0)
    assert len(people) == 2 and people[0]["joints"].shape == (17, 3)


def test_describes_itself(exported):
    description = json.loads((exported.parent / "export.json").read_text())
    assert description["input"]["shape"] == ["batch", 3, 128, 128]
    assert description["outputs"] == ["logits", "pred_joints", "pred_points", "joints", "points", "scores"]
    assert len(description["joints"]) == 17
