"""Evaluation of a model on a data set by a protocol, from one call, and the same numbers for `Trainer`.

Plain evaluation is the protocol `PLAIN`; those of the papers are in `protocols.py`. The way of a row: `protocols.py`
chooses it, `prediction.py` lets the model say where its joints are and makes them the data's, and `scoring.py`
compares them with the truth.
"""

import dataclasses
from typing import Any

import datasets
import torch
from transformers import EvalPrediction, PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor

from ..data.examples import PoseDataset, PoseMixture
from ..data.loading import PoseRows, check_columns, fitting_rows
from ..modeling_jointdetr import JointDetrForPoseEstimation
from ..postprocessing_jointdetr import ASSEMBLY_INPUTS
from ..skeleton_jointdetr import Skeleton
from .metrics import TrivialBaselines
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
from .protocols import Protocol, choose_rows
from .result import COLUMNS, EvaluationResult
from .scoring import score


def evaluate_model(
    model: JointDetrForPoseEstimation,
    processor: BaseImageProcessor,
    rows: datasets.Dataset,
    settings: EvaluationSettings | None = None,
    baselines: TrivialBaselines | None = None,
) -> EvaluationResult:
    """Evaluate a model on a pose dataset.

    Args:
        model: with its refinement network, if any. Where the protocol is of another skeleton, predictions are mapped.
        processor: its image processor.
        rows: dataset with the columns of `pose_features`; the protocol's rows are chosen from it.
        settings: the defaults of `EvaluationSettings` if None.
        baselines: fitted to training poses. If None they are fitted to the evaluated poses, which flatters them.

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
    fine_print = {
        **_describe_protocol(protocol, lacking, found),
        **{COLUMNS[name][0]: rule for name, rule in result.rules.items()},
        **protocol.fine_print,
        "mapping": mapping,
        **_describe_run(model, found, settings),
        **({"baselines_fitted_to": fitted_to} if result.baselines else {}),
    }
    return dataclasses.replace(result, fine_print=fine_print)


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

    Args:
        dataset: the `eval_dataset`.
        threshold: joints less probable than this are missing.
        baselines: to put beside; None for none.
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
        self.skeleton, self.targets = parts[0].skeleton, PoseTargets.of(parts)
        self.threshold, self.baselines, self.refiner = threshold, baselines, refiner

    def __call__(self, prediction: EvalPrediction) -> dict[str, float]:
        """Return the numbers of `EvaluationResult.flat`; batches may be concatenated or not."""
        batches = prediction.predictions if isinstance(prediction.predictions, list) else [prediction.predictions]
        outputs = merge_outputs([_named(batch) for batch in batches])
        if len(outputs.pred_joints) != len(self.targets.joints):
            raise ValueError(
                f"`PoseMetrics` is for {len(self.targets.joints)} poses, got {len(outputs.pred_joints)} predictions"
            )
        poses = FoundPoses.assemble(outputs, self.threshold, self.refiner)
        return score(Predictions(poses, self.targets, self.skeleton), baselines=self.baselines).flat()


def _named(batch: tuple[Any, ...]) -> dict[str, torch.Tensor]:
    """Name what `Trainer` keeps of a model's outputs, by the order that the config leaves them in.

    Fixed alignment has no logits, and expected errors and visibility come together: an even number starts without.
    """
    names = ASSEMBLY_INPUTS if len(batch) % 2 else ASSEMBLY_INPUTS[1:]
    return {name: torch.as_tensor(array).cpu() for name, array in zip(names, batch, strict=False)}


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
    """Fine print about the model and how it was run."""
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
