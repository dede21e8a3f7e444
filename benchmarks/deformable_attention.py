"""How fast is multi-scale deformable attention on a CPU, beside transformers' module and beside `grid_sample`?

    OMP_NUM_THREADS=1 python benchmarks/deformable_attention.py --output deformable_attention.json

Answers and gradients are compared before anything is timed. The contestants take turns, and a ratio is the median over
the rounds of (contestant / ours in the same round), so that a busy machine slows all of them. With one thread the
clock is the processor time of the process, with more it is the wall clock. Memory is the rise of the resident peak,
for the whole batch.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from timing import peak_memory_mb
from transformers.models.deformable_detr.modeling_deformable_detr import MultiScaleDeformableAttention

from jointdetr.deformable_attention_jointdetr import multi_scale_deformable_attention, sample_maps


@dataclass(frozen=True)
class Case:
    """A size that occurs: levels and queries of an encoder or decoder layer."""

    name: str
    batch: int
    queries: int
    head_dim: int
    spatial_shapes: tuple[tuple[int, int], ...]
    heads: int = 8
    points: int = 4


LEVELS_128 = ((16, 16), (8, 8), (4, 4), (2, 2))
LEVELS_256 = ((32, 32), (16, 16), (8, 8), (4, 4))
CASES = [
    Case("tiny encoder", 16, 84, 32, ((8, 8), (4, 4), (2, 2)), heads=4, points=2),
    Case("tiny decoder", 16, 40, 32, ((8, 8), (4, 4), (2, 2)), heads=4, points=2),
    Case("encoder 128x128", 48, 340, 16, LEVELS_128),
    Case("decoder 128x128", 48, 100, 16, LEVELS_128),
    Case("encoder 256x256", 8, 1360, 32, LEVELS_256),
    Case("decoder 256x256", 8, 100, 32, LEVELS_256),
]


@dataclass(frozen=True)
class Timing:
    """Milliseconds per image (medians), how many times longer than ours, and peak memory of the contestants."""

    case: str
    threads: int
    training: bool
    milliseconds: dict[str, float]
    ratios: dict[str, float]
    peak_mb: dict[str, float]


class Inputs:
    """Random inputs of one case; locations reach a tenth beyond the borders.

    Values and the direction of the gradient have the given precision; locations and weights are always float32, as a
    model gives them under autocast.
    """

    def __init__(self, case: Case, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32):
        self.spatial_shapes = list(case.spatial_shapes)
        tokens = sum(height * width for height, width in self.spatial_shapes)
        samples_shape = case.batch, case.queries, case.heads, len(self.spatial_shapes), case.points
        value = torch.randn(case.batch, tokens, case.heads, case.head_dim, device=device).to(dtype)
        locations = torch.rand(*samples_shape, 2, device=device) * 1.2 - 0.1
        weights = torch.rand(samples_shape, device=device).flatten(3).softmax(-1).view(samples_shape)
        self.tensors = [tensor.requires_grad_() for tensor in (value, locations, weights)]
        self.direction = torch.randn(case.batch, case.queries, case.heads * case.head_dim, device=device).to(dtype)


Contestant = Callable[[Inputs], torch.Tensor]


def ours(inputs: Inputs) -> torch.Tensor:
    """Call the function of the package."""
    value, locations, weights = inputs.tensors
    return multi_scale_deformable_attention(value, inputs.spatial_shapes, locations, weights)


def grid_sample(inputs: Inputs) -> torch.Tensor:
    """Call the plain form of the package."""
    return sample_maps(*inputs.tensors, inputs.spatial_shapes)


def transformers(inputs: Inputs) -> torch.Tensor:
    """Call the module of transformers' Deformable DETR, with its kernel of plain PyTorch."""
    value, locations, weights = inputs.tensors
    return MultiScaleDeformableAttention()(value, None, inputs.spatial_shapes, None, locations, weights, 64)


CONTESTANTS: dict[str, Contestant] = {"ours": ours, "grid_sample": grid_sample, "transformers": transformers}


def train(contestant: Contestant, inputs: Inputs) -> tuple[torch.Tensor, ...]:
    """Compute the answer and the three gradients."""
    output = contestant(inputs)
    return output, *torch.autograd.grad(output, inputs.tensors, inputs.direction)


def check(inputs: Inputs) -> None:
    """Raise unless answers and gradients agree.

    On a pixel's centre the slope jumps, and float32 rounding may put a place on either side: hence a few in a million
    gradients by locations may differ.
    """
    for result, wanted in zip(train(ours, inputs), train(transformers, inputs), strict=True):
        wrong = (result - wanted).abs() > 1e-5 * wanted.abs().max().clamp(min=1)
        if wrong.float().mean() > 1e-5:
            raise RuntimeError(f"{int(wrong.sum())} of {wrong.numel()} numbers differ from transformers'")


def measure(case: Case, inputs: Inputs, training: bool, rounds: int) -> Timing:
    """Time the contestants in turn."""
    threads = torch.get_num_threads()
    clock = time.process_time if threads == 1 else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    with torch.set_grad_enabled(training):
        for _ in range(rounds + 1):
            for name, contestant in CONTESTANTS.items():
                start = clock()
                train(contestant, inputs) if training else contestant(inputs)
                seconds[name].append(clock() - start)
    seconds = {name: times[1:] for name, times in seconds.items()}  # the first round warms up
    milliseconds = {name: 1000 * statistics.median(times) / case.batch for name, times in seconds.items()}
    ratios = {
        name: statistics.median(other / own for other, own in zip(times, seconds["ours"], strict=True))
        for name, times in seconds.items()
    }
    return Timing(case.name, threads, training, milliseconds, ratios, measure_memory(inputs, training))


def measure_memory(inputs: Inputs, training: bool) -> dict[str, float]:
    """Return by how many MB each contestant raises the peak of resident memory."""

    def work(contestant: Contestant) -> None:
        with torch.set_grad_enabled(training):
            train(contestant, inputs) if training else contestant(inputs)

    return {name: peak_memory_mb(lambda c=contestant: work(c)) for name, contestant in CONTESTANTS.items()}


def show(timings: list[Timing]) -> None:
    """Print one row a timing."""
    print(f"{'case':18}{'threads':>8}{'what':>11}" + "".join(f"{name:>30}" for name in CONTESTANTS))
    for timing in timings:
        what = "training" if timing.training else "inference"
        cells = [
            f"{timing.milliseconds[name]:9.2f} ms {timing.ratios[name]:5.1f} x {timing.peak_mb[name]:6.0f} MB"
            for name in CONTESTANTS
        ]
        print(f"{timing.case:18}{timing.threads:8}{what:>11}" + "".join(f"{cell:>30}" for cell in cells))


def main() -> None:
    """Run all cases and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, help="JSON file to write")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.manual_seed(0)
    timings = []
    for case in CASES:
        inputs = Inputs(case)
        check(inputs)
        for threads in options.threads:
            torch.set_num_threads(threads)
            timings += [measure(case, inputs, training, options.rounds) for training in (True, False)]
    show(timings)
    if options.output:
        machine = {"processor": platform.processor() or platform.machine(), "torch": torch.__version__}
        report = {"machine": machine, "milliseconds_per_image": [asdict(timing) for timing in timings]}
        options.output.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
