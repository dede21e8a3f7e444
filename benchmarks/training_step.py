"""How much of a training step is matching, and how often does the loss wait for the device?

    OMP_NUM_THREADS=1 python benchmarks/training_step.py --threads 1

The model has the shipped model's sizes but six decoder layers; a step is forward, loss and backward. Transfers are
counted in one call of the loss: whatever would bring numbers from a GPU to the CPU.
"""

import statistics
from importlib.resources import files
from typing import Any
from unittest import mock

import torch
from timing import parse_arguments, report, take_turns
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from jointdetr import JointDetrConfig, JointDetrForPoseEstimation
from jointdetr.loss_jointdetr import JointDetrLoss, PoseLabels, PosePredictions, match


class TransferCounter(TorchDispatchMode):
    """Counts what would wait for a GPU: `.cpu()`, `.item()` and its kin, and shapes that depend on numbers."""

    WAITING = ("aten._local_scalar_dense.default", "aten.nonzero.default", "aten.masked_select.default")

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Look at one operation."""
        by_mask = str(function).startswith("aten.index.") and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        self.count += by_mask or str(function) in self.WAITING
        return function(*args, **(kwargs or {}))


def count_transfers(loss: JointDetrLoss, predictions: PosePredictions, labels: PoseLabels) -> int:
    """Count how often one call of the loss would wait for a GPU."""
    plain = Tensor.cpu
    with TransferCounter() as counter:

        def counted(tensor: Tensor) -> Tensor:
            counter.count += 1
            return plain(tensor)

        with mock.patch.object(Tensor, "cpu", counted):
            loss(predictions, labels)
    return counter.count


def draw_labels(config: JointDetrConfig, batch: int) -> list[dict[str, Tensor]]:
    """Draw people at random."""
    shape = config.num_joints, 3
    return [{"joints_3d": torch.randn(shape) * 300, "joints_2d": torch.rand(shape)[:, :2]} for _ in range(batch)]


def draw_predictions(config: JointDetrConfig, batch: int) -> PosePredictions:
    """Draw what all decoder layers say."""
    shape = config.decoder_layers, batch, config.num_queries
    joints, points = torch.randn(*shape, 3) * 0.3, torch.rand(*shape, 2)
    return PosePredictions(joints, points, torch.randn(*shape, config.num_joints + 1))


def main() -> None:
    """Time a step and the matching in it."""
    parser = parse_arguments(__doc__, rounds=5)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--queries", type=int, default=100)
    options = parser.parse_args()
    torch.manual_seed(0)
    source = str(files("jointdetr") / "pretrained")
    changes = {"decoder_layers": 6, "num_queries": options.queries, "predict_confidence": False}
    config = JointDetrConfig.from_pretrained(source, **changes)
    model = JointDetrForPoseEstimation(config).train()
    pictures, labels = torch.randn(options.batch, 3, 128, 128), draw_labels(config, options.batch)
    predictions = draw_predictions(config, options.batch)
    pose_labels = PoseLabels.from_list(labels, config, torch.device("cpu"))
    if match(predictions, pose_labels, config)[0].shape != (6, options.batch, config.num_joints):
        raise RuntimeError("the matcher does not give every joint of every layer a query")
    transfers = count_transfers(model.loss_function, predictions, pose_labels)
    rows = []
    for threads in options.threads:
        torch.set_num_threads(threads)
        parts = {
            "step": lambda: model(pictures, labels=labels).loss.backward(),
            "matching": lambda: match(predictions, pose_labels, config),
        }
        times = {name: statistics.median(values) for name, values in take_turns(parts, options.rounds).items()}
        share = 100 * times["matching"] / times["step"]
        rows.append({"threads": threads, **{f"{k} ms": v for k, v in times.items()}, "matching %": share})
    print(f"transfers from the device in one call of the loss: {transfers}")
    report([{**row, "transfers": transfers} for row in rows], options.output)


if __name__ == "__main__":
    main()
