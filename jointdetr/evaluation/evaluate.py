"""Evaluation of a model on a data set by a protocol, from one call, and the same numbers for `Trainer`.

Plain evaluation is the protocol `PLAIN`; those of the papers are in `protocols.py`. The way of a row: `protocols.py`
chooses it, `prediction.py` lets the model say where its joints are and makes them the data's, and here they are
compared with the truth.

Every joint counts in the errors, detected or not. A joint is *detected* if its score reaches the threshold; errors
over detected joints alone are given beside, with the fraction that they are of all labelled joints (`recall`). Where
the data have camera intrinsics, errors in camera space are given too.

Shape vocabulary: `poses` (N), `joints` (J) of the data, `scored` joints of the protocol. Millimetres in camera axes.
"""

from collections.abc import Sequence
from typing import Any

import datasets
import torch
from transformers import EvalPrediction, PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor

from ..data.examples import PoseDataset, PoseMixture
from ..data.loading import PoseRows, check_columns, fitting_rows
from ..modeling_jointdetr import JointDetrForPoseEstimation
from ..picture_jointdetr import HIPS, SHOULDERS
from ..postprocessing_jointdetr import ASSEMBLY_INPUTS, place_roots
from ..skeleton_jointdetr import Skeleton
from .metrics import TrivialBaselines, joint_errors, mpjpe, mrpe, pa_mpjpe, pck_torso, torso_length
from .prediction import (
    EvaluationSettings,
    FoundPoses,
    PoseTargets,
    Predictions,
    describe_mapping,
    map_poses,
    merge_outputs,
    predict_rows,
)
from .protocols import LIMB_JOINTS, METRICS, PLAIN, Protocol, choose_rows
from .reliability import measure_reliability
from .result import COLUMNS, EvaluationResult


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
        self.target = self.relative(targets.joints)  # (poses, scored, 3) mm
        if self.root and not self.valid.any():
            raise ValueError(f"protocol {protocol.name} needs 3D labels of {', '.join(protocol.root)}, got none")

    def relative(self, joints: torch.Tensor) -> torch.Tensor:
        """Scored joints of poses `(poses, joints, 3)` from the protocol's root: `(poses, scored, 3)`."""
        origin = joints[:, self.root].mean(dim=1, keepdim=True) if self.root else 0.0
        return joints[:, self.scored] - origin

    def measure(self, predicted: torch.Tensor, part: torch.Tensor | slice = slice(None)) -> dict[str, float]:
        """The protocol's metrics of scored joints `(poses, scored, 3)`, of all poses or of `part` `(poses,)` bool."""
        poses = predicted[part], self.target[part], self.valid[part]
        return {name: METRICS[name].function(*poses).item() for name in self.protocol.metrics}

    def measure_visible(self, predicted: torch.Tensor) -> dict[str, float]:
        """Errors of all, `_visible` and `_occluded` joints; the alignment is by all of them."""
        errors = {}
        for part, counted in {"": self.valid, "_visible": self.visible, "_occluded": ~self.visible}.items():
            counted = counted & self.valid
            errors[f"mpjpe{part}"] = mpjpe(predicted, self.target, counted).item()
            errors[f"pa_mpjpe{part}"] = pa_mpjpe(predicted, self.target, self.valid, counted=counted).item()
        return errors

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
    predicted = scorer.relative(poses.joints)
    by_group = {}
    for name in sorted(set(groups or ())):
        part = torch.tensor([group == name for group in groups])
        by_group[name] = scorer.measure(predicted, part) | {"poses": int(part.sum())}
    trivial = baselines.predict(targets.joints) if baselines is not None and scorer.valid.any() else {}
    refinement = None
    if poses.refined and scorer.valid.any():
        versions = {"before": scorer.relative(poses.likeliest.joints), "after": predicted}
        refinement = {when: scorer.measure_visible(version) for when, version in versions.items()}
    root = found.skeleton.root
    return EvaluationResult(
        protocol=protocol,
        metrics=scorer.measure(predicted) | _details(scorer, predicted) | camera_metrics(poses, targets, root),
        joints=_by_joint(scorer, predicted),
        labels={"joints_3d": int(scorer.valid.sum()), "joints_2d": int(scorer.labelled_points.sum())},
        groups=by_group,
        baselines={name: scorer.measure(scorer.relative(joints)) for name, joints in trivial.items()},
        refinement=refinement,
        reliability=measure_reliability(poses.likeliest, targets.joints, targets.valid, targets.visible, root),
    )


def _details(scorer: Scorer, predicted: torch.Tensor) -> dict[str, float]:
    """Errors over some of the joints, how many are detected, and what is right in the picture."""
    subsets = {"detected": scorer.detected, "visible": scorer.visible, "occluded": ~scorer.visible}
    poses = predicted, scorer.target
    details = {f"mpjpe_{name}": mpjpe(*poses, scorer.valid & part).item() for name, part in subsets.items()}
    targets = scorer.found.targets
    distances = joint_errors(scorer.found.poses.likeliest.points, targets.points)[:, scorer.scored]
    limbs = [name for name in LIMB_JOINTS if name in scorer.found.skeleton.joints]
    return details | {
        "recall": scorer.recall.nanmean().item(),
        "point_error": distances[distances.isfinite()].mean().item(),
        "pck_torso": scorer.picture(limbs).item(),
    }


def _by_joint(scorer: Scorer, predicted: torch.Tensor) -> dict[str, dict[str, float]]:
    """The protocol's metrics, `mpjpe`, `recall` and `pck_torso` of every scored joint."""
    poses = predicted, scorer.target, scorer.valid
    names = dict.fromkeys([*scorer.protocol.metrics, "mpjpe"])
    columns = {name: METRICS[name].function(*poses, per_joint=True).tolist() for name in names}
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


def evaluate_model(
    model: JointDetrForPoseEstimation,
    processor: BaseImageProcessor,
    rows: datasets.Dataset,
    settings: EvaluationSettings | None = None,
    baselines: TrivialBaselines | None = None,
) -> EvaluationResult:
    """Evaluate a model, with its refinement network, on a pose dataset of the columns of `pose_features`.

    The protocol's rows are chosen from `rows`; where they are of another skeleton, predictions are mapped. `baselines`
    are fitted to training poses; if None they are fitted to the evaluated poses, which flatters them.

    Raises:
        ValueError: The rows lack a column or are not the protocol's, or the model lacks joints that are scored.
    """
    settings = settings or EvaluationSettings()
    protocol = settings.protocol
    check_columns(rows)
    rows = fitting_rows(rows)
    own, skeleton = model.config.skeleton, protocol.skeleton_of(rows, model.config.skeleton)
    rows, groups, lacking = choose_rows(rows, protocol)
    mapping = describe_mapping(own, skeleton, protocol)
    found = predict_rows(model, processor, rows, skeleton, settings)
    found.poses = map_poses(found.poses, own, skeleton)
    fitted_to = "training poses" if baselines is not None else "evaluated poses"
    if baselines is None:
        baselines = TrivialBaselines.fit(found.targets.joints, found.targets.valid, skeleton)
    result = score(found, protocol, groups, baselines)
    result.fine_print |= {
        **_describe_protocol(protocol, lacking, found),
        **{COLUMNS[name][0]: rule for name, rule in result.rules.items()},
        **protocol.fine_print,
        "mapping": mapping,
        **_describe_run(model, found, settings),
        **({"baselines_fitted_to": fitted_to} if result.baselines else {}),
    }
    return result


def fit_baselines(rows: PoseRows, skeleton: Skeleton, limit: int = 5000) -> TrivialBaselines:
    """Fit the trivial baselines to at most `limit` rows: spread over a training set, or the first of a stream."""
    labels = rows.select_columns(["joints_3d", "joints_3d_valid"])
    if isinstance(labels, datasets.Dataset):
        labels = labels.select(range(0, len(labels), max(1, len(labels) // limit)))
    found = list(labels.take(limit))
    joints, valid = (torch.tensor([row[name] for row in found]) for name in ("joints_3d", "joints_3d_valid"))
    root = skeleton.root
    return TrivialBaselines.fit(joints - joints[:, root : root + 1], valid & valid[:, root : root + 1], skeleton)


class PoseMetrics:
    """`compute_metrics` for `Trainer`: the numbers of a plain evaluation.

    The truth comes from the evaluated dataset itself, in its order: `Trainer` gathers labels that are lists of
    dictionaries as if the first dimension of their tensors were the batch, and cuts or mixes them.

    `dataset` is the `eval_dataset`; joints less probable than `threshold` are missing, and filled by the `refiner`,
    which is usually `model.refiner`.
    """

    def __init__(
        self,
        dataset: PoseDataset | PoseMixture,
        threshold: float = 0.5,
        baselines: TrivialBaselines | None = None,
        refiner: PreTrainedModel | None = None,
    ):
        parts = dataset.datasets if isinstance(dataset, PoseMixture) else [dataset]
        self.skeleton, self.targets = parts[0].examples.skeleton, PoseTargets.of(parts)
        self.threshold, self.baselines, self.refiner = threshold, baselines, refiner

    def __call__(self, prediction: EvalPrediction) -> dict[str, float]:
        """Return the numbers of `EvaluationResult.flat`; batches may be concatenated or not."""
        batches = prediction.predictions if isinstance(prediction.predictions, list) else [prediction.predictions]
        # they come without names: fixed alignment has no logits, expected errors and visibility are there together
        names = ASSEMBLY_INPUTS if len(batches[0]) % 2 else ASSEMBLY_INPUTS[1:]
        batches = [[torch.as_tensor(array).cpu() for array in batch] for batch in batches]
        outputs = merge_outputs([dict(zip(names, batch, strict=False)) for batch in batches])
        if (got := len(outputs.pred_joints)) != len(self.targets.joints):
            raise ValueError(f"`PoseMetrics` is for {len(self.targets.joints)} poses, got {got} predictions")
        poses = FoundPoses.assemble(outputs, self.threshold, self.refiner)
        return score(Predictions(poses, self.targets, self.skeleton), baselines=self.baselines).flat()


def _describe_protocol(protocol: Protocol, lacking: list[str], found: Predictions) -> dict[str, Any]:
    """Fine print that belongs to the protocol and to what of it the data have."""
    skeleton = found.skeleton
    names = protocol.scored_joints(skeleton)
    lacking = lacking + [f"joint {name}" for name in protocol.joints if name not in skeleton.joints]
    root = " and ".join(protocol.root)
    zero = "with" if set(protocol.root or [skeleton.joints[skeleton.root]]) <= set(names) else "without"
    lines: dict[str, Any] = {}
    if protocol.skeletons:
        lines["complete"] = "yes" if not lacking else f"NO, not comparable with papers: without {', '.join(lacking)}"
    means = {"frames": "mean over frames", "groups": f"mean of the {protocol.grouped_by}s' means"}
    quoted = f"papers quote the {means[protocol.headline_mean]}; both are given"
    origin = f"{root} of prediction and of truth" if len(protocol.root) == 1 else f"middle of {root} of each"
    return lines | {
        "poses": len(found.targets.joints),
        "skeleton": skeleton.name,
        "joints": f"{len(names)}, {zero} the root: {', '.join(names)}",
        "root": origin if root else f"{skeleton.joints[skeleton.root]} of the truth; predictions as they are",
        "subjects": ", ".join(protocol.subjects) or "all of the data",
        "cameras": ", ".join(protocol.cameras) or "all of the data",
        "frame step": "every frame" if protocol.frame_step == 1 else f"every {protocol.frame_step}th frame",
        "averaging": quoted if protocol.grouped_by else means["frames"],
    }


def _describe_run(
    model: JointDetrForPoseEstimation, found: Predictions, settings: EvaluationSettings
) -> dict[str, str | int | float | bool]:
    height, width = found.targets.size
    return {
        "threshold": settings.threshold,
        "refiner": model.refiner is not None,
        "dtype": str(model.dtype).removeprefix("torch."),
        "box": "dataset",
        "input": f"{width}x{height}",
        "test_time_augmentation": "none",
        "intrinsics": "for camera space alone" if found.targets.placed.any() else "not used",
        "poses_per_second": round(len(found.targets.joints) / found.seconds, 2),
    }
