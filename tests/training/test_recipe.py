"""Recipes: typed keys, overrides, and the files that come with the package."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from datasets import Dataset
from documents import REPOSITORY
from transformers import set_seed

from jointdetr.data.schema import pose_features
from jointdetr.training.model import build_model, resolve_skeleton
from jointdetr.training.recipe import (
    RECIPES,
    DataSource,
    Recipe,
    RefinerRecipe,
    build,
    load_recipe,
    save_recipe,
)
from jointdetr.training.train import train

ELSEWHERE = (REPOSITORY / "examples" / "recipes", REPOSITORY / "benchmarks" / "accuracy")
POSE_RECIPES, REFINER_RECIPES = [], []
for file in sorted(path for folder in (RECIPES, *ELSEWHERE) for path in folder.glob("*.yaml")):
    (POSE_RECIPES if {"model", "extends"} & yaml.safe_load(file.read_text()).keys() else REFINER_RECIPES).append(file)


def test_an_empty_recipe_is_the_defaults():
    assert build(Recipe, {}) == Recipe()


def test_values_are_converted_where_nothing_is_lost(tmp_path):
    (tmp_path / "r.yaml").write_text("optimizer: {learning_rate: 1e-4, clip_norm: 1}\ntrain: {sources: [{path: a}]}\n")
    recipe = load_recipe(tmp_path / "r.yaml", ["schedule.max_minutes=2.5", "model.config.d_model=64"])
    assert recipe.optimizer.learning_rate == 1e-4
    assert recipe.optimizer.clip_norm == 1.0 and isinstance(recipe.optimizer.clip_norm, float)
    assert recipe.train.sources == [DataSource("a")]
    assert recipe.schedule.max_minutes == 2.5
    assert recipe.model.config == {"d_model": 64}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"learning_rate": 1}, "unknown key `learning_rate`"),
        ({"optimizer": {"lr": 1}}, "unknown key `optimizer.lr`; expected one of .*learning_rate"),
        ({"batch_size": "many"}, "`batch_size` must be of type int, got 'many'"),
        ({"batch_size": 2.0}, "`batch_size` must be of type int, got 2.0"),
        ({"seed": True}, "`seed` must be of type int, got True"),
        ({"channels_last": 1}, "`channels_last` must be of type bool, got 1"),
        ({"optimizer": {"clip_norm": "tight"}}, "`optimizer.clip_norm` must be of type float, got 'tight'"),
        ({"precision": "fp16"}, r"`precision` must be one of \['fp32', 'bf16'\], got 'fp16'"),
        ({"train": {"sources": "people"}}, "`train.sources` must be of type list, got 'people'"),
        ({"train": {"sources": [{"split": "train"}]}}, r"`train.sources\[0\].path` is required"),
        ({"train": {"sources": [{"path": 3}]}}, r"`train.sources\[0\].path` must be of type str, got 3"),
        ({"train": []}, r"`train` must be a mapping, got \[\]"),
        ({"schedule": {"shape": "linear"}}, r"`schedule.shape` must be one of \['cosine', 'step'\], got 'linear'"),
        ({"train": {"synthesis": {"preset": "horses"}}}, "`train.synthesis.preset` must be one of .* got 'horses'"),
        ({"schedule": {"max_steps": "all"}}, "`schedule.max_steps` must be of type int, got 'all'"),
        ({"augmentation": {"flip": 2}}, r"`augmentation.flip` must be a probability in \[0, 1\], got 2.0"),
    ],
)
def test_refuses_by_name(values, message):
    with pytest.raises(ValueError, match=message):
        build(Recipe, values)


def test_refuses_files_and_overrides_that_are_none(tmp_path):
    with pytest.raises(ValueError, match=r"must be a YAML file or one of \['photographs', .*'synthetic-tiny'\]"):
        load_recipe("no-such-recipe")
    (tmp_path / "r.yaml").write_text("[1, 2]")
    with pytest.raises(ValueError, match="must hold a mapping"):
        load_recipe(tmp_path / "r.yaml")
    (tmp_path / "r.yaml").write_text("{}")
    with pytest.raises(ValueError, match="must look like section.key=value, got 'seed'"):
        load_recipe(tmp_path / "r.yaml", ["seed"])
    with pytest.raises(ValueError, match="unknown key `sched`"):
        load_recipe(tmp_path / "r.yaml", ["sched.epochs=2"])


def test_a_recipe_extends_another(tmp_path):
    (tmp_path / "mine.yaml").write_text("extends: synthetic-tiny\ntrain: {workers: 3, sources: []}\nseed: 4\n")
    (tmp_path / "yours.yaml").write_text("extends: mine.yaml\nseed: 5\n")
    tiny, mine = load_recipe("synthetic-tiny"), load_recipe(tmp_path / "mine.yaml")
    assert mine == replace(tiny, seed=4, train=replace(tiny.train, workers=3, sources=[]))
    assert load_recipe(tmp_path / "yours.yaml", ["train.workers=1"]) == replace(
        mine, seed=5, train=replace(mine.train, workers=1)
    )
    (tmp_path / "lost.yaml").write_text("extends: nowhere.yaml\n")
    with pytest.raises(ValueError, match="must be a YAML file or one of .*, got nowhere.yaml"):
        load_recipe(tmp_path / "lost.yaml")


def test_a_saved_recipe_is_read_back(tmp_path):
    recipe = load_recipe("synthetic-tiny", ["train.sources=[{path: a, repeat: 2}]"])
    save_recipe(recipe, tmp_path / "recipe.yaml")
    assert load_recipe(tmp_path / "recipe.yaml") == recipe


@pytest.mark.parametrize("path", POSE_RECIPES, ids=lambda path: path.stem)
def test_recipes_of_the_package_build_their_models(path):
    recipe = load_recipe(path, ["model.backbone_from=null"])
    model = build_model(recipe, resolve_skeleton(recipe))
    assert model.config.num_joints == 17
    assert model.config.query_alignment == "set"


@pytest.mark.parametrize("path", REFINER_RECIPES, ids=lambda path: path.stem)
def test_the_refiners_recipes_load(path):
    recipe = load_recipe(path, kind=RefinerRecipe)
    assert recipe.synthetic > 0 or recipe.sources


@pytest.mark.parametrize("path", POSE_RECIPES, ids=lambda path: path.stem)
def test_recipes_of_the_package_take_two_steps_in_small(path, pose_folder, key_points_folder, tmp_path):
    """All that a recipe says holds, but for the sizes, and for its data, which are those of the tests."""
    recipe = in_small(load_recipe(path), pose_folder, key_points_folder, tmp_path)
    set_seed(recipe.seed)
    before = build_model(recipe, resolve_skeleton(recipe))
    after = train(recipe).model
    assert json.loads((tmp_path / "log.json").read_text())[-1]["step"] == 2
    pairs = zip(before.named_parameters(), after.parameters(), strict=True)
    moved = {name.split(".")[1] for (name, old), new in pairs if not torch.equal(old, new)}
    assert {"backbone", "input_proj", "encoder", "decoder"} <= moved


def in_small(recipe: Recipe, poses: Path, key_points: Path, output: Path) -> Recipe:
    """The recipe with a small network, on other data, for two steps."""
    sizes = {
        **dict.fromkeys(("d_model", "encoder_ffn_dim", "decoder_ffn_dim"), 16),
        **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads", "decoder_layers"), 2),
        **dict.fromkeys(("encoder_n_points", "decoder_n_points"), 2),
        "encoder_layers": 1,
        "num_queries": 17 if recipe.model.config.get("query_alignment") == "fixed" else 20,
    }
    backbone = {"model_type": "resnet", "layer_type": "basic", "embedding_size": 8}
    backbone |= {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}
    own = recipe.model.config.get("backbone_config", {"out_features": ["stage2", "stage3", "stage4"]})
    if own.get("model_type") == "blazepose":
        backbone = own | {"embedding_size": 8, "hidden_sizes": [8] * 6, "pyramid_size": 8, "head_size": 8}
    sizes["backbone_config"] = backbone | {"out_features": own["out_features"]}
    data = recipe.train
    sources = [replace(source, path=str(key_points if source.map_skeleton else poses)) for source in data.sources]
    synthesis = data.synthesis and replace(data.synthesis, size=32, at_once=2)
    return replace(
        recipe,
        output=str(output),
        model=replace(recipe.model, backbone_from=None, config=recipe.model.config | sizes),
        input=replace(recipe.input, height=64, width=64),
        train=replace(data, sources=sources, synthesis=synthesis, workers=0, shuffle_buffer=0),
        evaluation=replace(recipe.evaluation, sources=[DataSource(str(poses), limit=2)]),
        schedule=replace(recipe.schedule, max_steps=2),
        **{"batch_size": 2, "device": "cpu", "average_decay": 0.0, "report_to": "none", "watch_steps": 0},
    )


@pytest.fixture(scope="module")
def key_points_folder(pose_rows, tmp_path_factory):
    """Rows of COCO's key points: 2D alone."""
    rows = [
        row | {"skeleton": "coco", "joints_3d": [[math.nan] * 3] * 17, "joints_3d_valid": [False] * 17}
        for row in pose_rows
    ]
    folder = tmp_path_factory.mktemp("key-points")
    Dataset.from_list(rows, features=pose_features()).save_to_disk(folder)
    return folder


def test_a_skeleton_can_be_described():
    values = {"name": "stick", "joints": ["a", "b"], "parents": [-1, 0], "flip_pairs": [], "root": 0}
    assert resolve_skeleton(build(Recipe, {"skeleton": values})).joints == ("a", "b")
    with pytest.raises(ValueError, match="`skeleton` of the recipe must describe one: expected the keys"):
        resolve_skeleton(build(Recipe, {"skeleton": {"name": "stick"}}))
    with pytest.raises(ValueError, match="`skeleton` must be one of .*got 'horse'"):
        resolve_skeleton(build(Recipe, {"skeleton": "horse"}))
