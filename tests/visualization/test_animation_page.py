"""The page about looking and animating: everything it shows runs."""

from pathlib import Path

from documents import REPOSITORY, run_document


def test_the_page_runs(shipped_checkpoint: Path, tmp_path: Path, monkeypatch):
    run_document(REPOSITORY / "docs" / "animation.md", tmp_path, monkeypatch)
    assert (tmp_path / "person.html").stat().st_size > 500_000
    written = sorted(path.name for path in (tmp_path / "out").glob("person.*"))
    assert {"person.pose.bvh", "person.pose.glb"} < set(written)
    assert {f"person.{suffix}" for suffix in ("bvh", "glb", "csv", "npz", "parquet")} < set(written)
