"""How many images a second does a recipe train on, when its people are drawn as training goes on?

    python benchmarks/training_speed.py --config synthetic-tiny --render-on cpu --workers 14 --output tiny.json

Any key of the recipe can be replaced, as in `jointdetr train`. The run has no evaluation, no pictures and no trained
weights to start from; the speed is the median of the log's entries after those in which it warms up. A worker draws
and crops people by itself: if more of them help, training waits for its data.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch
from timing import parse_arguments, report

from jointdetr.training.recipe import Recipe, load_recipe
from jointdetr.training.train import train

WARM_UP_ENTRIES = 2


def make_recipe(options: argparse.Namespace, output: Path) -> Recipe:
    """Change a recipe so that it can be timed."""
    overrides = [
        f"output={output}",
        "train.sources=[]",
        f"train.synthesis.device={options.render_on}",
        f"train.workers={options.workers}",
        "evaluation.sources=[]",
        "model.backbone_from=null",
        "schedule.max_minutes=null",
        f"schedule.max_steps={options.steps}",
        f"log_steps={max(1, options.steps // 10)}",
        "watch_steps=0",
        "checkpoint_minutes=1000",
        "report_to=none",
        f"device={options.device}",
        *options.overrides,
    ]
    return load_recipe(options.config, overrides)


def measure(recipe: Recipe) -> dict[str, Any]:
    """Train, and read the speed from the log."""
    train(recipe)
    entries = json.loads((Path(recipe.output) / "log.json").read_text())
    entries = [entry for entry in entries if "images_per_second" in entry][WARM_UP_ENTRIES:]
    if not entries or not all(entry["loss"] > 0 for entry in entries):
        raise RuntimeError(f"the log must have more than {WARM_UP_ENTRIES} entries with a loss, got {entries}")
    rate = statistics.median(entry["images_per_second"] for entry in entries)
    memory = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else 0.0
    return {
        "images/s": rate,
        "ms a step": 1000 * recipe.batch_size * recipe.accumulation / rate,
        "GPU MB": memory,
        "loss, first": entries[0]["loss"],
        "loss, last": entries[-1]["loss"],
    }


def main() -> None:
    """Train and write the table."""
    parser = parse_arguments(__doc__, rounds=1)
    parser.add_argument("--config", default="synthetic-tiny")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--device", default="auto", choices=["auto", "cpu"])
    parser.add_argument(
        "--render-on", default="auto", choices=["auto", "cpu"], help="auto: where the model is trained"
    )
    parser.add_argument("--workers", type=int, default=12)
    parser.add_argument("overrides", nargs="*", metavar="section.key=value")
    options = parser.parse_intermixed_args()
    with tempfile.TemporaryDirectory() as folder:
        recipe = make_recipe(options, Path(folder) / "run")
        result = measure(recipe)
    settings = {
        "recipe": options.config,
        "rendered on": options.render_on,
        "workers": options.workers,
        "batch": recipe.batch_size,
        "precision": recipe.precision,
    }
    report([settings | result], options.output)


if __name__ == "__main__":
    main()
