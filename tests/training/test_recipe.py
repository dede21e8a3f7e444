"""Recipes: typed keys, overrides, and the files that come with the package."""

from pathlib import Path

import pytest
import yaml

import jointdetr.training
from jointdetr.training.recipe import DataSource, Recipe, build, load_recipe, save_recipe
from jointdetr.training.train import build_model, resolve_skeleton
from jointdetr.training.train_refiner import RefinerRecipe

RECIPES = Path(jointdetr.training.__file__).parent / "recipes"


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
        ({"optimizer": {"clip_norm": "tight"}}, "`optimizer.clip_norm` must be a number, got 'tight'"),
        ({"precision": "fp16"}, r"`precision` must be one of \['fp32', 'bf16'\], got 'fp16'"),
        ({"train": {"sources": "people"}}, "`train.sources` must be a list, got 'people'"),
        ({"train": {"sources": [{"split": "train"}]}}, r"`train.sources\[0\].path` is required"),
        ({"train": {"sources": [{"path": 3}]}}, r"`train.sources\[0\].path` must be of type str, got 3"),
        ({"train": []}, r"`train` must be a mapping, got \[\]"),
        ({"schedule": {"max_steps": "all"}}, "`schedule.max_steps` must be of type int, got 'all'"),
        ({"augmentation": {"flip": 2}}, r"`augmentation.flip` must be a probability in \[0, 1\], got 2.0"),
    ],
)
def test_refuses_by_name(values, message):
    with pytest.raises(ValueError, match=message):
        build(Recipe, values)


def test_refuses_files_and_overrides_that_are_none(tmp_path):
    with pytest.raises(ValueError, match=r"must be a YAML file or one of \['baseline', .*'synthetic-tiny'\]"):
        load_recipe("no-such-recipe")
    (tmp_path / "r.yaml").write_text("[1, 2]")
    with pytest.raises(ValueError, match="must hold a mapping"):
        load_recipe(tmp_path / "r.yaml")
    (tmp_path / "r.yaml").write_text("{}")
    with pytest.raises(ValueError, match="must look like section.key=value, got 'seed'"):
        load_recipe(tmp_path / "r.yaml", ["seed"])
    with pytest.raises(ValueError, match="unknown key `sched`"):
        load_recipe(tmp_path / "r.yaml", ["sched.epochs=2"])


def test_a_saved_recipe_is_read_back(tmp_path):
    recipe = load_recipe("synthetic-tiny", ["train.sources=[{path: a, repeat: 2}]"])
    save_recipe(recipe, tmp_path / "recipe.yaml")
    assert load_recipe(tmp_path / "recipe.yaml") == recipe


def test_every_key_is_documented():
    for kind in (Recipe, RefinerRecipe):
        for name, field in kind.__dataclass_fields__.items():
            assert f"{name}:" in kind.__doc__ or f"{name}," in kind.__doc__, f"{kind.__name__}.{name}"
            section = type(field.default)
            for key in getattr(section, "__dataclass_fields__", {}):
                assert f"{key}:" in section.__doc__ or f"{key}," in section.__doc__, f"{name}.{key}"


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_recipes_of_the_package_build_their_models(path):
    values = yaml.safe_load(path.read_text())
    if "synthetic" in values:
        assert load_recipe(path, kind=RefinerRecipe).synthetic > 0
        return
    recipe = load_recipe(path)
    model = build_model(recipe, resolve_skeleton(recipe))
    assert model.config.num_joints == 17
    assert (model.config.query_alignment == "fixed") == (path.stem == "baseline")


def test_a_skeleton_can_be_described():
    values = {"name": "stick", "joints": ["a", "b"], "parents": [-1, 0], "flip_pairs": [], "root": 0}
    assert resolve_skeleton(build(Recipe, {"skeleton": values})).joints == ("a", "b")
    with pytest.raises(ValueError, match="`skeleton` of the recipe must describe one: expected the keys"):
        resolve_skeleton(build(Recipe, {"skeleton": {"name": "stick"}}))
    with pytest.raises(ValueError, match="`skeleton` must be one of .*got 'horse'"):
        resolve_skeleton(build(Recipe, {"skeleton": "horse"}))
