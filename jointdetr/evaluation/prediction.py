"""What a model says of a data set: rows to poses, with the truth beside them.

One crop per row, from the row's own box, without test-time augmentation or ground-truth depth or scale. Every joint
gets a place, detected or not: what is missing is filled by the refinement network, and where there is none, or nothing
of the person is detected, by the joint's likeliest query. Where the data have other joints than the model, the model's
are made into theirs.

Shape vocabulary: `poses` (N), `queries`, `joints` (J). Positions are root-relative millimetres in camera axes.
"""

import time
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

import datasets
import torch
from torch.utils.data import DataLoader
from transformers import PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor
from transformers.utils import ModelOutput

from ..data.examples import PoseDataset, PoseExamples, collate_poses
from ..data.skeleton_mapping import joint_sources, map_skeleton, mapping_weights
from ..modeling_jointdetr import JointDetrForPoseEstimation, JointDetrPoseEstimationOutput
from ..postprocessing_jointdetr import ASSEMBLY_INPUTS, AssembledPoses, assemble_poses
from ..skeleton_jointdetr import Skeleton
from .protocols import PLAIN, Protocol


@dataclass(frozen=True)
class EvaluationSettings:
    """How to evaluate.

    Args:
        threshold: joints with a smaller score are guesses.
        batch_size: crops at once.
        workers: processes that load pictures.
        device: where the model runs.
        protocol: which rows and joints count, and how.
    """

    threshold: float = 0.5
    batch_size: int = 32
    workers: int = 0
    device: str = "cpu"
    protocol: Protocol = PLAIN


@dataclass
class PoseTargets:
    """True poses; what is unknown is NaN."""

    joints: torch.Tensor  # (poses, joints, 3)
    valid: torch.Tensor  # (poses, joints) bool
    visible: torch.Tensor  # (poses, joints) bool
    points: torch.Tensor  # (poses, joints, 2) in [0, 1] of the network's input
    roots: torch.Tensor  # (poses, 3) the root in camera space, mm
    intrinsics: torch.Tensor  # (poses, 3, 3) of the network's input, px
    size: tuple[int, int]  # height and width of the network's input, px

    @classmethod
    def of(cls, parts: Sequence[PoseDataset]) -> "PoseTargets":
        """Stack the labels of plain crops, of one data set after another; no picture is read."""
        rows = [(part, index) for part in parts for index in range(len(part))]
        labels = [part.pose_labels(index) for part, index in rows]
        cameras = [part.camera_labels(index) for part, index in rows]
        names = ("joints_3d", "joints_3d_valid", "visible", "joints_2d")
        stacked = (torch.stack([label[name] for label in labels]) for name in names)
        places = (torch.stack(values) for values in zip(*cameras, strict=True))
        return cls(*stacked, *places, size=parts[0].examples.cropper.size)

    @property
    def placed(self) -> torch.Tensor:
        """`(poses,)` bool, where both root and intrinsics are known."""
        return self.roots.isfinite().all(dim=-1) & self.intrinsics.isfinite().all(dim=(1, 2))

    def to_px(self, points: torch.Tensor) -> torch.Tensor:
        """Points in [0, 1] of the network's input, in px of it."""
        height, width = self.size
        return points * torch.tensor([width, height])


@dataclass
class FoundPoses:
    """Poses of a data set."""

    detected: AssembledPoses  # as users get them, in which joints may be missing
    likeliest: AssembledPoses  # each joint by its likeliest query, whatever its score, before refinement
    joints: torch.Tensor  # (poses, joints, 3) as users get them where there is such a joint, the likeliest elsewhere
    refined: bool  # whether a refinement network has had its say

    @classmethod
    def assemble(cls, outputs: ModelOutput, threshold: float, refiner: PreTrainedModel | None) -> "FoundPoses":
        """Assemble the network's outputs, which are on the CPU; a refinement network is copied there."""
        if refiner is not None:
            refiner = deepcopy(refiner).to("cpu", torch.float32).eval()
        detected = assemble_poses(outputs, threshold, refiner)
        likeliest = assemble_poses(outputs, 0.0)
        joints = torch.where(detected.joints.isfinite(), detected.joints, likeliest.joints)
        return cls(detected, likeliest, joints, refiner is not None)


def describe_mapping(source: Skeleton, target: Skeleton, protocol: Protocol) -> str:
    """Say how a model's joints become those of the data; ValueError if it has not what the protocol needs."""
    if source.joints == target.joints:
        return f"none: the model's skeleton is {target.name}"
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
    return f"predictions from {source.name} to {target.name}{detail}"


def map_poses(poses: FoundPoses, source: Skeleton, target: Skeleton) -> FoundPoses:
    """Make a model's joints into the data's; what is made of several joints is as sure as the least sure of them."""
    if source.joints == target.joints:
        return poses
    weights, possible = (torch.from_numpy(array) for array in mapping_weights(source, target))
    parts = weights != 0  # (target joints, source joints)

    def least(values: torch.Tensor) -> torch.Tensor:
        return values[:, None].where(parts, 1.0).amin(dim=-1).where(possible, 0.0)

    def mapped(of: AssembledPoses) -> AssembledPoses:
        return AssembledPoses(
            map_skeleton(of.joints, source, target)[0],
            map_skeleton(of.points, source, target)[0],
            least(of.scores),
            (of.detected[:, None] | ~parts).all(dim=-1) & possible,
            None if of.sigmas is None else of.sigmas.nan_to_num(torch.inf) @ weights.T.to(of.sigmas.dtype),
            None if of.visible is None else least(of.visible),
        )

    joints = map_skeleton(poses.joints, source, target)[0]
    return FoundPoses(mapped(poses.detected), mapped(poses.likeliest), joints, poses.refined)


@dataclass
class Predictions:
    """What a model says of every row, on the CPU, and the truth."""

    poses: FoundPoses
    targets: PoseTargets
    skeleton: Skeleton  # of the targets
    seconds: float = 0.0  # that the network took; 0 where nobody looked at the clock


def predict_rows(
    model: JointDetrForPoseEstimation,
    processor: BaseImageProcessor,
    rows: datasets.Dataset,
    skeleton: Skeleton,
    settings: EvaluationSettings,
) -> Predictions:
    """Run a model over a data set of the given skeleton, which may be another than that of the model and its poses."""
    dataset = PoseDataset(rows, PoseExamples(processor, skeleton))
    started = time.monotonic()
    outputs = run_model(model.to(settings.device).eval(), dataset, settings)
    seconds = time.monotonic() - started
    poses = FoundPoses.assemble(outputs, settings.threshold, model.refiner)
    return Predictions(poses, PoseTargets.of([dataset]), skeleton, seconds)


@torch.inference_mode()
def run_model(
    model: JointDetrForPoseEstimation, dataset: PoseDataset, settings: EvaluationSettings
) -> JointDetrPoseEstimationOutput:
    """Run the network over a whole data set; what is needed of its outputs, on the CPU in float32."""
    loader = DataLoader(dataset, settings.batch_size, num_workers=settings.workers, collate_fn=collate_poses)
    batches = []
    for batch in loader:
        outputs = model(pixel_values=batch["pixel_values"].to(settings.device, model.dtype))
        batches.append({name: outputs[name].float().cpu() for name in ASSEMBLY_INPUTS if name in outputs})
    return merge_outputs(batches)


def merge_outputs(batches: Sequence[dict[str, torch.Tensor]]) -> JointDetrPoseEstimationOutput:
    """Make one output of those of several batches."""
    merged = {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
    return JointDetrPoseEstimationOutput(**merged)
