"""How fast is the whole model beside transformers' Deformable DETR of the same sizes, in inference and in training?

    OMP_NUM_THREADS=1 python benchmarks/whole_model.py --threads 1 --output whole_model.json

Both have the same backbone (ResNet-50), projections and encoder, weights included, and decoders of the same size. That
the encoders' answers agree is checked before anything is timed. `--compiled` adds `torch.compile`, which takes minutes
and a C++ compiler, and `--onnx` ONNX Runtime.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from timing import compare, parse_arguments, report
from torch import Tensor
from transformers import DeformableDetrConfig, DeformableDetrForObjectDetection, ResNetConfig

from jointdetr import JointDetrForPoseEstimation, JointDetrImageProcessor
from jointdetr.export import ExportedModel, export_model

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
    count, batch = ours.config.num_joints, len(pictures)
    boxes = torch.rand(count, 4) * 0.4 + 0.1
    objects = [{"class_labels": torch.arange(count), "boxes": boxes} for _ in range(batch)]
    joints = [{"joints_3d": torch.randn(count, 3) * 300, "joints_2d": torch.rand(count, 2)} for _ in range(batch)]

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


def main() -> None:
    """Time inference at batch 1 and a training step, and write the table."""
    parser = parse_arguments(__doc__, rounds=7)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=2, help="pictures of a training step")
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument("--onnx", action="store_true")
    options = parser.parse_args()
    torch.manual_seed(0)
    other, ours = make_models(ResNetConfig(out_features=["stage2", "stage3", "stage4"]))
    picture = torch.randn(1, 3, options.size, options.size)
    check(other, ours, picture)
    rows = []
    for threads in options.threads:
        torch.set_num_threads(threads)
        contestants = {OTHER: inference(other, picture), OURS: inference(ours, picture)}
        if options.compiled:
            contestants[f"{OURS}, compiled"] = inference(torch.compile(ours), picture)
        if options.onnx:
            contestants[f"{OURS}, ONNX Runtime"] = inference(open_onnx(ours, options.size, threads), picture)
        rows += [{"what": "inference", **row} for row in compare(contestants, OTHER, options.rounds)]
        steps = training_steps(other, ours, torch.randn(options.batch, 3, options.size, options.size))
        rows += [{"what": "training step", **row} for row in compare(steps, OTHER, max(1, options.rounds // 2))]
    report(rows, options.output)


if __name__ == "__main__":
    main()
