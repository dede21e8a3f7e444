"""`docs/biomechanics.md` runs, and says what every angle is."""

import csv

import numpy as np
from documents import REPOSITORY, run_document

from jointdetr.motion.angles import MIDDLE_ANGLES, SIDE_ANGLES

PAGE = REPOSITORY / "docs" / "biomechanics.md"


def test_page_runs(shipped_checkpoint, tmp_path, monkeypatch):
    run_document(PAGE, tmp_path, monkeypatch)
    out = tmp_path / "out"
    with open(out / "walking.poses.angles.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 45
    knees = np.array([[float(row[f"{side}_knee_flexion_deg"]) for side in ("left", "right")] for row in rows])
    assert (np.ptp(knees, axis=0) > 20).all()
    for name in ("walking.poses.trc", "walking.poses.c3d", "walking.angles.png"):
        assert (out / name).stat().st_size > 0


def test_page_names_every_angle():
    page = PAGE.read_text(encoding="utf-8")
    assert [name for name in [*SIDE_ANGLES, *MIDDLE_ANGLES] if f"`{name}`" not in page] == []
