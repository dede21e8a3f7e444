"""Rows as plain examples: what the image processor makes of them."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from pose_examples import SIDE_PX, encode, make_row, make_rows

from jointdetr import JointDetrImageProcessorPil
from jointdetr.data.examples import PoseDataset, PoseExamples, PoseMixture
from jointdetr.skeleton_jointdetr import HUMAN36M, MPI_INF_3DHP

PROCESSOR = JointDetrImageProcessorPil(size={"height": 64, "width": 64})
PLAIN = PoseExamples(PROCESSOR, HUMAN36M)
SETTINGS = {
    "not normalised": {"do_normalize": False},
    "not rescaled": {"do_rescale": False, "do_normalize": False},
    "other scale": {"rescale_factor": 1 / 127.5, "image_mean": 1.0, "image_std": 1.0},
    "nearest": {"resample": 0},
    "bicubic": {"resample": 3},
    "padding": {"box_padding": 2.0},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_whatever_the_processor_is_set_to_is_what_a_model_is_trained_and_evaluated_on(pose_rows, settings):
    processor = JointDetrImageProcessorPil(size={"height": 64, "width": 48}, **settings)
    row = pose_rows[2]
    expected = processor(row["image"], boxes=[row["box"]], return_tensors="pt")["pixel_values"][0]
    found = PoseDataset(pose_rows, PoseExamples(processor, HUMAN36M))[2]["pixel_values"]
    assert torch.equal(found, expected)
    usual = JointDetrImageProcessorPil(size={"height": 64, "width": 48})
    assert not torch.equal(found, PoseDataset(pose_rows, PoseExamples(usual, HUMAN36M))[2]["pixel_values"])


def test_the_processor_makes_the_same_labels_of_a_row(pose_rows):
    row = pose_rows[2]
    inputs = PROCESSOR(row["image"], boxes=[row["box"]], annotations=row, return_tensors="pt")
    expected = PoseDataset(pose_rows, PLAIN)[2]["labels"]
    assert inputs["labels"][0].keys() == expected.keys()
    for name, values in expected.items():
        assert torch.equal(inputs["labels"][0][name], values)


def test_labels_are_root_relative_and_what_is_unknown_is_nan():
    row = make_row(0)
    row["joints_3d_valid"][5] = False
    row["joints_2d_valid"][7] = False
    labels = PoseDataset(make_rows([row]), PLAIN)[0]["labels"]
    expected = torch.tensor(row["joints_3d"] - row["joints_3d"][0], dtype=torch.float32)
    known = torch.arange(17) != 5
    torch.testing.assert_close(labels["joints_3d"][known], expected[known], atol=1e-3, rtol=1e-5)
    assert labels["joints_3d"][5].isnan().all() and not labels["joints_3d_valid"][5]
    assert labels["joints_2d"][7].isnan().all() and not labels["joints_2d_valid"][7]
    assert labels["visible"].tolist() == row["visible"].tolist()


def test_without_the_root_no_3d_label_is_valid():
    row = make_row(0)
    row["joints_3d_valid"][0] = False
    labels = PoseDataset(make_rows([row]), PLAIN)[0]["labels"]
    assert not labels["joints_3d_valid"].any() and labels["joints_2d_valid"].all()


def test_plain_crops_are_the_image_processors(pose_rows):
    processor = JointDetrImageProcessorPil(size={"height": 64, "width": 48}, box_padding=1.1)
    dataset = PoseDataset(pose_rows, PoseExamples(processor, HUMAN36M))
    row = pose_rows[1]
    inputs = processor(row["image"], boxes=[row["box"]], return_tensors="pt")
    assert torch.equal(dataset[1]["pixel_values"], inputs["pixel_values"][0])
    points = torch.tensor(row["joints_2d"]) @ inputs["crop_affine"][0, :, :2].T + inputs["crop_affine"][0, :, 2]
    torch.testing.assert_close(dataset[1]["labels"]["joints_2d"] * torch.tensor([48, 64]), points)


def jpeg_on_its_side() -> dict:
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn clockwise
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", exif=exif)
    return {"bytes": stream.getvalue(), "path": None}


def noise(channels: tuple[int, ...], kind: type) -> dict:
    rng = np.random.default_rng(0)
    return encode(rng.integers(0, np.iinfo(kind).max, (SIDE_PX, SIDE_PX, *channels), dtype=kind, endpoint=True))


@pytest.mark.parametrize(
    "stored",
    [noise((), np.uint16), noise((4,), np.uint8), noise((), np.uint8), jpeg_on_its_side()],
    ids=["16-bit", "transparent", "grey", "exif"],
)
def test_any_kind_of_picture_is_read_as_the_image_processor_reads_it(stored):
    row = make_row(0) | {"image": stored}
    processor = JointDetrImageProcessorPil(size={"height": 64, "width": 48})
    found = PoseDataset(make_rows([row]), PoseExamples(processor, HUMAN36M))[0]["pixel_values"]
    picture = Image.open(io.BytesIO(stored["bytes"]))
    expected = processor(picture, boxes=[[row["box"]]], return_tensors="pt")["pixel_values"][0]
    assert torch.equal(found, expected)
    assert found.std() > 0.1


def test_pose_labels_are_those_of_the_plain_crop(pose_rows):
    parts = [PoseDataset(pose_rows.select(chosen), PLAIN) for chosen in ([0, 1, 2], [3])]
    mixture = PoseMixture(parts)
    for index in range(4):
        expected = mixture[index]["labels"]
        for name, value in mixture.pose_labels(index).items():
            assert torch.equal(value, expected[name])


def test_refuses_another_skeleton(pose_rows):
    with pytest.raises(ValueError, match="skeleton must be 'mpi_inf_3dhp'"):
        PoseDataset(pose_rows, PoseExamples(PROCESSOR, MPI_INF_3DHP))
