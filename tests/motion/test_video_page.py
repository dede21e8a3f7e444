"""`docs/video.md` runs."""

from documents import REPOSITORY, run_document

from jointdetr.formats.film import FrameReader
from jointdetr.motion import load_motions


def test_page_runs(shipped_checkpoint, tmp_path, monkeypatch):
    run_document(REPOSITORY / "docs" / "video.md", tmp_path, monkeypatch)
    out = tmp_path / "out"

    for suffix in ("bvh", "csv"):
        assert (out / f"walking.poses.{suffix}").stat().st_size > 0
    assert len(list(FrameReader(out / "walking.poses.mp4"))) == 45
    (motion,) = load_motions(out / "walking.poses.parquet")
    assert motion.detected.mean() > 0.9
    inside = (motion.joints_2d >= 0).all(-1) & (motion.joints_2d <= 256).all(-1)
    assert inside.mean() > 0.95
