"""`jointdetr train` and `jointdetr train-refiner`: run a recipe."""

from typing import Annotated

import typer

from .options import one_line_errors

RecipeOption = Annotated[
    str, typer.Option("--config", help="YAML file, or the name of a recipe of the package, as synthetic-tiny.")
]
OverridesArgument = Annotated[
    list[str] | None, typer.Argument(metavar="SECTION.KEY=VALUE", help="Replaces a key of the recipe.")
]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in the output folder.")]


def train(config: RecipeOption, overrides: OverridesArgument = None, resume: ResumeOption = False) -> None:
    """Train a pose model from a recipe, from scratch or from a checkpoint."""
    from ..training.recipe import load_recipe
    from ..training.train import train as run_training

    with one_line_errors(config):
        recipe = load_recipe(config, overrides or [])
        result = run_training(recipe, resume)
    typer.echo(f"saved {result.folder}")


def train_refiner(config: RecipeOption, overrides: OverridesArgument = None) -> None:
    """Train the joint refinement network; `model.refiner` in a recipe builds it into a model."""
    from ..training.recipe import RefinerRecipe, load_recipe
    from ..training.train_refiner import train_refiner as run_training

    with one_line_errors(config):
        recipe = load_recipe(config, overrides or [], RefinerRecipe)
        _, metrics = run_training(recipe)
    for name, value in metrics.items():
        typer.echo(f"{name} {value:.1f} mm")
    typer.echo(f"saved {recipe.output}")
