"""The page on training: its commands run, and its tables of keys are those of the recipes' classes."""

import dataclasses
import inspect
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
    text = PAGE.read_text(encoding="utf-8")
    assert f"### {title}\n\n{key_table(SECTIONS[title])}\n" in text, f"\n{key_table(SECTIONS[title])}"


def key_table(kind: type) -> str:
    """The table of a class's keys, from its docstring and its defaults."""
    fields = {field.name: field for field in dataclasses.fields(kind)}
    lines = ["| key | default | meaning |", "| --- | --- | --- |"]
    for names, meaning in documented(kind):
        keys = ", ".join(f"`{name}`" for name in names)
        defaults = ", ".join(dict.fromkeys(default_of(fields[name]) for name in names))
        lines.append(f"| {keys} | {defaults} | {meaning} |")
    assert [name for names, _ in documented(kind) for name in names] == list(fields), kind.__name__
    return "\n".join(lines)


def documented(kind: type) -> list[tuple[list[str], str]]:
    """Names and meaning of each entry of the docstring's `Args`; an entry may be for several names."""
    arguments = inspect.getdoc(kind).split("Args:\n")[1].split("\n\n")[0]
    entries = re.split(r"\n? {4}(?=[a-z_0-9, ]+: )", re.sub(r"\n {8}", " ", "\n" + arguments))[1:]
    pairs = [entry.strip().split(": ", 1) for entry in entries]
    return [(names.split(", "), meaning) for names, meaning in pairs]


def default_of(field: dataclasses.Field) -> str:
    """How a recipe would write the default."""
    made = field.default_factory is not dataclasses.MISSING
    value = field.default_factory() if made else field.default
    if value is dataclasses.MISSING:
        return "required"
    if dataclasses.is_dataclass(value):
        return "see below"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return "`null`" if value is None else f"`{value}`"
