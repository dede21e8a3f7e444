"""pipeline("pose-estimation-3d"): pictures and boxes in, JSON-ready people out."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Pipeline, pipeline

from jointdetr import HUMAN36M, JointDetrForPoseEstimation, JointDetrImageProcessor, JointDetrPipeline

INTRINSICS = [[500.0, 0.0, 60.0], [0.0, 500.0, 50.0], [0.0, 0.0, 1.0]]
BOXES = [[10.0, 10.0, 60.0, 80.0], [50.0, 5.0, 40.0, 60.0]]
EVERYTHING = 0.0  # the threshold at which all joints are detected, whatever an untrained model says


def photo(seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 10, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((120, 100), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def pose_folder(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint with weights that tell joints and places apart, and with crops that are not square."""
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("pose")
    model = JointDetrForPoseEstimation.from_pretrained(tiny_model_folder)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter += torch.randn_like(parameter) * 0.05
    model.save_pretrained(folder)
    JointDetrImageProcessor(size={"height": 128, "width": 96}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def poser(pose_folder: Path) -> Pipeline:
    return pipeline("pose-estimation-3d", model=str(pose_folder), device="cpu", threshold=EVERYTHING)


def assert_same_people(found: list, expected: list) -> None:
    assert len(found) == len(expected)
    for person, other in zip(found, expected, strict=True):
        assert person.keys() == other.keys()
        for name in ("joints", "joints_2d", "scores"):
            np.testing.assert_allclose(person[name], other[name], rtol=1e-3, atol=1e-3)


def test_the_task_is_registered_and_the_model_evaluates(poser, pose_folder):
    assert isinstance(poser, JointDetrPipeline)
    model = JointDetrForPoseEstimation.from_pretrained(pose_folder).train()
    processor = JointDetrImageProcessor.from_pretrained(pose_folder)
    assert not JointDetrPipeline(model=model, image_processor=processor, device="cpu").model.training


def test_result_equals_model_and_processor_by_hand(poser):
    image = photo(0)
    inputs = poser.image_processor(image, boxes=BOXES, intrinsics=INTRINSICS, return_tensors="pt")
    with torch.no_grad():
        outputs = poser.model(**inputs)
    (expected,) = poser.image_processor.post_process_pose_estimation(
        outputs, inputs, threshold=EVERYTHING, refiner=poser.model.refiner
    )
    people = poser(image, boxes=BOXES, intrinsics=INTRINSICS)
    assert len(people) == 2
    for person, tensors in zip(people, expected, strict=True):
        assert person["labels"] == list(HUMAN36M.joints)
        relative = {"labels", "joints", "joints_2d", "scores", "detected", "inside", "box"}
        assert person.keys() == relative | {"joints_camera", "residual_px", "intrinsics_guessed"}
        assert person["detected"] == [True] * 17
        np.testing.assert_allclose(person["joints"], tensors["joints"], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(person["joints_2d"], tensors["joints_2d"], rtol=1e-4, atol=1e-3)
    assert np.std(people[0]["joints"]) > 1  # an answer, not a constant


def test_result_is_json_and_missing_is_none(poser):
    scores = poser(photo(0), boxes=BOXES[:1])[0]["scores"]
    assert all(isinstance(score, float) for score in scores)
    (person,) = poser(photo(0), boxes=BOXES[:1], intrinsics=INTRINSICS, threshold=float(np.median(scores)))
    assert json.loads(json.dumps(person, allow_nan=False)) == person
    assert sum(person["detected"]) == 9
    assert [place == [None, None] for place in person["joints_2d"]] == [not found for found in person["detected"]]
    assert np.isfinite(person["joints"]).all()  # the refiner fills the 3D joints, but not their places in the picture

    (person,) = poser(photo(0), boxes=BOXES[:1], intrinsics=INTRINSICS, threshold=1.0)
    assert person["detected"] == [False] * 17
    assert person["joints"] == person["joints_camera"] == [[None, None, None]] * 17


def test_lists_batches_and_dictionaries_give_the_same(poser):
    images = [photo(seed) for seed in range(4)]
    boxes = [BOXES, [], BOXES[:1], None]
    expected = [poser(image, boxes=one) for image, one in zip(images, boxes, strict=True)]
    assert [len(people) for people in expected] == [2, 0, 1, 1]
    items = [{"image": image, "boxes": one} for image, one in zip(images, boxes, strict=True)]
    for batch_size in (1, 3):
        for found in (
            poser(images, boxes=boxes, batch_size=batch_size),
            poser(items, batch_size=batch_size),
            list(poser((item for item in items), batch_size=batch_size)),
        ):
            assert len(found) == 4
            for people, others in zip(found, expected, strict=True):
                assert_same_people(people, others)


def test_intrinsics_in_batches(poser):
    images = [photo(0), photo(1)]
    found = poser(images, boxes=[BOXES, BOXES[:1]], intrinsics=[INTRINSICS] * 2, batch_size=2)
    assert [[len(person["joints_camera"]) for person in people] for people in found] == [[17, 17], [17]]
    first, second = poser(images, intrinsics=[None, INTRINSICS], batch_size=2)
    assert "joints_camera" not in first[0] and len(second[0]["joints_camera"]) == 17


def test_nobody_in_the_picture(poser):
    assert poser(photo(0), boxes=[]) == []
    assert poser([photo(0), photo(1)], boxes=[[], []], batch_size=2) == [[], []]
    assert poser([]) == []


def test_paths_and_arrays(poser, tmp_path):
    photo(0).save(tmp_path / "photo.png")
    expected = poser(photo(0))
    assert_same_people(poser(str(tmp_path / "photo.png")), expected)
    assert_same_people(poser(np.asarray(photo(0))), expected)
    assert_same_people(poser(torch.from_numpy(np.array(photo(0))).permute(2, 0, 1)), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_the_places(pose_folder, poser, dtype):
    half = pipeline("pose-estimation-3d", model=str(pose_folder), device="cpu", dtype=dtype, threshold=0.0)
    assert half.dtype == dtype
    image = photo(0)
    (person,) = half(image, boxes=BOXES[:1])
    inputs = half.image_processor(image, boxes=BOXES[:1], return_tensors="pt")
    with torch.no_grad():
        outputs = half.model(**inputs.to(dtype))
    ((expected,),) = half.image_processor.post_process_pose_estimation(
        outputs, inputs, threshold=0.0, refiner=half.model.refiner
    )
    assert inputs["pixel_values"].dtype == dtype and inputs["crop_affine"].dtype == torch.float32
    np.testing.assert_allclose(person["joints_2d"], expected["joints_2d"], atol=1e-3)
    assert np.isfinite(person["joints"]).all()


def test_what_does_not_fit_is_refused(poser):
    images = [photo(0), photo(1)]
    with pytest.raises(ValueError, match="`boxes` must have one entry for each of the 2 pictures, got 1"):
        poser(images, boxes=[BOXES])
    with pytest.raises(ValueError, match="`intrinsics` must have one entry"):
        poser(images, intrinsics=[INTRINSICS] * 3)
    with pytest.raises(ValueError, match="key `image`"):
        poser({"picture": images[0]})
    with pytest.raises(ValueError, match="must be one picture, got 2"):
        poser(np.zeros((2, 30, 30, 3), np.uint8))
    with pytest.raises(ValueError, match="threshold"):
        poser(images[0], threshold=2.0)
    with pytest.raises(ValueError, match="positive size"):
        poser(images[0], boxes=[[0, 0, -4, 4]])
