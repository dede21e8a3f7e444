"""How fast is the whole model beside transformers' Deformable DETR of the same sizes, in inference and in training?

    OMP_NUM_THREADS=1 python benchmarks/whole_model.py --threads 1 --output whole_model.json

Both have the same backbone (ResNet-50), projections and encoder, weights included, and decoders of the same size. That
the encoders' answers agree is checked before anything is timed. `--compiled` adds `torch.compile`, which takes minutes
and a C++ compiler, and with `--frozen` takes the weights as constants; `--onnx` adds ONNX Runtime. `--converted` runs
both models in bfloat16 as a whole, for inference, once beside each other and once beside transformers in float32. On a
GPU, with TF32 left as PyTorch has it:

    python benchmarks/whole_model.py --device cuda --batch 32 --precisions fp32 bf16 --compiled
"""

import argparse
import copy
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch._inductor.config
from timing import compare, parse_arguments, report
from torch import Tensor
from transformers import DeformableDetrConfig, DeformableDetrForObjectDetection, ResNetConfig

from jointdetr import JointDetrForPoseEstimation, JointDetrImageProcessor
from jointdetr.hub.export import ExportedModel, export_model

NUM_QUERIES = 100
OTHER = "transformers"
OURS = "jointdetr"


def make_models(backbone: ResNetConfig) -> tuple[DeformableDetrForObjectDetection, JointDetrForPoseEstimation]:
    """Make a Deformable DETR, and a JointDETR with its sizes and weights."""
    config = DeformableDetrConfig(backbone_config=backbone, num_queries=NUM_QUERIES, num_labels=17, dropout=0.0)
    other = DeformableDetrForObjectDetection(config).eval()
    other.model.backbone.requires_grad_(True)  # transformers freezes stages by timm's names, and so all of this one
    ours = JointDetrForPoseEstimation.from_deformable_detr(other.model, num_queries=NUM_QUERIES, dropout=0.0)
    return other, ours.eval()


@torch.no_grad()
def check(other: DeformableDetrForObjectDetection, ours: JointDetrForPoseEstimation, pictures: Tensor) -> None:
    """Raise unless both encode the pictures alike."""
    wanted = other.model(pictures).encoder_last_hidden_state
    got = ours.model(pictures).encoder_last_hidden_state
    error = (got - wanted).abs().max() / wanted.abs().max()
    if not error < 1e-4:
        raise RuntimeError(f"the encoders differ by {error:.2e} of the largest number")


def training_steps(
    other: DeformableDetrForObjectDetection, ours: JointDetrForPoseEstimation, pictures: Tensor
) -> dict[str, Callable[[], object]]:
    """Forward, loss and backward on pictures with 17 objects or joints each."""
    count, batch, device = ours.config.num_joints, len(pictures), pictures.device
    boxes = torch.rand(count, 4, device=device) * 0.4 + 0.1
    objects = [{"class_labels": torch.arange(count, device=device), "boxes": boxes} for _ in range(batch)]
    places = torch.randn(batch, count, 3, device=device) * 300, torch.rand(batch, count, 2, device=device)
    joints = [{"joints_3d": in_space, "joints_2d": in_picture} for in_space, in_picture in zip(*places, strict=True)]

    def step(model: torch.nn.Module, labels: list[dict[str, Tensor]]) -> None:
        model.zero_grad()
        model.train()
        model(pictures, labels=labels).loss.backward()
        model.eval()

    return {OTHER: lambda: step(other, objects), OURS: lambda: step(ours, joints)}


def inference(model: Callable[[Tensor], object], pictures: Tensor) -> Callable[[], object]:
    """Call a model without gradients."""

    def run() -> None:
        with torch.inference_mode():
            model(pictures)

    return run


def open_onnx(model: JointDetrForPoseEstimation, size: int, threads: int) -> ExportedModel:
    """Export a model and open it in ONNX Runtime."""
    folder = Path(tempfile.mkdtemp())
    processor = JointDetrImageProcessor(size={"height": size, "width": size})
    return ExportedModel(export_model(model, processor, folder), threads=threads)


def measure(
    other: DeformableDetrForObjectDetection, ours: JointDetrForPoseEstimation, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Time inference of one picture, and training steps of a batch."""
    device, shape = torch.device(options.device), (3, options.size, options.size)
    picture = torch.randn(1, *shape, device=device)
    contestants = {OTHER: inference(other, picture), OURS: inference(ours, picture)}
    if options.compiled:
        torch._inductor.config.freezing = options.frozen
        contestants[f"{OURS}, compiled"] = inference(torch.compile(ours), picture)
    if options.onnx:
        exported = open_onnx(ours, options.size, torch.get_num_threads())
        contestants[f"{OURS}, ONNX Runtime"] = inference(exported, picture)
    rows = [{"what": "inference", **row} for row in compare(contestants, OTHER, options.rounds, device)]
    steps = training_steps(other, ours, torch.randn(options.batch, *shape, device=device))
    rows_of_steps = compare(steps, OTHER, max(1, options.rounds // 2), device)
    return rows + [{"what": "training step", **row} for row in rows_of_steps]


def measure_converted(
    other: DeformableDetrForObjectDetection, ours: JointDetrForPoseEstimation, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Time inference of one picture by models whose weights and activations are bfloat16."""
    device = torch.device(options.device)
    picture = torch.randn(1, 3, options.size, options.size, device=device)
    models = {name: copy.deepcopy(model).to(torch.bfloat16) for name, model in ((OTHER, other), (OURS, ours))}
    contestants = {name: inference(model, picture.to(torch.bfloat16)) for name, model in models.items()}
    rows = compare(contestants, OTHER, options.rounds, device)
    mixed = {f"{OTHER}, fp32": inference(other, picture), OURS: contestants[OURS]}
    rows += compare(mixed, f"{OTHER}, fp32", options.rounds, device)
    return [{"precision": "converted", "what": "inference", **row} for row in rows]


def main() -> None:
    """Time inference at batch 1 and a training step, and write the table."""
    parser = parse_arguments(__doc__, rounds=7)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=2, help="pictures of a training step")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precisions", nargs="+", default=["fp32"], choices=["fp32", "bf16"], help="bf16: autocast")
    parser.add_argument("--converted", action="store_true")
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument("--frozen", action="store_true", help="with --compiled: the weights are constants")
    parser.add_argument("--onnx", action="store_true")
    options = parser.parse_args()
    torch.manual_seed(0)
    device = torch.device(options.device)
    models = [model.to(device) for model in make_models(ResNetConfig(out_features=["stage2", "stage3", "stage4"]))]
    check(*models, torch.randn(1, 3, options.size, options.size, device=device))
    rows = []
    for precision in options.precisions:
        for threads in options.threads if device.type == "cpu" else options.threads[:1]:
            torch.set_num_threads(threads)
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                rows += [{"precision": precision, **row} for row in measure(*models, options)]
    if options.converted:
        rows += measure_converted(*models, options)
    report(rows, options.output)


if __name__ == "__main__":
    main()
