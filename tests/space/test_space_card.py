"""The Space's own files: what the Hub reads of them."""

import re
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import SpaceCard

SPACE = Path(__file__).parents[2] / "space"


def test_card_is_what_the_hub_expects():
    card = SpaceCard.load(SPACE / "README.md")
    assert card.data.sdk == "gradio"
    assert card.data.license == "apache-2.0"
    assert (SPACE / card.data.app_file).is_file()
    assert len(card.data.short_description) <= 60, "the Hub cuts longer ones"
    assert {"mcp-server", "keypoint-detection"} <= set(card.data.tags)


def test_card_names_the_tested_gradio():
    constraints = (SPACE.parent / "constraints.txt").read_text()
    assert SpaceCard.load(SPACE / "README.md").data.sdk_version == re.search(r"^gradio==(.+)$", constraints, re.M)[1]


def test_requirements_are_among_those_of_the_package():
    """Same lower bounds as in pyproject.toml, so that the Space runs what is tested."""
    declared = (SPACE.parent / "pyproject.toml").read_text()
    for requirement in (SPACE / "requirements.txt").read_text().split():
        assert f'"{requirement}"' in declared, requirement


def test_app_marks_a_function_where_gpus_are_lent(monkeypatch):
    pytest.importorskip("gradio")
    marked = []
    monkeypatch.setitem(sys.modules, "spaces", SimpleNamespace(GPU=lambda function: marked.append(function)))
    monkeypatch.delenv("SPACES_ZERO_GPU", raising=False)
    runpy.run_path(str(SPACE / "app.py"), run_name="imported")
    assert marked == []
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    runpy.run_path(str(SPACE / "app.py"), run_name="imported")
    assert len(marked) == 1
