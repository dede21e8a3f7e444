"""Where a crop lies, which way up, its pixels and its labels; the second look at those who do not stand."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.utils import ModelOutput

from jointdetr import JointDetrImageProcessorPil
from jointdetr.camera_jointdetr import apply_affine, project
from jointdetr.picture_jointdetr import body_tilt, person_crop_affine, roll, turn_about, turned_back, turns_upright
from jointdetr.skeleton_jointdetr import HUMAN36M, Skeleton


def body(tilt: float) -> torch.Tensor:
    """Hips around (50, 50), shoulders 20 away; the other joints are not known."""
    points = torch.full((17, 2), torch.nan)
    across = torch.tensor([math.cos(tilt), math.sin(tilt)]) * 5
    shoulders = torch.tensor([50.0, 50.0]) + 20 * torch.tensor([math.sin(tilt), -math.cos(tilt)])
    for joint, place in (
        (1, 50.0 - across),
        (4, across + 50.0),
        (14, shoulders - across),
        (11, shoulders + across),
    ):
        points[joint] = torch.as_tensor(place)
    return points


@pytest.mark.parametrize("tilt", [0.0, 0.5, -1.6, 3.0])
def test_the_tilt_is_the_angle_from_upright(tilt):
    points = torch.stack([body(tilt), body(tilt) * 3 + 7])
    torch.testing.assert_close(body_tilt(points, HUMAN36M), torch.full((2,), tilt))


def test_the_tilt_is_not_known_without_hips_or_shoulders():
    without_shoulders, one_shoulder = body(0.3), body(0.3)
    without_shoulders[[11, 14]] = torch.nan
    one_shoulder[11] = torch.nan
    assert body_tilt(without_shoulders, HUMAN36M).isnan()
    assert body_tilt(one_shoulder, HUMAN36M).isfinite()
    assert body_tilt(torch.full((17, 2), 3.0), HUMAN36M).isnan()
    stick = Skeleton("stick", ("bottom", "top"), (-1, 0), (), 0)
    assert body_tilt(torch.rand(4, 2, 2), stick).isnan().all()


def test_who_is_about_upright_is_not_turned():
    """And others by whole steps of 5 degrees."""
    degrees = torch.pi / 180
    points = torch.stack([body(0.1), body(-47 * degrees), body(148 * degrees), torch.full((17, 2), torch.nan)])
    expected = torch.tensor([0.0, -45.0, 150.0, 0.0]) * degrees
    torch.testing.assert_close(turns_upright(points, HUMAN36M), expected)


@pytest.mark.parametrize("tilt", [0.7, -2.5])
def test_a_turned_crop_shows_the_body_upright_about_the_same_middle(tilt):
    affine = person_crop_affine((20, 10, 60, 80), (64, 48))
    turned = turn_about(affine, tilt, (64, 48))
    assert body_tilt(apply_affine(body(tilt).double(), turned), HUMAN36M).item() == pytest.approx(0.0, abs=1e-6)
    middle = torch.tensor([[50.0, 50.0]]).double()  # of the box
    torch.testing.assert_close(apply_affine(middle, turned), torch.tensor([[24.0, 32.0]]).double())
    joints = torch.randn(1, 17, 3)
    torch.testing.assert_close(turned_back(joints @ roll(torch.tensor(-tilt)).T, turned[None].float()), joints)


def test_poses_of_turned_crops_come_back_as_the_camera_sees_them():
    processor = JointDetrImageProcessorPil(size={"height": 64, "width": 64})
    joints = torch.randn(17, 3) * 200
    joints -= joints[0].clone()
    matrix = torch.tensor([[300.0, 0, 100], [0, 300, 80], [0, 0, 1]])
    points = project((joints + torch.tensor([0.0, 0, 3000])).double(), matrix.double())
    image, boxes = np.zeros((160, 200, 3), np.uint8), [[[60, 40, 80, 80]]]
    inputs = processor([image], boxes=boxes, intrinsics=[matrix.tolist()], turns=[[2.0]], return_tensors="pt")
    normalised = apply_affine(points, inputs["crop_affine"][0].double()) / 64
    logits = torch.full((1, 17, 18), -20.0)
    logits[0, range(17), range(17)] = 20.0
    outputs = ModelOutput(
        logits=logits,
        pred_joints=(joints @ roll(torch.tensor(-2.0)).T)[None],
        pred_points=normalised[None].float(),
        pred_sigmas=None,
        pred_visibility=None,
    )
    ((person,),) = processor.post_process_pose_estimation(outputs, inputs)
    torch.testing.assert_close(person["joints"], joints, atol=0.01, rtol=0)
    torch.testing.assert_close(person["joints_2d"], points.float(), atol=0.01, rtol=0)
    torch.testing.assert_close(person["joints_camera"], joints + torch.tensor([0.0, 0, 3000]), atol=3.0, rtol=0)


def test_turns_that_cannot_be_are_refused():
    processor = JointDetrImageProcessorPil()
    image = np.zeros((60, 60, 3), np.uint8)
    for turns in ([[0.1, 0.2]], [[math.nan]]):
        with pytest.raises(ValueError, match="`turns` must have a finite angle for each of the 1 people"):
            processor([image], boxes=[[[0, 0, 50, 50]]], turns=turns)
    with pytest.raises(ValueError, match="`turns` must have one entry for each of the 2 pictures, got 1"):
        processor([image, image], turns=[[0.0]])


def test_the_input_becomes_the_picture_that_it_was():
    settings = {"image_mean": (0.4, 0.5, 0.6), "image_std": (0.2, 0.3, 0.1), "rescale_factor": 0.01}
    for others in ({}, {"do_normalize": False}, {"do_rescale": False, "do_normalize": False}):
        cropper = JointDetrImageProcessorPil(size={"height": 48, "width": 32}, **settings | others).cropper()
        pixels = np.random.default_rng(0).integers(0, 256, (48, 32, 3), dtype=np.uint8)
        values = torch.from_numpy(cropper.pixel_values([Image.fromarray(pixels)])[0])
        np.testing.assert_array_equal(np.asarray(cropper.picture(values)), pixels)
