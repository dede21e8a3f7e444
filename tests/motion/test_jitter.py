"""Measures of a motion against hand answers."""

import numpy as np
import pytest
from shaky import shaky_motion

from jointdetr.motion import motion_rows
from jointdetr.motion.jitter import Jitter, acceleration, measure_jitter


def test_acceleration_by_hand():
    joints = np.zeros((4, 1, 3))
    joints[:, 0, 0] = [0, 1, 4, 9]  # mm, 2 mm/frame^2
    even, uneven = np.arange(4) / 10, np.array([0.0, 0.1, 0.2, 0.4])

    np.testing.assert_allclose(acceleration(joints, even)[:, 0, 0], [200, 200])
    np.testing.assert_allclose(acceleration(joints, uneven)[:, 0, 0], [200, (25 - 30) / 0.15])


def test_jitter_is_the_mean_acceleration_of_the_rows():
    people = [shaky_motion(50, person)[0] for person in range(2)]
    people[1].joints[20, 3] = np.nan
    jitter = Jitter()
    rows = list(measure_jitter(motion_rows(people), jitter))

    assert len(rows) == 100
    sizes = [np.linalg.norm(acceleration(motion.joints, motion.times_s), axis=-1) for motion in people]
    assert jitter.mean() == pytest.approx(np.nanmean(sizes))
    assert jitter.count == 2 * 48 * 17 - 3
    assert np.isnan(Jitter().mean())
