"""Which way up a body lies, and the second look at those who do not stand."""

import math

import pytest
import torch

from jointdetr.skeleton_jointdetr import HUMAN36M, Skeleton
from jointdetr.upright_jointdetr import body_tilt


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
