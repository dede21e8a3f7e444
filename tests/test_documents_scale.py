"""The pages on protocols and on large data keep their promises."""

import datasets
from documents import REPOSITORY, run_document


def test_protocols_page_runs(shipped_checkpoint, tmp_path, monkeypatch):
    run_document(REPOSITORY / "docs" / "protocols.md", tmp_path, monkeypatch)
    assert "NO, not comparable" not in (tmp_path / "p1.md").read_text()
    assert (tmp_path / "reliability.png").is_file() and "PA-MPJPE" in (tmp_path / "p2.md").read_text()


def test_scale_page_runs(shipped_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0.05)
    run_document(REPOSITORY / "docs" / "scale.md", tmp_path, monkeypatch)
    assert (tmp_path / "runs" / "streamed" / "final" / "model.safetensors").is_file()
    assert (tmp_path / "out" / "people" / "prediction.json").is_file()
