"""How do time and memory grow with the input's size, the batch, the queries and the people of a picture?

    OMP_NUM_THREADS=1 python benchmarks/growth.py --plot docs/images/growth.png --output growth.json

The model has the shipped model's sizes. Time is processor time of one thread, memory the rise of the resident peak in
a process of its own. The exponent is the slope of a line through the logarithms of the larger half of the points: 1 is
linear growth. `tokens` counts the tokens of all feature levels, for pictures of growing size. `page faults` are those
of one call after others: the C library gives arrays of more than 32 MB back to the system and takes them anew, page by
page. With MALLOC_MMAP_THRESHOLD_ and MALLOC_TRIM_THRESHOLD_ in the environment, both 4294967296, it keeps them.
"""

import resource
import statistics
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from timing import parse_arguments, peak_memory_mb, report, take_turns

from jointdetr import JointDetrConfig, JointDetrForPoseEstimation, JointDetrImageProcessor
from jointdetr.pipeline_jointdetr import JointDetrPipeline

SOURCE = str(files("jointdetr") / "pretrained")
SIZE = 128
RANGES = {
    "tokens": (128, 192, 256, 384, 512, 768, 1024),  # sides of the input in px
    "batch": (1, 2, 4, 8, 16, 32, 64),
    "queries": (17, 50, 100, 200, 400),
    "people": (1, 2, 5, 10, 20, 50),
}


class Point(NamedTuple):
    """One measurement: how much of the varied quantity, and a function that does the work."""

    amount: int
    work: Callable[[], object]


def make_model(**changes: Any) -> JointDetrForPoseEstimation:
    """Make an untrained model of the shipped model's sizes, but for the changes."""
    return JointDetrForPoseEstimation(JointDetrConfig.from_pretrained(SOURCE, **changes)).eval()


def forward(model: JointDetrForPoseEstimation, batch: int, side: int) -> Callable[[], torch.Tensor]:
    """Run the network on pictures of noise."""
    pictures = torch.randn(batch, 3, side, side)

    def run() -> torch.Tensor:
        with torch.inference_mode():
            return model(pictures).pred_joints

    return run


def estimate(people: int) -> Callable[[], list[dict]]:
    """Run the whole pipeline on a picture with so many people."""
    processor = JointDetrImageProcessor.from_pretrained(SOURCE)
    estimator = JointDetrPipeline(model=JointDetrForPoseEstimation.from_pretrained(SOURCE), image_processor=processor)
    numbers = np.random.default_rng(0)
    picture = Image.fromarray(numbers.integers(0, 255, (720, 1280, 3), dtype=np.uint8))
    corners = numbers.uniform(0, [1000, 500], (people, 2))
    boxes = [[x, y, 200.0, 200.0] for x, y in corners.tolist()]
    return lambda: estimator(picture, boxes=boxes)


def make_point(quantity: str, value: int) -> Point:
    """Prepare one measurement."""
    if quantity == "tokens":
        model = make_model()
        with torch.inference_mode():
            tokens = model.model(torch.zeros(1, 3, value, value)).encoder_last_hidden_state.shape[1]
        return Point(tokens, forward(model, 1, value))
    if quantity == "batch":
        return Point(value, forward(make_model(), value, SIZE))
    if quantity == "queries":
        return Point(value, forward(make_model(num_queries=value), 1, SIZE))
    return Point(value, estimate(value))


def check(quantity: str, value: int, work: Callable[[], Any]) -> None:
    """Raise unless the work gives what it should."""
    result = work()
    wanted = {"batch": value, "people": value}.get(quantity, 1)
    finite = torch.as_tensor(result).isfinite().all() if quantity != "people" else True
    if len(result) != wanted or not finite:
        raise RuntimeError(f"{quantity} {value}: expected {wanted} finite results, got {len(result)}")


def page_faults(work: Callable[[], object]) -> int:
    """Return how many pages of memory a call takes anew from the system."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    work()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def exponent(amounts: list[int], measured: list[float]) -> float:
    """Fit the exponent of growth to the larger half of the points."""
    half = len(amounts) // 2
    x, y = np.log(amounts[half:]), np.log(np.maximum(measured[half:], 1e-3))
    return float(np.polyfit(x, y, 1)[0])


def measure(quantity: str, values: tuple[int, ...], rounds: int) -> list[dict[str, Any]]:
    """Return one row a value, each with the exponents of its quantity."""
    amounts, milliseconds, megabytes, faults = [], [], [], []
    for value in values:
        point = make_point(quantity, value)
        megabytes.append(peak_memory_mb(point.work))
        check(quantity, value, point.work)
        milliseconds.append(statistics.median(take_turns({"it": point.work}, rounds)["it"]))
        faults.append(page_faults(point.work))
        amounts.append(point.amount)
    fits = {"time exponent": exponent(amounts, milliseconds), "memory exponent": exponent(amounts, megabytes)}
    return [
        {"quantity": quantity, "amount": amount, "ms": time, "peak MB": memory, "page faults": pages, **fits}
        for amount, time, memory, pages in zip(amounts, milliseconds, megabytes, faults, strict=True)
    ]


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw time and memory over each quantity, both axes logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import NullFormatter, ScalarFormatter

    quantities = list(dict.fromkeys(row["quantity"] for row in rows))
    figure, axes = pyplot.subplots(2, len(quantities), figsize=(3.2 * len(quantities), 5.2), sharey="row")
    for column, quantity in enumerate(quantities):
        own = [row for row in rows if row["quantity"] == quantity]
        for axis, name, fit in zip(
            axes[:, column], ("ms", "peak MB"), ("time exponent", "memory exponent"), strict=True
        ):
            axis.loglog([row["amount"] for row in own], [row[name] for row in own], "o-")
            axis.set_title(f"exponent {own[0][fit]:.2f}", fontsize=10)
            axis.grid(alpha=0.3)
            axis.xaxis.set_minor_formatter(NullFormatter())
            axis.yaxis.set_major_formatter(ScalarFormatter())
            axis.yaxis.set_minor_formatter(ScalarFormatter() if name == "peak MB" else NullFormatter())
            if column == 0:
                axis.set_ylabel(name)
        axes[1, column].set_xlabel(quantity)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure everything, print, write and draw."""
    parser = parse_arguments(__doc__, rounds=3)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = [row for quantity, values in RANGES.items() for row in measure(quantity, values, options.rounds)]
    report(rows, options.output)
    if options.plot is not None:
        plot(rows, options.plot)


if __name__ == "__main__":
    main()
