"""Films written, and skeletons drawn over them."""

import numpy as np
import pytest
from films import corner_pictures, write_film

from jointdetr.formats.film import FrameReader
from jointdetr.skeleton_jointdetr import HUMAN36M
from jointdetr.video.drawing import FilmWriter, write_overlay


def row(frame: int, left_px: float) -> dict:
    """A person whose left side is a blue column at `left_px`."""
    points = np.full((17, 2), np.nan)
    points[11:14] = [[left_px, 4], [left_px, 24], [left_px, 44]]
    return {"frame": frame, "joints_2d": points, "detected": np.ones(17, bool)}


def test_film_has_the_times_it_was_given(tmp_path):
    times_s = [0.0, 0.04, 0.2, 0.25, 1.0]
    with FilmWriter(tmp_path / "film.mp4") as film:
        for picture, time_s in zip(corner_pictures(5, (65, 49)), times_s, strict=True):
            film.write(picture, time_s)
    frames = list(FrameReader(tmp_path / "film.mp4"))

    np.testing.assert_allclose([frame.time_s for frame in frames], times_s, atol=1e-4)
    assert frames[0].image.size == (64, 48)


def test_people_are_drawn_into_their_own_frames(tmp_path):
    film = write_film(tmp_path / "film.mp4", corner_pictures(6))
    rows = [row(1, 40.0), row(3, 20.0), row(3, 60.0)]
    drawn = list(write_overlay(FrameReader(film), rows, HUMAN36M, tmp_path / "drawn.mp4"))
    read = list(FrameReader(tmp_path / "drawn.mp4"))

    assert [frame.time_s for frame in drawn] == pytest.approx([frame.time_s for frame in read], abs=1e-4)
    blue = [np.asarray(frame.image)[8:40, :, 2] > 120 for frame in read]
    columns = [np.flatnonzero(each.mean(0) > 0.5).tolist() for each in blue]
    assert [bool(each) for each in columns] == [False, True, False, True, False, False]
    assert np.mean(columns[1]) == pytest.approx(39.5, abs=1.5)
    assert min(columns[3]) < 22
    assert max(columns[3]) > 57


def test_a_film_without_pictures_is_no_file(tmp_path):
    with FilmWriter(tmp_path / "empty.mp4"):
        pass

    assert not (tmp_path / "empty.mp4").exists()
