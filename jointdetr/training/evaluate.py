"""Evaluation: how far predicted poses are from the truth, how many joints are detected, and what guessing would give.

`python -m jointdetr.training.evaluate --model FOLDER_OR_REPO --dataset FOLDER_OR_REPO`

Protocol. One crop per row, from the row's own box, without test-time augmentation, camera intrinsics or ground-truth
depth or scale. Positions are relative to the skeleton's root, and means are over all labelled joints of all rows, the
root included. A joint is *detected* if the class probability of the query assigned to it reaches the threshold. Every
joint counts in the errors, detected or not: what is missing is filled by the refinement network, and where there is
none, or nothing of the person is detected, by the joint's assigned query whatever its probability. Errors over
detected joints alone are given beside, with the fraction that they are of all (`recall`).

Shape vocabulary: `poses` (N), `queries`, `joints` (J). Positions are root-relative millimetres in camera axes.
"""

import argparse
import dataclasses
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import datasets
import torch
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader
from transformers import EvalPrediction, PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor

from ..assembly_jointdetr import AssembledPoses, assemble_poses
from ..data.loading import load_pose_dataset
from ..image_processing_jointdetr import JointDetrImageProcessorPil
from ..modeling_jointdetr import JointDetrForPoseEstimation, JointDetrPoseEstimationOutput
from ..skeleton_jointdetr import SKELETONS, Skeleton
from .dataset import CropSettings, PoseDataset, PoseMixture, collate_poses
from .metrics import TrivialBaselines, auc, joint_errors, mpjpe, pa_mpjpe, pck


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


@dataclass(frozen=True)
class EvaluationResult:
    """Metrics of a model, per joint and of the trivial baselines, with the settings that they depend on.

    Args:
        metrics: mean errors in mm (`mpjpe`, `pa_mpjpe`, and `mpjpe_` with `detected`, `visible` or `occluded` for some
            of the joints), fractions (`pck_150`, `auc`, `recall`), and `point_error`, the mean distance in the picture
            as a fraction of the crop's side. NaN where there is no such joint.
        joints: for each joint's name its `mpjpe`, `pa_mpjpe` and `recall`.
        baselines: for each trivial baseline its `mpjpe`, `pa_mpjpe`, `pck_150` and `auc`.
        protocol: what was evaluated and how.
    """

    metrics: dict[str, float]
    joints: dict[str, dict[str, float]]
    baselines: dict[str, dict[str, float]]
    protocol: dict[str, str | int | float | bool]

    def flat(self) -> dict[str, float]:
        """All numbers in one dictionary, with names such as `mean_pose/mpjpe` and `joint/head/recall`."""
        flat = dict(self.metrics)
        for name, values in self.baselines.items():
            flat |= {f"{name}/{metric}": value for metric, value in values.items()}
        for name, values in self.joints.items():
            flat |= {f"joint/{name}/{metric}": value for metric, value in values.items()}
        return flat

    def save(self, path: str | Path) -> None:
        """Write everything as JSON; numbers that do not exist are null."""
        content = dataclasses.asdict(self)
        Path(path).write_text(json.dumps(_without_nan(content), indent=2) + "\n")

    def print(self, console: Console | None = None) -> None:
        """Print two tables: the model beside the baselines, and the single joints."""
        console = console or Console()
        overall = Table("predictor", "MPJPE mm", "PA-MPJPE mm", "PCK@150 %", "AUC %", title="All joints")
        for name, values in {"model": self.metrics, **self.baselines}.items():
            percent = [f"{100 * values[metric]:.1f}" for metric in ("pck_150", "auc")]
            overall.add_row(name, f"{values['mpjpe']:.1f}", f"{values['pa_mpjpe']:.1f}", *percent)
        console.print(overall)
        single = Table("joint", "MPJPE mm", "PA-MPJPE mm", "detected %", title="Single joints")
        for name, values in self.joints.items():
            single.add_row(name, *(f"{values[m]:.1f}" for m in ("mpjpe", "pa_mpjpe")), f"{100 * values['recall']:.1f}")
        console.print(single)
        m = self.metrics
        console.print(
            f"{100 * m['recall']:.1f}% of the joints detected, MPJPE of these {m['mpjpe_detected']:.1f} mm; "
            f"visible {m['mpjpe_visible']:.1f} mm, occluded {m['mpjpe_occluded']:.1f} mm; "
            f"in the picture {100 * m['point_error']:.1f}% of the crop's side"
        )
        console.print(", ".join(f"{name} {value}" for name, value in self.protocol.items()))


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
    dataset = PoseDataset(rows, skeleton, CropSettings.from_processor(processor))
    started = time.monotonic()
    outputs, targets = _run_model(model.to(settings.device).eval(), dataset, settings)
    detected, completed = complete_poses(outputs, settings, model.refiner and _on_cpu(model.refiner))
    fitted_here = baselines is None
    if fitted_here:
        baselines = TrivialBaselines.fit(targets.joints, targets.valid, skeleton)
    result = score_poses(detected, completed, targets, skeleton, baselines)
    result.protocol.update(
        threshold=settings.threshold,
        assignment=settings.assignment,
        refiner=model.refiner is not None,
        box="dataset",
        input=f"{dataset.crop.width}x{dataset.crop.height}",
        baselines_fitted_to="evaluated poses" if fitted_here else "training poses",
        poses_per_second=round(len(dataset) / (time.monotonic() - started), 2),
    )
    return result


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
    return detected, AssembledPoses(joints, likeliest.points, likeliest.scores, likeliest.detected)


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
    subsets = {"detected": detected.detected, "visible": targets.visible, "occluded": ~targets.visible}
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


@torch.inference_mode()
def _run_model(
    model: JointDetrForPoseEstimation, dataset: PoseDataset, settings: EvaluationSettings
) -> tuple[JointDetrPoseEstimationOutput, PoseTargets]:
    """Predict for a whole dataset: the outputs, on the CPU, and the truth."""
    loader = DataLoader(dataset, settings.batch_size, num_workers=settings.workers, collate_fn=collate_poses)
    logits, joints, points, labels = [], [], [], []
    for batch in loader:
        outputs = model(pixel_values=batch["pixel_values"].to(settings.device))
        if outputs.logits is not None:
            logits.append(outputs.logits.float().cpu())
        joints.append(outputs.pred_joints.float().cpu())
        points.append(outputs.pred_points.float().cpu())
        labels += batch["labels"]
    merged = JointDetrPoseEstimationOutput(
        logits=torch.cat(logits) if logits else None, pred_joints=torch.cat(joints), pred_points=torch.cat(points)
    )
    return merged, PoseTargets.from_labels(labels)


def _on_cpu(refiner: PreTrainedModel) -> PreTrainedModel:
    """Copy a refinement network, which is small, to where the predictions are gathered."""
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


def _without_nan(content: object) -> object:
    """Replace NaN, which JSON has not, by None."""
    if isinstance(content, dict):
        return {name: _without_nan(value) for name, value in content.items()}
    return None if isinstance(content, float) and content != content else content


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Evaluate a pose model on a pose dataset.")
    parser.add_argument("--model", required=True, help="folder or Hub repository of the model")
    parser.add_argument("--dataset", required=True, help="parquet file, folder or Hub repository of the dataset")
    parser.add_argument("--split", default="train")
    parser.add_argument("--threshold", type=float, default=EvaluationSettings.threshold)
    parser.add_argument("--assignment", choices=["hungarian", "argmax"], default=EvaluationSettings.assignment)
    parser.add_argument("--batch-size", type=int, default=EvaluationSettings.batch_size)
    parser.add_argument("--workers", type=int, default=EvaluationSettings.workers)
    parser.add_argument("--device", default=EvaluationSettings.device)
    parser.add_argument("--limit", type=int, help="evaluate the first so many rows")
    parser.add_argument("--baseline-dataset", help="training data to fit the trivial baselines to")
    parser.add_argument("--output", help="JSON file to write")
    options = parser.parse_args(arguments)
    model = JointDetrForPoseEstimation.from_pretrained(options.model, dtype=torch.float32)
    processor = JointDetrImageProcessorPil.from_pretrained(options.model)
    rows = load_pose_dataset(options.dataset, options.split)
    rows = rows if options.limit is None else rows.select(range(min(options.limit, len(rows))))
    settings = EvaluationSettings(**{f.name: getattr(options, f.name) for f in dataclasses.fields(EvaluationSettings)})
    baselines = None
    if options.baseline_dataset is not None:
        training_rows = load_pose_dataset(options.baseline_dataset)
        baselines = fit_baselines(training_rows, model.config.skeleton)
    result = evaluate_model(model, processor, rows, settings, baselines)
    result.print()
    if options.output is not None:
        result.save(options.output)


def fit_baselines(rows: datasets.Dataset, skeleton: Skeleton, limit: int = 5000) -> TrivialBaselines:
    """Fit the trivial baselines to at most `limit` rows spread over a training set."""
    step = max(1, len(rows) // limit)
    columns = rows.select_columns(["joints_3d", "joints_3d_valid"]).select(range(0, len(rows), step))[:]
    joints, valid = torch.tensor(columns["joints_3d"]), torch.tensor(columns["joints_3d_valid"])
    root = skeleton.root
    return TrivialBaselines.fit(joints - joints[:, root : root + 1], valid & valid[:, root : root + 1], skeleton)


if __name__ == "__main__":
    main()
