"""What does the shipped model gain from bfloat16 on a CPU, and what does it lose?

    OMP_NUM_THREADS=1 python benchmarks/bfloat16.py --threads 1 --dataset data/synthetic/test --output bfloat16.json

Time is that of the network alone, for crops of noise, converted as a whole; channels-last besides is what `--dtype
bfloat16` of the command line does. `--dataset` adds the errors in both, and how far the joints move. Whether the
processor has bfloat16 says `lscpu` (avx512_bf16 or amx_bf16); without, it is only imitated, and slower.
"""

import copy
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import torch
from timing import compare, parse_arguments, report, show
from torch import Tensor

from jointdetr import JointDetrForPoseEstimation, JointDetrImageProcessor
from jointdetr.data.loading import load_pose_dataset
from jointdetr.evaluation.evaluate import EvaluationSettings, evaluate_model

SOURCE = str(files("jointdetr") / "pretrained")
BATCHES = (1, 8, 32)
SIZE = 128
MOST_MOVED_MM = 50.0


def convert(model: JointDetrForPoseEstimation) -> dict[str, JointDetrForPoseEstimation]:
    """Make the contestants of a float32 model."""
    half = copy.deepcopy(model).to(torch.bfloat16)
    return {
        "float32": model,
        "float32, channels-last": copy.deepcopy(model).to(memory_format=torch.channels_last),
        "bfloat16": half,
        "bfloat16, channels-last": copy.deepcopy(half).to(memory_format=torch.channels_last),
    }


def forward(model: JointDetrForPoseEstimation, pictures: Tensor) -> Callable[[], Tensor]:
    """Run a network in its own precision."""
    pictures = pictures.to(model.dtype)

    def run() -> Tensor:
        with torch.inference_mode():
            return model(pictures).pred_joints

    return run


def check(contestants: dict[str, Callable[[], Tensor]]) -> None:
    """Raise unless all find the joints of the first, but for rounding."""
    expected, *others = (contestant() for contestant in contestants.values())
    moved = max((joints - expected).norm(dim=-1).max().item() for joints in others)
    if not moved < MOST_MOVED_MM:
        raise RuntimeError(f"a joint moved by {moved:.1f} mm")


def measure_errors(models: dict[str, JointDetrForPoseEstimation], dataset: str) -> list[dict[str, Any]]:
    """Evaluate the contestants on a data set."""
    processor, rows = JointDetrImageProcessor.from_pretrained(SOURCE), load_pose_dataset(dataset)
    results = []
    for name, model in models.items():
        metrics = evaluate_model(model, processor, rows, EvaluationSettings()).metrics
        results.append({"contestant": name, **{key: metrics[key] for key in ("mpjpe", "pa_mpjpe", "recall")}})
    return results


def main() -> None:
    """Time the contestants, write the table and, on a data set, print the errors."""
    parser = parse_arguments(__doc__, rounds=20)
    parser.add_argument("--dataset", help="Parquet file, folder or Hub repository of a pose dataset")
    options = parser.parse_args()
    torch.manual_seed(0)
    models = convert(JointDetrForPoseEstimation.from_pretrained(SOURCE).eval())
    rows = []
    for threads in options.threads:
        torch.set_num_threads(threads)
        for batch in BATCHES:
            pictures = torch.randn(batch, 3, SIZE, SIZE)
            contestants = {name: forward(model, pictures) for name, model in models.items()}
            check(contestants)
            rows += [{"batch": batch, **row} for row in compare(contestants, "float32", options.rounds)]
    report(rows, options.output)
    if options.dataset is not None:
        show(measure_errors(models, options.dataset))


if __name__ == "__main__":
    main()
