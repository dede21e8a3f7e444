"""How many training examples a second does one core make: read, decode, crop, augment?

    OMP_NUM_THREADS=1 python benchmarks/loading.py --dataset data/people --size 256 --output loading.json

The clock is the processor time of the process, so that a busy machine counts for little. Every stage includes those
before it.
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from itertools import chain, count, islice, repeat
from pathlib import Path

import numpy as np

from jointdetr import JointDetrImageProcessorPil
from jointdetr.data.examples import PoseExamples
from jointdetr.data.loading import first_labels, load_pose_dataset, open_stored
from jointdetr.data.mixing import RowMixture
from jointdetr.picture_jointdetr import load_picture
from jointdetr.skeleton_jointdetr import SKELETONS
from jointdetr.training.augmentation import Augmentation, AugmentedExamples


def measure(dataset: str, split: str, size: int, seconds: float) -> dict[str, float]:
    """Return the examples per second of processor time of every stage, the median of three rounds."""
    stream = load_pose_dataset(dataset, split, streaming=True)
    skeleton = SKELETONS[first_labels(stream)["skeleton"]]
    mixture = RowMixture([stream], [1.0])
    held = list(islice(mixture.rows(), 64))
    processor = JointDetrImageProcessorPil(size={"height": size, "width": size})
    plain, augmented = PoseExamples(processor, skeleton), AugmentedExamples(processor, skeleton, Augmentation())
    rng = np.random.default_rng(0)
    stages = {
        "read": lambda: _passes(mixture),
        "decode": lambda: (load_picture(open_stored(row["image"]), "image") for row in _again(held)),
        "decode, crop": lambda: (plain.example(row, rng) for row in _again(held)),
        "decode, crop, augment": lambda: (augmented.example(row, rng) for row in _again(held)),
    }
    return {name: statistics.median(_rate(start(), seconds) for _ in range(3)) for name, start in stages.items()}


def _passes(mixture: RowMixture) -> Iterator[dict]:
    return chain.from_iterable(mixture.rows(passage) for passage in count())


def _again(rows: list[dict]) -> Iterator[dict]:
    return chain.from_iterable(repeat(rows))


def _rate(examples: Iterator, seconds: float) -> float:
    """Examples per second of processor time, over so many seconds of it."""
    next(examples)
    started = time.process_time()
    for number, _ in enumerate(examples, start=1):
        spent = time.process_time() - started
        if spent > seconds:
            return number / spent
    raise ValueError("expected examples without end")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--split", default="train")
    parser.add_argument("--size", type=int, default=256, help="side of the crop in px")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each round")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args(arguments)
    rates = measure(options.dataset, options.split, options.size, options.seconds)
    for name, rate in rates.items():
        print(f"{name:24} {rate:8.0f} per second and core")
    if options.output is not None:
        options.output.write_text(json.dumps({"size": options.size, "per_second_and_core": rates}, indent=2) + "\n")


if __name__ == "__main__":
    main()
