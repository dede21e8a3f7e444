"""Where predicted people stand before the camera, and how far off that is.

The place of the root follows from the predicted joints, the predicted points in the picture and the data set's
intrinsics. Nothing of the true depth or scale is used.

Shape vocabulary: `poses` (N), `joints` (J). Millimetres in camera axes.
"""

import torch

from ..geometry_jointdetr import solve_root_translation
from ..postprocessing_jointdetr import MIN_JOINTS_FOR_TRANSLATION, AssembledPoses
from .metrics import mpjpe, mrpe
from .prediction import FoundPoses, PoseTargets


def place_roots(poses: AssembledPoses, targets: PoseTargets) -> torch.Tensor:
    """Find the origin of every pose in camera space by its detected joints: `(poses, 3)` mm.

    NaN without intrinsics, with fewer than three detected joints, or where no place in front of the camera fits.
    """
    usable = poses.detected & poses.joints.isfinite().all(dim=-1) & poses.points.isfinite().all(dim=-1)
    weights = poses.scores.where(usable, 0.0)
    placed = (usable.sum(dim=-1) >= MIN_JOINTS_FOR_TRANSLATION) & targets.intrinsics.isfinite().all(dim=(1, 2))
    roots = torch.full((len(placed), 3), torch.nan)
    if placed.any():
        points = targets.to_px(poses.points[placed])
        roots[placed] = solve_root_translation(
            poses.joints[placed].float(), points, targets.intrinsics[placed].float(), weights[placed], robust=True
        ).float()
    behind = ~(roots[:, 2] > 0)
    return roots.masked_fill(behind[:, None], torch.nan)


def camera_metrics(poses: FoundPoses, targets: PoseTargets, root: int) -> dict[str, float]:
    """Errors in camera space over all joints of the people who can be placed and whose true place is known.

    Args:
        poses: in the joints of the targets; those that are detected say where the person is.
        targets: the truth.
        root: index of the root joint.

    Returns:
        `mpjpe_absolute` and `mrpe` in mm, and `placed`, the fraction of the people whose true place is known that they
        are over; nothing where no true place is known.
    """
    known = targets.placed
    if not known.any():
        return {}
    origins = place_roots(poses.detected, targets)
    scored = known & origins.isfinite().all(dim=-1)
    predicted = (poses.joints + origins[:, None])[scored]  # (placed, joints, 3)
    target = (targets.joints + targets.roots[:, None])[scored]
    return {
        "mpjpe_absolute": mpjpe(predicted, target, targets.valid[scored]).item(),
        "mrpe": mrpe(predicted[:, root], targets.roots[scored]).item(),
        "placed": int(scored.sum()) / int(known.sum()),
    }
