"""Films through an estimator that finds a bright square, in place of the network."""

from types import SimpleNamespace

import numpy as np
import pytest
from films import FilmSettings, write_film
from PIL import Image
from squares import SQUARE, SquareEstimator, picture_of, walk

from jointdetr.camera_jointdetr import Camera
from jointdetr.formats.film import Frame
from jointdetr.motion.prediction import FilmLimits, VideoPredictor, VideoSettings, estimate_video, predict_motion
from jointdetr.motion.smoothing import SmoothingSettings
from jointdetr.motion.tracking import Tracker, TrackingSettings


@pytest.mark.parametrize("batch_size", [1, 3])
def test_person_is_searched_for_and_followed(batch_size):
    estimator = SquareEstimator()
    results = list(predict_motion(walk(20), estimator, VideoSettings(batch_size=batch_size)))

    assert [result.frame.index for result in results] == list(range(20))
    assert [[row["person"] for row in result.people] for result in results] == [[0]] * 20
    lefts = [result.people[0]["joints_2d"][0, 0] for result in results]
    assert lefts == [10 + 2 * index for index in range(20)]
    assert estimator.searches == 1
    assert max(call["images"] for call in estimator.calls) == batch_size


def test_rows_are_complete():
    row = list(predict_motion(walk(1), SquareEstimator()))[0].people[0]

    assert set(row) == {"frame", "time_s", "person", "box", "joints", "joints_2d", "scores", "detected"}
    assert row["joints"].shape == (4, 3)
    assert row["detected"].dtype == bool


def test_two_given_people_keep_their_numbers_when_they_pass_each_other():
    frames = [
        Frame(index, index / 25, picture_of([(10 + 2 * index, 10), (120 - 2 * index, 60)])) for index in range(40)
    ]
    boxes = [[8, 8, 24, 24], [118, 58, 24, 24]]
    results = list(predict_motion(frames, SquareEstimator(), VideoSettings(boxes=boxes)))

    tops = {row["person"]: row["joints_2d"][0, 1] for row in results[-1].people}
    assert tops == {0: 10, 1: 60}


def test_detector_finds_newcomers_and_is_asked_now_and_then():
    frames = [Frame(i, i / 25, picture_of([(10, 10), (100, 60)] if i >= 12 else [(10, 10)])) for i in range(30)]
    asked = []

    def detector(image: Image.Image) -> list[list[float]]:
        asked.append(image)
        return [[100, 60, 20, 20], [10, 10, 20, 20]] if image.getpixel((105, 65))[0] > 128 else [[10, 10, 20, 20]]

    estimator = SquareEstimator()
    estimator.find_people = detector
    settings = VideoSettings(has_detector=True, detect_every_s=0.2)
    results = list(predict_motion(frames, estimator, settings))

    assert [row["person"] for row in results[11].people] == [0]
    assert [row["person"] for row in results[-1].people] == [0, 1]
    assert len(asked) == 6  # frames 0, 5, 10, 15, 20 and 25


def test_nobody_is_no_error():
    frames = [Frame(index, index / 25, picture_of([])) for index in range(5)]

    assert [result.people for result in predict_motion(frames, SquareEstimator())] == [[]] * 5
    nobody = VideoSettings(has_detector=True)
    assert [result.people for result in predict_motion(frames, SquareEstimator(), nobody)] == [[]] * 5


def test_person_who_leaves_and_comes_back_has_another_number():
    there, away = picture_of([(10, 40)]), picture_of([])
    pictures = [there] * 5 + [away] * 10 + [there] * 5
    frames = [Frame(index, index / 25, picture) for index, picture in enumerate(pictures)]
    settings = VideoSettings(tracking=TrackingSettings(patience_s=0.2), detect_every_s=0.01)
    results = list(predict_motion(frames, SquareEstimator(), settings))

    assert [len(result.people) for result in results] == [1] * 5 + [0] * 10 + [1] * 5
    assert results[-1].people[0]["person"] == 1


def test_going_on_from_a_state_gives_the_same():
    frames, settings = walk(20), VideoSettings(batch_size=2)
    whole = [result for batch in VideoPredictor(SquareEstimator(), settings).predict(frames) for result in batch]
    first = VideoPredictor(SquareEstimator(), settings)
    list(first.predict(frames[:8]))
    tracker = Tracker.of_state(settings.tracking, first.tracker.state())
    second = VideoPredictor(SquareEstimator(), settings, tracker)
    rest = [result for batch in second.predict(frames[8:]) for result in batch]

    for expected, result in zip(whole[8:], rest, strict=True):
        np.testing.assert_equal(result.people, expected.people)


def test_film_is_read_and_camera_handed_on(tmp_path):
    path = write_film(tmp_path / "film.mp4", [frame.image for frame in walk(6)], FilmSettings())
    estimator = SquareEstimator()
    settings = VideoSettings(step=2, threshold=0.3, camera=Camera(np.eye(3)))
    results = list(predict_motion(path, estimator, settings))

    assert [result.frame.index for result in results] == [0, 2, 4]
    assert all(call["camera"] is settings.camera for call in estimator.calls)
    assert {call["threshold"] for call in estimator.calls} == {0.3}


def test_settings_are_checked():
    with pytest.raises(ValueError, match="`batch_size` must be 1 or more, got 0"):
        VideoSettings(batch_size=0)
    with pytest.raises(ValueError, match="`detect_every_s` must be positive, got 0"):
        VideoSettings(detect_every_s=0)
    with pytest.raises(ValueError, match="`boxes` or `has_detector`"):
        VideoSettings(boxes=np.array([[0, 0, 1, 1]]), has_detector=True)
    with pytest.raises(ValueError, match="`patience_s` must be positive"):
        TrackingSettings(patience_s=0)


class TestWholeFilm:
    @pytest.fixture
    def estimator(self) -> SquareEstimator:
        """The stand-in, which knows its skeleton as a pipeline does."""
        square = SquareEstimator()
        square.model = SimpleNamespace(config=SimpleNamespace(skeleton=SQUARE))
        return square

    @pytest.fixture
    def squares_film(self, tmp_path):
        return write_film(tmp_path / "squares.mp4", [frame.image for frame in walk(20)])

    def test_motion_of_a_whole_film_and_progress(self, estimator, squares_film):
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
    def test_limits(self, estimator, squares_film, limits, step, frames):
        calls = []
        settings = VideoSettings(step=step, smoothing=SmoothingSettings(method="none"))
        (motion,) = estimate_video(squares_film, estimator, settings, limits, lambda *numbers: calls.append(numbers))

        assert motion.frames.tolist() == frames
        assert calls[-1] == (len(frames), len(frames))

    def test_bad_limits_and_films_are_refused(self, estimator, tmp_path):
        with pytest.raises(ValueError, match="`max_frames` must be positive, got 0"):
            FilmLimits(max_frames=0)
        (tmp_path / "text.mp4").write_text("no film")
        with pytest.raises(ValueError, match="text.mp4: expected a film"):
            estimate_video(tmp_path / "text.mp4", estimator)
