"""Motions at other times: between two frames on the line, and nothing where nothing is known."""

import numpy as np

from jointdetr.formats.resampling import even_times, resample


def test_between_two_frames_it_is_on_the_line():
    values = np.arange(6, dtype=float).reshape(3, 1, 2)
    got = resample(values, np.array([0.0, 1.0, 2.0]), np.array([0.25, 1.0, 1.5]))
    np.testing.assert_allclose(got[:, 0], [[0.5, 1.5], [2, 3], [3, 4]])


def test_in_a_long_gap_nothing_is_known():
    times_s = np.array([0, 1, 2, 6, 7, 8], dtype=float)
    got = resample(np.ones((6, 1, 3)), times_s, np.array([2.0, 4.0, 6.0]))
    assert np.isnan(got).any((1, 2)).tolist() == [False, True, False]


def test_even_times_stay_as_they_are():
    times_s = np.arange(5) / 30
    assert even_times(times_s) is times_s
    np.testing.assert_allclose(even_times(np.array([0.0, 0.1, 0.2, 0.5])), np.arange(6) / 10)
