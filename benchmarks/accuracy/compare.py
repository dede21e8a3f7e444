"""The paper's experiment: its steps, and what its parts are good for, at one budget and over several seeds.

`python -m benchmarks.accuracy.compare [--config RECIPE.yaml] [--seeds 3] [--only NAME] [section.key=value ...]`

Every variant is the recipe with a few keys changed. All runs start from the backbone of one pose model, the package's
own unless `--start-from` names another; the rest of each model is new. A run that is finished is not repeated, so that
the command can be stopped and started again, and seeds added later. The output folder gets `results.json`,
`results.md` and `results.png`.
"""

import argparse
import json
import shutil
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel

import jointdetr
from jointdetr import JointDetrForPoseEstimation, JointDetrImageProcessorPil
from jointdetr.evaluation.evaluate import EvaluationSettings, evaluate_model
from jointdetr.evaluation.result import ReportTable, number
from jointdetr.training.recipe import Recipe, load_recipe
from jointdetr.training.train import train
from jointdetr.training.training_data import load_source

RESULT_FILE = "result.json"
RECIPE = Path(__file__).with_name("compare.yaml")
SHIPPED = Path(jointdetr.__file__).with_name("pretrained")
METRICS = {
    "mpjpe": "MPJPE mm",
    "pa_mpjpe": "PA-MPJPE mm",
    "mpjpe_visible": "visible joints mm",
    "mpjpe_occluded": "occluded joints mm",
}


@dataclass(frozen=True)
class Variant:
    """One line of the comparison.

    Args:
        name: of its folders, and for `--only`.
        meaning: what it says in the table.
        overrides: `section.key=value` strings of the recipe.
        refined: evaluate another variant's models, with a refinement network; the name of that variant.
    """

    name: str
    meaning: str
    overrides: tuple[str, ...] = ()
    refined: str | None = None


_FIXED = (
    "model.config.query_alignment=fixed",
    "model.config.num_queries=null",
    "model.config.auxiliary_loss=false",
)
_ONE_LEVEL = "model.config.num_feature_levels=1"
_EARLY = "model.config.auxiliary_loss=true"

SECTIONS = {
    "The paper's steps": (
        Variant("baseline", "(a) force-aligned baseline, last level alone", (*_FIXED, _ONE_LEVEL)),
        Variant("levels", "(b) and four levels", _FIXED),
        Variant("intermediate", "(c) and intermediate coarse-to-fine supervision", (*_FIXED, _EARLY)),
        Variant("jointdetr", "(d) and set prediction with 100 queries: JointDETR"),
        Variant("refined", "(e) and refinement", refined="jointdetr"),
    ),
    "Queries": (
        Variant("alike", "queries alike at the start", ("model.config.class_spread=0.2",)),
        Variant("queries-17", "17 queries", ("model.config.num_queries=17",)),
        Variant("queries-50", "50 queries", ("model.config.num_queries=50",)),
        Variant("queries-200", "200 queries", ("model.config.num_queries=200",)),
    ),
    "Decoder": (Variant("unconnected", "no decoder connection", ("model.config.decoder_connection=false",)),),
    "Thresholds": (
        Variant("flat", "50 mm in every layer", ("model.config.coarse_thresholds=[50, 50, 50]",)),
        Variant("none", "none: plain L1 in every layer", ("model.config.coarse_discounts=[1, 1, 1]",)),
    ),
}


@dataclass(frozen=True)
class Comparison:
    """What all runs of a comparison share.

    Args:
        config: recipe file or name.
        overrides: `section.key=value` strings for all of its runs.
        output: folder of the runs.
        start_from: folder or Hub name of the pose model whose backbone all runs start from.
    """

    config: str
    overrides: tuple[str, ...]
    output: Path
    start_from: str = str(SHIPPED)

    @property
    def backbone(self) -> Path:
        """Folder of the shared backbone."""
        return self.output / "backbone"

    def recipe(self, name: str, seed: int, overrides: Sequence[str]) -> Recipe:
        """The recipe of one run."""
        own = (
            f"seed={seed}",
            f"model.backbone_from={self.backbone}",
            *overrides,
            f"output={self.output / name}-{seed}",
        )
        return load_recipe(self.config, [*self.overrides, *own])

    def prepare(self) -> None:
        """Put the shared backbone where the runs find it, unless it is there."""
        if not self.backbone.exists():
            JointDetrForPoseEstimation.from_pretrained(self.start_from).model.backbone.save_pretrained(self.backbone)


def run_variant(name: str, recipe: Recipe, model: PreTrainedModel | None = None) -> dict:
    """Train and evaluate, unless that has been done, and return what `result.json` in the run's folder holds.

    Args:
        name: of the variant.
        recipe: the run; its output folder is that of this run alone.
        model: to be trained instead of the one that the recipe describes.
    """
    folder = Path(recipe.output)
    if (folder / RESULT_FILE).exists():
        return json.loads((folder / RESULT_FILE).read_text())
    shutil.rmtree(folder, ignore_errors=True)  # what a run that was stopped has left
    started = time.monotonic()
    result = train(recipe, model=model)
    seconds = time.monotonic() - started
    for checkpoint in folder.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)
    metrics = {key.removeprefix("eval_"): value for key, value in result.metrics.items()}
    content = {"name": name, "seed": recipe.seed, "parameters": result.model.num_parameters()}
    return _write_result(folder, content | {"seconds": round(seconds, 1), "metrics": metrics})


def run_refined(variant: Variant, comparison: Comparison, seed: int) -> dict:
    """Evaluate another variant's trained model with the refinement network of the model that all start from.

    Raises:
        ValueError: That model has none.
    """
    recipe = comparison.recipe(variant.name, seed, ())
    folder = Path(recipe.output)
    if (folder / RESULT_FILE).exists():
        return json.loads((folder / RESULT_FILE).read_text())
    trained = comparison.output / f"{variant.refined}-{seed}" / "final"
    model = JointDetrForPoseEstimation.from_pretrained(trained)
    refiner = JointDetrForPoseEstimation.from_pretrained(comparison.start_from).refiner
    if refiner is None:
        raise ValueError(f"--start-from must name a model with a refinement network, got {comparison.start_from}")
    model.set_refiner(refiner)
    processor = JointDetrImageProcessorPil.from_pretrained(trained)
    settings = EvaluationSettings(threshold=recipe.evaluation.threshold, batch_size=recipe.evaluation.batch_size)
    found = evaluate_model(model, processor, load_source(recipe.evaluation.sources[0]), settings)
    folder.mkdir(parents=True, exist_ok=True)
    content = {"name": variant.name, "seed": seed, "parameters": model.num_parameters()}
    return _write_result(folder, content | {"seconds": 0.0, "metrics": found.flat()})


def results_table(title: str, variants: Sequence[Variant], results: dict[str, list[dict]]) -> ReportTable:
    """Lay a section out: mean and standard deviation over the seeds of each metric.

    Args:
        title: of the table.
        variants: its lines; those without results are left out.
        results: for each variant's name what `run_variant` gave for each seed.
    """
    rows = []
    for variant in variants:
        runs = results.get(variant.name, [])
        if runs:
            cells = [mean_and_spread([run["metrics"][metric] for run in runs]) for metric in METRICS]
            detected = number(100 * statistics.fmean(run["metrics"]["recall"] for run in runs))
            size = f"{runs[0]['parameters'] / 1e6:.1f} M"
            rows.append([variant.meaning, *cells, detected, size, str(len(runs))])
    return ReportTable(title, ["variant", *METRICS.values(), "detected %", "parameters", "seeds"], rows)


def mean_and_spread(values: Sequence[float]) -> str:
    """Mean and, of several values, sample standard deviation."""
    mean = number(statistics.fmean(values))
    return mean if len(values) == 1 else f"{mean} ± {number(statistics.stdev(values))}"


def read_results(output: Path, names: Sequence[str]) -> dict[str, list[dict]]:
    """Read what finished runs have left, by variant and in the order of their seeds."""
    results = {}
    for name in names:
        files = output.glob(f"{name}-[0-9]*/{RESULT_FILE}")
        runs = [json.loads(file.read_text()) for file in files if file.parent.name.rpartition("-")[0] == name]
        results[name] = sorted(runs, key=lambda run: run["seed"])
    return results


def write_results(output: Path, sections: dict[str, Sequence[Variant]]) -> list[ReportTable]:
    """Write `results.json`, `results.md` and `results.png` from the finished runs, and return the tables."""
    results = read_results(output, [variant.name for variants in sections.values() for variant in variants])
    tables = [results_table(title, variants, results) for title, variants in sections.items()]
    tables = [table for table in tables if table.rows]
    (output / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    (output / "results.md").write_text("\n\n".join(table.markdown() for table in tables) + "\n")
    draw_results(sections, results, output / "results.png")
    return tables


def draw_results(sections: dict[str, Sequence[Variant]], results: dict[str, list[dict]], path: Path) -> None:
    """Draw every run's error, and the mean of each variant, over all joints and over the occluded ones."""
    from matplotlib.figure import Figure

    variants = [variant for section in sections.values() for variant in section if results.get(variant.name)]
    figure = Figure(figsize=(9, 1.2 + 0.3 * len(variants)), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for axis, metric in zip(axes, ("mpjpe", "mpjpe_occluded"), strict=True):
        for row, variant in enumerate(variants):
            values = [run["metrics"][metric] for run in results[variant.name]]
            axis.plot(values, [row] * len(values), "o", color="tab:blue", alpha=0.5, markersize=4)
            axis.plot(statistics.fmean(values), row, "|", color="black", markersize=14)
        axis.set_xlabel(METRICS[metric].replace(" mm", ", mm"))
        axis.grid(axis="x", alpha=0.3)
    axes[0].set_yticks(range(len(variants)), [variant.meaning for variant in variants])
    axes[0].invert_yaxis()
    figure.savefig(path, dpi=110)


def _write_result(folder: Path, content: dict) -> dict:
    (folder / RESULT_FILE).write_text(json.dumps(content, indent=2) + "\n")
    return content


def compare(comparison: Comparison, seeds: int, only: Sequence[str] = ()) -> list[ReportTable]:
    """Run all variants, seed by seed, so that an early stop leaves whole rounds, and write the results.

    Raises:
        ValueError: A name in `only` is that of no variant.
    """
    known = {variant.name: variant for variants in SECTIONS.values() for variant in variants}
    unknown = sorted(set(only) - set(known))
    if unknown:
        raise ValueError(f"variants to compare must be among {list(known)}, got {unknown}")
    comparison.prepare()
    for seed in range(seeds):
        for variant in known.values():
            if only and variant.name not in only:
                continue
            if variant.refined:
                run_refined(variant, comparison, seed)
            else:
                run_variant(variant.name, comparison.recipe(variant.name, seed, variant.overrides))
            write_results(comparison.output, SECTIONS)
    return write_results(comparison.output, SECTIONS)


def read_comparison(description: str, arguments: Sequence[str] | None) -> tuple[Comparison, argparse.Namespace]:
    """Read the command line of a comparison: what its runs share, and among the options `seeds` and `only`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--config", default=str(RECIPE), help="YAML file, or the name of a recipe of the package")
    parser.add_argument("--output", type=Path, default=Path("runs/compare"), help="folder of all runs")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each line of the table")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="a line; may be repeated")
    parser.add_argument("--start-from", default=str(SHIPPED), metavar="MODEL", help="pose model with the backbone")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value")
    options = parser.parse_intermixed_args(arguments)
    return Comparison(options.config, tuple(options.overrides), options.output, options.start_from), options


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    comparison, options = read_comparison("Compare the steps of JointDETR at one budget.", arguments)
    for table in compare(comparison, options.seeds, options.only):
        print(table.markdown())


if __name__ == "__main__":
    main()
