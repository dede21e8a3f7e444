"""Films as motions in memory."""

from types import SimpleNamespace

import numpy as np
import pytest
from films import write_film
from squares import SQUARE, SquareEstimator, walk

from jointdetr.motion.smoothing import SmoothingSettings
from jointdetr.video.estimation import FilmLimits, estimate_video
from jointdetr.video.prediction import VideoSettings


@pytest.fixture
def estimator() -> SquareEstimator:
    """The stand-in, which knows its skeleton as a pipeline does."""
    square = SquareEstimator()
    square.model = SimpleNamespace(config=SimpleNamespace(skeleton=SQUARE))
    return square


@pytest.fixture
def squares_film(tmp_path):
    return write_film(tmp_path / "squares.mp4", [frame.image for frame in walk(20)])


def test_motion_of_a_whole_film_and_progress(estimator, squares_film):
    calls = []
    (motion,) = estimate_video(squares_film, estimator, progress=lambda done, total: calls.append((done, total)))

    assert len(motion) == 20
    assert motion.person == 0
    np.testing.assert_allclose(motion.joints_2d[:, 0, 0], 10 + 2 * np.arange(20), atol=2)
    assert calls == [(done, 20) for done in range(1, 21)]


@pytest.mark.parametrize(
    ("limits", "step", "frames"),
    [
        (FilmLimits(max_frames=5), 1, [0, 1, 2, 3, 4]),
        (FilmLimits(max_frames=3), 4, [0, 4, 8]),
        (FilmLimits(max_seconds=0.2), 1, [0, 1, 2, 3, 4]),
        (FilmLimits(max_frames=50, max_seconds=50), 4, [0, 4, 8, 12, 16]),
    ],
)
def test_limits(estimator, squares_film, limits, step, frames):
    calls = []
    settings = VideoSettings(step=step, smoothing=SmoothingSettings(method="none"))
    (motion,) = estimate_video(squares_film, estimator, settings, limits, lambda *numbers: calls.append(numbers))

    assert motion.frames.tolist() == frames
    assert calls[-1] == (len(frames), len(frames))


def test_bad_limits_and_films_are_refused(estimator, tmp_path):
    with pytest.raises(ValueError, match="`max_frames` must be positive, got 0"):
        FilmLimits(max_frames=0)
    (tmp_path / "text.mp4").write_text("no film")
    with pytest.raises(ValueError, match="text.mp4: expected a film"):
        estimate_video(tmp_path / "text.mp4", estimator)
