"""Errors of poses as the papers name them, and the two trivial predictors that every model has to beat.

Shape vocabulary: `...` any batch dimensions, `poses` (N), `joints` (J). Positions are millimetres, relative to the
root unless said otherwise; points in the picture are px. Alike in all metrics of joints:
- `predicted` and `target` are `(..., joints, 3)` (2 in the picture);
- `valid` is `(..., joints)` bool, all by default; joints outside it are counted nowhere and may be NaN;
- `per_joint` gives `(joints,)`, means over the poses, instead of one number. Without a joint that counts it is NaN.

Say beside every number: the skeleton and whether the (zero) root is among its joints, the root, the source of the
boxes, the frame step, and whether the mean is over frames or over actions. The functions here average over all valid
joints of all poses, the root included, which is Human3.6M's protocol for 17 joints.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..camera_jointdetr import procrustes_align
from ..skeleton_jointdetr import Skeleton

AUC_THRESHOLDS_MM = tuple(range(0, 151, 5))
"""Thresholds of MPI-INF-3DHP's area under the PCK curve: 0:5:150, both ends included."""
TORSO_SHARE = 0.2
"""Part of the torso's length that is the threshold of the 2D PCK."""


def joint_errors(predicted: Tensor, target: Tensor) -> Tensor:
    """Euclidean distance of every joint from its target: `(..., joints, 3 or 2)` twice -> `(..., joints)`."""
    return torch.linalg.vector_norm(predicted - target, dim=-1)


def mpjpe(predicted: Tensor, target: Tensor, valid: Tensor | None = None, per_joint: bool = False) -> Tensor:
    """Mean per joint position error in mm, "protocol 1" of Human3.6M; a NaN joint that is valid makes it NaN."""
    return _mean(joint_errors(predicted, target), valid, per_joint)


def pa_mpjpe(
    predicted: Tensor,
    target: Tensor,
    valid: Tensor | None = None,
    per_joint: bool = False,
    counted: Tensor | None = None,
) -> Tensor:
    """MPJPE in mm after each pose is aligned by rotation, translation and scale, without reflection ("protocol 2").

    A pose with a valid joint that is not finite makes it NaN. The valid joints determine the alignment; `counted`
    `(..., joints)` bool says which of them count, if not all.
    """
    finite = predicted.isfinite().all(dim=-1)  # (..., joints)
    if valid is not None:
        finite = finite | ~valid
    alignable = finite.all(dim=-1)[..., None, None]  # (..., 1, 1): the decomposition refuses any other pose
    aligned = procrustes_align(predicted.where(alignable, 0.0), target, valid).where(alignable, torch.nan)
    return _mean(joint_errors(aligned, target), valid if counted is None else counted, per_joint)


def mrpe(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean root position error in mm, of roots `(poses, 3)` in camera space; NaN without a pose.

    Source: Moon et al., "Camera distance-aware top-down approach for 3D multi-person pose estimation", ICCV 2019. The
    absolute counterpart of `mpjpe` is `mpjpe` itself, of joints in camera space.
    """
    return joint_errors(predicted, target).mean()


def pck(
    predicted: Tensor,
    target: Tensor,
    valid: Tensor | None = None,
    threshold_mm: float = 150.0,
    per_joint: bool = False,
) -> Tensor:
    """Fraction of the joints whose error is below a threshold, strictly (3D PCK of MPI-INF-3DHP at 150 mm).

    A NaN prediction of a valid joint is not below any threshold: missing joints count as wrong. MPI-INF-3DHP's
    official number is over 14 joints, without pelvis, spine and head.
    """
    return _mean((joint_errors(predicted, target) < threshold_mm).to(target.dtype), valid, per_joint)


def auc(predicted: Tensor, target: Tensor, valid: Tensor | None = None, per_joint: bool = False) -> Tensor:
    """Area under the PCK curve: mean of `pck` over evenly spaced thresholds (MPI-INF-3DHP: 0:5:150, strict).

    Threshold 0 adds a zero to the mean by the strict comparison, so that a perfect prediction has 30/31.
    """
    curve = [pck(predicted, target, valid, float(threshold), per_joint) for threshold in AUC_THRESHOLDS_MM]
    return torch.stack(curve).mean(dim=0)


def torso_length(points: Tensor, hips: Sequence[int], shoulders: Sequence[int]) -> Tensor:
    """Distance in the picture from the middle of the labelled hips to that of the labelled shoulders.

    `points` are `(..., joints, 2)` px, NaN where there is no label; `hips` and `shoulders` are indices of joints.
    Returns `(...,)` px, NaN where both hips or both shoulders have no label.
    """
    middles = (points[..., list(part), :].nanmean(dim=-2) for part in (hips, shoulders))
    return joint_errors(*middles)


def pck_torso(predicted: Tensor, target: Tensor, torso: Tensor, per_joint: bool = False) -> Tensor:
    """Fraction of the joints that are nearer in the picture than 0.2 of the torso's length, strictly (2D PCK).

    Source: Yang and Ramanan, "Articulated human detection with flexible mixtures of parts", TPAMI 2013, with the
    torso in place of the box as is usual for Leeds Sports Pose. A NaN prediction of a labelled joint is wrong.

    Points are px, those of `target` NaN where there is no label. Poses whose `torso` `(...,)` px, see `torso_length`,
    is NaN or 0 do not count.
    """
    counted = target.isfinite().all(dim=-1) & (torso > 0)[..., None]
    hits = joint_errors(predicted, target) < TORSO_SHARE * torso[..., None]
    return _mean(hits.to(target.dtype), counted, per_joint)


def heading(joints: Tensor, left_hip: int, right_hip: int) -> Tensor:
    """Angle of the line from right to left hip in the camera's horizontal plane: `(..., joints, 3)` -> `(...)`.

    In radians about the camera's y axis; 0 is a person seen from the front whose left hip is to the right.
    """
    line = joints[..., left_hip, :] - joints[..., right_hip, :]  # (..., 3)
    return torch.atan2(line[..., 2], line[..., 0])


def turn(joints: Tensor, angle: Tensor) -> Tensor:
    """Turn poses about the camera's y axis, adding `angle` (...) radians to their heading: `(..., joints, 3)`."""
    cos, sin = torch.cos(angle)[..., None], torch.sin(angle)[..., None]  # (..., 1)
    x, y, z = joints.unbind(dim=-1)  # (..., joints) each
    return torch.stack([cos * x - sin * z, y, sin * x + cos * z], dim=-1)


@dataclass(frozen=True)
class TrivialBaselines:
    """Two predictors that look at no picture: what a model does not beat, it has not learnt.

    Args:
        mean_pose: `(joints, 3)` mean of the training poses, root-relative, mm.
        facing_pose: `(joints, 3)` mean of the training poses turned to heading 0; None for a skeleton without hips.
        hips: indices of the left and of the right hip; None where no joints are called so.
    """

    mean_pose: Tensor
    facing_pose: Tensor | None = None
    hips: tuple[int, int] | None = None

    @classmethod
    def fit(cls, joints: Tensor, valid: Tensor, skeleton: Skeleton) -> "TrivialBaselines":
        """Average training poses: `joints` (poses, joints, 3) root-relative mm, `valid` (poses, joints) bool."""
        joints = joints.where(valid[..., None], torch.nan)
        mean_pose = joints.nanmean(dim=0)
        if not {"left_hip", "right_hip"} <= set(skeleton.joints):
            return cls(mean_pose)
        hips = (skeleton.joints.index("left_hip"), skeleton.joints.index("right_hip"))
        known = valid[:, hips].all(dim=-1)
        facing = turn(joints[known], -heading(joints[known], *hips))
        return cls(mean_pose, facing.nanmean(dim=0), hips)

    def predict(self, target: Tensor) -> dict[str, Tensor]:
        """Predictions by name for targets `(poses, joints, 3)`, of which the second is told the true heading.

        `mean_pose` is the same for all; `mean_pose_turned` is the facing mean pose turned about the camera's y axis
        to the heading of the target's hips, or not at all where a hip is unknown. A tilted camera is not undone.
        """
        predictions = {"mean_pose": self.mean_pose.expand_as(target)}
        if self.hips is not None and self.facing_pose is not None:
            angle = heading(target, *self.hips).nan_to_num()  # (poses,)
            predictions["mean_pose_turned"] = turn(self.facing_pose.expand_as(target), angle)
        return predictions


def _mean(values: Tensor, valid: Tensor | None, per_joint: bool) -> Tensor:
    """Mean of `(..., joints)` over the valid entries, to `(joints,)` or to one number."""
    if valid is None:
        valid = torch.ones_like(values, dtype=torch.bool)
    values = values.where(valid, 0.0)
    if not per_joint:
        return values.sum() / valid.sum()
    num_joints = values.shape[-1]
    return values.reshape(-1, num_joints).sum(dim=0) / valid.reshape(-1, num_joints).sum(dim=0)
