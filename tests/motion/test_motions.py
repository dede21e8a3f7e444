"""Motions and tables smoothed: all of it together, whatever the length."""

from itertools import groupby

import numpy as np
import pytest

from jointdetr.motion import PoseMotion, motion_rows, motions
from jointdetr.motion.motions import Jitter, LiveSmoother, measure_jitter, smooth_motion, smooth_rows
from jointdetr.motion.smoothing import SmoothingSettings, acceleration_error, mean_acceleration
from jointdetr.skeleton_jointdetr import HUMAN36M


def shaky_motion(count: int, person: int = 0) -> tuple[PoseMotion, np.ndarray]:
    """A swinging person seen shakily, and the true joints."""
    rng = np.random.default_rng(person)
    times_s = np.arange(count) / 30
    phase = 2 * np.pi * 0.8 * times_s[:, None, None] + rng.uniform(0, 6, (17, 3))
    joints = 200 * np.sin(phase)
    shake = rng.normal(0, 15, (count, 17, 3))
    motion = PoseMotion(
        HUMAN36M,
        times_s,
        joints + shake,
        np.ones((count, 17), bool),
        scores=np.ones((count, 17)),
        joints_2d=300 + (joints + shake)[..., :2] / 5,
        root_camera=np.array([0, 0, 4000]) + rng.normal(0, 30, (count, 3)),
        person=person,
        boxes=np.tile([200.0, 200, 150, 340], (count, 1)),
    )
    return motion, joints


@pytest.mark.parametrize("method", ["offline", "one-euro"])
def test_smoothing_steadies_joints_points_and_root(method):
    motion, truth = shaky_motion(120)
    smooth = smooth_motion(motion, SmoothingSettings(method=method))

    assert acceleration_error(smooth.joints, truth) < 0.5 * acceleration_error(motion.joints, truth)
    for before, after in ((motion.joints_2d, smooth.joints_2d), (motion.root_camera, smooth.root_camera)):
        assert np.linalg.norm(np.diff(after, n=2, axis=0)) < 0.5 * np.linalg.norm(np.diff(before, n=2, axis=0))
    assert np.array_equal(smooth.scores, motion.scores)
    assert smooth_motion(motion, SmoothingSettings(method="none")) is motion


@pytest.mark.parametrize("method", ["offline", "one-euro"])
def test_long_tables_are_smoothed_in_stretches_without_seams(method, monkeypatch):
    monkeypatch.setattr(motions, "STRETCH_S", 3.0)
    monkeypatch.setattr(motions, "OVERLAP_S", 2.0)
    people = [shaky_motion(270, person)[0] for person in range(2)]
    settings = SmoothingSettings(method=method)
    longest = 0

    def watched(rows):
        held = motions.motions_from_rows(rows, HUMAN36M)
        nonlocal longest
        longest = max(longest, *(len(motion) for motion in held))
        return held

    monkeypatch.setattr(motions, "_stretch", _watch(motions._stretch, watched))
    rows = list(smooth_rows(motion_rows(people), HUMAN36M, settings))
    whole = motion_rows([smooth_motion(motion, settings) for motion in people])

    assert [(row["frame"], row["person"]) for row in rows] == [(row["frame"], row["person"]) for row in whole]
    for name in ("joints", "joints_2d", "joints_camera"):
        np.testing.assert_allclose(
            np.array([row[name] for row in rows]), np.array([row[name] for row in whole]), atol=1e-2
        )
    assert longest < 230


def _watch(function, look):
    def watched(rows, *others):
        look(rows)
        return function(rows, *others)

    return watched


def test_jitter_is_the_mean_acceleration_of_the_rows():
    first, second = (shaky_motion(50, person)[0] for person in range(2))
    jitter = Jitter()
    rows = list(measure_jitter(motion_rows([first, second]), jitter))

    assert len(rows) == 100
    expected = (mean_acceleration(first.joints) + mean_acceleration(second.joints)) / 2
    assert jitter.means() == pytest.approx((expected, expected * 30**2))
    assert np.isnan(Jitter().means()).all()


class TestLive:
    def test_frame_by_frame_is_the_same_as_at_once(self):
        settings = SmoothingSettings("one-euro")
        rows = motion_rows([shaky_motion(20, person)[0] for person in (0, 3)])
        smoother = LiveSmoother(settings)
        frames = groupby(rows, key=lambda row: row["time_s"])
        live = [row for time_s, of_frame in frames for row in smoother(of_frame, time_s)]
        for row, expected in zip(live, smooth_rows(rows, HUMAN36M, settings), strict=True):
            assert row["person"] == expected["person"]
            np.testing.assert_allclose(row["joints"], expected["joints"], atol=1e-6)
            np.testing.assert_allclose(row["joints_2d"], expected["joints_2d"], atol=1e-6)

    def test_who_was_away_for_long_begins_anew(self):
        smoother = LiveSmoother(SmoothingSettings("one-euro", max_gap_s=0.5))
        row = motion_rows([shaky_motion(2)[0]])[0]
        smoother([row], 0.0)
        smoother([], 2.0)
        moved = {**row, "joints": row["joints"] + 500, "time_s": 2.1}
        np.testing.assert_allclose(smoother([moved], 2.1)[0]["joints"], moved["joints"])

    def test_the_future_cannot_be_had(self):
        with pytest.raises(ValueError, match='got "offline"'):
            LiveSmoother(SmoothingSettings("offline"))
