"""Does set prediction earn its place? Heads of every kind on one frozen trunk, its maps computed once.

`python -m benchmarks.accuracy.heads --crops CROPS --output runs/heads [--seeds 3] [--only NAME] [--steps 500]`

Before that, once, the maps of all crops (`test` reads the four test sets instead of the training set):
`python -m benchmarks.accuracy.heads --crops CROPS --trunk data/blazepose --compute NAME=DATASET:SPLIT:COUNT ...`

With the trunk frozen, a step of the heads costs a twentieth of a second of one core, so that many heads can be trained
alike: same crops, steps, batches and augmentation, same losses and metrics. Every contestant is trained with each of
`RATES` on the first seed and keeps the best for the others. Finished runs are not repeated.

CROPS holds `train`, `people` (synthetic, held out), `photographs` (2D labels), `real` (3D labels) and `cut` (views cut
off and covered), each as `.npy` (crops, numbers of all maps) in float16 and `.pt` with the labels.
Shape vocabulary: crops, batch, joints, as in `jointdetr.data.examples`.
"""

import argparse
import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import set_seed
from transformers.modeling_outputs import BackboneOutput

from benchmarks.accuracy.models import L1Peer, LikelihoodPeer, VolumetricPeer
from benchmarks.accuracy.peer_mediapipe import HIPS, LIMBS, SHOULDERS
from jointdetr import JointDetrConfig, JointDetrForPoseEstimation
from jointdetr.backbone_jointdetr import BlazePoseBackbone
from jointdetr.data.examples import PoseDataset, PoseExamples, stack_labels
from jointdetr.data.loading import load_pose_dataset
from jointdetr.evaluation.metrics import mpjpe, pa_mpjpe, pck_torso, torso_length
from jointdetr.evaluation.result import ReportTable, number
from jointdetr.image_processing_jointdetr import JointDetrImageProcessorPil
from jointdetr.postprocessing_jointdetr import AssembledPoses, assemble_poses
from jointdetr.skeleton_jointdetr import HUMAN36M
from jointdetr.training.augmentation import Augmentation, AugmentedExamples
from jointdetr.training.model import start_at_mean_pose
from jointdetr.training.optimization import parameter_groups
from jointdetr.training.recipe import OptimizerRecipe, load_recipe

SHAPES = ((328, 12, 12), (432, 6, 6), (288, 3, 3))  # of the trunk's stages 3 to 5 for 192 px
RATES = (1.5e-3, 3e-3)
WARMUP_STEPS, DECAY = 50, 0.99
CUT = Augmentation(half_body=1.0, cutout=1.0, shift=0.2)
SMALL = {
    "backbone_config": {"model_type": "blazepose", "out_features": ["stage3", "stage4", "stage5"]},
    **{"num_feature_levels": 2, "d_model": 64, "encoder_layers": 0, "attn_implementation": "eager"},
    **{"decoder_layers": 3, "decoder_attention_heads": 4, "decoder_n_points": 2, "decoder_ffn_dim": 128},
    **{"projection_weight": 5.0, "joint_2d_weight": 15.0, "predict_confidence": True},
}
FIXED = {"query_alignment": "fixed", "num_queries": 17}
SET = {"query_alignment": "set", "num_queries": 51, "query_groups": 3}
ONE_GROUP = {"query_alignment": "set", "num_queries": 34, "query_groups": 1}
ALL_LAYERS = {"auxiliary_loss": True}
BEFORE = {
    **{"learned_start": False, "detach_layers": True, "matching_class_weight": 1.0},
    **{"class_spread": 1.0, "auxiliary_loss": True, "init_std": 0.02},
}


@dataclass(frozen=True)
class Contestant:
    """One line of the table: its name, what it says there, the kind of model and its configuration."""

    name: str
    meaning: str
    kind: type = JointDetrForPoseEstimation
    fields: dict = field(default_factory=dict)


CONTESTANTS = (
    Contestant("aligned", "aligned queries, loss on the last layer", fields=FIXED),
    Contestant("aligned-all", "and on all layers", fields={**FIXED, **ALL_LAYERS}),
    Contestant("jointdetr", "JointDETR: three groups of 17 queries, loss on the last layer", fields=SET),
    Contestant("jointdetr-100", "one group of 100", fields={**ONE_GROUP, "num_queries": 100}),
    Contestant("jointdetr-5x20", "five groups of 20", fields={**SET, "num_queries": 100, "query_groups": 5}),
    Contestant("jointdetr-34", "one group of 34", fields=ONE_GROUP),
    Contestant("jointdetr-17", "one group of 17", fields={**ONE_GROUP, "num_queries": 17}),
    Contestant("jointdetr-all", "one group of 34, loss on all layers", fields={**ONE_GROUP, **ALL_LAYERS}),
    Contestant("before", "JointDETR as it was", fields={**ONE_GROUP, **BEFORE}),
    Contestant("l1", "direct regression, L1", L1Peer, FIXED),
    Contestant("rle", "direct regression, residual log-likelihood", LikelihoodPeer, FIXED),
    Contestant("volumetric", "volumetric integral regression", VolumetricPeer, FIXED),
)


class StoredMaps(nn.Module):
    """Stands for the trunk: takes its maps as they are stored, flattened (batch, numbers)."""

    def forward(self, stored: torch.Tensor) -> BackboneOutput:
        """Return the maps."""
        parts = stored.split([math.prod(shape) for shape in SHAPES], 1)
        return BackboneOutput(tuple(part.unflatten(1, shape) for part, shape in zip(parts, SHAPES, strict=True)))


class Crops:
    """Maps and labels of a set of crops, read as they are wanted."""

    def __init__(self, folder: Path, name: str):
        self.maps = np.load(folder / f"{name}.npy", mmap_mode="r")  # (crops, numbers)
        self.labels = torch.load(folder / f"{name}.pt")  # (crops, ...) each

    def __len__(self) -> int:
        return len(self.maps)

    def pose_labels(self, index: int) -> dict[str, torch.Tensor]:
        """Labels of one crop."""
        return {name: values[index] for name, values in self.labels.items()}

    def batch(self, indices: np.ndarray) -> dict[str, torch.Tensor | list]:
        """What a model takes."""
        maps = torch.from_numpy(np.ascontiguousarray(self.maps[indices])).float()
        return {"pixel_values": maps, "labels": [self.pose_labels(index) for index in indices.tolist()]}


def compute(folder: Path, trunk: BlazePoseBackbone, name: str, examples: Sequence[tuple[PoseDataset, int]]) -> None:
    """Store the maps and labels of examples."""
    size = sum(math.prod(shape) for shape in SHAPES)
    stored = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.float16, (len(examples), size))
    labels = []
    for first in range(0, len(examples), 32):
        found = [dataset[index] for dataset, index in examples[first : first + 32]]
        with torch.no_grad():
            maps = trunk(torch.stack([example["pixel_values"] for example in found])).feature_maps
        stored[first : first + 32] = torch.cat([level.flatten(1) for level in maps], 1).half().numpy()
        labels += [example["labels"] for example in found]
    torch.save(stack_labels(labels), folder / f"{name}.pt")


def read_examples(sources: Sequence[str], augmentation: Augmentation | None) -> list[tuple[PoseDataset, int]]:
    """Draw crops from sources `DATASET:SPLIT:COUNT`, in an order of their own."""
    processor = JointDetrImageProcessorPil(size={"height": 192, "width": 192})
    examples_of = PoseExamples(processor, HUMAN36M)
    if augmentation is not None:
        examples_of = AugmentedExamples(processor, HUMAN36M, augmentation)
    rng, examples = np.random.default_rng(0), []
    for source in sources:
        path, split, count = source.split(":")
        rows = load_pose_dataset(path, split)
        dataset = PoseDataset(rows, examples_of, seed=1)
        examples += [(dataset, int(index)) for index in rng.permutation(len(dataset))[: int(count)]]
    return [examples[index] for index in rng.permutation(len(examples))]


def build(contestant: Contestant, seed: int, crops: Crops) -> nn.Module:
    """Make an untrained model over stored maps; queries with a learned start stand as the crops' mean pose."""
    set_seed(seed)
    model = contestant.kind(JointDetrConfig(**{**SMALL, **contestant.fields}))
    if isinstance(model, JointDetrForPoseEstimation):
        model.model.backbone = StoredMaps()
        start_at_mean_pose(model, crops)
    else:
        model.backbone = StoredMaps()
    return model


def train(model: nn.Module, crops: Crops, rate: float, seed: int, steps: int, batch_size: int) -> None:
    """Train by AdamW with a warm-up and a half cosine; the model ends with its averaged weights."""
    groups = parameter_groups(model, OptimizerRecipe(learning_rate=rate, sampling_multiplier=0.3))
    optimizer = torch.optim.AdamW(groups, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / WARMUP_STEPS) * 0.5 * (1 + math.cos(math.pi * step / steps))
    )
    parameters = list(model.parameters())
    average = [parameter.detach().clone() for parameter in parameters]
    rng, order = np.random.default_rng(100 + seed), np.empty(0, int)
    model.train()
    for step in range(steps):
        if len(order) < batch_size:
            order = np.concatenate([order, rng.permutation(len(crops))])
        chosen, order = np.sort(order[:batch_size]), order[batch_size:]
        loss = model(**crops.batch(chosen)).loss
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        decay = min(DECAY, (1 + step) / (10 + step))
        torch._foreach_lerp_(average, [parameter.detach() for parameter in parameters], 1.0 - decay)
    with torch.no_grad():
        for parameter, mean in zip(parameters, average, strict=True):
            parameter.copy_(mean)


@torch.no_grad()
def predict(model: nn.Module, crops: Crops) -> AssembledPoses:
    """Assemble the poses of all crops, none missing."""
    found = []
    for first in range(0, len(crops), 50):
        maps = crops.batch(np.arange(first, min(first + 50, len(crops))))["pixel_values"]
        found.append(assemble_poses(model.eval()(maps), threshold=0.0))
    fields = ("joints", "points", "scores", "detected", "sigmas", "visible")
    parts = {name: [getattr(poses, name) for poses in found] for name in fields}
    return AssembledPoses(**{name: None if values[0] is None else torch.cat(values) for name, values in parts.items()})


def measure(model: nn.Module, folder: Path) -> dict[str, float]:
    """All numbers of a trained model."""
    people, real, cut, photographs = (Crops(folder, name) for name in ("people", "real", "cut", "photographs"))
    measures = {}
    for name, crops in (("people", people), ("real", real)):
        poses = predict(model, crops)
        joints = poses.joints - poses.joints[:, :1]
        measures[f"{name}_mpjpe"] = mpjpe(joints, crops.labels["joints_3d"]).item()
        measures[f"{name}_pa_mpjpe"] = pa_mpjpe(joints, crops.labels["joints_3d"]).item()
        measures[f"{name}_found"] = 100.0 * (poses.scores > 0.5).float().mean().item()
    measures["pck"] = limbs_pck(predict(model, photographs).points, photographs.labels)
    poses, hidden = predict(model, cut), ~cut.labels["visible"].bool()
    measures["hidden"] = 100.0 * hidden.float().mean().item()
    measures["ap_score"] = 100.0 * average_precision(1.0 - poses.scores, hidden)
    if poses.visible is not None:
        measures["ap_visibility"] = 100.0 * average_precision(1.0 - poses.visible, hidden)
    return measures


def limbs_pck(points: torch.Tensor, labels: dict[str, torch.Tensor]) -> float:
    """PCK by the torso of the labelled joints of arms and legs, in percent, as beside MediaPipe."""
    chosen = [HUMAN36M.joints.index(name) for name in LIMBS]
    known = labels["joints_2d_valid"][:, chosen]
    truth = torch.where(known[..., None], labels["joints_2d"][:, chosen], torch.nan)
    return 100.0 * pck_torso(points[:, chosen], truth, torso_length(truth, HIPS, SHOULDERS)).item()


def average_precision(scores: torch.Tensor, positive: torch.Tensor) -> float:
    """Mean precision at the positives, in the order of falling scores."""
    hits = positive.flatten()[scores.flatten().argsort(descending=True, stable=True)]
    precision = hits.cumsum(0) / torch.arange(1, len(hits) + 1)
    return precision[hits].mean().item()


def run(contestant: Contestant, options: argparse.Namespace, rate: float, seed: int) -> dict:
    """Train and measure, unless that has been done."""
    file = options.output / f"{contestant.name}-{rate:g}-{seed}.json"
    if not file.exists():
        crops = Crops(options.crops, "train")
        model = build(contestant, seed, crops)
        train(model, crops, rate, seed, options.steps, options.batch_size)
        result = {"name": contestant.name, "rate": rate, "seed": seed, **measure(model, options.crops)}
        file.write_text(json.dumps(result, indent=2) + "\n")
    return json.loads(file.read_text())


def compare(options: argparse.Namespace) -> ReportTable:
    """Run all contestants: each rate on the first seed, then the other seeds with the best of them."""
    options.output.mkdir(parents=True, exist_ok=True)
    chosen = [each for each in CONTESTANTS if not options.only or each.name in options.only]
    results = {}
    for contestant in chosen:
        tried = [run(contestant, options, rate, seed=0) for rate in options.rate or RATES]
        results[contestant.name] = [min(tried, key=lambda found: found["people_mpjpe"])]
    for seed in range(1, options.seeds):
        for contestant in chosen:
            best = results[contestant.name]
            best.append(run(contestant, options, best[0]["rate"], seed))
    return results_table(chosen, results)


def results_table(chosen: Sequence[Contestant], results: dict[str, list[dict]]) -> ReportTable:
    """Lay out means and standard deviations over the seeds."""
    columns = {
        **{"people_mpjpe": "MPJPE mm", "people_pa_mpjpe": "PA-MPJPE mm", "pck": "PCK@0.2 %, photographs"},
        **{"real_mpjpe": "MPJPE mm, 4 real", "people_found": "found %", "ap_visibility": "AP of hidden %"},
    }
    rows = []
    for contestant in chosen:
        runs = results[contestant.name]
        cells = [
            _mean_and_spread([found[key] for found in runs]) if key in runs[0] else "cannot say" for key in columns
        ]
        rows.append([contestant.meaning, *cells, f"{runs[0]['rate']:g}", str(len(runs))])
    return ReportTable("Heads on one frozen trunk", ["variant", *columns.values(), "rate", "seeds"], rows)


def _mean_and_spread(values: Sequence[float]) -> str:
    mean = number(statistics.fmean(values))
    return mean if len(values) == 1 else f"{mean} ± {number(statistics.stdev(values))}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Train heads of every kind on one frozen trunk.")
    parser.add_argument("--crops", type=Path, required=True, help="folder of the stored maps")
    parser.add_argument("--output", type=Path, default=Path("runs/heads"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rate", action="append", type=float, help="to be tried, instead of those of the benchmark")
    parser.add_argument("--only", action="append", default=[], choices=[each.name for each in CONTESTANTS])
    parser.add_argument("--trunk", help="folder of the trunk, with --compute")
    parser.add_argument("--compute", choices=("train", "people", "photographs", "real", "cut"))
    parser.add_argument("sources", nargs="*", metavar="DATASET:SPLIT:COUNT", help="of the crops to compute")
    options = parser.parse_intermixed_args(arguments)
    torch.set_num_threads(1)
    if options.compute is None:
        print(compare(options).markdown())
        return
    features = SMALL["backbone_config"]["out_features"]
    trunk = BlazePoseBackbone.from_pretrained(options.trunk, out_features=features).eval()
    views = {"train": load_recipe("photographs", []).augmentation, "cut": CUT}
    options.crops.mkdir(parents=True, exist_ok=True)
    compute(options.crops, trunk, options.compute, read_examples(options.sources, views.get(options.compute)))


if __name__ == "__main__":
    main()
