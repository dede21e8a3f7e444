"""Evaluation: how far predicted poses are from the truth, how many joints are detected, and what guessing would give.

This is the plain evaluation, for any data of the model's skeleton; the papers' protocols are in `protocols.py` and
`evaluate_protocol.py`. One crop per row, from the row's own box, without test-time augmentation or ground-truth depth
or scale. Positions are relative to the skeleton's root, and means are over all labelled joints of all rows, the
root included. A joint is *detected* if the class probability of the query assigned to it reaches the threshold. Every
joint counts in the errors, detected or not: what is missing is filled by the refinement network, and where there is
none, or nothing of the person is detected, by the joint's assigned query whatever its probability. Errors over
detected joints alone are given beside, with the fraction that they are of all (`recall`). Where the data have camera
intrinsics, errors in camera space are given too, which no other number depends on.

Shape vocabulary: `poses` (N), `queries`, `joints` (J). Positions are root-relative millimetres in camera axes.
"""

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import datasets
import torch
from rich.console import Console
from torch.utils.data import DataLoader
from transformers import EvalPrediction, PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor

from ..data.examples import PoseDataset, PoseExamples, PoseMixture, collate_poses
from ..data.loading import PoseRows
from ..modeling_jointdetr import JointDetrForPoseEstimation, JointDetrPoseEstimationOutput
from ..postprocessing_jointdetr import AssembledPoses, assemble_poses
from ..skeleton_jointdetr import SKELETONS, Skeleton
from .camera_space import CameraTargets, place_poses
from .metrics import TrivialBaselines, auc, joint_errors, mpjpe, pa_mpjpe, pck
from .reliability import Reliability, measure_reliability
from .report import Report, ReportTable, number

_OUTPUTS = ("logits", "pred_joints", "pred_points", "pred_sigmas", "pred_visibility")


@dataclass(frozen=True)
class EvaluationSettings:
    """How to evaluate.

    Args:
        threshold: joints less probable than this are missing.
        assignment: `hungarian` or `argmax`, see `assemble_poses`.
        batch_size: crops at once.
        workers: processes that load pictures.
        device: where the model runs.
    """

    threshold: float = 0.5
    assignment: str = "hungarian"
    batch_size: int = 32
    workers: int = 0
    device: str = "cpu"


@dataclass
class PoseTargets:
    """True poses: `joints` (poses, joints, 3), `valid`, `visible` (poses, joints), `points` (poses, joints, 2)."""

    joints: torch.Tensor
    valid: torch.Tensor
    visible: torch.Tensor
    points: torch.Tensor  # in [0, 1] of the input, NaN where unknown

    @classmethod
    def from_labels(cls, labels: Sequence[dict]) -> "PoseTargets":
        """Stack the labels of single crops, as tensors or arrays."""
        names = ("joints_3d", "joints_3d_valid", "visible", "joints_2d")
        stacked = (torch.stack([torch.as_tensor(label[name]) for label in labels]) for name in names)
        return cls(*stacked)


@dataclass
class Predictions:
    """What a model says of every row, and the truth.

    Args:
        outputs: the network's, on the CPU.
        targets: true poses.
        cameras: true places and intrinsics.
        skeleton: of the targets.
        seconds: how long it took.
    """

    outputs: JointDetrPoseEstimationOutput
    targets: PoseTargets
    cameras: CameraTargets
    skeleton: Skeleton
    seconds: float


@dataclass(frozen=True)
class EvaluationResult:
    """Metrics of a model, per joint and of the trivial baselines, with the settings that they depend on.

    Args:
        metrics: mean errors in mm (`mpjpe`, `pa_mpjpe`, and `mpjpe_` with `detected`, `visible` or `occluded` for some
            of the joints), fractions (`pck_150`, `auc`, `recall`), and `point_error`, the mean distance in the picture
            as a fraction of the crop's side. With intrinsics also `mpjpe_absolute` and `mrpe` in mm, over the fraction
            `placed` of the people. NaN where there is no such joint.
        joints: for each joint's name its `mpjpe`, `pa_mpjpe` and `recall`.
        baselines: for each trivial baseline its `mpjpe`, `pa_mpjpe`, `pck_150` and `auc`.
        protocol: what was evaluated and how.
        reliability: whether the model's confidence can be used; None where it was not asked.
        refinement: `before` and `after` the refinement network, `mpjpe` and `pa_mpjpe` in mm, each also with
            `_visible` and `_occluded`: the alignment of PA-MPJPE is by all joints. None without such a network.
    """

    metrics: dict[str, float]
    joints: dict[str, dict[str, float]]
    baselines: dict[str, dict[str, float]]
    protocol: dict[str, str | int | float | bool]
    reliability: Reliability | None = None
    refinement: dict[str, dict[str, float]] | None = None

    def flat(self) -> dict[str, float]:
        """All numbers in one dictionary, with names such as `mean_pose/mpjpe` and `joint/head/recall`."""
        flat = dict(self.metrics)
        for name, values in self.baselines.items():
            flat |= {f"{name}/{metric}": value for metric, value in values.items()}
        for name, values in self.joints.items():
            flat |= {f"joint/{name}/{metric}": value for metric, value in values.items()}
        return flat

    def report(self) -> Report:
        """Lay out the model beside the baselines, the single joints, camera space and confidence."""
        overall = [
            [
                name,
                *(number(values[metric]) for metric in ("mpjpe", "pa_mpjpe")),
                *(number(100 * values[metric]) for metric in ("pck_150", "auc")),
            ]
            for name, values in {"model": self.metrics, **self.baselines}.items()
        ]
        single = [
            [name, number(values["mpjpe"]), number(values["pa_mpjpe"]), number(100 * values["recall"])]
            for name, values in self.joints.items()
        ]
        tables = [
            ReportTable("All joints", ["predictor", "MPJPE mm", "PA-MPJPE mm", "PCK@150 %", "AUC %"], overall),
            ReportTable("Single joints", ["joint", "MPJPE mm", "PA-MPJPE mm", "detected %"], single),
            ReportTable("Parts of it", ["what", "value"], self._details()),
        ]
        content = {name: value for name, value in vars(self).items() if name not in ("reliability", "refinement")}
        if self.refinement is not None:
            tables.append(refinement_table(self.refinement))
            content["refinement"] = self.refinement
        if self.reliability is not None:
            tables.append(reliability_table(self.reliability))
            content["reliability"] = self.reliability.content()
        return Report("Evaluation", tables, self.protocol, content)

    def _details(self) -> list[list[str]]:
        """Numbers over some of the joints, in the picture and in camera space."""
        m = self.metrics
        rows = [["joints detected, %", number(100 * m["recall"])]]
        rows += [[f"MPJPE of {part} joints, mm", number(m[f"mpjpe_{part}"])] for part in _SUBSETS]
        rows.append(["distance in the picture, % of the crop's side", number(100 * m["point_error"])])
        return rows + camera_rows(m)

    def save(self, path: str | Path) -> None:
        """Write everything as `.json`, where numbers that do not exist are null, or the tables as `.md` or `.txt`."""
        self.report().save(path)

    def print(self, console: Console | None = None) -> None:
        """Print the tables and what they depend on."""
        self.report().print(console)


_SUBSETS = ("detected", "visible", "occluded")
_VISIBILITIES = {"": "all", "_visible": "visible", "_occluded": "occluded"}


def camera_rows(metrics: dict[str, float]) -> list[list[str]]:
    """Lines of a table about camera space; none where no intrinsics are known."""
    if "mrpe" not in metrics:
        return []
    return [
        ["MPJPE in camera space (absolute), mm", number(metrics["mpjpe_absolute"])],
        ["error of the root in camera space (MRPE), mm", number(metrics["mrpe"])],
        ["people placed in camera space, %", number(100 * metrics["placed"])],
    ]


def refinement_table(refinement: dict[str, dict[str, float]]) -> ReportTable:
    """Lay out what the refinement network makes better or worse."""
    rows = [
        [
            joints,
            *(number(values[metric + part]) for metric in ("mpjpe", "pa_mpjpe") for values in refinement.values()),
        ]
        for part, joints in _VISIBILITIES.items()
    ]
    header = ["joints", *(f"{metric} {when}" for metric in ("MPJPE mm", "PA-MPJPE mm") for when in refinement)]
    return ReportTable("Refinement network", header, rows)


def reliability_table(reliability: Reliability) -> ReportTable:
    """Lay out how far the confidence is true."""
    labels = {
        "score_ece": ("score: expected calibration error against hits within 150 mm, %", 100.0, 1),
        "sigma_gap": ("expected error: mean gap to the measured error, mm", 1.0, 1),
        "sigma_rank_correlation": ("expected error: rank correlation with the measured error", 1.0, 2),
        "visible_ece": ("visibility: expected calibration error, %", 100.0, 1),
        "visible_accuracy": ("visibility: accuracy at one half, %", 100.0, 1),
    }
    rows = [
        [label, number(factor * reliability.metrics[name], digits)]
        for name, (label, factor, digits) in labels.items()
        if name in reliability.metrics
    ]
    return ReportTable("Confidence, of every joint whatever its score", ["what", "value"], rows)


class PoseMetrics:
    """`compute_metrics` for `Trainer`.

    The truth comes from the evaluated dataset itself, in its order: `Trainer` gathers labels that are lists of
    dictionaries as if the first dimension of their tensors were the batch, and cuts or mixes them.

    Args:
        dataset: the `eval_dataset`.
        threshold: joints less probable than this are missing.
        baselines: trivial predictors to put beside; None for none.
        refiner: fills missing joints, usually `model.refiner`.
    """

    def __init__(
        self,
        dataset: PoseDataset | PoseMixture,
        threshold: float = 0.5,
        baselines: TrivialBaselines | None = None,
        refiner: PreTrainedModel | None = None,
    ):
        parts = dataset.datasets if isinstance(dataset, PoseMixture) else [dataset]
        self.skeleton = parts[0].skeleton
        self.targets = PoseTargets.from_labels([dataset.pose_labels(index) for index in range(len(dataset))])
        self.threshold = threshold
        self.baselines = baselines
        self.refiner = refiner

    def __call__(self, prediction: EvalPrediction) -> dict[str, float]:
        """Return the numbers of `EvaluationResult.flat`; batches may be concatenated or not."""
        batches = prediction.predictions if isinstance(prediction.predictions, list) else [prediction.predictions]
        tensors = [[torch.as_tensor(array).cpu() for array in batch] for batch in batches]
        *logits, joints, points = (torch.cat(parts) for parts in zip(*tensors, strict=True))
        if len(joints) != len(self.targets.joints):
            raise ValueError(f"`PoseMetrics` is for {len(self.targets.joints)} poses, got {len(joints)} predictions")
        outputs = JointDetrPoseEstimationOutput(
            logits=logits[0] if logits else None, pred_joints=joints, pred_points=points
        )
        settings = EvaluationSettings(threshold=self.threshold)
        refiner = None if self.refiner is None else _on_cpu(self.refiner)
        detected, completed = complete_poses(outputs, settings, refiner)
        return score_poses(detected, completed, self.targets, self.skeleton, self.baselines).flat()


def evaluate_model(
    model: JointDetrForPoseEstimation,
    processor: BaseImageProcessor,
    rows: datasets.Dataset,
    settings: EvaluationSettings | None = None,
    baselines: TrivialBaselines | None = None,
) -> EvaluationResult:
    """Evaluate a model on a pose dataset by the protocol at the top of this module.

    Args:
        model: the model; its refinement network is used if it has one.
        processor: its image processor.
        rows: dataset with the columns of `pose_features`.
        settings: the defaults of `EvaluationSettings` if None.
        baselines: trivial predictors, fitted to training poses. If None they are fitted to the evaluated poses, which
            flatters them.

    Raises:
        ValueError: The rows are of another skeleton than the model, or lack a column.
    """
    settings = settings or EvaluationSettings()
    skeleton = model.config.skeleton
    if len(rows):
        skeleton = _as_rows_call_it(skeleton, rows[0]["skeleton"])
    found = predict_rows(model, processor, rows, skeleton, settings)
    detected, completed = complete_poses(found.outputs, settings, refiner_on_cpu(model))
    fitted_here = baselines is None
    if fitted_here:
        baselines = TrivialBaselines.fit(found.targets.joints, found.targets.valid, skeleton)
    result = score_poses(detected, completed, found.targets, skeleton, baselines)
    truth = (found.targets.joints, found.targets.valid)
    if found.cameras.known.any():
        placed = place_poses(detected, completed.joints, truth, found.cameras, skeleton.root)
        result.metrics.update(placed.metrics())
    result.protocol.update(
        **describe_run(model, found, settings),
        baselines_fitted_to="evaluated poses" if fitted_here else "training poses",
    )
    likeliest = assemble_poses(found.outputs, 0.0, None, settings.assignment)
    refinement = None
    if model.refiner is not None:
        versions = {"before": likeliest.joints, "after": completed.joints}
        refinement = {when: errors_by_visibility(joints, found.targets) for when, joints in versions.items()}
    reliability = measure_reliability(likeliest, *truth, found.targets.visible, skeleton.root)
    return dataclasses.replace(result, reliability=reliability, refinement=refinement)


def predict_rows(
    model: JointDetrForPoseEstimation,
    processor: BaseImageProcessor,
    rows: datasets.Dataset,
    skeleton: Skeleton,
    settings: EvaluationSettings,
) -> Predictions:
    """Run a model over a data set of the given skeleton, which may be another than the model's.

    Raises:
        ValueError: The rows are of another skeleton, lack a column, or there are none.
    """
    dataset = PoseDataset(rows, PoseExamples(processor, skeleton))
    started = time.monotonic()
    outputs, targets = _run_model(model.to(settings.device).eval(), dataset, settings)
    seconds = time.monotonic() - started
    labels = [dataset.camera_labels(index) for index in range(len(dataset))]
    roots, intrinsics = (torch.stack(parts) for parts in zip(*labels, strict=True))
    cameras = CameraTargets(roots, intrinsics, dataset.examples.cropper.size)
    return Predictions(outputs, targets, cameras, skeleton, seconds)


def describe_run(
    model: JointDetrForPoseEstimation, found: Predictions, settings: EvaluationSettings
) -> dict[str, str | int | float | bool]:
    """Fine print that every kind of evaluation shares."""
    height, width = found.cameras.size
    return {
        "threshold": settings.threshold,
        "assignment": settings.assignment,
        "refiner": model.refiner is not None,
        "dtype": str(model.dtype).removeprefix("torch."),
        "box": "dataset",
        "input": f"{width}x{height}",
        "test_time_augmentation": "none",
        "intrinsics": "for camera space alone" if found.cameras.known.any() else "not used",
        "poses_per_second": round(len(found.targets.joints) / found.seconds, 2),
    }


def _as_rows_call_it(skeleton: Skeleton, name: str) -> Skeleton:
    """Rename a model's skeleton, as data may have their own name for it, but never to a known one of other joints."""
    if name in SKELETONS and SKELETONS[name].joints != skeleton.joints:
        raise ValueError(f"the rows must be of the model's skeleton {skeleton.name!r}, got {name!r}, of other joints")
    return dataclasses.replace(skeleton, name=name)


def complete_poses(
    outputs: JointDetrPoseEstimationOutput, settings: EvaluationSettings, refiner: PreTrainedModel | None
) -> tuple[AssembledPoses, AssembledPoses]:
    """Assemble poses as users get them, and once more with every joint present, as the errors need them."""
    detected = assemble_poses(outputs, settings.threshold, refiner, settings.assignment)
    likeliest = assemble_poses(outputs, 0.0, None, settings.assignment)
    joints = torch.where(detected.joints.isfinite(), detected.joints, likeliest.joints)
    return detected, dataclasses.replace(likeliest, joints=joints)


def score_poses(
    detected: AssembledPoses,
    completed: AssembledPoses,
    targets: PoseTargets,
    skeleton: Skeleton,
    baselines: TrivialBaselines | None = None,
) -> EvaluationResult:
    """Compare assembled poses with true ones.

    Args:
        detected: poses in which joints may be missing; says which are detected.
        completed: the same poses with every joint present.
        targets: the truth.
        skeleton: names the joints.
        baselines: trivial predictors to score as well.
    """
    joints, target, valid = completed.joints, targets.joints, targets.valid
    metrics = _pose_metrics(joints, target, valid)
    subsets = dict(zip(_SUBSETS, (detected.detected, targets.visible, ~targets.visible), strict=True))
    metrics |= {f"mpjpe_{name}": mpjpe(joints, target, valid & part).item() for name, part in subsets.items()}
    recall = (detected.detected & valid).sum(dim=0) / valid.sum(dim=0)  # (joints,)
    metrics["recall"] = ((detected.detected & valid).sum() / valid.sum()).item()
    point_errors = joint_errors(completed.points, targets.points)
    metrics["point_error"] = point_errors[point_errors.isfinite()].mean().item()
    columns = {
        "mpjpe": mpjpe(joints, target, valid, per_joint=True),
        "pa_mpjpe": pa_mpjpe(joints, target, valid, per_joint=True),
        "recall": recall,
    }
    per_joint = {
        name: {metric: values[index].item() for metric, values in columns.items()}
        for index, name in enumerate(skeleton.joints)
    }
    trivial = baselines.predict(target) if baselines is not None else {}
    scored = {name: _pose_metrics(prediction, target, valid) for name, prediction in trivial.items()}
    protocol = {
        "poses": len(target),
        "skeleton": skeleton.name,
        "joints": len(skeleton.joints),
        "root": skeleton.joints[skeleton.root],
    }
    return EvaluationResult(metrics, per_joint, scored, protocol)


def errors_by_visibility(joints: torch.Tensor, targets: PoseTargets) -> dict[str, float]:
    """MPJPE and PA-MPJPE of all, visible and occluded joints, see `EvaluationResult.refinement`."""
    counted = {"": targets.valid, "_visible": targets.visible, "_occluded": ~targets.visible}
    errors = {}
    for part, joints_of_part in counted.items():
        chosen = targets.valid & joints_of_part
        errors[f"mpjpe{part}"] = mpjpe(joints, targets.joints, chosen).item()
        errors[f"pa_mpjpe{part}"] = pa_mpjpe(joints, targets.joints, targets.valid, counted=chosen).item()
    return errors


@torch.inference_mode()
def _run_model(
    model: JointDetrForPoseEstimation, dataset: PoseDataset, settings: EvaluationSettings
) -> tuple[JointDetrPoseEstimationOutput, PoseTargets]:
    """Predict for a whole dataset: the outputs, on the CPU, and the truth."""
    loader = DataLoader(dataset, settings.batch_size, num_workers=settings.workers, collate_fn=collate_poses)
    batches: dict[str, list[torch.Tensor]] = {name: [] for name in _OUTPUTS}
    labels = []
    for batch in loader:
        outputs = model(pixel_values=batch["pixel_values"].to(settings.device, model.dtype))
        for name, parts in batches.items():
            if getattr(outputs, name) is not None:
                parts.append(getattr(outputs, name).float().cpu())
        labels += batch["labels"]
    merged = {name: torch.cat(parts) if parts else None for name, parts in batches.items()}
    return JointDetrPoseEstimationOutput(**merged), PoseTargets.from_labels(labels)


def refiner_on_cpu(model: JointDetrForPoseEstimation) -> PreTrainedModel | None:
    """Copy the model's refinement network, if it has one, to where the predictions are gathered."""
    return None if model.refiner is None else _on_cpu(model.refiner)


def _on_cpu(refiner: PreTrainedModel) -> PreTrainedModel:
    """Copy a refinement network, which is small."""
    copy = type(refiner)(refiner.config)
    copy.load_state_dict(refiner.state_dict())
    return copy.float().eval()


def _pose_metrics(predicted: torch.Tensor, target: torch.Tensor, valid: torch.Tensor) -> dict[str, float]:
    """The four metrics over all joints."""
    return {
        "mpjpe": mpjpe(predicted, target, valid).item(),
        "pa_mpjpe": pa_mpjpe(predicted, target, valid).item(),
        "pck_150": pck(predicted, target, valid).item(),
        "auc": auc(predicted, target, valid).item(),
    }


def fit_baselines(rows: PoseRows, skeleton: Skeleton, limit: int = 5000) -> TrivialBaselines:
    """Fit the trivial baselines to at most `limit` rows: spread over a training set, or the first of a stream."""
    labels = rows.select_columns(["joints_3d", "joints_3d_valid"])
    if isinstance(labels, datasets.Dataset):
        labels = labels.select(range(0, len(labels), max(1, len(labels) // limit)))
    found = list(labels.take(limit))
    joints, valid = (torch.tensor([row[name] for row in found]) for name in ("joints_3d", "joints_3d_valid"))
    root = skeleton.root
    return TrivialBaselines.fit(joints - joints[:, root : root + 1], valid & valid[:, root : root + 1], skeleton)
