"""Which way up a body lies in the picture: networks know people who stand better than those who hang or lie.

So a crop whose person turns out not to be upright is turned, and looked at once more. Turning a picture about any
point is what a camera shows that is rolled about its axis, but for a shift; poses are turned back.

Shape vocabulary: `...` any batch dimensions, people (of one picture), joints.
"""

import math

import torch

from .skeleton_jointdetr import Skeleton

LEANING = math.radians(15.0)  # what is less is worth no second look
TURNING_STEP = math.radians(5.0)  # so that the last bits of a pose do not change the crop of the second look

HIPS, SHOULDERS = ("left_hip", "right_hip"), ("left_shoulder", "right_shoulder")


def body_tilt(points: torch.Tensor, skeleton: Skeleton) -> torch.Tensor:
    """Angle of the line from the hips to the shoulders in the picture.

    Args:
        points (`torch.Tensor` of shape `(..., joints, 2)`): In the picture, y down, in any unit that is the same for x
            and y; NaN where unknown.
        skeleton (`Skeleton`): Names the joints.

    Returns:
        `torch.Tensor` of shape `(...)`: Radians from -pi to pi, 0 for upright, positive for a body that leans to the
        right of the picture; NaN where no hip or no shoulder is known, or the skeleton has none.
    """
    unknown = points.new_full(points.shape[:-2], torch.nan)
    if not {*HIPS, *SHOULDERS} <= set(skeleton.joints):
        return unknown
    hips, shoulders = (
        points[..., [skeleton.joints.index(name) for name in names], :].nanmean(dim=-2) for names in (HIPS, SHOULDERS)
    )
    right, down = (shoulders - hips).unbind(dim=-1)
    return torch.where((right == 0) & (down == 0), unknown, torch.atan2(right, -down))


def turns_upright(points: torch.Tensor, skeleton: Skeleton) -> torch.Tensor:
    """Angles by which people lean in the picture, for a second look at crops that are turned by them.

    Args:
        points (`torch.Tensor` of shape `(people, joints, 2)`): px of the picture or of its crop, NaN where unknown.
        skeleton (`Skeleton`): Names the joints.

    Returns:
        `torch.Tensor` of shape `(people,)`: Radians, in steps of 5 degrees; 0 for those who are about upright, or of
        whom that is not known.
    """
    tilts = body_tilt(points, skeleton)
    rounded = TURNING_STEP * (tilts / TURNING_STEP).round()
    return torch.where(tilts.abs() > LEANING, rounded, 0.0)  # NaN is not more either


def turn_about(affine: torch.Tensor, angle: float, size: tuple[int, int]) -> torch.Tensor:
    """Turn a crop about its middle, so that what leans by an angle is upright.

    Args:
        affine (`torch.Tensor` of shape `(2, 3)`): px of the picture -> px of the crop.
        angle (`float`): Radians, as `body_tilt` gives them.
        size (`tuple[int, int]`): Height and width of the crop in px.
    """
    middle = affine.new_tensor([size[1] / 2, size[0] / 2])
    turn = roll(affine.new_tensor(-angle))[:2, :2]
    linear = turn @ affine[:, :2]
    return torch.cat([linear, (turn @ (affine[:, 2] - middle) + middle)[:, None]], dim=1)


def turned_back(joints: torch.Tensor, affine: torch.Tensor) -> torch.Tensor:
    """Turn poses of turned crops into the axes of the camera that took the picture.

    Args:
        joints (`torch.Tensor` of shape `(crops, joints, 3)`): Root-relative, in the axes of each crop.
        affine (`torch.Tensor` of shape `(crops, 2, 3)`): px of the picture -> px of the crop.
    """
    angles = torch.atan2(affine[:, 1, 0], affine[:, 0, 0]).to(joints)
    return joints @ torch.stack([roll(angle) for angle in angles])  # row vectors: the inverse of the roll


def roll(angle: torch.Tensor) -> torch.Tensor:
    """Rotation (3, 3) about the camera's axis, from x (right) towards y (down)."""
    cos, sin = angle.cos(), angle.sin()
    zero, one = torch.zeros_like(angle), torch.ones_like(angle)
    return torch.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one]).view(3, 3)


__all__ = ["body_tilt", "turn_about", "turned_back", "turns_upright"]
