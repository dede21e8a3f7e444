"""Skeletons drawn over films."""

import numpy as np
import pytest
from films import corner_pictures, write_film

from jointdetr.formats.film import FrameReader
from jointdetr.skeleton_jointdetr import HUMAN36M
from jointdetr.visualization.figures import write_overlay


def row(frame: int, left_px: float) -> dict:
    """A person whose left side is a blue column at `left_px`."""
    points = np.full((17, 2), np.nan)
    points[11:14] = [[left_px, 4], [left_px, 24], [left_px, 44]]
    return {"frame": frame, "joints_2d": points, "detected": np.ones(17, bool)}


def test_people_are_drawn_into_their_own_frames(tmp_path):
    film = write_film(tmp_path / "film.mp4", corner_pictures(6))
    rows = [row(1, 40.0), row(3, 20.0), row(3, 60.0)]
    write_overlay(FrameReader(film), rows, HUMAN36M, tmp_path / "drawn.mp4")
    read = list(FrameReader(tmp_path / "drawn.mp4"))

    assert [frame.time_s for frame in read] == pytest.approx([frame.time_s for frame in FrameReader(film)], abs=1e-4)
    blue = [np.asarray(frame.image)[8:40, :, 2] > 120 for frame in read]
    columns = [np.flatnonzero(each.mean(0) > 0.5).tolist() for each in blue]
    assert [bool(each) for each in columns] == [False, True, False, True, False, False]
    assert np.mean(columns[1]) == pytest.approx(39.5, abs=1.5)
    assert min(columns[3]) < 22
    assert max(columns[3]) > 57
