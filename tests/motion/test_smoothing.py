"""Filters against the formulas of their sources; motions and tables smoothed, whatever the length."""

from itertools import groupby

import numpy as np
import pytest
from scipy.signal import butter, filtfilt
from shaky import shaky_motion

from jointdetr.motion import motion_rows, motions_from_rows, smoothing
from jointdetr.motion.smoothing import (
    LiveSmoother,
    OneEuroFilter,
    SmoothingSettings,
    smooth_motion,
    smooth_offline,
    smooth_rows,
)
from jointdetr.skeleton_jointdetr import HUMAN36M

RATE = 30.0


def swing(times_s: np.ndarray, frequency_hz: float = 1.0) -> np.ndarray:
    """Two joints that swing 300 mm, `(frames, 2, 3)`."""
    phase = 2 * np.pi * frequency_hz * times_s[:, None, None] + np.arange(6).reshape(2, 3)
    return 300 * np.sin(phase)


def run_one_euro(values: np.ndarray, times_s: np.ndarray, settings: SmoothingSettings) -> np.ndarray:
    smooth = OneEuroFilter(settings)
    return np.stack([smooth(frame, time) for frame, time in zip(values, times_s, strict=True)])


def one_euro_of_the_paper(values: list[float], times_s: list[float], settings: SmoothingSettings) -> list[float]:
    """The authors' reference filter, one coordinate, written in scalars."""
    result, raw, smooth, speed = [], None, None, 0.0
    for index, (value, time) in enumerate(zip(values, times_s, strict=True)):
        if index:
            rate = 1 / (time - times_s[index - 1])
            alpha = 1 / (1 + rate / (2 * np.pi * settings.speed_cutoff_hz))
            speed = alpha * (value - raw) * rate + (1 - alpha) * speed
            cutoff = settings.min_cutoff_hz + settings.beta * abs(speed)
            alpha = 1 / (1 + rate / (2 * np.pi * cutoff))
            smooth = alpha * value + (1 - alpha) * smooth
        else:
            smooth = value
        raw = value
        result.append(smooth)
    return result


def uneven_times(count: int) -> np.ndarray:
    return np.cumsum(np.random.default_rng(0).uniform(0.01, 0.06, count))


def test_one_euro_is_the_filter_of_the_paper():
    times_s = uneven_times(60)
    values = np.random.default_rng(1).normal(0, 50, 60).cumsum()
    settings = SmoothingSettings(method="one-euro", beta=0.01)
    ours = run_one_euro(np.stack([values, 0 * values, 0 * values], -1)[:, None], times_s, settings)

    np.testing.assert_allclose(ours[:, 0, 0], one_euro_of_the_paper(values.tolist(), times_s.tolist(), settings))
    assert not ours[:, 0, 1:].any()


def test_one_euro_is_late_by_the_delay_it_states():
    times_s = np.arange(0, 4, 1 / RATE)
    speed = 800.0  # mm/s
    straight = np.zeros((len(times_s), 1, 3))
    straight[:, 0, 0] = speed * times_s
    settings = SmoothingSettings(method="one-euro")
    after = run_one_euro(straight, times_s, settings)
    cutoff_hz = settings.min_cutoff_hz + settings.beta * speed
    stated = 1 / (2 * np.pi * cutoff_hz)

    assert cutoff_hz == pytest.approx(2.6)
    assert (straight - after)[-40:, 0, 0] / speed == pytest.approx(np.full(40, stated), abs=0.001)


def test_one_euro_forgets_a_joint_that_was_long_away_and_keeps_it_over_a_short_gap():
    times_s = np.arange(60) / RATE
    values = np.zeros((60, 2, 3))
    values[30:] = 100.0
    values[20:30, 0] = np.nan  # 0.37 s
    values[5:30, 1] = np.nan  # 0.87 s
    after = run_one_euro(values, times_s, SmoothingSettings(method="one-euro", beta=0.0))

    assert np.isnan(after[20:30, 0]).all()
    assert np.isnan(after[5:30, 1]).all()
    assert 0 < after[30, 0, 0] < 100
    assert after[30, 1, 0] == 100


def test_spline_is_the_zero_phase_butterworth_filter_at_even_times():
    times_s = np.arange(300) / RATE
    values = swing(times_s) + np.random.default_rng(0).normal(0, 20, (300, 2, 3))
    after = smooth_offline(values, times_s, np.ones((300, 2)), SmoothingSettings(cutoff_hz=3.0))
    numerator, denominator = butter(2, 3.0, fs=RATE)
    # Run to and fro: the gain of second order twice, at the cutoff 1/2.
    expected = filtfilt(numerator, denominator, values, axis=0)

    middle = slice(50, -50)
    assert np.abs(values - expected)[middle].mean() > 10
    assert np.abs(after - expected)[middle].mean() < 1.0


@pytest.mark.parametrize("frequency_hz", [0.5, 3.0, 5.0])
def test_spline_has_the_gain_it_states_also_at_uneven_times(frequency_hz):
    times_s = uneven_times(600)
    before = swing(times_s, frequency_hz)
    after = smooth_offline(before, times_s, np.ones((600, 2)), SmoothingSettings(cutoff_hz=3.0))
    gain = (after * before)[50:-50].sum() / (before * before)[50:-50].sum()

    assert gain == pytest.approx(1 / (1 + (frequency_hz / 3) ** 4), abs=0.03)


def test_spline_is_not_late():
    times_s = np.arange(300) / RATE
    before = swing(times_s, 0.7) + swing(times_s, 1.9)
    after = smooth_offline(before, times_s, np.ones((300, 2)), SmoothingSettings(cutoff_hz=3.0))

    misfits = [np.abs(after[50:-50] - before[50 - late : len(before) - 50 - late]).mean() for late in (-1, 0, 1)]
    assert misfits[1] == min(misfits)
    assert misfits[0] == pytest.approx(misfits[2], rel=0.1)


def test_spline_fills_short_gaps_only():
    times_s = np.arange(200) / RATE
    truth = swing(times_s, 0.5)
    values = truth.copy()
    values[50:58, 0] = np.nan  # 0.3 s
    values[100:130, 1] = np.nan  # 1.03 s
    after = smooth_offline(values, times_s, np.ones((200, 2)), SmoothingSettings())

    assert np.abs(after - truth)[50:58, 0].max() < 30
    assert np.isnan(after[100:130, 1]).all()
    assert np.isfinite(np.delete(after, range(100, 130), axis=0)).all()


def test_spline_trusts_guesses_less():
    times_s = np.arange(100) / RATE
    values = np.zeros((100, 1, 3))
    values[50] = 100.0
    weights = np.ones((100, 1))
    trusted = smooth_offline(values, times_s, weights, SmoothingSettings())
    weights[50] = 0.1
    doubted = smooth_offline(values, times_s, weights, SmoothingSettings())

    assert 0 < doubted[50, 0, 0] < 0.4 * trusted[50, 0, 0]


def test_few_frames_are_left_as_they_are():
    values = np.arange(12.0).reshape(4, 1, 3)
    after = smooth_offline(values, np.arange(4.0) / RATE, np.ones((4, 1)), SmoothingSettings())

    np.testing.assert_array_equal(after, values)
    assert np.isnan(smooth_offline(values * np.nan, np.arange(4.0), np.ones((4, 1)), SmoothingSettings())).all()


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="`method` must be one of offline, one-euro, none, got 'kalman'"):
        SmoothingSettings(method="kalman")
    with pytest.raises(ValueError, match="`cutoff_hz` must be positive, got 0"):
        SmoothingSettings(cutoff_hz=0)
    with pytest.raises(ValueError, match="`beta` must be 0 or more"):
        SmoothingSettings(beta=-1)


@pytest.mark.parametrize("method", ["offline", "one-euro"])
def test_smoothing_steadies_joints_points_and_root(method):
    motion, truth = shaky_motion(120)
    smooth = smooth_motion(motion, SmoothingSettings(method=method))

    errors = [
        np.linalg.norm(np.diff(joints - truth, n=2, axis=0), axis=-1) for joints in (smooth.joints, motion.joints)
    ]
    assert errors[0].mean() < 0.5 * errors[1].mean()
    for before, after in ((motion.joints_2d, smooth.joints_2d), (motion.root_camera, smooth.root_camera)):
        assert np.linalg.norm(np.diff(after, n=2, axis=0)) < 0.5 * np.linalg.norm(np.diff(before, n=2, axis=0))
    assert np.array_equal(smooth.scores, motion.scores)
    assert smooth_motion(motion, SmoothingSettings(method="none")) is motion


@pytest.mark.parametrize("method", ["offline", "one-euro"])
def test_long_tables_are_smoothed_in_stretches_without_seams(method, monkeypatch):
    monkeypatch.setattr(smoothing, "STRETCH_S", 3.0)
    monkeypatch.setattr(smoothing, "OVERLAP_S", 2.0)
    people = [shaky_motion(270, person)[0] for person in range(2)]
    settings = SmoothingSettings(method=method)
    longest = 0

    def watched(*arguments):
        held = motions_from_rows(*arguments)
        nonlocal longest
        longest = max(longest, *(len(motion) for motion in held))
        return held

    monkeypatch.setattr(smoothing, "motions_from_rows", watched)
    rows = list(smooth_rows(motion_rows(people), HUMAN36M, settings))
    whole = motion_rows([smooth_motion(motion, settings) for motion in people])

    assert [(row["frame"], row["person"]) for row in rows] == [(row["frame"], row["person"]) for row in whole]
    for name in ("joints", "joints_2d", "joints_camera"):
        np.testing.assert_allclose(
            np.array([row[name] for row in rows]), np.array([row[name] for row in whole]), atol=1e-2
        )
    assert longest < 230


class TestLive:
    def test_frame_by_frame_is_the_same_as_at_once(self):
        settings = SmoothingSettings("one-euro")
        rows = motion_rows([shaky_motion(20, person)[0] for person in (0, 3)])
        smoother = LiveSmoother(settings)
        frames = groupby(rows, key=lambda row: row["time_s"])
        live = [row for _, of_frame in frames for row in smoother(of_frame)]
        for row, expected in zip(live, smooth_rows(rows, HUMAN36M, settings), strict=True):
            assert row["person"] == expected["person"]
            np.testing.assert_allclose(row["joints"], expected["joints"], atol=1e-6)
            np.testing.assert_allclose(row["joints_2d"], expected["joints_2d"], atol=1e-6)

    def test_who_was_away_for_long_begins_anew(self):
        smoother = LiveSmoother(SmoothingSettings("one-euro", max_gap_s=0.5))
        row = motion_rows([shaky_motion(2)[0]])[0]
        smoother([row])
        smoother([])
        moved = {**row, "joints": row["joints"] + 500, "time_s": 2.1}
        np.testing.assert_allclose(smoother([moved])[0]["joints"], moved["joints"])
