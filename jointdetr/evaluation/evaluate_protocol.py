"""Evaluation by a protocol of the papers: their joints, frames, alignment and means, with the fine print beside.

Every scored joint counts, detected or not, as in `evaluate.py`. Predicted and true poses are both moved to the
protocol's root, which uses nothing of the truth's place, depth or scale.

Shape vocabulary: `poses` (N), `joints` (J) that are scored. Millimetres in camera axes.
"""

from dataclasses import dataclass
from typing import Any

import datasets
import torch
from transformers.image_processing_utils import BaseImageProcessor

from ..data.fitting import fitting_rows
from ..data.skeleton_mapping import joint_sources, map_skeleton, mapping_weights
from ..modeling_jointdetr import JointDetrForPoseEstimation
from ..postprocessing_jointdetr import AssembledPoses, assemble_poses
from ..skeleton_jointdetr import SKELETONS, Skeleton
from .camera_space import place_poses
from .evaluate import (
    EvaluationSettings,
    Predictions,
    camera_rows,
    complete_poses,
    describe_run,
    predict_rows,
    refiner_on_cpu,
    reliability_table,
)
from .protocols import METRICS, ChosenRows, Protocol, choose_rows
from .reliability import Reliability, measure_reliability
from .report import Report, ReportTable, number

MEANS = {"frames": "mean over frames", "groups": "mean of the {grouped_by}s' means"}


@dataclass(frozen=True)
class ScoredPoses:
    """Poses of one data set as a protocol compares them, both relative to the protocol's root.

    Args:
        predicted, target: `(poses, joints, 3)` mm.
        valid: `(poses, joints)` bool.
        joints: names of the joints.
        groups: group of every pose.
    """

    predicted: torch.Tensor
    target: torch.Tensor
    valid: torch.Tensor
    joints: list[str]
    groups: list[str]


@dataclass(frozen=True)
class ProtocolResult:
    """The numbers of a protocol.

    Args:
        protocol: which one.
        overall: for each metric the mean over `frames` and the mean over `groups` of the groups' means.
        groups: for each group its metrics and `poses`.
        joints: for each joint its metrics, and `mpjpe`.
        camera: `mpjpe_absolute`, `mrpe` and `placed`; empty where no intrinsics are known.
        reliability: whether the model's confidence can be used, over all joints of the data's skeleton.
        fine_print: what the numbers depend on, by topic.
    """

    protocol: Protocol
    overall: dict[str, dict[str, float]]
    groups: dict[str, dict[str, float]]
    joints: dict[str, dict[str, float]]
    camera: dict[str, float]
    reliability: Reliability
    fine_print: dict[str, Any]

    @property
    def headline(self) -> float:
        """The number that papers quote first, in its own unit (mm or a fraction)."""
        return self.overall[self.protocol.metrics[0]][self.protocol.headline_mean]

    def report(self) -> Report:
        """Lay everything out."""
        group = self.protocol.grouped_by
        means = [mean.format(grouped_by=group) for mean in MEANS.values()]
        overall = [
            [METRICS[name].label, *(self._cell(name, values[mean]) for mean in MEANS), METRICS[name].rule]
            for name, values in self.overall.items()
        ]
        labels = [METRICS[name].label for name in self.overall]
        groups = [
            [name, str(int(values["poses"])), *(self._cell(metric, values[metric]) for metric in self.overall)]
            for name, values in self.groups.items()
        ]
        joints = [
            [name, *(self._cell(metric, value) for metric, value in values.items())]
            for name, values in self.joints.items()
        ]
        joint_labels = [METRICS[name].label for name in next(iter(self.joints.values()))]
        tables = [
            ReportTable("All joints", ["metric", *means, "how"], overall),
            ReportTable(f"By {group}", [group, "poses", *labels], groups),
            ReportTable("By joint, mean over frames", ["joint", *joint_labels], joints),
            reliability_table(self.reliability),
        ]
        if self.camera:
            title = "Camera space, from the data set's intrinsics, without true depth or scale"
            tables.append(ReportTable(title, ["what", "value"], camera_rows(self.camera)))
        return Report(f"{self.protocol.title} ({self.protocol.name})", tables, self.fine_print, self._content())

    def _cell(self, metric: str, value: float) -> str:
        return number(METRICS[metric].factor * value)

    def _content(self) -> dict[str, Any]:
        """Everything at full precision; fractions stay fractions."""
        rules = {name: METRICS[name].rule for name in self.overall}
        return {
            "protocol": self.protocol.name,
            "overall": self.overall,
            "rules": rules,
            "groups": self.groups,
            "joints": self.joints,
            "camera": self.camera,
            "reliability": self.reliability.content(),
            "fine_print": self.fine_print,
        }


def evaluate_protocol(
    model: JointDetrForPoseEstimation,
    processor: BaseImageProcessor,
    rows: datasets.Dataset,
    protocol: Protocol,
    settings: EvaluationSettings | None = None,
) -> ProtocolResult:
    """Evaluate a model by a protocol of the papers.

    Args:
        model: the model; its refinement network is used if it has one. If its skeleton is not the data's, its
            predictions are mapped.
        processor: its image processor.
        rows: dataset with the columns of `pose_features`; the protocol's rows are chosen from it.
        protocol: one of `PROTOCOLS`.
        settings: the defaults of `EvaluationSettings` if None.

    Raises:
        ValueError: The data are not the protocol's, or the model lacks joints that are scored.
    """
    settings = settings or EvaluationSettings()
    chosen = choose_rows(fitting_rows(rows), protocol)
    skeleton = SKELETONS[chosen.rows[0]["skeleton"]]
    mapping = JointMapping.between(model.config.skeleton, skeleton, protocol)
    found = predict_rows(model, processor, chosen.rows, skeleton, settings)
    detected, completed = complete_poses(found.outputs, settings, refiner_on_cpu(model))
    detected, completed = mapping.apply(detected), mapping.apply(completed)
    scored = score_against(completed.joints, found, protocol, chosen.groups)
    truth = (found.targets.joints, found.targets.valid)
    camera: dict[str, float] = {}
    if found.cameras.known.any():
        camera = place_poses(detected, completed.joints, truth, found.cameras, skeleton.root).metrics()
    likeliest = mapping.apply(assemble_poses(found.outputs, 0.0, None, settings.assignment))
    reliability = measure_reliability(likeliest, *truth, found.targets.visible, skeleton.root)
    fine_print = describe_protocol(protocol, chosen, scored) | {"mapping": mapping.description}
    return ProtocolResult(
        protocol,
        *summarize(scored, protocol),
        camera,
        reliability,
        fine_print | describe_run(model, found, settings),
    )


@dataclass(frozen=True)
class JointMapping:
    """How a model's joints become those of the data.

    Args:
        source: the model's skeleton.
        target: the data's.
        description: for the fine print.
    """

    source: Skeleton
    target: Skeleton
    description: str

    @classmethod
    def between(cls, source: Skeleton, target: Skeleton, protocol: Protocol) -> "JointMapping":
        """Find the mapping, if the model has what the protocol needs.

        Raises:
            ValueError: A scored joint, or one of the root, cannot be had from the model's.
        """
        if source.joints == target.joints:
            return cls(source, target, f"none: the model's skeleton is {target.name}")
        needed = [*protocol.scored_joints(target), *protocol.root]
        found = dict(zip(target.joints, joint_sources(source, target), strict=True))
        lacking = sorted({name for name in needed if found[name] is None})
        if lacking:
            raise ValueError(
                f"protocol {protocol.name} scores {', '.join(lacking)}, which cannot be had from the joints of the "
                f"model's skeleton {source.name!r}"
            )
        notes = [f"{name} is {found[name].notes[0]}" for name in dict.fromkeys(needed) if found[name].notes]
        detail = f" ({'; '.join(notes)})" if notes else ", each joint by its own place on the body"
        return cls(source, target, f"predictions from {source.name} to {target.name}{detail}")

    def apply(self, poses: AssembledPoses) -> AssembledPoses:
        """Map poses; what is made of several joints is as sure as the least sure of them."""
        if self.source.joints == self.target.joints:
            return poses
        weights, possible = (torch.from_numpy(array) for array in mapping_weights(self.source, self.target))
        parts = weights != 0  # (target joints, source joints)

        def least(values: torch.Tensor) -> torch.Tensor:
            return values[:, None].where(parts, 1.0).amin(dim=-1).where(possible, 0.0)

        return AssembledPoses(
            map_skeleton(poses.joints, self.source, self.target)[0],
            map_skeleton(poses.points, self.source, self.target)[0],
            least(poses.scores),
            (poses.detected[:, None] | ~parts).all(dim=-1) & possible,
            None if poses.sigmas is None else poses.sigmas.nan_to_num(torch.inf) @ weights.T.to(poses.sigmas.dtype),
            None if poses.visible is None else least(poses.visible),
        )


def score_against(joints: torch.Tensor, found: Predictions, protocol: Protocol, groups: list[str]) -> ScoredPoses:
    """Move predicted `joints` (poses, joints, 3) and the truth to the protocol's root and keep the scored joints.

    Raises:
        ValueError: No pose has a labelled root.
    """
    names = protocol.scored_joints(found.skeleton)
    scored = [found.skeleton.joints.index(name) for name in names]
    root = [found.skeleton.joints.index(name) for name in protocol.root]
    target, valid = found.targets.joints, found.targets.valid
    rooted = valid[:, root].all(dim=1)  # (poses,)
    valid = valid[:, scored] & rooted[:, None]
    if not valid.any():
        raise ValueError(f"protocol {protocol.name} needs 3D labels of {', '.join(protocol.root)}, got none")
    return ScoredPoses(
        joints[:, scored] - joints[:, root].mean(dim=1, keepdim=True),
        target[:, scored] - target[:, root].mean(dim=1, keepdim=True),
        valid,
        names,
        groups,
    )


def summarize(
    scored: ScoredPoses, protocol: Protocol
) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, float]], dict[str, dict[str, float]]]:
    """The metrics over everything by both means, by group, and by joint."""
    groups = {}
    for name in sorted(set(scored.groups)):
        part = torch.tensor([group == name for group in scored.groups])
        values = {metric: _measure(metric, scored, part).item() for metric in protocol.metrics}
        groups[name] = values | {"poses": int(part.sum())}
    everything = torch.ones(len(scored.target), dtype=torch.bool)
    overall = {}
    for metric in protocol.metrics:
        means = [values[metric] for values in groups.values()]
        overall[metric] = {
            "frames": _measure(metric, scored, everything).item(),
            "groups": sum(means) / len(means),
        }
    columns = {
        metric: _measure(metric, scored, everything, per_joint=True).tolist()
        for metric in dict.fromkeys([*protocol.metrics, "mpjpe"])
    }
    joints = {
        name: {metric: values[index] for metric, values in columns.items()} for index, name in enumerate(scored.joints)
    }
    return overall, groups, joints


def _measure(metric: str, scored: ScoredPoses, part: torch.Tensor, per_joint: bool = False) -> torch.Tensor:
    """A metric over some of the poses."""
    return METRICS[metric].function(
        scored.predicted[part], scored.target[part], scored.valid[part], per_joint=per_joint
    )


def describe_protocol(protocol: Protocol, chosen: ChosenRows, scored: ScoredPoses) -> dict[str, Any]:
    """Fine print that belongs to the protocol and to what of it the data have."""
    skeleton = SKELETONS[chosen.rows[0]["skeleton"]]
    unlabelled = [name for name in protocol.joints if name not in skeleton.joints]
    lacking = chosen.lacking + [f"joint {name}" for name in unlabelled]
    root = " and ".join(protocol.root)
    zero = "with" if set(protocol.root) <= set(scored.joints) else "without"
    step = "every frame" if protocol.frame_step == 1 else f"every {protocol.frame_step}th frame"
    headline = MEANS[protocol.headline_mean].format(grouped_by=protocol.grouped_by)
    return {
        "complete": "yes" if not lacking else f"NO, not comparable with papers: without {', '.join(lacking)}",
        "poses": len(scored.target),
        "skeleton": skeleton.name,
        "joints": f"{len(scored.joints)}, {zero} the root: {', '.join(scored.joints)}",
        "root": f"{root} of prediction and of truth" if len(protocol.root) == 1 else f"middle of {root} of each",
        "subjects": ", ".join(protocol.subjects) or "all of the data",
        "cameras": ", ".join(protocol.cameras) or "all of the data",
        "frame step": step,
        "averaging": f"papers quote the {headline}; both are given",
        **protocol.fine_print,
    }
