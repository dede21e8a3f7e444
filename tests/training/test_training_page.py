"""The page on training: its commands run, and its tables of keys are those of the recipes' classes."""

import dataclasses
import re

import datasets
import pytest
from documents import REPOSITORY, run_document

from jointdetr.training.augmentation import Augmentation
from jointdetr.training.recipe import (
    DataSource,
    EvaluationRecipe,
    InputRecipe,
    ModelRecipe,
    OptimizerRecipe,
    Recipe,
    ScheduleRecipe,
    SynthesisRecipe,
    TrainData,
)

PAGE = REPOSITORY / "docs" / "training.md"
SECTIONS = {
    "The run": Recipe,
    "`model`": ModelRecipe,
    "`input`": InputRecipe,
    "`train`": TrainData,
    "`train.synthesis`": SynthesisRecipe,
    "`train.sources` and `evaluation.sources`": DataSource,
    "`augmentation`": Augmentation,
    "`optimizer`": OptimizerRecipe,
    "`schedule`": ScheduleRecipe,
    "`evaluation`": EvaluationRecipe,
}


def test_the_page_runs(shipped_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0.05)
    run_document(PAGE, tmp_path, monkeypatch)
    for run in ("tiny", "endless", "finer"):
        assert (tmp_path / "runs" / run / "final" / "model.safetensors").is_file(), run


def test_it_names_every_recipe_of_the_package():
    text = PAGE.read_text(encoding="utf-8")
    names = [path.stem for path in (REPOSITORY / "jointdetr" / "training" / "recipes").glob("*.yaml")]
    assert "synthetic-tiny" in names and [name for name in names if f"`{name}`" not in text] == []


@pytest.mark.parametrize("title", SECTIONS)
def test_its_table_has_every_key_with_its_default(title):
    section = PAGE.read_text(encoding="utf-8").split(f"### {title}\n")[1].split("\n### ")[0]
    table = {}
    for line in section.splitlines()[3:]:
        if line.startswith("| `"):
            names, default, meaning = re.fullmatch(r"\| (.*?) \| (.*?) \| (.*) \|", line).groups()
            assert len(meaning) > 10, line
            table |= {name.strip("`"): default for name in names.split(", ")}
    assert table == {field.name: default_of(field) for field in dataclasses.fields(SECTIONS[title])}


def default_of(field: dataclasses.Field) -> str:
    """How a recipe would write the default."""
    made = field.default_factory is not dataclasses.MISSING
    value = field.default_factory() if made else field.default
    if value is dataclasses.MISSING:
        return "required"
    if dataclasses.is_dataclass(value):  # a section
        return "see below"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return "`null`" if value is None else f"`{value}`"
