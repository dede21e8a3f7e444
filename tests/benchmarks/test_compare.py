"""The bookkeeping of the comparison on fabricated results, and a few of its variants in runs of two steps."""

import json

import pytest
import yaml

from benchmarks.accuracy.compare import (
    METRICS,
    SECTIONS,
    Comparison,
    Variant,
    compare,
    main,
    mean_and_spread,
    read_results,
    results_table,
    write_results,
)
from jointdetr import JointDetrForPoseEstimation
from jointdetr.training.model import build_model, resolve_skeleton
from jointdetr.training.recipe import Recipe, build
from jointdetr.training.train import train


@pytest.fixture
def comparison(recipe_values, tmp_path) -> Comparison:
    recipe_values["schedule"] = {"max_steps": 2, "warmup_steps": 1}
    recipe_values["model"]["config"]["decoder_layers"] = 3
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe_values))
    config = recipe_values["model"]["config"] | {"refiner_config": {"hidden_size": 8, "num_blocks": 1}}
    start = {**recipe_values, "model": {"config": config}, "evaluation": {}, "output": str(tmp_path / "start")}
    started = train(build(Recipe, start)).folder
    return Comparison(str(path), (), tmp_path / "runs", str(started))


def fabricated(name: str, seed: int, error: float) -> dict:
    return {
        "name": name,
        "seed": seed,
        "parameters": 1_200_000,
        "metrics": {**dict.fromkeys(METRICS, error), "recall": 0.5},
    }


def test_every_variant_is_a_model_of_its_own(comparison):
    comparison.prepare()
    configs = {}
    for variant in (variant for variants in SECTIONS.values() for variant in variants if not variant.refined):
        recipe = comparison.recipe(variant.name, 0, ("model.config.class_spread=1.0", *variant.overrides))
        model = build_model(recipe, resolve_skeleton(recipe))
        settings = json.dumps([model.config.to_dict(), recipe.model.backbone_from], sort_keys=True)
        assert settings not in configs, (variant.name, configs[settings])
        configs[settings] = variant.name


def test_runs_start_from_one_backbone_are_not_repeated_and_end_in_tables(comparison, tmp_path, capsys):
    names = ["baseline", "jointdetr", "refined"]
    arguments = ["--config", comparison.config, "--output", str(comparison.output), "--seeds", "2"]
    arguments += [argument for name in names for argument in ("--only", name)]
    main([*arguments, "--start-from", comparison.start_from])
    printed = capsys.readouterr().out
    assert "| (a) force-aligned baseline, last level alone |" in printed
    assert "no decoder connection" not in printed
    results = json.loads((comparison.output / "results.json").read_text())
    assert {name: [run["seed"] for run in runs] for name, runs in results.items() if runs} == {
        name: [0, 1] for name in names
    }
    assert results["jointdetr"][0]["metrics"]["mpjpe"] != results["jointdetr"][1]["metrics"]["mpjpe"]
    assert (comparison.output / "results.png").stat().st_size > 5000
    assert not list(comparison.output.glob("*/checkpoint-*"))
    model = JointDetrForPoseEstimation.from_pretrained(comparison.output / "baseline-0" / "final")
    assert (model.config.query_alignment, model.config.num_feature_levels) == ("fixed", 1)

    kept = [path.stat().st_mtime_ns for path in comparison.output.glob("*/final/model.safetensors")]
    (comparison.output / "jointdetr-1" / "result.json").unlink()  # as if it had been stopped
    main(arguments)
    again = [path.stat().st_mtime_ns for path in comparison.output.glob("*/final/model.safetensors")]
    assert sum(old != new for old, new in zip(kept, again, strict=True)) == 1
    repeated = json.loads((comparison.output / "results.json").read_text())
    first, second = (found["jointdetr"][1]["metrics"] for found in (results, repeated))
    assert second["joint/head/mpjpe"] == first["joint/head/mpjpe"]  # to the last digit


def test_an_unknown_variant_is_refused_before_anything_runs(comparison):
    with pytest.raises(ValueError, match="'jointdetr'.*got \\['jointdeter'\\]"):
        compare(comparison, 1, ["jointdeter"])
    assert not comparison.output.exists()


def test_mean_and_spread_by_hand():
    assert mean_and_spread([100.0, 110.0, 120.0]) == "110.0 ± 10.0"
    assert mean_and_spread([100.04]) == "100.0"


def test_a_table_shows_finished_variants_alone():
    variants = [Variant("one", "first"), Variant("two", "second")]
    table = results_table("Title", variants, {"one": [fabricated("one", 0, 100.0), fabricated("one", 1, 102.0)]})
    assert table.rows == [["first", *["101.0 ± 1.4"] * 4, "50.0", "1.2 M", "2"]]


def test_variants_whose_names_begin_alike_are_told_apart(tmp_path):
    for name, seed in (("queries-1", 0), ("queries-17", 0), ("queries", 17)):
        (tmp_path / f"{name}-{seed}").mkdir()
        (tmp_path / f"{name}-{seed}" / "result.json").write_text(json.dumps(fabricated(name, seed, 1.0)))
    (tmp_path / "queries-5").mkdir()  # not finished
    found = read_results(tmp_path, ["queries", "queries-17"])
    assert {name: [run["seed"] for run in runs] for name, runs in found.items()} == {
        "queries": [17],
        "queries-17": [0],
    }
    tables = write_results(tmp_path, {"Queries": [Variant("queries-17", "seventeen")]})
    assert [table.title for table in tables] == ["Queries"]
    assert "| seventeen | 1.0 |" in (tmp_path / "results.md").read_text()
