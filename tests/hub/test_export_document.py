"""The page on export runs as it stands, on the shipped model."""

from pathlib import Path

import pytest
from documents import run_document

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


def test_the_page_runs(shipped_checkpoint, tmp_path, monkeypatch):
    run_document(Path(__file__).parents[2] / "docs" / "export.md", tmp_path, monkeypatch)
    assert (tmp_path / "exported" / "model.onnx").is_file()
