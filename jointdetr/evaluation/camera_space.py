"""Where predicted people stand before the camera, and how far off that is.

The place of the root follows from the predicted joints, the predicted points in the picture and the data set's
intrinsics. Nothing of the true depth or scale is used.

Shape vocabulary: `poses` (N), `joints` (J). Millimetres in camera axes; points in px of the network's input.
"""

from dataclasses import dataclass

import torch

from ..geometry_jointdetr import solve_root_translation
from ..postprocessing_jointdetr import MIN_JOINTS_FOR_TRANSLATION, AssembledPoses
from .metrics import mpjpe, mrpe


@dataclass
class CameraTargets:
    """True places of people.

    Args:
        roots: `(poses, 3)` the root in camera space, mm; NaN where unknown.
        intrinsics: `(poses, 3, 3)` of the network's input, px; NaN where unknown.
        size: height and width of the network's input, px.
    """

    roots: torch.Tensor
    intrinsics: torch.Tensor
    size: tuple[int, int]

    @property
    def known(self) -> torch.Tensor:
        """`(poses,)` bool, where both root and intrinsics are known."""
        return self.roots.isfinite().all(dim=-1) & self.intrinsics.isfinite().all(dim=-1).all(dim=-1)


def place_roots(poses: AssembledPoses, targets: CameraTargets) -> torch.Tensor:
    """Find the origin of every pose in camera space by its detected joints: `(poses, 3)` mm.

    NaN without intrinsics, with fewer than three detected joints, or where no place in front of the camera fits.
    """
    usable = poses.detected & poses.joints.isfinite().all(dim=-1) & poses.points.isfinite().all(dim=-1)
    weights = poses.scores.where(usable, 0.0)
    placed = (usable.sum(dim=-1) >= MIN_JOINTS_FOR_TRANSLATION) & targets.intrinsics.isfinite().all(dim=-1).all(dim=-1)
    roots = torch.full((len(placed), 3), torch.nan)
    if placed.any():
        height, width = targets.size
        points = poses.points[placed] * torch.tensor([width, height])
        roots[placed] = solve_root_translation(
            poses.joints[placed].float(), points, targets.intrinsics[placed].float(), weights[placed], robust=True
        ).float()
    behind = ~(roots[:, 2] > 0)
    return roots.masked_fill(behind[:, None], torch.nan)


@dataclass
class PlacedPoses:
    """Poses of people who could be placed and whose true place is known.

    Args:
        predicted, target: `(poses, joints, 3)` mm in camera space.
        valid: `(poses, joints)` bool.
        predicted_roots, target_roots: `(poses, 3)` mm in camera space.
        fraction: of the people whose true place is known, how many could be placed.
    """

    predicted: torch.Tensor
    target: torch.Tensor
    valid: torch.Tensor
    predicted_roots: torch.Tensor
    target_roots: torch.Tensor
    fraction: float

    def metrics(self) -> dict[str, float]:
        """`mpjpe_absolute` and `mrpe` in mm over the people who could be placed, and their fraction `placed`."""
        return {
            "mpjpe_absolute": mpjpe(self.predicted, self.target, self.valid).item(),
            "mrpe": mrpe(self.predicted_roots, self.target_roots).item(),
            "placed": self.fraction,
        }


def place_poses(
    detected: AssembledPoses,
    joints: torch.Tensor,
    target: tuple[torch.Tensor, torch.Tensor],
    cameras: CameraTargets,
    root: int,
) -> PlacedPoses:
    """Put predicted and true poses into camera space.

    Args:
        detected: poses as users get them; say where the person is.
        joints: `(poses, joints, 3)` the same poses with every joint present.
        target: true joints `(poses, joints, 3)`, root-relative, and which are known `(poses, joints)`.
        cameras: true places and intrinsics.
        root: index of the root joint.
    """
    origins = place_roots(detected, cameras)
    scored = cameras.known & origins.isfinite().all(dim=-1)
    predicted = joints + origins[:, None]  # (poses, joints, 3)
    true_joints, valid = target
    known = int(cameras.known.sum())
    return PlacedPoses(
        predicted[scored],
        (true_joints + cameras.roots[:, None])[scored],
        valid[scored],
        predicted[scored, root],
        cameras.roots[scored],
        int(scored.sum()) / known if known else torch.nan,
    )
