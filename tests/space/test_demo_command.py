"""`jointdetr demo` says in one line what is wrong, before anything is served."""

import sys

import pytest
from typer.testing import CliRunner

from jointdetr.cli import app


def complaint_of(*arguments: str) -> str:
    """What the command writes when it refuses to start."""
    result = CliRunner().invoke(app, ["demo", *arguments])
    assert result.exit_code == 2, (result.output, result.exception)
    assert "Traceback" not in result.output
    [line] = [line for line in result.stderr.splitlines() if line.startswith("jointdetr: demo: ")]
    return line


def test_a_checkpoint_that_is_not_there(tmp_path):
    pytest.importorskip("gradio")
    assert "nowhere" in complaint_of("--model", str(tmp_path / "nowhere"))


def test_a_setting_that_is_no_number(monkeypatch):
    pytest.importorskip("gradio")
    monkeypatch.setenv("JOINTDETR_MAX_PEOPLE", "many")
    assert "JOINTDETR_MAX_PEOPLE must be a number, got 'many'" in complaint_of()


def test_a_package_that_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, "jointdetr.demo.app", raising=False)
    assert 'pip install "jointdetr[space]"' in complaint_of()
