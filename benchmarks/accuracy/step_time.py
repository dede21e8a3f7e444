"""What does a training step of each contestant of the comparison cost?

    OMP_NUM_THREADS=1 python -m benchmarks.accuracy.step_time --threads 1

A step is forward, loss and backward of one batch of the recipe's size; loading, augmentation and the optimiser, which
cost all of them about the same, are left out.
"""

import statistics
from collections.abc import Callable

import torch
from transformers import PreTrainedModel

from benchmarks.accuracy.compare import RECIPE
from benchmarks.accuracy.peers import CONTESTANTS, PEERS, build_peer
from benchmarks.timing import parse_arguments, report, take_turns
from jointdetr.training.model import build_model, resolve_skeleton
from jointdetr.training.recipe import Recipe, load_recipe


def build_contestants(config: str) -> tuple[dict[str, PreTrainedModel], Recipe]:
    """Make all contestants without trained weights, and return the recipe that they share."""
    models = {}
    for variant in CONTESTANTS:
        recipe = load_recipe(config, variant.overrides)
        peer = variant.name in PEERS
        model = build_peer(variant.name, recipe) if peer else build_model(recipe, resolve_skeleton(recipe))
        models[variant.name] = model.train().to(memory_format=torch.channels_last)
    return models, load_recipe(config)


def make_step(model: PreTrainedModel, recipe: Recipe) -> Callable[[], None]:
    """Return a training step on noise."""
    pixels = torch.randn(recipe.batch_size, 3, recipe.input.height, recipe.input.width)
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    shape = model.config.num_joints, 3
    labels = [{"joints_3d": torch.randn(shape) * 300, "joints_2d": torch.rand(shape)[:, :2]} for _ in pixels]

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bf16"):
            loss = model(pixels, labels=labels).loss
        model.zero_grad()
        loss.backward()

    return step


def main() -> None:
    """Time the steps in turns."""
    parser = parse_arguments(__doc__, rounds=5)
    parser.add_argument("--config", default=str(RECIPE), help="YAML file, or the name of a recipe of the package")
    options = parser.parse_args()
    models, recipe = build_contestants(options.config)
    rows = []
    for threads in options.threads:
        torch.set_num_threads(threads)
        times = take_turns({name: make_step(model, recipe) for name, model in models.items()}, options.rounds)
        for name, model in models.items():
            cost = {"contestant": name, "threads": threads, "ms": statistics.median(times[name])}
            rows.append({**cost, "parameters": model.num_parameters()})
    report(rows, options.output)


if __name__ == "__main__":
    main()
