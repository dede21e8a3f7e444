"""Does the model tell people from walls? Crops of nobody beside crops of people, none of them trained on.

`python -m benchmarks.accuracy.nobody --people DATASET:SPLIT [...] --nobody DATASET:SPLIT [...] [--model FOLDER]
[--limit N]`

Datasets are as `jointdetr convert` and `jointdetr synthesize` write them. Every row's box is looked at as the search
for people does, and judged by the same sureness (`jointdetr.people_jointdetr`). Printed are the limit that keeps 98%
of the people, and how many crops of nobody are taken for a person at that limit and at the limit in use.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from transformers import pipeline

from jointdetr import JointDetrPipeline
from jointdetr.data.loading import load_pose_dataset
from jointdetr.people_jointdetr import LIMITS

KEPT = 0.98


def sureness(estimate: JointDetrPipeline, dataset: str, limit: int | None) -> np.ndarray:
    """How sure the network is of a person in the box of each row of `DATASET:SPLIT`, 0 to 1."""
    path, _, split = dataset.partition(":")
    rows = load_pose_dataset(path, split or "train")
    rows = rows if limit is None else rows.select(range(min(limit, len(rows))))
    return np.concatenate([estimate.look(row["image"].convert("RGB"), [row["box"]]).sureness() for row in rows])


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Tell people from walls.")
    parser.add_argument("--people", nargs="+", required=True, metavar="DATASET:SPLIT")
    parser.add_argument("--nobody", nargs="+", required=True, metavar="DATASET:SPLIT")
    parser.add_argument("--model", default=str(Path(__file__).parents[2] / "jointdetr" / "pretrained"))
    parser.add_argument("--limit", type=int, help="only the first so many rows of each")
    options = parser.parse_args()
    torch.set_num_threads(1)
    estimate = pipeline("pose-estimation-3d", model=options.model)
    people = np.concatenate([sureness(estimate, dataset, options.limit) for dataset in options.people])
    limit = float(np.quantile(people, 1 - KEPT))
    print(f"{len(people)} people, {KEPT:.0%} of them surer than {limit:.3f}; {LIMITS.sureness} is in use")
    for dataset in options.nobody:
        walls = sureness(estimate, dataset, options.limit)
        taken, in_use = (walls > limit).mean(), (walls > LIMITS.sureness).mean()
        print(f"{dataset}: {len(walls)} crops of nobody, {taken:.1%} surer than that, {in_use:.1%} than in use")
    kept = (people > LIMITS.sureness).mean()
    print(f"in use: {kept:.1%} of the people are kept")


if __name__ == "__main__":
    main()
