"""How far predicted poses are from the truth: predictions and labels to numbers, for every protocol and for training.

Every joint counts in the errors, detected or not. A joint is *detected* if the class probability of the query assigned
to it reaches the threshold; errors over detected joints alone are given beside, with the fraction that they are of all
labelled joints (`recall`). Where the data have camera intrinsics, errors in camera space are given too.

Shape vocabulary: `poses` (N), `joints` (J) of the data, `scored` joints of the protocol. Millimetres in camera axes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..picture_jointdetr import HIPS, SHOULDERS
from ..postprocessing_jointdetr import place_roots
from .metrics import TrivialBaselines, joint_errors, mpjpe, mrpe, pa_mpjpe, pck_torso, torso_length
from .prediction import FoundPoses, PoseTargets, Predictions
from .protocols import LIMB_JOINTS, METRICS, PLAIN, Protocol
from .reliability import measure_reliability
from .result import EvaluationResult


@dataclass(frozen=True)
class ScoredPoses:
    """Predicted and true poses as a protocol compares them."""

    predicted: torch.Tensor  # (poses, scored, 3) mm, relative to the protocol's root
    target: torch.Tensor  # the same
    valid: torch.Tensor  # (poses, scored) bool

    def select(self, part: torch.Tensor) -> "ScoredPoses":
        """Take the poses where `part` `(poses,)` is true."""
        return ScoredPoses(self.predicted[part], self.target[part], self.valid[part])

    def measure(self, names: Iterable[str], per_joint: bool = False) -> dict[str, Any]:
        """Metrics by their names in `METRICS`: numbers over all joints, or lists of those of every joint."""
        poses = self.predicted, self.target, self.valid
        return {name: METRICS[name].function(*poses, per_joint=per_joint).tolist() for name in names}

    def measure_visible(self, visible: torch.Tensor) -> dict[str, float]:
        """Errors of all, `_visible` and `_occluded` joints; the alignment is by all of them."""
        errors = {}
        for part, counted in {"": self.valid, "_visible": visible, "_occluded": ~visible}.items():
            counted = counted & self.valid
            errors[f"mpjpe{part}"] = mpjpe(self.predicted, self.target, counted).item()
            errors[f"pa_mpjpe{part}"] = pa_mpjpe(self.predicted, self.target, self.valid, counted=counted).item()
        return errors


class Scorer:
    """Compares poses with the truth of a data set by the joints and the root of a protocol."""

    def __init__(self, found: Predictions, protocol: Protocol):
        """Choose the joints; a protocol that moves poses to a root needs a labelled one."""
        self.found, self.protocol = found, protocol
        targets, known = found.targets, found.skeleton.joints
        self.joints = protocol.scored_joints(found.skeleton)
        self.scored = [known.index(name) for name in self.joints]
        self.root = [known.index(name) for name in protocol.root]  # in whose middle the origin is
        # (poses, scored) bool: labels in 3D that count, seen by the labels, labels in the picture, found
        self.valid = targets.valid[:, self.scored] & targets.valid[:, self.root].all(dim=1, keepdim=True)
        self.visible = targets.visible[:, self.scored]
        self.labelled_points = targets.points.isfinite().all(dim=-1)[:, self.scored]
        self.detected = found.poses.detected.detected[:, self.scored]
        if self.root and not self.valid.any():
            raise ValueError(f"protocol {protocol.name} needs 3D labels of {', '.join(protocol.root)}, got none")

    def compare(self, joints: torch.Tensor) -> ScoredPoses:
        """Put poses `(poses, joints, 3)` beside the truth."""
        both = []
        for poses in (joints, self.found.targets.joints):
            origin = poses[:, self.root].mean(dim=1, keepdim=True) if self.root else 0.0
            both.append(poses[:, self.scored] - origin)  # (poses, scored, 3)
        return ScoredPoses(*both, self.valid)

    @property
    def recall(self) -> torch.Tensor:
        """`(poses, scored)` 1 where a labelled joint is detected, 0 where not, NaN without a label of any kind."""
        return self.detected.float().where(self.valid | self.labelled_points, torch.nan)

    def picture(self, names: Sequence[str], per_joint: bool = False) -> torch.Tensor:
        """PCK by the torso's length of some joints; NaN for a skeleton without hips or shoulders."""
        targets, known = self.found.targets, self.found.skeleton.joints
        points = targets.to_px(targets.points)
        torso = points.new_full(points.shape[:1], torch.nan)
        if {*HIPS, *SHOULDERS} <= set(known):
            torso = torso_length(points, *([known.index(name) for name in ends] for ends in (HIPS, SHOULDERS)))
        indices = [known.index(name) for name in names]
        predicted = targets.to_px(self.found.poses.likeliest.points)[:, indices]
        return pck_torso(predicted, points[:, indices], torso, per_joint=per_joint)


def score(
    found: Predictions,
    protocol: Protocol = PLAIN,
    groups: Sequence[str] | None = None,
    baselines: TrivialBaselines | None = None,
) -> EvaluationResult:
    """Compare predictions, in the joints of the truth, with the truth, and trivial predictors as well.

    `groups` is the group of every pose, where the protocol has groups.
    """
    scorer = Scorer(found, protocol)
    poses, targets = found.poses, found.targets
    scored = scorer.compare(poses.joints)
    by_group = {}
    for name in sorted(set(groups or ())):
        part = torch.tensor([group == name for group in groups])
        by_group[name] = scored.select(part).measure(protocol.metrics) | {"poses": int(part.sum())}
    trivial = baselines.predict(targets.joints) if baselines is not None and scored.valid.any() else {}
    refinement = None
    if poses.refined and scored.valid.any():
        versions = {"before": scorer.compare(poses.likeliest.joints), "after": scored}
        refinement = {when: version.measure_visible(scorer.visible) for when, version in versions.items()}
    root = found.skeleton.root
    return EvaluationResult(
        protocol=protocol,
        metrics=scored.measure(protocol.metrics) | _details(scorer, scored) | camera_metrics(poses, targets, root),
        joints=_by_joint(scorer, scored),
        labels={"joints_3d": int(scored.valid.sum()), "joints_2d": int(scorer.labelled_points.sum())},
        groups=by_group,
        baselines={name: scorer.compare(joints).measure(protocol.metrics) for name, joints in trivial.items()},
        refinement=refinement,
        reliability=measure_reliability(poses.likeliest, targets.joints, targets.valid, targets.visible, root),
    )


def _details(scorer: Scorer, scored: ScoredPoses) -> dict[str, float]:
    """Errors over some of the joints, how many are detected, and what is right in the picture."""
    subsets = {"detected": scorer.detected, "visible": scorer.visible, "occluded": ~scorer.visible}
    poses = scored.predicted, scored.target
    details = {f"mpjpe_{name}": mpjpe(*poses, scored.valid & part).item() for name, part in subsets.items()}
    targets = scorer.found.targets
    distances = joint_errors(scorer.found.poses.likeliest.points, targets.points)[:, scorer.scored]
    limbs = [name for name in LIMB_JOINTS if name in scorer.found.skeleton.joints]
    return details | {
        "recall": scorer.recall.nanmean().item(),
        "point_error": distances[distances.isfinite()].mean().item(),
        "pck_torso": scorer.picture(limbs).item(),
    }


def _by_joint(scorer: Scorer, scored: ScoredPoses) -> dict[str, dict[str, float]]:
    """The protocol's metrics, `mpjpe`, `recall` and `pck_torso` of every scored joint."""
    columns = scored.measure(dict.fromkeys([*scorer.protocol.metrics, "mpjpe"]), per_joint=True)
    columns["recall"] = scorer.recall.nanmean(dim=0).tolist()
    columns["pck_torso"] = scorer.picture(scorer.joints, per_joint=True).tolist()
    lines = zip(*columns.values(), strict=True)
    return {name: dict(zip(columns, line, strict=True)) for name, line in zip(scorer.joints, lines, strict=True)}


def camera_metrics(poses: FoundPoses, targets: PoseTargets, root: int) -> dict[str, float]:
    """Errors in camera space over all joints of the people who can be placed and whose true place is known.

    The place follows from the predicted joints, their predicted points and the data's intrinsics, as for users;
    nothing of the true depth or scale is used. Returns `mpjpe_absolute` and `mrpe` in mm, and `placed`, the fraction
    of the people whose true place is known that they are over; nothing where no true place is known.
    """
    known = targets.placed
    if not known.any():
        return {}
    points = targets.to_px(poses.detected.points.double())
    origins = place_roots(poses.detected, points, targets.intrinsics.double()).float()
    scored = known & origins.isfinite().all(dim=-1)
    predicted = (poses.joints + origins[:, None])[scored]  # (placed, joints, 3)
    target = (targets.joints + targets.roots[:, None])[scored]
    return {
        "mpjpe_absolute": mpjpe(predicted, target, targets.valid[scored]).item(),
        "mrpe": mrpe(predicted[:, root], targets.roots[scored]).item(),
        "placed": int(scored.sum()) / int(known.sum()),
    }
