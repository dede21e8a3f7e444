"""How fast are the Triton kernels on a GPU, beside `grid_sample` and transformers' module, and beside its memory?

    python benchmarks/deformable_attention_gpu.py --output deformable_attention_gpu.json

Answers and gradients are compared before anything is timed, which also compiles the kernels. The contestants take
turns; each turn is many calls in a row between two events of the GPU, and a ratio is the median over the rounds of
(transformers / contestant in the same round). In bf16 our values are bf16 and our locations and weights float32, as
under autocast; transformers' module is given everything in bf16, which is faster and less exact.

`bandwidth` is the share of the memory's bandwidth that is used if everything is read and written once: values,
locations, weights and answer, and in training the gradients besides, in bytes by the time of a call. The bandwidth is
that of a large copy in the same run. What fits into the GPU's cache can be more than once as fast.
"""

import statistics
from typing import Any

import torch
from deformable_attention import (
    LEVELS_256,
    Case,
    Contestant,
    Inputs,
    ours,
    train,
)
from timing import milliseconds_of, parse_arguments, peak_memory_mb, report
from transformers.models.deformable_detr.modeling_deformable_detr import MultiScaleDeformableAttention

from jointdetr.deformable_attention_jointdetr import sample_maps

LEVELS_512 = ((64, 64), (32, 32), (16, 16), (8, 8))
CASES = [
    Case("encoder 256x256", 8, 1360, 32, LEVELS_256),
    Case("decoder 256x256", 8, 100, 32, LEVELS_256),
    Case("encoder 256x256", 64, 1360, 32, LEVELS_256),
    Case("decoder 256x256", 64, 100, 32, LEVELS_256),
    Case("encoder 512x512", 32, 5440, 32, LEVELS_512),
]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
SMALL_CASES = [Case("encoder, small", 1, 20, 8, ((4, 4), (2, 2)), heads=2, points=2)]
COPIED_BYTES = 1 << 30
CALLS = 20


def transformers(inputs: Inputs) -> torch.Tensor:
    """Call transformers' module with locations and weights in the precision of the values, as it needs them."""
    value, locations, weights = inputs.tensors
    attend = MultiScaleDeformableAttention()
    return attend(value, None, inputs.spatial_shapes, None, locations.to(value), weights.to(value), 64)


def plain_form(inputs: Inputs) -> torch.Tensor:
    """Call the plain form of the package, which widens the values first."""
    value, locations, weights = inputs.tensors
    return sample_maps(value.float(), locations, weights, inputs.spatial_shapes).to(value.dtype)


CONTESTANTS: dict[str, Contestant] = {
    "kernels": ours,
    "grid_sample": plain_form,
    "transformers": transformers,
}


def check(inputs: Inputs) -> None:
    """Raise unless our answers and gradients are those of the plain form in float32, up to the precision of values.

    On a pixel's centre the slope jumps, and rounding may put a place on either side: hence one in ten thousand
    gradients by locations may differ.
    """
    value, locations, weights = inputs.tensors
    exact = [value.detach().float().requires_grad_(), locations, weights]
    output = sample_maps(*exact, inputs.spatial_shapes)
    wanted = output, *torch.autograd.grad(output, exact, inputs.direction.float())
    tolerance = 1e-4 if value.dtype == torch.float32 else 1e-2
    for result, expected in zip(train(ours, inputs), wanted, strict=True):
        wrong = (result.float() - expected).abs() > tolerance * expected.abs().max().clamp(min=1)
        if wrong.float().mean() > 1e-4:
            raise RuntimeError(f"{int(wrong.sum())} of {wrong.numel()} numbers differ from the plain form's")


def bytes_needed(inputs: Inputs, training: bool) -> int:
    """Count the bytes of all that has to be read and written, once each."""
    tensors = sum(tensor.nbytes for tensor in inputs.tensors)
    forward = tensors + inputs.direction.nbytes
    backward = 2 * tensors + inputs.direction.nbytes  # read again, with the answer's gradient; gradients written
    return forward + backward if training else forward


def copy_bandwidth(device: torch.device, size: int = COPIED_BYTES) -> float:
    """Return the bytes a second that are read and written in a large copy."""
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    milliseconds = [milliseconds_of(lambda: target.copy_(source), 10, device) for _ in range(4)][1:]
    return 2 * size / (statistics.median(milliseconds) / 1000)


def measure(case: Case, dtype: str, training: bool, settings: tuple[torch.device, int, float]) -> list[dict[str, Any]]:
    """Check and time the contestants in turn; `settings` are the device, the rounds, and the bandwidth of a copy."""
    device, rounds, bandwidth = settings
    inputs = Inputs(case, device, DTYPES[dtype])
    check(inputs)

    def work(contestant: Contestant) -> None:
        with torch.set_grad_enabled(training):
            train(contestant, inputs) if training else contestant(inputs)

    times: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    for _ in range(rounds + 1):
        for name, contestant in CONTESTANTS.items():
            times[name].append(milliseconds_of(lambda c=contestant: work(c), CALLS, device))
    needed = bytes_needed(inputs, training)
    rows = []
    for name, contestant in CONTESTANTS.items():
        pairs = list(zip(times["transformers"], times[name], strict=True))[1:]  # the first round warms up
        milliseconds = statistics.median(own for _, own in pairs)
        rows.append(
            {
                "case": case.name,
                "batch": case.batch,
                "precision": dtype,
                "what": "training" if training else "inference",
                "contestant": name,
                "ms": milliseconds,
                "ratio": statistics.median(other / own for other, own in pairs),
                "bandwidth %": 100 * needed / (milliseconds / 1000) / bandwidth,
                "peak MB": peak_memory_mb(lambda c=contestant: work(c), device),
            }
        )
    return rows


def main() -> None:
    """Run all cases and write the table."""
    parser = parse_arguments(__doc__, rounds=7)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="a size that is quick on a CPU and says nothing")
    options = parser.parse_args()
    torch.manual_seed(0)
    device = torch.device(options.device)
    bandwidth = copy_bandwidth(device, COPIED_BYTES >> 6 if options.small else COPIED_BYTES)
    print(f"a copy reads and writes {bandwidth / 1e9:.0f} GB/s")
    rows = []
    for case in SMALL_CASES if options.small else CASES:
        for dtype in DTYPES:
            for training in (False, True):
                rows += measure(case, dtype, training, (device, options.rounds, bandwidth))
    report([{**row, "copy GB/s": bandwidth / 1e9} for row in rows], options.output)


if __name__ == "__main__":
    main()
