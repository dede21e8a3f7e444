"""Which way up a body lies in the picture: networks know people who stand better than those who hang or lie.

Shape vocabulary: `...` any batch dimensions, joints.
"""

import torch

from .skeleton_jointdetr import Skeleton

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


__all__ = ["body_tilt"]
