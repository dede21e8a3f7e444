"""The README keeps its promises: its code runs, its commands work, its printed output is what is printed."""

import re

import pytest
from documents import REPOSITORY, run_document

README = REPOSITORY / "README.md"
TEXT = README.read_text(encoding="utf-8")


def test_code_and_commands_run_in_order(shipped_checkpoint, tmp_path, monkeypatch):
    run_document(README, tmp_path, monkeypatch)
    for promised in ("pose.png", "out/person.pose.json", "runs/mine/final/model.safetensors", "out/evaluation.json"):
        assert (tmp_path / promised).is_file(), promised


@pytest.mark.usefixtures("shipped_checkpoint")
def test_newcomers_see_a_result_install_and_first_output_early():
    lines = TEXT.splitlines()
    assert any(line.startswith("![") for line in lines[:20])
    assert any("pip install" in line for line in lines[:20])
    assert "```text" in lines[:35]


@pytest.mark.parametrize("page", [README, *sorted((REPOSITORY / "docs").glob("*.md"))], ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert "://" in target or (page.parent / target).exists(), target
