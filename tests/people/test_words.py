"""What people are told of who was found."""

import math

import numpy as np
import pytest
import torch

from jointdetr.people.words import (
    count_found,
    describe_person,
    doubt_of_error,
    doubts,
    expected_error_mm,
    root_distance_m,
)
from jointdetr.skeleton_jointdetr import HUMAN36M


def person(
    error_mm: float = 43.0, distance_mm: float | None = 3000.0, guessed: bool = True
) -> dict[str, torch.Tensor]:
    """A person of whom the last joint was not found."""
    detected = torch.ones(17, dtype=torch.bool)
    detected[-1] = False
    sigmas = torch.full((17,), error_mm)
    sigmas[-1] = math.nan
    known = {
        "joints_2d": torch.zeros(17, 2),
        "detected": detected,
        "sigmas": sigmas,
        "intrinsics_guessed": torch.tensor(guessed),
    }
    if distance_mm is not None:
        known["joints_camera"] = torch.zeros(17, 3) + torch.tensor([0.0, 0.0, distance_mm])
    return known


def test_the_error_is_a_mean_over_what_was_found_in_round_numbers():
    assert expected_error_mm(person(43.0)) == pytest.approx(43)
    assert describe_person(person(43.0)) == "16 of 17 joints found, expected error about 45 mm"
    arrays = {name: value.numpy() for name, value in person(43.0).items()}
    assert describe_person(arrays) == describe_person(person(43.0))


def test_a_model_without_confidence_says_nothing_of_errors():
    known = person()
    del known["sigmas"]
    assert math.isnan(expected_error_mm(known))
    assert describe_person(known) == count_found(known) == "16 of 17 joints found"
    assert doubts([known], HUMAN36M) == []


def test_a_large_error_is_a_warning():
    assert doubts([person(40.0)], HUMAN36M) == []
    (sentence,) = doubts([person(40.0), person(231.0)], HUMAN36M)
    assert sentence == "person 2: expected error about 230 mm: probably not a person, or too small; draw a box"
    assert doubt_of_error(165.0, "draw a box") == (
        "expected error about 165 mm: a hard pose, or a person cut off or small; draw a box"
    )
    (sentence,) = doubts([person(231.0)], HUMAN36M, boxes_given=True)
    assert sentence.endswith("or too small; is the box x, y, width, height?")


@pytest.mark.parametrize(
    ("guessed", "advice"),
    [(False, "is the focal length right"), (True, "the guessed field of view does not fit this picture")],
)
def test_who_would_stand_before_the_lens_is_questioned(guessed, advice):
    (sentence,) = doubts([person(distance_mm=500.0, guessed=guessed)], HUMAN36M)
    assert sentence.startswith("the person would stand 0.5 m from the camera: ") and advice in sentence
    assert doubts([person(distance_mm=90e3)], HUMAN36M)


def test_a_camera_before_which_nobody_can_stand_is_questioned():
    nowhere = person(distance_mm=math.nan, guessed=False)
    (sentence,) = doubts([nowhere], HUMAN36M)
    assert sentence == (
        "the person has no place before this camera: is the focal length right, and in pixels of this picture?"
    )
    nowhere["joints_2d"][2:] = torch.nan  # of too few joints no camera tells a place
    assert doubts([nowhere], HUMAN36M) == []


def test_a_box_in_which_no_joint_is_found_is_doubted():
    nobody = person(distance_mm=math.nan)
    nobody["detected"][:] = False
    nobody["joints_2d"][:] = torch.nan
    (sentence,) = doubts([person(), nobody], HUMAN36M)
    assert sentence == "person 2: no joint is sure enough: nobody is there, or the threshold is too high"


def test_a_place_that_is_not_known():
    unknown = person(distance_mm=math.nan)
    assert root_distance_m(unknown, HUMAN36M) is None and root_distance_m(person(distance_mm=None), HUMAN36M) is None
    assert doubts([person(distance_mm=None)], HUMAN36M) == []
    assert np.isclose(root_distance_m(person(distance_mm=2500.0), HUMAN36M), 2.5)


def test_the_expected_error_is_that_of_the_joints_in_the_picture():
    cut = person()
    cut["sigmas"] = torch.full((17,), 100.0)
    cut["sigmas"][:6], cut["sigmas"][6] = 400.0, torch.nan
    assert expected_error_mm(cut) == pytest.approx((10 * 100 + 6 * 400) / 16)
    cut["inside"] = torch.arange(17) >= 5
    assert expected_error_mm(cut) == pytest.approx((10 * 100 + 400) / 11)
    cut["inside"][:] = False
    assert np.isnan(expected_error_mm(cut))
